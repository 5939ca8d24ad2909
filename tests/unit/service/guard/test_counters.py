"""Counting for a process: alone, and over a way that is slow, loses replies, breaks, or leads to a store that forgot.

The way is a class of this test, over the store in memory; the real one and its Redis are in test_redis_link.py.
"""

from __future__ import annotations

import asyncio
import json
import time
from copy import deepcopy

import pytest

from service import telemetry
from service.guard import counters as module
from service.guard.counters import ASK_S, ASKS_PER_MESSAGE, LocalCounters, SharedCounters, StoreLost, within
from service.guard.counting import MONEY, RATE, SLOTS, Counter, Ended, Line, Message, Reply, Share, State, Verdict
from service.guard.holdings import SHARES_PER_MESSAGE
from service.guard.tallies import Tallies

FAR_MS = time.time_ns() // 1_000_000 + 10**9
POT = Counter(MONEY, "m:k:one:2026-11-22", FAR_MS)
ASKED = Counter(RATE, "r:k:one:t")
SLOT = Counter(SLOTS, "c:k:one")
SLACK_S = 0.06
"""Above `ASK_S` on a busy machine."""


class Way:
    """A way to a store in memory. `plan` says what becomes of the next messages: see `exchange`."""

    def __init__(self, tallies=None):
        self.tallies = tallies or Tallies()
        self.said: list[Message] = []
        self.ended: list[Ended] = []
        self.plan: list[str] = []
        self.delay_s = 0.0
        self.gate: asyncio.Semaphore | None = None
        self.under_way = self.most_under_way = 0
        self.closed = False

    async def exchange(self, message, within_s):
        """`before`: lost on its way; `after`: its reply is lost; `hangs`: neither ever comes; `fault`: a mistake of ours."""
        what = self.plan.pop(0) if self.plan else ""
        self.said.append(message)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.gate is not None:
                await self.gate.acquire()
            if what == "before":
                raise StoreLost("lost on its way")
            if what == "fault":
                raise KeyError("a canary")
            if what == "old":
                return Reply(State.OLD)
            reply = self.tallies.exchange(message, time.time_ns() // 1_000_000)
            if what == "after":
                raise StoreLost("the reply was lost")
            if what == "hangs":
                await asyncio.sleep(within_s)
                raise StoreLost("no reply in time")
            return reply
        finally:
            self.under_way -= 1

    async def end(self, ended, within_s):
        assert within_s == module.JOIN_S
        if self.plan and self.plan[0] == "no end":
            self.plan.pop(0)
            raise StoreLost("not now")
        self.ended.append(ended)
        self.tallies.end(ended)

    async def close(self):
        self.closed = True

    def stop(self):
        """Hold messages up, until `step` lets one pass, or `go_on` all."""
        self.gate = asyncio.Semaphore(0)

    def step(self):
        self.gate.release()

    def go_on(self):
        gate, self.gate = self.gate, None
        for _ in range(self.under_way):
            gate.release()

    def used(self, counter=POT):
        """What all have in a counter of money."""
        pot = self.tallies._pots.get(counter.name)
        return 0 if pot is None else pot.used

    def slots(self):
        """Who has slots."""
        return {member: held for member, held in self.tallies._slots.get(SLOT.name, {}).items() if held}


def money(amount=1, limit=100, counter=POT):
    return [[Line(counter, amount, limit)]]


@pytest.fixture
def way(monkeypatch):
    """To a store that waits for nobody, tried again at once."""
    monkeypatch.setattr(module, "GRACE_MS", 0)
    monkeypatch.setattr(module, "RETRY_S", (0.01,))
    monkeypatch.setattr(module, "CALL_S", 0.25)
    return Way()


@pytest.fixture
async def shared(way):
    """Counters that speak with it."""
    counters = SharedCounters(way)
    counters.start("one")
    assert await counters.is_ready(2)
    yield counters
    await counters.close()


async def until(condition, within_s=3.0):
    """Wait until a condition holds."""
    due = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < due, f"in vain: {condition}"
        await asyncio.sleep(0.002)


async def quiet(shared):
    """Wait until there is nothing to tell any more."""
    await until(lambda: shared._link.under_way == 0)
    await until(lambda: shared._joined and shared.problem == "" and shared.holdings.pending == 0)


# alone


async def test_alone_the_next_ask_tells_what_was_settled_before():
    """And nothing can be lost."""
    counters = LocalCounters(lambda: 1_000)
    first = await counters.ask([[Line(POT, 60, 100), Line(SLOT, 1, 1), Line(ASKED, 5, 60)]])
    assert (first.taken, (await counters.ask(money(41))).taken) == (0, -1)
    assert (counters.problem, counters.holdings.share(POT).held, counters.holdings.share(SLOT).held) == ("", 60, 1)
    counters.holdings.settled(POT, 10)
    counters.holdings.give_back(Line(POT, 60, 100))
    counters.holdings.give_back(Line(SLOT, 1, 1))
    counters.changed()
    assert (await counters.ask([[Line(POT, 90, 100), Line(SLOT, 1, 1)]])).taken == 0


async def test_alone_a_correction_counts_once():
    """However many asks follow."""
    counters = LocalCounters(lambda: 1_000)
    await counters.ask([[Line(ASKED, 50, 60)]])
    counters.holdings.correct(Line(ASKED, 50, 60), -40)
    used = [(await counters.ask([[Line(ASKED, 1, 60)]])).used[0] // 60_000 for _ in range(3)]
    assert used == [11, 12, 13]


async def test_alone_more_than_a_message_takes_is_told_too():
    """There is no message."""
    counters = LocalCounters(lambda: 1_000)
    pots = [Counter(MONEY, f"m:k:{number}:2026-11", FAR_MS) for number in range(2 * SHARES_PER_MESSAGE)]
    for pot in pots:
        counters.holdings.settled(pot, 7)
    assert (await counters.ask(money(94, counter=pots[-1]))).taken == -1
    assert counters.holdings.pending == 0


async def test_alone_the_end_of_a_process_before_counts():
    """What its ledger has of it, at once; told again changes nothing."""
    counters = LocalCounters(lambda: 1_000)
    for _ in range(2):
        await counters.end([Ended("before", (Share(POT, 60, 0),), last=True)])
    assert (await counters.ask(money(41))).taken == -1
    assert (await counters.ask(money(40))).taken == 0


@pytest.mark.parametrize("ahead_ms", [0, 10**12, -(10**12)], ids=["agree", "set back", "set forward"])
async def test_alone_what_is_over_is_forgotten_and_nothing_else(ahead_ms):
    """Two clocks: the machine's, which may be set, and one that never jumps. A window ends when both say so."""
    counters = LocalCounters(lambda: FAR_MS + ahead_ms)
    await counters.end([Ended("before", (Share(POT, 60, 0),), last=True)])
    await counters.ask(money(1))
    counters.holdings.give_back(money(1)[0][0])
    await counters.ask(money(1, counter=Counter(MONEY, "m:other", 2 * FAR_MS)))
    counters.forget(FAR_MS - 1)
    assert (await counters.ask(money(41))).taken == -1, "it is not over"
    counters.forget(FAR_MS)
    over = (await counters.ask(money(41))).taken == 0
    assert over == (ahead_ms >= 0)


# together


async def test_an_ask_is_answered_and_counts(way, shared):
    """For everybody who asks that store."""
    assert (await shared.ask(money(60))).taken == 0
    assert (await shared.ask(money(41))).taken == -1
    other = SharedCounters(Way(way.tallies))
    other.start("two")
    assert await other.is_ready(2)
    assert (await other.ask(money(41))).taken == -1
    assert (await other.ask(money(40))).taken == 0
    await other.close()
    assert (shared.holdings.share(POT).held, way.used()) == (60, 100)


async def test_nothing_is_asked_before_the_store_knows_us(way):
    """At the start, and of a store that gathers."""
    counters = SharedCounters(way)
    assert counters.problem == "it was not asked yet"
    with pytest.raises(StoreLost, match="not asked yet"):
        await counters.ask(money())
    assert not await counters.is_ready(0.01)


async def test_one_message_at_a_time_and_what_is_asked_meanwhile_goes_together(way, shared):
    """Asks batch: a store far away is asked once for many."""
    way.stop()
    asking = [asyncio.create_task(shared.ask(money()))]
    await until(lambda: way.under_way == 1)
    asking += [asyncio.create_task(shared.ask(money())) for _ in range(ASKS_PER_MESSAGE + 6)]
    before = len(way.said)
    await asyncio.sleep(0.02)
    assert len(way.said) == before
    way.go_on()
    assert {verdict.taken for verdict in await asyncio.gather(*asking)} == {0}
    asks = [len(message.asks) for message in way.said[before - 1 :] if message.asks]
    assert asks == [1, ASKS_PER_MESSAGE, 6]
    assert (way.most_under_way, shared.holdings.share(POT).held, way.used()) == (1, len(asking), len(asking))


async def test_what_changes_while_a_message_is_under_way_is_told_right_after_it(way, shared):
    """Not at the next heartbeat: others wait for what is given back."""
    await shared.ask([[Line(SLOT, 1, 1)]])
    way.stop()
    asking = asyncio.create_task(shared.ask(money()))
    await until(lambda: way.under_way == 1)
    shared.holdings.give_back(Line(SLOT, 1, 1))
    shared.changed()
    way.go_on()
    await asking
    await until(lambda: way.slots() == {}, within_s=0.3)


async def test_heartbeats_keep_a_silent_member_alive(way, shared, monkeypatch):
    """Its slots are counted for as long as it lives."""
    monkeypatch.setattr(shared, "_pause_s", 0.01)
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    await shared.ask([[Line(SLOT, 1, 1)]])
    shared.changed()
    before = len(way.said)
    await until(lambda: len(way.said) > before + 3)
    assert {message.shares == [] for message in way.said[before + 1 :]} == {True}
    assert {message.lease_ms for message in way.said} == {module.LEASE_MS}


async def test_news_go_with_the_asks_and_before_them(way, shared):
    """What was settled makes room for what is asked."""
    await shared.ask(money(100))
    shared.holdings.give_back(money(100)[0][0])
    shared.holdings.settled(POT, 1)
    assert (await shared.ask(money(99))).taken == 0


async def test_no_ask_before_everything_was_told(way, shared):
    """More than a message takes goes ahead of the asks, in messages of its own."""
    pots = [Counter(MONEY, f"m:k:{number}:2026-11", FAR_MS) for number in range(2 * SHARES_PER_MESSAGE + 1)]
    for pot in pots:
        shared.holdings.settled(pot, 7)
    before = len(way.said)
    assert (await shared.ask(money(94, counter=pots[-1]))).taken == -1
    told = way.said[before:]
    assert [(len(message.shares), len(message.asks)) for message in told] == [(256, 0), (256, 0), (1, 1)]


async def test_news_without_end_hold_up_no_ask(way, shared):
    """Other counters change during every message: an ask waits for what there was when its turn came."""
    numbers = iter(range(10**6))

    def settle_many():
        for _ in range(2 * SHARES_PER_MESSAGE):
            shared.holdings.settled(Counter(MONEY, f"m:k:{next(numbers)}:2026-11", FAR_MS), 1)

    exchange = way.exchange

    async def busy(message, within_s):
        settle_many()
        return await exchange(message, within_s)

    way.exchange = busy
    settle_many()
    assert (await asyncio.wait_for(shared.ask(money()), 5)).taken == 0
    way.exchange = exchange
    await quiet(shared)
    assert {way.used(Counter(MONEY, f"m:k:{number}:2026-11")) for number in range(next(numbers))} == {1}


@pytest.mark.parametrize("when", ["queued", "under way", "answered", "answered a moment ago"])
async def test_who_leaves_gives_back_what_it_was_granted(way, shared, when, monkeypatch):
    """Money and slots end where they were, here and in the store."""
    way.stop()
    first = asyncio.create_task(shared.ask(money(1)))
    await until(lambda: way.under_way == 1)
    leaving = asyncio.create_task(shared.ask([[Line(POT, 50, 100), Line(SLOT, 1, 1), Line(ASKED, 1, 9)]]))
    await asyncio.sleep(0)
    if when != "queued":
        way.step()
        await first
        await until(lambda: way.under_way == 1)
        assert way.said[-1].asks == [[[Line(POT, 50, 100), Line(SLOT, 1, 1), Line(ASKED, 1, 9)]]]
    if when.startswith("answered"):
        hear = shared._hear

        def heard(waiting, verdict):
            hear(waiting, verdict)
            leaving.cancel() if when == "answered" else asyncio.get_running_loop().call_soon(leaving.cancel)

        monkeypatch.setattr(shared, "_hear", heard)
    else:
        leaving.cancel()
    way.go_on()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await first
    await until(lambda: (way.used(), way.slots()) == (1, {}), within_s=0.5)  # not at the next heartbeat
    assert (shared.holdings.share(POT).held, shared.holdings.share(SLOT).held) == (1, 0)


async def test_who_leaves_before_its_turn_is_not_asked_for(way, shared):
    """Nothing of it is sent."""
    way.stop()
    first = asyncio.create_task(shared.ask(money(1)))
    await until(lambda: way.under_way == 1)
    leaving = asyncio.create_task(shared.ask(money(50)))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait((leaving,))
    way.go_on()
    await first
    await shared.ask(money(1))
    assert [message.asks[0][0][0].amount for message in way.said if message.asks] == [1, 1]


async def test_an_ask_never_waits_longer_than_its_time(way, shared):
    """A store that is gone never holds a request, and what it grants too late is given back."""
    way.delay_s = ASK_S + 0.1
    begun = time.monotonic()
    with pytest.raises(StoreLost):
        await shared.ask(money(50))
    assert ASK_S - 0.01 <= time.monotonic() - begun < ASK_S + SLACK_S
    way.delay_s = 0.0
    await until(lambda: len(way.said) > 1 and way.under_way == 0)
    await quiet(shared)
    assert (shared.holdings.share(POT).held, way.used()) == (0, 0)


async def test_time_that_the_loop_was_held_up_is_not_waiting(way, shared):
    """A router that is short of processor time does not take its store for lost."""
    way.delay_s = 0.02
    asking = asyncio.create_task(shared.ask(money()))
    await asyncio.sleep(0.005)
    time.sleep(ASK_S + 0.1)
    assert (await asking).taken == 0
    assert not await within(asyncio.get_running_loop().create_future(), 0.01)


@pytest.mark.parametrize("how", ["before", "after", "hangs"])
async def test_a_lost_reply_heals(way, shared, how):
    """Whether or not the store took the message: money and slots are as we have them, by what is told next."""
    await shared.ask(money(10))
    way.plan = [how]
    with pytest.raises(StoreLost):
        await shared.ask([[Line(POT, 50, 100), Line(SLOT, 1, 1)]])
    await quiet(shared)
    assert (way.used(), way.slots(), shared.holdings.share(POT).held) == (10, {}, 10)
    assert (await shared.ask([[Line(POT, 90, 100), Line(SLOT, 1, 1)]])).taken == 0


@pytest.mark.parametrize("how", ["before", "after", "hangs"])
async def test_a_lost_reply_heals_where_we_had_nothing(way, shared, how):
    """The first ask of a key: the store holds for us what we never heard of, and a slot of one is all there is."""
    way.plan = [how]
    with pytest.raises(StoreLost):
        await shared.ask([[Line(POT, 50, 100), Line(SLOT, 1, 1)]])
    await quiet(shared)
    assert (way.used(), way.slots()) == (0, {})
    assert (await shared.ask([[Line(POT, 100, 100), Line(SLOT, 1, 1)]])).taken == 0


async def test_while_it_is_lost_every_ask_fails_at_once_and_it_is_tried_again(way, shared, monkeypatch):
    """Told everything anew, as somebody who joins."""
    monkeypatch.setattr(module, "RETRY_S", (0.0, 0.1, 0.15))
    await shared.ask(money(10))
    way.plan = ["before"] * 4
    with pytest.raises(StoreLost):
        await shared.ask(money(10))
    assert shared.problem == "lost on its way"
    begun = time.monotonic()
    with pytest.raises(StoreLost, match="lost on its way"):
        await shared.ask(money(10))
    assert time.monotonic() - begun < 0.05
    shared.holdings.settled(POT, 3)
    assert await shared.is_ready(3)
    assert time.monotonic() - begun >= 0.35, "at once, then soon, then at a pace"
    joined = next(message for message in reversed(way.said) if message.shares)
    assert (joined.joins, [(share.settled, share.held, share.known) for share in joined.shares]) == (
        True,
        [(3, 10, False)],
    )


async def test_the_others_of_a_batch_and_of_the_queue_are_told_too(way, shared):
    """Nobody waits for a store that is lost."""
    way.stop()
    way.plan = ["before"]
    asking = [asyncio.create_task(shared.ask(money()))]
    await until(lambda: way.under_way == 1)
    asking += [asyncio.create_task(shared.ask(money())) for _ in range(3)]
    await asyncio.sleep(0)
    begun = time.monotonic()
    way.go_on()
    assert {type(one) for one in await asyncio.gather(*asking, return_exceptions=True)} == {StoreLost}
    assert time.monotonic() - begun < ASK_S / 2


async def test_a_store_that_forgot_us_is_told_everything_in_pieces(way, shared):
    """What we hold and what we settled, a message full at a time, before anybody asks again."""
    pots = [Counter(MONEY, f"m:k:{number}:2026-11", FAR_MS) for number in range(2 * SHARES_PER_MESSAGE + 7)]
    for pot in pots:
        shared.holdings.settled(pot, 7)
    await shared.ask(money(60))
    await quiet(shared)
    way.tallies, before = Tallies(), len(way.said)
    with pytest.raises(StoreLost):
        await shared.ask(money(60))
    assert await shared.is_ready(3)
    joining = way.said[before + 1 :]
    assert [(len(message.shares), message.joins) for message in joining[:3]] == [(256, True), (256, True), (8, True)]
    assert not any(share.known for message in joining[:3] for share in message.shares)
    assert {way.used(pot) for pot in pots} == {7}
    assert (way.used(), (await shared.ask(money(60))).taken) == (60, -1)


async def test_a_store_that_gathers_is_waited_for(way, monkeypatch, capfd):
    """As long as it says; meanwhile nobody is served, and it is told why."""
    telemetry.configure("INFO")
    monkeypatch.setattr(module, "GRACE_MS", 300)
    counters = SharedCounters(way)
    begun = time.monotonic()
    counters.start("one")
    await until(lambda: counters.problem == "it gathers what the routers know")
    with pytest.raises(StoreLost, match="gathers"):
        await counters.ask(money())
    counters.holdings.settled(POT, 5)
    counters.changed()
    await until(lambda: way.used() == 5)
    assert await counters.is_ready(3)
    assert 0.3 <= time.monotonic() - begun < 0.9
    assert (counters.problem, (await counters.ask(money(95))).taken) == ("", 0)
    await counters.close()
    events = [json.loads(line)["event"] for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    assert events == [telemetry.COUNTERS_FOUND]


async def test_a_store_that_gathers_anew_fails_what_is_asked_in_between(way, shared, monkeypatch):
    """Another member found that it had lost something: asks of this moment are granted nothing."""
    monkeypatch.setattr(module, "GRACE_MS", 10**6)
    way.tallies._ready_ms = time.time_ns() // 1_000_000 + 200
    begun = time.monotonic()
    with pytest.raises(StoreLost):
        await shared.ask(money(10))
    assert time.monotonic() - begun < ASK_S / 2
    with pytest.raises(StoreLost, match="it gathers what the routers know"):
        await shared.ask(money(10))
    assert await shared.is_ready(3)
    assert (way.used(), shared.holdings.share(POT).held) == (0, 0)


async def test_a_copy_that_lacks_our_last_words_is_told_them(way, shared):
    """A replica that took over: it knows us, and less than we told."""
    copy = deepcopy(way.tallies)
    assert (await shared.ask(money(60))).taken == 0
    way.tallies = copy
    with pytest.raises(StoreLost):
        await shared.ask(money(60))
    assert await shared.is_ready(3)
    assert (way.used(), (await shared.ask(money(60))).taken) == (60, -1)


async def test_a_copy_from_before_we_came_is_told_everything_by_all(way, shared):
    """The copy knows an older member and less than it told; we are new to it, and speak first."""
    old = SharedCounters(way)
    old.start("old")
    assert await old.is_ready(2)
    before = deepcopy(way.tallies)
    assert before._numbers.pop("one")
    assert (await old.ask(money(60))).taken == 0
    old._task.cancel()  # it is silent for a while
    way.tallies = before
    with pytest.raises(StoreLost):
        await shared.ask(money(1))
    assert before._numbers.keys() <= {"one"}, "nobody else is taken for known"
    await old.close()


async def test_a_counter_that_was_thrown_away_is_noticed_by_the_first_ask(way, shared):
    """It told of it before, and there is nothing new to tell."""
    assert (await shared.ask(money(60))).taken == 0
    await quiet(shared)
    del way.tallies._pots[POT.name]
    with pytest.raises(StoreLost):
        await shared.ask(money(60))
    assert await shared.is_ready(2)
    assert (await shared.ask(money(41))).taken == -1
    assert (await shared.ask(money(40))).taken == 0


async def test_an_older_number_than_the_store_knows_is_passed(way, shared):
    """It is not taken for an answer; the next one is newer."""
    way.plan = ["old"]
    with pytest.raises(StoreLost):
        await shared.ask(money(10))
    assert await shared.is_ready(3)
    assert (await shared.ask(money(100))).taken == 0


async def test_a_fault_of_ours_is_told_and_ends_nothing(way, shared, capfd):
    """Without the task that speaks nobody could ask ever again."""
    telemetry.configure("INFO")
    way.plan = ["fault", "fault"]
    with pytest.raises(StoreLost):
        await shared.ask(money(10))
    await quiet(shared)
    assert (await shared.ask(money(100))).taken == 0
    told = capfd.readouterr().err
    assert "KeyError at test_counters.py:" in told
    assert "canary" not in told


async def test_why_it_is_lost_is_in_the_log_once_for_each_reason(way, capfd):
    """Also when it was never there."""
    telemetry.configure("INFO")
    way.plan = ["before", "before", "after", "before", "before"]
    counters = SharedCounters(way)
    counters.start("one")
    assert await counters.is_ready(3)
    way.plan = ["before"]
    with pytest.raises(StoreLost):
        await counters.ask(money())
    assert await counters.is_ready(3)
    await counters.close()
    told = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    assert [(one["event"], one.get("error")) for one in told] == [
        (telemetry.COUNTERS_LOST, "lost on its way"),
        (telemetry.COUNTERS_LOST, "the reply was lost"),
        (telemetry.COUNTERS_FOUND, None),
        (telemetry.COUNTERS_LOST, "lost on its way"),
        (telemetry.COUNTERS_FOUND, None),
    ]


# who is no more

GONE = Ended("gone", (Share(POT, 60, 0),), last=True)


async def test_the_end_of_others_is_told_again_whenever_we_join(way, shared):
    """A store that forgot it would give their money again."""
    await shared.end([GONE])
    assert way.ended == [GONE]
    way.tallies = Tallies()
    with pytest.raises(StoreLost):
        await shared.ask(money(41))
    assert await shared.is_ready(3)
    assert way.ended == [GONE, GONE]
    assert (await shared.ask(money(41))).taken == -1


async def test_the_end_of_others_waits_for_a_store_that_is_lost(way):
    """And is told before anybody asks."""
    way.plan = ["before"]
    counters = SharedCounters(way)
    await counters.end([GONE])
    counters.start("one")
    assert await counters.is_ready(3)
    assert (await counters.ask(money(41))).taken == -1
    await counters.close()


async def test_an_end_that_comes_while_we_join_is_told(way):
    """It came too late for those that were told first, and too early to be told by itself."""
    way.stop()
    counters = SharedCounters(way)
    for number in range(SHARES_PER_MESSAGE + 1):
        counters.holdings.settled(Counter(MONEY, f"m:k:{number}:2026-11", FAR_MS), 7)
    counters.start("one")
    await until(lambda: way.under_way == 1)
    await counters.end([GONE])
    way.go_on()
    assert await counters.is_ready(3)
    assert way.ended == [GONE]
    assert (await counters.ask(money(41))).taken == -1
    await counters.close()


async def test_an_end_that_can_not_be_told_is_told_later(way, shared):
    """Whoever tells it hears so."""
    way.plan = ["no end"]
    with pytest.raises(StoreLost):
        await shared.end([GONE])
    way.plan = ["before"]
    with pytest.raises(StoreLost):
        await shared.ask(money())
    assert await shared.is_ready(3)
    assert way.ended == [GONE]


async def test_an_end_is_forgotten_with_its_last_window(way, shared):
    """But not one without a window: it may hold something, nobody knows where."""
    nothing = Ended("nothing", (), last=True)
    await shared.end([GONE, nothing])
    shared.forget(FAR_MS - 1)
    assert set(shared._ended) == {"gone", "nothing"}
    shared.forget(FAR_MS)
    assert set(shared._ended) == {"nothing"}


# the end


async def test_what_is_left_is_told_at_the_end(way):
    """In as many messages as it takes; the connection is let go of."""
    counters = SharedCounters(way)
    counters.start("one")
    assert await counters.is_ready(2)
    await counters.ask(money(60))
    pots = [Counter(MONEY, f"m:k:{number}:2026-11", FAR_MS) for number in range(SHARES_PER_MESSAGE + 1)]
    for pot in pots:
        counters.holdings.settled(pot, 7)
    counters.holdings.give_back(money(60)[0][0])
    counters.holdings.settled(POT, 5)
    await counters.close()
    assert ({way.used(pot) for pot in pots}, way.used(), way.closed) == ({7}, 5, True)
    begun = time.monotonic()
    with pytest.raises(StoreLost, match="stops"):
        await counters.ask(money())
    assert time.monotonic() - begun < ASK_S / 2


async def test_the_end_in_the_middle_of_an_ask_leaves_nothing_held(way):
    """The store granted what nobody heard of."""
    counters = SharedCounters(way)
    counters.start("one")
    assert await counters.is_ready(2)
    way.plan = ["hangs"]
    asking = asyncio.create_task(counters.ask(money(60)))
    await until(lambda: way.used() == 60)
    await counters.close()
    with pytest.raises(StoreLost):
        await asking
    assert way.used() == 0


async def test_who_asks_when_it_ends_is_told_so(way):
    """Nobody would ever answer."""
    counters = SharedCounters(way)
    counters.start("one")
    assert await counters.is_ready(2)
    way.plan = ["hangs"]
    asking = [asyncio.create_task(counters.ask(money()))]
    await until(lambda: way.under_way == 1)
    asking.append(asyncio.create_task(counters.ask(money())))
    await asyncio.sleep(0)
    begun = time.monotonic()
    await counters.close()
    assert {type(one) for one in await asyncio.gather(*asking, return_exceptions=True)} == {StoreLost}
    assert time.monotonic() - begun < ASK_S / 2


@pytest.mark.parametrize("plan", [["before"] * 9, ["after"] * 9])
async def test_a_store_that_is_lost_holds_up_no_end(way, plan):
    """What it was not told its ledger tells later."""
    counters = SharedCounters(way)
    counters.start("one")
    assert await counters.is_ready(2)
    counters.holdings.settled(POT, 5)
    way.plan = plan
    await asyncio.wait_for(counters.close(), 1)
    assert way.closed
    never_begun = SharedCounters(Way())
    await never_begun.close()


async def test_whatever_is_lost_nothing_is_overspent_and_nothing_stays_held(way):
    """Three members, one small budget, and a way that loses every third message."""
    import random

    draw = random.Random(5)
    ways = [Way(way.tallies) for _ in range(3)]
    members = [SharedCounters(one) for one in ways]
    for number, one in enumerate(members):
        one.start(f"m{number}")
    assert all([await one.is_ready(3) for one in members])
    for one in ways:
        one.plan = [draw.choice(("", "", "before", "after")) for _ in range(60)]
    spent, most = 0, 0

    async def request(member):
        nonlocal spent, most
        line = Line(POT, 10, 500)
        try:
            verdict = await member.ask([[line, Line(SLOT, 1, 4)]])
        except StoreLost:
            await asyncio.sleep(0.01)
            return
        if verdict.taken < 0:
            return
        most = max(most, way.used())
        await asyncio.sleep(0.002 * draw.random())
        cost = draw.randrange(11)
        spent += cost
        member.holdings.give_back(line)
        member.holdings.give_back(Line(SLOT, 1, 4))
        member.holdings.settled(POT, cost)
        member.changed()

    for _ in range(60):
        await asyncio.gather(*(request(draw.choice(members)) for _ in range(6)))
    for one, counters in zip(ways, members, strict=True):
        one.plan = []
        assert await counters.is_ready(3)
        await quiet(counters)
        await counters.close()
    assert (way.used(), way.slots()) == (spent, {})
    assert max(spent, most) <= 500
    assert spent > 400, "the play was too tame"


def test_a_verdict_says_where_it_was_taken():
    """What every test above reads."""
    assert Verdict(0, -1, 0, (1,)).taken == 0
