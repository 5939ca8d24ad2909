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
from classifiers.folding import (
    MIX_A,
    MIX_B,
    Folded,
    Hashes,
    Positions,
    mix,
)
from classifiers.language import ENGLISH_BIT, ENGLISH_WORDS, FOREIGN_BIT, FOREIGN_WORDS, LanguageCounts
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
    "```\ndef f(x):\n    return x ** 2\n```\nпочему? なぜ 😀 " + "Long middle part of a pasted text. " * 30,
)

Buckets: TypeAlias = npt.NDArray[np.int64]
Values: TypeAlias = npt.NDArray[np.float32]
Part: TypeAlias = tuple[Hashes, Positions, Positions | int]
"""Hashes already seeded, where their spans start, and where they end (or the size that all of them have)."""


def _sized(seed: int, size: int) -> np.uint64:
    """A seed per n-gram size."""
    return np.uint64(seed * (2 * size + 1) % (1 << 64))


_CJK_SEEDS: Final = {size: _sized(_SEED_CJK, size) for size in CJK_SIZES}
_CJK_LENGTHS: Final = np.array(CJK_SIZES, dtype=np.int64)
_CJK_SEED_ROW: Final = np.array(list(_CJK_SEEDS.values()), dtype=np.uint64)


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


def _pair(left: Hashes, right: Hashes) -> Hashes:
    return left * MIX_B + right


def _words(folded: Folded) -> list[Part]:
    """Words, pairs of words that stand close together, and stems of longer words."""
    starts, ends, hashes = folded.starts, folded.ends, folded.word_hash
    if not len(starts):
        return []
    parts: list[Part] = [(hashes ^ _SEED_WORD, starts, ends)]
    if len(starts) > 1:
        near = (starts[1:] - ends[:-1] <= PAIR_GAP).nonzero()[0]
        after = near + 1
        parts.append((_pair(hashes.take(near), hashes.take(after)) ^ _SEED_PAIR, starts.take(near), ends.take(after)))
    return parts


def _stems(folded: Folded) -> list[Part]:
    """The first characters of the longer words."""
    long = (folded.ends - folded.starts > STEM_CHARS).nonzero()[0]
    if not len(long):
        return []
    at = folded.starts.take(long)
    return [(folded.spans(at, at + STEM_CHARS) ^ _SEED_STEM, at, STEM_CHARS)]


def _grams(folded: Folded) -> list[Part]:
    """n-grams of Han and kana runs in `CJK_SIZES`; no gram reaches into another script."""
    if not folded.has_cjk:
        return []
    found = []
    run = everywhere = folded.cjk
    wishes = everywhere & (folded.edge >= GRAM_EDGE_MIN)
    for size in CJK_SIZES:
        if size > 1:
            run = run[:-1] & everywhere[size - 1 :]
        at = (run if size == CJK_EVERYWHERE else run & wishes[: len(run)]).nonzero()[0]
        if not len(at):
            break
        found.append(at)
    if not found:
        return []
    counts = [len(at) for at in found]
    starts = np.concatenate(found)
    ends = starts + _CJK_LENGTHS[: len(counts)].repeat(counts)
    hashes = folded.spans(starts, ends)
    hashes ^= _CJK_SEED_ROW[: len(counts)].repeat(counts)
    return [(hashes, starts, ends)]


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


_SEEDS_START: Final = np.full(2 * ANCHOR_CJK, _SEED_START, dtype=np.uint64)
_SEEDS_END: Final = np.full(2 * ANCHOR_CJK, _SEED_END, dtype=np.uint64)


def _anchors(folded: Folded) -> list[Part]:
    """How the text opens, how its last line opens, how it ends: that is where an instruction stands."""
    openings = _opening(folded, 0)
    if folded.last_line:
        openings += _opening(folded, folded.last_line)
    endings = _closing(folded)
    if not openings and not endings:
        return []
    spans = np.array(openings + endings, dtype=np.int64).T
    starts, ends = spans[0], spans[1]
    hashes = folded.spans(starts, ends)
    hashes ^= np.concatenate((_SEEDS_START[: len(openings)], _SEEDS_END[: len(endings)]))
    hashes *= MIX_A
    return [(hashes, starts, ends)]


def _to_buckets(seeded: Hashes) -> Buckets:
    return (mix(seeded) >> _SHIFT_BUCKET).view(np.int64)


def _rescale(values: Values, scale: float) -> None:
    """Bring a block to length `scale`, in place."""
    total = float(values @ values)
    if total > 0.0:
        values *= np.float32(scale / total**0.5)


def extract(text: str, *, spans: bool = False, context: tuple[int, ...] = ()) -> Features:
    """The sparse vector of a selection (see `select`); `spans` also fills `starts` and `ends`, for explanations.

    `context` are evidence flags that the text alone doesn't show: earlier turns, a harness that asks.
    Raises `ValueError` when the text is longer than a selection can be: the caller forgot to select.
    """
    if len(text) > HEAD_CHARS + TAIL_CHARS + 1:
        raise ValueError(f"text has {len(text)} characters, more than a selection can have: call select() first")
    folded = Folded(text)
    words, grams, anchors = _words(folded), _stems(folded) + _grams(folded), _anchors(folded)
    parts = words + grams + anchors
    if not parts:
        return _bare(text, folded, context)
    starts = np.concatenate([part[1] for part in parts])
    buckets = _to_buckets(np.concatenate([part[0] for part in parts]))
    values = folded.edge.take(starts)
    n_words = sum(len(part[0]) for part in words)
    n_grams = sum(len(part[0]) for part in grams)
    hints = _HINTS.take(buckets[: n_words + n_grams])
    actions = _actions(hints, values)
    values[n_words + n_grams :] = 1.0
    _rescale(values[:n_words], SCALE_WORDS)
    _rescale(values[n_words : n_words + n_grams], SCALE_CHARS)
    _rescale(values[n_words + n_grams :], SCALE_ANCHORS)
    counts = LanguageCounts.of(folded.by_class, folded, hints[: len(folded.starts)])
    language = counts.language()
    flags = structure.flags(text, folded.marks, counts, language, actions, folded.line_breaks)
    if context:
        flags = tuple(sorted((*context, *flags)))
    begin = end = _NO_POSITIONS
    if spans:
        begin, end = _original_spans(parts, starts)
    return Features(
        buckets=np.concatenate((buckets, _FLAG_ROWS.take(flags))),
        values=np.concatenate((values, _FLAG_VALUES[: len(flags)])),
        starts=begin,
        ends=end,
        flags=flags,
        shapes=_shapes(flags),
        language=language,
        has_evidence=counts.letters + counts.digits > 0,
        digits=counts.digits,
        text=text,
    )


def _shapes(flags: tuple[int, ...]) -> int:
    """How many of the flags, all at their end, speak of shape only."""
    return len(flags) - bisect_left(flags, structure.FIRST_SHAPE)


_FLAG_ROWS: Final = np.arange(len(structure.FLAGS), dtype=np.int64) + BUCKETS
_FLAG_VALUES: Final = np.full(len(structure.FLAGS), SCALE_FLAGS, dtype=np.float32)
_NO_POSITIONS: Final = np.zeros(0, dtype=np.int64)
_NO_HINTS: Final = np.zeros(0, dtype=np.uint8)


def _bare(text: str, folded: Folded, context: tuple[int, ...]) -> Features:
    """A text too short for any gram."""
    counts = LanguageCounts.of(folded.by_class, folded, _NO_HINTS)
    language = counts.language()
    flags = structure.flags(text, folded.marks, counts, language, 0, folded.line_breaks)
    flags = tuple(sorted((*context, *flags)))
    return Features(
        buckets=_FLAG_ROWS.take(flags),
        values=_FLAG_VALUES[: len(flags)],
        starts=_NO_POSITIONS,
        ends=_NO_POSITIONS,
        flags=flags,
        shapes=_shapes(flags),
        language=language,
        has_evidence=False,
        digits=counts.digits,
        text=text,
    )


def _original_spans(parts: Sequence[Part], starts: Positions) -> tuple[Positions, Positions]:
    """Spans in the text as it was given; one less than in the folded text, which starts with a space of our own."""
    ends = np.concatenate([part[1] + part[2] if isinstance(part[2], int) else part[2] for part in parts])
    return starts - 1, ends - 1


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
        return [int(_to_buckets(folded.word_hash ^ _SEED_WORD)[0])]
    if words == 2:
        return [int(_to_buckets(_pair(folded.word_hash[:1], folded.word_hash[1:]) ^ _SEED_PAIR)[0])]
    raise ValueError(f"cue {cue!r} has {words} words: write one or two words, or one to {CJK_SIZES[-1]} Han characters")


def opening_buckets(cue: str) -> list[int]:
    """The row of a cue that opens a text or its last line; `cue_buckets` says what a cue may be."""
    folded = Folded(cue)
    start, end = np.array([1], dtype=np.int64), np.array([folded.length - 1], dtype=np.int64)
    return [int(_to_buckets((folded.spans(start, end) ^ _SEED_START) * MIX_A)[0])]


def fingerprint() -> str:
    """What the features of a few texts are, in 16 hex characters: it changes when anything here moves a number."""
    digest = hashlib.sha256(repr(_TUNING).encode())
    for text in _SPECIMENS:
        features = extract(text)
        digest.update(features.buckets.astype("<i8").tobytes())
        # Whole percents: the last bits of an exponential differ between C libraries.
        digest.update(np.rint(features.values * 100).astype("<i8").tobytes())
    return digest.hexdigest()[:16]


ACTION_BITS: Final = 15


def _hint_table() -> npt.NDArray[np.uint8]:
    """(BUCKETS,) uint8: which kind of action the word or Han gram of a bucket asks for (0 for none), in the low bits.

    Above them: whether it is a function word of English or of another language; a word of both is neither.
    """
    table = np.zeros(BUCKETS, dtype=np.uint8)
    for kind, words in enumerate(structure.ACTIONS, start=1):
        for word in words.split():
            table[cue_buckets(word)] = kind
    english, foreign = set(ENGLISH_WORDS.split()), set(FOREIGN_WORDS.split())
    for function_words, bit in ((english - foreign, ENGLISH_BIT), (foreign - english, FOREIGN_BIT)):
        for word in sorted(function_words):
            table[cue_buckets(word)] |= np.uint8(bit)
    return table


_HINTS: Final = _hint_table()


def _actions(hints: npt.NDArray[np.uint8], edge: Values) -> int:
    """How many different kinds of action the instruction asks for, among the first features."""
    hits = (hints & ACTION_BITS).nonzero()[0]
    if not len(hits):
        return 0
    return len(set((hints[hits[edge[hits] >= ACTION_EDGE_MIN]] & ACTION_BITS).tolist()))
