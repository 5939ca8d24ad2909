"""What kind of character a code point is, and what it is folded to: two tables over the basic multilingual plane.

Where on the path: `folding` and the compiled kernel look every character up here, `language` judges by the counts.

Invariants:
1. The tables are built from the ranges below and from one-to-one case pairs of Latin, Greek and Cyrillic, never from
   the Unicode database of the running Python: another Python version gives the same vectors.
2. Code points above U+FFFF share one class and one fold (emoji, mostly); the caller clips to 0xFFFF.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

LATIN: Final = 0
LATIN_ACCENTED: Final = 1
DIGIT: Final = 2
HANGUL: Final = 3
OTHER_LETTER: Final = 4
WORD_KINDS: Final = 5
"""Kinds below this one make up words; Han and kana are read as n-grams instead."""

HAN: Final = 5
KANA: Final = 6
SPACE: Final = 7
ASTRAL: Final = 8
PUNCT: Final = 9
MATHS: Final = 10
CODE: Final = 11
QUESTION: Final = 12
EXCLAMATION: Final = 13
QUOTATION: Final = 14
BACKTICK: Final = 15
BACKSLASH: Final = 16
BRACKET: Final = 17
SLASH: Final = 18
KINDS: Final = 19
"""From `MATHS` on, kinds of punctuation that a structural flag looks for."""

_MARK_CHARS: Final = {
    MATHS: "=+^×÷√π∑∫≤≥≠∞°%*<>",
    CODE: "{};",
    QUESTION: "?？",
    EXCLAMATION: "!！",
    QUOTATION: '"“”「」《》',
    BACKTICK: "`",
    BACKSLASH: "\\",
    BRACKET: "()#-",
    SLASH: "/",
}

_SIZE: Final = 0x10000

_RANGES: Final = (
    (OTHER_LETTER, 0x0370, 0x0590),  # Greek, Cyrillic, Armenian
    (OTHER_LETTER, 0x05D0, 0x0700),  # Hebrew, Arabic
    (OTHER_LETTER, 0x0900, 0x1100),  # Indic scripts, Thai, Lao, Tibetan, Burmese, Georgian
    (LATIN_ACCENTED, 0x00C0, 0x0250),
    (LATIN_ACCENTED, 0x1E00, 0x1F00),
    (OTHER_LETTER, 0x1F00, 0x2000),  # polytonic Greek
    (HANGUL, 0x1100, 0x1200),
    (HANGUL, 0x3130, 0x3190),
    (HANGUL, 0xAC00, 0xD7B0),
    (KANA, 0x3041, 0x30FB),
    (KANA, 0x30FC, 0x3100),
    (HAN, 0x3400, 0x4DC0),
    (HAN, 0x4E00, 0xA000),
    (HAN, 0xF900, 0xFB00),
    (SPACE, 0x2000, 0x200C),
    (DIGIT, 0xFF10, 0xFF1A),
    (LATIN, 0xFF21, 0xFF3B),
    (LATIN, 0xFF41, 0xFF5B),
    (ASTRAL, 0xD800, 0xE000),
    (ASTRAL, 0x2600, 0x27C0),
)
_SPACES: Final = (
    *range(0x09, 0x0E),
    0x1C,
    0x1D,
    0x1E,
    0x1F,
    0x20,
    0x85,
    0xA0,
    0x1680,
    0x2028,
    0x2029,
    0x202F,
    0x3000,
    0xFEFF,
)
_NOT_LETTERS: Final = (0x00D7, 0x00F7)
_PUNCT_FOLDS: Final = {
    "。": ".",
    "、": ",",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "「": '"',
    "」": '"',
    "—": "-",
    "–": "-",
}
_CASED: Final = ((0x41, 0x5B), (0xC0, 0x250), (0x370, 0x530), (0x1E00, 0x1F00))
_FULL_WIDTH: Final = (0xFF01, 0xFF5F)
_FULL_WIDTH_OFFSET: Final = 0xFEE0


def _kind_table() -> npt.NDArray[np.uint8]:
    table = np.full(_SIZE, PUNCT, dtype=np.uint8)
    table[0x41:0x5B] = LATIN
    table[0x61:0x7B] = LATIN
    table[0x30:0x3A] = DIGIT
    for kind, start, end in _RANGES:
        table[start:end] = kind
    table[list(_SPACES)] = SPACE
    table[list(_NOT_LETTERS)] = PUNCT
    table[_SIZE - 1] = ASTRAL
    for mark, chars in _MARK_CHARS.items():
        for char in chars:
            table[ord(char)] = mark
    return table


def _fold_table(kinds: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Lower case, half width, one kind of blank, one digit, one astral character. Never 0, so that spans differ."""
    table = np.arange(_SIZE, dtype=np.uint64)
    for point in range(*_FULL_WIDTH):
        table[point] = point - _FULL_WIDTH_OFFSET
    for full, plain in _PUNCT_FOLDS.items():
        table[ord(full)] = ord(plain)
    for start, end in _CASED:
        for point in range(start, end):
            lower = chr(point).lower()
            if len(lower) == 1:
                table[point] = ord(lower)
    for point in range(0xFF21, 0xFF3B):
        table[point] = point - _FULL_WIDTH_OFFSET + 0x20
    table[kinds == SPACE] = 0x20
    table[kinds == DIGIT] = 0x30
    table[kinds == ASTRAL] = _SIZE - 1
    table[0] = 0x20
    return table


KIND_TABLE: Final = _kind_table()
"""(65536,) uint8: code point to kind."""

FOLD_TABLE: Final = _fold_table(KIND_TABLE)
"""(65536,) uint64: code point to folded code point."""

# The compiled kernel has checked them once and looks up without asking again.
KIND_TABLE.flags.writeable = False
FOLD_TABLE.flags.writeable = False
