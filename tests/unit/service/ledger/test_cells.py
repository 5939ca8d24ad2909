"""Names that others chose: as wide as a terminal shows them, harmless there and in a spreadsheet."""

from __future__ import annotations

import pytest

from service.ledger.cells import csv_cell, printable, width


def test_widths_of_characters():
    """Wide, narrow and combining."""
    assert [width(text) for text in ("", "a", "人", "é", "e\u0301", "ｱ", "Ａ")] == [0, 1, 2, 1, 1, 1, 2]


def test_what_moves_a_cursor_is_written_out():
    """Control, format and unassigned characters; everything else stays."""
    assert printable("\x1b[31m\n\u202e") == "\\x1b[31m\\n\\u202e"
    assert printable("人事 é 🙂") == "人事 é 🙂"


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a"])
def test_a_text_is_no_formula_and_a_figure_stays_one(text):
    """A negative amount is no text."""
    assert csv_cell(text, is_text=True) == f"'{text}"
    assert csv_cell(text, is_text=False) == text


def test_what_is_no_text():
    """Unknown is empty, truth is a word, a number is itself."""
    assert [csv_cell(value, is_text=True) for value in (None, True, False, -1)] == ["", "true", "false", -1]
