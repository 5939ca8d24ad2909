"""Which deployments rest after they failed: a breaker for each. Pure: time and chance are arguments.

Where on the path: `attempting` asks before every attempt and tells how each ended; /readyz, /metrics and the log show
it. Decisions don't depend on it, so that they can be taken again: a deployment that rests is passed over, not unranked.

    closed     --`FAILURES_IN_A_ROW` requests, or half of the last `OUTCOMES`--> open
    open       --its rest is over--> half_open: one request each `PROBE_S`, a probe
    half_open  --a probe has its first content--> on trial: closed, until the first outcome
    on trial   --a whole answer--> closed;  --a failure--> open, for twice as long

A deployment that said when to come back (429 or 5xx with a Retry-After) rests until then and needs no probe; one that
is over its limit and doesn't say rests a moment when it says so twice. One that refuses our key rests at once, and one
that refuses our account or its own name when `REFUSALS_IN_A_ROW` requests were told so: a single one may be odd.

Invariants
1. Only what a deployment did itself counts: never a refusal of the caller's own request, a caller who left, a deadline
   that the caller set, or one bad key of several. A request counts once per deployment.
2. Nobody is called who rests, but for a probe each `PROBE_S`. A probe that tells nothing is over by itself.
3. Bounded: an entry exists only after a failure, goes when nothing but answers is left in it, and holds `OUTCOMES`.
4. What was begun before `forget` says nothing about what came after.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

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

PROBE_S: Final = 5.0
"""From one probe to the next while none has ended: a silent vendor costs few callers their patience, and one that only
takes its time is not left to a single caller."""

SPREAD: Final = 0.2
"""Rests are up to a fifth longer, by chance: workers that saw the same failure shall not probe in the same instant."""

REFUSALS_IN_A_ROW: Final = 3
REFUSED_REST_S: Final = 30.0
"""Of a deployment that refuses our key or our account: somebody has to change something first."""

LIMITS_IN_A_ROW: Final = 2
WAIT_S: Final = 1.0
WAIT_S_MAX: Final = 60.0
"""Of one that is over its limit and does not say for how long, and at most, whatever it says."""

WRONG_KEY: Final = 401
FAULTS_FROM: Final = 500
"""Statuses from here on are a vendor's own faults."""


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


NOBODYS_CAUSES: Final = frozenset({"context_length", "diverged"})
"""A text too long, and an answer that was to be the same as before: a model may say another thing each time."""

ACCOUNT_CAUSES: Final = frozenset({"auth_failed", "payment_required", "model_not_found"})


def blame(problem: UpstreamError) -> Blame:
    """Whose fault it was that an attempt failed."""
    if isinstance(problem, Replied):
        if problem.passthrough or problem.of_key:
            return Blame.NOBODY
        told = problem.retry_after_s is not None
        if problem.cause == "rate_limited" or (told and problem.upstream_status and is_fault(problem)):
            return Blame.LIMIT
    if problem.cause in NOBODYS_CAUSES or (isinstance(problem, NotSent) and problem.cause == "invalid_request"):
        return Blame.NOBODY  # the latter could not be written as HTTP
    return Blame.ACCOUNT if problem.cause in ACCOUNT_CAUSES else Blame.DEPLOYMENT


def is_fault(problem: UpstreamError) -> bool:
    """Whether a vendor answered that something is wrong with itself."""
    return isinstance(problem, Replied) and (problem.upstream_status or 0) >= FAULTS_FROM


class Pass(NamedTuple):
    """Leave to make an attempt; as a probe, or as usual.

    `generation` is the registry's that it was given under, `rest` the number of the rest that a probe or a trial ends.
    """

    probe: bool
    generation: int
    rest: int = 0


@dataclass(frozen=True, slots=True)
class Rest:
    """Why a deployment is passed over. `for_s` is how much longer; 0 when a probe may go out now.

    `returns`: it takes calls again when the rest is over. Otherwise a probe comes first.
    """

    state: State
    cause: str
    for_s: float
    returns: bool = False

    @property
    def is_open(self) -> bool:
        """Whether somebody may be sent there now, as a probe."""
        return self.state is State.HALF_OPEN and self.for_s == 0


@dataclass(slots=True)
class _Breaker:
    """One deployment that failed lately. `until` is when its rest ends, `None` while it is closed."""

    outcomes: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=OUTCOMES))
    until: float | None = None
    needs_probe: bool = False
    probe_until: float = 0.0
    on_trial: bool = False
    rest_s: float = REST_S
    refusals: int = 0
    limits: int = 0
    rest: int = 0
    cause: str = ""

    def failed_in_a_row(self) -> int:
        count = 0
        for _, answered in reversed(self.outcomes):
            if answered:
                break
            count += 1
        return count

    def is_probed(self, by: Pass) -> bool:
        """Whether a pass is a probe of the rest that runs; one of a rest that is over says what any call says."""
        return by.probe and self.until is not None and by.rest == self.rest

    def is_tried(self, by: Pass) -> bool:
        """Whether a pass was given on the trial that runs."""
        return self.on_trial and by.rest == self.rest

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
        self._usual = Pass(probe=False, generation=0)
        self.rests = 0

    def admit(self, deployment: str, now: float) -> Pass | None:
        """Leave to call a deployment at `now` (monotonic seconds), or `None` while it rests."""
        one = self._breakers.get(deployment)
        if one is None:
            return self._usual
        if one.until is None:
            return self._usual._replace(rest=one.rest) if one.on_trial else self._usual
        if now < one.until:
            return None
        if not one.needs_probe:
            one.until = None
            return self._usual
        if now < one.probe_until:
            return None
        one.probe_until = now + PROBE_S
        return self._usual._replace(probe=True, rest=one.rest)

    def resting(self, deployment: str, now: float) -> Rest | None:
        """Why a deployment is not called as usual now, or `None`."""
        one = self._breakers.get(deployment)
        if one is None or one.until is None:
            return None
        if now < one.until:
            return Rest(State.OPEN, one.cause, one.until - now, returns=not one.needs_probe)
        return Rest(State.HALF_OPEN, one.cause, max(0.0, one.probe_until - now)) if one.needs_probe else None

    def is_sound(self, deployment: str) -> bool:
        """Whether nothing speaks against it: it never failed, or it answered last."""
        one = self._breakers.get(deployment)
        if one is None:
            return True
        return one.until is None and not (one.on_trial or one.limits) and (not one.outcomes or one.outcomes[-1][1])

    def begun(self, deployment: str, by: Pass) -> bool:
        """The first content of a stream is there; whether that ended a rest."""
        one = self._of(deployment, by)
        if one is None or not one.is_probed(by):
            return False
        one.until, one.needs_probe, one.on_trial = None, False, True
        one.refusals = one.limits = 0
        one.outcomes.clear()
        return True

    def answered(self, deployment: str, by: Pass, now: float) -> bool:
        """A whole answer came; whether that ended a rest."""
        one = self._of(deployment, by)
        if one is None or (one.until is not None and not one.is_probed(by)):
            return False  # it was asked before it went to rest
        ended = one.until is not None
        one.outcomes.append((now, True))
        one.refusals = one.limits = 0
        if ended or one.is_tried(by) or all(answered for _, answered in one.outcomes):
            del self._breakers[deployment]
        return ended

    def failed(
        self, deployment: str, by: Pass, problem: UpstreamError, now: float, *, again: bool = False
    ) -> Rest | None:
        """It failed; its rest, if one begins with this failure. `again`: it has failed for the same request before."""
        fault = blame(problem)
        if by.generation != self._usual.generation:
            return None
        if fault is Blame.NOBODY:
            if (known := self._breakers.get(deployment)) is not None and known.is_probed(by):
                known.probe_until = now  # it told nothing: the next one may go out
            return None
        one = self._breakers.setdefault(deployment, _Breaker())
        if fault is Blame.LIMIT:
            return self._limited(one, by, problem, now)
        if (one.until is not None and not one.is_probed(by)) or (one.on_trial and not one.is_tried(by)):
            return None  # it was called before it went to rest: that is known already
        if one.until is not None or one.on_trial:
            one.rest_s = min(2 * one.rest_s, REST_S_MAX)
            return self._rest(one, now, one.rest_s, problem.cause, probe=True)
        if again:
            return None
        one.outcomes.append((now, False))
        if fault is Blame.ACCOUNT:
            one.refusals += 1
            if problem.upstream_status == WRONG_KEY or one.refusals >= REFUSALS_IN_A_ROW:
                return self._rest(one, now, REFUSED_REST_S, problem.cause, probe=True)
        return self._rest(one, now, one.rest_s, problem.cause, probe=True) if one.is_failing(now) else None

    def told(self, now: float) -> Mapping[str, Rest]:
        """Every deployment that rests or waits for a probe."""
        found = {one: self.resting(one, now) for one in sorted(self._breakers)}
        return {one: rest for one, rest in found.items() if rest is not None}

    def forget(self) -> None:
        """Begin anew: another registry serves."""
        self._breakers.clear()
        self._usual = self._usual._replace(generation=self._usual.generation + 1)

    def _of(self, deployment: str, by: Pass) -> _Breaker | None:
        return self._breakers.get(deployment) if by.generation == self._usual.generation else None

    def _limited(self, one: _Breaker, by: Pass, problem: UpstreamError, now: float) -> Rest | None:
        """Over its limit: that is no failure, but a time to keep away."""
        one.limits += 1
        if one.is_probed(by):
            one.probe_until = now
        if problem.retry_after_s is None and one.limits < LIMITS_IN_A_ROW:
            return None
        wait_s = WAIT_S if problem.retry_after_s is None else problem.retry_after_s
        return self._rest(one, now, min(wait_s, WAIT_S_MAX), problem.cause, probe=False)

    def _rest(self, one: _Breaker, now: float, for_s: float, cause: str, *, probe: bool) -> Rest | None:
        """Begin a rest, or make the one that runs longer; the rest when it begins."""
        begins = one.until is None or now >= one.until
        until = now + for_s * (1 + SPREAD * self._draw())
        one.until = until if one.until is None else max(one.until, until)
        one.needs_probe |= probe
        one.on_trial = False
        one.probe_until = 0.0
        if not begins:
            return None
        one.cause = cause
        self.rests += 1
        one.rest = self.rests
        return Rest(State.OPEN, cause, one.until - now, returns=not one.needs_probe)
