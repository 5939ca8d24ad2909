"""The two visits: who takes part, what is found, what is kept and what not, and what is counted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from scenery import NOW, a_catalog, a_chat, a_model, decided

from service import telemetry
from service.cache.answer_cache import BYPASS, MISS, NOTED_BYTES_MAX, REASONS, WRITES_MAX, AnswerCache
from service.cache.memory import MemoryStore
from service.cache.sealing import Kept
from service.cache.stores import StoreAway
from service.domain.access import ANONYMOUS, Caller
from service.domain.catalog import CacheSpec

SPEC = CacheSpec(ttl_s=60, answer_bytes_max=2_000, memory_bytes=100_000)
BODY = orjson.dumps({"id": "1", "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]})
STREAM = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'


class Clock:
    """Stands in the test's hand."""

    def __init__(self):
        self.at = NOW

    def utc(self):
        return self.at

    def monotonic(self):
        return (self.at - datetime(2026, 1, 1, tzinfo=UTC)).total_seconds()


class Stage:
    """A cache in memory whose clock stands in the test's hand."""

    def __init__(self, spec=SPEC):
        self.clock = Clock()
        self.store = MemoryStore(self.clock.monotonic)
        self.cache = AnswerCache(self.store, b"s" * 32, self.clock)
        self.cache.fit(spec)
        self.catalog = a_catalog(a_model("m"), cache=spec)

    def visit(self, caller=ANONYMOUS, **body):
        chat = a_chat(**{"temperature": 0, **body})
        return self.cache.visit(chat, caller, decided(chat, self.catalog), self.catalog)

    def kept(self, **changes):
        at_ms = int(self.clock.at.timestamp() * 1000)
        made = {"body": BODY, "content_type": "application/json", "stream": False, "at_ms": at_ms, "deployment": "p/m"}
        return Kept(**{**made, "attempt_id": "att_1", "cost_pusd": 7, **changes})

    async def keep(self, visit, *, given_up=False, **changes):
        self.cache.keep(visit, self.kept(**changes), given_up=given_up)
        await asyncio.sleep(0.01)

    async def found(self, **body):
        return await self.cache.find(self.visit(**body))

    def figure(self, name):
        return self.cache.figures()[name]


async def test_off_means_off():
    stage = Stage()
    stage.catalog = a_catalog(a_model("m"))
    assert stage.visit(coe={"cache": True}) is None
    assert await stage.cache.find(None) is None
    stage.cache.keep(None, stage.kept(), given_up=False)
    assert stage.figure(telemetry.CACHE_MISSES) == 0


async def test_what_was_kept_is_found_by_its_tenant_alone():
    stage = Stage()
    one, two = Caller("key_1", "same name"), Caller("key_2", "same name")
    visit = stage.visit(one)
    assert await stage.cache.find(visit) is None
    assert visit.told == MISS
    await stage.keep(visit)
    assert await stage.cache.find(stage.visit(one)) == stage.kept()
    assert await stage.cache.find(stage.visit(two)) is None
    assert await stage.cache.find(stage.visit(ANONYMOUS)) is None
    assert stage.figure(telemetry.CACHE_STORED) == 1


@pytest.mark.parametrize(
    ("body", "sampled", "takes_part"),
    [
        ({"temperature": 0}, False, True),
        ({"temperature": 0.0}, False, True),
        ({"temperature": None}, False, False),
        ({"temperature": 0.1}, False, False),
        ({"temperature": 1, "seed": 7}, False, False),
        ({"temperature": 0, "web_search_options": {}}, False, False),
        ({"temperature": 1}, True, True),
        ({"temperature": 1, "coe": {"cache": True}}, False, True),
        ({"temperature": 1, "coe": {"cache": {}}}, False, True),
        ({"temperature": 0, "coe": {"cache": False}}, True, False),
    ],
    ids=str,
)
async def test_who_takes_part(body, sampled, takes_part):
    """Who wants the likeliest answer; others who ask for it, or where the operator says so."""
    stage = Stage(CacheSpec(ttl_s=60, sampled=sampled))
    visit = stage.visit(**body)
    assert (visit.reads, visit.writes) == (takes_part, takes_part)
    assert visit.told == BYPASS
    await stage.cache.find(visit)
    assert visit.told == (MISS if takes_part else BYPASS)


async def test_reading_and_writing_are_asked_for_apart():
    stage = Stage()
    await stage.keep(stage.visit(coe={"cache": {"write": False}}))
    assert await stage.found() is None
    await stage.keep(stage.visit(coe={"cache": {"read": False}}))
    assert await stage.found(coe={"cache": {"read": False}}) is None
    assert await stage.found(coe={"cache": {"write": False}}) == stage.kept()


async def test_a_caller_may_want_it_younger_and_kept_for_less_never_for_longer():
    stage = Stage()
    await stage.keep(stage.visit(coe={"cache": {"ttl_s": 600}}))
    stage.clock.at += timedelta(seconds=30)
    assert await stage.found(coe={"cache": {"ttl_s": 30}}) is None
    assert await stage.found(coe={"cache": {"ttl_s": 31}}) is not None
    stage.clock.at += timedelta(seconds=30)
    assert await stage.found(coe={"cache": {"ttl_s": 600}}) is None
    await stage.keep(stage.visit(coe={"cache": {"ttl_s": 5}}))
    stage.clock.at += timedelta(seconds=5)
    assert await stage.found() is None


async def test_what_comes_from_the_future_is_not_believed():
    """A clock that was set back; a few seconds between replicas are nothing."""
    stage = Stage()
    ahead_ms = int(stage.clock.at.timestamp() * 1000) + 4_000
    await stage.keep(stage.visit(), at_ms=ahead_ms)
    assert await stage.found() is not None
    await stage.keep(stage.visit(), at_ms=ahead_ms + 2_000)
    assert await stage.found() is None


async def test_a_stream_is_given_as_a_stream():
    stage = Stage()
    visit = stage.visit(stream=True)
    visit.note(STREAM[:10])
    visit.note(STREAM[10:])
    await stage.keep(visit, body=b"".join(visit.pieces), stream=True)
    assert (await stage.found(stream=True)).body == STREAM
    assert await stage.found() is None


@pytest.mark.parametrize(
    ("changes", "given_up", "reason"),
    [
        ({"body": BODY.replace(b"stop", b"length")}, False, "unfinished"),
        ({"body": BODY[:-1]}, False, "unfinished"),
        ({"body": BODY + b" " * 2_000}, False, "too_large"),
        ({"content_type": "x" * 5_000}, False, "too_large"),
        ({}, True, "given_up"),
    ],
    ids=str,
)
async def test_what_is_not_kept_is_counted_by_its_reason(changes, given_up, reason):
    stage = Stage()
    await stage.keep(stage.visit(), given_up=given_up, **changes)
    assert await stage.found() is None
    assert stage.figure(telemetry.CACHE_NOT_KEPT) == {one: int(one == reason) for one in REASONS}
    assert stage.figure(telemetry.CACHE_STORED) == 0


async def test_a_stream_that_grows_too_large_is_remembered_no_further():
    stage = Stage()
    visit = stage.visit(stream=True)
    for _ in range(1_000):
        visit.note(STREAM)
    assert not visit.pieces
    assert visit.room.left == NOTED_BYTES_MAX
    await stage.keep(visit, body=b"", stream=True)
    assert stage.figure(telemetry.CACHE_NOT_KEPT)["too_large"] == 1


async def test_streams_under_way_share_what_is_remembered_of_them():
    """One that finds no room is not kept, and whoever ends makes room."""
    stage = Stage(CacheSpec(ttl_s=60, answer_bytes_max=NOTED_BYTES_MAX))
    first, second, third = (stage.visit(stream=True, seed=number) for number in range(3))
    first.note(b"x" * (NOTED_BYTES_MAX - 10))
    second.note(STREAM)
    assert (second.lost, second.pieces) == ("busy", [])
    second.note(b"x")
    assert not second.pieces
    await stage.keep(second, body=b"", stream=True)
    assert stage.figure(telemetry.CACHE_NOT_KEPT)["busy"] == 1
    for _ in range(2):
        first.forget()
    third.note(STREAM)
    await stage.keep(third, body=b"".join(third.pieces), stream=True)
    third.forget()
    assert third.room.left == NOTED_BYTES_MAX
    assert await stage.found(stream=True, seed=2) is not None


async def test_a_store_that_lies_is_not_believed(capsys):
    """An answer of another name, and bytes of somebody else: each is a miss, and told."""
    telemetry.configure("INFO")
    stage = Stage()
    await stage.keep(stage.visit(Caller("key_1", "n")))
    (value, _), mine = next(iter(stage.store._values.values())), stage.visit()
    await stage.store.put(mine.name, value, 60)
    assert await stage.cache.find(mine) is None
    await stage.store.put(mine.name, b"coe1" + b"x" * 300, 60)
    assert await stage.cache.find(stage.visit()) is None
    assert stage.figure(telemetry.CACHE_ERRORS) == 2
    assert capsys.readouterr().err.count('"cache_forged"') == 2


class Away:
    """A store that is not there."""

    problem, evicted, held_bytes = "gone", 0, 0

    async def get(self, *_):
        raise StoreAway(self.problem)

    async def put(self, *_):
        raise StoreAway(self.problem)

    def fit(self, _):
        pass

    async def close(self):
        pass


async def test_a_store_that_is_away_is_a_miss_and_no_error():
    stage = Stage()
    stage.cache = AnswerCache(Away(), b"s" * 32, stage.clock)
    visit = stage.visit()
    assert await stage.cache.find(visit) is None
    assert (visit.told, visit.away, stage.cache.problem) == (MISS, True, "gone")
    await stage.keep(visit)
    assert stage.figure(telemetry.CACHE_ERRORS) == 2
    await stage.cache.close()


async def test_no_more_are_on_their_way_than_may_be():
    class Slow(Away):
        problem = ""

        async def put(self, *_):
            await asyncio.sleep(0.05)

    stage = Stage()
    stage.cache = AnswerCache(Slow(), b"s" * 32, stage.clock)
    for number in range(WRITES_MAX + 3):
        stage.cache.keep(stage.visit(seed=number), stage.kept(), given_up=False)
    assert stage.figure(telemetry.CACHE_NOT_KEPT)["busy"] == 3
    await stage.cache.close()
    assert stage.figure(telemetry.CACHE_STORED) == WRITES_MAX


async def test_another_registry_without_a_cache_lets_go_of_everything():
    stage = Stage()
    await stage.keep(stage.visit())
    assert stage.figure(telemetry.CACHE_BYTES) > len(BODY)
    stage.cache.fit(None)
    assert stage.figure(telemetry.CACHE_BYTES) == 0


async def test_what_was_given_is_counted_with_what_it_had_cost():
    stage = Stage()
    visit = stage.visit()
    stage.cache.given(visit, stage.kept(cost_pusd=5))
    stage.cache.given(stage.visit(), stage.kept(cost_pusd=None))
    assert (visit.told, visit.writes) == ("hit", False)
    assert (stage.figure(telemetry.CACHE_HITS), stage.figure(telemetry.CACHE_SAVED)) == (2, 5)
