"""The one owner of attempts: whom to call, whom to pass over, when to call again, and when to stop.

Where on the path: step 7 of `pipeline`. The order comes from the decision, the rules from `routing.retrying` and
`routing.health`; `upstream.client` makes one attempt and knows of no other; `settling` keeps the books of each.

Invariants
1. At most `attempts_max` attempts of a request, all of them within its deadline and under its cost ceiling.
2. Nobody is called who rests, but for one probe at a time; who is called gives its pass back, whatever happens.
3. After a refusal that is the caller's own fault nobody else is asked; a text too long goes to a larger context only.
4. Once the caller has left, no further attempt begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from service import telemetry
from service.domain.catalog import Catalog
from service.domain.decision import Candidate
from service.domain.ports import Clock
from service.errors import UpstreamError
from service.failing import nobody_answered, passes
from service.ledger.recorder import COMPLETE, DEADLINE, INTERNAL_ERROR
from service.routing.estimate import within_ceiling
from service.routing.health import Health, Pass, Rest, State
from service.routing.retrying import Budget, Move, Step, after
from service.routing.router import attempt_order
from service.settling import Attempt, Settler, Work
from service.upstream.client import UpstreamClient, WholeAnswer
from service.upstream.patience import Patience
from service.upstream.stream import AnswerStream

NO_BUDGET = Rest(State.CLOSED, "retry_budget", 0.0)
"""Why somebody is passed over who failed last: too many attempts of late went where something fails."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The attempt that answered: a whole answer, settled, or a stream at its first content."""

    attempt: Attempt
    answer: AnswerStream | WholeAnswer


class Attempting:
    """Makes the attempts of every request. `chance` gives a number from 0 to 1."""

    def __init__(
        self,
        client: UpstreamClient,
        settler: Settler,
        clock: Clock,
        *,
        attempts_max: int,
        chance: Callable[[], float],
    ) -> None:
        self.health = Health(chance)
        self.budget = Budget()
        self._client = client
        self._settler = settler
        self._clock = clock
        self._attempts_max = attempts_max
        self._chance = chance

    async def first_that_answers(self, work: Work, catalog: Catalog, patience: Patience, due: float) -> Answered:
        """Try the candidates until one answers; `due` is the end of the request's time, in monotonic seconds.

        Raises the refusal that is the caller's to mend, or `AllAttemptsFailed`; every attempt is settled by then.
        """
        self.budget.earn()
        turns = _Turns(self, work, catalog, 1 if work.chat.steering.no_fallback else self._attempts_max)
        while (turn := turns.next()) is not None:
            candidate, leave = turn
            name = candidate.deployment.id
            try:
                attempt = await self._settler.open(work, candidate)
                answer = await self._attempted(work, attempt, patience)
            except UpstreamError as problem:
                self._note(name, self.health.failed(name, leave, problem, self._clock.monotonic()))
                if passes(problem):
                    raise
                await self._bide(turns.after(problem, due), work)
            except BaseException:
                self.health.withdrawn(name, leave)
                raise
            else:
                if self.health.answered(name, leave, self._clock.monotonic()):
                    telemetry.logger().info(telemetry.BREAKER_CLOSED, deployment=name)
                return Answered(attempt, answer)
        raise nobody_answered(work.failures, work.passed_over)

    def broke(self, attempt: Attempt, problem: UpstreamError) -> None:
        """A stream broke after its first content."""
        name = attempt.candidate.deployment.id
        self._note(name, self.health.failed(name, Pass.USUAL, problem, self._clock.monotonic()))

    async def _attempted(self, work: Work, attempt: Attempt, patience: Patience) -> AnswerStream | WholeAnswer:
        """One attempt, settled unless it is a stream that goes on."""
        chat, tally = work.chat, attempt.tally
        answer: AnswerStream | WholeAnswer
        try:
            if chat.stream:
                answer = await self._client.open_stream(chat, attempt.candidate, tally)
            else:
                answer = await self._client.call(chat, attempt.candidate, tally)
        except UpstreamError as problem:
            work.waited_s += tally.waited_s
            await self._settler.fail(work, attempt, problem)
            raise
        except BaseException as problem:
            # Cancelled, or a fault of ours. What was sent may be billed.
            work.waited_s += tally.waited_s
            work.settling.append(self._settler.settle_later(work, attempt, _cut_by(problem, work, patience)))
            raise
        work.waited_s += tally.waited_s
        if chat.stream:
            work.committed_ms = work.overhead_ms(self._clock.monotonic())
        else:
            await self._settler.settle(work, attempt, COMPLETE)
        return answer

    async def _bide(self, step: Step, work: Work) -> None:
        """Wait as long as a step says: that is no time of ours."""
        if step.wait_s:
            before = self._clock.monotonic()
            try:
                await asyncio.sleep(step.wait_s)
            finally:
                work.waited_s += self._clock.monotonic() - before

    def _note(self, deployment: str, rest: Rest | None) -> None:
        if rest is not None:
            telemetry.logger().warning(
                telemetry.BREAKER_OPENED, deployment=deployment, cause=rest.cause, for_s=round(rest.for_s, 3)
            )

    def left_s(self, due: float) -> float:
        """Seconds until `due`."""
        return due - self._clock.monotonic()

    def rest_s(self, deployment: str) -> float:
        """How much longer a deployment rests, in seconds."""
        rest = self.health.resting(deployment, self._clock.monotonic())
        return 0.0 if rest is None else rest.for_s

    def chance(self) -> float:
        """A number from 0 to 1."""
        return self._chance()

    def admitted(self, candidate: Candidate, work: Work) -> Pass | None:
        """Leave to call somebody now; `None`, with the reason in `work.passed_over`, where that is not to be."""
        name, now = candidate.deployment.id, self._clock.monotonic()
        rest = self.health.resting(name, now)
        # The first attempt is what the caller came for; a probe is paid for by its being alone.
        if rest is None and work.attempts and not self.health.is_sound(name) and not self.budget.pay():
            rest = NO_BUDGET
        leave = None if rest is NO_BUDGET else self.health.admit(name, now)
        if leave is None:
            work.passed_over[name] = rest or Rest(State.HALF_OPEN, "probing", 0.0)
        return leave

    def is_open_to(self, candidate: Candidate) -> bool:
        """Whether somebody could be called now: a look, which takes nothing."""
        rest = self.health.resting(candidate.deployment.id, self._clock.monotonic())
        return rest is None or rest.state is State.HALF_OPEN


class _Turns:
    """Whose turn it is, for one request."""

    def __init__(self, owner: Attempting, work: Work, catalog: Catalog, attempts_max: int) -> None:
        order = attempt_order(work.decision)
        self._order: Iterator[Candidate] = islice(order, 1) if work.chat.steering.no_fallback else order
        self._waiting: list[Candidate] = []
        self._owner = owner
        self._work = work
        self._catalog = catalog
        self._attempts_max = attempts_max
        self._step: Step | None = None
        self._tries: dict[str, int] = {}

    def next(self) -> tuple[Candidate, Pass] | None:
        """Whom to call now, and the leave to; `None` when it is over."""
        work, step = self._work, self._step
        if work.arrival.gone or len(work.attempts) >= self._attempts_max or (step and step.move is Move.STOP):
            return None
        if step is not None and step.move is Move.AGAIN and work.last is not None:
            found = self._called(work.last)
            if found is not None:
                return found
        while (following := self._following()) is not None:
            found = self._called(following)
            if found is not None:
                return found
        return None

    def after(self, problem: UpstreamError, due: float) -> Step:
        """What to do after the attempt that was made last failed so; `next` does it."""
        work = self._work
        left = self._attempts_max - len(work.attempts)
        if left and len(self._waiting) < left:
            self._waiting += islice(self._order, left - len(self._waiting))
        able = [one.deployment for one in self._waiting if self._is_worth(one) and self._owner.is_open_to(one)]
        last, provider = "", ""
        if work.last is not None:
            last, provider = work.last.deployment.id, work.last.deployment.provider.name
        # Models of one vendor fail together: as long as there are other vendors, those are who else can be asked.
        others = len({one.provider.name for one in able} - {provider}) or len(able)
        self._step = after(
            problem,
            others=others,
            tries=self._tries.get(last, 0),
            left=left,
            left_s=self._owner.left_s(due),
            rest_s=self._owner.rest_s(last),
            chance=self._owner.chance(),
        )
        return self._step

    def _following(self) -> Candidate | None:
        return self._waiting.pop(0) if self._waiting else next(self._order, None)

    def _called(self, candidate: Candidate) -> tuple[Candidate, Pass] | None:
        fit = worth_trying(self._work, candidate, self._catalog)
        leave = None if fit is None else self._owner.admitted(fit, self._work)
        if fit is None or leave is None:
            return None
        name = fit.deployment.id
        self._tries[name] = self._tries.get(name, 0) + 1
        return fit, leave

    def _is_worth(self, candidate: Candidate) -> bool:
        return worth_trying(self._work, candidate, self._catalog) is not None


def worth_trying(work: Work, candidate: Candidate, catalog: Catalog) -> Candidate | None:
    """The candidate with what is left of the money, or `None`; after a context-length refusal only a larger one."""

    def context(one: Candidate) -> int:
        return one.deployment.context_tokens or catalog.models[one.deployment.model].context_tokens or 0

    if not work.attempts:
        return candidate
    refused = [one for one, problem in work.failures if problem.cause == "context_length"]
    if any(context(candidate) <= context(one) for one in refused):
        return None
    ceiling = work.decision.ceiling_pusd
    if ceiling is None or not work.costs:
        return candidate
    spent = work.spent_pusd()
    if spent is None:
        return None
    model = catalog.models[candidate.deployment.model]
    found, reason = within_ceiling(candidate, model, work.decision.features, ceiling - spent, hurried=True)
    return found if reason is None else None


def _cut_by(problem: BaseException, work: Work, patience: Patience) -> str:
    """How an attempt ends that neither answered nor failed by itself."""
    if not isinstance(problem, asyncio.CancelledError):
        return INTERNAL_ERROR
    return DEADLINE if patience.expired else work.arrival.cut_by
