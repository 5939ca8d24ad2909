"""The one owner of attempts: whom to call, whom to pass over, when to call again, and when to stop.

Where on the path: step 7 of `pipeline`. The order comes from the decision, the rules from `routing.retrying` and
`routing.verdicts`; `upstream.client` makes one attempt and knows of no other; `settling` keeps the books of each.

Invariants
1. At most `attempts_max` attempts of a request, all of them within its deadline and under its cost ceiling.
2. Nobody is called who rests, but for a probe now and then. Whoever may be called is, before a request fails.
3. After a refusal that is the caller's own fault nobody else is asked; a text too long goes to a larger context only.
4. Once the caller has left, no further attempt begins.
5. A budget refuses a request, not a fallback: where one is too dear the next that fits is asked. Whose account is full
   is passed over like one that rests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from service import telemetry
from service.domain.catalog import Catalog, Deployment
from service.domain.decision import Candidate
from service.domain.features import RequestFeatures, features_of
from service.domain.ports import Clock
from service.errors import BudgetExhausted, NoReply, UpstreamError
from service.failing import nobody_answered
from service.guard.leases import VendorFull
from service.ledger.recorder import COMPLETE, DEADLINE, INTERNAL_ERROR
from service.resuming import Resuming
from service.routing.estimate import within_ceiling
from service.routing.health import Rest, State
from service.routing.reserving import reservations
from service.routing.retrying import Budget, Failure, Option, Step, choose, is_final
from service.routing.router import attempt_order
from service.routing.verdicts import Leave, Turn, Verdicts
from service.settling import Settler
from service.upstream.client import UpstreamClient, WholeAnswer
from service.upstream.patience import Patience
from service.upstream.stream import AnswerStream
from service.work import Attempt, Work

LOOKED_AT_MAX: Final = 256
"""Candidates of one request that are looked at for one that may be called; a registry has a few hundred."""

IN_VAIN_MAX: Final = 8
"""How often one request looks anew because whom it chose was gone when it came to the call."""

BLAMED_SHARE: Final = 0.5
"""Who had half of the time that the operator gives a request, and said nothing, is to blame for its end."""

NO_BUDGET: Final = Rest(State.CLOSED, "retry_budget", 0.0)
"""Why somebody is passed over who failed last: too many attempts of late went where something fails."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The end of a request's time in monotonic seconds, and whether the caller or its policy set it."""

    due: float
    callers: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """The attempt that answered: a whole answer, settled, or a stream at its first content."""

    attempt: Attempt
    answer: AnswerStream | WholeAnswer
    leave: Leave


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
        self.health = Verdicts(chance)
        self.budget = Budget()
        self._client = client
        self._settler = settler
        self._clock = clock
        self._attempts_max = attempts_max
        self._chance = chance

    async def first_that_answers(
        self, work: Work, catalog: Catalog, patience: Patience, limits: Limits, resuming: Resuming | None = None
    ) -> Answered:
        """Try the candidates until one answers, or goes on with a stream that broke.

        Raises the refusal that is the caller's to mend, or `AllAttemptsFailed`; every attempt is settled by then.
        """
        if resuming is None:
            self.budget.earn()
        attempts_max = 1 if work.chat.steering.no_fallback else self._attempts_max
        turns = _Turns(self.health, work, catalog, attempts_max, resuming)
        problem: UpstreamError | None = None
        too_dear: BudgetExhausted | None = None
        in_vain = 0
        try:
            while not work.arrival.gone and in_vain <= IN_VAIN_MAX:
                now = self._clock.monotonic()
                step = turns.next(problem, now, limits.due - now, can_pay=self.budget.can_pay, chance=self._chance())
                if step is None or (step.wait_s and not await self._bided(step.wait_s, work)):
                    break
                turn = turns.take(step, self._clock.monotonic(), self.budget)
                if turn is None:
                    in_vain += 1  # somebody else was quicker to probe, or it rests again: look anew
                    continue
                try:
                    return await self._attempted(work, turns.options(turn[0]), turn[1], patience, limits, resuming)
                except UpstreamError as failed:
                    problem, too_dear = failed, None
                    self._failed(work, turn[0], turn[1], failed, again=turns.has_failed(turn[0], failed))
                    if is_final(failed):
                        raise
                except BudgetExhausted as refused:
                    too_dear = turns.too_dear(turn[0], refused)
                except VendorFull as full:
                    in_vain += step.wait_s > 0  # who waits for room does so a few times
                    turns.full(turn[0], full.for_s, self._clock.monotonic())
            if too_dear is not None:
                raise too_dear
        finally:
            problem = too_dear = None  # an error holds the frames it passed, and this one it: with the prompt
            _tell(self.health.unanswered(work.asked, self._clock.monotonic()))
        raise nobody_answered(work.failures, work.passed_over)

    def forget(self) -> None:
        """Let everybody try again: another registry serves."""
        self.health.forget()
        self._client.keys.forget()

    def finished(self, work: Work, attempt: Attempt, leave: Leave) -> None:
        """A stream came to its good end."""
        self.health.answered(work.asked, attempt.candidate.deployment.id, leave, self._clock.monotonic())

    def broke(self, work: Work, attempt: Attempt, leave: Leave, problem: UpstreamError) -> None:
        """A stream broke after its first content."""
        name, now = attempt.candidate.deployment.id, self._clock.monotonic()
        _tell(self.health.broke(name, leave, problem, now, again=name in work.failed))
        work.failed.add(name)

    async def _attempted(
        self,
        work: Work,
        options: Sequence[Candidate],
        leave: Leave,
        patience: Patience,
        limits: Limits,
        resuming: Resuming | None,
    ) -> Answered:
        """One attempt, settled unless it is a stream that goes on. Raises `UpstreamError`, settled, when it failed.

        `options` are who is called, with each reservation that would do.
        """
        try:
            attempt = await self._settler.open(work, options)
        except BaseException:
            # Refused by a budget, say. Whoever is refused all day must not use up every probe.
            self.health.unused(work.asked, options[0].deployment.id, leave, self._clock.monotonic())
            raise
        candidate = attempt.candidate
        chat, tally, name = work.chat, attempt.tally, candidate.deployment.id
        tally.told = work.told
        if tally.told is not None:
            tally.told.begin_at(*(("", 0) if resuming is None else (resuming.text, resuming.pieces)))
        if resuming is not None:
            chat, tally.splice = resuming.chat_for(candidate.deployment), resuming.splice_for(candidate.deployment)
        answer: AnswerStream | WholeAnswer
        try:
            if chat.stream:
                answer = await self._client.open_stream(chat, candidate, tally)
            else:
                answer = await self._client.call(chat, candidate, tally)
        except UpstreamError as problem:
            work.waited_s += tally.waited_s
            await self._settler.fail(work, attempt, problem)
            raise
        except BaseException as problem:
            # Cancelled, or a fault of ours. What was sent may be billed.
            work.waited_s += tally.waited_s
            ended = _cut_by(problem, work, patience)
            had_s = self._clock.monotonic() - tally.started
            if ended == DEADLINE and not limits.callers and had_s >= BLAMED_SHARE * (limits.due - work.arrival.at):
                silent = NoReply("no answer within the deadline of this router", cause="timeout_deadline")
                _tell(self.health.broke(name, leave, silent, self._clock.monotonic(), again=False))
            work.settling.append(self._settler.settle_later(work, attempt, ended))
            raise
        work.waited_s += tally.waited_s
        if chat.stream:
            work.committed_ms = work.overhead_ms(self._clock.monotonic())
            _tell(self.health.begun(work.asked, name, leave, self._clock.monotonic()))
        else:
            await self._settler.settle(work, attempt, COMPLETE)
            _tell(self.health.answered(work.asked, name, leave, self._clock.monotonic()))
        return Answered(attempt, answer, leave)

    def _failed(self, work: Work, candidate: Candidate, leave: Leave, problem: UpstreamError, *, again: bool) -> None:
        deployment, now = candidate.deployment, self._clock.monotonic()
        _tell(self.health.failed(work.asked, deployment.id, deployment.provider.name, leave, problem, now, again=again))

    async def _bided(self, wait_s: float, work: Work) -> bool:
        """Wait, which is no time of ours; whether the caller is still there."""
        before = self._clock.monotonic()
        try:
            await asyncio.sleep(wait_s)
        finally:
            work.waited_s += self._clock.monotonic() - before
        return not work.arrival.gone


class _Turns:
    """Whose turn it is, for one request."""

    def __init__(
        self, health: Verdicts, work: Work, catalog: Catalog, attempts_max: int, resuming: Resuming | None
    ) -> None:
        order = islice(attempt_order(work.decision), 1 if work.chat.steering.no_fallback else LOOKED_AT_MAX)
        self._order = order if resuming is None else resuming.order(order, work.decision.ranked)
        self._resuming = resuming
        self._health = health
        self._work = work
        self._catalog = catalog
        self._attempts_max = attempts_max
        self._ranked = work.decision.ranked
        self._full: dict[str, float] = {}
        self._too_dear: set[str] = set()
        self._taken: tuple[int, int] | None = None  # of who was taken last, the place and the rank
        self._others: list[int] = []  # ranks: looking at a hundred who rest must not build a hundred candidates
        self._tries, self._failed, self._caller = work.tries, work.failed, work.asked.caller

    def has_failed(self, candidate: Candidate, problem: UpstreamError) -> bool:
        """Whether a deployment failed for this request before; a bad key among good ones is not its failure."""
        before = candidate.deployment.id in self._failed
        if not problem.of_key:
            self._failed.add(candidate.deployment.id)
        return before

    def too_dear(self, candidate: Candidate, refused: BudgetExhausted) -> BudgetExhausted:
        """A budget has no room for whoever was taken: it is not asked for again. Raises when it is the first of all."""
        if not (self._work.attempts or self._full):
            raise refused
        self._tries[candidate.deployment.id] -= 1
        self._too_dear.add(candidate.deployment.id)
        return refused

    def full(self, candidate: Candidate, for_s: float, now: float) -> None:
        """Whoever was taken can't be called yet: its account is full."""
        name = candidate.deployment.id
        self._tries[name] -= 1
        self._full[name] = now + for_s
        self._work.passed_over[name] = Rest(State.OPEN, "rate_limited", for_s, returns=True)
        if self._taken is not None:
            self._others.insert(*self._taken)

    def next(
        self, problem: UpstreamError | None, now: float, left_s: float, *, can_pay: bool, chance: float
    ) -> Step | None:
        """What to do now, after `problem` or at the beginning. `take` does it."""
        work = self._work
        left = self._attempts_max - len(work.attempts)
        failure = None
        if problem is not None and work.last is not None and work.last.deployment.id not in self._too_dear:
            failure = Failure(problem, self._option(work.last.deployment, now))
        options = self._options(1 if failure is None else left, now)
        if failure is None and options and options[0].is_open and left and self._resuming is None:
            return Step(0)  # as nearly always: the choice, and nothing to weigh
        step = choose(failure, options, left=left, left_s=left_s, can_pay=can_pay, chance=chance)
        if self._resuming is not None and step is not None:
            step = replace(step, pays=True) if can_pay else None  # it goes on where something has failed
        passed = len(options) * (left > 0) if step is None else step.place or 0
        for rank, option in zip(self._others[:passed], options, strict=False):
            work.passed_over[self._ranked.deployment(rank).id] = option.rest or NO_BUDGET
        return step

    def take(self, step: Step, now: float, budget: Budget) -> tuple[Candidate, Leave] | None:
        """Whom a step means, with what is left of the money, and the leave to call, paid; `None` when that is gone."""
        last = self._work.last
        if step.place is not None:
            candidate = self._ranked[self._others[step.place]]
        elif last is not None:
            candidate = last
        else:
            return None
        fit = self._worth(candidate) if budget.can_pay or not step.pays else None
        leave = None if fit is None else self._health.admit(candidate.deployment.id, self._caller, now)
        if fit is None or leave is None:
            return None
        if step.pays:
            budget.pay()
        self._taken = None
        if step.place is not None:
            self._taken = step.place, self._others.pop(step.place)
        name = fit.deployment.id
        self._tries[name] = self._tries.get(name, 0) + 1
        self._work.passed_over.pop(name, None)
        return fit, leave

    def options(self, candidate: Candidate) -> Sequence[Candidate]:
        """A candidate with each reservation that would do, where somebody has to reserve."""
        if self._work.lease is None or not self._work.lease.scopes:
            return (candidate,)
        return reservations(candidate, self._catalog.models[candidate.deployment.model], self._work.decision.features)

    def _options(self, wanted: int, now: float) -> list[Option]:
        """The others, in step with `_others`: as many as it takes for `wanted` who may be called, where there are."""
        self._others = [rank for rank in self._others if self._is_worth(rank)]
        options = [self._option(self._ranked.deployment(rank), now) for rank in self._others]
        able = sum(one.is_open for one in options)
        while able < wanted and (rank := next(self._order, None)) is not None:
            if self._is_worth(rank):
                self._others.append(rank)
                options.append(self._option(self._ranked.deployment(rank), now))
                able += options[-1].is_open
        return options

    def _is_worth(self, rank: int) -> bool:
        if not self._work.attempts:
            return True
        return self._worth(self._ranked[rank]) is not None

    def _worth(self, candidate: Candidate) -> Candidate | None:
        resuming, features = self._resuming, self._work.decision.features
        if resuming is not None:
            features = features_of(resuming.chat_for(candidate.deployment))
            candidate = replace(candidate, input_tokens=candidate.input_tokens + resuming.told_tokens)
        return worth_trying(self._work, candidate, self._catalog, features)

    def _option(self, deployment: Deployment, now: float) -> Option:
        name = deployment.id
        rest = self._health.resting(name, self._caller, now)
        if rest is None and (full_s := self._full.get(name, now) - now) > 0:
            rest = Rest(State.OPEN, "rate_limited", full_s, returns=True)
        return Option(
            provider=deployment.provider.name,
            rest=rest,
            sound=self._health.is_sound(name, self._caller),
            tries=self._tries.get(name, 0),
        )


def worth_trying(work: Work, candidate: Candidate, catalog: Catalog, features: RequestFeatures) -> Candidate | None:
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
    found, reason = within_ceiling(candidate, model, features, ceiling - spent, hurried=True)
    return found if reason is None else None


def _tell(turns: Sequence[Turn]) -> None:
    """Log the breakers that opened and closed; whose requests it was, when it rests for that caller alone."""
    for deployment, rest, caller in turns:
        whose = {} if caller is None else {"key_id": caller or None}
        if rest is None:
            telemetry.logger().info(telemetry.BREAKER_CLOSED, deployment=deployment, **whose)
            continue
        telemetry.logger().warning(
            telemetry.BREAKER_OPENED, deployment=deployment, cause=rest.cause, for_s=round(rest.for_s, 3), **whose
        )


def _cut_by(problem: BaseException, work: Work, patience: Patience) -> str:
    """How an attempt ends that neither answered nor failed by itself."""
    if not isinstance(problem, asyncio.CancelledError):
        return INTERNAL_ERROR
    return DEADLINE if patience.expired else work.arrival.cut_by
