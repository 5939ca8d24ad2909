"""What was used, what a unit costs, what the request cost: integers from end to end.

Where on the path: `pipeline` prices a reservation before the first upstream byte and the real usage after the last.

Units. One *pico-unit* is 1e-12 of a currency unit. A list price of 0.15 USD per 1M tokens is 150,000 pico-USD per
token, so every published price is an exact integer and a cost is a sum of products of integers.

Invariants
1. The buckets of `Usage` are disjoint: none contains another, and they add up to what the vendor counted.
2. `price` rounds exactly once, at the very end, half to even, after multiplier and exchange rate were applied.
3. An unknown rate is `None`, never 0. Tokens in a bucket whose rate is unknown make the cost unknown.
4. A `Cost` carries all it was computed from, so that the same figure can be computed again from a stored row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Final

_PLACES = 12
PICO = 10**_PLACES
"""Pico-units in one currency unit."""

PICO_PER_TOKEN = 10**6
"""Pico-units per token for a list price of 1.00 per 1M tokens."""

FX_SCALE = 10**9
"""An exchange rate is kept as an integer number of nano-USD per currency unit."""

BUCKETS = (
    "input",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "output",
    "reasoning",
    "audio_in",
    "audio_out",
    "image",
    "requests",
)
"""The disjoint usage buckets, in the order in which they are shown everywhere."""

INPUT_BUCKETS = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_in", "image")
"""The buckets whose sum is the prompt size that chooses a price tier."""


class UsageSource(StrEnum):
    """Whose number a `Usage` is. Shown wherever the usage is shown."""

    PROVIDER = "provider"
    COUNTED = "counted"
    ESTIMATED = "estimated"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens by disjoint bucket.

    `input` is fresh input only (no cache reads or writes), `output` is visible output only (no reasoning).
    `requests` counts billed calls. `flags` names what the sanity check disliked. `vendor_cost_pusd` is the vendor's own
    figure in pico-USD where the vendor sends one that must be booked (OpenRouter's `usage.cost`).
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    audio_in: int = 0
    audio_out: int = 0
    image: int = 0
    requests: int = 1
    source: UsageSource = UsageSource.PROVIDER
    flags: tuple[str, ...] = ()
    service_tier: str | None = None
    vendor_cost_pusd: int | None = None

    def __post_init__(self) -> None:
        """Refuse what can't be a count: invariant 1 starts here."""
        for count in self.counts():
            if type(count) is not int or count < 0:
                bucket = next(name for name in BUCKETS if getattr(self, name) is count)
                raise ValueError(f"usage bucket {bucket!r} must be an integer >= 0, got {count!r}")

    def counts(self) -> tuple[int, ...]:
        """The counts in `BUCKETS` order; not looked up by name, since every answer is priced and told with them."""
        return (
            self.input,
            self.cache_read,
            self.cache_write_5m,
            self.cache_write_1h,
            self.output,
            self.reasoning,
            self.audio_in,
            self.audio_out,
            self.image,
            self.requests,
        )

    @property
    def input_total(self) -> int:
        """All prompt tokens, cached or not: the number that chooses a price tier."""
        written = self.cache_write_5m + self.cache_write_1h
        return self.input + self.cache_read + written + self.audio_in + self.image

    @property
    def output_total(self) -> int:
        """All generated tokens, seen or not."""
        return self.output + self.reasoning + self.audio_out

    def as_dict(self) -> dict[str, int]:
        """The buckets that are not zero, in `BUCKETS` order: the shape stored in the ledger."""
        return {bucket: count for bucket, count in zip(BUCKETS, self.counts(), strict=True) if count}


@dataclass(frozen=True, slots=True)
class Rates:
    """Prices in pico-units of the quote's currency, per token (`requests`: per request). `None` is unknown.

    Absent cache and reasoning rates fall back as vendors bill them (see `rate`): a missing cache price is the full
    input price, never free; an explicit 0 is free.
    """

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_in: int | None = None
    audio_out: int | None = None
    image: int | None = None
    requests: int | None = 0
    applied: tuple[int | None, ...] = field(init=False, repr=False, compare=False)
    """The rate of each bucket after the documented fallbacks, in `BUCKETS` order."""

    def __post_init__(self) -> None:
        """Settle the fallbacks once: every answer is priced with them."""
        object.__setattr__(self, "applied", tuple(self.rate(bucket) for bucket in BUCKETS))

    def rate(self, bucket: str) -> int | None:
        """The rate that applies to a bucket after the documented fallbacks; `None` when nobody knows it."""
        own: int | None = getattr(self, bucket)
        if own is not None:
            return own
        fallback = _FALLBACK.get(bucket)
        return None if fallback is None else self.rate(fallback)

    def as_dict(self) -> dict[str, int]:
        """The known rates by bucket: the shape stored in the ledger."""
        return {bucket: value for bucket in BUCKETS if (value := getattr(self, bucket)) is not None}


_FALLBACK: Mapping[str, str] = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "cache_write_5m",
    "reasoning": "output",
    "audio_in": "input",
    "audio_out": "output",
    "image": "input",
}


@dataclass(frozen=True, slots=True)
class Multiplier:
    """An exact factor on a whole price (peak hours x 2, batch x 0.5), kept as a fraction of integers."""

    numerator: int = 1
    denominator: int = 1

    @classmethod
    def of(cls, factor: Decimal) -> Multiplier:
        """From a decimal such as `Decimal("1.1")`; raises ValueError below zero or when not finite."""
        if not factor.is_finite() or factor < 0:
            raise ValueError(f"a price multiplier must be a number >= 0, got {factor}")
        numerator, denominator = factor.as_integer_ratio()
        return cls(numerator, denominator)

    def times(self, other: Multiplier) -> Multiplier:
        """The product, exactly."""
        return Multiplier(self.numerator * other.numerator, self.denominator * other.denominator)

    def as_text(self) -> str:
        """`1`, `2`, `1/2`: the shape stored in the ledger."""
        return str(self.numerator) if self.denominator == 1 else f"{self.numerator}/{self.denominator}"


ONE = Multiplier()


@dataclass(frozen=True, slots=True)
class Fx:
    """One explicit exchange rate: nano-USD per unit of `currency`, and the day it was read."""

    currency: str = "USD"
    nano_usd: int = FX_SCALE
    as_of: date | None = None

    def as_text(self) -> str:
        """USD per unit as an exact decimal string, e.g. `0.1406`."""
        return format((Decimal(self.nano_usd) / FX_SCALE).normalize(), "f")


@dataclass(frozen=True, slots=True)
class Tier:
    """Rates of the whole request once its input exceeds a size (exclusive bound, in tokens)."""

    above_input_tokens: int
    rates: Rates


@dataclass(frozen=True, slots=True)
class PriceQuote:
    """The price of one deployment at one instant. What is still open is what only the answer tells: its size and tier.

    `tiers` ascend by bound. `service_tiers` maps the tier named in the response (batch, flex, priority) to a factor.
    `known` is whether input and output can be priced at every size. `digest` names what the list says: two lists of one
    version have different ones.
    """

    version: str
    rates: Rates
    fx: Fx = field(default_factory=Fx)
    multiplier: Multiplier = ONE
    tiers: tuple[Tier, ...] = ()
    service_tiers: Mapping[str, Multiplier] = field(default_factory=dict)
    digest: str = ""
    known: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Settle `known` once: a decision asks a hundred quotes for it."""
        every = (self.rates, *(tier.rates for tier in self.tiers))
        known = all(rates.input is not None and rates.output is not None for rates in every)
        object.__setattr__(self, "known", known)

    def rates_for(self, input_tokens: int) -> Rates:
        """The rates that apply to a request with this many input tokens: the whole request moves to the tier."""
        chosen = self.rates
        for tier in self.tiers:
            if input_tokens > tier.above_input_tokens:
                chosen = tier.rates
        return chosen

    def pusd(self, total: int, service_tier: str | None = None) -> int:
        """A sum of tokens times rates as pico-USD: with the multiplier, in USD, rounded once.

        With that of a service tier, too, where it makes it dearer.
        """
        multiplier, tier = self.multiplier, self.service_tiers.get(service_tier or "", ONE)
        if tier.numerator > tier.denominator:
            multiplier = multiplier.times(tier)
        if self.fx.nano_usd == FX_SCALE and multiplier is ONE:
            return total  # most prices: in USD, outside any window
        return divide_half_even(total * multiplier.numerator * self.fx.nano_usd, multiplier.denominator * FX_SCALE)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one attempt cost, with everything it was computed from.

    `pusd` is pico-USD, or `None` when a needed rate is unknown. `unpriced` names the buckets to blame. `from_vendor`:
    it is the vendor's own figure. `flags` names what is not certain of the price. `digest` and `service_tier` are the
    quote's and the answer's.
    """

    pusd: int | None
    version: str
    currency: str
    rates: Rates
    multiplier: Multiplier
    fx: Fx
    unpriced: tuple[str, ...] = ()
    from_vendor: bool = False
    flags: tuple[str, ...] = ()
    digest: str = ""
    service_tier: str | None = None

    def as_dict(self) -> dict[str, object]:
        """The price part of a ledger row: enough to compute `pusd` again from the row's usage."""
        row: dict[str, object] = {
            "version": self.version,
            "currency": self.currency,
            "rates": self.rates.as_dict(),
            "multiply": self.multiplier.as_text(),
            "usd_per_unit": self.fx.as_text(),
        }
        if self.unpriced:
            row["unpriced"] = list(self.unpriced)
        if self.from_vendor:
            row["from_vendor"] = True
            row["vendor_pusd"] = self.pusd
        if self.digest:
            row["list"] = self.digest
        if self.service_tier is not None:
            row["service_tier"] = self.service_tier
        return row


PLAIN_TIERS: Final = frozenset({"default", "standard", "standard_only", "auto", "on_demand"})
"""What vendors call the service tier that the list price is for."""


def price(usage: Usage, quote: PriceQuote, asked_tier: str | None = None) -> Cost:
    """The exact cost of `usage` at `quote`, in pico-USD, rounded once, half to even.

    A vendor that states its own cost is believed (`from_vendor`): that is the figure on its invoice. The service tier
    is the one of the answer. `asked_tier` is what the request asked for: it counts where the answer names none, and
    then only upwards.
    """
    rates = quote.rates_for(usage.input_total)
    factor, tier, flags = _tier_factor(usage.service_tier, quote.service_tiers, asked_tier)
    multiplier = quote.multiplier if factor is ONE else quote.multiplier.times(factor)
    total = 0
    unpriced: list[str] = []
    for bucket, count, rate in zip(BUCKETS, usage.counts(), rates.applied, strict=True):
        if not count:
            continue
        if rate is None:
            unpriced.append(bucket)
        else:
            total += count * rate
    pusd = usage.vendor_cost_pusd
    from_vendor = pusd is not None
    if from_vendor:
        unpriced, flags = [], ("vendor_cost_zero",) if total and not pusd else ()
    elif not unpriced:
        pusd = divide_half_even(total * multiplier.numerator * quote.fx.nano_usd, multiplier.denominator * FX_SCALE)
    return Cost(
        pusd,
        quote.version,
        quote.fx.currency,
        rates,
        multiplier,
        quote.fx,
        tuple(unpriced),
        from_vendor,
        flags,
        quote.digest,
        tier,
    )


def _tier_factor(
    told: str | None, priced: Mapping[str, Multiplier], asked: str | None
) -> tuple[Multiplier, str | None, tuple[str, ...]]:
    """(factor, the tier that it is of, flags)."""
    if told is None:
        if asked is None or asked in PLAIN_TIERS:
            return ONE, None, ()
        factor = priced.get(asked, ONE)
        dearer = factor.numerator > factor.denominator
        return (factor, asked, ("service_tier_unconfirmed",)) if dearer else (ONE, None, ("service_tier_unconfirmed",))
    if told in priced:
        return priced[told], told, ()
    return ONE, told, () if told in PLAIN_TIERS else ("service_tier_unpriced",)


def divide_half_even(numerator: int, denominator: int) -> int:
    """`numerator / denominator` to the nearest integer, halves to the even one: the only rounding rule of the house."""
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient % 2):
        quotient += 1
    return quotient


def usd_text(pusd: int) -> str:
    """Pico-USD as an exact decimal string in USD without trailing zeros: `150000` -> `0.00000015`."""
    if pusd < 0:
        return "-" + usd_text(-pusd)
    digits = str(pusd).rjust(_PLACES + 1, "0")
    return f"{digits[:-_PLACES]}.{digits[-_PLACES:]}".rstrip("0").rstrip(".")


def rate_from_decimal(per_million: Decimal) -> int:
    """Pico-units per token from a list price per 1M tokens; raises ValueError when it is not an exact integer >= 0."""
    if not per_million.is_finite() or per_million < 0:
        raise ValueError(f"a price must be a number >= 0, got {per_million}")
    scaled = per_million * PICO_PER_TOKEN
    if scaled != scaled.to_integral_value():
        raise ValueError(f"a price has at most 6 decimals per 1M tokens, got {per_million}")
    return int(scaled)


def pusd_from_usd(usd: Decimal) -> int:
    """Pico-USD from an amount in USD, rounded half to even below a pico-dollar; raises ValueError when not finite."""
    if not usd.is_finite():
        raise ValueError(f"an amount in USD must be finite, got {usd}")
    numerator, denominator = usd.as_integer_ratio()
    return divide_half_even(numerator * PICO, denominator)
