"""From text to a sparse vector: what the classifier sees of a request. Pure: standard library and NumPy only.

Where on the path: `scorer.predict` and `model.fit` call `extract`; nothing else knows how a bucket number comes about.
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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from classifiers import structure
from classifiers.alphabet import CLASSES, MARKS
from classifiers.folding import (
    MIX_A,
    MIX_B,
    Folded,
    Hashes,
    Positions,
    mix,
)
from classifiers.language import ENGLISH_WORDS, FOREIGN_WORDS, LanguageCounts

HEAD_CHARS: Final = 1_200
TAIL_CHARS: Final = 400
"""Characters read of the last user turn: instructions stand at the start or at the end of a pasted text."""

EARLIER_HEAD_CHARS: Final = 300
EARLIER_TAIL_CHARS: Final = 100
"""Characters read of each earlier user turn: only enough to know what `make it shorter` is about."""

EARLIER_TURNS: Final = 2
EARLIER_WEIGHT: Final = 0.5
"""How many user turns before the last one count, and how much."""

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
CHAR_SIZES: Final = (4,)
"""n-gram sizes: for Han and kana, and for everything else. Both go over the folded text."""

ANCHOR_WORDS: Final = 3
ANCHOR_CJK: Final = 4
"""An opening is up to three words, or up to four Han characters; an ending likewise."""

PAIR_GAP: Final = 2
"""Characters that may stand between the two words of a pair."""

GRAM_EDGE_MIN: Final = 0.5
CJK_EVERYWHERE: Final = 2
"""n-grams are taken only where a wish may stand; words and Han pairs speak for the rest. That halves the work on long
texts."""

ACTION_EDGE_MIN: Final = 0.5
"""An action word counts as one only where a wish may stand."""

_SHIFT_BUCKET: Final = np.uint64(64 - BUCKET_BITS)
_SEED_WORD: Final = np.uint64(0x1B873593CC9E2D51)
_SEED_PAIR: Final = np.uint64(0x52DCE729DA3E39CB)
_SEED_CJK: Final = 0x38495AB5C2B2AE35
_SEED_CHAR: Final = 0x0EA5B1C7A24BAED4
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
    "```\ndef f(x):\n    return x ** 2\n```\nпочему? なぜ 😀 " + "Long middle part of a pasted text. " * 40,
)

Buckets: TypeAlias = npt.NDArray[np.int64]
Values: TypeAlias = npt.NDArray[np.float32]
Part: TypeAlias = tuple[Hashes, Positions, Positions | int]
"""Hashes already seeded, where their spans start, and where they end (or the size that all of them have)."""


def _sized(seed: int, size: int) -> np.uint64:
    """A seed per n-gram size."""
    return np.uint64(seed * (2 * size + 1) % (1 << 64))


_CJK_SEEDS: Final = {size: _sized(_SEED_CJK, size) for size in CJK_SIZES}
_CHAR_SEEDS: Final = {size: _sized(_SEED_CHAR, size) for size in CHAR_SIZES}


@dataclass(frozen=True, slots=True)
class Features:
    """The sparse vector of one text.

    `buckets` (n,) are row numbers below `ROWS`, repeated when a feature occurs twice; `values` (n,) their weights.
    `starts` and `ends` (h,) give the span in `text` of the first h features when asked for (flags have no span).
    `flags` are places in `structure.FLAGS`; the last `shapes` of them, and so of all features, speak of shape only.
    `has_evidence` is false when there is no letter and no digit.
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
    text: str


def select(text: str, head: int = HEAD_CHARS, tail: int = TAIL_CHARS) -> str:
    """The part of a text that is read: all of it, or its first `head` and last `tail` characters on separate lines."""
    if len(text) <= head + tail:
        return text[: head + tail]
    return text[:head] + "\n" + text[-tail:]


def user_texts(turns: Sequence[tuple[str, str]]) -> list[tuple[float, str]]:
    """(weight, selection) of the last user turn and up to two before it, newest first. Other roles are never read."""
    found: list[tuple[float, str]] = []
    for role, text in reversed(turns):
        if role != "user":
            continue
        if not found:
            found.append((1.0, select(text)))
        else:
            found.append((EARLIER_WEIGHT, select(text, EARLIER_HEAD_CHARS, EARLIER_TAIL_CHARS)))
        if len(found) > EARLIER_TURNS:
            break
    return found


def _pair(left: Hashes, right: Hashes) -> Hashes:
    return left * MIX_B + right


def _words(folded: Folded) -> list[Part]:
    """Words, and pairs of words that stand close together."""
    starts, ends, hashes = folded.starts, folded.ends, folded.word_hash
    if not len(starts):
        return []
    parts: list[Part] = [(hashes ^ _SEED_WORD, starts, ends)]
    if len(starts) > 1:
        near = (starts[1:] - ends[:-1] <= PAIR_GAP).nonzero()[0]
        parts.append((_pair(hashes[near], hashes[near + 1]) ^ _SEED_PAIR, starts[near], ends[near + 1]))
    return parts


def _grams(folded: Folded) -> list[Part]:
    """Character n-grams: Han and kana runs in `CJK_SIZES`, everything else in `CHAR_SIZES`; no gram mixes the two."""
    parts: list[Part] = []
    near = folded.edge >= GRAM_EDGE_MIN
    if folded.has_cjk:
        run = folded.cjk
        for size in CJK_SIZES:
            if size > 1:
                run = run[:-1] & folded.cjk[size - 1 :]
            at = (run if size == CJK_EVERYWHERE else run & near[: len(run)]).nonzero()[0]
            if not len(at):
                break
            parts.append((folded.spans(at, at + size) ^ _CJK_SEEDS[size], at, size))
    for size in CHAR_SIZES:
        count = folded.length - size + 1
        if count <= 0:
            continue
        wanted = near[:count]
        if folded.has_cjk:
            touched = folded.cjk[:count].copy()
            for shift in range(1, size):
                touched |= folded.cjk[shift : shift + count]
            wanted = wanted & ~touched
        at = wanted.nonzero()[0]
        parts.append((folded.spans(at, at + size) ^ _CHAR_SEEDS[size], at, size))
    return parts


def _opening(folded: Folded, begin: int) -> list[tuple[int, int]]:
    """Spans of the first words, or the first Han characters, at or after a position."""
    word = int(folded.starts.searchsorted(begin)) if begin else 0
    first_word = int(folded.starts[word]) if word < len(folded.starts) else folded.length
    if folded.has_cjk:
        ahead = folded.cjk[begin:]
        first_cjk = begin + int(ahead.argmax())
        if first_cjk < first_word and folded.cjk[first_cjk]:
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


def _anchors(folded: Folded) -> list[Part]:
    """How the text opens, how its last line opens, how it ends: that is where an instruction stands."""
    openings = _opening(folded, 0)
    if folded.last_line:
        openings += _opening(folded, folded.last_line)
    endings = _closing(folded)
    if not openings and not endings:
        return []
    spans = np.array(openings + endings, dtype=np.int64)
    starts, ends = spans[:, 0], spans[:, 1]
    hashes = folded.spans(starts, ends)
    hashes[: len(openings)] ^= _SEED_START
    hashes[len(openings) :] ^= _SEED_END
    return [(hashes * MIX_A, starts, ends)]


def _to_buckets(seeded: Hashes) -> Buckets:
    return (mix(seeded) >> _SHIFT_BUCKET).astype(np.int64)


def _rescale(values: Values, scale: float) -> None:
    """Bring a block to length `scale`, in place."""
    total = float(values @ values)
    if total > 0.0:
        values *= np.float32(scale / total**0.5)


def extract(text: str, *, spans: bool = False) -> Features:
    """The sparse vector of a selection (see `select`); `spans` also fills `starts` and `ends`, for explanations.

    Raises `ValueError` when the text is longer than a selection can be: the caller forgot to select.
    """
    if len(text) > HEAD_CHARS + TAIL_CHARS + 1:
        raise ValueError(f"text has {len(text)} characters, more than a selection can have: call select() first")
    folded = Folded(text)
    words, grams, anchors = _words(folded), _grams(folded), _anchors(folded)
    parts = words + grams + anchors
    by_class = np.bincount(folded.classes, minlength=CLASSES).tolist()
    marks = np.bincount(folded.marks, minlength=MARKS).tolist()
    if not parts:
        return _bare(text, by_class, marks)
    starts = np.concatenate([part[1] for part in parts])
    buckets = _to_buckets(np.concatenate([part[0] for part in parts]))
    values = folded.edge[starts]
    n_words = sum(len(part[0]) for part in words)
    n_grams = sum(len(part[0]) for part in grams)
    actions = _actions(buckets, values, n_words + n_grams)
    values[n_words + n_grams :] = 1.0
    _rescale(values[:n_words], SCALE_WORDS)
    _rescale(values[n_words : n_words + n_grams], SCALE_CHARS)
    _rescale(values[n_words + n_grams :], SCALE_ANCHORS)
    counts = LanguageCounts.of(
        by_class, folded.classes, folded.starts, folded.ends, _LANGUAGE_TABLE[buckets[: len(folded.starts)]]
    )
    language = counts.language()
    flags = structure.flags(text, marks, counts, language, actions)
    begin = end = _NO_POSITIONS
    if spans:
        begin, end = _original_spans(folded, parts, starts)
    return Features(
        buckets=np.concatenate((buckets, np.array(flags, dtype=np.int64) + BUCKETS)),
        values=np.concatenate((values, np.full(len(flags), SCALE_FLAGS, dtype=np.float32))),
        starts=begin,
        ends=end,
        flags=flags,
        shapes=sum(flag >= structure.FIRST_SHAPE for flag in flags),
        language=language,
        has_evidence=counts.letters + counts.digits > 0,
        text=text,
    )


_NO_POSITIONS: Final = np.zeros(0, dtype=np.int64)
_NO_CLASSES: Final = np.zeros(0, dtype=np.uint8)
_NO_MARKS: Final = np.zeros(0, dtype=np.int8)


def _bare(text: str, by_class: list[int], marks: list[int]) -> Features:
    """A text too short for any gram."""
    counts = LanguageCounts.of(by_class, _NO_CLASSES, _NO_POSITIONS, _NO_POSITIONS, _NO_MARKS)
    flags = structure.flags(text, marks, counts, counts.language(), 0)
    return Features(
        buckets=np.array(flags, dtype=np.int64) + BUCKETS,
        values=np.full(len(flags), SCALE_FLAGS, dtype=np.float32),
        starts=_NO_POSITIONS,
        ends=_NO_POSITIONS,
        flags=flags,
        shapes=sum(flag >= structure.FIRST_SHAPE for flag in flags),
        language=counts.language(),
        has_evidence=False,
        text=text,
    )


def _original_spans(folded: Folded, parts: Sequence[Part], starts: Positions) -> tuple[Positions, Positions]:
    """Spans in the text as it was given; one less than in the folded text, which starts with a space of our own."""
    ends = np.concatenate([part[1] + part[2] if isinstance(part[2], int) else part[2] for part in parts])
    return folded.where[starts] - 1, folded.where[ends - 1]


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


def _action_table() -> npt.NDArray[np.uint8]:
    """(BUCKETS,) uint8: which kind of action the word or Han gram of a bucket asks for; 0 for none."""
    table = np.zeros(BUCKETS, dtype=np.uint8)
    for kind, words in enumerate(structure.ACTIONS, start=1):
        for word in words.split():
            table[cue_buckets(word)] = kind
    return table


def _language_table() -> npt.NDArray[np.int8]:
    """(BUCKETS,) int8: 1 for an English function word, -1 for one of another language, 0 for neither or both."""
    english, foreign = set(ENGLISH_WORDS.split()), set(FOREIGN_WORDS.split())
    table = np.zeros(BUCKETS, dtype=np.int8)
    for words, sign in ((english - foreign, 1), (foreign - english, -1)):
        for word in sorted(words):
            table[cue_buckets(word)] = sign
    return table


_ACTION_TABLE: Final = _action_table()
_LANGUAGE_TABLE: Final = _language_table()


def _actions(buckets: Buckets, edge: Values, count: int) -> int:
    """How many different kinds of action the instruction asks for, among the first `count` features."""
    marks = _ACTION_TABLE[buckets[:count]]
    hits = marks.nonzero()[0]
    if not len(hits):
        return 0
    return len(set(marks[hits[edge[hits] >= ACTION_EDGE_MIN]].tolist()))
