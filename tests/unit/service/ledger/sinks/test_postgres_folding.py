"""What of a batch the rollups take, and what stands apart from them."""

from __future__ import annotations

import psycopg
import pytest

from service.ledger.lines import Line
from service.ledger.sinks.port import Batch
from service.ledger.sinks.postgres import PostgresSink


@pytest.mark.parametrize(("tags", "apart"), [(["hr"], False), (["hr", "hr"], True), ("odd", True)])
def test_what_has_no_sum_by_tag_stands_apart(tmp_path, postgres, tags, apart):
    """The same tag twice, or what is no list of them; it is counted all the same."""
    url = postgres.database()
    sink = PostgresSink(url, tmp_path)
    sink.prepare()
    opened = {"attempt_id": "a", "decision_id": "d", "at_ms": 5, "tags": tags}
    ended = {"attempt_id": "a", "state": "settled", "at_ms": 6, "cost_pusd": 7}
    sink.store(Batch("w.00000.jsonl", 1, [Line("open", opened, "0"), Line("terminal", ended, "0")]))
    (total,) = sink.sums((), None, None)
    assert total.cost_pusd == 7
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT apart FROM coe_ledger.attempts").fetchone() == (apart,)
    sink.close()
