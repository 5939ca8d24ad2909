"""Which deployments rest after they failed: a breaker for each. Pure: time and chance are arguments.

Where on the path: `attempting` asks before every attempt and tells how each ended; /readyz, /metrics and the log show
it. Decisions don't depend on it, so that they can be taken again: a deployment that rests is passed over, not unranked.

    closed     --`FAILURES_IN_A_ROW`, or half of the last `OUTCOMES`--> open
    open       --its rest is over--> half_open: one attempt at a time, a probe
    half_open  --the probe answers--> closed; --it fails--> open, for twice as long

A deployment that said when to come back (429, or overloaded with a Retry-After) rests until then and needs no probe.
One that refuses our key, our account or its own name rests at once: no other request can fare better.

Invariants
1. Only what a deployment did itself counts: never a refusal of the caller's own request, a caller who left, or a
   deadline that caller or router set. It takes several requests to open a breaker, so that no single one opens many.
2. No request is spent on a deployment that rests, but for one probe at a time.
3. Bounded: an entry exists only after a failure and goes with the next success; `OUTCOMES` outcomes each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from service.errors import NotSent, Replied, UpstreamError

FAILURES_IN_A_ROW: Final = 5

OUTCOMES: Final = 20
OUTCOMES_MIN: Final = 10
FAILED_SHARE: Final = 0.5
OUTCOMES_S: Final = 60.0
"""Half of at least ten outcomes of the last minute: a vendor that fails every other time never fails five in a row."""

REST_S: Final = 1.0
REST_S_MAX: Final = 30.0
"""The first rest is short: whoever has but one vendor gets nothing meanwhile, and most outages are blips."""

SPREAD: Final = 0.2
"""Rests are up to a fifth longer, by chance: workers that saw the same failure shall not probe in the same instant."""

REFUSED_REST_S: Final = 30.0
"""Of a deployment that refuses our key or knows no such model: somebody has to change something first."""

WAIT_S: Final = 1.0
WAIT_S_MAX: Final = 60.0
"""Of one that is over its limit and does not say for how long, and at most, whatever it says."""


class State(StrEnum):
    """Of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Blame(StrEnum):
    """Whose fault a failure is, and so what it means for the next request."""

    NOBODY = "nobody"
    DEPLOYMENT = "deployment"
    LIMIT = "limit"
    ACCOUNT = "account"


_OF_THE_ACCOUNT: Final = frozenset({"auth_failed", "payment_required", "model_not_found"})
_OF_A_LIMIT: Final = frozenset({"rate_limited", "overloaded"})


def blame(problem: UpstreamError) -> Blame:
    """Whose fault it was that an attempt failed."""
    if isinstance(problem, Replied) and problem.passthrough:
        return Blame.NOBODY
    if isinstance(problem, NotSent) and problem.cause == "invalid_request":
        return Blame.NOBODY  # it could not be written as HTTP
    if problem.cause == "context_length":
        return Blame.NOBODY
    if problem.cause in _OF_THE_ACCOUNT:
        return Blame.ACCOUNT
    if problem.cause == "rate_limited" or (problem.cause in _OF_A_LIMIT and problem.retry_after_s is not None):
        return Blame.LIMIT
    return Blame.DEPLOYMENT


class Pass(StrEnum):
    """Leave to make an attempt: as usual, or as the one that finds out whether a deployment is back."""

    USUAL = "usual"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Rest:
    """A deployment that is passed over, or waits for a probe (`half_open`). `for_s` is what is left of its rest."""

    state: State
    cause: str
    for_s: float


@dataclass(slots=True)
class _Breaker:
    """One deployment that failed lately. `until` is when its rest ends, `None` while it is closed."""

    outcomes: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=OUTCOMES))
    until: float | None = None
    needs_probe: bool = False
    probing: bool = False
    rest_s: float = REST_S
    cause: str = ""

    def failed_in_a_row(self) -> int:
        count = 0
        for _, answered in reversed(self.outcomes):
            if answered:
                break
            count += 1
        return count

    def is_failing(self, now: float) -> bool:
        if self.failed_in_a_row() >= FAILURES_IN_A_ROW:
            return True
        recent = [answered for at, answered in self.outcomes if now - at <= OUTCOMES_S]
        return len(recent) >= OUTCOMES_MIN and recent.count(False) >= FAILED_SHARE * len(recent)


class Health:
    """The breakers of all deployments of one process. `draw` gives a number from 0 to 1, by chance."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._breakers: dict[str, _Breaker] = {}
        self.opened = 0

    def admit(self, deployment: str, now: float) -> Pass | None:
        """Leave to call a deployment at `now` (monotonic seconds), or `None` while it rests.

        A probe is out until `answered`, `failed` or `withdrawn` is called with its pass.
        """
        one = self._breakers.get(deployment)
        if one is None or one.until is None:
            return Pass.USUAL
        if now < one.until or one.probing:
            return None
        if not one.needs_probe:
            one.until = None
            return Pass.USUAL
        one.probing = True
        return Pass.PROBE

    def is_sound(self, deployment: str) -> bool:
        """Whether nothing speaks against it: it never failed, or it answered last."""
        one = self._breakers.get(deployment)
        return one is None or (one.until is None and bool(one.outcomes) and one.outcomes[-1][1])

    def answered(self, deployment: str, by: Pass, now: float) -> bool:
        """It answered; whether that closed its breaker."""
        one = self._breakers.get(deployment)
        if one is None:
            return False
        if by is Pass.PROBE:
            del self._breakers[deployment]
            return True
        if one.until is None:
            one.outcomes.append((now, True))
            if all(answered for _, answered in one.outcomes):
                del self._breakers[deployment]
        return False

    def failed(self, deployment: str, by: Pass, problem: UpstreamError, now: float) -> Rest | None:
        """It failed; its rest, if one begins with this failure."""
        fault = blame(problem)
        if fault is Blame.NOBODY:
            self.withdrawn(deployment, by)
            return None
        one = self._breakers.setdefault(deployment, _Breaker())
        if by is Pass.PROBE:
            one.probing = False
        elif one.until is not None and fault is not Blame.LIMIT:
            return None  # it was called before it went to rest: that is known already
        one.outcomes.append((now, False))
        if fault is Blame.LIMIT:
            return self._rest(one, now, min(problem.retry_after_s or WAIT_S, WAIT_S_MAX), problem.cause, probe=False)
        if fault is Blame.ACCOUNT:
            return self._rest(one, now, REFUSED_REST_S, problem.cause, probe=True)
        if by is Pass.PROBE:
            one.rest_s = min(2 * one.rest_s, REST_S_MAX)
        elif not one.is_failing(now):
            return None
        return self._rest(one, now, one.rest_s, problem.cause, probe=True)

    def withdrawn(self, deployment: str, by: Pass) -> None:
        """An attempt ended and says nothing about the deployment."""
        one = self._breakers.get(deployment)
        if one is not None and by is Pass.PROBE:
            one.probing = False

    def resting(self, deployment: str, now: float) -> Rest | None:
        """Why a deployment is passed over now, or `None`."""
        one = self._breakers.get(deployment)
        if one is None or one.until is None:
            return None
        if now < one.until:
            return Rest(State.OPEN, one.cause, one.until - now)
        return Rest(State.HALF_OPEN, one.cause, 0.0) if one.needs_probe else None

    def told(self, now: float) -> Mapping[str, Rest]:
        """Every deployment that rests or waits for a probe."""
        found = {one: self.resting(one, now) for one in sorted(self._breakers)}
        return {one: rest for one, rest in found.items() if rest is not None}

    def forget(self) -> None:
        """Begin anew: another registry serves."""
        self._breakers.clear()

    def _rest(self, one: _Breaker, now: float, for_s: float, cause: str, *, probe: bool) -> Rest:
        """Begin a rest, or make the one that runs longer."""
        until = now + for_s * (1 + SPREAD * self._draw())
        one.until = until if one.until is None else max(one.until, until)
        one.needs_probe |= probe
        one.cause = cause
        self.opened += 1
        return Rest(State.OPEN, cause, one.until - now)
