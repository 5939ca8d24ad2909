"""The cost of an engine of one's own: the worked example to the digit, and what must hold for every engine."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.economics import Account, Engine, Traffic, fixed, margin, per_million
from service.domain.money import PICO, divide_half_even, pusd_from_usd, rate_from_decimal, usd_text
from service.domain.prices import SelfHosted

EXAMPLE = Engine(8, pusd_from_usd(Decimal("3.49")), Fraction(3_000), Fraction(300))
FULL = Account(EXAMPLE, EXAMPLE.traffic_at(Fraction(1)))

positive = st.fractions(min_value=Fraction(1, 1_000), max_value=10**6, max_denominator=10**6)
loads = st.fractions(min_value=Fraction(1, 1_000), max_value=2, max_denominator=10**6)
engines = st.builds(Engine, st.integers(1, 10_000), st.integers(1, 10_000 * PICO), positive, positive)
accounts = st.builds(lambda engine, load: Account(engine, engine.traffic_at(load)), engines, loads)


def test_the_worked_example_to_the_digit():
    """8 GPUs at 3.49 USD, 3,000 + 300 tokens/s, sold at 2.80 USD per million. Rounded once, half to even."""
    sale = FULL.sold_at(rate_from_decimal(Decimal("2.80")))
    assert usd_text(EXAMPLE.pusd_per_day) == "670.08"
    assert fixed(FULL.traffic.total, 0, commas=True) == "285,120,000"
    assert (fixed(sale.pusd_per_day / PICO, 3), fixed(sale.pusd_per_day / PICO, 2)) == ("798.336", "798.34")
    assert (fixed(sale.difference_pusd / PICO, 3), fixed(sale.difference_pusd / PICO, 2)) == ("128.256", "128.26")
    assert sale.pusd_per_day == pusd_from_usd(Decimal("798.336"))
    share = margin(sale)
    assert share is not None
    assert fixed(share * 100, 2) == "16.07"
    assert fixed(per_million(FULL.pusd_per_token), 6) == "2.350168"
    assert sale.load is not None
    assert fixed(sale.load * 100, 2) == "83.93"
    assert fixed(sale.pusd_per_gpu_hour / PICO, 6) == "4.158000"
    # The same price as the ledger books, which keeps whole pico-dollars per token.
    assert (
        divide_half_even(*FULL.pusd_per_token.as_integer_ratio())
        == SelfHosted(8, 3_490_000_000_000, 3_000, 300).pusd_per_token
    )


def test_input_and_output_apart():
    """At 4 to 1: 259.2 M + 4 x 25.92 M = 362.88 M shares of 670.08 USD; at 1 to 1 both are the blended price."""
    read, said = FULL.apart(Fraction(4))
    assert (fixed(per_million(read), 6), fixed(per_million(said), 6)) == ("1.846561", "7.386243")
    assert FULL.apart(Fraction(1)) == (FULL.pusd_per_token, FULL.pusd_per_token)
    with pytest.raises(ValueError, match="worth something"):
        FULL.apart(Fraction(0))


@settings(max_examples=200, deadline=None)
@given(accounts)
def test_break_even_is_break_even(account):
    """At each break-even figure cost and revenue are equal exactly: by price, by load, by GPU hour."""
    engine, own = account.engine, account.engine.pusd_per_day
    assert account.traffic.total * account.pusd_per_token == own
    even = account.beside(account.traffic.total * account.pusd_per_token)
    assert (even.difference_pusd, even.load, even.pusd_per_gpu_hour) == (0, account.load, engine.pusd_per_gpu_hour)
    assert margin(even) == 0


@settings(max_examples=200, deadline=None)
@given(accounts, st.integers(1, 10**9))
def test_what_breaks_even_at_a_price(account, price):
    """At the load that a sale says, revenue is the cost; with GPU hours at what it says, too; profit has its sign."""
    sale = account.sold_at(price)
    engine = account.engine
    assert sale.load is not None
    there = Account(engine, engine.traffic_at(sale.load))
    assert there.sold_at(price).difference_pusd == 0
    assert sale.load * price * engine.tokens_per_day == engine.pusd_per_day
    assert sale.pusd_per_gpu_hour * engine.gpus * 24 == sale.pusd_per_day
    assert (sale.difference_pusd > 0) == (account.load > sale.load) == (price > account.pusd_per_token)
    share = margin(sale)
    assert share is not None
    assert share == 1 - account.pusd_per_token / price
    assert (share < 1) is True


@settings(max_examples=200, deadline=None)
@given(accounts, positive)
def test_the_parts_add_up(account, ratio):
    """Input and output at their own prices cost what the engine does."""
    read, said = account.apart(ratio)
    assert said == ratio * read
    assert account.traffic.input * read + account.traffic.output * said == account.engine.pusd_per_day


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 10_000),
    st.integers(0, 10_000 * PICO),
    st.integers(0, 10**6),
    st.integers(1, 10**6),
    st.integers(1, 10**6),
)
def test_it_is_the_price_that_the_router_books(gpus, hour, read, said, ppm):
    """The registry's own price of a token is this one, rounded to a whole pico-dollar."""
    declared = SelfHosted(gpus, hour, read, said, ppm)
    engine = Engine.of(declared)
    exact = Account(engine, engine.traffic_at(Fraction(ppm, 10**6))).pusd_per_token
    assert divide_half_even(*exact.as_integer_ratio()) == declared.pusd_per_token


def test_nothing_at_all():
    """No revenue: no margin, no load is enough. An engine that costs nothing breaks even at once."""
    free = FULL.sold_at(0)
    assert (free.load, margin(free), free.pusd_per_gpu_hour) == (None, None, 0)
    given_away = Account(Engine(1, 0, Fraction(1), Fraction(1)), Traffic(Fraction(1), Fraction(1)))
    assert given_away.beside(Fraction(0)).load == 0
    assert given_away.sold_at(5).load == 0


def test_what_makes_no_sense_is_refused():
    """Every division has something to divide by."""
    one = Fraction(1)
    for read, said in ((0, 0), (-1, 2), (2, -1)):
        with pytest.raises(ValueError, match="tokens"):
            Traffic(Fraction(read), Fraction(said))
        with pytest.raises(ValueError, match="tokens"):
            Engine(1, 1, Fraction(read), Fraction(said))
    with pytest.raises(ValueError, match="share"):
        Traffic(one, one, Fraction(11, 10))
    with pytest.raises(ValueError, match="request"):
        Traffic(one, one, request_input_tokens=Fraction(0))
    for gpus, hour in ((0, 1), (1, -1)):
        with pytest.raises(ValueError, match="GPU"):
            Engine(gpus, hour, one, one)


def test_traffic():
    """Cached tokens are part of the input; a mean size is above a bound or not."""
    day = Traffic(Fraction(1_000), Fraction(100), Fraction(1, 4), Fraction(401, 4))
    assert (day.total, day.cached, day.size) == (1_100, 250, 101)
    assert day.requests == Fraction(4_000, 401)


@pytest.mark.parametrize(
    ("value", "places", "shown"),
    [
        (Fraction(1, 8), 2, "0.12"),
        (Fraction(3, 8), 2, "0.38"),
        (Fraction(-1, 8), 2, "-0.12"),
        (Fraction(-1, 1_000), 2, "0.00"),
        (Fraction(1_234_567), 0, "1,234,567"),
        (Fraction(5, 2), 0, "2"),
        (Fraction(1, 3), 6, "0.333333"),
    ],
)
def test_figures_are_rounded_once_half_to_even(value, places, shown):
    """And what rounds to nothing has no sign."""
    assert fixed(value, places, commas=True) == shown


@settings(max_examples=200, deadline=None)
@given(st.fractions(max_denominator=10**9), st.integers(0, 12))
def test_fixed_is_the_nearest(value, places):
    """No more than half of the last digit off."""
    assert abs(Fraction(fixed(value, places)) - value) * 10**places <= Fraction(1, 2)
    assert fixed(value, places, commas=True).replace(",", "") == fixed(value, places)
