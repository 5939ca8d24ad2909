"""Rates by the row and as columns tell the prices of the quotes, at every size, in every currency and window."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import NOW, a_model

from service.domain.catalog import Provider
from service.domain.imagined import Worst, imagined
from service.domain.money import Fx, Multiplier, Rates, Tier
from service.domain.prices import PriceBook, PriceVersion, Window
from service.routing.estimate import worst_cost
from service.routing.prefixes import BLOCK_TOKENS, split, writes_of
from service.routing.quotes import Quotes, priced

RATE = st.sampled_from([0, 1, 150_000, 2_500_001]) | st.integers(0, 10**9)
UNKNOWN = st.none() | RATE
RATES = st.builds(
    Rates, RATE, RATE, UNKNOWN, UNKNOWN, UNKNOWN, reasoning=UNKNOWN, requests=st.sampled_from([0, 7, 10**9, None])
)
FACTORS = st.builds(Multiplier, st.integers(0, 9), st.integers(1, 9))
TIERS = st.lists(
    st.tuples(st.sampled_from([100, 1_023, 1_024, 1_500]), RATES), max_size=2, unique_by=lambda one: one[0]
)


def book(rates, tiers, factor, nano_usd):
    """A book with one version in a currency at this rate, inside a window with this factor."""
    window = Window(UTC, ((time(0), time(23, 59)),), frozenset(range(1, 8)), factor)
    each = tuple(Tier(bound, found) for bound, found in sorted(tiers, key=lambda one: one[0]))
    version = PriceVersion(datetime(2026, 1, 1, tzinfo=UTC), rates, "XYZ", each, (window,))
    return PriceBook("b", (version,), {"XYZ": Fx("XYZ", nano_usd, date(2026, 11, 21))})


BOOKS = st.builds(book, RATES, TIERS, FACTORS, st.sampled_from([10**9, 140_600_000, 137_123_457, 10**7 + 1]))
QUIRKS = st.sampled_from([{}, {"cache_marked": ""}, {"cache_write_marked": ""}])


def able_of(priced):
    """A deployment for each book and quirks."""
    found = []
    for number, (prices, quirks) in enumerate(priced):
        model = a_model(f"m{number}", at=(Provider("p", "https://p.example/v1", quirks=quirks),))
        found.append((replace(model.deployments[0], prices=prices), model))
    return tuple(found)


@settings(max_examples=300)
@given(
    priced=st.lists(st.tuples(BOOKS, QUIRKS), min_size=1, max_size=6),
    tokens=st.sampled_from([0, 99, 100, 101, 1_023, 1_024, 1_025, 2_048, 9_999]) | st.integers(0, 10**6),
    output=st.integers(0, 10**5),
    hidden=st.integers(0, 10**5),
    marked=st.booleans(),
)
def test_sums_over_rates_are_the_imagined_cost(priced, tokens, output, hidden, marked):
    """Expected and worst, rounded once as the house rounds; no price is no cost."""
    able = able_of(priced)
    quotes, whole = Quotes(able, NOW), tokens // BLOCK_TOKENS * BLOCK_TOKENS
    sums, dearest = [], []
    for rates in quotes.rates(tokens):
        if rates is None:
            sums.append(0)
            dearest.append(0)
            continue
        total = tokens * rates.fresh + output * rates.said + hidden * rates.thought + rates.fee
        sums.append(total + whole * (rates.marked_writes if marked else rates.writes))
    expected = []
    for (deployment, _), quote in zip(able, quotes.each, strict=True):
        cost = None
        if quote is not None and quote.known:
            read, written = split(quote, deployment, tokens, 0, marked=marked)
            cost = imagined(quote, tokens, output, hidden, read, written)
        expected.append(cost)
    assert quotes.pusd(sums, tokens) == expected
    assert quotes.gaps or None not in expected
    sheet = quotes.sheet(tokens)
    if sheet is None or not sheet.holds(2 * tokens + output + hidden):
        return
    column = sheet.rounded(np.array(sums, dtype=np.int64)).tolist()
    assert [one if sheet.priced(row) else None for row, one in enumerate(column)] == expected


@settings(max_examples=200)
@given(
    priced=st.lists(st.tuples(BOOKS, QUIRKS), min_size=1, max_size=4),
    tokens=st.integers(0, 3_000),
    output=st.integers(0, 10**5),
    marked=st.booleans(),
)
def test_the_dearest_rates_are_those_of_the_worst_cost(priced, tokens, output, marked):
    """With the margin on the input, whatever may be written, and output of the dearer kind."""
    quotes, padded = Quotes(able_of(priced), NOW), tokens * 150 // 100
    sheet = quotes.sheet(padded)
    if sheet is None or not sheet.holds(padded + output):
        return
    dearest = sheet.marked_dearest if marked else sheet.dearest
    fresh = sheet.fresh if padded < BLOCK_TOKENS else dearest
    total = sheet.rounded(padded * fresh + sheet.dear * output + sheet.fee).tolist()
    told = [one if sheet.priced(row) else None for row, one in enumerate(total)]
    assert told == [
        worst_cost(quote, tokens, output, Worst(writes_of(deployment, marked=marked)))
        for (deployment, _), quote in zip(quotes._able, quotes.each, strict=True)
    ]


def test_one_sheet_for_each_span_of_sizes():
    """Sizes between two bounds share it; a bound itself belongs to the cheaper side."""
    prices = book(Rates(1, 2), [(100, Rates(3, 4)), (1_500, Rates(5, 6))], Multiplier(), 10**9)
    quotes = Quotes(able_of([(prices, {})]), NOW)
    told = [quotes.rates(tokens)[0].fresh for tokens in (0, 100, 101, 1_500, 1_501, 10**9)]
    assert told == [1, 1, 3, 3, 5, 5]
    assert quotes.sheet(0) is quotes.sheet(100) is not quotes.sheet(101)


def test_rates_that_no_column_holds_have_no_sheet():
    """Nor does a factor whose product with its divisor is too large; rows still have them."""
    for rates, factor, nano_usd in (
        (Rates(2**62, 1), Multiplier(), 10**9),
        (Rates(1, 1), Multiplier(1, 7**9), 137_123_457),
    ):
        quotes = Quotes(able_of([(book(rates, [], factor, nano_usd), {})]), NOW)
        assert quotes.sheet(5) is None
        assert quotes.rates(5)[0] is not None


def test_a_gap_is_a_price_that_some_prompt_does_not_have():
    """No price at all, a tier without one, a fee that is unknown: by their rows."""
    known, dear = Rates(1, 2), Rates(1, None)
    each = [
        (book(known, (), Multiplier(1), 10**9), {}),
        (PriceBook("none"), {}),
        (book(known, ((100, dear),), Multiplier(1), 10**9), {}),
        (book(known, ((100, known),), Multiplier(1), 10**9), {}),
        (book(replace(known, requests=None), (), Multiplier(1), 10**9), {}),
    ]
    quotes = Quotes(able_of(each), NOW)
    assert quotes.gaps == (1, 2, 4)
    assert [priced(quote) for quote in quotes.each] == [True, False, False, True, False]
