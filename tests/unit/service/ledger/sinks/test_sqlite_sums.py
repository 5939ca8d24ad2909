"""The query of sums and its rows; what they say of real rows is in tests/contract/test_sinks.py."""

from __future__ import annotations

import sqlite3

import pytest

from service.ledger.sinks.port import GROUPINGS, TOKEN_COLUMNS
from service.ledger.sinks.sqlite_layout import SCHEMA
from service.ledger.sinks.sqlite_sums import sums_of, sums_query

EVER = {"since_ms": None, "until_ms": None}


def test_every_grouping_is_a_query_that_the_layout_answers():
    """One by one and all together; an unknown one is named with those that are known."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    for by in (*[(name,) for name in GROUPINGS], tuple(GROUPINGS)):
        assert connection.execute(sums_query(by), EVER).fetchall() == []
    with pytest.raises(ValueError, match="can't be grouped by 'colour'; choose from"):
        sums_query(("colour",))
    connection.close()


def test_halves_of_money_are_put_together():
    """More than SQLite's own integers hold."""
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    counts = ("requests", "attempts", "open_attempts", "simulated_attempts", "billable_attempts")
    counts += ("guessed_attempts", "unpriced_attempts", "compared_requests")
    money = [f"{2**40} AS {name}_high, 7 AS {name}_low" for name in ("cost", "baseline", "compared")]
    columns = ["'k' AS key_0", *[f"{place} AS {name}" for place, name in enumerate((*counts, *TOKEN_COLUMNS))], *money]
    row = connection.execute(f"SELECT {', '.join(columns)}").fetchone()
    found = sums_of(row, 1)
    assert found.cost_pusd == found.baseline_pusd == found.compared_pusd == 2**72 + 7
    assert (found.keys, found.attempts) == (("k",), 1)
    connection.close()
