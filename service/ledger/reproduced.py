"""What a stored row comes to when it is computed again from nothing but itself: usage, rates, factor, exchange rate.

Where on the path: nowhere. Whoever checks the books asks it: `coe ledger verify`, the tests of everything that spends.

Invariants
1. Nothing but the row counts: no registry, no clock. What it comes to today it comes to for ever.
2. It does not share the sum with `money.price`: fractions here, integers there, so that a fault of one shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from service.domain.decision import EntryState
from service.domain.money import BUCKETS

FALLS_BACK: Final[Mapping[str, tuple[str, ...]]] = {
    "cache_read": ("cache_read", "input"),
    "cache_write_5m": ("cache_write_5m", "input"),
    "cache_write_1h": ("cache_write_1h", "cache_write_5m", "input"),
    "reasoning": ("reasoning", "output"),
    "audio_in": ("audio_in", "input"),
    "audio_out": ("audio_out", "output"),
    "image": ("image", "input"),
}
"""Whose rate a bucket without its own has, in the order in which they are asked."""

LOST: Final = "cost_out_of_range"
"""The flag of a row whose figure was too large to be kept: there is nothing to compare."""


class NotReproducible(ValueError):
    """A row that does not say what it was computed from; the message names what is missing or wrong."""


def reproduced(opened: Mapping[str, Any], ended: Mapping[str, Any]) -> int | None:
    """Pico-USD of an attempt by the bodies of its two rows, `None` for an unknown price. Raises NotReproducible.

    A refused attempt costs 0, one whose process died what was reserved, and one whose vendor states its own figure just
    that.
    """
    state = ended.get("state")
    if state == EntryState.REFUSED:
        return 0
    if state == EntryState.UNKNOWN:
        return _whole(opened.get("reserved_pusd"), "reserved_pusd")
    price = ended.get("price")
    if not isinstance(price, dict) or "rates" not in price:
        raise NotReproducible("the row has no price: neither rates nor a figure of the vendor")
    if price.get("from_vendor"):
        return _whole(price.get("vendor_pusd"), "vendor_pusd")
    total = Fraction(0)
    rates, usage = price["rates"], ended.get("usage", {})
    for bucket, count in usage.items():
        if bucket not in BUCKETS:
            raise NotReproducible(f"the row has tokens in {bucket!r}, which is no bucket of this version")
        rate = next((rates[name] for name in FALLS_BACK.get(bucket, (bucket,)) if name in rates), None)
        if rate is None:
            return None
        total += count * rate
    try:
        return round(total * Fraction(price.get("multiply", "1")) * Fraction(price.get("usd_per_unit", "1")))
    except (ValueError, ZeroDivisionError) as problem:
        raise NotReproducible(f"the factor or the exchange rate of the row is no number: {problem}") from None


def difference(opened: Mapping[str, Any], ended: Mapping[str, Any]) -> str | None:
    """Why a row's cost is not what it was computed from, `None` when it is."""
    if LOST in ended.get("usage_flags", ()):
        return None
    try:
        again = reproduced(opened, ended)
    except NotReproducible as problem:
        return str(problem)
    booked = ended.get("cost_pusd")
    return None if again == booked else f"booked {booked}, computed again {again}"


def _whole(value: object, name: str) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise NotReproducible(f"{name} is {value!r}, which is no amount")
