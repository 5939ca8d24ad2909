"""The store of one process. What it says is held to one contract with Redis in tests/contract/test_counters.py.

Here is what only memory can show: what is left in it, and that its sums are sums at every step.
"""

from __future__ import annotations

import random

import pytest

from service.guard.counting import MINUTE_MS, MONEY, RATE, SLOTS, Counter, Ended, Line, Message, Share, State
from service.guard.tallies import IDLE_MS, Tallies

BEGAN_MS = 1_800_000_000_000
OVER_MS = BEGAN_MS + 1_000
POT = Counter(MONEY, "m:k:one:2026-11-22", OVER_MS)
MONTH = Counter(MONEY, "m:k:one:2026-11", OVER_MS + 10**9)
ASKED = Counter(RATE, "r:k:one:q")
SLOT = Counter(SLOTS, "c:k:one")


class Speaker:
    """A member of a store."""

    def __init__(self, tallies, name, lease_ms=30_000):
        self.tallies, self.name, self.lease_ms, self.number, self.now_ms = tallies, name, lease_ms, 0, BEGAN_MS

    def say(self, *asks, shares=(), now_ms=None, joins=False, heard=None):
        self.number += 1
        heard = self.number - 1 if heard is None else heard
        message = Message(self.name, self.number, heard, self.lease_ms, shares, asks, joins, 0)
        return self.tallies.exchange(message, now_ms or self.now_ms)


@pytest.fixture
def tallies():
    return Tallies()


@pytest.fixture
def one(tallies):
    """A member that has joined."""
    speaker = Speaker(tallies, "one")
    assert speaker.say(joins=True).state is State.TAKEN
    return speaker


def test_what_nobody_asks_for_any_more_is_forgotten(tallies, one):
    """Windows that are over, buckets that are long empty, slots that nobody has."""
    one.say([[Line(POT, 1, 9), Line(MONTH, 1, 9), Line(ASKED, 1, 9), Line(SLOT, 1, 9)]])
    tallies.forget(OVER_MS - 1)
    assert (set(tallies._pots), set(tallies._buckets), set(tallies._slots)) == (
        {POT.name, MONTH.name},
        {ASKED.name},
        {SLOT.name},
    )
    tallies.forget(OVER_MS)
    assert set(tallies._pots) == {MONTH.name}
    tallies.end(Ended("one", (), last=True))
    tallies.forget(BEGAN_MS + IDLE_MS - 1)
    assert (set(tallies._buckets), tallies._slots) == ({ASKED.name}, {})
    tallies.forget(BEGAN_MS + IDLE_MS)
    assert tallies._buckets == {}


def test_the_fullest_bucket_is_empty_before_it_is_forgotten(one):
    """Or a rate would be given twice."""
    for _ in range(200):
        one.say([[Line(ASKED, 60, 60, soft=True)]])
    (full,) = one.say([[Line(ASKED, 1, 60)]]).verdicts
    assert full.retry_ms < IDLE_MS
    (after,) = one.say([[Line(ASKED, 60, 60)]], now_ms=BEGAN_MS + IDLE_MS).verdicts
    assert (after.taken, after.used) == (0, (60 * MINUTE_MS,))


def test_a_refused_ask_leaves_no_trace(tallies, one):
    """Neither in what is used nor in what is kept."""
    one.say([[Line(POT, 5, 9), Line(ASKED, 2, 9), Line(SLOT, 1, 1)]])
    before = (tallies._pots[POT.name].used, tallies._buckets[ASKED.name].level, dict(tallies._slots[SLOT.name]))
    other = Counter(MONEY, "m:k:other:2026-11-22", OVER_MS)
    (refused,) = one.say([[Line(POT, 1, 9), Line(other, 1, 9), Line(ASKED, 1, 9), Line(SLOT, 1, 1)]]).verdicts
    assert (refused.taken, refused.line) == (-1, 3)
    assert refused.used == (5, 0, 2 * MINUTE_MS, 1), "without the ask"
    assert (
        tallies._pots[POT.name].used,
        tallies._buckets[ASKED.name].level,
        dict(tallies._slots[SLOT.name]),
    ) == before
    assert other.name not in tallies._pots


def test_asks_of_a_message_are_answered_in_their_order(one):
    """The first that fits leaves no room for the next."""
    verdicts = one.say([[Line(POT, 6, 9)]], [[Line(POT, 6, 9)]], [[Line(POT, 3, 9)]]).verdicts
    assert [verdict.taken for verdict in verdicts] == [0, -1, 0]


def test_an_old_message_changes_nothing(tallies, one):
    """Neither its shares nor its asks, and its sender lives no longer for it."""
    one.say(shares=(Share(POT, 3, 2),))
    alive = dict(tallies._alive)
    late = Message("one", one.number, one.number - 1, 10**9, (Share(POT, 9, 9),), ([[Line(POT, 1, 9)]],), False, 0)
    assert tallies.exchange(late, BEGAN_MS).state is State.OLD
    assert (tallies._pots[POT.name].used, tallies._alive) == (5, alive)


def test_who_ends_is_not_known_any_more_and_its_spend_stays(tallies, one):
    """Until then it may be told of in pieces."""
    two = Speaker(tallies, "two")
    two.say(joins=True)
    one.say([[Line(POT, 6, 9), Line(SLOT, 1, 1)]])
    tallies.end(Ended("one", (Share(MONTH, 4, 0),), last=False))
    assert (tallies._pots[POT.name].used, tallies._pots[MONTH.name].used) == (6, 4)
    assert "one" in tallies._numbers
    tallies.end(Ended("one", (Share(POT, 2, 0),), last=True))
    assert (tallies._pots[POT.name].used, tallies._pots[MONTH.name].used) == (2, 4)
    assert ("one" in tallies._numbers, "one" in tallies._alive, tallies._slots[SLOT.name]) == (False, False, {})
    (verdict,) = two.say([[Line(POT, 7, 9), Line(SLOT, 1, 1)]]).verdicts
    assert verdict.taken == 0


def test_who_ends_holds_nothing_also_where_its_ledger_names_nothing(tallies, one):
    """It died before the open row."""
    one.say([[Line(POT, 6, 9)]])
    tallies.end(Ended("one", (), last=True))
    assert tallies._pots[POT.name].used == 0


def test_who_comes_back_to_a_copy_that_lacks_its_words_makes_everybody_tell_again(tallies, one):
    """Others may not have noticed."""
    two = Speaker(tallies, "two")
    two.say(joins=True)
    assert one.say(joins=True, heard=99).state is State.TAKEN
    assert two.say().state is State.UNKNOWN


def test_who_never_spoke_may_end(tallies, one):
    """What a process spent before there was a store."""
    tallies.end(Ended("stranger", (Share(POT, 4, 0),), last=True))
    (verdict,) = one.say([[Line(POT, 6, 9)]]).verdicts
    assert (verdict.taken, verdict.used) == (-1, (4,))


def test_silence_gives_back_slots_and_no_money(tallies, one):
    """What was in flight may be billed."""
    one.say([[Line(POT, 6, 9), Line(SLOT, 1, 1)]])
    two = Speaker(tallies, "two")
    two.say(joins=True)
    (before,) = two.say([[Line(SLOT, 1, 1)]], now_ms=BEGAN_MS + one.lease_ms - 1).verdicts
    (after,) = two.say([[Line(SLOT, 1, 1)]], now_ms=BEGAN_MS + one.lease_ms).verdicts
    (money,) = two.say([[Line(POT, 6, 9)]], now_ms=BEGAN_MS + 10**9).verdicts
    assert (before.taken, after.taken, money.taken) == (-1, 0, -1)


@pytest.mark.parametrize("seed", range(10))
def test_sums_are_sums_and_no_hard_limit_is_passed_by_an_ask(seed):
    """After every step, whatever is said in whatever order; the same told again changes nothing."""
    draw, tallies = random.Random(seed), Tallies()
    limit, now_ms = 1_000, BEGAN_MS
    pots = [Counter(MONEY, f"m:{number}", BEGAN_MS + 10**9) for number in range(3)]
    members = {name: Speaker(tallies, name) for name in "abc"}
    had = {(name, pot.name): [0, 0] for name in members for pot in pots}
    for speaker in members.values():
        speaker.say(joins=True)
    for _ in range(600):
        name = draw.choice("abc")
        speaker = members[name]
        now_ms = speaker.now_ms = now_ms + draw.randrange(3)
        told = []
        for pot in draw.sample(pots, draw.randrange(3)):
            mine = had[name, pot.name]
            spent = draw.randrange(mine[1] + 1)
            mine[0] += draw.randrange(spent + 1)
            mine[1] -= spent
            told += [Share(pot, mine[0], mine[1])] * draw.randrange(1, 3)
        asks = [
            [[Line(pot, draw.randrange(300), limit) for pot in draw.sample(pots, draw.randrange(1, 4))]]
            for _ in range(draw.randrange(3))
        ]
        reply = speaker.say(*asks, shares=tuple(told))
        for ask, verdict in zip(asks, reply.verdicts, strict=True):
            for line in ask[0] if verdict.taken == 0 else ():
                had[name, line.counter.name][1] += line.amount
        for pot in pots:
            kept = tallies._pots.get(pot.name)
            used = sum(sum(had[one, pot.name]) for one in members)
            assert (0 if kept is None else kept.used) == used <= limit
            if kept is not None:
                assert kept.used == sum(kept.settled.values()) + sum(kept.held.values())
