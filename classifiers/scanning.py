"""A selection as hashed features, by NumPy: words, pairs, stems, n-grams, anchors, and what they hint at.

Where on the path: `features.extract` calls `scan` where the compiled kernel is not built, and whenever an explanation
needs to know where a feature stands. `kernel` gives the same from C, bit for bit.

Invariants:
1. Hashes are polynomial in the folded code points, modulo 2**64: the same in every process and on every platform.
2. Weights are whole multiples of 2**-20 before they get their length, so the sum of their squares is exact.

How it is fast: with the prefix sums P[i] = sum of c_j * B**j, the hash of any span is (P[end] - P[start]) * B**-start.
So all words and all n-grams of a text cost a few vector operations, not a Python loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from classifiers import structure
from classifiers.alphabet import HAN, KANA
from classifiers.anchors import ANCHORS_MAX, BUCKET_BITS, anchor_rows, anchor_spans
from classifiers.cues import CJK_SIZES, HINTS
from classifiers.folding import MIX, Folded, Hashes, Positions, Weights
from classifiers.language import ACTION_MASK, ENGLISH_MARK, FOREIGN_MARK, OPENING_LATIN, language_of

STEM_CHARS: Final = 5
"""A longer word also counts by its first characters: `translate`, `translating` and a typo at the end share them."""

CJK_EVERYWHERE: Final = 2
CJK_NEAR: Final = 48
"""Han pairs are taken everywhere, other sizes only among so many characters at either end, where a wish stands. That
halves the work on long texts and is no loss: most prompts are shorter than both ends together."""

ACTION_WORDS: Final = 24
ACTION_PAIRS: Final = 48
"""An action word counts as one only where a wish may stand: among so many words, or Han pairs, at either end."""

ROOM: Final = ANCHORS_MAX + len(structure.FLAGS)
"""Entries behind the hashed features: anchors, and the flags that `features` adds."""

_SHIFT_BUCKET: Final = np.uint64(64 - BUCKET_BITS)
_MIX: Final = np.uint64(MIX)
"""Words, stems, pairs and n-grams need no seed of their own: a stem shares the row of the word it equals."""

_NO_POSITIONS: Final = np.zeros(0, dtype=np.int64)
_ENGLISH_ONLY: Final = bytes(hint & ENGLISH_MARK for hint in range(256))
_FOREIGN_ONLY: Final = bytes(hint & FOREIGN_MARK for hint in range(256))
_ACTIONS: Final = bytes(hint & ACTION_MASK for hint in range(256))
_NO_ACTION: Final = frozenset({0})
"""Hints are read as bytes: counting and mapping them needs no array operation."""


class Scan(NamedTuple):
    """What a text holds.

    `buckets` int64 and `values` float32 have `features` hashed features, then `anchors` rows without a value, then room
    for flags. `counts` are characters by kind, two blanks more than the text has. `english` and `foreign` count
    function words, `opens_in_english` says whether enough English stands before the first Han character, `actions` how
    many kinds of action are asked for where a wish may stand, `line_breaks` how many stand inside. `language` is one of
    `LANGUAGES`, `flags` are places in `structure.FLAGS`, ascending. `starts` and `ends` are where features and anchors
    stand, if asked for.
    """

    buckets: Positions
    values: Weights
    features: int
    anchors: int
    counts: Sequence[int]
    english: int
    foreign: int
    opens_in_english: bool
    actions: int
    line_breaks: int
    language: str
    flags: Sequence[int]
    starts: Positions = _NO_POSITIONS
    ends: Positions = _NO_POSITIONS


def scan(text: str, *, spans: bool = False) -> Scan:
    """Everything that is hashed of a selection; `spans` also fills `starts` and `ends`."""
    folded = Folded(text)
    words = len(folded.starts)
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
    features = len(begins)
    buckets = np.empty(features + ROOM, dtype=np.int64)
    values = np.empty(features + ROOM, dtype=np.float32)
    hashes = buckets[:features].view(np.uint64)
    plain = folded.spans(begins[pairs:], finishes, hashes[pairs:])
    if pairs:
        joined = hashes[:pairs]
        np.multiply(plain[:pairs], _MIX, out=joined)
        joined += plain[1:words]
    anchors = anchor_rows(folded, plain)
    buckets[features : features + len(anchors)] = anchors
    _to_buckets(hashes)
    # Blocks, in this order: pairs and words, stems and grams, anchors, flags.
    folded.edge.take(begins, out=values[:features], mode="clip")
    _bring_to_length(values[: pairs + words])
    _bring_to_length(values[pairs + words : features])
    hints = HINTS.take(buckets[pairs:features]).tobytes()
    functions = hints[:words].translate(_ENGLISH_ONLY)
    begin = end = _NO_POSITIONS
    if spans:
        edges = np.array(anchor_spans(folded), dtype=np.int64).reshape(-1, 2)
        begin = np.concatenate((begins, edges[:, 0]))
        end = np.concatenate((folded.ends[1:], finishes, edges[:, 1]))
    english = functions.count(ENGLISH_MARK)
    foreign = hints[:words].translate(_FOREIGN_ONLY).count(FOREIGN_MARK)
    opens = folded.has_cjk and _opens_in_english(folded, functions)
    actions = _actions(hints, words, grams)
    language = language_of(folded.counts, english, foreign, opens_in_english=opens)
    return Scan(
        buckets=buckets,
        values=values,
        features=features,
        anchors=len(anchors),
        counts=folded.counts,
        english=english,
        foreign=foreign,
        opens_in_english=opens,
        actions=actions,
        line_breaks=folded.line_breaks,
        language=language,
        flags=structure.flags(text, folded.counts, folded.line_breaks, language, actions),
        starts=begin,
        ends=end,
    )


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


def _to_buckets(hashes: Hashes) -> None:
    """Rows of hashes, in place."""
    hashes *= _MIX
    hashes >>= _SHIFT_BUCKET


def _bring_to_length(block: Weights) -> None:
    """Give a block of features unit length, in place."""
    # Whole multiples of 2**-40, fewer than 2**53 of them: exact in whatever order they are added.
    wide = block.astype(np.float64)
    total = float(wide.dot(wide))
    if total > 0.0:
        block *= 1.0 / math.sqrt(total)


def _opens_in_english(folded: Folded, functions: bytes) -> bool:
    """Whether enough English stands before the first Han character or kana; `functions` marks words of English."""
    first = min(at for at in (folded.kinds.find(HAN), folded.kinds.find(KANA)) if at >= 0) - 1
    before = int(folded.starts.searchsorted(first))
    if ENGLISH_MARK not in functions[:before]:
        return False
    return int((folded.ends[:before] - folded.starts[:before]).sum()) >= OPENING_LATIN


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
