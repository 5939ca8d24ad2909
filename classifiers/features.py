"""From text to a sparse vector: what the classifier sees of a request. Pure: standard library and NumPy only.

Where on the path: `scorer.read` and `model.fit` call `extract` on what `turns` selected; nothing else knows how a
bucket number comes about.
Any change here that moves a number changes `fingerprint`: an artefact trained under another one is refused.

Invariants:
1. Work is bounded. Of a text of any length only `HEAD_CHARS + TAIL_CHARS` characters are sliced out (fewer for earlier
   turns); no other operation ever sees the whole text.
2. Hashes are polynomial in the folded code points, modulo 2**64: the same in every process and on every platform.
3. Same text, same vector. No clock, no locale and no Unicode database: the character tables are literal ranges.

How it is fast: with the prefix sums P[i] = sum of c_j * B**j, the hash of any span is (P[end] - P[start]) * B**-start.
So all words and all n-grams of a text cost a few vector operations, not a Python loop.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from classifiers import structure
from classifiers.alphabet import DIGIT, HAN, KANA
from classifiers.anchors import ANCHORS_MAX, BUCKET_BITS, BUCKETS, START_SEED, anchor_rows, anchor_spans, bucket_of
from classifiers.folding import MIX, WRAP, Folded, Hashes, Positions
from classifiers.language import (
    ACTION_MASK,
    ENGLISH_MARK,
    ENGLISH_WORDS,
    FOREIGN_MARK,
    FOREIGN_WORDS,
    UNDETERMINED,
    language_of,
)
from classifiers.turns import (
    EARLIER_HEAD_CHARS,
    EARLIER_TAIL_CHARS,
    EARLIER_TURNS,
    EARLIER_WEIGHT,
    HEAD_CHARS,
    TAIL_CHARS,
)

ROWS: Final = BUCKETS + len(structure.FLAGS)

SCALE_WORDS: Final = 1.0
SCALE_CHARS: Final = 1.0
SCALE_ANCHORS: Final = 0.6
SCALE_FLAGS: Final = 0.3
"""Each block of features is brought to unit length, then multiplied by its scale; a flag has its scale as it is."""

CJK_SIZES: Final = (1, 2, 3, 4)
"""n-gram sizes of Han and kana runs."""

STEM_CHARS: Final = 5
"""A longer word also counts by its first characters: `translate`, `translating` and a typo at the end share them."""

CJK_EVERYWHERE: Final = 2
CJK_NEAR: Final = 48
"""Han pairs are taken everywhere, other sizes only among so many characters at either end, where a wish stands. That
halves the work on long texts and is no loss: most prompts are shorter than both ends together."""

ACTION_WORDS: Final = 24
ACTION_PAIRS: Final = 48
"""An action word counts as one only where a wish may stand: among so many words, or Han pairs, at either end."""

_SHIFT_BUCKET: Final = np.uint64(64 - BUCKET_BITS)
_MIX: Final = np.uint64(MIX)
"""Words, stems, pairs and n-grams need no seed of their own: a stem shares the row of the word it equals."""

_TUNING: Final = (
    *(CJK_SIZES, CJK_EVERYWHERE, CJK_NEAR, STEM_CHARS, ACTION_WORDS, ACTION_PAIRS),
    *(HEAD_CHARS, TAIL_CHARS, EARLIER_HEAD_CHARS, EARLIER_TAIL_CHARS, EARLIER_TURNS, EARLIER_WEIGHT, BUCKET_BITS),
    *(SCALE_WORDS, SCALE_CHARS, SCALE_ANCHORS, SCALE_FLAGS, *structure.FLAGS),
)
_SPECIMENS: Final = (
    'Translate "see you at 6:30" into French, then e-mail it: thanks!',
    "Résumé of the following text\n\nThe  Ferry was late; nobody minded.\n- one\n- two\nIs 3 < 5?",
    "请把下面这段话总结成两句话：２０２３年，他学会了用Python写代码。",
    "春夏秋冬又一年，かなも少しある。" * 14 + "写完再译",
    'Which 27" monitor is best for the eyes?',
    "```\ndef f(x):\n    return x ** 2\n```\nпочему? なぜ 😀 " + "Long middle part of a pasted text. " * 16,
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


def _grams(folded: Folded) -> tuple[list[Positions], list[Positions]]:
    """Where the n-grams of Han and kana runs start and end, by size; none reaches into another script."""
    kinds = np.frombuffer(folded.kinds, dtype=np.uint8)[1:-1]
    run = everywhere = (kinds == HAN) | (kinds == KANA) if folded.counts[KANA] else kinds == HAN
    starts, ends = [], []
    for size in CJK_SIZES:
        if size > 1:
            run = run[:-1] & everywhere[size - 1 :]
        if size != CJK_EVERYWHERE and len(run) > 2 * CJK_NEAR:
            wishes = run.copy()
            wishes[CJK_NEAR:-CJK_NEAR] = False
        else:
            wishes = run
        at = wishes.nonzero()[0]
        starts.append(at)
        ends.append(at + size)
    return starts, ends


def _to_buckets(hashes: Hashes) -> Buckets:
    """Rows of hashes, in place."""
    hashes *= _MIX
    hashes >>= _SHIFT_BUCKET
    return hashes.view(np.int64)


def extract(text: str, *, spans: bool = False, context: tuple[int, ...] = ()) -> Features:
    """The sparse vector of a selection (see `turns.select`); `spans` also fills `starts` and `ends`, for explanations.

    `context` are evidence flags that the text alone doesn't show: earlier turns, a harness that asks.
    Raises `ValueError` when the text is longer than a selection can be: the caller forgot to select.
    """
    if len(text) > HEAD_CHARS + TAIL_CHARS + 1:
        raise ValueError(f"text has {len(text)} characters, more than a selection can have: call select() first")
    folded = Folded(text)
    words = len(folded.starts)
    if not words and not folded.has_cjk:
        return _bare(text, folded, context)
    # All spans are hashed at once: starting an operation costs more than a hundred more elements.
    long = (folded.ends - folded.starts > STEM_CHARS).nonzero()[0]
    stems = folded.starts.take(long)
    starts, ends = [folded.starts, stems], [folded.ends, stems + STEM_CHARS]
    grams: list[Positions] = []
    if folded.has_cjk:
        grams, gram_ends = _grams(folded)
        starts += grams
        ends += gram_ends
    pairs = max(words - 1, 0)
    begins = np.concatenate((folded.starts[:pairs], *starts))
    finishes = np.concatenate(ends)
    hashes = np.empty(len(begins), dtype=np.uint64)
    plain = folded.spans(begins[pairs:], finishes, hashes[pairs:])
    if pairs:
        joined = hashes[:pairs]
        np.multiply(plain[:pairs], _MIX, out=joined)
        joined += plain[1:words]
    anchors = anchor_rows(folded, plain)
    buckets = _to_buckets(hashes)
    # Blocks, in this order: pairs and words, stems and grams, anchors, flags.
    values = folded.edge.take(begins)
    _bring_to_length(values, pairs + words)
    hints = _HINTS.take(buckets[pairs:]).tobytes()
    language = language_of(folded, hints[:words])
    flags = structure.flags(folded, language, _actions(hints, words, grams))
    if context:
        flags = sorted((*context, *flags))
    begin = end = _NO_POSITIONS
    if spans:
        edges = np.array(anchor_spans(folded), dtype=np.int64).reshape(-1, 2)
        begin = np.concatenate((begins, edges[:, 0]))
        end = np.concatenate((folded.ends[1:], finishes, edges[:, 1]))
    return Features(
        buckets=np.concatenate((buckets, anchors + [BUCKETS + flag for flag in flags])),
        values=np.concatenate((values, _TAILS[len(anchors)][: len(anchors) + len(flags)])),
        starts=begin,
        ends=end,
        flags=tuple(flags),
        shapes=_shapes(flags),
        language=language,
        has_evidence=language != UNDETERMINED or folded.counts[DIGIT] > 0,
        digits=folded.counts[DIGIT],
        text=text,
    )


def _bring_to_length(values: Values, first: int) -> None:
    """Give the block that ends at `first`, and the one behind it, their lengths; in place."""
    words, chars = values[:first], values[first:]
    total = float(words.dot(words))
    if total > 0.0:
        words *= SCALE_WORDS / total**0.5
    total = float(chars.dot(chars))
    if total > 0.0:
        chars *= SCALE_CHARS / total**0.5


def _actions(hints: bytes, words: int, grams: Sequence[Positions]) -> int:
    """How many kinds of action are asked for where a wish may stand."""
    first = min(words, ACTION_WORDS)
    near = hints[:first] + hints[max(words - ACTION_WORDS, first) : words]
    if grams:
        sizes = [len(at) for at in grams]
        singles = len(hints) - sum(sizes)
        pairs = singles + sizes[0]
        # Of pairs those at the ends; grams of other sizes stand at the ends anyway.
        near += hints[singles : pairs + ACTION_PAIRS] + hints[pairs + max(sizes[1] - ACTION_PAIRS, 0) :]
    return len(set(near.translate(_ACTIONS)) - _NO_ACTION)


def _shapes(flags: Sequence[int]) -> int:
    """How many of the flags, all at their end, speak of shape only."""
    return len(flags) - bisect_left(flags, structure.FIRST_SHAPE)


_NO_POSITIONS: Final = np.zeros(0, dtype=np.int64)


def _tails() -> tuple[Values, ...]:
    """For each number of anchors: their values, which have one length together, and then those of flags."""
    flags = np.full(len(structure.FLAGS), SCALE_FLAGS, dtype=np.float32)
    return tuple(
        np.concatenate((np.full(count, SCALE_ANCHORS / max(count, 1) ** 0.5, dtype=np.float32), flags))
        for count in range(ANCHORS_MAX + 1)
    )


_TAILS: Final = _tails()


def _bare(text: str, folded: Folded, context: tuple[int, ...]) -> Features:
    """A text without a word or a Han character."""
    language = language_of(folded, b"")
    flags = sorted((*context, *structure.flags(folded, language, 0)))
    return Features(
        buckets=np.array([BUCKETS + flag for flag in flags], dtype=np.int64),
        values=_TAILS[0][: len(flags)],
        starts=_NO_POSITIONS,
        ends=_NO_POSITIONS,
        flags=tuple(flags),
        shapes=_shapes(flags),
        language=language,
        has_evidence=False,
        digits=folded.counts[DIGIT],
        text=text,
    )


def _hash_of(cue: str) -> int:
    """The hash of a cue: one word, two words, or one to four Han characters. Raises `ValueError` for any other."""
    folded = Folded(cue)
    words = len(folded.starts)
    if folded.has_cjk:
        size = folded.counts[HAN] + folded.counts[KANA]
        if words or size != len(cue) or size not in CJK_SIZES:
            raise ValueError(f"cue {cue!r}: write one to {CJK_SIZES[-1]} Han characters, or one or two words")
        return int(folded.spans(np.array([0]), np.array([size]))[0])
    if words not in (1, 2):
        raise ValueError(
            f"cue {cue!r} has {words} words: write one or two words, or one to {CJK_SIZES[-1]} Han characters"
        )
    hashes = folded.spans(folded.starts, folded.ends).tolist()
    return int(hashes[0] if words == 1 else (hashes[0] * MIX + hashes[1]) & WRAP)


def cue_buckets(cue: str) -> list[int]:
    """The row that a cue of the lexicon stands for: one word, two words, or one to four Han characters.

    Raises `ValueError` for any other cue: it could never fire.
    """
    return [bucket_of(_hash_of(cue))]


def opening_buckets(cue: str) -> list[int]:
    """The row of a cue that opens a text or its last line; `cue_buckets` says what a cue may be."""
    return [bucket_of(_hash_of(cue) ^ START_SEED)]


def fingerprint() -> str:
    """What the features of a few texts are, in 16 hex characters: it changes when anything here moves a number."""
    digest = hashlib.sha256(repr(_TUNING).encode())
    for text in _SPECIMENS:
        features = extract(text)
        digest.update(features.buckets.astype("<i8").tobytes())
        # Whole percents: the last bits of an exponential differ between C libraries.
        digest.update(np.rint(features.values * 100).astype("<i8").tobytes())
    return digest.hexdigest()[:16]


def _hint_table() -> npt.NDArray[np.uint8]:
    """(BUCKETS,) uint8: which kind of action the word or Han gram of a bucket asks for (0 for none), in the low bits.

    Above them: whether it is a function word of English or of another language; a word of both is neither.
    """
    table = np.zeros(BUCKETS, dtype=np.uint8)
    for kind, words in enumerate(structure.ACTIONS, start=1):
        for word in words.split():
            table[cue_buckets(word)] = kind
    english, foreign = set(ENGLISH_WORDS.split()), set(FOREIGN_WORDS.split())
    for function_words, mark in ((english - foreign, ENGLISH_MARK), (foreign - english, FOREIGN_MARK)):
        for word in sorted(function_words):
            table[cue_buckets(word)] |= np.uint8(mark)
    return table


_HINTS: Final = _hint_table()
_ACTIONS: Final = bytes(hint & ACTION_MASK for hint in range(256))
_NO_ACTION: Final = frozenset({0})
"""Hints are read as bytes: counting and mapping them needs no array operation."""
