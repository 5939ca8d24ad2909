"""The books of one request on its way: what was opened, what each attempt came to, all of it written exactly once.

Where on the path: steps 6 and 9 of `pipeline`, which owns the order; this room owns the rows.

Invariants
1. `open` returns only when the row is as durable as promised; when it raises, nothing may be sent.
2. Every attempt that was opened gets one terminal row, also when the request is cancelled: rows are written without
   waiting, or in tasks of their own, never in the `finally` of something that may be cancelled again.
3. A journal that fails to take a terminal row is logged; it never takes the answer away from the caller.
4. `settled` is the drain: it waits for attempts that are still open too, since a server that stops cancels its requests
   without waiting until they have cleaned up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from service import telemetry
from service.domain.catalog import Provider
from service.domain.chat import ChatRequest
from service.domain.decision import Candidate, TerminalEntry
from service.domain.ids import new_id
from service.domain.ports import Clock, LedgerWriter
from service.errors import Billed, CoeError, InvalidRequest, LedgerUnavailable, UpstreamError
from service.guard.leases import Hold, Lease, Spent
from service.guard.limits import OVER_BUDGET, Limiter, unlimited
from service.guard.overruns import Overruns
from service.guard.strong_share import StrongShareWatch
from service.ledger.cost_lines import RequestEnd, RequestSum, attempt_line, request_line
from service.ledger.recorder import (
    ANSWER,
    CLIENT_LEFT,
    Identity,
    Outcome,
    Timing,
    Tried,
    ending,
    opening,
)
from service.ledger.statuses import told_as
from service.ledger.writer import EntryOrderError
from service.metrics import Counters
from service.routing.load import Load
from service.routing.prefixes import Prefixes
from service.routing.reserving import paid_output
from service.upstream.stop import Stop
from service.upstream.tally import Tally
from service.upstream.usage import SERVICE_TIER_CHARACTERS_MAX
from service.upstream.yardstick import Yardsticks
from service.work import Attempt, Work, milliseconds

SETTLE_S = 5.0
"""How long the drain waits for open attempts; what is open then is closed by recovery at the next start."""

_POLL_S = 0.02

_UNWRITTEN = (LedgerUnavailable, EntryOrderError, ValueError)
"""Why a row is not in the journal: it is logged, and the caller keeps the answer."""


class Settler:
    """Opens and settles attempts in the ledger."""

    def __init__(
        self,
        ledger: LedgerWriter,
        clock: Clock,
        watch: StrongShareWatch | None = None,
        prefixes: Prefixes | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        self._ledger = ledger
        self._limiter = limiter or unlimited()
        self._overruns = Overruns()
        self.counters = Counters()
        self._yardsticks = Yardsticks()
        self.load = Load()
        self._prefixes = prefixes
        self.watch = watch
        self._clock = clock
        self._running: set[asyncio.Task[Any]] = set()
        self._open: set[str] = set()
        self._log = telemetry.logger()

    def decided(self, told: Mapping[str, object]) -> bytes:
        """Have a decision record written; its line. Raises LedgerUnavailable, or InvalidRequest for what can't be."""
        try:
            return self._ledger.hold_decision(told)
        except ValueError as problem:
            raise InvalidRequest(f"this request can't be written down: {problem}") from problem

    async def open(self, work: Work, options: Sequence[Candidate], kind: str = ANSWER) -> Attempt:
        """Reserve what an attempt may cost, and write down that it is about to be made.

        `options` are one candidate with each reservation that would do. Raises LedgerUnavailable, or why a budget or a
        limit refuses: then nothing is held, and nothing may be sent. Raises VendorFull when the vendor's account has no
        room at the moment.
        """
        caller, said, at = work.arrival.caller, work.chat.steering.tags, self._clock.utc()
        candidate, number, lease = options[0], len(work.attempts) + 1, work.lease
        vendor = candidate.deployment.provider
        if lease is None and vendor.limits.any:
            lease = work.lease = Lease(())
        if lease is not None:
            candidate = options[await self._reserve(work, lease, at, [Hold.of(one) for one in options], vendor)]
        try:
            who = Identity(
                attempt_id=new_id("att_"),
                request_id=work.arrival.request_id,
                number=number,
                key_id=caller.key_id,
                tags=tuple(sorted({*caller.tags, *said})) if said or caller.tags else (),
                streaming=work.chat.stream,
            )
            entry = opening(who, work.decision, candidate, _unix_ms(at))._replace(kind=kind)
            await self._ledger.append_open(entry)
        except BaseException as problem:
            if lease is not None:
                self._limiter.settle(lease, caller, (), number, Spent(0, 0, at))
            if isinstance(problem, ValueError):
                raise InvalidRequest(f"this request can't be written down: {problem}") from problem
            raise
        if self.watch is not None and not work.attempts and kind == ANSWER:
            self.watch.decided(work.decision)
        self._open.add(entry.attempt_id)
        if kind == ANSWER:
            self.load.begun(entry.attempt_id, candidate.deployment)
        work.attempts.append(Tried(entry))
        work.last = candidate
        return Attempt(entry, candidate, Tally(started=self._clock.monotonic(), stop=self._stop(work, candidate, kind)))

    def _stop(self, work: Work, candidate: Candidate, kind: str) -> Stop | None:
        """Where a stream is to end that was asked to, by its caller or by a budget."""
        lease = work.lease
        if kind != ANSWER or not (
            work.chat.stream and (work.chat.steering.stop_at_budget or (lease is not None and lease.stops))
        ):
            return None
        yardstick = self._yardsticks.of(candidate.deployment.id)
        ceiling, spent = work.decision.ceiling_pusd, work.spent_pusd()
        left = None if ceiling is None or spent is None else ceiling - spent
        asked = yardstick.input_tokens(candidate.input_tokens)
        held = lease is not None and lease.hard_money
        tokens = paid_output(candidate, asked, reserved=held, ceiling_pusd=left)
        return None if tokens is None else Stop(tokens, yardstick)

    async def _reserve(self, work: Work, lease: Lease, at: datetime, holds: Sequence[Hold], vendor: Provider) -> int:
        """As `Limiter.reserve`, for the next attempt; who is refused is counted, what is over a soft limit is told."""
        try:
            taken = await self._limiter.reserve(lease, len(work.attempts) + 1, at, holds, vendor)
        except CoeError as problem:
            self.counters.budget_refused(str(problem.code))
            raise
        if lease.over:
            self._overruns.tell(work.arrival.caller.key_id, lease.over, at)
        return taken

    async def fail(self, work: Work, attempt: Attempt, problem: UpstreamError) -> None:
        """Settle an attempt that failed: refused when nothing can have been billed, else estimated."""
        work.failures.append((attempt.candidate, problem))
        self._log.warning(
            telemetry.ATTEMPT_FAILED,
            request_id=work.arrival.request_id,
            attempt_id=attempt.entry.attempt_id,
            deployment=attempt.candidate.deployment.id,
            cause=problem.cause,
            upstream_status=problem.upstream_status,
        )
        await self.settle(work, attempt, problem.cause, billed=problem.billed is not Billed.NO, final=False)

    async def settle(
        self, work: Work, attempt: Attempt, ended: str, *, billed: bool = True, final: bool = True
    ) -> TerminalEntry:
        """Write the terminal row and return it. `billed` false books 0; `final` marks the attempt that answered."""
        now, tally, candidate = self._clock.monotonic(), attempt.tally, attempt.candidate
        self.load.ended(attempt.entry.attempt_id)
        yardstick = self._yardsticks.of(candidate.deployment.id)
        attached = work.chat.sizes.attached
        usage = tally.usage_or_estimate(candidate.input_tokens, yardstick, attached=attached) if billed else None
        if usage is not None and tally.complete:
            tokens, cjk = tally.estimated_output
            yardstick.learn(usage, 0 if attached else candidate.input_tokens, tokens, cjk=cjk)
        ttft = None if tally.first_content is None else milliseconds(tally.first_content - tally.started)
        row = ending(
            attempt.entry,
            candidate,
            Outcome(ended, usage, tally.model, tally.status, tally.upstream_id, final, _asked_tier(work.chat)),
            Timing(self._now_ms(), ttft, milliseconds(now - tally.started), work.overhead_ms(now)),
            work.baseline,
            work.decision,
        )
        self.counters.attempt(candidate.deployment.id, ended, row.usage, row.cost_pusd, row.ttft_ms)
        if self._prefixes is not None and usage is not None:
            self._prefixes.settled(work.chain, candidate.deployment, usage, tally.started, candidate.warm_tokens)
        await self.book(work, attempt, row, 0 if usage is None else usage.input_total + usage.output_total)
        return row

    async def book(self, work: Work, attempt: Attempt, row: TerminalEntry, tokens: int) -> None:
        """Give back what an attempt held, count its money and `tokens`, and write its terminal row."""
        entry = attempt.entry
        work.attempts[entry.attempt_number - 1].row = row
        work.costs.append(row.cost_pusd)
        spent = Spent(row.cost_pusd or 0, tokens, datetime.fromtimestamp(entry.at_ms / 1000, UTC))
        self._limiter.settle(work.lease, work.arrival.caller, entry.tags, entry.attempt_number, spent)
        self.counters.booked(entry, row, work.arrival.caller.tags)
        if telemetry.tells_costs():
            telemetry.cost_line(attempt_line(entry, row))
            _tell_request(work)
        if not self._written_at_once(row):
            await asyncio.shield(self._run(self._write(row)))

    def settle_later(self, work: Work, attempt: Attempt, ended: str) -> asyncio.Task[TerminalEntry]:
        """Settle in a task of its own, which no cancellation of the request reaches."""
        return self._run(self.settle(work, attempt, ended, billed=attempt.tally.sent))

    async def settled(self, within_s: float = SETTLE_S) -> None:
        """Return when every attempt that was opened is written, or when the time is over: the journal may close."""
        due = self._clock.monotonic() + within_s
        while (self._running or self._open) and self._clock.monotonic() < due:
            if self._running:
                await asyncio.wait(tuple(self._running), timeout=within_s)
            else:
                await asyncio.sleep(_POLL_S)
        for attempt_id in self._open:
            self._log.error(telemetry.SETTLE_FAILED, attempt_id=attempt_id, error="still open at the end")

    def left_s(self, attempt: Attempt) -> float:
        """How much of an attempt's total time is left, in seconds."""
        due = attempt.tally.started + attempt.candidate.deployment.provider.timeouts.total_s
        return due - self._clock.monotonic()

    def tell(self, work: Work, status: int, problem: CoeError | None = None) -> None:
        """One log line for a request that ended: what it was given, never what it said. 499 when its caller left.

        `problem` is why it was refused; the code of a vendor's error is the vendor's own word, and is not told.
        """
        if work.lease is not None:
            self._limiter.release(work.lease)
            self.counters.soft_exceeded += OVER_BUDGET in work.lease.marks
        if work.last is None:
            with contextlib.suppress(LedgerUnavailable):  # the journal has said so itself, and nothing was spent
                self._ledger.no_attempt()
        deployment = (work.last or work.decision.chosen).deployment
        now, status = self._clock.monotonic(), told_as(CLIENT_LEFT) if work.arrival.gone else status
        overhead_ms = work.overhead_ms(now)
        self.counters.request(status, overhead_ms)
        code = None if problem is None or isinstance(problem, UpstreamError) else problem.code
        total_ms = milliseconds(now - work.arrival.at)
        if telemetry.tells_costs():
            work.end = RequestEnd(self._now_ms(), status, code, total_ms, overhead_ms)
            _tell_request(work)
        telemetry.note(
            telemetry.REQUEST,
            request_id=work.arrival.request_id,
            decision_id=work.decision.id,
            key_id=work.arrival.caller.key_id,
            model=deployment.model,
            provider=deployment.provider.name,
            status=status,
            code=code,
            attempts=len(work.attempts),
            total_ms=total_ms,
        )

    def _run(self, work: Any) -> asyncio.Task[Any]:  # noqa: ANN401 # any coroutine
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _written_at_once(self, row: TerminalEntry) -> bool:
        """Write a row without a task of its own, where nothing has to be waited for: nothing can cancel that."""
        try:
            if not self._ledger.terminal_at_once(row):
                return False
        except _UNWRITTEN as problem:
            self._log.error(telemetry.SETTLE_FAILED, attempt_id=row.attempt_id, error=str(problem))
        self._open.discard(row.attempt_id)
        return True

    async def _write(self, row: TerminalEntry) -> None:
        try:
            await self._ledger.append_terminal(row)
        except _UNWRITTEN as problem:
            self._log.error(telemetry.SETTLE_FAILED, attempt_id=row.attempt_id, error=str(problem))
        finally:
            self._open.discard(row.attempt_id)

    def _now_ms(self) -> int:
        return _unix_ms(self._clock.utc())


def _tell_request(work: Work) -> None:
    """The line of a request in the cost log, once every attempt has ended, too: its caller may leave before."""
    end, decision, caller = work.end, work.decision, work.arrival.caller
    if end is None or len(work.costs) < len(work.attempts):
        return
    work.end = None
    row = work.attempts[-1].row if work.attempts else None
    told = RequestSum(
        work.arrival.request_id, len(work.attempts), work.spent_pusd(), None if row is None else row.ttft_ms
    )
    last = work.last or decision.chosen
    telemetry.cost_line(request_line(decision, last, (caller, work.chat.steering.tags), told, end))


def _unix_ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _asked_tier(chat: ChatRequest) -> str | None:
    """The service tier that a request asks for, as far as it is a word."""
    asked = chat.body.get("service_tier")
    return asked if isinstance(asked, str) and 0 < len(asked) <= SERVICE_TIER_CHARACTERS_MAX else None
