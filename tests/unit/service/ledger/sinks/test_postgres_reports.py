"""Reports of the PostgreSQL sink beside the plain query; random histories are in tests/properties/test_rollups.py."""

from __future__ import annotations

import pytest

from service.ledger.lines import decode, encode
from service.ledger.sinks import postgres_reports as module
from service.ledger.sinks.port import Batch
from service.ledger.sinks.postgres import PostgresSink
from service.ledger.sinks.rollup import HOUR_MS


def lines(number, at_ms):
    opened = {"attempt_id": f"a{number}", "decision_id": f"d{number}", "at_ms": at_ms, "model": "small", "tags": ["t"]}
    ended = {"attempt_id": f"a{number}", "state": "settled", "at_ms": at_ms, "cost_pusd": number, "final": True}
    return [decode(encode(kind, body)[:-1]) for kind, body in (("open", opened), ("terminal", ended))]


@pytest.fixture
def sink(tmp_path, postgres):
    made = PostgresSink(postgres.database(), tmp_path)
    made.prepare()
    yield made
    made.close()


def test_a_range_that_cuts_hours_is_put_together(sink):
    """Whole hours from the rollups, the two ends from the attempts: the same as from the attempts alone."""
    stored = [line for number in range(200) for line in lines(number, number * HOUR_MS // 4)]
    sink.store(Batch("w.00000.jsonl", 1, stored))
    with sink._asking() as connection:
        for by in ((), ("model",), ("day",), ("day", "tag")):
            for bounds in ((None, None), (HOUR_MS // 2, 30 * HOUR_MS + 1), (1, HOUR_MS), (5, 6)):
                found = module.sums(connection, by, *bounds)
                assert found == module.plain_sums(connection, by, *bounds)
        assert sum(row.cost_pusd for row in module.sums(connection, (), None, None)) == sum(range(200))
