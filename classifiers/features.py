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
from classifiers.alphabet import DIGIT
from classifiers.folding import (
    MIX_B,
    Folded,
    Hashes,
    Positions,
    mix,
)
from classifiers.language import ENGLISH_WORD, ENGLISH_WORDS, FOREIGN_WORD, FOREIGN_WORDS, UNDETERMINED, language_of
from classifiers.turns import (
    EARLIER_HEAD_CHARS,
    EARLIER_TAIL_CHARS,
    EARLIER_TURNS,
    EARLIER_WEIGHT,
    HEAD_CHARS,
    TAIL_CHARS,
)

BUCKET_BITS: Final = 17
BUCKETS: Final = 1 << BUCKET_BITS
"""Rows of hashed features; the rows of `structure.FLAGS` follow them."""

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

ANCHOR_WORDS: Final = 3
ANCHOR_CJK: Final = 4
"""An opening is up to three words, or up to four Han characters; an ending likewise."""

PAIR_GAP: Final = 2
"""Characters that may stand between the two words of a pair."""

CJK_EVERYWHERE: Final = 2
GRAM_EDGE_MIN: Final = 0.5
"""Han pairs are taken everywhere, other sizes only where a wish may stand. That halves the work on long texts."""

ACTION_EDGE_MIN: Final = 0.5
"""An action word counts as one only where a wish may stand."""

_SHIFT_BUCKET: Final = np.uint64(64 - BUCKET_BITS)
_SEED_WORD: Final = np.uint64(0x1B873593CC9E2D51)
_SEED_PAIR: Final = np.uint64(0x52DCE729DA3E39CB)
_SEED_CJK: Final = 0x38495AB5C2B2AE35
_SEED_STEM: Final = np.uint64(0x0EA5B1C7A24BAED4)
_SEED_START: Final = np.uint64(0x6A09E667F3BCC908)
_SEED_END: Final = np.uint64(0x3C6EF372FE94F82B)

_TUNING: Final = (
    *(HEAD_CHARS, TAIL_CHARS, EARLIER_HEAD_CHARS, EARLIER_TAIL_CHARS, EARLIER_TURNS, EARLIER_WEIGHT, BUCKET_BITS),
    *(SCALE_WORDS, SCALE_CHARS, SCALE_ANCHORS, SCALE_FLAGS, *structure.FLAGS),
)
_SPECIMENS: Final = (
    'Translate "see you at 6:30" into French, then e-mail it: thanks!',
    "Résumé of the following text\n\nThe  Ferry was late; nobody minded.\n- one\n- two\nIs 3 < 5?",
    "请把下面这段话总结成两句话：２０２３年，他学会了用Python写代码。",
    "```\ndef f(x):\n    return x ** 2\n```\nпочему? なぜ 😀 " + "Long middle part of a pasted text. " * 16,
)

Buckets: TypeAlias = npt.NDArray[np.int64]
Values: TypeAlias = npt.NDArray[np.float32]
Spans: TypeAlias = list[tuple[np.uint64, Positions, Positions]]
"""Kinds of spans: the seed of the kind, where its spans start and where they end."""

_NO_SPANS: Final[Spans] = []


def _sized(seed: int, size: int) -> np.uint64:
    """A seed per n-gram size."""
    return np.uint64(seed * (2 * size + 1) % (1 << 64))


_CJK_SEEDS: Final = {size: _sized(_SEED_CJK, size) for size in CJK_SIZES}


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


def _word_spans(folded: Folded) -> Spans:
    """The words, then the first characters of the longer ones."""
    starts, ends = folded.starts, folded.ends
    if not len(starts):
        return _NO_SPANS
    long = (ends - starts > STEM_CHARS).nonzero()[0]
    at = starts.take(long)
    return [(_SEED_WORD, starts, ends), (_SEED_STEM, at, at + STEM_CHARS)]


def _gram_spans(folded: Folded) -> Spans:
    """n-grams of Han and kana runs in `CJK_SIZES`; no gram reaches into another script."""
    if not folded.has_cjk:
        return _NO_SPANS
    found: Spans = []
    run = everywhere = folded.cjk
    wishes = everywhere & (folded.edge >= GRAM_EDGE_MIN)
    for size in CJK_SIZES:
        if size > 1:
            run = run[:-1] & everywhere[size - 1 :]
        at = (run if size == CJK_EVERYWHERE else run & wishes[: len(run)]).nonzero()[0]
        found.append((_CJK_SEEDS[size], at, at + size))
    return found


def _opening(folded: Folded, begin: int) -> list[tuple[int, int]]:
    """Spans of the first words, or the first Han characters, at or after a position."""
    word = int(folded.starts.searchsorted(begin)) if begin else 0
    first_word = int(folded.starts[word]) if word < len(folded.starts) else folded.length
    if folded.has_cjk:
        ahead = folded.cjk[begin:]
        first_cjk = begin + int(ahead.argmax())
        if first_cjk < first_word and ahead[first_cjk - begin]:
            last = min(first_cjk + ANCHOR_CJK, folded.length - 1)
            return [(first_cjk, end) for end in range(first_cjk + 1, last + 1)]
    return [(first_word, end) for end in folded.ends[word : word + ANCHOR_WORDS].tolist()]


def _closing(folded: Folded) -> list[tuple[int, int]]:
    """Spans of the last two words, or the last Han characters."""
    last_word = int(folded.ends[-1]) if len(folded.ends) else 0
    if folded.has_cjk:
        last_cjk = folded.length - int(folded.cjk[::-1].argmax())
        if last_cjk > last_word:
            return [(start, last_cjk) for start in range(max(1, last_cjk - ANCHOR_CJK), last_cjk)]
    return [(start, last_word) for start in folded.starts[-2:].tolist()]


def _anchor_spans(folded: Folded) -> Spans:
    """How the text opens, how its last line opens, how it ends: that is where an instruction stands."""
    openings = _opening(folded, 0)
    if folded.last_line:
        openings += _opening(folded, folded.last_line)
    endings = _closing(folded)
    if not openings and not endings:
        return _NO_SPANS
    spans = np.array(openings + endings, dtype=np.int64).T
    count = len(openings)
    return [(_SEED_START, spans[0, :count], spans[1, :count]), (_SEED_END, spans[0, count:], spans[1, count:])]


def _near_pairs(folded: Folded, hashes: Hashes) -> tuple[Hashes, Positions, Positions]:
    """Pairs of words that stand close together, from the hashes of the words: hashes, starts, ends."""
    starts, ends = folded.starts, folded.ends
    near = (starts[1:] - ends[:-1] <= PAIR_GAP).nonzero()[0]
    after = near + 1
    pairs = hashes.take(near)
    pairs *= MIX_B
    pairs += hashes.take(after)
    pairs ^= _SEED_PAIR
    return pairs, starts.take(near), ends.take(after)


def _to_buckets(seeded: Hashes) -> Buckets:
    return (mix(seeded) >> _SHIFT_BUCKET).view(np.int64)


def extract(text: str, *, spans: bool = False, context: tuple[int, ...] = ()) -> Features:
    """The sparse vector of a selection (see `turns.select`); `spans` also fills `starts` and `ends`, for explanations.

    `context` are evidence flags that the text alone doesn't show: earlier turns, a harness that asks.
    Raises `ValueError` when the text is longer than a selection can be: the caller forgot to select.
    """
    if len(text) > HEAD_CHARS + TAIL_CHARS + 1:
        raise ValueError(f"text has {len(text)} characters, more than a selection can have: call select() first")
    folded = Folded(text)
    # All spans are hashed at once: starting an operation costs more than a hundred more elements.
    words, anchors = _word_spans(folded), _anchor_spans(folded)
    parts = words + _gram_spans(folded) + anchors
    if not parts:
        return _bare(text, folded, context)
    counts = [len(part[1]) for part in parts]
    starts = np.concatenate([part[1] for part in parts])
    ends = np.concatenate([part[2] for part in parts])
    hashes = folded.spans(starts, ends)
    pairs, pair_starts, pair_ends = _near_pairs(folded, hashes[: len(folded.starts)])
    hashes ^= np.array([part[0] for part in parts], dtype=np.uint64).repeat(counts)
    buckets = _to_buckets(np.concatenate((pairs, hashes)))
    starts = np.concatenate((pair_starts, starts))
    # Blocks, in this order: pairs and words, stems and grams, anchors.
    first = len(pairs) + (counts[0] if words else 0)
    last = len(starts) - (sum(counts[-2:]) if anchors else 0)
    values = folded.edge.take(starts)
    values[last:] = 1.0
    hints = _HINTS.take(buckets[:last])
    functions = hints[len(pairs) : first].tobytes().translate(_FUNCTIONS)
    language = language_of(folded.by_class, folded, functions)
    actions = len(set(hints[values[:last] >= ACTION_EDGE_MIN].tobytes().translate(_ACTIONS)) - _NO_ACTION)
    _rescale(values, first, last)
    flags = structure.flags(text, folded.marks, folded.by_class, language, actions, folded.line_breaks)
    if context:
        flags = sorted((*context, *flags))
    begin = end = _NO_POSITIONS
    if spans:
        # One less than in the folded text, which starts with a space of our own.
        begin, end = starts - 1, np.concatenate((pair_ends, ends)) - 1
    return Features(
        buckets=np.concatenate((buckets, _FLAG_ROWS.take(flags))),
        values=np.concatenate((values, _FLAG_VALUES[: len(flags)])),
        starts=begin,
        ends=end,
        flags=tuple(flags),
        shapes=_shapes(flags),
        language=language,
        has_evidence=language != UNDETERMINED or folded.by_class[DIGIT] > 0,
        digits=folded.by_class[DIGIT],
        text=text,
    )


def _rescale(values: Values, first: int, last: int) -> None:
    """Bring each block to its length, in place. The blocks end at `first`, `last` and the end."""
    edges = (0, first, last, len(values))
    for scale, begin, end in zip(_BLOCK_SCALES, edges, edges[1:], strict=False):
        block = values[begin:end]
        total = float(block.dot(block))
        if total > 0.0:
            block *= scale / total**0.5


def _shapes(flags: Sequence[int]) -> int:
    """How many of the flags, all at their end, speak of shape only."""
    return len(flags) - bisect_left(flags, structure.FIRST_SHAPE)


_BLOCK_SCALES: Final = (SCALE_WORDS, SCALE_CHARS, SCALE_ANCHORS)
_FLAG_ROWS: Final = np.arange(len(structure.FLAGS), dtype=np.int64) + BUCKETS
_FLAG_VALUES: Final = np.full(len(structure.FLAGS), SCALE_FLAGS, dtype=np.float32)
_NO_POSITIONS: Final = np.zeros(0, dtype=np.int64)


def _bare(text: str, folded: Folded, context: tuple[int, ...]) -> Features:
    """A text without a word or a Han character."""
    language = language_of(folded.by_class, folded, b"")
    flags = structure.flags(text, folded.marks, folded.by_class, language, 0, folded.line_breaks)
    flags = sorted((*context, *flags))
    return Features(
        buckets=_FLAG_ROWS.take(flags),
        values=_FLAG_VALUES[: len(flags)],
        starts=_NO_POSITIONS,
        ends=_NO_POSITIONS,
        flags=tuple(flags),
        shapes=_shapes(flags),
        language=language,
        has_evidence=False,
        digits=folded.by_class[DIGIT],
        text=text,
    )


def cue_buckets(cue: str) -> list[int]:
    """The row that a cue of the lexicon stands for: one word, two words, or one to four Han characters.

    Raises `ValueError` for any other cue: it could never fire.
    """
    folded = Folded(cue)
    words = len(folded.starts)
    if folded.has_cjk:
        size = int(folded.cjk.sum())
        if words or size != len(cue) or size not in CJK_SIZES:
            raise ValueError(f"cue {cue!r}: write one to {CJK_SIZES[-1]} Han characters, or one or two words")
        return [int(_to_buckets(folded.grams(size)[1:2] ^ _CJK_SEEDS[size])[0])]
    if words == 1:
        return [int(_to_buckets(_word_hashes(folded) ^ _SEED_WORD)[0])]
    if words == 2:
        return [int(_to_buckets(_near_pairs(folded, _word_hashes(folded))[0])[0])]
    raise ValueError(f"cue {cue!r} has {words} words: write one or two words, or one to {CJK_SIZES[-1]} Han characters")


def _word_hashes(folded: Folded) -> Hashes:
    return folded.spans(folded.starts, folded.ends)


def opening_buckets(cue: str) -> list[int]:
    """The row of a cue that opens a text or its last line; `cue_buckets` says what a cue may be."""
    folded = Folded(cue)
    start, end = np.array([1], dtype=np.int64), np.array([folded.length - 1], dtype=np.int64)
    return [int(_to_buckets(folded.spans(start, end) ^ _SEED_START)[0])]


def fingerprint() -> str:
    """What the features of a few texts are, in 16 hex characters: it changes when anything here moves a number."""
    digest = hashlib.sha256(repr(_TUNING).encode())
    for text in _SPECIMENS:
        features = extract(text)
        digest.update(features.buckets.astype("<i8").tobytes())
        # Whole percents: the last bits of an exponential differ between C libraries.
        digest.update(np.rint(features.values * 100).astype("<i8").tobytes())
    return digest.hexdigest()[:16]


_FOREIGN_SHIFT: Final = 5
_ENGLISH_SHIFT: Final = 4


def _hint_table() -> npt.NDArray[np.uint8]:
    """(BUCKETS,) uint8: which kind of action the word or Han gram of a bucket asks for (0 for none), in the low bits.

    Above them: whether it is a function word of English or of another language; a word of both is neither.
    """
    table = np.zeros(BUCKETS, dtype=np.uint8)
    for kind, words in enumerate(structure.ACTIONS, start=1):
        for word in words.split():
            table[cue_buckets(word)] = kind
    english, foreign = set(ENGLISH_WORDS.split()), set(FOREIGN_WORDS.split())
    for function_words, shift in ((english - foreign, _ENGLISH_SHIFT), (foreign - english, _FOREIGN_SHIFT)):
        for word in sorted(function_words):
            table[cue_buckets(word)] |= np.uint8(1 << shift)
    return table


_HINTS: Final = _hint_table()
_FUNCTIONS: Final = bytes(
    ENGLISH_WORD if hint >> _ENGLISH_SHIFT & 1 else FOREIGN_WORD if hint >> _FOREIGN_SHIFT & 1 else 0
    for hint in range(256)
)
_ACTIONS: Final = bytes(hint & 15 for hint in range(256))
_NO_ACTION: Final = frozenset({0})
"""Hints are read as bytes: counting and mapping them needs no array operation."""
