"""Reports of the SQLite sink beside the plain query; random histories are in tests/properties/test_rollups.py."""

from __future__ import annotations

import pytest

from service.ledger.lines import decode, encode
from service.ledger.sinks import sqlite_folding
from service.ledger.sinks import sqlite_reports as module
from service.ledger.sinks.port import Batch
from service.ledger.sinks.rollup import HOUR_MS
from service.ledger.sinks.sqlite import SqliteSink


@pytest.fixture
def sink(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_folding, "SETTLE_ROWS", 1)
    made = SqliteSink(str(tmp_path / "ledger.sqlite"))
    made.prepare()
    yield made
    made.close()


def lines(number, at_ms):
    opened = {"attempt_id": f"a{number}", "decision_id": f"d{number}", "at_ms": at_ms, "model": "small"}
    ended = {"attempt_id": f"a{number}", "state": "settled", "at_ms": at_ms, "cost_pusd": number, "final": True}
    return [decode(encode(kind, body)[:-1]) for kind, body in (("open", opened), ("terminal", ended))]


@pytest.mark.parametrize("by", [(), ("model",), ("day",), ("day", "model")])
def test_a_range_that_cuts_hours_is_put_together(sink, by):
    """Whole hours from the rollups, the two ends from the attempts: the same as from the attempts alone."""
    stored = [line for number in range(200) for line in lines(number, number * HOUR_MS // 4)]
    sink.store(Batch("w.00000.jsonl", 1, stored))
    with sink._asking() as connection:
        for bounds in ((None, None), (HOUR_MS // 2, 30 * HOUR_MS + 1), (1, HOUR_MS), (5, 6)):
            found = module.sums(connection, by, *bounds)
            assert found == module.plain_sums(connection, by, *bounds)
        assert sum(row.cost_pusd for row in module.sums(connection, by, None, None)) == sum(range(200))
