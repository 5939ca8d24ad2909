"""From text to a sparse vector: what the classifier sees of a request. Pure: standard library and NumPy only.

Where on the path: `scorer.predict` and `train` call `extract`; nothing else knows how a bucket number comes about.
Any change here that moves a number must raise `FEATURE_SPEC`: an artefact trained under another spec is refused.

Invariants:
1. Work is bounded. Of a text of any length only `HEAD_CHARS + TAIL_CHARS` characters are sliced out (fewer for earlier
   turns); no other operation ever sees the whole text.
2. Hashes are polynomial in the code points, modulo 2**64, so they are the same in every process and on every platform.
3. Same text, same vector. There is no clock, no locale and no Unicode database in here: the character table is built
   from the ranges below.

How it is fast: with the prefix sums P[i] = sum of c_j * B**j, the hash of any span is (P[end] - P[start]) * B**-start.
So all words and all n-grams of a text cost a few vector operations, not a Python loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from classifiers import structure
from classifiers.alphabet import CLASS_TABLE, FOLD_TABLE, HAN, KANA, SPACE, WORD_TABLE
from classifiers.language import LanguageCounts

FEATURE_SPEC: Final = 1
"""Version of everything below; part of the manifest."""

HEAD_CHARS: Final = 1_400
TAIL_CHARS: Final = 600
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

EDGE_FLOOR: Final = 0.3
EDGE_FULL_CHARS: Final = 120
EDGE_DECAY_CHARS: Final = 120.0
"""A feature counts fully near either end of the text and falls to the floor in the middle, where pasted text sits."""

PAYLOAD_WEIGHT: Final = 0.4
QUOTED_WEIGHT: Final = 0.5
INSTRUCTION_CHARS_MIN: Final = 4
INSTRUCTION_CHARS_MAX: Final = 240
LAST_LINE_CHARS_MAX: Final = 160
"""What follows the first colon or line break of a text, and what stands in quotation marks, is mostly the material to
work on, not the wish: it counts less. A short last line after a longer text is a wish again."""

ACTION_EDGE_MIN: Final = 0.5
"""An action word counts as one only where a wish may stand."""

SCALE_WORDS: Final = 1.0
SCALE_CHARS: Final = 1.0
SCALE_ANCHORS: Final = 0.6
SCALE_FLAGS: Final = 0.5
"""Each block of features is brought to unit length, then multiplied by its scale."""

_SELECTION_MAX: Final = HEAD_CHARS + TAIL_CHARS + 4
_BASE: Final = 0x9E3779B97F4A7C15
_MIX_A: Final = np.uint64(0xFF51AFD7ED558CCD)
_MIX_B: Final = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT_MIX: Final = np.uint64(32)
_SHIFT_BUCKET: Final = np.uint64(64 - BUCKET_BITS)

_QUOTE: Final = 0x22
_COLON: Final = 0x3A
_WIDE_COLON: Final = 0xFF1A
_LINE_BREAK: Final = 0x0A

_SEED_WORD: Final = np.uint64(0x1B873593CC9E2D51)
_SEED_PAIR: Final = np.uint64(0x52DCE729DA3E39CB)
_SEED_CJK: Final = np.uint64(0x38495AB5C2B2AE35)
_SEED_CHAR: Final = np.uint64(0x0EA5B1C7A24BAED4)
_SEED_START: Final = np.uint64(0x6A09E667F3BCC908)
_SEED_END: Final = np.uint64(0x3C6EF372FE94F82B)

CJK_SIZES: Final = (1, 2, 3, 4)
CHAR_SIZES: Final = (4,)
"""n-gram sizes: for Han and kana, and for everything else. Both go over the folded text."""

ANCHOR_WORDS: Final = 3
ANCHOR_CJK: Final = 4

Hashes: TypeAlias = npt.NDArray[np.uint64]
Buckets: TypeAlias = npt.NDArray[np.int64]
Values: TypeAlias = npt.NDArray[np.float32]
Positions: TypeAlias = npt.NDArray[np.int64]


def _power_tables() -> tuple[Hashes, Hashes]:
    """B**i and B**-i modulo 2**64 for every position of a selection."""
    modulus = 1 << 64
    inverse = pow(_BASE, -1, modulus)
    powers, inverses = [1], [1]
    for _ in range(_SELECTION_MAX):
        powers.append(powers[-1] * _BASE % modulus)
        inverses.append(inverses[-1] * inverse % modulus)
    return np.array(powers, dtype=np.uint64), np.array(inverses, dtype=np.uint64)


_POWERS, _INVERSES = _power_tables()


def _edge_table() -> Values:
    """Weight of a position by its distance from the nearer end of the text."""
    distance = np.arange(_SELECTION_MAX, dtype=np.float64)
    decay = np.exp(-np.maximum(distance - EDGE_FULL_CHARS, 0.0) / EDGE_DECAY_CHARS)
    return (EDGE_FLOOR + (1.0 - EDGE_FLOOR) * decay).astype(np.float32)


_EDGE = _edge_table()
_COUNTING = np.arange(_SELECTION_MAX, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Features:
    """The sparse vector of one text.

    `buckets` (n,) are row numbers below `ROWS`, repeated when a feature occurs twice; `values` (n,) their weights.
    `starts` and `ends` (h,) give the span in `text` of the first h features (the hashed ones; flags have none).
    `words` are the raw word hashes. `text` is the selection that was read.
    """

    buckets: Buckets
    values: Values
    starts: Positions
    ends: Positions
    flags: tuple[int, ...]
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


def _mix(hashes: Hashes, seed: np.uint64) -> Hashes:
    """Spread polynomial hashes over all 64 bits; different seeds give independent feature spaces."""
    mixed = (hashes ^ seed) * _MIX_A
    mixed ^= mixed >> _SHIFT_MIX
    mixed *= _MIX_B
    return mixed


def _to_buckets(mixed: Hashes) -> Buckets:
    return (mixed >> _SHIFT_BUCKET).astype(np.int64)


class _Folded:
    """One selection as arrays: folded characters, classes, prefix sums, words."""

    __slots__ = ("classes", "cjk", "edge", "ends", "has_cjk", "ids", "length", "prefix", "starts", "where", "word_hash")

    def __init__(self, text: str) -> None:
        points = np.frombuffer((" " + text + " ").encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        points = np.minimum(points, 0xFFFF)
        classes = CLASS_TABLE[points]
        blank = classes == SPACE
        keep = ~(blank[1:] & blank[:-1])
        where = np.flatnonzero(keep) + 1
        self.where = np.concatenate((_COUNTING[:1], where))
        points = points[self.where]
        self.classes = classes[self.where]
        self.ids = FOLD_TABLE[points]
        self.length = len(points)
        self.prefix = np.empty(self.length + 1, dtype=np.uint64)
        self.prefix[0] = 0
        np.cumsum(self.ids * _POWERS[: self.length], out=self.prefix[1:])
        distance = np.minimum(_COUNTING[: self.length], self.length - 1 - _COUNTING[: self.length])
        self.edge = _EDGE[distance]
        self._weigh_payload(points)
        self.cjk = (self.classes == HAN) | (self.classes == KANA)
        self.has_cjk = bool(self.cjk.any())
        inside = WORD_TABLE[self.classes]
        change = np.flatnonzero(inside[1:] != inside[:-1]) + 1
        self.starts, self.ends = change[0::2], change[1::2]
        self.word_hash = self.spans(self.starts, self.ends)

    def _weigh_payload(self, points: npt.NDArray[np.uint32]) -> None:
        """Lower the weight of material: see `PAYLOAD_WEIGHT`."""
        quotes = self.ids == _QUOTE
        if quotes.any():
            self.edge = np.where(np.cumsum(quotes) & 1, self.edge * np.float32(QUOTED_WEIGHT), self.edge)
        lines = points == _LINE_BREAK
        marks = lines | (points == _WIDE_COLON)
        marks[:-1] |= (points[:-1] == _COLON) & (self.classes[1:] == SPACE)
        at = np.flatnonzero(marks[INSTRUCTION_CHARS_MIN:INSTRUCTION_CHARS_MAX])
        if not len(at):
            return
        begin = int(at[0]) + INSTRUCTION_CHARS_MIN + 1
        end = self.length
        breaks = np.flatnonzero(lines[: self.length - 2])
        if len(breaks):
            last_line = self.length - int(breaks[-1])
            if breaks[-1] >= begin or last_line < begin:
                end = int(breaks[-1]) if last_line <= LAST_LINE_CHARS_MAX else end
        if end > begin:
            self.edge[begin:end] *= np.float32(PAYLOAD_WEIGHT)

    def spans(self, starts: Positions, ends: Positions) -> Hashes:
        """Hashes of the spans [start, end) of the folded text."""
        result: Hashes = (self.prefix[ends] - self.prefix[starts]) * _INVERSES[starts]
        return result

    def grams(self, size: int) -> Hashes:
        """Hashes of all spans of one size, by start."""
        count = self.length - size + 1
        result: Hashes = (self.prefix[size:] - self.prefix[:count]) * _INVERSES[:count]
        return result


def _sized(seed: np.uint64, size: int) -> np.uint64:
    """A seed per n-gram size (wraps modulo 2**64 on purpose)."""
    return np.uint64((int(seed) * (2 * size + 1)) & 0xFFFFFFFFFFFFFFFF)


_CJK_SEEDS = {size: _sized(_SEED_CJK, size) for size in range(1, ANCHOR_CJK + 1)}
_CHAR_SEEDS = {size: _sized(_SEED_CHAR, size) for size in CHAR_SIZES}


class _Collected:
    """Blocks of features as they are found; `finish` scales each block and joins them."""

    __slots__ = ("blocks", "spans", "values")

    def __init__(self) -> None:
        self.blocks: list[Buckets] = []
        self.values: list[Values] = []
        self.spans: list[tuple[Positions, Positions]] = []

    def add(self, mixed: Hashes, starts: Positions, ends: Positions, values: Values) -> None:
        """One kind of feature: hashes, spans in the folded text, weights before the block is scaled."""
        self.blocks.append(_to_buckets(mixed))
        self.spans.append((starts, ends))
        self.values.append(values)

    def scale(self, since: int, scale: float) -> None:
        """Bring the blocks added since the given index to joint length `scale`."""
        total = sum(float(np.dot(values, values)) for values in self.values[since:])
        if total > 0.0:
            factor = np.float32(scale / total**0.5)
            self.values[since:] = [values * factor for values in self.values[since:]]


def _add_words(folded: _Folded, into: _Collected) -> None:
    """Words, and pairs of words with at most two characters between them."""
    starts, ends, hashes = folded.starts, folded.ends, folded.word_hash
    if not len(starts):
        return
    since = len(into.blocks)
    into.add(_mix(hashes, _SEED_WORD), starts, ends, folded.edge[starts])
    if len(starts) > 1:
        near = np.flatnonzero(starts[1:] - ends[:-1] <= 2)
        pairs = hashes[near] * _MIX_B + hashes[near + 1]
        into.add(_mix(pairs, _SEED_PAIR), starts[near], ends[near + 1], folded.edge[starts[near]])
    into.scale(since, SCALE_WORDS)


def _add_grams(folded: _Folded, into: _Collected) -> None:
    """Character n-grams: Han and kana runs in `CJK_SIZES`, everything else in `CHAR_SIZES`; no gram mixes the two."""
    since = len(into.blocks)
    if folded.has_cjk:
        run = folded.cjk
        for size in CJK_SIZES:
            if size > 1:
                run = run[:-1] & folded.cjk[size - 1 :]
            at = np.flatnonzero(run)
            if not len(at):
                break
            into.add(_mix(folded.grams(size)[at], _CJK_SEEDS[size]), at, at + size, folded.edge[at])
    for size in CHAR_SIZES:
        count = folded.length - size + 1
        if count <= 0:
            continue
        hashes = folded.grams(size)
        at = _COUNTING[:count]
        if folded.has_cjk:
            touched = folded.cjk[:count].copy()
            for shift in range(1, size):
                touched |= folded.cjk[shift : shift + count]
            at = np.flatnonzero(~touched)
            hashes = hashes[at]
        into.add(_mix(hashes, _CHAR_SEEDS[size]), at, at + size, folded.edge[at])
    into.scale(since, SCALE_CHARS)


def _opening(folded: _Folded, begin: int) -> list[tuple[int, int]]:
    """Spans of the first words, or the first Han characters, at or after a position."""
    word = int(np.searchsorted(folded.starts, begin))
    first_word = int(folded.starts[word]) if word < len(folded.starts) else folded.length
    if folded.has_cjk:
        ahead = folded.cjk[begin:]
        first_cjk = begin + int(ahead.argmax()) if ahead.any() else folded.length
        if first_cjk < first_word:
            last = min(first_cjk + ANCHOR_CJK, folded.length - 1)
            return [(first_cjk, end) for end in range(first_cjk + 1, last + 1)]
    return [(first_word, int(end)) for end in folded.ends[word : word + ANCHOR_WORDS]]


def _closing(folded: _Folded) -> list[tuple[int, int]]:
    """Spans of the last words, or the last Han characters."""
    last_word = int(folded.ends[-1]) if len(folded.ends) else 0
    if folded.has_cjk:
        last_cjk = folded.length - int(folded.cjk[::-1].argmax())
        if last_cjk > last_word:
            return [(start, last_cjk) for start in range(max(1, last_cjk - ANCHOR_CJK), last_cjk)]
    return [(int(start), last_word) for start in folded.starts[-2:]]


def _add_anchors(folded: _Folded, text: str, into: _Collected) -> None:
    """How the text opens, how its last line opens, how it ends: that is where an instruction stands."""
    anchors = [(_SEED_START, span) for span in _opening(folded, 0)]
    last_break = text.rstrip().rfind("\n")
    if last_break >= 0:
        begin = int(np.searchsorted(folded.where, last_break + 2))
        anchors += [(_SEED_START, span) for span in _opening(folded, min(begin, folded.length - 1))]
    anchors += [(_SEED_END, span) for span in _closing(folded)]
    if not anchors:
        return
    since = len(into.blocks)
    seeds = np.array([seed for seed, _ in anchors], dtype=np.uint64)
    spans = np.array([span for _, span in anchors], dtype=np.int64)
    starts, ends = spans[:, 0], spans[:, 1]
    mixed = (folded.spans(starts, ends) ^ seeds) * _MIX_A
    into.add(_mix(mixed, _SEED_WORD), starts, ends, np.ones(len(anchors), dtype=np.float32))
    into.scale(since, SCALE_ANCHORS)


def _action_table() -> npt.NDArray[np.uint8]:
    """(BUCKETS,) uint8: which kind of action the word or Han gram of a bucket asks for; 0 for none."""
    table = np.zeros(BUCKETS, dtype=np.uint8)
    for kind, words in enumerate(structure.ACTIONS, start=1):
        for word in words.split():
            table[cue_buckets(word)] = kind
    return table


def _actions(table: npt.NDArray[np.uint8], folded: _Folded, found: _Collected) -> int:
    """How many different kinds of action the instruction asks for: steps, when there are several."""
    kinds: set[int] = set()
    for (starts, _), buckets in zip(found.spans, found.blocks, strict=True):
        marks = table[buckets]
        hits = np.flatnonzero(marks)
        if len(hits):
            hits = hits[folded.edge[starts[hits]] >= ACTION_EDGE_MIN]
            kinds.update(marks[hits].tolist())
    return len(kinds)


_NO_POSITIONS: Final = np.zeros(0, dtype=np.int64)


def extract(text: str, *, spans: bool = False) -> Features:
    """The sparse vector of a selection (see `select`); `spans` also fills `starts` and `ends`, for explanations.

    Raises `ValueError` when the text is longer than a selection can be: the caller forgot to select.
    """
    if len(text) > HEAD_CHARS + TAIL_CHARS + 1:
        raise ValueError(f"text has {len(text)} characters, the limit is a selection: call select() first")
    folded = _Folded(text)
    found = _Collected()
    _add_words(folded, found)
    _add_grams(folded, found)
    _add_anchors(folded, text, found)
    actions = _actions(_ACTION_TABLE, folded, found)
    counts = LanguageCounts.of(folded.classes, folded.starts, folded.ends, folded.word_hash)
    language = counts.language()
    flags = structure.flags(text, counts, language, actions)
    flag_value = np.full(len(flags), SCALE_FLAGS, dtype=np.float32)
    starts = ends = _NO_POSITIONS
    if spans and found.spans:
        # Position 0 of the folded text is the space put in front, hence the shift by one.
        starts = folded.where[np.concatenate([pair[0] for pair in found.spans])] - 1
        last = np.concatenate([pair[1] for pair in found.spans]) - 1
        ends = folded.where[last]
    return Features(
        buckets=np.concatenate([*found.blocks, np.array(flags, dtype=np.int64) + BUCKETS]),
        values=np.concatenate([*found.values, flag_value]),
        starts=starts,
        ends=ends,
        flags=flags,
        language=language,
        has_evidence=counts.letters + counts.digits > 0,
        text=text,
    )


def cue_buckets(cue: str) -> list[int]:
    """The rows that a cue of the lexicon stands for: one word, two words, or one to four Han characters.

    Raises `ValueError` for any other cue: it could never fire.
    """
    folded = _Folded(cue)
    words = len(folded.starts)
    if folded.has_cjk:
        size = int(folded.cjk.sum())
        if words or size != len(cue) or size not in CJK_SIZES:
            raise ValueError(f"cue {cue!r}: write one to {CJK_SIZES[-1]} Han characters, or one or two words")
        start = np.array([1], dtype=np.int64)
        return [int(b) for b in _to_buckets(_mix(folded.spans(start, start + size), _CJK_SEEDS[size]))]
    if words == 1:
        return [int(b) for b in _to_buckets(_mix(folded.word_hash, _SEED_WORD))]
    if words == 2:  # noqa: PLR2004 - the pair feature
        pair = folded.word_hash[:1] * _MIX_B + folded.word_hash[1:]
        return [int(b) for b in _to_buckets(_mix(pair, _SEED_PAIR))]
    raise ValueError(f"cue {cue!r} has {words} words: write one or two words, or one to {CJK_SIZES[-1]} Han characters")


def opening_buckets(cue: str) -> list[int]:
    """The row of a cue that opens a text (or its last line); see `cue_buckets` for what a cue may be."""
    folded = _Folded(cue)
    span = np.array([1], dtype=np.int64), np.array([folded.length - 1], dtype=np.int64)
    return [int(b) for b in _to_buckets(_mix((folded.spans(*span) ^ _SEED_START) * _MIX_A, _SEED_WORD))]


_ACTION_TABLE: Final = _action_table()
