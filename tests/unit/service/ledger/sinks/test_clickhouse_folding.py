"""What a batch becomes before it is written: whole rows, and what each adds to reports."""

from __future__ import annotations

import orjson
import pytest

from service.ledger.lines import Line
from service.ledger.sinks import clickhouse_folding as module
from service.ledger.sinks import clickhouse_layout as layout
from service.ledger.sinks.clickhouse import ClickHouseSink
from service.ledger.sinks.clickhouse_client import Client, place_of
from service.ledger.sinks.port import Batch

SEGMENT = "w.00000.jsonl"


def opened(name, decision="d", seal="0", **more):
    return Line("open", {"attempt_id": name, "decision_id": decision, "at_ms": 5, **more}, seal)


def ended(name, **more):
    body = {"attempt_id": name, "state": "settled", "at_ms": 9, "cost_pusd": 5, "final": True, "baseline_pusd": 7}
    return Line("terminal", body | more, "0")


@pytest.fixture
def place(clickhouse, tmp_path):
    """(a sink, what a batch would write into it: {attempt: (picked, charged)})."""
    url = clickhouse.database()
    sink = ClickHouseSink(url, tmp_path)
    sink.prepare()

    def written(*lines):
        with Client(place_of(url)) as client:
            found = module.change(client, sink._source, Batch(SEGMENT, 1, lines), "w", module.Versions())
        rows = [orjson.loads(row) for row in found[layout.ATTEMPTS]]
        return {row["attempt_id"]: (row["picked"] & 1, row["charged"] & 1) for row in rows}

    yield sink, written
    sink.close()


def test_the_others_of_a_request_are_looked_at_again(place):
    """The last final one has the baseline; one that is not priced takes it from all; what is as it was is not written."""
    sink, written = place
    assert written(opened("a"), ended("a")) == {"a": (1, 1)}
    sink.store(Batch(SEGMENT, 1, [opened("a"), ended("a")]))
    assert written(opened("a"), ended("a")) == {}
    assert written(opened("b"), ended("b")) == {"a": (0, 1), "b": (1, 1)}
    assert written(opened("b"), ended("b", cost_pusd=None)) == {"a": (0, 0), "b": (0, 0)}
    crashed = ended("b", state="unknown", final=False, cost_pusd=3)
    assert written(opened("b"), crashed) == {"b": (0, 1)}


def test_an_attempt_that_joins_another_request_leaves_its_own(place):
    """Two beginnings are damage, the lower rank counts; both requests are as if nothing else had been."""
    sink, written = place
    sink.store(Batch(SEGMENT, 1, [opened("a", seal="5"), ended("a"), opened("b", seal="5"), ended("b")]))
    assert written(opened("b", decision="e", seal="1")) == {"a": (1, 1), "b": (1, 1)}


def test_versions_rise_whatever_the_clock_says(monkeypatch):
    """Above what was given, and what was read."""
    versions = module.Versions()
    first = versions.next()
    monkeypatch.setattr(module.time, "time_ns", lambda: 5)
    assert versions.next() == first + 1
    assert versions.next([first + 9]) == first + 10


@pytest.mark.parametrize(
    ("tags", "want"),
    [
        ("[]", [None]),
        ('["a","a"]', ["a", "a"]),
        ('"odd"', ["odd"]),
        ('{"x":"y"}', ["y"]),
        ("[1,null]", ["1", None]),
    ],
)
def test_tags_are_taken_apart(tags, want):
    """As SQLite does it; an attempt without any stands in a group of its own."""
    assert module._tags(tags) == want
