"""One selection as arrays: folded characters, prefix sums for hashing, words, weights of positions.

Where on the path: `features.extract` builds one `Folded` per text and reads everything off it.

Invariants:
1. Case and width are folded, digits are one digit, every blank is one blank: see `alphabet`.
2. A span hash depends on the folded characters of the span only, not on where it stands.

How it is fast: one table look-up per character, few operations on arrays, and none that a plain text does not need.
Most of the time goes to starting operations, not to running them.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from classifiers.alphabet import (
    CJK_SHIFT,
    CLASS_SHIFT,
    CLASSES,
    FOLD_MASK,
    HAN,
    KANA,
    MARKS,
    NIBBLE,
    PACKED,
    QUOTATION,
    WORD_SHIFT,
)

FOLDED_CHARS_MAX: Final = 703
"""The longest selection, a line break between its parts, and a space of our own at both ends."""

EDGE_FLOOR: Final = 0.3
EDGE_FULL_CHARS: Final = 120
EDGE_DECAY_CHARS: Final = 120.0
"""A position counts fully near either end of the text and falls to the floor in the middle, where pasted text sits."""

PAYLOAD_WEIGHT: Final = 0.4
QUOTED_WEIGHT: Final = 0.5
INSTRUCTION_CHARS_MIN: Final = 4
INSTRUCTION_CHARS_MAX: Final = 240
LAST_LINE_CHARS_MAX: Final = 160
"""What follows the first colon or line break of a text, and what stands in quotation marks, is mostly the material to
work on, not the wish: it counts less. A short last line after a longer text is a wish again."""

Hashes: TypeAlias = npt.NDArray[np.uint64]
Positions: TypeAlias = npt.NDArray[np.int64]
Weights: TypeAlias = npt.NDArray[np.float32]
Masks: TypeAlias = npt.NDArray[np.bool_]

_BASE: Final = 0x9E3779B97F4A7C15
MIX_A: Final = np.uint64(0xFF51AFD7ED558CCD)
MIX_B: Final = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT_MIX: Final = np.uint64(32)

_QUOTE: Final = 0x22
_QUOTED_PAIRS_MAX: Final = 16
_SLOTS: Final = NIBBLE + 1


def _power_tables() -> tuple[Hashes, Hashes]:
    """B**i and B**-i modulo 2**64 for every position of a selection."""
    modulus = 1 << 64
    inverse = pow(_BASE, -1, modulus)
    powers, inverses = [1], [1]
    for _ in range(FOLDED_CHARS_MAX):
        powers.append(powers[-1] * _BASE % modulus)
        inverses.append(inverses[-1] * inverse % modulus)
    return np.array(powers, dtype=np.uint64), np.array(inverses, dtype=np.uint64)


def _edge_table() -> Weights:
    """Weight of a position by its distance from the nearer end of the text."""
    distance = np.arange(FOLDED_CHARS_MAX + 1, dtype=np.float64)
    decay = np.exp(-np.maximum(distance - EDGE_FULL_CHARS, 0.0) / EDGE_DECAY_CHARS)
    return (EDGE_FLOOR + (1.0 - EDGE_FLOOR) * decay).astype(np.float32)


_POWERS, _INVERSES = _power_tables()
_EDGE: Final = _edge_table()
_EDGE_BACK: Final = _EDGE[::-1].copy()
_NOWHERE: Final = np.zeros(0, dtype=np.bool_)


def _totals_table() -> npt.NDArray[np.int64]:
    """(kinds, MARKS + CLASSES): what each pair of mark and class counts for."""
    table = np.zeros((MARKS * _SLOTS, MARKS + CLASSES), dtype=np.int64)
    for mark in range(MARKS):
        table[mark * _SLOTS : (mark + 1) * _SLOTS, mark] = 1
    for kind in range(CLASSES):
        table[kind::_SLOTS, MARKS + kind] = 1
    return table


_TOTALS: Final = _totals_table()


def mix(hashes: Hashes) -> Hashes:
    """Spread polynomial hashes over all 64 bits."""
    mixed = hashes * MIX_A
    mixed ^= mixed >> _SHIFT_MIX
    mixed *= MIX_B
    return mixed


class Folded:
    """See the module. Positions count from a space that is put before the text; `length` counts that and one behind.

    `starts` and `ends` have one entry per word, a maximal run of word characters. `last_line` is where the
    last line starts, 0 when there is only one. `by_class` and `marks` say how many characters there are of each class
    and how many marks of each kind. `cjk` says which positions hold Han or kana, and is empty when none does.
    `edge` is the weight of each position.
    """

    __slots__ = (
        "by_class",
        "cjk",
        "edge",
        "ends",
        "has_cjk",
        "last_line",
        "length",
        "line_breaks",
        "marks",
        "packed",
        "prefix",
        "starts",
        "text",
    )

    def __init__(self, text: str) -> None:
        """`text` must fit into `FOLDED_CHARS_MAX` with two characters to spare."""
        self.text = f" {text} "
        points = np.frombuffer(self.text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        packed = PACKED.take(points, mode="clip")
        self.packed = packed
        length = self.length = len(packed)
        counts = np.bincount((packed >> CLASS_SHIFT) & 0xFF, minlength=MARKS * _SLOTS)
        totals = counts.dot(_TOTALS).tolist()
        self.marks, self.by_class = totals[:MARKS], totals[MARKS:]
        prefix = self.prefix = np.empty(length + 1, dtype=np.uint64)
        prefix[0] = 0
        np.add.accumulate((packed & FOLD_MASK).view(np.uint64) * _POWERS[:length], out=prefix[1:])
        inside = (packed >> WORD_SHIFT) & 1
        change = (inside[1:] != inside[:-1]).nonzero()[0]
        change += 1
        self.starts, self.ends = change[0::2], change[1::2]
        self.has_cjk = self.by_class[HAN] + self.by_class[KANA] > 0
        self.cjk = (packed & (1 << CJK_SHIFT)).astype(np.bool_) if self.has_cjk else _NOWHERE
        self.line_breaks = text.strip().count("\n")
        self.last_line = self.text.rfind("\n", 0, -2) + 1 if self.line_breaks else 0
        self.edge = self._edges()

    def _edges(self) -> Weights:
        """Weights of positions: near the ends, less in quotation marks and in material."""
        half = (self.length + 1) // 2
        rest = self.length - half
        edge = np.concatenate((_EDGE[:half], _EDGE_BACK[len(_EDGE_BACK) - rest :]))
        if self.marks[QUOTATION]:
            quotes = ((self.packed & FOLD_MASK) == _QUOTE).nonzero()[0].tolist()
            quotes.append(self.length)
            for at in range(0, min(len(quotes) - 1, 2 * _QUOTED_PAIRS_MAX), 2):
                edge[quotes[at] : quotes[at + 1]] *= np.float32(QUOTED_WEIGHT)
        begin = self._material()
        if not begin:
            return edge
        end = self.length
        if self.last_line:
            left = self.length - self.last_line
            is_wish = self.last_line > begin or left < begin
            if is_wish and left <= LAST_LINE_CHARS_MAX:
                end = self.last_line
        if end > begin:
            edge[begin:end] *= np.float32(PAYLOAD_WEIGHT)
        return edge

    def _material(self) -> int:
        """Where the material begins: behind the first line break or colon that may end a wish; 0 for nowhere."""
        low, high = INSTRUCTION_CHARS_MIN, INSTRUCTION_CHARS_MAX
        text = self.text
        found = [at for at in (text.find(mark, low, high) for mark in ("\n", ": ", ":\n", "：")) if at >= 0]
        return min(found) + 1 if found else 0

    def spans(self, starts: Positions, ends: Positions) -> Hashes:
        """Hashes of the spans [start, end)."""
        result = self.prefix.take(ends)
        result -= self.prefix.take(starts)
        result *= _INVERSES.take(starts)
        return result

    def grams(self, size: int) -> Hashes:
        """Hashes of all spans of one size, by start; empty when the text is shorter."""
        count = max(self.length - size + 1, 0)
        result: Hashes = (self.prefix[size : size + count] - self.prefix[:count]) * _INVERSES[:count]
        return result
