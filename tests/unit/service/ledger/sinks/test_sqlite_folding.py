"""Rollups that keep up: what changes when lines come, what goes, what is folded, what a failed batch leaves."""

from __future__ import annotations

import pytest

from service.ledger.lines import decode, encode
from service.ledger.sinks import sqlite_folding as module
from service.ledger.sinks.port import Batch, Problem
from service.ledger.sinks.rollup import HOUR_MS, LEVELS
from service.ledger.sinks.sqlite import SqliteSink
from service.ledger.sinks.sqlite_layout import LEFT_OUT

SEGMENT = "20261121T101500123Z-42-0a1b2c3d.00000.jsonl"
DAY = 24 * HOUR_MS


@pytest.fixture
def sink(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SETTLE_ROWS", 1)
    made = SqliteSink(str(tmp_path / "ledger.sqlite"))
    made.prepare()
    yield made
    made.close()


def lines(number, at_ms=10 * DAY, decision=None, **changes):
    names = {"attempt_id": f"a{number}", "decision_id": decision or f"d{number}", "at_ms": at_ms, "model": "small"}
    end = {"attempt_id": f"a{number}", "state": "settled", "at_ms": at_ms + 9, "cost_pusd": 5, "final": True}
    return decode(encode("open", names | changes)[:-1]), decode(encode("terminal", end)[:-1])


def rolled(sink, level=LEVELS[0]):
    """(period, model, attempts, requests, cost) of every row."""
    with sink._asking() as connection:
        return connection.execute(
            f"SELECT start, model, attempts, requests, (cost_high << 32) + cost_low FROM {level.table} JOIN dimensions ON id = dimensions"  # noqa: S608 # a literal
        ).fetchall()


def apart(sink):
    with sink._asking() as connection:
        query = f"SELECT attempt_id FROM attempts WHERE id IN ({LEFT_OUT}) ORDER BY 1"  # noqa: S608 # a literal
        return [name for (name,) in connection.execute(query)]


def store(sink, *some):
    sink.store(Batch(SEGMENT, 1, some))


def test_an_attempt_is_added_when_it_has_ended(sink):
    """Until then it stands apart."""
    opened, ended = lines(1)
    store(sink, opened)
    assert (rolled(sink), apart(sink)) == ([], ["a1"])
    store(sink, ended)
    assert (rolled(sink), apart(sink)) == ([(240, "small", 1, 1, 5)], [])


def test_a_second_attempt_takes_the_first_out_and_brings_it_back(sink):
    """While it runs the whole request stands apart; then both are in, and the request once."""
    store(sink, *lines(1))
    opened, ended = lines(2, decision="d1")
    store(sink, opened)
    assert (rolled(sink), apart(sink)) == ([], ["a1", "a2"])
    store(sink, ended)
    assert (rolled(sink), apart(sink)) == ([(240, "small", 2, 1, 10)], [])


def test_two_attempts_that_come_whole_in_one_batch_are_one_request(sink):
    """And so are two of which the first was stored before."""
    store(sink, *lines(1), *lines(2, decision="d1"))
    store(sink, *lines(3, decision="d1"))
    assert rolled(sink) == [(240, "small", 3, 1, 15)]


def test_the_same_tag_twice_stands_apart(sink):
    """In a report by tag it would count twice; it does there, and nowhere else."""
    store(sink, *lines(1, tags=["hr", "hr"]))
    assert (rolled(sink), apart(sink)) == ([], ["a1"])
    assert sink.sums(("tag",), None, None)[0].attempts == 2


def test_days_and_blocks_are_folded_when_they_are_over(sink):
    """By the first attempt of a later one; what comes late is added to all of them."""
    days, _, blocks = LEVELS[1:]
    store(sink, *lines(1, at_ms=10 * DAY), *lines(2, at_ms=10 * DAY + HOUR_MS))
    assert (rolled(sink, days), rolled(sink, blocks)) == ([], [])
    store(sink, *lines(3, at_ms=11 * DAY))
    assert (rolled(sink, days), rolled(sink, blocks)) == ([(10, "small", 2, 2, 10)], [])
    store(sink, *lines(4, at_ms=32 * DAY))
    store(sink, *lines(5, at_ms=10 * DAY))
    assert rolled(sink, days) == [(10, "small", 3, 3, 15), (11, "small", 1, 1, 5)]
    assert rolled(sink, blocks) == [(0, "small", 4, 4, 20)]
    assert sink.audit().differences == ()


def test_a_failed_batch_leaves_no_number_behind(sink):
    """The numbers it gave to names were taken back with it."""
    with pytest.raises(Exception, match=r"."):
        sink.store(Batch(SEGMENT, 2, lines(1), (Problem(SEGMENT, object(), "unstorable"),)))
    store(sink, *lines(2, model="large"))
    store(sink, *lines(1))
    assert rolled(sink) == [(240, "large", 1, 1, 5), (240, "small", 1, 1, 5)]


def test_little_waits_and_is_counted_all_the_same(sink, monkeypatch):
    """Added one by one until there is enough; a process that comes later knows how much waits."""
    monkeypatch.setattr(module, "SETTLE_ROWS", 3)
    store(sink, *lines(1))
    assert (rolled(sink), apart(sink)) == ([], ["a1"])
    assert sink.sums((), None, None)[0].cost_pusd == 5
    sink.close()
    sink.prepare()
    store(sink, *lines(2))
    assert rolled(sink) == []
    store(sink, *lines(3))
    assert (rolled(sink), apart(sink)) == ([(240, "small", 3, 3, 15)], [])
