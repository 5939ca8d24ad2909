"""The tables of the ClickHouse sink: every column of an attempt, each table by source."""

from __future__ import annotations

from service.ledger.sinks import clickhouse_layout as layout
from service.ledger.sinks.halves import OPEN_COLUMNS, TERMINAL_COLUMNS
from service.ledger.sinks.port import BASELINES


def test_every_column_of_an_attempt_is_there():
    """With the type of its kind; the bits of all baselines fit."""
    for name in (*OPEN_COLUMNS, *TERMINAL_COLUMNS):
        assert f" {name} " in layout.MAKE[layout.ATTEMPTS]
    for baseline in BASELINES:
        assert f" {baseline.column} Nullable(Int64)" in layout.MAKE[layout.ATTEMPTS]
    assert len(BASELINES) <= 32


def test_every_table_but_the_layout_belongs_to_sources():
    """So that one source's rows can be dropped at once; the checkpoints first."""
    assert {*layout.OWNED, layout.LAYOUT_TABLE} == set(layout.MAKE)
    assert layout.OWNED[0] == layout.CHECKPOINT
    for table in layout.OWNED:
        assert "ReplacingMergeTree(version) PARTITION BY source" in layout.MAKE[table]
