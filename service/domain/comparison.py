"""What the traffic of an engine of one's own would cost at every API of the registry, the cheapest first. Pure, exact.

Where on the path: beside it; `coe economics` tells what comes out.

Invariants
1. Every deployment of the registry is told once: with its price, or with why it has none here. An engine of one's own
   is neither: it has no list price.
2. Prices are those of `money.price`: cached input at the cache rate, tiers by the size of a request, fees per request,
   what a region costs more, the one written exchange rate. Writing to a cache is not billed here.
3. Where a price has hours of its own, traffic is taken to be even over the seven UTC days from the one of the instant.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from fractions import Fraction
from typing import Final, NamedTuple

from service.domain.catalog import Catalog, Deployment, Model
from service.domain.economics import Account, Beside, Traffic
from service.domain.money import FX_SCALE, ONE, PriceQuote
from service.domain.prices import PriceVersion

WEEK: Final = timedelta(days=7)
_MINUTE: Final = timedelta(minutes=1)


class Offer(NamedTuple):
    """One API for the traffic of an account. `beside` is its price of a day, held against the engine's cost.

    `obstacle` says why it can't be called from here, as the registry stands; `None` when it can.
    """

    deployment: Deployment
    model: Model
    version: str
    pusd_per_token: Fraction
    beside: Beside
    obstacle: str | None


class Unpriced(NamedTuple):
    """A deployment that is left out, and why."""

    deployment: Deployment
    reason: str


def offers(catalog: Catalog, account: Account, at: datetime) -> tuple[tuple[Offer, ...], tuple[Unpriced, ...]]:
    """(every priced API for the same traffic, the cheapest first; those that are left out) at an aware instant.

    Those that cost the same stand in the order of the registry.
    """
    found: list[Offer] = []
    out: list[Unpriced] = []
    for deployment in catalog.deployments():
        book, model = deployment.prices, catalog.models[deployment.model]
        if book.self_hosted is not None:
            continue
        version, quote = book.version_at(at), book.quote(at)
        if model.retired(at.date()):
            out.append(Unpriced(deployment, "retired"))
            continue
        cost = None
        if version is not None and quote is not None:
            factor = mean_factor(version, at) if version.windows else Fraction(1)
            cost = day_pusd(replace(quote, multiplier=version.multiplier), account.traffic, factor)
        if quote is None or cost is None:
            out.append(Unpriced(deployment, "price unknown"))
            continue
        obstacle = deployment.provider.inactive_reason or model.inactive_reason or deployment.inactive_reason
        each = cost / account.traffic.total
        found.append(Offer(deployment, model, quote.version, each, account.beside(cost), obstacle))
    return tuple(sorted(found, key=lambda one: one.beside.pusd_per_day)), tuple(out)


def day_pusd(quote: PriceQuote, traffic: Traffic, factor: Fraction = Fraction(1)) -> Fraction | None:
    """What a day's traffic costs at a quote, times a factor, in pico-USD; `None` where a needed rate is unknown."""
    rates = quote.rates_for(traffic.size)
    counts = (
        (traffic.input - traffic.cached, rates.rate("input")),
        (traffic.cached, rates.rate("cache_read")),
        (traffic.output, rates.rate("output")),
        (traffic.requests, rates.requests),
    )
    total = Fraction(0)
    for count, rate in counts:
        if count and rate is None:
            return None
        total += count * (rate or 0)
    multiplier = Fraction(quote.multiplier.numerator, quote.multiplier.denominator)
    return total * multiplier * factor * Fraction(quote.fx.nano_usd, FX_SCALE)


def mean_factor(version: PriceVersion, at: datetime) -> Fraction:
    """The mean factor of a price's windows over seven UTC days, from the one of an aware instant on, by the minute."""
    start = datetime.combine(at.astimezone(UTC).date(), time(), UTC)
    total, minutes = Fraction(0), WEEK // _MINUTE
    for minute in range(minutes):
        multiplier = ONE
        for window in version.windows:
            if window.holds(start + minute * _MINUTE):
                multiplier = multiplier.times(window.multiplier)
        total += Fraction(multiplier.numerator, multiplier.denominator)
    return total / minutes
