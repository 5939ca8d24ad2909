"""The ClickHouse sink's answers are SQLite's to the last pico-dollar, for any history, range and grouping.

The histories are those of `test_rollups`. SQLite is asked by its plain query over every attempt, which knows no rollup.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from properties.test_rollups import BEGIN, PAIRS, SEEDS, ranges, stored, unkind

from service.ledger.sinks import sqlite_reports
from service.ledger.sinks.clickhouse import ClickHouseSink
from service.ledger.sinks.port import GROUPINGS
from service.ledger.sinks.sqlite import SqliteSink


@pytest.fixture
def sinks(tmp_path, clickhouse):
    made = SqliteSink(str(tmp_path / "index")), ClickHouseSink(clickhouse.database(), tmp_path)
    for sink in made:
        sink.prepare()
    yield made
    for sink in made:
        sink.close()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.integers(1, 20), **SEEDS)
def test_clickhouse_tells_what_sqlite_tells(sinks, seed, requests, order):
    """Lines in any order and twice; damage is found in both."""
    chance = random.Random(seed)
    lines = unkind(chance, requests, order)
    for sink in sinks:
        sink.clear()
        stored(sink, lines, random.Random(seed))
    plain, shared = sinks
    one, other = plain.audit(), shared.audit()
    assert other.differences == ()
    assert (one.attempts, one.opened, one.ended, one.running, one.cost_pusd) == (
        *(other.attempts, other.opened, other.ended, other.running, other.cost_pusd),
    )
    with plain._asking() as connection:
        for since, until in ranges(chance):
            for by in [(), *((name,) for name in GROUPINGS), *chance.sample(PAIRS, 3)]:
                want = sqlite_reports.plain_sums(connection, by, since, until)
                assert shared.sums(by, since, until) == want, (by, since, until)
    assert sorted(shared.spent(BEGIN), key=str) == sorted(plain.spent(BEGIN), key=str)
    assert sorted(shared.problems(), key=str) == sorted(plain.problems(), key=str)
