"""The tables of the PostgreSQL sink: every column of an attempt, money that no sum of overflows."""

from __future__ import annotations

from service.ledger.sinks import postgres_layout as layout
from service.ledger.sinks.halves import OPEN_COLUMNS, TERMINAL_COLUMNS
from service.ledger.sinks.port import BASELINES
from service.ledger.sinks.rollup import LEVELS, MONEY


def test_every_column_of_an_attempt_is_there():
    """With the type of its kind; texts are compared byte by byte."""
    for name in (*OPEN_COLUMNS, *TERMINAL_COLUMNS):
        assert f" {name} " in layout.MAKE
    for baseline in BASELINES:
        assert f" {baseline.column} bigint" in layout.MAKE
    assert ' model text COLLATE "C"' in layout.MAKE


def test_sums_of_money_are_numeric():
    """64 bits are 9.2 million USD."""
    for name in MONEY:
        assert layout.MAKE.count(f" {name} numeric NOT NULL") == len(LEVELS)
