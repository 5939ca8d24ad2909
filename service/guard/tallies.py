"""The store of one process: `exchange.lua`, in Python. One contract suite runs over both; change them together.

Where on the path: `counters.LocalCounters` asks it, without leaving the process.

Invariants
1. An ask is taken whole or not at all; asks of a message are answered in their order.
2. Of money, settled and held never grow over the limit of an ask by an ask.
3. A message that is older than one before it changes nothing. One that tells of the same shares again changes nothing.
4. What a member has settled never shrinks. What it holds is what it said last, also when it is silent: money that was
   in flight when a process died stays charged until its ledger says what came of it. Slots come back with the lease.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from service.guard.counting import (
    DRAIN_MS_MAX,
    MINUTE_MS,
    MONEY,
    RATE,
    SLOTS,
    Ask,
    Ended,
    Line,
    Message,
    Reply,
    Share,
    State,
    Verdict,
)

IDLE_MS = 2 * DRAIN_MS_MAX
"""After which a bucket that nobody asked is forgotten: it is empty long before."""


@dataclass(slots=True)
class _Pot:
    """Money of one window by member; `used` is the sum of both."""

    until_ms: int
    used: int = 0
    settled: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Bucket:
    """A rate: `level` units x `MINUTE_MS` at `at_ms`."""

    level: int
    at_ms: int


class Tallies:
    """Counters of all members. Time is passed in, in Unix milliseconds."""

    def __init__(self) -> None:
        """Nobody is known."""
        self._numbers: dict[str, int] = {}
        self._alive: dict[str, int] = {}
        self._ready_ms: int | None = None
        self._pots: dict[str, _Pot] = {}
        self._buckets: dict[str, _Bucket] = {}
        self._slots: dict[str, dict[str, int]] = {}

    def exchange(self, message: Message, now_ms: int) -> Reply:
        """Take what a member says, and answer what it asks."""
        stored = self._numbers.get(message.member)
        lacks = self._lacks(message, stored)
        if message.joins:
            if lacks:
                self._numbers.clear()
                stored = self._ready_ms = None
            if self._ready_ms is None:
                self._ready_ms = now_ms + message.grace_ms
        elif self._ready_ms is not None and (lacks or (stored is not None and self._has_lost(message))):
            self._numbers.clear()
            self._ready_ms = None
            return Reply(State.UNKNOWN)
        elif stored is None or self._ready_ms is None:
            return Reply(State.UNKNOWN)
        self._ready_ms = min(self._ready_ms, now_ms + message.grace_ms)  # a clock may be set back
        if stored is not None and message.number <= stored:
            return Reply(State.OLD)
        self._numbers[message.member] = message.number
        self._alive[message.member] = now_ms + message.lease_ms
        for share in message.shares:
            self._take(message.member, share, now_ms)
        if now_ms < self._ready_ms:
            return Reply(State.GATHERING, self._ready_ms - now_ms, (), self._ready_ms)
        verdicts = tuple(self._answer(message.member, ask, now_ms) for ask in message.asks)
        return Reply(State.TAKEN, 0, verdicts, self._ready_ms)

    def end(self, ended: Ended) -> None:
        """Take what is known of a member that is no more."""
        for share in ended.shares:
            self._take(ended.member, share, 0)
        if ended.last:
            for pot in self._pots.values():
                pot.used -= pot.held.pop(ended.member, 0)
            for slots in self._slots.values():
                slots.pop(ended.member, None)
            self._numbers.pop(ended.member, None)
            self._alive.pop(ended.member, None)

    def forget(self, now_ms: int) -> None:
        """Let go of what nobody asks for any more."""
        self._pots = {name: pot for name, pot in self._pots.items() if pot.until_ms > now_ms}
        self._buckets = {name: one for name, one in self._buckets.items() if one.at_ms > now_ms - IDLE_MS}
        self._slots = {name: slots for name, slots in self._slots.items() if slots}

    def _lacks(self, message: Message, stored: int | None) -> bool:
        """Whether this is an older copy of what the member spoke with."""
        if stored is not None and stored < message.heard:
            return True
        if self._ready_ms is None or not message.era_ms:
            return False
        return self._ready_ms < message.era_ms or (self._ready_ms == message.era_ms and stored is None)

    def _has_lost(self, message: Message) -> bool:
        told = [share.counter.name for share in message.shares if share.known and share.counter.kind == MONEY]
        for name in (*told, *message.known):
            pot = self._pots.get(name)
            if pot is None or message.member not in pot.settled:
                return True
        return False

    def _take(self, member: str, share: Share, now_ms: int) -> None:
        name = share.counter.name
        if share.counter.kind == MONEY:
            pot = self._pots.get(name)
            if pot is None:
                pot = self._pots[name] = _Pot(share.counter.until_ms)
            settled = max(pot.settled.get(member, 0), share.settled)
            pot.used += settled - pot.settled.get(member, 0) + share.held - pot.held.get(member, 0)
            pot.settled[member], pot.held[member] = settled, share.held
        elif share.counter.kind == RATE:
            bucket = self._drained(name, share.limit, now_ms)
            bucket.level = min(max(0, bucket.level + share.held * MINUTE_MS), share.limit * DRAIN_MS_MAX)
            self._buckets[name] = bucket
        else:
            self._slots.setdefault(name, {})[member] = share.held

    def _drained(self, name: str, limit: int, now_ms: int) -> _Bucket:
        """A bucket as it is now."""
        bucket = self._buckets.get(name)
        if bucket is None:
            return _Bucket(0, now_ms)
        bucket.at_ms = min(bucket.at_ms, now_ms)  # a clock that was set back begins again from here
        elapsed = min(now_ms - bucket.at_ms, DRAIN_MS_MAX)
        return _Bucket(max(0, bucket.level - elapsed * limit), now_ms)

    def _answer(self, member: str, ask: Ask, now_ms: int) -> Verdict:
        failed, retry_ms, used = -1, 0, [0]
        for place, lines in enumerate(ask):
            used = [self._used(member, line, now_ms) + _weight(line) for line in lines]
            failed = next((at for at, line in enumerate(lines) if not _fits(line, used[at])), -1)
            if failed < 0:
                for line in lines:
                    self._grow(member, line, now_ms)
                return Verdict(place, -1, 0, tuple(used))
            retry_ms = _retry_ms(lines[failed], used[failed])
            used = [have - _weight(line) for have, line in zip(used, lines, strict=True)]
        return Verdict(-1, failed, retry_ms, tuple(used))

    def _used(self, member: str, line: Line, now_ms: int) -> int:
        name = line.counter.name
        if line.counter.kind == MONEY:
            pot = self._pots.get(name)
            return 0 if pot is None else pot.used
        if line.counter.kind == RATE:
            return self._drained(name, line.limit, now_ms).level
        slots = self._slots.get(name, {})
        return sum(held for one, held in slots.items() if one == member or self._alive.get(one, 0) > now_ms)

    def _grow(self, member: str, line: Line, now_ms: int) -> None:
        name = line.counter.name
        if line.counter.kind == MONEY:
            pot = self._pots.get(name)
            if pot is None:
                pot = self._pots[name] = _Pot(line.counter.until_ms)
            pot.settled.setdefault(member, 0)
            pot.held[member] = pot.held.get(member, 0) + line.amount
            pot.used += line.amount
        elif line.counter.kind == RATE:
            bucket = self._drained(name, line.limit, now_ms)
            bucket.level = min(bucket.level + line.amount * MINUTE_MS, line.limit * DRAIN_MS_MAX)
            self._buckets[name] = bucket
        else:
            slots = self._slots.setdefault(name, {})
            slots[member] = slots.get(member, 0) + line.amount


def _weight(line: Line) -> int:
    return line.amount * MINUTE_MS if line.counter.kind == RATE else line.amount


def _fits(line: Line, used: int) -> bool:
    most = line.limit * MINUTE_MS if line.counter.kind == RATE else line.limit
    return line.soft or used <= most


def _retry_ms(line: Line, used: int) -> int:
    """When a line that did not fit could, at the earliest; 0 where waiting is no help."""
    if line.counter.kind == SLOTS:
        return 1_000 if line.amount <= line.limit else 0
    if line.counter.kind == MONEY or not 0 < line.amount <= line.limit:
        return 0
    return -(-(used - line.limit * MINUTE_MS) // line.limit)
