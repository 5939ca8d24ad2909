"""Every way in which a rollup can be wrong is told."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from service.ledger.lines import decode, encode
from service.ledger.sinks import sqlite_folding
from service.ledger.sinks.port import Batch
from service.ledger.sinks.sqlite import SqliteSink

SEGMENT = "20261121T101500123Z-42-0a1b2c3d.00000.jsonl"
DAY = 86_400_000


def attempt(number, day, decision=None, model="small"):
    names = {"attempt_id": f"a{number}", "decision_id": decision or f"d{number}", "at_ms": day * DAY, "model": model}
    end = {"attempt_id": f"a{number}", "state": "settled", "at_ms": day * DAY + 9, "cost_pusd": 5, "final": True}
    return decode(encode("open", names)[:-1]), decode(encode("terminal", end)[:-1])


@pytest.fixture
def sink(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_folding, "SETTLE_ROWS", 1)
    made = SqliteSink(str(tmp_path / "ledger.sqlite"))
    made.prepare()
    for number, day in enumerate((10, 10, 11, 40, 41, 80)):
        made.store(Batch(SEGMENT, 1, attempt(number, day)))
    made.store(Batch(SEGMENT, 1, [*attempt(90, 10), *attempt(91, 10, "d90", "large")]))
    yield made
    made.close()


def test_what_holds_has_no_difference(sink):
    """And says how many rows there are, and what they cost."""
    found = sink.audit()
    assert (found.attempts, found.opened, found.ended, found.running) == (8, 8, 8, {})
    assert (found.cost_pusd, found.differences) == (40, ())


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE rollup_hours SET attempts = 2 WHERE start = 264", "rollup_hours: 2 sums of 1970-01-12"),
        ("UPDATE rollup_hours SET cost_high = 1 WHERE start = 264", "rollup_hours: 2 sums of 1970-01-12"),
        ("DELETE FROM rollup_hours WHERE start = 264", "rollup_hours: 1 sums of 1970-01-12"),
        ("UPDATE rollup_hours SET start = 265 WHERE start = 264", "rollup_hours: 2 sums of 1970-01-12"),
        ("UPDATE rollup_hours SET start = 1 WHERE start = 264", "rollup_hours: 1 sums of 1970-01-01"),
        ("UPDATE rollup_days SET requests = 0 WHERE start = 11", "rollup_days: 2 sums"),
        ("DELETE FROM rollup_days WHERE start = 11", "rollup_days: 1 sums"),
        ("UPDATE rollup_blocks SET baseline_compared_low = 3 WHERE start = 0", "rollup_blocks: "),
        ("UPDATE folded SET before = 41 WHERE level = 'rollup_days'", "rollup_days: 1 sums"),
        ("INSERT INTO apart SELECT id FROM attempts WHERE attempt_id = 'a91'", "1 requests are in the rollups"),
        ("INSERT INTO waiting SELECT id FROM attempts WHERE attempt_id = 'a2'", "rollup_hours: 1 sums of 1970-01-12"),
        ("UPDATE attempts SET at_ms = at_ms + 3600000 WHERE attempt_id = 'a91'", "1 requests are in the rollups"),
        ("UPDATE attempts SET key_id = 'k' WHERE attempt_id = 'a91'", "1 requests are in the rollups"),
        ("UPDATE attempts SET state = 'open' WHERE attempt_id = 'a1'", "1 requests are in the rollups"),
        ("UPDATE attempts SET input_tokens = 1 WHERE attempt_id = 'a2'", "rollup_hours: 2 sums of 1970-01-12"),
        ("UPDATE dimensions SET model = 'other' WHERE model = 'large'", "rollup_hours: 2 sums of 1970-01-11"),
    ],
)
def test_a_difference_is_told(sink, statement, told):
    """Of the sums from the attempts, of coarse ones from fine ones, and of who is in them."""
    with closing(sqlite3.connect(sink.path)) as connection:
        connection.execute(statement)
        connection.commit()
    assert told in "\n".join(sink.audit().differences)


def test_an_empty_index_holds(tmp_path):
    """There is nothing that could differ."""
    sink = SqliteSink(str(tmp_path / "new.sqlite"))
    sink.prepare()
    found = sink.audit()
    sink.close()
    assert (found.attempts, found.cost_pusd, found.differences) == (0, 0, ())
