"""The same traffic at APIs: priced as the ledger prices requests, every deployment told once, the cheapest first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import NOW, a_catalog, a_model

from service.domain.catalog import Deployment, Provider
from service.domain.comparison import day_pusd, mean_factor, offers
from service.domain.economics import Account, Engine, Traffic
from service.domain.money import Fx, Multiplier, PriceQuote, Rates, Tier, Usage, price
from service.domain.prices import PriceBook, PriceVersion, SelfHosted, Window

ENGINE = Engine(8, 3_490_000_000_000, Fraction(3_000), Fraction(300))
ACCOUNT = Account(ENGINE, ENGINE.traffic_at(Fraction(1)))
START = datetime(2026, 1, 1, tzinfo=UTC)


def a_model_with(name, book, **fields):
    """A model whose one deployment has this price book."""
    model = a_model(name, (1, 1), **fields)
    return replace(model, deployments=(Deployment(Provider("p", "https://p.example"), name, name, book),))


def test_cheapest_first_and_everybody_once():
    """Priced, unpriced, retired, self-hosted: each in its place; equals in the order of the registry."""
    own = PriceBook("p/own", self_hosted=SelfHosted(8, 3_490_000_000_000, 3_000, 300))
    catalog = a_catalog(
        a_model("dear", (3, 9)),
        a_model("cheap", (0.15, 0.6)),
        a_model("twin", (0.15, 0.6)),
        a_model("unknown", None),
        a_model("gone", (0, 0), retires=date(2026, 11, 1)),
        a_model_with("own", own),
    )
    found, out = offers(catalog, ACCOUNT, NOW)
    assert [one.deployment.id for one in found] == ["p/cheap", "p/twin", "p/dear"]
    assert [(one.deployment.id, one.reason) for one in out] == [("p/unknown", "price unknown"), ("p/gone", "retired")]
    # 259.2 M x 0.15 + 25.92 M x 0.60 = 54.432 USD a day
    assert found[0].beside.pusd_per_day == 54_432 * 10**9
    assert found[0].beside.difference_pusd < 0 < found[2].beside.difference_pusd
    assert found[2].beside.load == Fraction(67_008, 101_088)
    assert found[0].pusd_per_token * ACCOUNT.traffic.total == found[0].beside.pusd_per_day


def test_who_cannot_be_called_is_compared_all_the_same():
    """And says why not: of the provider, of the model, of the deployment."""
    keyless = Provider("k", "https://k.example", inactive_reason="set K_KEY to use it", awaits_key=True)
    catalog = a_catalog(a_model("a", at=(keyless,)), a_model("b", inactive_reason="no public API"), a_model("c"))
    found, _ = offers(catalog, ACCOUNT, NOW)
    assert [one.obstacle for one in found] == ["set K_KEY to use it", "no public API", None]


rates = st.integers(0, 10**9)


@settings(max_examples=200, deadline=None)
@given(
    st.builds(Rates, rates, rates, st.none() | rates, requests=rates),
    st.integers(1, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 2 * 10**9),
    st.integers(1, 30),
)
def test_it_is_the_price_of_the_requests(listed, fresh, cached, said, nano_usd, factor):
    """A day of one request costs what `money.price` says of that request: cache rate, tier, fee, rate of exchange."""
    dearer = Rates(input=10**9, output=10**9, requests=7)
    quote = PriceQuote("v", listed, Fx("CNY", nano_usd), Multiplier(factor, 7), (Tier(900_000, dearer),))
    usage = Usage(input=fresh, cache_read=cached, output=said)
    whole = Fraction(fresh + cached)
    day = Traffic(whole, Fraction(said), cached / whole, whole)
    exact = day_pusd(quote, day)
    assert exact is not None
    assert round(exact) == price(usage, quote).pusd


def test_an_unknown_rate_is_no_price():
    """Never 0; a fee that nobody knows bars only those who would pay it."""
    day = Traffic(Fraction(10), Fraction(1))
    assert day_pusd(PriceQuote("v", Rates(input=1)), day) is None
    assert day_pusd(PriceQuote("v", Rates(input=1, output=1, requests=None)), day) is None


def test_hours_of_their_own_are_averaged_over_a_week():
    """Seven hours of five weekdays at double price: 1 + 35 / 168. Spans that meet the hour by minutes count by them."""
    rate = Rates(input=1_000_000, output=1_000_000)
    weekdays = frozenset({1, 2, 3, 4, 5})
    peak = Window(UTC, ((time(1), time(4)), (time(6), time(10))), weekdays, Multiplier(2))
    version = PriceVersion(START, rate, windows=(peak,))
    for hour in (0, 2, 7, 23):
        assert mean_factor(version, NOW.replace(hour=hour)) == 1 + Fraction(35, 168)
    odd = replace(peak, spans=((time(23, 30), time(0, 15)),), weekdays=frozenset(range(1, 8)), multiplier=Multiplier(3))
    assert mean_factor(replace(version, windows=(odd,)), NOW) == 1 + Fraction(2 * 45, 24 * 60)
    catalog = a_catalog(a_model_with("m", PriceBook("p/m", (version,))))
    for hour in (2, 12):
        ((found,), _) = offers(catalog, ACCOUNT, NOW.replace(hour=hour, day=24))
        assert found.pusd_per_token == 1_000_000 * (1 + Fraction(35, 168))
    catalog = a_catalog(a_model_with("m", PriceBook("p/m", (replace(version, multiplier=Multiplier(11, 10)),))))
    ((found,), _) = offers(catalog, ACCOUNT, NOW)  # what a region costs more is on top at every hour
    assert found.pusd_per_token == 1_100_000 * (1 + Fraction(35, 168))


def test_a_tier_is_chosen_by_the_size_of_a_request():
    """Not by the day's tokens."""
    tiers = (Tier(1_000, Rates(input=9, output=9)),)
    quote = PriceQuote("v", Rates(input=1, output=1), tiers=tiers)
    day = Traffic(Fraction(10**6), Fraction(10**6))
    assert day_pusd(quote, day) == 2 * 10**6
    assert day_pusd(quote, replace(day, request_input_tokens=Fraction(2_001, 2))) == 18 * 10**6


@pytest.mark.parametrize("share", [Fraction(0), Fraction(1, 3), Fraction(1)])
def test_cached_input_has_its_own_price(share):
    """Absent it is the input price."""
    day = Traffic(Fraction(300), Fraction(0), share)
    assert day_pusd(PriceQuote("v", Rates(input=10, output=1, cache_read=1)), day) == 3_000 - 2_700 * share
    assert day_pusd(PriceQuote("v", Rates(input=10, output=1)), day) == 3_000
