"""The quick sum of the router and the exact one of the ledger never differ."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.imagined import imagined
from service.domain.money import FX_SCALE, ONE, Fx, Multiplier, PriceQuote, Rates, Tier, Usage, price

RATES = st.integers(0, 2_000_000_000)
BOOK = st.builds(
    Rates,
    input=RATES,
    output=RATES,
    cache_read=st.none() | RATES,
    cache_write_5m=st.none() | RATES,
    reasoning=st.none() | RATES,
    requests=st.integers(0, 10**12),
)


@settings(max_examples=300, deadline=None)
@given(
    counts=st.tuples(*[st.integers(0, 200_000)] * 5),
    own=BOOK,
    dearer=BOOK,
    factor=st.sampled_from([ONE, Multiplier(1, 1), Multiplier(2), Multiplier(1, 2), Multiplier(7, 4)]),
    fx=st.sampled_from([Fx(), Fx("CNY", 140_600_000), Fx("XTS", FX_SCALE // 2)]),
)
def test_what_is_imagined_is_what_would_be_billed(counts, own, dearer, factor, fx) -> None:
    """With reads and writes inside the input, tiers, windows and currencies."""
    fresh, output, reasoning, read, written = counts
    quote = PriceQuote("v", own, fx, factor, tiers=(Tier(300_000, dearer),))
    usage = Usage(input=fresh, cache_read=read, cache_write_5m=written, output=output, reasoning=reasoning)
    assert imagined(quote, fresh + read + written, output, reasoning, read, written) == price(usage, quote).pusd


def test_an_unknown_rate_is_no_cost() -> None:
    """`None`, as in the ledger."""
    for rates in (Rates(output=1), Rates(input=1), Rates(input=1, output=1, requests=None)):
        assert imagined(PriceQuote("v", rates), 1, 1) is None
