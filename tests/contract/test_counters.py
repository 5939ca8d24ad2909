"""One contract for both stores of counters: the one in memory and the script in a real Redis.

Told as stories first, then by thousands of random messages, of which both must say the same.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from redis_server import RedisServer

from service.guard import redis_link
from service.guard.counting import (
    MINUTE_MS,
    MONEY,
    RATE,
    SLOTS,
    Ask,
    Counter,
    Ended,
    Line,
    Message,
    Reply,
    Share,
    State,
)
from service.guard.redis_link import RedisLink
from service.guard.tallies import Tallies

DOLLAR = 10**12
BEGAN_MS = time.time_ns() // 1_000_000
FAR_MS = BEGAN_MS + 40 * 86_400_000
POT = Counter(MONEY, "m:k:one:2026-11-22", FAR_MS)
MONTH = Counter(MONEY, "m:k:one:2026-11", FAR_MS)
ASKED = Counter(RATE, "r:k:one:q")
SLOT = Counter(SLOTS, "c:k:one")

_CLOCK = """local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
"""


class Store(Protocol):
    """A store whose clock stands in the test's hand."""

    now_ms: int

    def say(self, message: Message) -> Reply: ...
    def end(self, ended: Ended) -> None: ...
    def forget(self) -> None: ...


class InMemory:
    """`Tallies`."""

    def __init__(self) -> None:
        self.now_ms = BEGAN_MS
        self.tallies = Tallies()

    def say(self, message: Message) -> Reply:
        return self.tallies.exchange(message, self.now_ms)

    def end(self, ended: Ended) -> None:
        self.tallies.end(ended)

    def forget(self) -> None:
        self.tallies = Tallies()


class InRedis:
    """The script in a real server. Only its clock is the test's: it is told the time instead of asking for it."""

    def __init__(self, server: RedisServer, loop: asyncio.AbstractEventLoop, patch: pytest.MonkeyPatch) -> None:
        self.now_ms = BEGAN_MS
        self._server, self._loop, self._patch = server, loop, patch
        server.command("FLUSHALL")
        self._link = RedisLink(server.url, "test")
        self._script = redis_link.SCRIPT
        assert _CLOCK in self._script

    def say(self, message: Message) -> Reply:
        return self._loop.run_until_complete(self._timed().exchange(message, 5))

    def end(self, ended: Ended) -> None:
        self._loop.run_until_complete(self._timed().end(ended, 5))

    def forget(self) -> None:
        self._server.command("FLUSHALL")

    def _timed(self) -> RedisLink:
        import hashlib

        script = self._script.replace(_CLOCK, f"local now = {self.now_ms}\n")
        self._patch.setattr(redis_link, "SCRIPT", script)
        self._patch.setattr(redis_link, "_SHA", hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest())
        return self._link

    def close(self) -> None:
        self._loop.run_until_complete(self._link.close())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    home: Path = tmp_path_factory.mktemp("redis")
    one = RedisServer(home)
    yield one
    one.kill()


@pytest.fixture
def in_redis(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[InRedis]:
    loop = asyncio.new_event_loop()
    store = InRedis(server, loop, monkeypatch)
    yield store
    store.close()
    loop.close()


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Store:
    return InMemory() if request.param == "memory" else request.getfixturevalue("in_redis")


class Member:
    """A process as the store sees it."""

    def __init__(self, store: Store, name: str, lease_ms: int = 30_000, grace_ms: int = 0) -> None:
        self._store, self.name = store, name
        self._lease_ms, self._grace_ms = lease_ms, grace_ms
        self.number = self.heard = self.era_ms = 0
        self.known: set[str] = set()

    def say(self, *asks: Ask, shares: tuple[Share, ...] = (), joins: bool = False) -> Reply:
        self.number += 1
        reply = self._store.say(
            Message(
                self.name,
                self.number,
                self.heard,
                self._lease_ms,
                shares,
                asks,
                joins,
                self._grace_ms,
                self.era_ms,
                self.known,
            )
        )
        if reply.state in {State.TAKEN, State.GATHERING}:
            self.heard, self.era_ms = self.number, reply.era_ms
        return reply

    def join(self, *shares: Share) -> Reply:
        return self.say(shares=shares, joins=True)

    def takes(self, *lines: Line) -> bool:
        (verdict,) = self.say([list(lines)]).verdicts
        return verdict.taken == 0


def money(amount: int, limit: int = DOLLAR, counter: Counter = POT, *, soft: bool = False) -> Line:
    return Line(counter, amount, limit, soft)


def test_a_budget_is_filled_to_the_last_pico_dollar_and_not_over_it(store):
    one, two = Member(store, "one"), Member(store, "two")
    one.join()
    two.join()
    limit = 3_999_999 * DOLLAR + 7  # far beyond what a double holds exactly
    assert one.takes(money(limit - 3, limit))
    assert two.takes(money(2, limit))
    assert not one.takes(money(2, limit))
    (refused,) = two.say([[money(2, limit)]]).verdicts
    assert (refused.taken, refused.line, refused.used) == (-1, 0, (limit - 1,))
    assert two.takes(money(1, limit))
    assert not two.takes(money(1, limit))


def test_all_lines_are_taken_or_none(store):
    one = Member(store, "one")
    one.join()
    assert not one.takes(money(5), money(6, 5, MONTH), Line(ASKED, 1, 10), Line(SLOT, 1, 1))
    assert one.takes(money(DOLLAR), money(5, 5, MONTH), Line(ASKED, 10, 10), Line(SLOT, 1, 1))


def test_the_first_alternative_that_fits_is_taken(store):
    one = Member(store, "one")
    one.join()
    verdicts = one.say([[money(6, 10)], [money(3, 10)]], [[money(6, 10)], [money(3, 10)]], [[money(6, 10)]]).verdicts
    assert [verdict.taken for verdict in verdicts] == [0, 1, -1]
    assert verdicts[1].used == (9,)


def test_what_is_settled_stays_and_what_was_held_goes_back(store):
    one = Member(store, "one")
    one.join()
    assert one.takes(money(8, 10))
    one.say(shares=(Share(POT, 3, 0, known=True),))
    assert not one.takes(money(8, 10))
    assert one.takes(money(7, 10))


def test_telling_the_same_twice_changes_nothing(store):
    one = Member(store, "one")
    one.join()
    for _ in range(3):
        one.say(shares=(Share(POT, 3, 2, known=False),))
    (verdict,) = one.say([[money(5, 10)]]).verdicts
    assert (verdict.taken, verdict.used) == (0, (10,))


def test_a_message_from_before_changes_nothing(store):
    one = Member(store, "one")
    one.join()
    one.say(shares=(Share(POT, 3, 0),))
    late = store.say(Message("one", 1, 0, 30_000, (Share(POT, 0, 9),), ([[money(1, 10)]],)))
    assert late.state is State.OLD
    (verdict,) = one.say([[money(7, 10)]]).verdicts
    assert verdict.taken == 0


def test_settled_money_never_shrinks(store):
    one = Member(store, "one")
    one.join(Share(POT, 5, 0))
    one.say(shares=(Share(POT, 4, 0, known=True),))
    assert not one.takes(money(6, 10))


def test_a_stranger_is_told_to_join(store):
    assert Member(store, "one").say([[money(1)]]).state is State.UNKNOWN


def test_a_store_that_lost_everything_waits_for_everybody(store):
    one, two = Member(store, "one", grace_ms=2_500), Member(store, "two", grace_ms=2_500)
    one.join()
    two.join()
    store.now_ms += 2_500
    assert one.takes(money(4, 10))
    assert two.takes(money(4, 10))
    store.forget()
    assert one.say([[money(4, 10)]]).state is State.UNKNOWN
    one.heard = 0
    gathering = one.join(Share(POT, 0, 4))
    assert (gathering.state, gathering.wait_ms) == (State.GATHERING, 2_500)
    store.now_ms += 1_000
    assert two.say([[money(4, 10)]]).state is State.UNKNOWN
    two.heard = 0
    two.join(Share(POT, 0, 4))
    assert two.say([[money(1, 10)]]).state is State.GATHERING
    store.now_ms += 1_500
    assert not one.takes(money(4, 10))
    assert one.takes(money(2, 10))


def test_a_copy_that_lacks_the_last_words_is_noticed_by_whoever_spoke(store):
    """A replica that took over: it knows the members, and less than they told."""
    one, two = Member(store, "one", grace_ms=100), Member(store, "two", grace_ms=100)
    one.join()
    two.join()
    store.now_ms += 100
    one.heard = one.number = 7
    assert one.say([[money(1)]]).state is State.UNKNOWN
    assert two.say([[money(1)]]).state is State.UNKNOWN, "everybody tells it again"


@pytest.mark.parametrize("joins", [True, False])
def test_whoever_comes_back_to_such_a_copy_makes_it_gather(store, joins):
    one, two = Member(store, "one", grace_ms=100), Member(store, "two", grace_ms=100)
    one.join()
    two.join()
    store.now_ms += 100
    one.heard = one.number = 7
    assert one.say(joins=joins).state is (State.GATHERING if joins else State.UNKNOWN)
    assert two.say([[money(1)]]).state is State.UNKNOWN


def test_a_copy_from_before_a_member_came_is_noticed_by_that_member(store):
    """Of it the copy knows nothing; of the others it knows less than they told, and they may be silent for a while."""
    one = Member(store, "one", grace_ms=100)
    one.join()
    store.now_ms += 100
    one.say()
    new = Member(store, "new", grace_ms=100)
    new.number, new.heard, new.era_ms = 3, 3, one.era_ms  # it joined what is lost now
    for joins in (False, True):  # as it goes on, and as it comes back after its connection was lost
        kept = new.heard, new.era_ms
        state = new.say([[money(1)]], joins=joins).state
        assert state is (State.GATHERING if joins else State.UNKNOWN)
        assert one.say([[money(1)]]).state is State.UNKNOWN, "everybody tells it again"
        one.heard = one.era_ms = 0
        one.join()
        store.now_ms += 100
        assert one.say().state is State.TAKEN
        new.heard, new.era_ms = kept[0], one.era_ms
        new.name += "er"


def test_a_copy_from_before_the_last_gathering_is_noticed(store):
    """Whatever numbers it has: it knows the member, by a number from an earlier life of the store."""
    one, two = Member(store, "one", grace_ms=100), Member(store, "two", grace_ms=100)
    one.join()
    two.join()
    store.now_ms += 100
    for _ in range(5):
        one.say()
    one.heard, one.era_ms = 2, one.era_ms + 7_000
    assert one.say([[money(1)]]).state is State.UNKNOWN
    assert two.say([[money(1)]]).state is State.UNKNOWN


def test_a_store_that_gathered_since_makes_nobody_wait_again(store):
    """Who comes back late says what it has, and is served."""
    one, late = Member(store, "one", grace_ms=100), Member(store, "late", grace_ms=100)
    one.join()
    late.join()
    store.forget()
    store.now_ms += 5_000
    one.heard = one.era_ms = 0
    one.join()
    store.now_ms += 100
    assert late.say([[money(1)]]).state is State.UNKNOWN
    assert one.takes(money(1)), "it is not held up by that"
    assert late.join(Share(POT, 3, 0)).state is State.TAKEN, "nor when it had not noticed yet"
    assert one.say().state is State.TAKEN


def test_every_copy_that_lags_is_noticed_once(store):
    """All come back as they were, one after the other: the store gathers once, and no one is sent away again."""
    members = [Member(store, name, grace_ms=100) for name in ("one", "two", "three")]
    for member in members:
        member.join()
    store.now_ms += 100
    for member in members:
        member.heard = member.number = 9
    states = [member.join().state for member in members]
    assert states == [State.GATHERING] * 3
    store.now_ms += 100
    assert [member.say([[money(1)]]).state for member in members] == [State.TAKEN] * 3


def test_a_counter_that_was_thrown_away_is_noticed_by_whoever_asks_first(store):
    """Also when there is nothing to tell of it: what was spent would be spent once more."""
    one = Member(store, "one")
    one.join(Share(POT, 9, 0))
    one.known = {POT.name}
    assert not one.takes(money(2, 10))
    one.known = {MONTH.name}
    assert one.say([[money(2, 10, MONTH)]]).state is State.UNKNOWN


def test_a_counter_that_is_gone_is_noticed(store):
    one = Member(store, "one")
    one.join()
    other = Counter(MONEY, "m:k:other:2026-11-22", FAR_MS)
    assert one.say([[money(1)]], shares=(Share(other, 1, 0, known=True),)).state is State.UNKNOWN


def test_slots_are_of_those_who_live(store):
    one, two = Member(store, "one", lease_ms=1_000), Member(store, "two", lease_ms=60_000)
    one.join()
    two.join()
    assert one.takes(Line(SLOT, 1, 2))
    assert two.takes(Line(SLOT, 1, 2))
    assert not two.takes(Line(SLOT, 1, 2))
    store.now_ms += 1_001
    assert two.takes(Line(SLOT, 1, 2)), "the lease of the first is over"
    one.say(shares=(Share(SLOT, 0, 1, known=True),))
    assert not two.takes(Line(SLOT, 1, 2)), "it is back, and still holds its own"
    one.say(shares=(Share(SLOT, 0, 0, known=True),))
    two.say(shares=(Share(SLOT, 0, 1, known=True),))
    assert two.takes(Line(SLOT, 1, 2))


def test_money_in_flight_stays_charged_when_its_process_dies(store):
    one, two = Member(store, "one", lease_ms=1_000), Member(store, "two", lease_ms=10**9)
    one.join()
    two.join()
    assert one.takes(money(6, 10))
    store.now_ms += 10_000_000
    assert not two.takes(money(6, 10))
    store.end(Ended("one", (Share(POT, 1, 0),), last=True))
    assert not two.takes(money(10, 10))
    assert two.takes(money(9, 10)), "its ledger says what came of it"


def test_the_end_of_a_member_may_be_told_by_many_and_often(store):
    one, two = Member(store, "one"), Member(store, "two")
    one.join()
    two.join()
    assert one.takes(money(6, 10), Line(SLOT, 1, 1))
    for _ in range(3):
        store.end(Ended("one", (Share(POT, 2, 0), Share(MONTH, 2, 0)), last=True))
    assert two.takes(money(8, 10), Line(SLOT, 1, 1))
    assert one.say().state is State.UNKNOWN


def test_a_member_that_ended_and_held_what_its_ledger_does_not_name(store):
    """It died between the reservation and the open row."""
    one, two = Member(store, "one"), Member(store, "two")
    one.join()
    two.join()
    assert one.takes(money(6, 10))
    store.end(Ended("one", (), last=True))
    assert two.takes(money(10, 10))


def test_a_rate_drains_all_the_time(store):
    one = Member(store, "one")
    one.join()
    assert one.takes(Line(ASKED, 60, 60))
    (refused,) = one.say([[Line(ASKED, 1, 60)]]).verdicts
    assert (refused.taken, refused.retry_ms, refused.used) == (-1, 1_000, (60 * MINUTE_MS,))
    store.now_ms += 999
    assert not one.takes(Line(ASKED, 1, 60))
    store.now_ms += 1
    assert one.takes(Line(ASKED, 1, 60))
    store.now_ms += 60_000
    assert one.takes(Line(ASKED, 60, 60)), "never more than a minute's worth at once"
    assert not one.takes(Line(ASKED, 1, 60))


def test_a_rate_is_corrected_by_what_was_really_used(store):
    one = Member(store, "one")
    one.join()
    assert one.takes(Line(ASKED, 50, 60))
    one.say(shares=(Share(ASKED, 0, -40, known=False, limit=60),))
    assert one.takes(Line(ASKED, 50, 60))
    one.say(shares=(Share(ASKED, 0, 20, known=False, limit=60),))
    (refused,) = one.say([[Line(ASKED, 1, 60)]]).verdicts
    assert refused.retry_ms == 21_000, "an overrun is paid off"


def test_more_than_the_limit_itself_is_never_taken(store):
    one = Member(store, "one")
    one.join()
    (rate,) = one.say([[Line(ASKED, 61, 60)]]).verdicts
    (slots,) = one.say([[Line(SLOT, 2, 1)]]).verdicts
    assert (rate.taken, rate.retry_ms, slots.taken, slots.retry_ms) == (-1, 0, -1, 0), "and no wait would help"
    (nothing,) = one.say([[Line(ASKED, 1, 0)]]).verdicts
    assert (nothing.taken, nothing.retry_ms) == (-1, 0)


def test_a_soft_line_is_counted_and_never_refuses(store):
    one = Member(store, "one")
    one.join()
    (verdict,) = one.say([[money(15, 10, soft=True), Line(SLOT, 2, 1, soft=True)]]).verdicts
    assert (verdict.taken, verdict.used) == (0, (15, 2))
    assert not one.takes(money(1, 10))


def test_a_clock_that_is_set_back_drains_nothing_and_gives_nothing(store):
    one = Member(store, "one")
    one.join()
    assert one.takes(Line(ASKED, 60, 60))
    store.now_ms -= 3_600_000
    assert not one.takes(Line(ASKED, 1, 60))
    store.now_ms += 1_000
    assert one.takes(Line(ASKED, 1, 60))


COUNTERS = (POT, MONTH, Counter(MONEY, "m:a:2026-11-22", FAR_MS), ASKED, Counter(RATE, "r:a:t"), SLOT)
MEMBERS = ("one", "two", "three")


def _random_line(draw: random.Random, counter: Counter) -> Line:
    if counter.kind == MONEY:
        limit = draw.choice((10, 1_000, 4 * 10**18))
        return Line(counter, draw.choice((0, 1, 3, limit // 3)), limit, draw.random() < 0.1)
    limit = draw.choice((0, 1, 7, 60, 10**9 if counter.kind == RATE else 100))
    return Line(counter, draw.choice((0, 1, 2, limit // 2)), limit, draw.random() < 0.1)


def _random_message(draw: random.Random, numbers: dict[str, list[int]], settled: dict[tuple[str, str], int]) -> Message:
    member = draw.choice(MEMBERS)
    last, heard, last_era = numbers[member]
    number = last + 1 if draw.random() < 0.95 else max(1, last - 1)
    shares = []
    for counter in draw.sample(COUNTERS, draw.randrange(4)):
        amount, held, limit = 0, draw.randrange(5), 0
        if counter.kind == MONEY:
            amount = settled[member, counter.name] = settled.get((member, counter.name), 0) + draw.randrange(4)
        elif counter.kind == RATE:
            held, limit = draw.randrange(-5, 5), draw.choice((1, 60, 10**9))
        shares.append(Share(counter, amount, held, draw.random() < 0.2, limit))
    asks = [
        [
            [_random_line(draw, counter) for counter in draw.sample(COUNTERS, draw.randrange(1, 4))]
            for _ in range(draw.randrange(1, 3))
        ]
        for _ in range(draw.randrange(4))
    ]
    era_ms = draw.choice((0, last_era, last_era, last_era, last_era - 50, last_era + 50))
    known = {draw.choice((POT.name, "m:nobody:2026-11"))} if draw.random() < 0.1 else set()
    lease_ms = draw.choice((100, 30_000))
    return Message(member, number, heard, lease_ms, shares, asks, draw.random() < 0.2, 50, era_ms, known)


@pytest.mark.parametrize("seed", range(6))
def test_both_say_the_same_to_whatever_is_said(in_redis, seed):
    draw, memory = random.Random(seed), InMemory()
    numbers: dict[str, list[int]] = {member: [0, 0, 0] for member in MEMBERS}
    settled: dict[tuple[str, str], int] = {}
    states = set()
    for step in range(400):
        in_redis.now_ms = memory.now_ms = memory.now_ms + draw.choice((-5_000, 0, 1, 37, 1_000, 70_000))
        if draw.random() < 0.02:
            gone = draw.choice(MEMBERS)
            ended = Ended(gone, (Share(POT, settled.get((gone, POT.name), 0), 0),), last=draw.random() < 0.7)
            memory.end(ended)
            in_redis.end(ended)
            continue
        message = _random_message(draw, numbers, settled)
        said, heard = memory.say(message), in_redis.say(message)
        assert said == heard, (step, message)
        states.add(said.state)
        numbers[message.member][0] = max(numbers[message.member][0], message.number)
        if said.state in {State.TAKEN, State.GATHERING}:
            numbers[message.member][1:] = message.number, said.era_ms
        elif said.state is State.UNKNOWN:
            numbers[message.member][1:] = 0, 0
    assert states == set(State), "the play was too tame"
