"""Names that others chose, made harmless for whoever shows them: terminals and spreadsheets. Pure functions.

Where on the path: below `render` and `focus`, which make reports of rows.
"""

from __future__ import annotations

import unicodedata
from typing import Final

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
