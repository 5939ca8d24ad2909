"""How limits stand: looked at in the counters that refuse, in memory and in a real Redis, without a trace."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from redis_server import RedisServer

from service.domain.limits import Budget, Limits
from service.guard.counters import LocalCounters, SharedCounters
from service.guard.counting import Line
from service.guard.redis_link import RedisLink
from service.guard.scopes import budgets_of, rates_and_slots, scope_of
from service.guard.standing import LINES_PER_ASK, standings

AT = datetime.now(UTC)
EVERYTHING = Limits(
    day_pusd=4_000_000 * 10**12 - 1,
    month_pusd=3_999_999 * 10**12,
    requests_per_minute=60,
    tokens_per_minute=1_000,
    concurrency=3,
)


@pytest.fixture
def redis(tmp_path):
    server = RedisServer(tmp_path / "redis")
    yield server
    server.kill()


async def _shared(server):
    counters = SharedCounters(RedisLink(server.url, "test"))
    counters.start("member")
    assert await counters.is_ready(10)
    return counters


async def _seen(counters):
    """What is told of a scope before anything, with something held, and what Redis or memory kept of looking."""
    scope = scope_of(Budget("lab", EVERYTHING, "lab"))
    before = await standings(counters, [scope], AT)
    day = AT.strftime("%Y-%m-%d")
    amounts = (4_000_000 * 10**12 - 2, 7, 1, 250, 2)
    lines = [
        Line(counter, amount, limit)
        for (counter, limit), amount in zip([*budgets_of(scope, day), *rates_and_slots(scope)], amounts, strict=True)
    ]
    verdict = await counters.ask([lines])
    assert verdict.taken == 0
    after = await standings(counters, [scope], AT)
    return [one.used for one in before], [(one.measure, one.limit, one.used, one.left) for one in after]


WANTED = [
    ("day", 4_000_000 * 10**12 - 1, 4_000_000 * 10**12 - 2, 1),
    ("month", 3_999_999 * 10**12, 7, 3_999_999 * 10**12 - 7),
    ("requests", 60, 1, 59),
    ("tokens", 1_000, 250, 750),
    ("concurrency", 3, 2, 1),
]


async def test_what_is_used_is_told_exactly_in_memory():
    """In the unit of each limit."""
    before, after = await _seen(LocalCounters(lambda: 10**12))
    assert before == [0] * 5
    assert after == WANTED


async def test_what_is_used_is_told_exactly_by_redis_and_looking_leaves_nothing(redis):
    """The same words; rates drain while it is looked, so they are told as of then."""
    counters = await _shared(redis)
    await standings(counters, [scope_of(Budget("lab", EVERYTHING, "lab"))], AT)
    kept = redis.command("KEYS", "*lab*")
    assert kept == b"*0\r\n", kept
    before, after = await _seen(counters)
    await counters.close()
    assert before == [0] * 5
    assert [one for one in after if one[0] not in {"requests", "tokens"}] == [WANTED[0], WANTED[1], WANTED[4]]
    assert {one[0]: one[2] for one in after if one[0] in {"requests", "tokens"}}["tokens"] in range(200, 251)


async def test_many_limits_are_looked_at_in_steps():
    """Each in its place, however many."""
    scopes = [scope_of(Budget(f"b{one}", Limits(day_pusd=one), f"t{one}")) for one in range(3 * LINES_PER_ASK)]
    counters = LocalCounters(lambda: 10**12)
    asks = []

    async def ask(ask):
        asks.append(len(ask[0]))
        return await LocalCounters.ask(counters, ask)

    counters_ask, counters.ask = counters.ask, ask
    told = await standings(counters, scopes, AT)
    counters.ask = counters_ask
    assert [(one.budget, one.limit, one.left) for one in told] == [
        (f"b{one}", one, one) for one in range(3 * LINES_PER_ASK)
    ]
    assert asks == [LINES_PER_ASK + 1] * 3


async def test_a_limit_that_is_exceeded_has_nothing_left():
    """Never less than nothing."""
    counters = LocalCounters(lambda: 10**12)
    scope = scope_of(Budget("soft", Limits(day_pusd=5, soft=True)))
    ((counter, limit),) = budgets_of(scope, AT.strftime("%Y-%m-%d"))
    await counters.ask([[Line(counter, 9, limit, soft=True)]])
    (one,) = await standings(counters, [scope], AT)
    assert (one.used, one.left, one.soft, one.key_id, one.tag) == (9, 0, True, None, None)
