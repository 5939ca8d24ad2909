"""Names that others chose, made harmless for whoever shows them: terminals and spreadsheets. Pure functions.

Where on the path: below `render` and `focus`, which make reports of rows.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

CELL_WIDTH_MAX: Final = 48
"""Terminal cells of one name in a table; CSV and JSON have it whole."""

_FORMULA: Final = ("=", "+", "-", "@")


def width(text: str) -> int:
    """Terminal cells of printable text: two for wide characters, none for combining marks."""
    cells = 0
    for character in text:
        if unicodedata.category(character) in {"Mn", "Me"}:
            continue
        cells += 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
    return cells


def printable(text: str) -> str:
    """`text` with control, format and unassigned characters escaped: it can't move a cursor or turn the line around."""
    return "".join(
        character if unicodedata.category(character)[0] != "C" else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def clipped_cell(text: str) -> str:
    """Text as a cell of a table: printable, and at most `CELL_WIDTH_MAX` cells wide."""
    text = printable(text)
    if width(text) <= CELL_WIDTH_MAX:
        return text
    while width(text) >= CELL_WIDTH_MAX:
        text = text[:-1]
    return text + "…"


def aligned(lines: Sequence[Sequence[str]], left: int) -> str:
    """Lines of cells as a table with a rule under the first: the first `left` columns to the left, others to the right.

    The last line has no blanks behind it, nor has any other.
    """
    widths = [max(width(line[place]) for line in lines) for place in range(len(lines[0]))]
    drawn = []
    for line in [lines[0], ["-" * cells for cells in widths], *lines[1:]]:
        cells = []
        for place, (text, cells_wide) in enumerate(zip(line, widths, strict=True)):
            gap = " " * (cells_wide - width(text))
            cells.append(text + gap if place < left else gap + text)
        drawn.append("  ".join(cells).rstrip())
    return "\n".join(drawn) + "\n"


def csv_cell(value: object, *, is_text: bool) -> object:
    """A value as CSV has it: unknown is empty, and text that a spreadsheet would take for a formula is led in by `'`.

    `is_text` false: a string is a figure of ours, which may be negative.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_text and isinstance(value, str):
        text = printable(value)
        return f"'{text}" if text.startswith(_FORMULA) else text
    return value
