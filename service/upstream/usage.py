"""The vendor's usage object -> disjoint buckets, or nothing when its numbers can't be true.

Where on the path: `protocols.openai_chat` calls `chat_usage` on a unary body and on every stream event that has usage.

What is inside what (source: the vendors' documentation):
OpenAI, Azure, Moonshot, DeepSeek, Qwen: cached and audio tokens are inside `prompt_tokens`, reasoning and audio inside
`completion_tokens`. xAI: reasoning is beside (quirk `reasoning_beside`). DeepSeek and others name cache hits
differently (quirk `cached_tokens:<field>`, and the usual fields are tried in order).

Invariant: what comes back adds up to the vendor's own totals, or is `None` with the reason in `flags`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from service.domain.money import Usage, pusd_from_usd

TOKENS_MAX = 20_000_000
"""The largest window on sale is 10M tokens, 128 long choices are 16M: a larger count is a fault, not a bill."""

VENDOR_COST_USD_MAX = Decimal(100_000)
"""Far over the dearest request; also keeps a hostile exponent away from exact arithmetic."""

VENDOR_COST_DIGIT_MIN = -30
"""The exponent of the smallest cost that is read: 18 digits below a pico-dollar."""

SERVICE_TIER_CHARACTERS_MAX = 40
"""`priority`, `ultrafast`: a word, which goes into the ledger."""

_CACHED_FIELDS = ("prompt_cache_hit_tokens", "cached_tokens")


class ReadUsage(NamedTuple):
    """`usage` is `None` when the numbers can't be trusted; `flags` then say why."""

    usage: Usage | None
    flags: tuple[str, ...] = ()


INPUT_SLACK_TOKENS = 4_000
"""What a vendor's own system prompt and tool scaffolding may add to a prompt."""

OUTPUT_SLACK_TOKENS = 2_000
"""How far vendors overshoot a cap, and what ends an answer."""


class Bounds(NamedTuple):
    """What no honest usage can exceed, in tokens; `None` where nobody knows.

    Input: a token is at least a byte of the request, so its size bounds the prompt (but not attachments). Output: the
    caps that hold for it, over all choices. An estimate is no bound: our character rule is off by a factor of four on
    digits or base64, and a true bill must not be thrown away for it.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None


def beyond_belief(usage: Usage, bounds: Bounds) -> str | None:
    """Why these numbers can't be true for this request, or `None`."""
    if bounds.input_tokens is not None and usage.input_total > bounds.input_tokens + INPUT_SLACK_TOKENS:
        return "input_exceeds_request"
    if bounds.output_tokens is not None and usage.output > bounds.output_tokens + OUTPUT_SLACK_TOKENS:
        return "output_exceeds_cap"
    return None


class _Implausible(Exception):
    """A count that can't be one; the argument is the flag."""


def chat_usage(raw: Mapping[str, object], quirks: Mapping[str, str], *, service_tier: object = None) -> ReadUsage:
    """Read an OpenAI-shaped `usage` object. Never raises: implausible numbers give `usage=None` and a flag."""
    try:
        tier = service_tier[:SERVICE_TIER_CHARACTERS_MAX] if isinstance(service_tier, str) and service_tier else None
        return ReadUsage(_read(raw, quirks, tier))
    except _Implausible as problem:
        return ReadUsage(None, (str(problem),))


def _read(raw: Mapping[str, object], quirks: Mapping[str, str], service_tier: str | None) -> Usage:
    prompt = _count(raw, "prompt_tokens", required=True)
    completion = _count(raw, "completion_tokens", required=True)
    if not prompt and not completion:
        raise _Implausible("all_zero")  # every chat has a prompt: this is a placeholder, not a bill
    prompt_details = _details(raw, "prompt_tokens_details")
    completion_details = _details(raw, "completion_tokens_details")
    cached = _cached(raw, prompt_details, quirks)
    cache_write = audio_in = audio_out = reasoning = 0
    if prompt_details:
        cache_write = _count(prompt_details, "cache_write_tokens") or _count(prompt_details, "cache_creation_tokens")
        audio_in = _count(prompt_details, "audio_tokens")
    if completion_details:
        audio_out = _count(completion_details, "audio_tokens")
        reasoning = _count(completion_details, "reasoning_tokens")
    reasoning = reasoning or _count(raw, "reasoning_tokens")
    fresh = prompt - cached - cache_write - audio_in
    if fresh < 0:
        raise _Implausible("input_parts_exceed_total")
    inside = 0 if "reasoning_beside" in quirks else reasoning
    visible = completion - inside - audio_out
    if visible < 0:
        raise _Implausible("output_parts_exceed_total")
    return Usage(
        input=fresh,
        cache_read=cached,
        cache_write_5m=cache_write,
        output=visible,
        reasoning=reasoning,
        audio_in=audio_in,
        audio_out=audio_out,
        service_tier=service_tier,
        vendor_cost_pusd=_vendor_cost(raw) if "usage_cost" in quirks else None,
    )


def _cached(raw: Mapping[str, object], details: Mapping[str, object], quirks: Mapping[str, str]) -> int:
    named = quirks.get("cached_tokens")
    if named and raw.get(named) is not None:
        return _count(raw, named)
    if details.get("cached_tokens") is not None:
        return _count(details, "cached_tokens")
    for field in _CACHED_FIELDS:
        if raw.get(field) is not None:
            return _count(raw, field)
    return 0


def _details(raw: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def _count(raw: Mapping[str, object], name: str, *, required: bool = False) -> int:
    value = raw.get(name)
    if type(value) is int and 0 <= value <= TOKENS_MAX:
        return value
    if value is None:
        if required:
            raise _Implausible(f"{name}_missing")
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Implausible(f"{name}_not_an_integer")
    if value < 0:
        raise _Implausible(f"{name}_negative")
    if value > TOKENS_MAX:
        raise _Implausible(f"{name}_absurd")
    return value


def _vendor_cost(raw: Mapping[str, object]) -> int | None:
    value = raw.get("cost")
    if value is None or isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        cost = Decimal(str(value))
    except InvalidOperation:
        raise _Implausible("cost_not_a_number") from None
    if not cost.is_finite() or cost < 0:
        raise _Implausible("cost_negative")
    if cost > VENDOR_COST_USD_MAX or (cost and cost.adjusted() < VENDOR_COST_DIGIT_MIN):
        raise _Implausible("cost_absurd")
    return pusd_from_usd(cost)
