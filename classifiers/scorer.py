"""From a conversation to an intent: the only module of this package that runs while a request waits.

Where on the path: step 2, before planning. NumPy and the standard library only; scikit-learn is never imported here.

Invariants:
1. Only turns of the role `user` are read: harness text is not the person's wish. Without evidence it abstains: no user
   turn, no letter and no digit in the last one, or words and marks that say less than `EVIDENCE_MIN` for the label.
2. Bounded work: see `features`. No clock, no network, no state: the same turns give the same prediction.
3. The posterior names every intent in the order of `INTENTS` and sums to 1.
4. An abstention is never "simple": the label is then only the likeliest guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from classifiers.artefact import Artefact, ArtefactError
from classifiers.artefact import load as load_artefact
from classifiers.features import BUCKETS, SCALE_FLAGS, Features, extract, user_texts
from classifiers.language import UNDETERMINED
from classifiers.structure import FLAGS
from classifiers.taxonomy import INDEX, INTENTS

__all__ = ["ArtefactError", "IntentClassifier", "Prediction"]

SHIPPED: Final = "intent-v1"

TERMS_MAX: Final = 6
TERM_CHARS_MAX: Final = 32
TERM_PIECES: Final = 60
"""An explanation has at most `TERMS_MAX` terms, gathered from the `TERM_PIECES` heaviest features."""

EVIDENCE_MIN: Final = 0.5
"""Logits that words, n-grams and marks must add to the label above the mean of all labels. Length and line count don't
count: every short line looks like small talk, `go on` after a page of code included."""

_WIDTH: Final = 16
"""Columns in memory: 15 intents and one of zeros, so that a row is one cache line."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a conversation is about.

    `posterior` maps all intents, in order, to calibrated probabilities. `language` is `en`, `zh`, `other` or `und`
    (no letters). `terms` are pieces of the last user turn, or names of structural flags, with their share of the
    label's logit; empty unless asked for. They quote the prompt, so they don't belong in a log.
    """

    label: str
    confidence: float
    posterior: Mapping[str, float]
    language: str
    abstained: bool
    terms: tuple[tuple[str, float], ...]
    artefact: str


class IntentClassifier:
    """A verified artefact, unpacked for scoring. Immutable after `load`, so threads may share it."""

    __slots__ = ("_artefact", "_bias", "_weights")

    def __init__(self, artefact: Artefact) -> None:
        """Unpack the weights to float32 rows of one cache line each (8.4 MB)."""
        weights = np.zeros((artefact.weights.shape[0], _WIDTH), dtype=np.float32)
        weights[:, : len(INTENTS)] = artefact.weights
        self._weights = weights
        self._bias = artefact.bias.astype(np.float64)
        self._artefact = artefact

    @classmethod
    def load(cls, directory: Path | None = None) -> Self:
        """Verify and unpack the artefact in `directory`, or the shipped one. Raises `ArtefactError`."""
        if directory is not None:
            return cls(load_artefact(directory))
        shipped = resources.files("classifiers") / "artefacts" / SHIPPED
        with resources.as_file(shipped) as found:
            return cls(load_artefact(found))

    @property
    def id(self) -> str:
        """Name and short hash of the artefact."""
        return self._artefact.id

    def predict(self, turns: Sequence[tuple[str, str]], *, terms: bool = False) -> Prediction:
        """Classify (role, text) turns, oldest first; with `terms`, also say which pieces of the text spoke for it."""
        texts = user_texts(turns)
        if not texts:
            return self._nothing()
        found = [(weight, extract(text)) for weight, text in texts]
        return self._judge(found, terms=terms)

    def explain(self, turns: Sequence[tuple[str, str]], label: str | None = None) -> tuple[tuple[str, float], ...]:
        """The strongest evidence in the last user turn for a label (default: the predicted one), heaviest first.

        Raises `ValueError` for a label that is not an intent.
        """
        wanted = self.predict(turns).label if label is None else label
        if wanted not in INDEX:
            raise ValueError(f"unknown intent {wanted!r}; use one of {', '.join(INTENTS)}")
        texts = user_texts(turns)
        return self._terms(extract(texts[0][1], spans=True), wanted) if texts else ()

    def _nothing(self) -> Prediction:
        share = 1.0 / len(INTENTS)
        posterior = dict.fromkeys(INTENTS, share)
        return Prediction(INTENTS[0], share, posterior, UNDETERMINED, abstained=True, terms=(), artefact=self.id)

    def _judge(self, found: list[tuple[float, Features]], *, terms: bool) -> Prediction:
        last = found[0][1]
        evidence = np.zeros(_WIDTH, dtype=np.float64)
        shape = np.zeros(_WIDTH, dtype=np.float64)
        # Turns are added as vectors are: two unit vectors of equal weight must not look twice as sure as one.
        norm = sum(weight * weight for weight, _ in found) ** 0.5
        for weight, features in found:
            rows = self._weights.take(features.buckets, axis=0, mode="clip")
            # einsum, not BLAS: no threads, one order of summation, so the same turns give the same bits.
            evidence += weight / norm * np.einsum("i,ij->j", features.values, rows)
            if features.shapes:
                shape += weight / norm * SCALE_FLAGS * rows[-features.shapes :].sum(axis=0)
        said = (evidence - shape)[: len(INTENTS)]
        logits = evidence[: len(INTENTS)] + self._bias
        posterior = softmax(logits / self._artefact.temperatures[last.language])
        best = int(posterior.argmax())
        confidence = float(posterior[best])
        unsupported = float(said[best] - said.mean()) < EVIDENCE_MIN
        abstained = not last.has_evidence or unsupported or confidence < self._artefact.thresholds[last.language]
        label = INTENTS[best]
        return Prediction(
            label=label,
            confidence=confidence,
            posterior=dict(zip(INTENTS, posterior.tolist(), strict=True)),
            language=last.language,
            abstained=abstained,
            terms=self._terms(extract(last.text, spans=True), label) if terms else (),
            artefact=self._artefact.id,
        )

    def _terms(self, features: Features, label: str) -> tuple[tuple[str, float], ...]:
        column = self._weights[features.buckets, INDEX[label]]
        shares = column * features.values
        heaviest = np.argsort(-shares, kind="stable")[:TERM_PIECES]
        gathered: dict[str, float] = {}
        hashed = len(features.starts)
        for place in heaviest.tolist():
            share = float(shares[place])
            if share <= 0.0:
                break
            if place < hashed:
                term = whole_words(features.text, int(features.starts[place]), int(features.ends[place]))
            else:
                term = f"[{FLAGS[int(features.buckets[place]) - BUCKETS]}]"
            if term:
                gathered[term] = gathered.get(term, 0.0) + share
        chosen: list[tuple[str, float]] = []
        for term, share in sorted(gathered.items(), key=lambda item: (-item[1], item[0])):
            if len(chosen) == TERMS_MAX:
                break
            if not any(term in other or other in term for other, _ in chosen):
                chosen.append((term, round(share, 4)))
        return tuple(chosen)


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Probabilities of the last axis; stable for large logits."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: npt.NDArray[np.float64] = raised / raised.sum(axis=-1, keepdims=True)
    return result


def whole_words(text: str, start: int, end: int) -> str:
    """The span of a feature in lower case, widened to whole words unless it is Han or kana, cut to a readable size."""
    start = max(start, 0)
    while start > 0 and end - start < TERM_CHARS_MAX and _joins(text[start - 1], text[start]):
        start -= 1
    while end < len(text) and end - start < TERM_CHARS_MAX and _joins(text[end], text[end - 1]):
        end += 1
    return " ".join(text[start:end].lower().split())[:TERM_CHARS_MAX]


def _joins(outside: str, inside: str) -> bool:
    """Whether two neighbours belong to one word of an alphabet."""
    limit = "\u2e80"  # from here on: Han, kana and other scripts that are read by characters
    return outside.isalnum() and inside.isalnum() and outside < limit and inside < limit
