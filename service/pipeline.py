"""THE path: classify -> decide -> write down -> attempt... -> settle. Every request walks `Pipeline.answer`.

Where on the path: `api` has parsed the body and `guard` knows the caller; what is returned here, `api` renders.

Invariants
1. No upstream byte before the attempt's open row is as durable as promised.
2. Fallback only while nothing of an answer has reached the caller.
3. A request keeps the registry it began with; a reload swaps `catalog` and `learned`, each whole.
4. All attempts of a request together stay under its cost ceiling and its deadline.
5. Every answer and every error says in `x-coe-*` headers what was decided, once something was.
6. An attempt that is cut says by what: the caller, its deadline, a router that stops, or a fault of ours.
"""

from __future__ import annotations

import asyncio
import math
import random
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import orjson

from service import telemetry
from service.attempting import NO_BUDGET, Answered, Attempting, Limits
from service.cache.answer_cache import HIT, AnswerCache
from service.cache.memory import MemoryStore
from service.cache.sealing import Kept
from service.cached_reply import StoredStream, author_of, booked
from service.domain.access import Caller
from service.domain.catalog import Catalog
from service.domain.chat import ChatRequest
from service.domain.decision import NOT_CLASSIFIED, Candidate, Decision
from service.domain.experience import NOTHING
from service.domain.features import features_of
from service.domain.ids import new_draw, new_id
from service.domain.money import usd_text
from service.domain.ports import Classifier, Clock, LedgerWriter
from service.domain.rawjson import RawJsonError, scan
from service.errors import CoeError, LedgerUnavailable, Stopping
from service.failing import too_slow
from service.guard.limits import CAPPED, OVER_BUDGET, Limiter, unlimited
from service.ledger.lines import decode
from service.ledger.recorder import INTERNAL_ERROR, ROUTER_STOPPING, Tried
from service.ledger.statuses import told_as
from service.reading import NOTHING_LEARNED, UNREAD, read_request
from service.resuming import Resuming, may_be_resumed
from service.routing.explain import record
from service.routing.prefixes import NO_CHAIN, Chain, Prefixes, chain_of
from service.routing.prepared import prepared
from service.routing.retrying import TRIES_MAX
from service.routing.router import baseline_quote, decide, needs_intent
from service.routing.weighing import Circumstances
from service.settling import Settler
from service.stream_events import explanation, resumed_event
from service.stream_reply import StreamReply
from service.upstream.client import UpstreamClient, WholeAnswer
from service.upstream.patience import Patience
from service.upstream.splice import Told
from service.work import Arrival, Attempt, Work

DECISIONS_KEPT = 2_048
"""Decision records answered from memory; older ones come from the index."""

RESTING = "resting"
"""What `x-coe-degraded` says when somebody was passed over who would have had a turn."""

NOTHING_LESS: Final = frozenset({telemetry.PART_CACHE, telemetry.PART_BUDGETS, OVER_BUDGET, CAPPED})
"""Marks of answers that are as good as any: what is kept has ended by itself, under whatever cap."""

_Remembered = tuple[bytes, list[Tried], list[int | None]]
"""The line of a decision record, its attempts, and what each ended one cost."""


@dataclass(frozen=True, slots=True)
class WholeReply:
    """A unary answer, settled: bytes and headers for the caller."""

    body: bytes
    content_type: str
    headers: Mapping[str, str]


Reply = WholeReply | StreamReply | StoredStream


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
        deadline_s: float,
        limiter: Limiter | None = None,
    ) -> None:
        self.catalog = catalog
        self.learned = NOTHING_LEARNED
        self.given_up: tuple[str, ...] = ()  # parts of the router that every answer does without at the moment
        self._prefixes = Prefixes()
        self.limiter = limiter or unlimited()
        self.settler = Settler(ledger, clock, prefixes=self._prefixes, limiter=self.limiter)
        self.cache = AnswerCache(MemoryStore(clock.monotonic), secrets.token_bytes(), clock)  # until `app` gives one
        self._classifier = classifier
        self.client = client
        self.attempting = Attempting(client, self.settler, clock, attempts_max=attempts_max, chance=random.random)
        self._ledger = ledger
        self._clock = clock
        self._deadline_s = deadline_s
        self._decisions: OrderedDict[str, _Remembered] = OrderedDict()

    async def answer(self, chat: ChatRequest, arrival: Arrival) -> Reply:
        """Answer one request. Raises a `CoeError` that `api` renders; by then every attempt is settled.

        A cancellation ends in `Stopping`, unless `arrival.cut_by` names another reason: then it passes.
        """
        catalog = self.catalog
        chain = chain_of(chat, arrival.caller.key_id)
        decision = self.decide(chat, arrival.caller, catalog, chain=chain)
        quote = baseline_quote(catalog, self._clock.utc())
        baseline = (decision.baseline_model, quote) if decision.baseline_model and quote else None
        told, lease = Told() if may_be_resumed(chat) else None, self.limiter.lease(arrival.caller, chat.steering.tags)
        visit = self.cache.visit(chat, arrival.caller, decision, catalog)
        work = Work(chat, arrival, decision, baseline, chain, told=told, lease=lease, visit=visit)
        try:
            self._write_down(work)
            reply = await self._in_time(work, catalog)
        except CoeError as problem:
            if isinstance(problem, LedgerUnavailable) and not work.attempts:
                self._decisions.pop(decision.id, None)  # it went with the open row: nobody will find it later
            problem.headers = {**self.headers(work), **problem.headers}
            self.settler.tell(work, problem.status, problem)
            raise
        except asyncio.CancelledError:
            self.settler.tell(work, told_as(arrival.cut_by))
            if arrival.cut_by != ROUTER_STOPPING:
                raise
            if work.settling:
                await asyncio.wait(work.settling)
            raise Stopping(headers=self.headers(work)) from None
        except Exception:
            self.settler.tell(work, told_as(INTERNAL_ERROR))
            raise
        finally:
            work.failures.clear()  # an error holds the frames it passed, and those this list: with the prompt
        if isinstance(reply, WholeReply):
            self.settler.tell(work, 200)
        return reply

    def decide(
        self,
        chat: ChatRequest,
        caller: Caller,
        catalog: Catalog | None = None,
        *,
        explained: bool = False,
        chain: Chain | None = None,
    ) -> Decision:
        """The decision for a request, without spending anything: what POST /v1/route shows.

        `chain` are the beginnings of its prompt, where they were read before.
        """
        catalog, learned = catalog or self.catalog, self.learned
        intent, known = NOT_CLASSIFIED, NOTHING
        if needs_intent(chat, catalog):
            told = explained or chat.steering.explain
            try:
                intent, known = read_request(self._classifier, learned.judge, chat, explained=told)
            except Exception as problem:  # noqa: BLE001 # whatever it is: the request can be answered without
                intent = UNREAD
                self.settler.counters.not_read(self._clock.monotonic())
                where = telemetry.place_of(problem)
                telemetry.logger().error(telemetry.READING_FAILED, error=type(problem).__name__, where=where)
        chain = chain_of(chat, caller.key_id) if chain is None else chain
        if chain is not NO_CHAIN:
            warm = self._prefixes.warm(chain, self._clock.monotonic())
            known = replace(known, warm_tokens=warm, marked=chain.marked)
        if prepared(catalog).engines:
            known = replace(known, busy=self.settler.load.busy())
        budgeted = caller.budgeted(catalog.budgets, chat.steering.tags)
        draw = None if explained or chat.steering.session else new_draw()
        around = Circumstances(new_id("dec_"), self._clock.utc(), caller, known, learned.lengths, budgeted, draw)
        return decide(features_of(chat), intent, catalog, around)

    def decision_record(self, decision_id: str) -> Mapping[str, object] | None:
        """A recent decision with its attempts, or `None` when memory no longer has it."""
        found = self._decisions.get(decision_id)
        if found is None:
            return None
        line, attempts, costs = found
        told = decode(line[:-1]).body
        known = [cost for cost in costs if cost is not None]
        whole = usd_text(sum(known)) if len(known) == len(attempts) else None
        return {**told, "attempts": [one.shown() for one in attempts], "cost_usd": whole}

    async def _in_time(self, work: Work, catalog: Catalog) -> Reply:
        """The first answer, or 504 when the time of the request is over before it."""
        limit_ms, own = self._limit_ms(work)
        limits = Limits(work.arrival.at + limit_ms / 1000, callers=own)
        patience = Patience()
        try:
            left_s = limits.due - self._clock.monotonic()
            return await patience.wait(self._reply(work, catalog, patience, limits), left_s)
        except TimeoutError:
            if not patience.expired:
                raise
            if work.settling:
                await asyncio.wait(work.settling)
        finally:
            patience.close()
        if own:
            raise too_slow("no answer within `max_latency_ms`", code="max_latency_exceeded")
        raise too_slow(f"no answer within {self._deadline_s:g} s, the deadline of this router", code="upstream_timeout")

    async def resume(self, work: Work, catalog: Catalog, broke: Candidate) -> tuple[Answered, bytes] | None:
        """A stream that goes on where one broke, and the event that says so; `None` when there is to be none.

        Its attempts are counted with the others and end by the same deadline.
        """
        told, limits = work.told, Limits(work.arrival.at + self._deadline_s, callers=False)
        text = told.text if told is not None and told.resumable else None
        if told is None or text is None or work.arrival.gone or limits.due <= self._clock.monotonic():
            return None
        work.authors.add(broke.deployment.model)
        resuming = Resuming(
            work.chat, text, told.pieces, broke, self.client.protocols, frozenset(work.authors), _barred(work)
        )
        ended, patience = work.attempts[-1].row, Patience()
        making = self.attempting.first_that_answers(work, catalog, patience, limits, resuming)
        try:
            found = await patience.wait(making, limits.due - self._clock.monotonic())
        except CoeError:
            return None
        except TimeoutError:
            if not patience.expired:
                raise
            return None
        finally:
            patience.close()
            work.failures.clear()
        number = found.attempt.entry.attempt_number
        told_so = resuming.announcement(found.attempt.candidate, ended.ended if ended else "", number)
        return found, resumed_event(told_so)

    def _limit_ms(self, work: Work) -> tuple[float, bool]:
        """(milliseconds from arrival to the answer, whether that is the caller's or policy's limit and not ours)."""
        limits = (work.chat.steering.max_latency_ms, work.decision.max_latency_ms)
        own = min((limit for limit in limits if limit is not None), default=math.inf)
        ours = self._deadline_s * 1000
        return (own, True) if own < ours else (ours, False)

    async def _reply(self, work: Work, catalog: Catalog, patience: Patience, limits: Limits) -> Reply:
        """What the cache has, or what the first candidate that answers makes of it."""
        kept = await self.cache.find(work.visit)
        if kept is not None and (reply := await self._stored(work, kept)) is not None:
            return reply
        found = await self.attempting.first_that_answers(work, catalog, patience, limits)
        if isinstance(found.answer, WholeAnswer):
            self.keep(work, found.attempt, found.answer.body, found.answer.content_type)
            return self._whole(work, found.answer.body, found.answer.content_type)
        return StreamReply(self, work, catalog, found, found.answer)

    async def _stored(self, work: Work, kept: Kept) -> Reply | None:
        """An answer from the cache, booked; `None` when it may not be given to this request any more."""
        author, visit = author_of(kept, work.decision), work.visit
        assert visit is not None  # noqa: S101 # without one nothing is found
        if author is None:
            self.cache.missed(visit)
            return None
        attempt = await booked(self.settler, self._clock, work, kept, author)
        self.cache.given(visit, kept)
        if not kept.stream:
            return self._whole(work, kept.body, kept.content_type)
        headers = {**self.headers(work), "x-coe-cost-usd": usd_text(0)}
        return StoredStream(self.settler, work, attempt, kept.body, headers)

    def keep(self, work: Work, attempt: Attempt, body: bytes, content_type: str) -> None:
        """Hand an answer of a vendor, settled, to the cache; it keeps what is whole."""
        visit, row = work.visit, work.attempts[attempt.entry.attempt_number - 1].row
        if visit is None or row is None:
            return
        tally, entry, candidate = attempt.tally, attempt.entry, attempt.candidate
        kept = Kept(
            body=body,
            content_type=content_type,
            stream=work.chat.stream,
            at_ms=row.at_ms,
            deployment=candidate.deployment.id,
            attempt_id=entry.attempt_id,
            cost_pusd=row.cost_pusd,
            upstream_id=tally.upstream_id,
            served_model=tally.model,
        )
        given_up = not NOTHING_LESS.issuperset(self._given_up(work)) or candidate.below is not None
        self.cache.keep(visit, kept, given_up=given_up)

    def _whole(self, work: Work, body: bytes, content_type: str) -> WholeReply:
        """A unary answer with its cost, and with the explanation where that was asked for."""
        headers = self.headers(work)
        spent = work.spent_pusd()
        if spent is not None:
            headers["x-coe-cost-usd"] = usd_text(spent)
        if work.chat.steering.explain:
            try:
                body = scan(body).edited({"coe": orjson.dumps(explanation(work))})
            except RawJsonError:
                # The scanner is stricter than vendors are. The answer is paid: it goes out as it is.
                headers["x-coe-degraded"] = ",".join((*self._given_up(work), "explain"))
        return WholeReply(body, content_type, headers)

    def headers(self, work: Work) -> dict[str, str]:
        """The `x-coe-*` headers of a response, on success and on error: who was tried last, or would have been."""
        decision, visit = work.decision, work.visit
        called = 0 if visit is not None and visit.told == HIT else len(work.attempts)
        deployment = (work.last or decision.chosen).deployment
        headers = {
            "x-coe-decision-id": decision.id,
            "x-coe-model": deployment.model,
            "x-coe-provider": deployment.provider.name,
            "x-coe-intent": decision.intent.told,
            "x-coe-policy": decision.policy,
            "x-coe-attempts": str(called),
            "x-coe-overhead-ms": f"{work.overhead_ms(self._clock.monotonic()):.2f}",
        }
        if deployment.provider.simulated:
            headers["x-coe-simulated"] = "true"
        if visit is not None:
            headers["x-coe-cache"] = visit.told
        if work.lease is not None:
            headers.update(work.lease.headers)
        given_up = self._given_up(work)
        if given_up:
            headers["x-coe-degraded"] = ",".join(given_up)
        return headers

    def _given_up(self, work: Work) -> tuple[str, ...]:
        """What was given up to answer, as `x-coe-degraded` tells it."""
        rests = any(rest is not NO_BUDGET for rest in work.passed_over.values())
        marks = () if work.lease is None else sorted(work.lease.marks)
        away = (telemetry.PART_CACHE,) if work.visit is not None and work.visit.away else ()
        return (*work.decision.degraded, *((RESTING,) if rests else ()), *marks, *away, *self.given_up)

    def _write_down(self, work: Work) -> None:
        """Put the decision into the journal, and remember it."""
        arrival, decision = work.arrival, work.decision
        owner = {"id": decision.id, "request_id": arrival.request_id, "key_id": arrival.caller.key_id}
        # In this order: an index looks at the beginning only.
        line = self.settler.decided({**owner, **record(decision)})
        # The record and the list of attempts only: a `Work` holds the prompt, and 2,048 prompts are not for keeping.
        self._decisions[decision.id] = (line, work.attempts, work.costs)
        while len(self._decisions) > DECISIONS_KEPT:
            self._decisions.popitem(last=False)


def _barred(work: Work) -> frozenset[str]:
    """Who may not be called again for a request: deployments that were called twice, or said nothing in their time."""
    twice = {name for name, tries in work.tries.items() if tries >= TRIES_MAX}
    silent = {
        f"{tried.entry.provider}/{tried.entry.model}"
        for tried in work.attempts
        if tried.row is not None and tried.row.ended.startswith("timeout")
    }
    return frozenset(twice | silent)
