"""What a batch says of attempts: halves by rank, values that columns take."""

from __future__ import annotations

import pytest

from service.ledger.lines import Line
from service.ledger.sinks.halves import INTEGER_MAX, Kind
from service.ledger.sinks.merging import merged, storable


def line(kind, seal="00000001", **body):
    return Line(kind, {"attempt_id": "a", "at_ms": 5, **body}, seal)


def test_of_several_lines_for_a_half_the_lowest_rank_counts():
    """Whichever comes first; that there were several is remembered, the same one twice is not."""
    first, second = line("open", "00000001", model="x"), line("open", "00000002", model="y")
    for order in ([first, second], [second, first]):
        (halves,) = merged(order, 7).values()
        assert (halves.opened["model"], halves.opened["writer"], halves.several) == ("x", 7, {"open"})
    (halves,) = merged([first, first, line("terminal", state="settled")], 7).values()
    assert (halves.several, halves.ended["state"]) == (set(), "settled")


@pytest.mark.parametrize(
    ("value", "kind", "want"),
    [
        (None, Kind.TEXT, None),
        ("a\x00b", Kind.TEXT, "a\ufffdb"),
        ('["a\\u0000"]', Kind.TEXT, '["a\\ufffd"]'),
        (7, Kind.TEXT, "7"),
        ({"a": 1}, Kind.TEXT, '{"a":1}'),
        (True, Kind.INTEGER, 1),
        ("7", Kind.INTEGER, None),
        (0.5, Kind.MONEY, None),
        (INTEGER_MAX, Kind.MONEY, INTEGER_MAX),
        (INTEGER_MAX + 1, Kind.MONEY, None),
        (3, Kind.REAL, 3.0),
        ("x", Kind.REAL, None),
    ],
)
def test_what_a_column_takes(value, kind, want):
    """All else is unknown."""
    assert storable(value, kind) == want
