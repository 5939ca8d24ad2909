"""The cost log: a line of JSON for every attempt that ended, and one for every request, for whoever ships logs.

Where on the path: `settling` makes them of the rows that it writes; `telemetry` hands them to standard output. Pure.

Invariants
1. They are a copy: the journal is the truth. A line may be lost when nobody reads, and an attempt that a crash left
   open has none; nothing is decided or billed by them.
2. No prompt and no answer, and texts of others clipped as the journal clips them.
3. Money is an exact decimal string in USD, `null` where it is unknown. Every field is there in every line of its kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from service.domain.access import Caller
from service.domain.decision import Candidate, Decision, OpenEntry, TerminalEntry
from service.domain.money import BUCKETS, usd_text
from service.ledger.rows import clipped

VERSION: Final = 1
"""Of the lines; a field that is added does not change it."""

_TOKENS: Final = tuple(bucket for bucket in BUCKETS if bucket != "requests")

BOTH: Final[Mapping[str, str]] = {
    "kind": "`attempt` or `request`",
    "v": "version of the lines: 1",
    "at": "when it ended, UTC, to the millisecond",
    "request_id": "of the request; a request's cost is the sum of its attempts",
    "decision_id": "for `GET /v1/decisions/{decision_id}`",
    "key_id": "the id of the key, `null` without one",
    "tags": "of the key and of the request",
    "requested_model": "what the request named",
    "model": "the registry model that was called; of a request the last one",
    "provider": "its provider",
    "intent": "what the request was about",
    "policy": "the policy that applied",
    "cost_usd": "what it cost, `null` where no price is known",
    "total_ms": "how long it took, in milliseconds",
    "ttft_ms": "from the attempt to the first content; of a request that of its last attempt",
    "overhead_ms": "the router's own part of the request's time",
    "simulated": "`true`: a simulated vendor, no real money",
}

ATTEMPT: Final[Mapping[str, str]] = {
    **BOTH,
    "attempt_id": "of the row in the journal",
    "attempt_number": "which attempt of the request, from 1",
    "opened_at": "when it was written down, just before the vendor was called",
    "wire_name": "the model's name at the vendor",
    "served_model": "the name that the vendor answered with",
    "language": "of the request",
    "streaming": "whether it was a stream",
    "state": "`settled`, `estimated` or `refused`, as in the journal",
    "ended": "why it ended: `complete`, `client_left`, or what went wrong",
    "final": "whether this attempt gave the answer",
    **{f"{bucket}_tokens": f"`{bucket}` tokens that were booked; no kind contains another" for bucket in _TOKENS},
    "usage_source": "`provider`, `counted`, `estimated` or `unknown`",
    "usage_flags": "what the sanity check disliked",
    "currency": "of the price",
    "usd_per_unit": "USD for one unit of it, exact",
    "price_version": "the price that applied",
    "service_tier": "the vendor's tier that was booked, `null` for its list price",
    "reserved_usd": "what was set aside for it",
    "baseline_model": "what savings are counted against",
    "baseline_cost_usd": "what the same tokens would have cost there",
    "upstream_status": "the vendor's HTTP status",
    "upstream_id": "the vendor's id of the answer",
}
"""Fields of an attempt's line and what they mean; docs/costs.md is kept equal to this by a test."""

REQUEST: Final[Mapping[str, str]] = {
    **BOTH,
    "status": "the HTTP status that it ended with; 499: the caller left",
    "code": "the code of the error that refused it, else `null`",
    "attempts": "how many were made",
}
"""The same for a request's line."""


class RequestEnd(NamedTuple):
    """How a request ended: when (Unix ms), with which status and code, after how long; durations in milliseconds."""

    at_ms: int
    status: int
    code: str | None
    total_ms: float
    overhead_ms: float


class RequestSum(NamedTuple):
    """What the attempts of a request came to. `cost_pusd` is `None` where an attempt's is unknown."""

    request_id: str
    attempts: int
    cost_pusd: int | None
    ttft_ms: float | None


def attempt_line(entry: OpenEntry, row: TerminalEntry) -> dict[str, object]:
    """The line of an attempt, in the order of `ATTEMPT`."""
    price = row.price
    told: dict[str, object] = {
        "kind": "attempt",
        "v": VERSION,
        "at": _instant(row.at_ms),
        "opened_at": _instant(entry.at_ms),
        "tags": [clipped(tag) for tag in entry.tags],
        "requested_model": clipped(entry.requested_model),
        "cost_usd": _usd(row.cost_pusd),
        "served_model": clipped(row.served_model),
        "state": row.state.value,
        "usage_source": str(row.usage_source),
        "usage_flags": [clipped(flag) for flag in row.usage_flags],
        "currency": price.get("currency"),
        "usd_per_unit": price.get("usd_per_unit"),
        "service_tier": clipped(_word(price.get("service_tier"))),
        "reserved_usd": _usd(entry.reserved_pusd),
        "baseline_cost_usd": _usd(row.baseline_pusd),
        "upstream_id": clipped(row.upstream_id),
        **{f"{bucket}_tokens": row.usage.get(bucket, 0) for bucket in _TOKENS},
    }
    return {name: told[name] if name in told else _plain(entry, row, name) for name in ATTEMPT}


def request_line(
    decision: Decision, last: Candidate, asked_by: tuple[Caller, Sequence[str]], found: RequestSum, end: RequestEnd
) -> dict[str, object]:
    """The line of a request, in the order of `REQUEST`.

    `last` is who was called last, `asked_by` the caller with the tags that the request says itself.
    """
    (caller, said), deployment = asked_by, last.deployment
    told: dict[str, object] = {
        **found._asdict(),
        **end._asdict(),
        "kind": "request",
        "v": VERSION,
        "at": _instant(end.at_ms),
        "decision_id": decision.id,
        "key_id": caller.key_id,
        "tags": [clipped(tag) for tag in sorted({*caller.tags, *said})],
        "requested_model": clipped(decision.requested),
        "model": clipped(deployment.model),
        "provider": clipped(deployment.provider.name),
        "intent": clipped(decision.intent.told),
        "policy": decision.policy,
        "simulated": deployment.provider.simulated,
        "cost_usd": _usd(found.cost_pusd),
    }
    return {name: told[name] for name in REQUEST}


def _plain(entry: OpenEntry, row: TerminalEntry, name: str) -> object:
    """A field that both rows name alike: how it ended is told by the second, what was meant by the first."""
    value = getattr(row, name) if name in TerminalEntry._fields else getattr(entry, name)
    return clipped(value) if isinstance(value, str) else value


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _usd(pusd: int | None) -> str | None:
    return None if pusd is None else usd_text(pusd)


def _instant(at_ms: int) -> str:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"
