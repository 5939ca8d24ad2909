"""Whom to call next: the best-ranked who may be called, the same one again, one that is waited for, or nobody.

Pure. Where on the path: `attempting` is the one owner of attempts; it asks here before each, and does what is said.

| what failed | while another deployment may be called | when none may |
|---|---|---|
| refused by the vendor, the caller's own fault | stop: its words are worth more than another attempt | stop |
| too long for the context | the next one with a larger context | stop |
| one of several keys | again, with another key; the last attempt is for the next one | again, with another key |
| over a limit, with or without Retry-After | the next one | again, when the wait is short enough |
| 5xx without a Retry-After | again, once, where an attempt is to spare; else the next one | again, once |
| not reached, hung up, broken before content | the next one | again, once |
| silence: nothing came in time | the next one | stop: it had its time |
| our key, our account, an unknown name | the next one | stop |

An attempt more costs the vendor something, and in an outage it is what keeps it down. So calls that go where something
has failed lately are paid for from `Budget`: a fifth of the requests, and a few to begin with. A first attempt, a probe
and a call to a deployment that nothing speaks against are free.

Invariants
1. At most `left` attempts of a request, whatever a caller sends; what is waited for leaves at least as much time again.
2. Waits have full jitter: anything from nothing to their limit; a Retry-After is a least, and never cut short.
3. The same deployment is called twice at most, another key aside, and never again after silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from service.errors import Replied, UpstreamError
from service.routing.blame import Blame, blame, is_fault
from service.routing.health import SPREAD, Rest, State

BACKOFF_S: Final = 0.25
BACKOFF_BEFORE_NEXT_S: Final = 0.02
"""A second call to the same deployment comes after up to so many seconds, by chance. It comes sooner where another
deployment could answer meanwhile: nobody shall notice."""

WAIT_S_MAX: Final = 10.0
"""A Retry-After beyond this is no reason to keep a caller waiting."""

TRIES_MAX: Final = 2
"""Calls of one request to one deployment."""

BUDGET_REQUESTS: Final = 5
BUDGET_MAX: Final = 100
BUDGET_FIRST: Final = 10
"""Paid attempts: one for each five requests; saved up to a hundred, and ten at the start, or few requests had none."""


@dataclass(frozen=True, slots=True)
class Option:
    """A deployment that this request could go to. `rest` is why not now, `sound` whether nothing speaks against it."""

    provider: str
    rest: Rest | None = None
    sound: bool = True
    tries: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it may be called now, perhaps as a probe."""
        return self.rest is None or self.rest.is_open


@dataclass(frozen=True, slots=True)
class Failure:
    """The attempt before: how it failed, and the deployment, which has been called `option.tries` times."""

    problem: UpstreamError
    option: Option


@dataclass(frozen=True, slots=True)
class Step:
    """Whom to call: a place among the options, or `None` for the one that failed. `pays`: from the budget."""

    place: int | None
    wait_s: float = 0.0
    pays: bool = False


def is_silence(problem: UpstreamError) -> bool:
    """Whether a deployment had its time and said nothing; a connection that did not come about in time is none."""
    return problem.cause.startswith("timeout") and problem.cause != "timeout_connect"


def is_final(problem: UpstreamError) -> bool:
    """Whether a refusal is passed on at once: the caller's own fault, which no other deployment would forgive."""
    return isinstance(problem, Replied) and problem.passthrough and problem.cause != "context_length"


def choose(
    failure: Failure | None, options: Sequence[Option], *, left: int, left_s: float, can_pay: bool, chance: float
) -> Step | None:
    """Whom to call next, or `None` when it is over.

    `failure` is `None` before the first attempt. `options` are the others, best first. `left` attempts and `left_s`
    seconds are left of the request; `can_pay` says whether the budget has one; `chance` is a number from 0 to 1.
    """
    if left < 1 or (failure is not None and is_final(failure.problem)):
        return None
    free = [failure is None or one.sound or one.rest is not None for one in options]
    able = [place for place, one in enumerate(options) if one.is_open and (free[place] or can_pay)]
    if failure is not None and failure.problem.of_key and (left > 1 or not able):
        return Step(None)  # but the last attempt goes to somebody else, where there is one
    if failure is not None and can_pay and _is_passing(failure):
        # Models of one vendor fail together: as long as there are other vendors, those are who else can be asked.
        elsewhere = {options[place].provider for place in able} - {failure.option.provider}
        if able and left > (len(elsewhere) or len(able)):
            return Step(None, chance * BACKOFF_BEFORE_NEXT_S, pays=True)
    if able:
        return Step(able[0], pays=not free[able[0]])
    first = _first_back(failure if can_pay else None, options, chance * BACKOFF_S)
    if first is None or first.wait_s > WAIT_S_MAX * (1 + SPREAD) + BACKOFF_S or 2 * first.wait_s >= left_s:
        return None
    return first


def _first_back(failure: Failure | None, options: Sequence[Option], backoff_s: float) -> Step | None:
    """Whoever may be called first, when nobody may now."""
    waits = [
        Step(place, one.rest.for_s + backoff_s)
        for place, one in enumerate(options)
        if one.rest is not None and one.rest.state is State.OPEN and one.rest.returns and one.tries < TRIES_MAX
    ]
    if failure is not None and _may_be_called_again(failure):
        rest_s = 0.0 if failure.option.rest is None else failure.option.rest.for_s
        waits.append(Step(None, max(failure.problem.retry_after_s or 0.0, rest_s) + backoff_s, pays=True))
    return min(waits, key=lambda step: step.wait_s, default=None)


def _is_passing(failure: Failure) -> bool:
    """Whether a vendor said that something is wrong with itself, and not for how long: mostly it is over at once."""
    problem, option = failure.problem, failure.option
    return option.tries < TRIES_MAX and option.rest is None and is_fault(problem) and blame(problem) is Blame.DEPLOYMENT


def _may_be_called_again(failure: Failure) -> bool:
    fault = blame(failure.problem)
    if fault in (Blame.NOBODY, Blame.ACCOUNT) or is_silence(failure.problem):
        return False
    return failure.option.tries < TRIES_MAX and (failure.problem.retry_after_s or 0.0) <= WAIT_S_MAX


class Budget:
    """What may be spent on attempts that go where something has failed lately. Five requests add one."""

    __slots__ = ("_saved",)

    def __init__(self) -> None:
        self._saved = BUDGET_FIRST * BUDGET_REQUESTS

    def earn(self) -> None:
        """A request came."""
        self._saved = min(self._saved + 1, BUDGET_MAX * BUDGET_REQUESTS)

    @property
    def can_pay(self) -> bool:
        """Whether there is one attempt in it."""
        return self._saved >= BUDGET_REQUESTS

    def pay(self) -> None:
        """Take one attempt out."""
        self._saved -= BUDGET_REQUESTS
