"""The words between a process and its store: what two programs in two languages must read alike."""

from __future__ import annotations

import re

from service.domain.limits import CONCURRENCY_MAX, PER_MINUTE_MAX, PUSD_MAX
from service.guard.counting import DRAIN_MS_MAX, FIRST_KEY, MINUTE_MS, MONEY, Counter, Line, Message, Reply, State
from service.guard.redis_link import SCRIPT
from service.guard.tallies import IDLE_MS

EXACT = 2**53
"""Whole numbers up to here are exact in a double, which is all that Lua has."""


def test_the_fullest_bucket_is_exact_in_lua():
    """With the largest rate, and one request as large as the limit on top."""
    assert PER_MINUTE_MAX * DRAIN_MS_MAX + PER_MINUTE_MAX * MINUTE_MS < EXACT
    assert CONCURRENCY_MAX < EXACT


def test_money_is_exact_in_64_bits():
    """A full budget, and a reservation as large as any."""
    assert 2 * PUSD_MAX < 2**63


def test_both_stores_have_the_same_numbers():
    """Of the states, of the keys before the counters, of a bucket."""
    told = dict(re.findall(r"^local ([A-Z_, ]+) = ([0-9, ]+)$", SCRIPT, re.MULTILINE))
    numbers = {
        name: int(value)
        for names, values in told.items()
        for name, value in zip(names.split(", "), values.split(", "), strict=True)
    }
    assert {state.name: numbers[state.name] for state in State} == {state.name: state.value for state in State}
    assert (numbers["MINUTE_MS"], numbers["DRAIN_MS_MAX"], numbers["IDLE_MS"]) == (MINUTE_MS, DRAIN_MS_MAX, IDLE_MS)
    assert set(re.findall(r"KEYS\[(\d) \+", SCRIPT)) == {str(FIRST_KEY)}
    assert {int(one) for one in re.findall(r"KEYS\[(\d)\]", SCRIPT)} == set(range(1, FIRST_KEY + 1))


def test_a_counter_is_its_value():
    """Two that say the same are the same: lines of two budgets on one tag meet in one."""
    assert Counter(MONEY, "m:a:2026-11", 5) == Counter(MONEY, "m:a:2026-11", 5)
    assert len({Counter(MONEY, "m:a:2026-11", 5), Counter(MONEY, "m:a:2026-11", 5)}) == 1


def test_what_is_not_said_is_the_careful_reading():
    """A line is hard, a message comes from somebody who was here before, a reply has nothing."""
    assert not Line(Counter(MONEY, "m:a:2026-11"), 1, 1).soft
    assert not Message("one", 1, 0, 1_000).joins
    assert (Reply(State.OLD).wait_ms, Reply(State.OLD).verdicts) == (0, ())
