"""One selection as arrays: folded characters, running sums for hashing, words, weights of positions.

Where on the path: `scanning.scan` builds one `Folded` per text and reads everything off it; `_kernel_text.h` is its
twin.

Invariants:
1. Case and width are folded, digits are one digit, every blank is one blank: see `alphabet`.
2. A span hash depends on the folded characters of the span only, not on where it stands.

How it is fast: two table look-ups per character, few operations on arrays, and none that a plain text does not need.
Most of the time goes to starting operations, not to running them.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from classifiers.alphabet import FOLD_TABLE, HAN, KANA, KIND_TABLE, KINDS, QUOTATION, WORD_KINDS

FOLDED_CHARS_MAX: Final = 703
"""The longest selection, a line break between its parts, and a space of our own at both ends."""

EDGE_FLOOR: Final = 0.3
EDGE_FULL_CHARS: Final = 120
EDGE_DECAY_CHARS: Final = 120.0
"""A position counts fully near either end of the text and falls to the floor in the middle, where pasted text sits."""

PAYLOAD_WEIGHT: Final = 0.4
QUOTED_WEIGHT: Final = 0.5
INSTRUCTION_CHARS_MIN: Final = 3
INSTRUCTION_CHARS_MAX: Final = 240
LAST_LINE_CHARS_MAX: Final = 160
"""What follows the first colon or line break of a text, and what stands in quotation marks, is mostly the material to
work on, not the wish: it counts less. A short last line after a longer text is a wish again."""

Hashes: TypeAlias = npt.NDArray[np.uint64]
Positions: TypeAlias = npt.NDArray[np.int64]
Weights: TypeAlias = npt.NDArray[np.float32]
Masks: TypeAlias = npt.NDArray[np.bool_]

BASE: Final = 0x9E3779B97F4A7C15
MIX: Final = 0xC4CEB9FE1A85EC53
WRAP: Final = (1 << 64) - 1

_ASCII_KINDS: Final = KIND_TABLE[:256].tobytes()
_ASCII_FOLDS: Final = FOLD_TABLE[:256]
QUOTED_PAIRS_MAX: Final = 16
GRAIN: Final = 2.0**20
"""Weights are whole multiples of 1 / GRAIN: few enough that sums of their squares are exact in doubles."""

_QUOTED: Final = np.float32(QUOTED_WEIGHT)
_PAYLOAD: Final = np.float32(PAYLOAD_WEIGHT)
_GRAIN: Final = np.float32(GRAIN)


def _power_tables() -> tuple[Hashes, Hashes]:
    """B**i and B**-i modulo 2**64 for every position of a selection."""
    modulus = 1 << 64
    inverse = pow(BASE, -1, modulus)
    powers, inverses = [1], [inverse]
    for _ in range(FOLDED_CHARS_MAX):
        powers.append(powers[-1] * BASE % modulus)
        inverses.append(inverses[-1] * inverse % modulus)
    return np.array(powers, dtype=np.uint64), np.array(inverses, dtype=np.uint64)


def _by_distance() -> Weights:
    """The weight of a position by its distance from the nearer end."""
    distance = np.arange(FOLDED_CHARS_MAX + 1, dtype=np.float64)
    decay = np.exp(-np.maximum(distance - EDGE_FULL_CHARS, 0.0) / EDGE_DECAY_CHARS)
    table = _grained((EDGE_FLOOR + (1.0 - EDGE_FLOOR) * decay).astype(np.float32))
    table.flags.writeable = False
    return table


def _grained(weights: Weights) -> Weights:
    rounded: Weights = np.rint(weights * _GRAIN) / _GRAIN
    return rounded


def _edge_tables() -> tuple[Weights, ...]:
    """For each length of a text: the weights of its positions."""
    ahead = BY_DISTANCE
    behind = ahead[::-1].copy()
    tables = []
    for length in range(FOLDED_CHARS_MAX + 1):
        half = (length + 1) // 2
        table = np.concatenate((ahead[:half], behind[len(behind) - (length - half) :]))
        table.flags.writeable = False
        tables.append(table)
    return tuple(tables)


BY_DISTANCE: Final = _by_distance()
_POWERS, _INVERSES = _power_tables()
_EDGES: Final = _edge_tables()


class Folded:
    """See the module. Positions are those of `text`; a blank of our own stands before it and behind it.

    `starts` and `ends` have one entry per word, a maximal run of word characters. `last_line` is where the
    last line starts, 0 when there is only one. `kinds` has a byte per character from the blank before the text to the
    one behind it, `counts` says how many there are of each kind. `edge` is the weight of each position.
    """

    __slots__ = (
        "counts",
        "edge",
        "ends",
        "has_cjk",
        "kinds",
        "last_line",
        "length",
        "line_breaks",
        "running",
        "starts",
        "text",
    )

    def __init__(self, text: str) -> None:
        """`text` must fit into `FOLDED_CHARS_MAX` with two characters to spare."""
        self.text = text
        spaced = f" {text} "
        length = len(spaced)
        self.length = length - 2
        if text.isascii():
            # The same by smaller tables: one byte is one character, and bytes are mapped without an array.
            plain = spaced.encode("ascii")
            self.kinds = plain.translate(_ASCII_KINDS)
            kinds = np.frombuffer(self.kinds, dtype=np.uint8)
            running = _ASCII_FOLDS.take(np.frombuffer(plain, dtype=np.uint8))
        else:
            points = np.frombuffer(spaced.encode("utf-32-le", "surrogatepass"), dtype="<u4")
            kinds = KIND_TABLE.take(points, mode="clip")
            self.kinds = kinds.tobytes()
            running = FOLD_TABLE.take(points, mode="clip")
        counts = self.counts = np.bincount(kinds, minlength=KINDS).tolist()
        running *= _POWERS[:length]
        self.running: Hashes = np.add.accumulate(running)
        inside = kinds < WORD_KINDS
        change = (inside[1:] != inside[:-1]).nonzero()[0]
        self.starts, self.ends = change[0::2], change[1::2]
        self.has_cjk = counts[HAN] + counts[KANA] > 0
        self.line_breaks = text.strip().count("\n")
        self.last_line = text.rfind("\n", 0, -1) + 1 if self.line_breaks else 0
        self.edge = self._edges()

    def _edges(self) -> Weights:
        """Weights of positions: near the ends, less in quotation marks and in material."""
        length = self.length
        edge = _EDGES[length]
        begin = self._material()
        if not begin and not self.counts[QUOTATION]:
            return edge
        edge = edge.copy()
        if self.counts[QUOTATION]:
            self._discount_quotes(edge)
        if begin:
            end = length
            if self.last_line:
                left = length - self.last_line
                is_wish = self.last_line > begin or left < begin
                if is_wish and left <= LAST_LINE_CHARS_MAX:
                    end = self.last_line
            if end > begin:
                edge[begin:end] *= _PAYLOAD
        return _grained(edge)

    def _discount_quotes(self, edge: Weights) -> None:
        kinds, at = self.kinds, 0
        for _ in range(QUOTED_PAIRS_MAX):
            opened = kinds.find(QUOTATION, at)
            if opened < 0:
                break
            closed = kinds.find(QUOTATION, opened + 1)
            if closed < 0:
                # An inch mark, a slip, or a quotation whose end was not selected: the rest is rather the wish.
                break
            edge[opened - 1 : closed - 1] *= _QUOTED
            at = closed + 1

    def _material(self) -> int:
        """Where the material begins: behind the first line break or colon that may end a wish; 0 for nowhere."""
        text, high = self.text, INSTRUCTION_CHARS_MAX
        begin = 0
        for mark in ("\n", ": ", "："):
            found = text.find(mark, INSTRUCTION_CHARS_MIN, high)
            if found >= 0:
                begin = high = found + 1
        return begin

    def spans(self, starts: Positions, ends: Positions, out: Hashes | None = None) -> Hashes:
        """Hashes of the spans [start, end), into `out` (as long as they are many) when given."""
        running = self.running
        # Positions are never out of range; with any other mode `take` would fill a buffer of its own first.
        result: Hashes = running.take(ends, out=out, mode="clip")
        result -= running.take(starts)
        result *= _INVERSES.take(starts)
        return result
