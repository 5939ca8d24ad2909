"""The vendor's usage object -> disjoint buckets, or nothing when its numbers can't be true.

Where on the path: `protocols.openai_chat` calls `chat_usage` on a unary body and on every stream event that has usage.
`usage_fields` has the names, and what is inside what.

Invariants
1. What comes back adds up to the vendor's own totals, or is `None` with the reason in `flags`, or is an estimate that
   says in its own flags what it does not fit.
2. Of two readings that the numbers allow the dearer one is booked, and marked: nothing gets cheaper by a guess.
3. No number that is not zero goes unread without a flag.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

from service.domain.money import Usage, UsageSource, pusd_from_usd
from service.upstream.usage_fields import (
    CACHE_KIND,
    COST_UNITS_PER_USD,
    KNOWN,
    OWN_KEY,
    PLAIN,
    ROLES,
    UPSTREAM_COST,
    Path,
)

TOKENS_MAX = 20_000_000
"""The largest window on sale is 10M tokens, 128 long choices are 16M: a larger count is a fault, not a bill."""

VENDOR_COST_USD_MAX = Decimal(100_000)
"""Far over the dearest request."""

VENDOR_COST_MAX = Decimal(10**15)
"""The same in the smallest unit that a vendor counts in: it keeps a hostile exponent away from exact arithmetic."""

VENDOR_COST_DIGIT_MIN = -30
"""The exponent of the smallest cost that is read: 18 digits below a pico-dollar."""

SERVICE_TIER_CHARACTERS_MAX = 40
"""`priority`, `ultrafast`: a word, which goes into the ledger."""

UNREAD_MAX: Final = 4
"""Numbers of one usage object that are told by name; more are told as `unread:more`."""

UNREAD_DEPTH_MAX: Final = 4
"""How deep below `usage` numbers are looked for, lists counted: vendors go two levels down."""

UNREAD_CHARACTERS_MAX: Final = 60
"""Of the name of such a number, which is the vendor's own text and goes into the ledger."""


class ReadUsage(NamedTuple):
    """`usage` is `None` when the numbers can't be trusted; `flags` then say why."""

    usage: Usage | None
    flags: tuple[str, ...] = ()


INPUT_SLACK_TOKENS = 4_000
"""What a vendor's own system prompt and tool scaffolding may add to a prompt."""

OUTPUT_SLACK_TOKENS = 2_000
"""How far vendors overshoot a cap, and what ends an answer."""


class Bounds(NamedTuple):
    """What no honest usage can exceed, in tokens; `None` where nobody knows. And what was asked that prices it.

    Input: a token is at least a byte of the request, so its size bounds the prompt (but not attachments). Output: the
    caps that hold for it, over all choices. An estimate is no bound: our character rule is off by a factor of four on
    digits or base64, and a true bill must not be thrown away for it. `lasting`: the request wants what is written to
    the cache kept longer than usual.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    lasting: bool = False


def beyond_belief(usage: Usage, bounds: Bounds) -> str | None:
    """Why these numbers can't be true for this request, or `None`."""
    if bounds.input_tokens is not None and usage.input_total > bounds.input_tokens + INPUT_SLACK_TOKENS:
        return "input_exceeds_request"
    if bounds.output_tokens is not None and usage.output > bounds.output_tokens + OUTPUT_SLACK_TOKENS:
        return "output_exceeds_cap"
    return None


COUNT_MARGIN_PERCENT: Final = 150
"""Of our own count is what a vendor's may be without a mark, beside the slacks above."""


def over_count(usage: Usage, input_tokens: int | None, output_tokens: int) -> tuple[str, ...]:
    """What is far over our own count: flags. `input_tokens` is `None` where the prompt has more than text.

    Only marked, for the count is by characters: the bill may be true, but somebody should look.
    """
    flags = []
    if input_tokens is not None and not usage.audio_in:
        most = input_tokens * COUNT_MARGIN_PERCENT // 100 + INPUT_SLACK_TOKENS
        flags += ["input_above_count"] if usage.input_total > most else []
    if not usage.audio_out and usage.output > output_tokens * COUNT_MARGIN_PERCENT // 100 + OUTPUT_SLACK_TOKENS:
        flags.append("output_above_count")
    return tuple(flags)


class _Implausible(Exception):
    """A count that can't be one; the argument is the flag."""


class _Parts(NamedTuple):
    """The parts of a prompt and of an answer, in tokens, and what is to be said of them."""

    cache_read: int
    write_5m: int
    write_1h: int
    audio_in: int
    image: int
    reasoning: int
    audio_out: int
    doubts: tuple[str, ...]

    @property
    def cached(self) -> int:
        """What was read from a cache or written to one."""
        return self.cache_read + self.write_5m + self.write_1h


_NO_PARTS: Final = _Parts(0, 0, 0, 0, 0, 0, 0, ())
"""Those of a usage object that has nothing but totals."""

_ESTIMATES: Final = frozenset(
    {
        "total_above_parts",
        "total_below_parts",
        "parts_overlap",
        "cache_counts_disagree",
        "cache_misses_disagree",
        "cache_writes_disagree",
    }
)
"""Flags of numbers that do not fit each other: what is booked of them is no longer the vendor's own word."""


def chat_usage(raw: Mapping[str, object], quirks: Mapping[str, str], *, service_tier: object = None) -> ReadUsage:
    """Read an OpenAI-shaped `usage` object. Never raises: implausible numbers give `usage=None` and a flag."""
    try:
        tier = service_tier or raw.get("service_tier")
        tier = tier[:SERVICE_TIER_CHARACTERS_MAX] if isinstance(tier, str) and tier else None
        return ReadUsage(_read(raw, quirks, tier))
    except _Implausible as problem:
        return ReadUsage(None, (str(problem),))


def as_lasting(usage: Usage) -> Usage:
    """The same where the request asked for a longer time to live, and the vendor did not split what it wrote."""
    if not usage.cache_write_5m or usage.cache_write_1h:
        return usage
    flags = (*usage.flags, "cache_ttl_assumed")
    return replace(usage, cache_write_5m=0, cache_write_1h=usage.cache_write_5m, flags=flags)


def _read(raw: Mapping[str, object], quirks: Mapping[str, str], service_tier: str | None) -> Usage:
    prompt = _whole(raw.get("prompt_tokens"), "prompt_tokens", required=True)
    completion = _whole(raw.get("completion_tokens"), "completion_tokens", required=True)
    total = _whole(raw.get("total_tokens"), "total_tokens")
    if not prompt and not completion and not total:
        raise _Implausible("all_zero")  # every chat has a prompt: this is a placeholder, not a bill
    told = {} if PLAIN.issuperset(raw) else _leaves(raw)
    parts = _parts(told, prompt, quirks) if told else _NO_PARTS
    reading = _reading(prompt + completion, total, parts, quirks)
    doubts = (*parts.doubts, *reading.doubts)
    cache_read, audio = parts.cache_read, parts.audio_in
    fresh = prompt - (0 if reading.cache_beside else parts.cached)
    image = min(parts.image, max(0, fresh - audio))  # of a picture that was cached only the rest is fresh
    if 0 <= fresh < audio <= fresh + cache_read:
        # Some audio was read from the cache. Which price that has is not known: the dearer one.
        cache_read, fresh = cache_read - (audio - fresh), audio
        doubts = (*doubts, "parts_overlap")
    fresh -= audio + image
    if fresh < 0:
        raise _Implausible("input_parts_exceed_total")
    visible = completion - reading.inside - parts.audio_out
    if visible < 0:
        raise _Implausible("output_parts_exceed_total")
    cost, said = _vendor_cost(told, quirks["usage_cost"] or "cost") if "usage_cost" in quirks else (None, ())
    return Usage(
        input=fresh,
        cache_read=cache_read,
        cache_write_5m=parts.write_5m,
        cache_write_1h=parts.write_1h,
        output=visible,
        reasoning=reading.reasoning,
        audio_in=audio,
        audio_out=parts.audio_out,
        image=image,
        source=UsageSource.ESTIMATED if doubts and not _ESTIMATES.isdisjoint(doubts) else UsageSource.PROVIDER,
        flags=(*doubts, *said, *(_unread(told, quirks) if cost is None else ())),
        service_tier=service_tier,
        vendor_cost_pusd=cost,
    )


def _parts(told: Mapping[Path, object], prompt: int, quirks: Mapping[str, str]) -> _Parts:
    """The parts by what they are called. Where several names tell one part, the most counts, but for cache hits."""
    named = quirks.get("cached_tokens")
    counts: dict[str, list[int]] = {}
    for path, value in told.items():
        role = "own" if named and path == (named,) else ROLES.get(path)
        if role is not None:
            counts.setdefault(role, []).append(_whole(value, path[-1]))
    doubts: list[str] = []
    cache_read = _cache_read(counts, prompt, doubts)
    if cache_read and told.get(CACHE_KIND) == "ephemeral":
        doubts.append("cache_read_explicit")
    write_5m, write_1h = _cache_writes(counts, doubts)
    audio_in, image, reasoning, audio_out = (
        max(counts.get(bucket, _NONE)) for bucket in ("audio_in", "image", "reasoning", "audio_out")
    )
    return _Parts(cache_read, write_5m, write_1h, audio_in, image, reasoning, audio_out, tuple(doubts))


_NONE: Final = (0,)


def _cache_read(counts: Mapping[str, Sequence[int]], prompt: int, doubts: list[str]) -> int:
    """Tokens read from the cache: where its quirk says, else by the usual names; the lowest count when they differ."""
    own, others = counts.get("own"), counts.get("cache_read", ())
    told = {*own, *filter(None, others)} if own else set(others)
    cached = min(told, default=0)
    if len(told) > 1:
        doubts.append("cache_counts_disagree")
    missed = max(counts.get("missed", _NONE))
    if missed and missed != prompt - cached:
        doubts.append("cache_misses_disagree")
        cached = min(cached, max(0, prompt - missed))
    return cached


def _cache_writes(counts: Mapping[str, Sequence[int]], doubts: list[str]) -> tuple[int, int]:
    """Tokens written to the cache for five minutes and for an hour. A vendor that does not split means five minutes."""
    sums = {*filter(None, counts.get("cache_write", ()))}
    for_5m, for_1h = max(counts.get("cache_write_5m", _NONE)), max(counts.get("cache_write_1h", _NONE))
    split, whole = for_5m + for_1h, max(sums, default=0)
    if len(sums) > 1 or (split and whole and split != whole):
        doubts.append("cache_writes_disagree")
    return for_5m + max(0, whole - split), for_1h


class _Reading(NamedTuple):
    """How totals and parts go together, in tokens.

    `inside` of the completion tokens are hidden, `reasoning` is all that is hidden. `cache_beside`: what was cached is
    not in the prompt tokens.
    """

    inside: int
    reasoning: int
    cache_beside: bool = False
    doubts: tuple[str, ...] = ()


def _reading(said: int, total: int, parts: _Parts, quirks: Mapping[str, str]) -> _Reading:
    """The reading that the vendor's own total fits; without a total the one that the quirks name.

    `said` are prompt and completion tokens together.
    """
    hidden, cached = parts.reasoning, parts.cached
    beside = "reasoning_beside" in quirks
    if "reasoning_in_total" in quirks and total > said:
        beside, hidden = True, hidden or total - said
    declared, other = _Reading(0 if beside else hidden, hidden), _Reading(hidden if beside else 0, hidden)
    expected, turned = said + (hidden if beside else 0), said + (0 if beside else hidden)
    if total in (0, expected):
        return declared
    if total == turned:
        return other._replace(doubts=("reasoning_by_total",))
    if total == expected + cached:
        return declared._replace(cache_beside=True, doubts=("cache_by_total",))
    if total == turned + cached:
        return other._replace(cache_beside=True, doubts=("reasoning_by_total", "cache_by_total"))
    if total < expected:
        return declared._replace(doubts=("total_below_parts",))
    # Whatever the rest is, it is neither in the prompt nor in the answer: so it was generated, unseen.
    return declared._replace(reasoning=hidden + total - expected, doubts=("total_above_parts",))


def _leaves(raw: Mapping[str, object]) -> dict[Path, object]:
    """Everything in a usage object that holds nothing else, by its path, but for nulls."""
    found: dict[Path, object] = {}
    for name, value in raw.items():
        if type(value) is dict:
            for inner, one in value.items():  # as deep as nearly all of them go
                if type(one) is dict or type(one) is list:
                    _gather(one, (name, inner), 2, found)
                elif one is not None:
                    found[name, inner] = one
        elif type(value) is list:
            _gather(value, (name,), 1, found)
        elif value is not None:
            found[name,] = value
    return found


def _gather(value: object, path: Path, depth: int, found: dict[Path, object]) -> None:
    """Leaves further down. Of a list all members stand at the place of the list, and the first that says something."""
    if isinstance(value, dict | list) and depth < UNREAD_DEPTH_MAX:
        for name, one in value.items() if isinstance(value, dict) else ((None, one) for one in value):
            _gather(one, path if name is None else (*path, name), depth + 1, found)
    elif value is not None and not isinstance(value, dict | list):
        found[path] = found.get(path) or value


def _whole(value: object, name: str, *, required: bool = False) -> int:
    """A count; 0 for none. Raises _Implausible for what can't be one."""
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


def _unread(told: Mapping[Path, object], quirks: Mapping[str, str]) -> tuple[str, ...]:
    """A flag for each number that is not zero and that no table knows: the first few by name."""
    found = [
        path
        for path, value in told.items()
        if value and path not in KNOWN and isinstance(value, int | float) and not isinstance(value, bool)
    ]
    if not found:
        return ()
    own = {(field,) for name in ("cached_tokens", "usage_cost") if (field := quirks.get(name))}
    found = [path for path in found if path not in own]
    names = [_UNSPEAKABLE.sub("_", ".".join(path))[:UNREAD_CHARACTERS_MAX] for path in found[:UNREAD_MAX]]
    return tuple(f"unread:{name}" for name in (*names, *(["more"] if len(found) > UNREAD_MAX else [])))


_UNSPEAKABLE: Final = re.compile(r"[^A-Za-z0-9_.-]")


def _vendor_cost(told: Mapping[Path, object], field: str) -> tuple[int | None, tuple[str, ...]]:
    """(the vendor's own figure in pico-USD, flags); no figure where it sends none, or not all of one."""
    cost = _amount(told.get((field,)))
    if cost is None:
        return None, ()
    if (units := COST_UNITS_PER_USD.get(field, 1)) != 1:
        cost /= units
    if told.get(OWN_KEY) is True:
        upstream = _amount(told.get(UPSTREAM_COST))
        if upstream is None:
            return None, ("byok_cost_missing",)
        cost += upstream
    if cost > VENDOR_COST_USD_MAX:
        raise _Implausible("cost_absurd")
    return pusd_from_usd(cost), ()


def _amount(value: object) -> Decimal | None:
    """An amount of money as the vendor wrote it, `None` when there is none."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise _Implausible("cost_not_a_number") from None
    if not amount.is_finite() or amount < 0:
        raise _Implausible("cost_negative")
    if amount > VENDOR_COST_MAX or (amount and amount.adjusted() < VENDOR_COST_DIGIT_MIN):
        raise _Implausible("cost_absurd")
    return amount
