"""From text to a sparse vector: what the classifier sees of a request. Pure: standard library and NumPy only.

Where on the path: `judging`, `scorer.read` and `model.fit` call `extract` on what `turns` selected; nothing else knows
how a bucket number comes about. `scanning` reads the text, or the compiled `kernel` in its place.
Any change here that moves a number by a hundredth changes `fingerprint`: an artefact of another one is refused.

Invariants:
1. Work is bounded. Of a text of any length only `HEAD_CHARS + TAIL_CHARS` characters are sliced out (fewer for earlier
   turns); no other operation ever sees the whole text.
2. Same text, same vector. No clock, no locale and no Unicode database: the character tables are literal ranges.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from classifiers import kernel, structure
from classifiers.alphabet import DIGIT
from classifiers.anchors import ANCHORS_MAX, BUCKET_BITS, BUCKETS
from classifiers.cues import CJK_SIZES
from classifiers.folding import Positions
from classifiers.language import UNDETERMINED
from classifiers.scanning import ACTION_PAIRS, ACTION_WORDS, CJK_EVERYWHERE, CJK_NEAR, STEM_CHARS, scan
from classifiers.turns import (
    EARLIER_HEAD_CHARS,
    EARLIER_TAIL_CHARS,
    EARLIER_TURNS,
    EARLIER_WEIGHT,
    HEAD_CHARS,
    TAIL_CHARS,
)

ROWS: Final = BUCKETS + len(structure.FLAGS)

SCALE_HASHED: Final = (1.0, 1.0)
SCALE_ANCHORS: Final = 0.6
SCALE_FLAGS: Final = 0.3
"""Each block of features is brought to unit length, words with their pairs and characters as they are, anchors times
their scale; a flag has its scale as it is."""

_TUNING: Final = (
    *(CJK_SIZES, CJK_EVERYWHERE, CJK_NEAR, STEM_CHARS, ACTION_WORDS, ACTION_PAIRS),
    *(HEAD_CHARS, TAIL_CHARS, EARLIER_HEAD_CHARS, EARLIER_TAIL_CHARS, EARLIER_TURNS, EARLIER_WEIGHT, BUCKET_BITS),
    *(*SCALE_HASHED, SCALE_ANCHORS, SCALE_FLAGS, *structure.FLAGS),
)

Buckets: TypeAlias = npt.NDArray[np.int64]
Values: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Features:
    """The sparse vector of one text.

    `buckets` (n,) are row numbers below `ROWS`, repeated when a feature occurs twice; `values` (n,) their weights.
    `starts` and `ends` (h,) give the span in `text` of the first h features when asked for (flags have no span).
    `flags` are places in `structure.FLAGS`; the last `shapes` of them, and so of all features, speak of shape only.
    `has_evidence` is false when there is no letter and no digit; `digits` counts the digits.
    `text` is the selection that was read.
    """

    buckets: Buckets
    values: Values
    starts: Positions
    ends: Positions
    flags: tuple[int, ...]
    shapes: int
    language: str
    has_evidence: bool
    digits: int
    text: str


def extract(text: str, *, spans: bool = False, context: tuple[int, ...] = ()) -> Features:
    """The sparse vector of a selection (see `turns.select`); `spans` also fills `starts` and `ends`, for explanations.

    `context` are evidence flags that the text alone doesn't show: earlier turns, a harness that asks.
    Raises `ValueError` when the text is longer than a selection can be: the caller forgot to select.
    """
    if len(text) > HEAD_CHARS + TAIL_CHARS + 1:
        raise ValueError(f"text has {len(text)} characters, more than a selection can have: call select() first")
    compiled = kernel.compiled_scan
    found = scan(text, spans=spans) if spans or compiled is None else compiled(text)
    digits, language = found.counts[DIGIT], found.language
    flags = sorted((*context, *found.flags)) if context else found.flags
    hashed = found.features + found.anchors
    end = hashed + len(flags)
    buckets, values = found.buckets[:end], found.values[:end]
    buckets[hashed:] = [BUCKETS + flag for flag in flags]
    values[found.features :] = _TAILS[found.anchors][: found.anchors + len(flags)]
    return Features(
        buckets=buckets,
        values=values,
        starts=found.starts,
        ends=found.ends,
        flags=tuple(flags),
        shapes=_shapes(flags),
        language=language,
        has_evidence=language != UNDETERMINED or digits > 0,
        digits=digits,
        text=text,
    )


def _shapes(flags: Sequence[int]) -> int:
    """How many of the flags, all at their end, speak of shape only."""
    return len(flags) - bisect_left(flags, structure.FIRST_SHAPE)


ANCHOR_VALUES: Final = np.array(
    [SCALE_ANCHORS / max(count, 1) ** 0.5 for count in range(ANCHORS_MAX + 1)], dtype=np.float32
)
"""For each number of anchors: the value of one, since all together have one length."""
ANCHOR_VALUES.flags.writeable = False


def _tails() -> tuple[Values, ...]:
    """For each number of anchors: their values, and then those of flags."""
    flags = np.full(len(structure.FLAGS), SCALE_FLAGS, dtype=np.float32)
    return tuple(
        np.concatenate((np.full(count, value, dtype=np.float32), flags)) for count, value in enumerate(ANCHOR_VALUES)
    )


_TAILS: Final = _tails()


def fingerprint() -> str:
    """What the features of a few texts are, in 16 hex characters: it changes when anything here moves a number.

    By NumPy, which the kernel has to agree with.
    """
    digest = hashlib.sha256(repr(_TUNING).encode())
    for text in kernel.SPECIMENS[:_FINGERPRINTED]:
        features = extract(text, spans=True)
        digest.update(features.buckets.astype("<i8").tobytes())
        # Whole percents: the last bits of an exponential differ between C libraries.
        digest.update(np.rint(features.values * 100).astype("<i8").tobytes())
    return digest.hexdigest()[:16]


_FINGERPRINTED: Final = 6
"""Specimens that artefacts were trained under; further ones only compare the kernel with NumPy."""
