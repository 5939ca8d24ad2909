"""Which deployments rest after they failed: a breaker for each. Pure: time and chance are arguments.

Where on the path: `attempting` asks before every attempt and tells how each ended, through `verdicts`, which knows when
a request itself may be to blame; /readyz, /metrics and the log show it. Decisions don't depend on it, so that they can
be taken again: a deployment that rests is passed over, not unranked.

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
5. What one caller's requests met elsewhere too counts once, however many they are; and `take_back` undoes what a
   failure did that turns out to be one of those.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from service.errors import UpstreamError
from service.routing.blame import Blame, blame

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


class State(StrEnum):
    """Of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


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

    `returns`: it takes calls again when the rest is over. Otherwise a probe comes first. `callers`: for how many
    callers alone it rests; `None` means everybody.
    """

    state: State
    cause: str
    for_s: float
    returns: bool = False
    callers: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether somebody may be sent there now, as a probe."""
        return self.state is State.HALF_OPEN and self.for_s == 0


class _Outcome(NamedTuple):
    """How one request ended at a deployment."""

    at: float
    answered: bool
    request: str = ""


@dataclass(slots=True)
class _Breaker:
    """One deployment that failed lately. `until` is when its rest ends, `None` while it is closed.

    `doubters` are callers whose requests failed here since the last answer, and at another provider too, each with the
    last time. `of_row`: the rest that runs was begun by outcomes and doubters alone.
    """

    outcomes: deque[_Outcome] = field(default_factory=lambda: deque(maxlen=OUTCOMES))
    doubters: dict[str, float] = field(default_factory=dict)
    of_row: bool = False
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
        for one in reversed(self.outcomes):
            if one.answered:
                break
            count += 1
        return count

    def is_probed(self, by: Pass) -> bool:
        """Whether a pass is a probe of the rest that runs; one of a rest that is over says what any call says."""
        return by.probe and self.until is not None and by.rest == self.rest

    def is_tried(self, by: Pass) -> bool:
        """Whether a pass was given on the trial that runs."""
        return self.on_trial and by.rest == self.rest

    def is_failing(self, now: float, outcomes_min: int) -> bool:
        doubters = sum(now - at <= OUTCOMES_S for at in self.doubters.values())
        if max(self.failed_in_a_row(), doubters) >= FAILURES_IN_A_ROW:
            return True
        recent = [one.answered for one in self.outcomes if now - one.at <= OUTCOMES_S]
        return len(recent) >= outcomes_min and recent.count(False) >= FAILED_SHARE * len(recent)


class Health:
    """The breakers of all deployments of one process. `draw` gives a number from 0 to 1, by chance.

    At most `most` of them are kept; the oldest goes, and with it what it knew. `rows_only`: nothing but failures in a
    row opens one, since whoever answers in between is there.
    """

    def __init__(self, draw: Callable[[], float], *, most: int | None = None, rows_only: bool = False) -> None:
        self._draw = draw
        self._most = most
        self._outcomes_min = OUTCOMES + 1 if rows_only else OUTCOMES_MIN
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

    def unused(self, deployment: str, by: Pass, now: float) -> None:
        """Leave was given and nobody was called: whoever comes next may probe."""
        one = self._of(deployment, by)
        if one is not None and one.is_probed(by):
            one.probe_until = now

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
        return (
            one.until is None and not (one.on_trial or one.limits) and (not one.outcomes or one.outcomes[-1].answered)
        )

    def begun(self, deployment: str, by: Pass) -> bool:
        """The first content of a stream is there; whether that ended a rest."""
        one = self._of(deployment, by)
        if one is None or not one.is_probed(by):
            return False
        one.until, one.needs_probe, one.on_trial = None, False, True
        one.refusals = one.limits = 0
        one.outcomes.clear()
        one.doubters.clear()
        return True

    def answered(self, deployment: str, by: Pass, now: float) -> bool:
        """A whole answer came; whether that ended a rest."""
        one = self._of(deployment, by)
        if one is None or (one.until is not None and not one.is_probed(by)):
            return False  # it was asked before it went to rest
        ended = one.until is not None
        one.outcomes.append(_Outcome(now, answered=True))
        one.doubters.clear()
        one.refusals = one.limits = 0
        if ended or one.is_tried(by) or all(past.answered for past in one.outcomes):
            del self._breakers[deployment]
        return ended

    def failed(
        self,
        deployment: str,
        by: Pass,
        problem: UpstreamError,
        now: float,
        *,
        again: bool = False,
        request: str = "",
    ) -> Rest | None:
        """It failed; its rest, if one begins with this failure. `again`: it has failed for the same request before.

        `request` names the request, for `take_back`.
        """
        fault = blame(problem)
        if by.generation != self._usual.generation:
            return None
        if fault is Blame.NOBODY:
            if (known := self._breakers.get(deployment)) is not None and known.is_probed(by):
                known.probe_until = now  # it told nothing: the next one may go out
            return None
        if fault is Blame.LIMIT:
            return self._limited(self._entry(deployment), by, problem, now)
        one = self._entry(deployment)
        if fault is Blame.ACCOUNT and one.until is None and not one.on_trial and not again:
            one.outcomes.append(_Outcome(now, answered=False))
            one.refusals += 1
            if problem.upstream_status == WRONG_KEY or one.refusals >= REFUSALS_IN_A_ROW:
                return self._rest(one, now, REFUSED_REST_S, problem.cause, probe=True)
            return self._judged(one, problem.cause, now)
        return self.fell(deployment, by, problem.cause, now, again=again, request=request)

    def fell(
        self, deployment: str, by: Pass, cause: str, now: float, *, again: bool = False, request: str = ""
    ) -> Rest | None:
        """As `failed`, by its own fault."""
        if by.generation != self._usual.generation:
            return None
        one = self._entry(deployment)
        if (one.until is not None and not one.is_probed(by)) or (one.on_trial and not one.is_tried(by)):
            return None  # it was called before it went to rest: that is known already
        if one.until is not None or one.on_trial:
            one.rest_s = min(2 * one.rest_s, REST_S_MAX)
            return self._rest(one, now, one.rest_s, cause, probe=True)
        if again:
            return None
        one.outcomes.append(_Outcome(now, answered=False, request=request))
        return self._judged(one, cause, now)

    def doubted(self, deployment: str, by: Pass, caller: str, cause: str, now: float) -> Rest | None:
        """A request of `caller` failed there, and at another provider too; the rest that begins with it, if one does.

        A caller counts once, however often: its requests may be what is wrong.
        """
        if by.generation != self._usual.generation:
            return None
        one = self._entry(deployment)
        if one.until is not None or one.on_trial:
            return None
        one.doubters.pop(caller, None)
        one.doubters[caller] = now
        if len(one.doubters) > FAILURES_IN_A_ROW:
            del one.doubters[next(iter(one.doubters))]
        return self._judged(one, cause, now)

    def take_back(self, deployment: str, by: Pass, request: str) -> tuple[bool, bool]:
        """Forget that a request failed there: (whether it counted, whether a rest ended that had begun by it)."""
        one = self._of(deployment, by)
        past = None if one is None else next((past for past in one.outcomes if past.request == request), None)
        if one is None or past is None or not request:
            return False, False
        one.outcomes.remove(past)
        ended = one.until is not None and one.of_row and not one.is_failing(past.at, self._outcomes_min)
        if ended:
            one.until, one.needs_probe, one.of_row = None, False, False
        if one.until is None and not (one.outcomes or one.doubters or one.on_trial or one.refusals or one.limits):
            del self._breakers[deployment]
        return True, ended

    def told(self, now: float) -> Mapping[str, Rest]:
        """Every deployment that rests or waits for a probe."""
        found = {one: self.resting(one, now) for one in sorted(self._breakers)}
        return {one: rest for one, rest in found.items() if rest is not None}

    def forget(self) -> None:
        """Begin anew: another registry serves."""
        self._breakers.clear()
        self._usual = self._usual._replace(generation=self._usual.generation + 1)

    def _entry(self, deployment: str) -> _Breaker:
        one = self._breakers.get(deployment)
        if one is None:
            if self._most is not None and len(self._breakers) >= self._most:
                del self._breakers[next(iter(self._breakers))]
            one = self._breakers[deployment] = _Breaker()
        return one

    def _judged(self, one: _Breaker, cause: str, now: float) -> Rest | None:
        """The rest that begins because too much has failed by now."""
        if not one.is_failing(now, self._outcomes_min):
            return None
        rest = self._rest(one, now, one.rest_s, cause, probe=True)
        one.of_row = True
        return rest

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
        one.on_trial = one.of_row = False
        one.probe_until = 0.0
        if not begins:
            return None
        one.cause = cause
        self.rests += 1
        one.rest = self.rests
        return Rest(State.OPEN, cause, one.until - now, returns=not one.needs_probe)
