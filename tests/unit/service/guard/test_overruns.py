"""What is over a soft limit is in the log: once an hour, and never a flood."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from service import telemetry
from service.guard.counting import RATE, Counter
from service.guard.overruns import Overruns
from service.guard.scopes import spend_counters

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY, MONTH = spend_counters(None, ["team"], "2026-11-22")[2:]
RATES = Counter(RATE, "r:k:key_1:q")


@pytest.fixture
def told(capsys):
    """What was logged since it was asked last."""
    telemetry.configure("INFO")

    def lines():
        found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert all(line["event"] == telemetry.BUDGET_EXCEEDED for line in found)
        return sorted((line["key_id"], line["budget"] or "", line["kind"]) for line in found)

    return lines


def test_each_limit_is_told_once_an_hour(told):
    """Of the clock: a thousand requests are one line, and the next hour has its own."""
    overruns = Overruns()
    for second in range(0, 3_600, 4):
        overruns.tell("key_1", {(DAY, "team")}, AT + timedelta(seconds=second))
    assert told() == [("key_1", "team", "day")]
    overruns.tell("key_2", {(DAY, "team")}, AT + timedelta(hours=1))
    assert told() == [("key_2", "team", "day")]


def test_limits_are_told_apart(told):
    """Two budgets on one counter, two counters of one budget, and a key's own."""
    overruns = Overruns()
    overruns.tell("key_1", {(DAY, "tight")}, AT)
    overruns.tell("key_1", {(DAY, "tight"), (DAY, "wide"), (MONTH, "tight"), (RATES, None)}, AT)
    assert told() == [
        ("key_1", "", "requests"),
        ("key_1", "tight", "day"),
        ("key_1", "tight", "month"),
        ("key_1", "wide", "day"),
    ]


def test_only_one_hour_is_remembered():
    """However many keys there are over the years."""
    overruns = Overruns()
    for number in range(1_000):
        overruns.tell(None, {(Counter(RATE, f"r:k:{number}:q"), None)}, AT + timedelta(hours=number))
    assert len(overruns._told) == 1
