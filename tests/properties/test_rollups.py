"""What reports add up from the rollups is what the attempts add up to: for any history, range and grouping.

The reference is the plain query over every attempt, which knows no rollup. Histories are made to be unkind: requests of
several attempts on several models and providers, across the ends of hours and days, lines out of order and twice, ends
without a beginning and the reverse, ends that a sweep assumed, figures and tags that no writer of ours writes.
"""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.ledger.lines import encode, skim
from service.ledger.sinks import postgres_reports, rollup, sqlite_folding, sqlite_reports
from service.ledger.sinks.port import GROUPINGS, Batch, Sink
from service.ledger.sinks.postgres import PostgresSink
from service.ledger.sinks.sqlite import SqliteSink

HOUR = rollup.HOUR_MS
BEGIN = 1_795_046_400_000
"""2026-11-19T00:00Z: the last day of a block, so that a history of some days has whole blocks, days and hours."""

PAIRS = tuple(itertools.combinations(GROUPINGS, 2))
SEGMENTS = ("20261121T101500123Z-42-0a1b2c3d.00000.jsonl", "20261121T101500999Z-43-0a1b2c3e.00000.jsonl")


def a_history(chance: random.Random, requests: int) -> list[tuple[int, bytes]]:
    """(segment, line) in the order in which writers would have written them."""
    lines = []
    number = 0
    for request in range(requests):
        at_ms = BEGIN + chance.choice((0, 1, 30, 700)) * HOUR + chance.choice((0, 1, HOUR - 2, chance.randrange(HOUR)))
        segment = chance.randrange(2)
        shared = {
            "key_id": chance.choice((None, "k1", "k2")),
            "tags": chance.choice(([], ["hr"], ["hr", "legal"], ["x"], ["x", "x"], "odd")),
            "intent": chance.choice(("code", "chat")),
            "policy": "balanced",
            "requested_model": "auto",
            "language": chance.choice(("en", "zh", None)),
            "simulated": chance.random() < 0.1,
        }
        attempts = chance.choice((1, 1, 1, 1, 2, 2, 3))
        if chance.random() < 0.8:
            record = {"id": f"d{request}", "request_id": "r", "key_id": "k", "created_ms": 1, "at": "t"}
            record |= {
                "requested": "auto",
                "policy": "b",
                "route": None,
                "plan": chance.choice(("single", "panel", None)),
            }
            lines.append((segment, encode("decision", record)[:-1]))
        for place in range(attempts):
            number += 1
            opened = shared | {
                "attempt_id": f"a{number:04d}",
                "request_id": "r",
                "decision_id": f"d{request}",
                "attempt_number": chance.choice((place + 1, None)),
                "at_ms": at_ms + place * chance.choice((0, 1, 1, 1, HOUR)),
                "model": chance.choice(("small", "large")),
                "kind": chance.choice((None, "answer", "answer", "cache")),
                "provider": chance.choice(("p", "q")),
            }
            if chance.random() < 0.05:
                opened["intent"] = "another"
            if chance.random() < 0.05:
                del opened["decision_id"]
            ended = an_end(chance, opened, final=place == attempts - 1)
            if chance.random() < 0.95:
                lines.append((segment, encode("open", opened)[:-1]))
            if chance.random() < 0.9:
                lines.append((segment, encode("terminal", ended)[:-1]))
            if chance.random() < 0.1:
                crash = {"attempt_id": opened["attempt_id"], "state": "unknown", "at_ms": at_ms + 9, "cost_pusd": 77}
                lines.append((1 - segment, encode("terminal", crash)[:-1]))
            if chance.random() < 0.05:
                lines.append((segment, encode("open", opened | {"model": "small", "at_ms": at_ms + HOUR})[:-1]))
    return lines


def an_end(chance: random.Random, opened: dict[str, object], *, final: bool) -> dict[str, object]:
    body: dict[str, object] = {
        "attempt_id": opened["attempt_id"],
        "state": chance.choice(("settled", "settled", "settled", "estimated", "refused")),
        "at_ms": int(str(opened["at_ms"])) + 5,
        "usage": {"input": chance.randrange(50), "output": chance.choice((0, 3, 2**50)), "requests": 1},
        "usage_source": chance.choice(("provider", "provider", "estimated", None)),
        "cost_pusd": chance.choice((0, 5, 2**62, 2**33 + 1, None, -3)),
        "baseline_pusd": chance.choice((None, 11, 2**63 - 1, -4)),
        "final": chance.choice((final, final, True)),
    }
    return {name: value for name, value in body.items() if value is not None}


def stored(sink: Sink, lines: list[tuple[int, bytes]], chance: random.Random) -> None:
    """In batches of any size, each of one segment."""
    lines = list(lines)
    while lines:
        size = chance.choice((1, 2, 5, 40))
        batch, lines = lines[:size], lines[size:]
        for segment in (0, 1):
            read = [skim(raw) for number, raw in batch if number == segment]
            if read:
                sink.store(Batch(SEGMENTS[segment], 1, read))


def ranges(chance: random.Random) -> list[tuple[int | None, int | None]]:
    edges = [
        None,
        BEGIN,
        BEGIN - 1,
        BEGIN + 1,
        BEGIN + HOUR,
        BEGIN + HOUR - 1,
        BEGIN + 24 * HOUR,
        BEGIN + 700 * HOUR + 1,
    ]
    edges.append(BEGIN + chance.randrange(800 * HOUR))
    found = [
        (None, None),
        *((one, other) for one in edges for other in edges if one is None or other is None or one < other),
    ]
    return chance.sample(found, 6)


def held_against_the_attempts(sink: SqliteSink | PostgresSink, chance: random.Random) -> None:
    """Every grouping by itself, some pairs and a triple, over some ranges; and what was spent."""
    reports = sqlite_reports if isinstance(sink, SqliteSink) else postgres_reports
    triples = [tuple(chance.sample(GROUPINGS, 3))]
    with sink._asking() as connection:
        for since, until in ranges(chance):
            for by in [(), *((name,) for name in GROUPINGS), *chance.sample(PAIRS, 8), *triples]:
                want = reports.plain_sums(connection, by, since, until)
                assert reports.sums(connection, by, since, until) == want, (by, since, until)
        for since in (0, BEGIN, BEGIN + 1, BEGIN + 24 * HOUR):
            assert sorted(reports.spent(connection, since), key=str) == sorted(
                reports.plain_spent(connection, since), key=str
            )


@pytest.fixture
def sink(tmp_path):
    made = SqliteSink(str(tmp_path / "index"))
    made.prepare()
    yield made
    made.close()


@pytest.fixture
def shared(tmp_path, postgres):
    made = PostgresSink(postgres.database(), tmp_path)
    made.prepare()
    yield made
    made.close()


SEEDS = {"seed": st.integers(0, 2**32), "order": st.sampled_from(("written", "shuffled", "reversed"))}


def unkind(chance: random.Random, requests: int, order: str) -> list[tuple[int, bytes]]:
    """A history with some of its lines twice."""
    lines = a_history(chance, requests)
    lines += chance.sample(lines, len(lines) // 5)
    if order == "shuffled":
        chance.shuffle(lines)
    elif order == "reversed":
        lines.reverse()
    return lines


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.integers(1, 60), **SEEDS)
def test_rollups_tell_what_the_attempts_tell(sink, monkeypatch, seed, requests, order):
    """Whatever comes in whatever order, and after it the same once more."""
    chance = random.Random(seed)
    lines = unkind(chance, requests, order)
    sink.clear()
    monkeypatch.setattr(sqlite_folding, "SETTLE_ROWS", chance.choice((1, 1, 3, 20, 1_000)))
    half = len(lines) // 2
    for some in (lines[:half], lines[half:]):
        stored(sink, some, chance)
        held_against_the_attempts(sink, chance)
        assert sink.audit().differences == ()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.integers(1, 20), **SEEDS)
def test_every_sink_tells_the_same(sink, shared, seed, requests, order):
    """PostgreSQL's rollups are its attempts', and its answers are SQLite's to the last pico-dollar."""
    chance = random.Random(seed)
    lines = unkind(chance, requests, order)
    for one in (sink, shared):
        one.clear()
        stored(one, lines, random.Random(seed))
    assert shared.audit().differences == ()
    with sink._asking() as one, shared._asking() as other:
        for since, until in ranges(chance):
            for by in [(), *((name,) for name in GROUPINGS), *chance.sample(PAIRS, 3)]:
                want = sqlite_reports.plain_sums(one, by, since, until)
                assert postgres_reports.sums(other, by, since, until) == want, (by, since, until)
    assert sorted(shared.spent(BEGIN), key=str) == sorted(sink.spent(BEGIN), key=str)
    assert sorted(shared.problems(), key=str) == sorted(sink.problems(), key=str)
