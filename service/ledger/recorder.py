"""Ledger rows from what the pipeline knows: pure builders for the open and the terminal row, and how they are shown.

Where on the path: `pipeline` calls `opening` before the first upstream byte, and `ending` when the attempt is over.

Invariants
1. The price is the one quoted at dispatch, whatever the registry says by the time the answer ends.
2. A failure that the vendor can't have billed costs exactly 0 and is `refused`; one that it may have billed is
   estimated.
3. Who the answer is compared with is priced on the same request, so that a saving is signed and counts failed attempts
   against us.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from service.domain.decision import Candidate, Decision, EntryState, OpenEntry, TerminalEntry
from service.domain.money import ONE, Cost, Fx, PriceQuote, Rates, Usage, UsageSource, price, usd_text
from service.domain.rivals import RULE, Served, would_cost

COMPLETE = "complete"
CLIENT_LEFT = "client_left"
CALLER_STALLED = "caller_stalled"
"""The caller stayed but stopped reading, longer than we wait for it."""

ROUTER_STOPPING = "router_stopping"
"""Cut because the router was told to stop."""

INTERNAL_ERROR = "internal_error"
"""A fault of ours in the middle of it."""

STOPPED_AT_BUDGET = "stopped_at_budget"
"""A stream that we ended where what was reserved for it was used up."""

CACHE_HIT = "cache_hit"
"""Given from the cache: nobody was called."""

ANSWER, CACHE = "answer", "cache"
"""The kinds of rows: of a call, and of an answer from the cache."""

DEADLINE = "deadline"
"""The request's own time was over: its `max_latency_ms`, its policy's, or the router's `COE_DEADLINE_S`."""


class Identity(NamedTuple):
    """Under which ids an attempt is written down. `key_id` is `None` for anonymous callers."""

    attempt_id: str
    request_id: str
    number: int
    key_id: str | None
    tags: tuple[str, ...]
    streaming: bool


class Timing(NamedTuple):
    """`at_ms` is Unix time; the others are durations in milliseconds, `ttft_ms` to the first content."""

    at_ms: int
    ttft_ms: float | None
    total_ms: float
    overhead_ms: float | None


class Stored(NamedTuple):
    """An answer that was given from the cache: what it had cost in `attempt_id`, `None` where no price was known."""

    attempt_id: str
    cost_pusd: int | None
    served_model: str | None


class Outcome(NamedTuple):
    """How an attempt ended.

    `usage` is `None` when nothing can have been billed; `asked_tier` is the service tier that the request asked for.
    """

    ended: str
    usage: Usage | None
    served_model: str | None = None
    upstream_status: int | None = None
    upstream_id: str | None = None
    final: bool = True
    asked_tier: str | None = None


def opening(who: Identity, decision: Decision, candidate: Candidate, at_ms: int) -> OpenEntry:
    """The intent to spend on one attempt."""
    deployment = candidate.deployment
    return OpenEntry(
        attempt_id=who.attempt_id,
        request_id=who.request_id,
        decision_id=decision.id,
        attempt_number=who.number,
        at_ms=at_ms,
        key_id=who.key_id,
        requested_model=decision.requested,
        model=deployment.model,
        provider=deployment.provider.name,
        wire_name=deployment.wire_name,
        intent=decision.intent.told,
        language=decision.intent.language,
        policy=decision.policy,
        price_version=candidate.quote.version if candidate.quote else None,
        reserved_pusd=candidate.reserved_pusd,
        tags=who.tags,
        streaming=who.streaming,
        simulated=deployment.provider.simulated,
        effort=decision.features.effort,
        choices=decision.features.n,
        output_tokens_cap=_lowest(
            decision.features.output_tokens_max, candidate.output_tokens_cap or None, deployment.output_tokens_max
        ),
        last_user_tokens=decision.features.sizes.last_user_tokens,
    )


def ending(
    entry: OpenEntry,
    candidate: Candidate,
    outcome: Outcome,
    timing: Timing,
    baseline: tuple[str, PriceQuote] | None,
    decision: Decision | None = None,
) -> TerminalEntry:
    """The terminal row of an attempt. `baseline` is (model, its price at dispatch).

    The attempt that answered is compared with the rivals of `decision`, the configured baseline among them.
    """
    cost = _cost(outcome.usage, candidate.quote, outcome.asked_tier)
    usage = outcome.usage or Usage(requests=0, source=UsageSource.PROVIDER)
    if outcome.usage is None:
        state = EntryState.REFUSED
    elif outcome.usage.source is UsageSource.PROVIDER or outcome.usage.source is UsageSource.COUNTED:
        state = EntryState.SETTLED
    else:
        state = EntryState.ESTIMATED
    compared: dict[str, int | None] = {}
    if decision is not None and outcome.final and outcome.usage is not None:
        compared = _compared(usage, cost.pusd, candidate, decision)
    baseline_cost = compared.pop("baseline_pusd", None)
    if baseline_cost is None and baseline is not None and outcome.usage is not None:
        baseline_cost = price(_without_vendor_cost(usage), baseline[1]).pusd
    return TerminalEntry(
        attempt_id=entry.attempt_id,
        state=state,
        at_ms=timing.at_ms,
        ended=outcome.ended,
        usage=usage.as_dict(),
        usage_source=usage.source,
        usage_flags=(*usage.flags, *cost.flags),
        cost_pusd=cost.pusd,
        price=cost.as_dict(),
        baseline_pusd=baseline_cost,
        baseline_model=baseline[0] if baseline is not None else None,
        served_model=outcome.served_model,
        upstream_status=outcome.upstream_status,
        upstream_id=outcome.upstream_id,
        ttft_ms=timing.ttft_ms,
        total_ms=timing.total_ms,
        overhead_ms=timing.overhead_ms,
        final=outcome.final,
        **({} if not compared else compared | {"compared_by": RULE}),
    )


def _compared(usage: Usage, cost_pusd: int | None, candidate: Candidate, decision: Decision) -> dict[str, int | None]:
    """What each rival would have cost, by the fields of the row."""
    features, choices = decision.features, decision.features.n
    cap = features.output_tokens_max
    served = Served(
        candidate.deployment.model,
        candidate.deployment.id,
        candidate.output_tokens,
        candidate.reasoning_tokens * choices,
        cost_pusd,
        max(decision.experience.warm_tokens.values(), default=0),
        None if cap is None else cap * choices,
    )
    found: dict[str, int | None] = {}
    for rival in decision.rivals():
        cost = would_cost(usage, served, rival)
        found[f"{rival.name}_pusd"], found[f"{rival.name}_assumed_pusd"] = cost
    return found


def ending_stored(entry: OpenEntry, stored: Stored, timing: Timing) -> TerminalEntry:
    """The terminal row of an answer from the cache: it cost nothing, and would have cost what it did before.

    That stands where a call has the price of the baseline, so what was saved adds up with the rest. Tokens were used
    by the call in which it was given first, whose row this one names.
    """
    price = {**Cost(0, "none", "USD", Rates(), ONE, Fx()).as_dict(), "answer_of": stored.attempt_id}
    return TerminalEntry(
        attempt_id=entry.attempt_id,
        state=EntryState.SETTLED,
        at_ms=timing.at_ms,
        ended=CACHE_HIT,
        usage_source=UsageSource.PROVIDER,
        cost_pusd=0,
        price=price,
        baseline_pusd=stored.cost_pusd,
        baseline_assumed_pusd=None if stored.cost_pusd is None else 0,  # that answer, of just its length
        baseline_model=entry.model,
        served_model=stored.served_model,
        ttft_ms=None,
        total_ms=timing.total_ms,
        overhead_ms=timing.overhead_ms,
    )


def shown_open(entry: OpenEntry) -> dict[str, object]:
    """A running attempt as `GET /v1/decisions/{id}` shows it: names as from the index, `None` for what is not known."""
    return {
        "attempt_id": entry.attempt_id,
        "request_id": entry.request_id,
        "attempt_number": entry.attempt_number,
        "key_id": entry.key_id,
        "kind": entry.kind,
        "requested_model": entry.requested_model,
        "model": entry.model,
        "provider": entry.provider,
        "served_model": None,
        "state": EntryState.OPEN.value,
        "ended": None,
        "opened_ms": entry.at_ms,
        "ended_ms": None,
        "ttft_ms": None,
        "total_ms": None,
        "overhead_ms": None,
        "upstream_status": None,
        "upstream_id": None,
        "usage_source": None,
        "baseline_model": None,
        "price_version": entry.price_version,
        "streaming": entry.streaming,
        "simulated": entry.simulated,
        "final": None,
        "tags": list(entry.tags),
        "usage_flags": None,
        "price": None,
        "reserved_usd": _usd(entry.reserved_pusd),
        "cost_usd": None,
        "baseline_cost_usd": None,
        "strongest_cost_usd": None,
        "cheapest_cost_usd": None,
        "random_cost_usd": None,
    }


def shown_end(row: TerminalEntry) -> Mapping[str, object]:
    """What the terminal row changes in what `shown_open` gave."""
    return {
        "served_model": row.served_model,
        "state": row.state.value,
        "ended": row.ended,
        "ended_ms": row.at_ms,
        "ttft_ms": row.ttft_ms,
        "total_ms": row.total_ms,
        "overhead_ms": row.overhead_ms,
        "upstream_status": row.upstream_status,
        "upstream_id": row.upstream_id,
        "usage_source": row.usage_source,
        "usage_flags": list(row.usage_flags),
        "baseline_model": row.baseline_model,
        "final": row.final,
        "price": dict(row.price),
        "cost_usd": _usd(row.cost_pusd),
        "baseline_cost_usd": _usd(row.baseline_pusd),
        "strongest_cost_usd": _usd(row.strongest_pusd),
        "cheapest_cost_usd": _usd(row.cheapest_pusd),
        "random_cost_usd": _usd(row.random_pusd),
        **{f"{bucket}_tokens": count for bucket, count in row.usage.items() if bucket != "requests"},
    }


@dataclass(slots=True)
class Tried:
    """One attempt as its rows say it; `row` is there when it ended. Shown when somebody asks: few do."""

    entry: OpenEntry
    row: TerminalEntry | None = None

    def shown(self) -> dict[str, object]:
        """The attempt as `GET /v1/decisions/{id}` shows it."""
        told = shown_open(self.entry)
        if self.row is not None:
            told.update(shown_end(self.row))
        return told


def _lowest(*caps: int | None) -> int | None:
    return min((cap for cap in caps if cap is not None), default=None)


def _usd(pusd: int | None) -> str | None:
    return None if pusd is None else usd_text(pusd)


def _cost(usage: Usage | None, quote: PriceQuote | None, asked_tier: str | None = None) -> Cost:
    """What to book: 0 when nothing was billed, unknown when the price is."""
    if usage is None:
        return Cost(0, quote.version if quote else "none", "USD", Rates(), ONE, Fx())
    if quote is None:
        own = usage.vendor_cost_pusd
        unpriced = ("input", "output") if own is None else ()
        return Cost(own, "unknown", "USD", Rates(), ONE, Fx(), unpriced, from_vendor=own is not None)
    return price(usage, quote, asked_tier)


def _without_vendor_cost(usage: Usage) -> Usage:
    """The same tokens as another vendor would bill them: its own figure and its own tier do not carry over."""
    if usage.vendor_cost_pusd is None and usage.service_tier is None:
        return usage
    return replace(usage, vendor_cost_pusd=None, service_tier=None)
