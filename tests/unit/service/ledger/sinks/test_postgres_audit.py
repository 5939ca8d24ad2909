"""An audit finds what the rollups say that the attempts do not."""

from __future__ import annotations

import psycopg
import pytest

from service.ledger.lines import decode, encode
from service.ledger.sinks.port import Batch
from service.ledger.sinks.postgres import PostgresSink
from service.ledger.sinks.rollup import HOUR_MS


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE coe_ledger.rollup_hours SET cost = cost + 1 WHERE start = 0", "rollup_hours: 2 sums of 1970-01-01"),
        ("UPDATE coe_ledger.rollup_days SET requests = 9 WHERE start = 0", "rollup_days: 2 sums"),
        ("UPDATE coe_ledger.rollup_octets SET baseline_compared = 3 WHERE start = 0", "rollup_octets: 2 sums"),
        ("DELETE FROM coe_ledger.rollup_blocks", "rollup_blocks: 2 sums"),
        ("DELETE FROM coe_ledger.attempts WHERE attempt_id = 'a1'", "rollup_hours: 1 sums"),
        ("UPDATE coe_ledger.attempts SET cost_pusd = 4 WHERE attempt_id = 'a1'", "rollup_hours: 2 sums"),
        ("UPDATE coe_ledger.attempts SET apart = true WHERE attempt_id = 'a1'", "rollup_hours: 1 sums"),
        ("UPDATE coe_ledger.attempts SET decision_id = 'd2' WHERE attempt_id = 'a1'", "1 requests are in"),
    ],
)
def test_a_difference_is_told(tmp_path, postgres, statement, told):
    """Of every level; of attempts that are gone, changed or out of place."""
    url = postgres.database()
    sink = PostgresSink(url, tmp_path)
    sink.prepare()
    lines = []
    for number in range(1, 4):
        at_ms = (number - 1) * 800 * HOUR_MS
        opened = {"attempt_id": f"a{number}", "decision_id": f"d{number}", "at_ms": at_ms, "model": "small"}
        ended = {"attempt_id": f"a{number}", "state": "settled", "at_ms": at_ms + 9, "cost_pusd": 5, "final": True}
        lines += [decode(encode("open", opened)[:-1]), decode(encode("terminal", ended)[:-1])]
    sink.store(Batch("w.00000.jsonl", 1, lines))
    assert sink.audit().differences == ()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
    found = sink.audit().differences
    assert any(one.startswith(told) for one in found), found
    sink.close()
