"""What to do after an attempt failed: call the same deployment again, go to the next one, or stop. Pure.

Where on the path: `attempting` is the one owner of attempts; it asks here after each failure, and does what is said.

| what failed | while another deployment is left | when none is left |
|---|---|---|
| refused by the vendor, the caller's own fault | stop: its words are worth more than another attempt | stop |
| too long for the context | the next one with a larger context | stop |
| over a limit, with or without Retry-After | the next one | again, when the wait is short enough |
| 5xx, without a Retry-After | again, once, where an attempt is to spare; else the next one | again, once |
| not reached, hung up, broken before content | the next one | again, once |
| silence: nothing came in time | the next one | stop: it had its time |
| our key, our account, an unknown name | the next one | stop |

An attempt more costs the vendor something, and in an outage it is what keeps it down. So calls that go where something
has failed lately are paid for from `Budget`: a fifth of the requests, and a few to begin with. A call to a deployment
that nothing speaks against is free.

Invariants
1. At most `attempts_max` attempts of a request, whatever a caller sends; the deadline of a request is over all of them.
2. Waits have full jitter: anything from nothing to their limit; a Retry-After is a least, and never cut short.
3. The same deployment is called twice at most, and never again after silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from service.errors import Replied, UpstreamError
from service.routing.health import Blame, blame

BACKOFF_S: Final = 0.25
BACKOFF_BEFORE_NEXT_S: Final = 0.02
"""A second call to the same deployment comes after up to so many seconds, by chance. It comes sooner where another
deployment could answer meanwhile: nobody shall notice."""

WAIT_S_MAX: Final = 10.0
"""A Retry-After beyond this is no reason to keep a caller waiting."""

FAULTS_FROM: Final = 500
"""Statuses from here on are a vendor's own faults."""

TRIES_MAX: Final = 2
"""Calls of one request to one deployment."""

BUDGET_REQUESTS: Final = 5
BUDGET_MAX: Final = 100
BUDGET_FIRST: Final = 10
"""Paid attempts: one for each five requests; saved up to a hundred, and ten at the start, or few requests had none."""


class Move(StrEnum):
    """What is next."""

    NEXT = "next"
    AGAIN = "again"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Step:
    """What is next, and how long to wait before it, in seconds."""

    move: Move
    wait_s: float = 0.0


STOP: Final = Step(Move.STOP)
NEXT: Final = Step(Move.NEXT)


def is_silence(problem: UpstreamError) -> bool:
    """Whether a deployment had its time and said nothing; a connection that did not come about in time is none."""
    return problem.cause.startswith("timeout") and problem.cause != "timeout_connect"


def after(
    problem: UpstreamError, *, others: int, tries: int, left: int, left_s: float, rest_s: float, chance: float
) -> Step:
    """What to do after a failure.

    `others` deployments may still be called; this one was called `tries` times and rests for `rest_s` seconds more.
    `left` attempts and `left_s` seconds are left of the request. `chance` is a number from 0 to 1.
    """
    if isinstance(problem, Replied) and problem.passthrough and problem.cause != "context_length":
        return STOP
    if left < 1:
        return STOP
    if others > 0:
        spare = left > others and tries < TRIES_MAX and not rest_s and _is_passing(problem)
        return Step(Move.AGAIN, chance * BACKOFF_BEFORE_NEXT_S) if spare else NEXT
    fault = blame(problem)
    if fault in (Blame.NOBODY, Blame.ACCOUNT) or is_silence(problem) or tries >= TRIES_MAX:
        return STOP
    least = max(problem.retry_after_s or 0.0, rest_s)
    wait_s = least + chance * BACKOFF_S
    if least > WAIT_S_MAX or wait_s >= left_s:
        return STOP
    return Step(Move.AGAIN, wait_s)


def _is_passing(problem: UpstreamError) -> bool:
    """Whether a vendor said that something is wrong with itself, and not for how long: mostly it is over at once."""
    status = problem.upstream_status or 0
    return isinstance(problem, Replied) and status >= FAULTS_FROM and blame(problem) is Blame.DEPLOYMENT


class Budget:
    """What may be spent on attempts that go where something has failed lately. Each request adds a fifth of one."""

    __slots__ = ("_saved",)

    def __init__(self) -> None:
        self._saved = BUDGET_FIRST * BUDGET_REQUESTS

    def earn(self) -> None:
        """A request came."""
        self._saved = min(self._saved + 1, BUDGET_MAX * BUDGET_REQUESTS)

    def pay(self) -> bool:
        """Take one attempt out; false when there is none."""
        if self._saved < BUDGET_REQUESTS:
            return False
        self._saved -= BUDGET_REQUESTS
        return True
