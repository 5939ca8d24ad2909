"""From one text to an intent: its features weighed, the posterior, and why to doubt it. What `scorer` asks per reading.

Where on the path: `scorer` decides which texts of a request are read and which reading counts; each is judged here, by
the compiled kernel in one call, or with NumPy step by step. The two differ in the last bits of sums at most.

Invariants:
1. The same text, context and turns give the same judgement; nothing of them is kept.
2. Turns are added as vectors are: two of equal weight don't look twice as sure as one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from classifiers import kernel
from classifiers.anchors import BUCKETS
from classifiers.artefact import Artefact
from classifiers.features import ANCHOR_VALUES, ROWS, SCALE_FLAGS, Features, extract
from classifiers.kernel import weigh
from classifiers.language import LANGUAGES
from classifiers.structure import ROW
from classifiers.taxonomy import FLAG_HEADS, HEADS, INTENTS, NOTHING
from classifiers.turns import FOLLOW_UP_CHARS_MAX, is_follow_up

EVIDENCE_MIN: Final = 0.5
"""Logits that words, n-grams and marks must add to the label above the mean of all labels. Length and line count don't
count: every short line looks like small talk, `go on` after a page of code included."""

SURE: Final = ""
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
"""Columns of a row: the intents, the heads, the mean of the intents, and empty ones up to `kernel.WIDTH`."""

_DIFFICULTY: Final = len(INTENTS)
_FIRST_FLAG: Final = _DIFFICULTY + 1
_NOTHING: Final = _DIFFICULTY + HEADS.index(NOTHING)
_FENCE: Final = ROW["code fence"]
_CODE: Final = 1 << FLAG_HEADS.index("code")

ALONE: Final = (1.0,)
"""The shares of a text without earlier turns."""

Singles = npt.NDArray[np.float32]


class Judgement(NamedTuple):
    """What a text looks like.

    `best` is the place of the likeliest intent in `INTENTS`, `posterior` their calibrated probabilities. `doubt` is one
    of `DOUBTS` or `SURE`. `level` is how difficult it looks, out of bounds now and then; `named` has a bit for each of
    `FLAG_HEADS`; `digits` counts those of the text. `features` are what it was made of where they were made, else None.
    """

    best: int
    doubt: str
    language: str
    digits: int
    level: float
    named: int
    posterior: Sequence[float]
    features: Features | None = None


_as: Final = tuple.__new__
"""Makes what the kernel gives a judgement, with nothing in between."""


class Judge(Protocol):
    """Judges texts by one artefact. What `hear` gives of an earlier turn is for `judge` of the same object only."""

    def hear(self, text: str, context: tuple[int, ...]) -> Any:  # noqa: ANN401 # each judge knows its own
        """What an earlier turn says."""

    def judge(
        self, text: str, context: tuple[int, ...], shares: tuple[float, ...], earlier: tuple[Any, ...]
    ) -> Judgement:
        """What a text looks like; `shares` are how much it and each of the `earlier` turns counts."""


class Table:
    """The weights of an artefact side by side. Immutable once made: the kernel has checked them and looks up blindly.

    `weights` (r, `kernel.WIDTH`) begin with an empty row for all that is unknown, `places` (ROWS,) say which row is a
    bucket's. `shapes` (flags, width) are what each flag adds.
    """

    __slots__ = ("bias", "cooling", "places", "shapes", "thresholds", "weights")

    def __init__(self, artefact: Artefact) -> None:
        self.weights = np.zeros((len(artefact.rows) + 1, kernel.WIDTH), dtype=np.float32)
        self.weights[1:, :_COLUMNS] = artefact.weights
        self.weights[:, _MEAN] = self.weights[:, : len(INTENTS)].mean(axis=1)
        self.places = np.zeros(ROWS, dtype=np.int32)
        self.places[artefact.rows] = np.arange(1, len(self.weights), dtype=np.int32)
        self.bias = np.zeros(kernel.WIDTH, dtype=np.float64)
        self.bias[:_COLUMNS] = artefact.bias
        self.shapes = (SCALE_FLAGS * self.of(np.arange(BUCKETS, ROWS))).astype(np.float64)
        self.cooling = np.array([1.0 / artefact.temperatures[language] for language in LANGUAGES])
        self.thresholds = np.array([artefact.thresholds[language] for language in LANGUAGES])
        for table in (self.weights, self.places, self.bias, self.shapes, self.cooling, self.thresholds):
            table.flags.writeable = False

    def of(self, rows: npt.NDArray[np.int64]) -> Singles:
        """(n, width) weights of rows of the features: intents, heads, the mean of the intents, nothing."""
        return self.weights.take(self.places.take(rows, mode="clip"), axis=0, mode="clip")


def judge_by(table: Table) -> Judge:
    """The kernel, where it can be used, or NumPy."""
    compiled = kernel.compiled("Judge")
    return NumpyJudge(table) if compiled is None else CompiledJudge(table, compiled)


class CompiledJudge:
    """`NumpyJudge` from C."""

    __slots__ = ("_judge", "hear")

    def __init__(self, table: Table, compiled: Any) -> None:  # noqa: ANN401 # a type of C has no other one
        built = compiled(
            reader=kernel.reader(),
            places=table.places,
            weights=table.weights,
            bias=table.bias,
            shapes=table.shapes,
            cooling=table.cooling,
            thresholds=table.thresholds,
            anchors=ANCHOR_VALUES,
            counts=(len(INTENTS), len(FLAG_HEADS), _NOTHING, _MEAN),
            figures=(SCALE_FLAGS, EVIDENCE_MIN),
            doubts=(SURE, *DOUBTS),
        )
        self.hear = built.hear
        self._judge = built.judge

    def judge(
        self, text: str, context: tuple[int, ...], shares: tuple[float, ...], earlier: tuple[Any, ...]
    ) -> Judgement:
        """See `Judge`."""
        judged = _as(Judgement, self._judge(text, context, shares, earlier))
        return _or_follow_up(judged, text) if len(text) <= FOLLOW_UP_CHARS_MAX and not earlier else judged


class NumpyJudge:
    """See the module. Earlier turns are heard as their sums of weights and their flags of shape."""

    __slots__ = ("_bias", "_cooling", "_shapes", "_table", "_thresholds")

    def __init__(self, table: Table) -> None:
        self._table = table
        self._bias: list[float] = table.bias.tolist()
        self._shapes: list[list[float]] = table.shapes.tolist()
        self._cooling = dict(zip(LANGUAGES, table.cooling.tolist(), strict=True))
        self._thresholds = dict(zip(LANGUAGES, table.thresholds.tolist(), strict=True))

    def hear(self, text: str, context: tuple[int, ...]) -> tuple[list[float], tuple[int, ...]]:
        """See `Judge`."""
        return self._heard(extract(text, context=context))

    def _heard(self, features: Features) -> tuple[list[float], tuple[int, ...]]:
        sums = weigh(features.buckets, features.values, self._table.places, self._table.weights)
        return sums, features.flags[len(features.flags) - features.shapes :]

    def judge(
        self, text: str, context: tuple[int, ...], shares: tuple[float, ...], earlier: tuple[Any, ...]
    ) -> Judgement:
        """See `Judge`."""
        features = extract(text, context=context)
        heard = (self._heard(features), *earlier)
        evidence = heard[0][0] if not earlier else _added(shares, [sums for sums, _ in heard])
        logits, posterior = self._shares(evidence, features.language)
        best = logits.index(max(logits))
        said = evidence[best] - evidence[_MEAN]
        for share, (_, shapes) in zip(shares, heard, strict=True):
            for flag in shapes:
                shape = self._shapes[flag]
                said -= share * (shape[best] - shape[_MEAN])
        judged = Judgement(
            best=best,
            doubt=self._doubt(features, said, evidence, posterior[best]),
            language=features.language,
            digits=features.digits,
            level=evidence[_DIFFICULTY] + self._bias[_DIFFICULTY],
            named=self._named(features, evidence),
            posterior=posterior,
            features=features,
        )
        return judged if earlier else _or_follow_up(judged, text)

    def _shares(self, evidence: Sequence[float], language: str) -> tuple[list[float], list[float]]:
        """Logits and posterior of the intents."""
        cooling = self._cooling[language]
        logits = [(said + base) * cooling for said, base in zip(evidence[:_DIFFICULTY], self._bias, strict=False)]
        highest = max(logits)
        raised = [math.exp(logit - highest) for logit in logits]
        total = 0.0
        for mass in raised:  # one by one: from Python 3.12 on `sum` is more exact than the kernel
            total += mass
        part = 1.0 / total
        return logits, [mass * part for mass in raised]

    def _doubt(self, features: Features, said: float, evidence: Sequence[float], confidence: float) -> str:
        if not features.has_evidence:
            return NO_WORDS
        if said < EVIDENCE_MIN:
            return LITTLE_EVIDENCE
        if evidence[_NOTHING] + self._bias[_NOTHING] > 0.0:
            return FITS_NOTHING
        return LOW_CONFIDENCE if confidence < self._thresholds[features.language] else SURE

    def _named(self, features: Features, evidence: Sequence[float]) -> int:
        named = _CODE if _FENCE in features.flags else 0
        for place in range(len(FLAG_HEADS)):
            if evidence[_FIRST_FLAG + place] + self._bias[_FIRST_FLAG + place] > 0.0:
                named |= 1 << place
        return named


def _added(shares: Sequence[float], turns: Sequence[Sequence[float]]) -> list[float]:
    """The sums of several turns as one, in the order of the turns."""
    added = [shares[0] * said for said in turns[0]]
    for share, sums in zip(shares[1:], turns[1:], strict=True):
        added = [before + share * said for before, said in zip(added, sums, strict=True)]
    return added


def _or_follow_up(judged: Judgement, text: str) -> Judgement:
    """A text that stands alone and only asks to go on is doubted for that."""
    if judged.doubt is not NO_WORDS and is_follow_up(text):
        return judged._replace(doubt=FOLLOW_UP)
    return judged
