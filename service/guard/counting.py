"""The words between a router process and the store that counts for all of them: counters, asks, messages, replies.

Where on the path: below `counters` (who speaks) and `tallies` and `exchange.lua` (who answer, in memory and in Redis).

A process is a *member*. What it has in a counter is told absolutely: what it has settled and what it holds, never a
difference. So a message may be lost, doubled or late: the next one puts everything right. Differences would not.

| kind | counts | a member's share |
|---|---|---|
| `MONEY` | pico-USD of a day or a month | settled, and held by reservations that run |
| `RATE` | requests or tokens in a minute, as a bucket that drains all the time | none; corrections are told once |
| `SLOTS` | requests at the same time | held; counts only while the member is alive |
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

MONEY: Final = "m"
RATE: Final = "r"
SLOTS: Final = "c"

MINUTE_MS: Final = 60_000

DRAIN_MS_MAX: Final = 120_000
"""No bucket is fuller than what drains in two minutes: whoever used more than was held, or went over a soft limit that
then became hard, waits for a minute and not for an hour."""

FIRST_KEY: Final = 4
"""Keys of the script before those of the counters."""


class Counter(NamedTuple):
    """What is counted. `name` is unique; `until_ms` (Unix) is when nobody asks for it any more, 0: when it is idle."""

    kind: str
    name: str
    until_ms: int = 0


class Line(NamedTuple):
    """One counter of an ask: how much it is to grow by, and what it may not grow over.

    A soft line is counted and never refuses.
    """

    counter: Counter
    amount: int
    limit: int
    soft: bool = False


Ask = Sequence[Sequence[Line]]
"""Alternatives in order of preference, each all or nothing: the first whose every line fits is taken."""


class Verdict(NamedTuple):
    """The answer to an ask.

    `taken` is the place of the alternative that was taken, -1 when none fits; then `line` is the place of the line of
    the last alternative that did not, and `retry_ms` when it could at the earliest, 0 when waiting is no help. `used`
    are the counters of the alternative that was looked at last: pico-USD, slots, or fill of a bucket (`MINUTE_MS` per
    unit), with the ask where it was taken.
    """

    taken: int
    line: int
    retry_ms: int
    used: tuple[int, ...]


class Share(NamedTuple):
    """What a member has in a counter. `known`: it has told the store of it before.

    Of a rate, `settled` is unused, `held` is a correction in units and `limit` the rate that drains it.
    """

    counter: Counter
    settled: int
    held: int
    known: bool = False
    limit: int = 0


class Message(NamedTuple):
    """What a member says.

    `number` grows with each message; `heard` is the last one that the store answered, 0 for none: a store that has
    taken less has lost something. So has one that has gathered no later than `era_ms`, of the last reply, and does not
    know the member: it is a copy from before. `joins`: the store may not know the member, and waits `grace_ms` for the
    others if it knows nobody. `lease_ms`: how long it counts as alive without another message. `known` are the counters
    of the asks, by name, that it has told the store of before.
    """

    member: str
    number: int
    heard: int
    lease_ms: int
    shares: Sequence[Share] = ()
    asks: Sequence[Ask] = ()
    joins: bool = False
    grace_ms: int = 0
    era_ms: int = 0
    known: Collection[str] = ()


class Ended(NamedTuple):
    """What is known of a member that is no more: what it settled, by its ledger; it holds nothing.

    `last`: with this all of it was told, and the store may forget the member.
    """

    member: str
    shares: Sequence[Share]
    last: bool


class State(IntEnum):
    """How the store took a message."""

    TAKEN = 0
    UNKNOWN = 1
    """It does not know the member, or has lost what it said: the member is to join, with everything it has."""
    OLD = 2
    """A later message came before; nothing was done."""
    GATHERING = 3
    """Shares were taken, asks were not: members that were forgotten may have more to tell."""


class Reply(NamedTuple):
    """What the store says. `wait_ms` is how much longer it gathers; `verdicts` answer the asks in order.

    `era_ms` is when its last gathering ended or will, by its clock: nothing that was said before that is lost on it.
    """

    state: State
    wait_ms: int = 0
    verdicts: tuple[Verdict, ...] = ()
    era_ms: int = 0
