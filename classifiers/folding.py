"""One selection as arrays: folded characters, their classes, prefix sums for hashing, words, weights of positions.

Where on the path: `features.extract` builds one `Folded` per text and reads everything off it.

Invariants:
1. Runs of blanks count as one, case and width are folded, digits are one digit: see `alphabet`.
2. A span hash depends on the folded characters of the span only, not on where it stands.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from classifiers.alphabet import CLASS_TABLE, FOLD_TABLE, HAN, KANA, MARK_TABLE, SPACE, WORD_TABLE

FOLDED_CHARS_MAX: Final = 1_603
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

_BASE: Final = 0x9E3779B97F4A7C15
MIX_A: Final = np.uint64(0xFF51AFD7ED558CCD)
MIX_B: Final = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT_MIX: Final = np.uint64(32)

_QUOTE: Final = 0x22
_COLON: Final = 0x3A
_WIDE_COLON: Final = 0xFF1A
_LINE_BREAK: Final = 0x0A


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
_COUNTING: Final = np.arange(FOLDED_CHARS_MAX + 1, dtype=np.int64)


def mix(hashes: Hashes) -> Hashes:
    """Spread polynomial hashes over all 64 bits."""
    mixed = hashes * MIX_A
    mixed ^= mixed >> _SHIFT_MIX
    mixed *= MIX_B
    return mixed


class Folded:
    """See the module. Arrays of `length` positions unless said otherwise; words are maximal runs of word characters.

    `where` maps positions to the text with a space in front; `starts`, `ends`, `word_hash` have one entry per word;
    `last_line` is where the last line starts, 0 when there is only one line.
    """

    __slots__ = (
        "_lines",
        "_points",
        "cjk",
        "classes",
        "counting",
        "edge",
        "ends",
        "has_cjk",
        "ids",
        "last_line",
        "length",
        "marks",
        "prefix",
        "starts",
        "where",
        "word_hash",
    )

    def __init__(self, text: str) -> None:
        """`text` must fit into `FOLDED_CHARS_MAX` with two characters to spare."""
        points = np.frombuffer((" " + text + " ").encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        classes = CLASS_TABLE.take(points, mode="clip")
        blank = classes == SPACE
        again = blank[1:] & blank[:-1]
        self.counting = _COUNTING
        self.where = _COUNTING[: len(points)]
        self._lines = points == _LINE_BREAK
        if again.any():
            self.where = np.concatenate((_COUNTING[:1], (~again).nonzero()[0] + 1))
            # A run of blanks becomes its first one, and is a line break when any of them was.
            at = self.where.searchsorted(self._lines.nonzero()[0], side="right") - 1
            self._lines = np.zeros(len(self.where), dtype=np.bool_)
            self._lines[at] = True
            points, classes = points[self.where], classes[self.where]
        self._points = points
        self.classes = classes
        self.marks = MARK_TABLE.take(points, mode="clip")
        self.ids = FOLD_TABLE.take(points, mode="clip")
        self.length = len(points)
        self.prefix = np.empty(self.length + 1, dtype=np.uint64)
        self.prefix[0] = 0
        np.cumsum(self.ids * _POWERS[: self.length], out=self.prefix[1:])
        self.cjk = (classes == HAN) | (classes == KANA)
        self.has_cjk = bool(self.cjk.any())
        inside = WORD_TABLE[classes]
        change = (inside[1:] != inside[:-1]).nonzero()[0] + 1
        self.starts, self.ends = change[0::2], change[1::2]
        self.word_hash = self.spans(self.starts, self.ends)
        self.last_line = 0
        self.edge = self._edges()

    def _edges(self) -> Weights:
        """Weights of positions: near the ends, less in quotation marks and in material."""
        half = (self.length + 1) // 2
        edge = np.concatenate((_EDGE[:half], _EDGE[: self.length - half][::-1]))
        quotes = self.ids == _QUOTE
        if quotes.any():
            edge[(np.cumsum(quotes) & 1).astype(np.bool_)] *= np.float32(QUOTED_WEIGHT)
        breaks = self._lines[1:-2].nonzero()[0] + 1
        if len(breaks):
            self.last_line = int(breaks[-1]) + 1
        marks = self._lines | (self._points == _WIDE_COLON)
        marks[:-1] |= (self._points[:-1] == _COLON) & (self.classes[1:] == SPACE)
        at = marks[INSTRUCTION_CHARS_MIN:INSTRUCTION_CHARS_MAX].nonzero()[0]
        if not len(at):
            return edge
        begin, end = int(at[0]) + INSTRUCTION_CHARS_MIN + 1, self.length
        if self.last_line:
            left = self.length - self.last_line
            is_wish = self.last_line > begin or left < begin
            if is_wish and left <= LAST_LINE_CHARS_MAX:
                end = self.last_line
        if end > begin:
            edge[begin:end] *= np.float32(PAYLOAD_WEIGHT)
        return edge

    def spans(self, starts: Positions, ends: Positions) -> Hashes:
        """Hashes of the spans [start, end)."""
        result: Hashes = (self.prefix[ends] - self.prefix[starts]) * _INVERSES[starts]
        return result

    def grams(self, size: int) -> Hashes:
        """Hashes of all spans of one size, by start; empty when the text is shorter."""
        count = max(self.length - size + 1, 0)
        result: Hashes = (self.prefix[size : size + count] - self.prefix[:count]) * _INVERSES[:count]
        return result
