"""THE path: classify -> decide -> write down -> attempt... -> settle. Every request walks `Pipeline.answer`.

Where on the path: `api` has parsed the body and `guard` knows the caller; what is returned here, `api` renders.

Invariants
1. No upstream byte before the attempt's open row is as durable as promised.
2. Fallback only while nothing of an answer has reached the caller.
3. A stream ends with `[DONE]` only after the vendor finished and the row is written; else with an error event.
4. A request keeps the registry it began with; a reload swaps `catalog` whole.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import orjson

from service.domain.access import Caller
from service.domain.catalog import Catalog
from service.domain.chat import ChatRequest
from service.domain.decision import NOT_CLASSIFIED, Candidate, Decision, Intent, ReasonCode
from service.domain.money import usd_text
from service.domain.ports import Classifier, Clock, LedgerWriter
from service.domain.rawjson import scan
from service.errors import AllAttemptsFailed, CoeError, Replied, UpstreamError
from service.ledger.recorder import CLIENT_LEFT, COMPLETE
from service.routing.explain import record
from service.routing.router import Circumstances, attempt_order, baseline_quote, decide, needs_intent
from service.settling import Arrival, Attempt, Settler, Work
from service.upstream.client import AnswerStream, UpstreamClient

DECISIONS_KEPT = 2_048
"""Decision records answered from memory; older ones come from the index."""

DONE_EVENT = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class WholeReply:
    """A unary answer, settled: bytes and headers for the caller."""

    body: bytes
    content_type: str
    headers: Mapping[str, str]


class Pipeline:
    """Knows all organs."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        classifier: Classifier,
        client: UpstreamClient,
        ledger: LedgerWriter,
        clock: Clock,
        attempts_max: int,
    ) -> None:
        self.catalog = catalog
        self.settler = Settler(ledger, clock)
        self._classifier = classifier
        self._client = client
        self._ledger = ledger
        self._clock = clock
        self._attempts_max = attempts_max
        self._decisions: OrderedDict[str, dict[str, object]] = OrderedDict()

    async def answer(self, chat: ChatRequest, arrival: Arrival) -> WholeReply | StreamReply:
        """Answer one request. Raises a `CoeError` that `api` renders; by then every attempt is settled."""
        catalog = self.catalog
        decision = self.decide(chat, arrival.caller, catalog)
        told = {**record(decision), "request_id": arrival.request_id, "key_id": arrival.caller.key_id}
        quote = baseline_quote(catalog, self._clock.utc())
        baseline = (decision.baseline_model, quote) if decision.baseline_model and quote else None
        work = Work(chat, arrival, decision, baseline, told)
        await self._ledger.append_decision(told)
        self._remember(work)
        try:
            async with asyncio.timeout(self._patience(work)):
                return await self._first_that_answers(work, catalog)
        except TimeoutError:
            slow = AllAttemptsFailed("no answer within `max_latency_ms`", code="max_latency_exceeded")
            slow.status = 504
            slow.headers.update(self.headers(work))
            raise slow from None

    def decide(self, chat: ChatRequest, caller: Caller, catalog: Catalog | None = None) -> Decision:
        """The decision for a request, without spending anything: what POST /v1/route shows."""
        catalog = catalog or self.catalog
        intent = NOT_CLASSIFIED
        if needs_intent(chat, catalog):
            read = self._classifier.predict(chat.turns())
            intent = Intent(
                read.label, read.confidence, read.posterior, read.language, read.abstained, read.terms, read.artefact
            )
        around = Circumstances(f"dec_{secrets.token_hex(12)}", self._clock.utc(), caller)
        return decide(chat, intent, catalog, around)

    def decision_record(self, decision_id: str) -> Mapping[str, object] | None:
        """A recent decision with its attempts, or `None` when memory no longer has it."""
        return self._decisions.get(decision_id)

    async def _first_that_answers(self, work: Work, catalog: Catalog) -> WholeReply | StreamReply:
        """Try the candidates in order until one answers."""
        chat = work.chat
        attempts_max = 1 if chat.steering.no_fallback else self._attempts_max
        for candidate in attempt_order(work.decision, attempts_max):
            if work.arrival.gone or not _worth_trying(work, candidate, catalog):
                continue
            attempt = await self.settler.open(work, candidate)
            try:
                if chat.stream:
                    stream = await self._client.open_stream(chat, candidate, attempt.tally)
                    work.waited_s += attempt.tally.waited_s
                    work.committed_ms = work.overhead_ms(self._clock.monotonic())
                    return StreamReply(self, work, attempt, stream)
                whole = await self._client.call(chat, candidate, attempt.tally)
            except UpstreamError as problem:
                work.waited_s += attempt.tally.waited_s
                await self.settler.fail(work, attempt, problem)
                if isinstance(problem, Replied) and problem.passthrough and problem.cause != "context_length":
                    problem.headers.update(self.headers(work, candidate))
                    raise
                continue
            except BaseException:
                # Cancelled: the caller left, its patience ended, or we shut down. What was sent may be billed.
                self.settler.settle_later(work, attempt, CLIENT_LEFT)
                raise
            work.waited_s += attempt.tally.waited_s
            row = await self.settler.settle(work, attempt, COMPLETE)
            headers = self.headers(work, candidate)
            if row.cost_pusd is not None:
                headers["x-coe-cost-usd"] = usd_text(work.spent_pusd())
            body = whole.body
            if chat.steering.explain:
                body = scan(body).edited({"coe": orjson.dumps(explanation(work))})
            return WholeReply(body, whole.content_type, headers)
        raise self._all_failed(work)

    def headers(self, work: Work, candidate: Candidate | None = None) -> dict[str, str]:
        """The `x-coe-*` headers of a response, on success and on error."""
        decision = work.decision
        deployment = (candidate or decision.chosen).deployment
        headers = {
            "x-coe-decision-id": decision.id,
            "x-coe-model": deployment.model,
            "x-coe-provider": deployment.provider.name,
            "x-coe-intent": decision.intent.label,
            "x-coe-policy": decision.policy,
            "x-coe-attempts": str(len(work.attempts)),
            "x-coe-overhead-ms": f"{work.overhead_ms(self._clock.monotonic()):.2f}",
        }
        if deployment.provider.simulated:
            headers["x-coe-simulated"] = "true"
        given_up = ["quality_floor"] if decision.reason_code is ReasonCode.FLOOR_UNREACHABLE else []
        given_up += ["plan"] if any(note.startswith("plan ") for note in decision.notes) else []
        if given_up:
            headers["x-coe-degraded"] = ",".join(given_up)
        return headers

    def _all_failed(self, work: Work) -> CoeError:
        """The error for the caller when nobody answered: every attempt with its cause, nothing of a vendor's text."""
        for _, problem in work.failures:
            if isinstance(problem, Replied) and problem.passthrough:
                problem.headers.update(self.headers(work))
                return problem
        causes = [problem.cause for _, problem in work.failures]
        tried = "; ".join(f"{one.deployment.id}: {problem.cause}" for one, problem in work.failures)
        failed = AllAttemptsFailed(f"every attempt failed ({tried or 'the caller left before any'})")
        failed.headers.update(self.headers(work))
        if causes and all(cause.startswith("timeout") for cause in causes):
            failed.status, failed.code = 504, "upstream_timeout"
        elif causes and all(cause == "rate_limited" for cause in causes):
            failed.status, failed.code, failed.type = 429, "upstream_rate_limited", "rate_limit_error"
            waits = [problem.retry_after_s for _, problem in work.failures if problem.retry_after_s is not None]
            failed.headers["retry-after"] = str(max(1, round(min(waits)))) if waits else "1"
        elif causes and all(cause == "auth_failed" for cause in causes):
            failed.code = "upstream_auth_failed"
        return failed

    def _patience(self, work: Work) -> float | None:
        """Seconds left of the caller's `max_latency_ms`, or `None` for no limit of its own."""
        limit = work.chat.steering.max_latency_ms
        return None if limit is None else max(0.0, work.arrival.at + limit / 1000 - self._clock.monotonic())

    def _remember(self, work: Work) -> None:
        # The record and the list of attempts only: a `Work` holds the prompt, and 2,048 prompts are not for keeping.
        self._decisions[work.decision.id] = {**work.told, "attempts": work.attempts}
        while len(self._decisions) > DECISIONS_KEPT:
            self._decisions.popitem(last=False)


class StreamReply:
    """A stream that was committed: its first content is there. Drive `pieces`; call `abandon` when the caller leaves."""

    def __init__(self, pipeline: Pipeline, work: Work, attempt: Attempt, stream: AnswerStream) -> None:
        self._settler = pipeline.settler
        self._work = work
        self._attempt = attempt
        self._stream = stream
        self._ended = False
        self.headers: Mapping[str, str] = pipeline.headers(work, attempt.candidate)

    async def pieces(self) -> AsyncIterator[bytes]:
        """What the caller gets: the vendor's events, then `[DONE]`, or an error event and nothing after it."""
        try:
            async for piece in self._stream.pieces():
                yield piece
        except UpstreamError as problem:
            await self._end(problem.cause)
            yield _error_event(problem)
        else:
            await self._end(COMPLETE)
            if self._work.chat.steering.explain:
                yield b"data: " + orjson.dumps(_explaining_chunk(self._work, self._attempt)) + b"\n\n"
            yield DONE_EVENT
        await self._stream.aclose()

    async def abandon(self) -> None:
        """The caller left: close the upstream and settle what was used, estimated where the vendor did not say."""
        if not self._ended:
            self._ended = True
            ended = COMPLETE if self._attempt.tally.complete else CLIENT_LEFT
            settling = self._settler.settle_later(self._work, self._attempt, ended)
            await self._stream.aclose()
            await asyncio.shield(settling)

    async def _end(self, ended: str) -> None:
        self._ended = True
        await self._settler.settle(self._work, self._attempt, ended)


def explanation(work: Work) -> dict[str, object]:
    """The full decision with its attempts: what `coe.explain` adds to an answer."""
    return {**record(work.decision, full=True), "attempts": work.attempts}


def _worth_trying(work: Work, candidate: Candidate, catalog: Catalog) -> bool:
    """After a context-length refusal only a larger context helps."""

    def context(one: Candidate) -> int:
        return one.deployment.context_tokens or catalog.models[one.deployment.model].context_tokens or 0

    refused = [one for one, problem in work.failures if problem.cause == "context_length"]
    return all(context(candidate) > context(one) for one in refused)


def _explaining_chunk(work: Work, attempt: Attempt) -> dict[str, object]:
    return {
        "id": attempt.tally.upstream_id or attempt.entry.attempt_id,
        "object": "chat.completion.chunk",
        "created": attempt.entry.at_ms // 1000,
        "model": attempt.tally.model or attempt.entry.wire_name,
        "choices": [],
        "coe": explanation(work),
    }


def _error_event(problem: UpstreamError) -> bytes:
    """What a stream that broke ends with: every official SDK raises on it."""
    error = {"message": problem.message, "type": "upstream_error", "param": None, "code": f"stream_{problem.cause}"}
    return b"data: " + orjson.dumps({"error": error}) + b"\n\n"
