"""What was spent before: from real journals and their index to the counters; who is told of, when, and how often."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from service import spending as module
from service import telemetry
from service.config import Settings
from service.domain.access import Caller
from service.domain.decision import EntryState, OpenEntry, TerminalEntry
from service.domain.limits import Budget, Limits
from service.errors import BudgetStoreUnavailable, ConfigurationError
from service.guard.counters import LocalCounters, SharedCounters, StoreLost
from service.guard.counting import Ended, Reply, Share, State
from service.guard.leases import Hold
from service.guard.limits import Limiter
from service.guard.scopes import spend_counters
from service.house import SystemClock
from service.ledger.indexer import Indexer
from service.ledger.journal import Journal
from service.ledger.segments import journal_dir, list_segments
from service.ledger.sinks import open_sink
from service.ledger.sinks.port import SinkFault, Spent
from service.spending import (
    APART,
    NotCounted,
    Spending,
    ended_members,
    open_counters,
    refuse_apart,
    spent_before,
)

NOW = datetime.now(UTC).replace(microsecond=0)
TODAY, MONTH = f"{NOW:%Y-%m-%d}", f"{NOW:%Y-%m}"
DOLLAR = 10**12


def an_open(number, **changes):
    values = {
        "attempt_id": f"a{number}",
        "request_id": f"r{number}",
        "decision_id": f"d{number}",
        "attempt_number": 1,
        "at_ms": int(NOW.timestamp() * 1000),
        "key_id": "key_1",
        "requested_model": "auto",
        "model": "small",
        "provider": "acme",
        "wire_name": "small-1",
        "intent": "coding",
        "language": "en",
        "policy": "balanced",
        "price_version": "v",
        "reserved_pusd": 9 * DOLLAR,
        "tags": ("team", "said"),
    }
    return OpenEntry(**(values | changes))


def an_end(number, cost, **changes):
    values = {"attempt_id": f"a{number}", "state": EntryState.SETTLED, "at_ms": int(NOW.timestamp() * 1000) + 5}
    return TerminalEntry(**(values | {"ended": "complete", "cost_pusd": cost, "price": {}} | changes))


async def a_process(data_dir, costs, **changes):
    """A process that made attempts of these costs and ended; `None` is one that it never ended. Its writer's name."""
    journal = Journal(data_dir, sync="group")
    await journal.start()
    for place, cost in enumerate(costs):
        number = f"{journal.writer.name}-{place}"
        await journal.append_open(an_open(number, **changes))
        if cost is not None:
            await journal.append_terminal(an_end(number, cost))
    await journal.close()
    return journal.writer.name


def indexed(data_dir):
    """A sink that has what the journals have."""
    sink = open_sink(data_dir)
    with Indexer(data_dir, sink) as indexer:
        indexer.catch_up()
    return sink


def money(members):
    """{member: {counter's name: pico-USD}}."""
    return {one.member: {share.counter.name: share.settled for share in one.shares} for one in members}


async def test_what_others_spent_is_told_by_member_key_tag_and_window(tmp_path):
    """Each under its own name, with the tags that count; a sum for everybody."""
    first = await a_process(tmp_path, [3, 4])
    second = await a_process(tmp_path, [5], key_id=None, tags=())
    members = spent_before(tmp_path, indexed(tmp_path), NOW, {"team"})
    assert all(one.last and all(share.held == 0 for share in one.shares) for one in members)
    assert money(members) == {
        first: {f"m:{who}:{window}": 7 for who in ("a", "t:team", "k:key_1") for window in (TODAY, MONTH)},
        second: {f"m:a:{window}": 5 for window in (TODAY, MONTH)},
    }


async def test_an_attempt_that_a_crash_left_open_counts_as_it_was_reserved_and_under_who_opened_it(tmp_path):
    """The next process closes it; it is not that one's spend."""
    dead = Journal(tmp_path, sync="group")
    await dead.start()
    await dead.append_open(an_open(1))
    await dead.close()
    after = Journal(tmp_path, sync="group")
    await after.start()
    found = money(spent_before(tmp_path, indexed(tmp_path), NOW, ()))
    assert found[dead.writer.name][f"m:k:key_1:{TODAY}"] == 9 * DOLLAR
    assert after.writer.name not in found, "it lives"
    await after.close()


async def test_what_was_spent_at_simulated_vendors_counts_only_where_they_are_simulated(tmp_path):
    """A try with `--simulate` in the same data directory leaves real budgets as they were."""
    played = await a_process(tmp_path, [700], simulated=True)
    real = await a_process(tmp_path, [5])
    sink = indexed(tmp_path)
    found = money(spent_before(tmp_path, sink, NOW, ()))
    assert (found[played], found[real][f"m:a:{TODAY}"]) == ({}, 5), "that it ended is told all the same"
    assert money(spent_before(tmp_path, sink, NOW, (), simulated=True))[played][f"m:a:{TODAY}"] == 700


async def test_who_spent_nothing_is_told_of_too(tmp_path):
    """It may have held something when it died."""
    name = await a_process(tmp_path, [])
    assert spent_before(tmp_path, indexed(tmp_path), NOW, ()) == [Ended(name, [], last=True)]


async def test_other_months_and_those_who_were_told_of_are_left_out(tmp_path):
    """Windows that are over matter to nobody, and the store has the others."""
    last_month = int(NOW.timestamp() * 1000) - 40 * 86_400_000
    old = await a_process(tmp_path, [3], at_ms=last_month)
    new = await a_process(tmp_path, [4])
    sink = indexed(tmp_path)
    assert money(spent_before(tmp_path, sink, NOW, ())).keys() == {old, new}
    assert money(spent_before(tmp_path, sink, NOW, ()))[old] == {}
    assert money(spent_before(tmp_path, sink, NOW, (), {old})).keys() == {new}
    for mark in journal_dir(tmp_path).glob(f"{old}*.swept"):
        os.utime(mark, (last_month / 1000, last_month / 1000))
    assert money(spent_before(tmp_path, sink, NOW, ())).keys() == {new}


async def test_an_index_that_is_behind_is_waited_for_and_then_told(tmp_path, monkeypatch):
    """Half of what was spent would be worse than none; a stop ends the wait."""
    monkeypatch.setattr(module, "INDEX_S", 0.3)
    monkeypatch.setattr(module, "SLICE_S", 0.05)
    await a_process(tmp_path, [3])
    sink = open_sink(tmp_path)
    begun = time.monotonic()
    with pytest.raises(NotCounted, match="behind"):
        spent_before(tmp_path, sink, NOW, ())
    assert 0.3 <= time.monotonic() - begun < 1
    monkeypatch.setattr(module, "INDEX_S", 30.0)
    stop = threading.Event()
    stop.set()
    begun = time.monotonic()
    with pytest.raises(NotCounted, match="behind"):
        spent_before(tmp_path, sink, NOW, (), (), stop)
    assert time.monotonic() - begun < 1
    filling = threading.Timer(0.2, indexed, (tmp_path,))
    filling.start()
    assert len(spent_before(tmp_path, sink, NOW, ())) == 1
    filling.join()


@pytest.mark.parametrize("fault", [SinkFault("locked: canary"), OSError("canary")])
async def test_an_index_that_can_not_be_asked_is_told_without_its_words(tmp_path, fault):
    """They may name places."""
    await a_process(tmp_path, [3])

    class Faulty:
        def checkpoints(self):
            raise fault

    with pytest.raises(NotCounted, match=type(fault).__name__) as caught:
        spent_before(tmp_path, Faulty(), NOW, ())
    assert "canary" not in str(caught.value)
    with pytest.raises(NotCounted):
        spent_before(tmp_path / "nowhere", Faulty(), NOW, ())
    everybody = {one.writer for one in list_segments(journal_dir(tmp_path))}
    assert spent_before(tmp_path, Faulty(), NOW, (), everybody) == [], "there is nothing to ask it"


async def test_who_ended_and_whose_files_are_gone_is_told_of_without_spend(tmp_path):
    """Marks outlive segments that were put away; there is no index then."""
    name = await a_process(tmp_path, [3])
    for file in journal_dir(tmp_path).glob("*.jsonl"):
        file.unlink()
    assert spent_before(tmp_path, open_sink(tmp_path), NOW, ()) == [Ended(name, [], last=True)]


def test_the_same_rows_give_the_same_shares():
    """However they are cut into rows: several of one counter add up."""
    rows = [
        Spent("w", "k", ("x", "y"), "2026-11-22", 3),
        Spent("w", "k", (), "2026-11-22", 4),
        Spent("w", None, (), "2026-11-21", 5),
    ]
    (ended, nothing) = ended_members(rows, ["w", "z"], {"x"})
    assert {share.counter.name: share.settled for share in ended.shares} == {
        "m:a:2026-11-22": 7,
        "m:a:2026-11-21": 5,
        "m:a:2026-11": 12,
        "m:t:x:2026-11-22": 3,
        "m:t:x:2026-11": 3,
        "m:k:k:2026-11-22": 7,
        "m:k:k:2026-11": 7,
    }
    assert nothing == Ended("z", [], last=True)
    assert [one.counter for one in ended.shares if one.counter.name == "m:k:k:2026-11"] == [
        one for one in spend_counters("k", [], "2026-11-22") if one.name == "m:k:k:2026-11"
    ], "the counter that a reservation asks for, to the instant"


def test_which_counters_a_process_has(tmp_path):
    """In memory, or those of a URL that can be meant; nothing is connected."""
    assert isinstance(open_counters(Settings(data_dir=tmp_path)), LocalCounters)
    assert isinstance(open_counters(Settings(data_dir=tmp_path, redis_url="redis://nowhere")), SharedCounters)
    for refused in (open_counters, lambda settings: refuse_apart(settings, limited=False)):
        with pytest.raises(ConfigurationError, match="COE_REDIS_URL must begin"):
            refused(Settings(data_dir=tmp_path, redis_url="http://canary"))


def test_several_workers_with_limits_need_a_store(tmp_path):
    """Without limits they may be as many as they like."""
    with pytest.raises(ConfigurationError, match="3 workers would each count"):
        refuse_apart(Settings(data_dir=tmp_path, workers=3), limited=True)
    refuse_apart(Settings(data_dir=tmp_path, workers=3), limited=False)
    refuse_apart(Settings(data_dir=tmp_path, workers=1), limited=True)
    refuse_apart(Settings(data_dir=tmp_path, workers=3, redis_url="redis://nowhere"), limited=True)


# from start to stop


BUDGETED = Caller("key_1", "k", frozenset({"team"}), limits=Limits(day_pusd=10))


async def reserve(limiter, pusd, caller=BUDGETED):
    """Reserve for a first attempt now; whether it fits."""
    lease = limiter.lease(caller, ())
    try:
        await limiter.reserve(lease, 1, NOW, [Hold(pusd, 10)])
    except BudgetStoreUnavailable:
        raise
    except Exception:
        return False
    return True


class Way:
    """A way to a store that notes what it is told; `lost` is why it can't be asked."""

    def __init__(self):
        self.ended, self.said, self.lost = [], 0, ""

    async def exchange(self, _message, _within_s):
        if self.lost:
            raise StoreLost(self.lost)
        self.said += 1
        return Reply(State.TAKEN)

    async def end(self, ended, _within_s):
        if self.lost:
            raise StoreLost(self.lost)
        self.ended.append(ended)

    async def close(self):
        self.said = -1


async def eventually(condition, within_s=5.0):
    due = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < due, "in vain"
        await asyncio.sleep(0.005)


async def test_a_router_alone_begins_with_what_its_ledger_has(tmp_path):
    """Nothing passes under a hard budget before."""
    await a_process(tmp_path, [4, 3])
    limiter = Limiter(LocalCounters(lambda: int(NOW.timestamp() * 1000)))
    spending = Spending(limiter, tmp_path, SystemClock(), indexed(tmp_path), alone=True)
    with pytest.raises(BudgetStoreUnavailable, match="can't be checked"):
        await reserve(limiter, 1)
    assert spending.trouble(limited=True) == "it was not counted yet"
    assert spending.trouble(limited=False) is None
    await spending.open("me", lambda: {"team"}, limited=True)
    assert spending.trouble(limited=True) is None
    assert not await reserve(limiter, 4)
    assert await reserve(limiter, 3)
    await spending.close()


async def test_several_that_can_not_count_together_let_nothing_pass_under_a_hard_budget(tmp_path):
    """Also when limits came after the start. What is soft passes."""
    limiter = Limiter(LocalCounters(lambda: 1))
    spending = Spending(limiter, tmp_path, SystemClock(), open_sink(tmp_path), alone=False)
    await spending.open("me", tuple, limited=False)
    assert spending.trouble(limited=True) == APART
    with pytest.raises(BudgetStoreUnavailable):
        await reserve(limiter, 1)
    assert await reserve(limiter, 1, replace(BUDGETED, limits=Limits(day_pusd=10, soft=True)))
    await spending.close()


async def test_what_can_not_be_counted_is_told_once_and_tried_again(tmp_path, monkeypatch, capfd):
    """A start goes on without: what is under no hard budget is served."""
    telemetry.configure("INFO")
    monkeypatch.setattr(module, "INDEX_S", 0.02)
    monkeypatch.setattr(module, "SLICE_S", 0.01)
    monkeypatch.setattr(module, "AGAIN_S", 0.05)
    monkeypatch.setattr(module, "START_S", 0.3)
    await a_process(tmp_path, [4, 3])
    limiter = Limiter(LocalCounters(lambda: int(NOW.timestamp() * 1000)))
    spending = Spending(limiter, tmp_path, SystemClock(), open_sink(tmp_path), alone=True)
    begun = time.monotonic()
    await spending.open("me", tuple, limited=True)
    assert 0.3 <= time.monotonic() - begun < 2
    assert "behind" in spending.trouble(limited=True)
    with pytest.raises(BudgetStoreUnavailable):
        await reserve(limiter, 1)
    indexed(tmp_path)
    await eventually(lambda: spending.trouble(limited=True) is None)
    assert not await reserve(limiter, 4)
    await spending.close()
    told = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    assert [one["event"] for one in told if one["event"] == telemetry.SPEND_UNCOUNTED] == [telemetry.SPEND_UNCOUNTED]


async def test_a_fault_of_ours_is_told_by_its_place_and_tried_again(tmp_path, monkeypatch, capfd):
    """Hard budgets would be refused for ever, and nobody would know why."""
    telemetry.configure("INFO")
    monkeypatch.setattr(module, "AGAIN_S", 0.02)
    await a_process(tmp_path, [])
    limiter = Limiter(LocalCounters(lambda: 1))
    spending = Spending(limiter, tmp_path, SystemClock(), indexed(tmp_path), alone=True)
    faults = [KeyError("canary")]

    def tags():
        if faults:
            raise faults.pop()
        return ()

    await spending.open("me", tags, limited=True)
    assert spending.trouble(limited=True) is None
    told = capfd.readouterr().err
    assert "KeyError at test_spending.py:" in told
    assert "canary" not in told
    await spending.close()


async def test_who_ends_later_is_told_of_too(tmp_path, monkeypatch):
    """A worker that was renewed: were the store to lose everything, nobody else would tell of it."""
    monkeypatch.setattr(module, "WATCH_S", 0.02)
    first = await a_process(tmp_path, [4])
    way = Way()
    limiter = Limiter(SharedCounters(way))
    spending = Spending(limiter, tmp_path, SystemClock(), indexed(tmp_path), alone=False)
    await spending.open("me", tuple, limited=True)
    assert [one.member for one in way.ended] == [first]
    second = await a_process(tmp_path, [5])
    indexed(tmp_path)
    await eventually(lambda: len(way.ended) > 1)
    assert [one.member for one in way.ended] == [first, second], "each once"
    assert money(way.ended)[second][f"m:a:{TODAY}"] == 5
    await spending.close()
    assert way.said == -1, "it is let go of"


async def test_what_can_not_be_recounted_later_refuses_nobody(tmp_path, monkeypatch, capfd):
    """The store has the totals of who ended: they told it themselves."""
    telemetry.configure("INFO")
    monkeypatch.setattr(module, "WATCH_S", 0.02)
    monkeypatch.setattr(module, "AGAIN_S", 0.02)
    monkeypatch.setattr(module, "INDEX_S", 0.02)
    limiter = Limiter(SharedCounters(Way()))
    await a_process(tmp_path, [])
    spending = Spending(limiter, tmp_path, SystemClock(), indexed(tmp_path), alone=False)
    await spending.open("me", tuple, limited=True)
    await a_process(tmp_path, [5])
    await eventually(lambda: telemetry.SPEND_UNCOUNTED in capfd.readouterr().err)
    assert limiter.uncounted == ""
    await spending.close()


async def test_a_store_that_is_lost_is_told_of_and_waited_for(tmp_path, monkeypatch):
    """For some seconds, where limits exist."""
    monkeypatch.setattr(module, "START_S", 0.2)
    way = Way()
    way.lost = "no reply"
    await a_process(tmp_path, [])
    spending = Spending(Limiter(SharedCounters(way)), tmp_path, SystemClock(), indexed(tmp_path), alone=True)
    begun = time.monotonic()
    await spending.open("me", tuple, limited=True)
    assert 0.2 <= time.monotonic() - begun < 1.5
    assert "can't be asked" in spending.trouble(limited=False)
    way.lost = ""
    await eventually(lambda: spending.trouble(limited=True) is None)
    assert len(way.ended) == 1
    await spending.close()


async def test_nobody_waits_where_nothing_is_limited(tmp_path, monkeypatch):
    """Redis may be away: nobody needs it."""
    way = Way()
    way.lost = "no reply"
    spending = Spending(Limiter(SharedCounters(way)), tmp_path, SystemClock(), open_sink(tmp_path), alone=True)
    begun = time.monotonic()
    await spending.open("me", tuple, limited=False)
    assert time.monotonic() - begun < 0.2
    await spending.close()


async def test_a_stop_while_the_index_is_behind_takes_no_time(tmp_path):
    """The thread that waits for it would hold the process up for half a minute."""
    await a_process(tmp_path, [3])
    limiter = Limiter(LocalCounters(lambda: 1))
    spending = Spending(limiter, tmp_path, SystemClock(), open_sink(tmp_path), alone=True)
    await spending.open("me", tuple, limited=False)
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    await spending.close()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert time.monotonic() - begun < 2


def test_a_budget_is_of_a_name_and_its_counters_of_a_tag():
    """What `tags` must hold for a budget to know what was spent before."""
    limiter = Limiter(LocalCounters(lambda: 1), [Budget("b", Limits(day_pusd=1), "team")])
    lease = limiter.lease(Caller("k", "k", frozenset({"team"})), ())
    assert [scope.name for scope in lease.scopes] == ["t:team"]
    assert Share(spend_counters(None, ["team"], TODAY)[2], 1, 0).counter.name == f"m:t:team:{TODAY}"
