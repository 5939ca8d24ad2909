"""The books of one request on its way: what was opened, what each attempt came to, all of it written exactly once.

Where on the path: steps 6 and 9 of `pipeline`, which owns the order; this room owns the rows.

Invariants
1. `open` returns only when the row is as durable as promised; when it raises, nothing may be sent.
2. Every attempt that was opened gets one terminal row, also when the request is cancelled: rows are written in tasks of
   their own, never in the `finally` of something that may be cancelled again.
3. A journal that fails to take a terminal row is logged; it never takes the answer away from the caller.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Any

from service import telemetry
from service.domain.access import Caller
from service.domain.chat import ChatRequest
from service.domain.decision import Candidate, Decision, OpenEntry, TerminalEntry
from service.domain.money import PriceQuote, usd_text
from service.domain.ports import Clock, LedgerWriter
from service.errors import Billed, InvalidRequest, LedgerUnavailable, UpstreamError
from service.ledger.recorder import Identity, Outcome, Timing, ending, opening
from service.upstream.client import Tally


@dataclass(slots=True)
class Arrival:
    """A request at the door. `at` is monotonic seconds; `gone` is set when the caller hangs up."""

    request_id: str
    caller: Caller
    at: float
    gone: bool = False


@dataclass(slots=True)
class Work:
    """One request on its way: what it asked, what was decided, what was tried.

    `told` is the decision record as `/v1/decisions/{id}` shows it; `attempts` its list of attempts, kept in step with
    the ledger. `waited_s` is time spent waiting on vendors, in seconds.
    """

    chat: ChatRequest
    arrival: Arrival
    decision: Decision
    baseline: tuple[str, PriceQuote] | None
    told: dict[str, object]
    attempts: list[dict[str, Any]] = field(default_factory=list)
    waited_s: float = 0.0
    committed_ms: float | None = None
    failures: list[tuple[Candidate, UpstreamError]] = field(default_factory=list)

    def spent_pusd(self) -> int:
        """What all attempts of this request cost together; unknown ones count nothing."""
        return sum(told.get("cost_pusd") or 0 for told in self.attempts)

    def overhead_ms(self, now: float) -> float:
        """Our own time: what has passed since arrival but for waiting on vendors.

        For a stream it stands still once the first content is there: after that the caller's reading sets the pace.
        """
        if self.committed_ms is not None:
            return self.committed_ms
        return milliseconds(max(0.0, now - self.arrival.at - self.waited_s))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that was opened in the ledger; `tally` fills while it runs."""

    entry: OpenEntry
    candidate: Candidate
    tally: Tally


class Settler:
    """Opens and settles attempts in the ledger."""

    def __init__(self, ledger: LedgerWriter, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._running: set[asyncio.Task[Any]] = set()
        self._log = telemetry.logger()

    async def open(self, work: Work, candidate: Candidate) -> Attempt:
        """Write down that an attempt is about to be made; raises LedgerUnavailable, and then nothing may be sent."""
        caller = work.arrival.caller
        who = Identity(
            attempt_id=f"att_{secrets.token_hex(12)}",
            request_id=work.arrival.request_id,
            number=len(work.attempts) + 1,
            key_id=caller.key_id,
            tags=tuple(sorted({*caller.tags, *work.chat.steering.tags})),
            streaming=work.chat.stream,
        )
        entry = opening(who, work.decision, candidate, self._now_ms())
        try:
            await self._ledger.append_open(entry)
        except ValueError as problem:
            raise InvalidRequest(f"this request can't be written down: {problem}") from problem
        work.attempts.append(
            {"attempt_id": entry.attempt_id, "deployment": candidate.deployment.id, "state": "open"}
        )
        return Attempt(entry, candidate, Tally(started=self._clock.monotonic()))

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
        """Write the terminal row and return it. `billed` false books exactly 0; `final` marks the attempt that answered."""
        now, tally, candidate = self._clock.monotonic(), attempt.tally, attempt.candidate
        usage = tally.usage_or_estimate(candidate.input_tokens) if billed else None
        ttft = None if tally.first_content is None else milliseconds(tally.first_content - tally.started)
        row = ending(
            attempt.entry,
            candidate,
            Outcome(ended, usage, tally.model, tally.status, tally.upstream_id, final),
            Timing(self._now_ms(), ttft, milliseconds(now - tally.started), work.overhead_ms(now)),
            work.baseline,
        )
        _tell(work, row)
        await asyncio.shield(self._run(self._write(row)))
        return row

    def settle_later(self, work: Work, attempt: Attempt, ended: str) -> asyncio.Task[TerminalEntry]:
        """Settle in a task of its own, which no cancellation of the request reaches."""
        return self._run(self.settle(work, attempt, ended, billed=attempt.tally.sent))

    async def settled(self) -> None:
        """Return when everything that is being settled is written: the last thing before the journal closes."""
        while self._running:
            await asyncio.gather(*tuple(self._running), return_exceptions=True)

    def _run(self, work: Any) -> asyncio.Task[Any]:  # noqa: ANN401 # any coroutine
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _write(self, row: TerminalEntry) -> None:
        try:
            await self._ledger.append_terminal(row)
        except LedgerUnavailable as problem:
            self._log.error(telemetry.SETTLE_FAILED, attempt_id=row.attempt_id, error=problem.message)

    def _now_ms(self) -> int:
        return int(self._clock.utc().timestamp() * 1000)


def _tell(work: Work, row: TerminalEntry) -> None:
    """Keep the decision record in step with the ledger."""
    for told in work.attempts:
        if told["attempt_id"] == row.attempt_id:
            told.update(
                state=row.state.value,
                ended=row.ended,
                usage=dict(row.usage),
                usage_source=row.usage_source,
                cost_pusd=row.cost_pusd,
                cost_usd=None if row.cost_pusd is None else usd_text(row.cost_pusd),
                price=dict(row.price),
                baseline_cost_usd=None if row.baseline_pusd is None else usd_text(row.baseline_pusd),
                served_model=row.served_model,
                ttft_ms=row.ttft_ms,
                total_ms=row.total_ms,
            )


def milliseconds(seconds: float) -> float:
    """Milliseconds to the microsecond."""
    return round(seconds * 1000, 3)
