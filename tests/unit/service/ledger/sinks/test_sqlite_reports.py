"""Which parts a report is put together from; that they add up right is tests/properties/test_rollups.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ledger.sinks.sqlite_reports import check_grouping, pieces
from service.ledger.sinks.sqlite_rollup import LEVELS

HOURS = st.integers(0, 5_000)


@given(HOURS, HOURS, st.integers(0, 5_000), st.booleans())
def test_pieces_are_each_hour_once(first, more, newest, by_day):
    """Nothing is left out and nothing counts twice, and no coarser period is asked that is not over."""
    folded = {level.table: newest // level.hours for level in LEVELS[1:]}
    found = []
    for piece in pieces(first, first + more, folded, by_day=by_day):
        assert piece.level is LEVELS[0] or piece.stop <= folded[piece.level.table]
        assert not by_day or piece.level.hours <= 24
        found += range(piece.start * piece.level.hours, piece.stop * piece.level.hours)
    assert sorted(found) == list(range(first, first + more))


def test_a_year_is_a_few_dozen_pieces_of_the_coarsest():
    """What makes a report on everything quick: blocks, and days and hours only at the ends."""
    folded = {level.table: 10**9 for level in LEVELS[1:]}
    asked = [(piece.level.hours, piece.stop - piece.start) for piece in pieces(5, 5 + 8_760, folded, by_day=False)]
    assert dict(asked)[768] == 10
    assert sum(count for _, count in asked) < 100


def test_an_unknown_grouping_is_refused():
    """By name, with those that there are."""
    with pytest.raises(ValueError, match="'colour'; choose from model"):
        check_grouping(("model", "colour"))
