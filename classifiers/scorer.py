"""From a conversation to an intent: the only module of this package that runs while a request waits.

Where on the path: step 2, before planning. NumPy and the standard library only; scikit-learn is never imported here.

Invariants:
1. Only turns of the role `user` are read: harness text is not the person's wish. Without evidence it abstains: no user
   turn, no letter and no digit in the last one, words and marks that say less than `EVIDENCE_MIN` for the label, or a
   text that looks like no wish at all.
2. Bounded work: see `features`. No clock, no network, no state: the same turns give the same prediction.
3. The posterior names every intent in the order of `INTENTS` and sums to 1.
4. An abstention is never "simple": the label is then only the likeliest guess.
5. A text that looks dear, or like nothing, is read again without what `dressing` takes off; that reading counts only
   when it is sure of an everyday intent. Dressing up an everyday prompt buys little.
6. A text that looks like small talk is read again without its courtesies, and without the sentences that alone are
   small talk: politeness hides no hard wish.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from operator import mul
from pathlib import Path
from typing import Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from classifiers.anchors import BUCKETS
from classifiers.artefact import Artefact, ArtefactError
from classifiers.artefact import load as load_artefact
from classifiers.compound import pieces
from classifiers.courtesy import uncourteous, without_sentences
from classifiers.dressing import ends, undressed
from classifiers.features import ROWS, SCALE_FLAGS, Features, extract
from classifiers.kernel import weigh
from classifiers.language import UNDETERMINED
from classifiers.personal import has_personal_data
from classifiers.sayings import asks_about_material
from classifiers.structure import ROW
from classifiers.taxonomy import (
    COMPOUND,
    DIFFICULTY_MAX,
    DIFFICULTY_MIN,
    EVERYDAY,
    FLAG_HEADS,
    HEADS,
    INDEX,
    INTENTS,
    NOTHING,
)
from classifiers.terms import strongest
from classifiers.turns import Said, is_follow_up, user_texts

__all__ = ["ArtefactError", "IntentClassifier", "Part", "Prediction"]

SHIPPED: Final = "intent-v2"

EVIDENCE_MIN: Final = 0.5
"""Logits that words, n-grams and marks must add to the label above the mean of all labels. Length and line count don't
count: every short line looks like small talk, `go on` after a page of code included."""

PART_CONFIDENCE_MIN: Final = 0.4
"""A piece that is less sure than this is no step."""

READINGS_MORE: Final = 3
READINGS_OF_AN_END: Final = 2
"""Readings of one text besides the first one; leaving out one end takes two of them."""

SURE_OF_MATERIAL: Final = 0.8
"""A reading so sure is not given up for a short question about the code or formula, nor left out as mere talk."""

DEAR_SHARE_MAX: Final = 0.7
"""How much of a part that is left out may look dear, however unsure that is."""

TALK_CHARS_MAX: Final = 140
"""A longer part is more than talk about the answer; half as many where a character is not ASCII."""

SURE_AMID_TALK: Final = 0.7
"""How sure a hard wish must be that stands between sentences of small talk."""

SURE_WITHOUT_AN_END: Final = 0.65
"""How sure the rest must be of a text whose end is cut off though nothing tells that it is talk about the answer."""

CHITCHAT: Final = INTENTS[0]

NO_WORDS: Final = "no_words"
FOLLOW_UP: Final = "follow_up"
LITTLE_EVIDENCE: Final = "little_evidence"
FITS_NOTHING: Final = "fits_nothing"
LOW_CONFIDENCE: Final = "low_confidence"
DOUBTS: Final = (NO_WORDS, FOLLOW_UP, LITTLE_EVIDENCE, FITS_NOTHING, LOW_CONFIDENCE)
"""Why a prediction abstains, the first that holds: nothing to read; a reply to turns that are missing; words that say
little for the label; much like the prompts that fit no intent; a posterior below the threshold of its language."""

_COLUMNS: Final = len(INTENTS) + len(HEADS)
_MEAN: Final = _COLUMNS
_WIDTH: Final = _COLUMNS + 1
"""Columns in memory: 15 intents, the heads, and the mean of the intents."""

_DIFFICULTY: Final = len(INTENTS)
_COMPOUND: Final = INDEX[COMPOUND]
_FIRST_FLAG: Final = _DIFFICULTY + 1
_NOTHING: Final = _DIFFICULTY + HEADS.index(NOTHING)
_FENCE: Final = ROW["code fence"]
_CHOICES_FIRST: Final = re.compile(r"[(（]?A[.)、）:：]")
_OF_MATERIAL: Final = ("coding", "math")
_FLAGS: Final = (*FLAG_HEADS, "personal", "harness")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a conversation is about.

    `posterior` maps all intents, in order, to calibrated probabilities. `language` is `en`, `zh`, `other` or `und`
    (no letters). `difficulty` is between 1 (any model) and 5 (experts). `flags` are names out of code, math, tools,
    personal, harness. `doubt` is why it abstained, one of the `DOUBTS`, or empty. `terms` are pieces of the last user
    turn, or names of structural flags, with their share of the label's logit; empty unless asked for. They quote the
    prompt, so they don't belong in a log.
    """

    label: str
    confidence: float
    posterior: Mapping[str, float]
    language: str
    abstained: bool
    terms: tuple[tuple[str, float], ...]
    artefact: str
    difficulty: float = DIFFICULTY_MIN
    flags: tuple[str, ...] = ()
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One step of a compound request. `text` is a piece of the last user turn: it doesn't belong in a log."""

    intent: str
    confidence: float
    text: str


Reading: TypeAlias = tuple[Prediction, Features, Said]
"""A judgement, the features it was made of, and the text they are of."""


class IntentClassifier:
    """A verified artefact, unpacked for scoring. Immutable after `load`, so threads may share it."""

    __slots__ = ("_artefact", "_bias", "_places", "_shapes", "_weights")

    def __init__(self, artefact: Artefact) -> None:
        """Put the known rows side by side, with an empty one for all others."""
        weights = np.zeros((len(artefact.rows) + 1, _WIDTH), dtype=np.float32)
        weights[1:, :_COLUMNS] = artefact.weights
        weights[:, _MEAN] = weights[:, : len(INTENTS)].mean(axis=1)
        self._weights = weights
        self._places = np.zeros(ROWS, dtype=np.int32)
        self._places[artefact.rows] = np.arange(1, len(weights), dtype=np.int32)
        self._bias = artefact.bias.astype(np.float64).tolist()
        self._shapes: list[list[float]] = (SCALE_FLAGS * self.weights_of(np.arange(BUCKETS, ROWS))).tolist()
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

    def weights_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """(n, 20) weights of rows of the features: intents, heads, the mean of the intents."""
        return self._weights.take(self._places.take(rows, mode="clip"), axis=0, mode="clip")

    def predict(self, turns: Sequence[tuple[str, str]], *, terms: bool = False) -> Prediction:
        """Classify (role, text) turns, oldest first; with `terms`, also say which pieces of the text spoke for it."""
        return self.read(turns, terms=terms)[0]

    def read(self, turns: Sequence[tuple[str, str]], *, terms: bool = False) -> tuple[Prediction, Features | None]:
        """`predict`, and the features of the last user turn for whoever reads more off them; `None` without one."""
        texts = user_texts(turns)
        return self._soberly(texts, terms=terms)[:2] if texts else (self._nothing(), None)

    def explain(self, turns: Sequence[tuple[str, str]], label: str | None = None) -> tuple[tuple[str, float], ...]:
        """The strongest evidence in the last user turn for a label (default: the predicted one), heaviest first.

        Raises `ValueError` for a label that is not an intent.
        """
        if label is not None and label not in INDEX:
            raise ValueError(f"unknown intent {label!r}; use one of {', '.join(INTENTS)}")
        texts = user_texts(turns)
        if not texts:
            return ()
        judged, _, read = self._soberly(texts, terms=False)
        return self._terms(extract(read.text, spans=True, context=read.context), label or judged.label)

    def parts(self, turns: Sequence[tuple[str, str]]) -> tuple[Part, ...]:
        """The steps of a request, in order: its pieces, judged one by one; none when they don't differ.

        Neighbours of one intent are one step. Bounded by `compound.PIECES_MAX` predictions.
        """
        texts = user_texts(turns)
        if not texts:
            return ()
        found: list[Part] = []
        judged: dict[str, tuple[str, float] | None] = {}
        for piece in pieces(texts[0].text):
            if piece not in judged:
                judged[piece] = self._step(piece)
            step = judged[piece]
            if step is None:
                continue
            label, confidence = step
            if found and found[-1].intent == label:
                if confidence > found[-1].confidence:
                    found[-1] = Part(label, confidence, found[-1].text)
                continue
            found.append(Part(label, confidence, piece))
        return tuple(found) if len(found) > 1 else ()

    def _step(self, piece: str) -> tuple[str, float] | None:
        """The likeliest intent of one piece and its share, unless there is doubt."""
        _, posterior, _, doubt = self._weighed([Said(1.0, piece)], [extract(piece)])
        confidence = max(posterior[:_COMPOUND])  # a piece of a compound request is not itself compound
        if doubt or confidence < PART_CONFIDENCE_MIN:
            return None
        return INTENTS[posterior.index(confidence)], confidence

    def _nothing(self) -> Prediction:
        share = 1.0 / len(INTENTS)
        posterior = dict.fromkeys(INTENTS, share)
        return Prediction(
            INTENTS[0], share, posterior, UNDETERMINED, abstained=True, terms=(), artefact=self.id, doubt=NO_WORDS
        )

    def _soberly(self, texts: Sequence[Said], *, terms: bool) -> Reading:
        """The judgement, the features and the text of the last turn, without courtesies and dressing where they matter.

        At most `READINGS_MORE` readings besides the first one, and one of an end that is cut off. What looks like small
        talk is read twice more, and at most eight of its sentences alone.
        """
        found = [extract(said.text, context=said.context) for said in texts]
        first = read = self._judge(texts, found, terms=terms), found[0], texts[0]
        if first[0].label == CHITCHAT:
            read = self._plainly(texts, found, read, terms=terms)
        if not _is_everyday(read[0]):
            read = self._undressed(texts, found, read, terms=terms)
        judged = read[0]
        if "personal" in first[0].flags and "personal" not in judged.flags:
            # Whatever is left out of a reading, the request still holds it.
            judged = replace(judged, flags=tuple(one for one in _FLAGS if one in judged.flags or one == "personal"))
        return judged, read[1], read[2]

    def _plainly(self, texts: Sequence[Said], found: Sequence[Features], first: Reading, *, terms: bool) -> Reading:
        """Small talk without its courtesies, then without the sentences that alone look like small talk, too."""
        bare, again = uncourteous(texts[0].text), first
        if bare != texts[0].text:
            again = self._again(texts, found, bare, terms=terms)
            # Small talk is what is left of much small talk, too: an everyday rest has to be surer than the whole.
            is_wish = not _is_everyday(again[0]) or again[0].confidence > first[0].confidence
            if again[0].label != CHITCHAT:
                return again if is_wish else first
        rest = without_sentences(bare, self._is_small_talk)
        if rest != bare:
            again = self._again(texts, found, rest, terms=terms)
            surely = not again[0].abstained and again[0].confidence >= SURE_AMID_TALK
            if surely and again[0].label != CHITCHAT and not _is_everyday(again[0]):
                return again
        return first

    def _is_small_talk(self, sentence: str) -> bool:
        return self._weighed([Said(1.0, sentence)], [extract(sentence)])[2] == 0

    def _undressed(self, texts: Sequence[Said], found: Sequence[Features], read: Reading, *, terms: bool) -> Reading:
        """A text that looks dear, or like nothing, without its dressing, and on trial without either end."""
        left = READINGS_MORE
        for bare, firmly in undressed(read[2].text):
            of_material = read[0].label in _OF_MATERIAL and read[0].confidence >= SURE_OF_MATERIAL
            if of_material and not firmly and asks_about_material(bare):
                break
            again = self._again(texts, found, bare, terms=terms)
            left -= 1
            if _is_everyday(again[0]):
                return again
            # Without talk, disguise and lists a text says what it says. What may be meant is left out for nothing less
            # than a sure everyday wish.
            if firmly:
                read = again
        if not read[0].abstained and read[0].label != COMPOUND:
            return read
        for rest, cut, about_answers in ends(read[2].text):
            if left < READINGS_OF_AN_END or _CHOICES_FIRST.match(rest) is not None:
                break
            # A sure compound has steps that stand apart: only talk about the answer is none of them.
            if not (read[0].abstained or about_answers):
                continue
            again = self._again(texts, found, rest, terms=terms)
            left -= 1
            if _is_everyday(again[0]) and (about_answers or again[0].confidence >= SURE_WITHOUT_AN_END):
                # What was cut off may have been the wish: alone it must say little, or be but short talk.
                alone = self._judge([Said(1.0, cut)], [extract(cut)], terms=False)
                dear = sum(share for name, share in alone.posterior.items() if name not in EVERYDAY)
                short = len(cut) <= (TALK_CHARS_MAX if cut.isascii() else TALK_CHARS_MAX // 2)
                sure = alone.label not in EVERYDAY and alone.confidence >= SURE_OF_MATERIAL
                is_talk = about_answers and short and not sure and (read[0].abstained or alone.abstained)
                return again if is_talk or (alone.abstained and dear < DEAR_SHARE_MAX) else read
        return read

    def _again(self, texts: Sequence[Said], found: Sequence[Features], bare: str, *, terms: bool) -> Reading:
        """The same turns with another text in the last one, judged."""
        last = replace(texts[0], text=bare)
        features = extract(bare, context=last.context)
        return self._judge([last, *texts[1:]], [features, *found[1:]], terms=terms), features, last

    def _judge(self, texts: Sequence[Said], found: Sequence[Features], *, terms: bool) -> Prediction:
        evidence, posterior, best, doubt = self._weighed(texts, found)
        last, label = found[0], INTENTS[best]
        level = evidence[_DIFFICULTY] + self._bias[_DIFFICULTY]
        return Prediction(
            label=label,
            confidence=posterior[best],
            posterior=dict(zip(INTENTS, posterior, strict=True)),
            language=last.language,
            abstained=bool(doubt),
            terms=self._terms(extract(last.text, spans=True, context=texts[0].context), label) if terms else (),
            artefact=self._artefact.id,
            difficulty=min(max(level, DIFFICULTY_MIN), DIFFICULTY_MAX),
            flags=self._flags(texts[0], last, evidence),
            doubt=doubt,
        )

    def _weighed(
        self, texts: Sequence[Said], found: Sequence[Features]
    ) -> tuple[Sequence[float], list[float], int, str]:
        """Evidence per column, the posterior, the place of the likeliest intent, and why to doubt it."""
        last = found[0]
        sums = [weigh(features.buckets, features.values, self._places, self._weights) for features in found]
        evidence: Sequence[float] = sums[0]
        shares = [1.0]
        if len(found) > 1:
            # Turns are added as vectors are: two unit vectors of equal weight must not look twice as sure as one.
            norm = sum(said.weight * said.weight for said in texts) ** 0.5
            shares = [said.weight / norm for said in texts]
            evidence = [sum(map(mul, shares, column)) for column in zip(*sums, strict=True)]
        bias = self._bias
        language = last.language
        cooling = 1.0 / self._artefact.temperatures[language]
        logits = [(said + base) * cooling for said, base in zip(evidence[:_DIFFICULTY], bias, strict=False)]
        highest = max(logits)
        raised = [math.exp(logit - highest) for logit in logits]
        total_mass = 1.0 / sum(raised)
        posterior = [mass * total_mass for mass in raised]
        best = logits.index(highest)
        said = evidence[best] - evidence[_MEAN]
        for share, one in zip(shares, found, strict=True):
            for flag in one.flags[len(one.flags) - one.shapes :]:
                shape = self._shapes[flag]
                said -= share * (shape[best] - shape[_MEAN])
        doubt = ""
        if not last.has_evidence:
            doubt = NO_WORDS
        elif len(found) == 1 and is_follow_up(last.text):
            doubt = FOLLOW_UP
        elif said < EVIDENCE_MIN:
            doubt = LITTLE_EVIDENCE
        elif evidence[_NOTHING] + bias[_NOTHING] > 0.0:
            doubt = FITS_NOTHING
        elif posterior[best] < self._artefact.thresholds[language]:
            doubt = LOW_CONFIDENCE
        return evidence, posterior, best, doubt

    def _flags(self, said: Said, last: Features, evidence: Sequence[float]) -> tuple[str, ...]:
        """Which of the named flags hold, in their order."""
        flags = [
            name
            for place, name in enumerate(FLAG_HEADS, start=_FIRST_FLAG)
            if evidence[place] + self._bias[place] > 0.0 or (name == "code" and _FENCE in last.flags)
        ]
        if has_personal_data(last.text, last.digits):
            flags.append("personal")
        if said.noisy:
            flags.append("harness")
        return tuple(flags)

    def _terms(self, features: Features, label: str) -> tuple[tuple[str, float], ...]:
        return strongest(features, self.weights_of(features.buckets)[:, INDEX[label]] * features.values)


def _is_everyday(judged: Prediction) -> bool:
    return judged.label in EVERYDAY and not judged.abstained
