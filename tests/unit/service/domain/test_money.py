"""Usage, rates, quotes and costs: integers from end to end, one rounding, nothing unknown for free."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.money import (
    BUCKETS,
    FX_SCALE,
    INPUT_BUCKETS,
    ONE,
    PICO,
    Cost,
    Fx,
    Multiplier,
    PriceQuote,
    Rates,
    Tier,
    Usage,
    divide_half_even,
    price,
    pusd_from_usd,
    rate_from_decimal,
    usd_text,
)

CNY = Fx("CNY", 140_600_000, date(2026, 11, 21))


def rates(**per_million: str) -> Rates:
    """Rates from list prices per 1M tokens."""
    return Rates(**{bucket: rate_from_decimal(Decimal(value)) for bucket, value in per_million.items()})


FLAGSHIP = rates(input="3", output="15", cache_read="0.30", cache_write_5m="3.75", cache_write_1h="6")
CHEAP = rates(input="0.15", output="0.60", cache_read="0.015")
PLAIN = rates(input="0.15", output="0.60")
BESIDE = rates(input="2", output="6", reasoning="6", cache_read="0.5")
SOUND = rates(input="2.5", output="10", audio_in="40", audio_out="80", image="5")
SEARCH = Rates(input=1_000_000, output=1_000_000, requests=5_000_000_000)
YUAN = rates(input="0.8", output="2", cache_read="0.16")
TIERED = (
    Tier(128_000, rates(input="0.30", output="1.20", cache_read="0.03")),
    Tier(256_000, rates(input="0.6", output="2.4")),
)

GOLDEN = [
    # what it shows, usage, quote, the cost in USD worked out by hand
    ("plain", Usage(input=1_000, output=500), PriceQuote("v", CHEAP), "0.00045"),
    ("one token", Usage(input=1), PriceQuote("v", CHEAP), "0.00000015"),
    ("nothing at all", Usage(requests=0), PriceQuote("v", CHEAP), "0"),
    ("a million and a million", Usage(input=1_000_000, output=1_000_000), PriceQuote("v", FLAGSHIP), "18"),
    (
        "cache read at its own price",
        Usage(input=200, cache_read=9_800, output=100),
        PriceQuote("v", FLAGSHIP),
        "0.00504",
    ),
    ("cache write for five minutes", Usage(input=10, cache_write_5m=2_000), PriceQuote("v", FLAGSHIP), "0.00753"),
    ("cache write for an hour", Usage(input=10, cache_write_1h=2_000), PriceQuote("v", FLAGSHIP), "0.01203"),
    ("no cache price: the input price", Usage(input=10, cache_read=90), PriceQuote("v", PLAIN), "0.000015"),
    ("no cache write price: the input price", Usage(cache_write_5m=100), PriceQuote("v", CHEAP), "0.000015"),
    (
        "no hour price: the five minute price",
        Usage(cache_write_1h=100),
        PriceQuote("v", rates(input="1", output="1", cache_write_5m="1.25")),
        "0.000125",
    ),
    ("free cache reads", Usage(cache_read=100), PriceQuote("v", rates(input="1", output="1", cache_read="0")), "0"),
    ("reasoning at the output price", Usage(input=100, output=10, reasoning=990), PriceQuote("v", CHEAP), "0.000615"),
    (
        "reasoning at its own price",
        Usage(output=10, reasoning=90),
        PriceQuote("v", rates(input="1", output="2", reasoning="8")),
        "0.00074",
    ),
    ("reasoning beside output", Usage(input=1_000, output=200, reasoning=800), PriceQuote("v", BESIDE), "0.008"),
    ("audio both ways", Usage(audio_in=1_000, audio_out=500, input=10, output=10), PriceQuote("v", SOUND), "0.080125"),
    ("image tokens", Usage(image=1_000), PriceQuote("v", SOUND), "0.005"),
    ("audio without a price of its own", Usage(audio_in=100, audio_out=100), PriceQuote("v", CHEAP), "0.000075"),
    ("price of a request", Usage(input=1_000, output=1_000), PriceQuote("v", SEARCH), "0.007"),
    ("three billed calls", Usage(requests=3), PriceQuote("v", SEARCH), "0.015"),
    (
        "peak doubles everything",
        Usage(input=1_000, output=500),
        PriceQuote("v", CHEAP, multiplier=Multiplier(2)),
        "0.0009",
    ),
    ("peak doubles the request too", Usage(), PriceQuote("v", SEARCH, multiplier=Multiplier(2)), "0.01"),
    ("below the tier", Usage(input=128_000), PriceQuote("v", CHEAP, tiers=TIERED), "0.0192"),
    (
        "the whole request moves to the tier",
        Usage(input=128_001, output=1_000),
        PriceQuote("v", CHEAP, tiers=TIERED),
        "0.0396003",
    ),
    (
        "cached tokens choose the tier too",
        Usage(input=1, cache_read=128_000),
        PriceQuote("v", CHEAP, tiers=TIERED),
        "0.0038403",
    ),
    ("the second tier", Usage(input=256_001), PriceQuote("v", CHEAP, tiers=TIERED), "0.1536006"),
    (
        "output doesn't choose the tier",
        Usage(input=1, output=500_000),
        PriceQuote("v", CHEAP, tiers=TIERED),
        "0.30000015",
    ),
    (
        "batch",
        Usage(input=1_000, output=500, service_tier="batch"),
        PriceQuote("v", CHEAP, service_tiers={"batch": Multiplier(1, 2)}),
        "0.000225",
    ),
    (
        "an unknown service tier is the list price",
        Usage(input=1_000, service_tier="turbo"),
        PriceQuote("v", CHEAP, service_tiers={"batch": Multiplier(1, 2)}),
        "0.00015",
    ),
    (
        "priority at peak",
        Usage(input=1_000, service_tier="priority"),
        PriceQuote("v", CHEAP, multiplier=Multiplier(2), service_tiers={"priority": Multiplier(7, 4)}),
        "0.000525",
    ),
    ("yuan", Usage(input=1_000_000, output=1_000_000), PriceQuote("v", YUAN, CNY), "0.39368"),
    ("yuan, a single token", Usage(input=1), PriceQuote("v", YUAN, CNY), "0.00000011248"),
    ("yuan, cached", Usage(input=100, cache_read=900, output=50), PriceQuote("v", YUAN, CNY), "0.0000455544"),
    ("the vendor's own figure", Usage(input=5, vendor_cost_pusd=123_456), PriceQuote("v", CHEAP), "0.000000123456"),
    # mistakes that other gateways made with real money
    (
        "cached tokens are not counted twice",
        Usage(input=3_000, cache_read=195_000, output=7_826),
        PriceQuote("v", FLAGSHIP),
        "0.18489",
    ),
    (
        "cache reads are not at the full rate",
        Usage(input=100_000, cache_read=16_666_667, output=180_000),
        PriceQuote("v", FLAGSHIP),
        "8.0000001",
    ),
]


@pytest.mark.parametrize(("usage", "quote", "usd"), [row[1:] for row in GOLDEN], ids=[row[0] for row in GOLDEN])
def test_golden_costs(usage: Usage, quote: PriceQuote, usd: str) -> None:
    """Each worked out by hand from the list price, to the last digit."""
    cost = price(usage, quote)
    assert cost.pusd is not None
    assert usd_text(cost.pusd) == usd
    assert cost.unpriced == ()


@pytest.mark.parametrize(
    ("usage", "quote", "blamed"),
    [
        (Usage(input=1), PriceQuote("v", Rates(output=1)), ("input",)),
        (Usage(cache_read=1), PriceQuote("v", Rates(output=1)), ("cache_read",)),
        (Usage(input=1, output=1, reasoning=1), PriceQuote("v", Rates(input=1)), ("output", "reasoning")),
        (Usage(), PriceQuote("v", Rates(input=1, output=1, requests=None)), ("requests",)),
    ],
)
def test_an_unknown_rate_makes_the_cost_unknown(usage: Usage, quote: PriceQuote, blamed: tuple[str, ...]) -> None:
    """Never free, and the buckets to blame are named."""
    cost = price(usage, quote)
    assert cost.pusd is None
    assert cost.unpriced == blamed
    assert cost.as_dict()["unpriced"] == list(blamed)


def test_an_unknown_rate_of_an_unused_bucket_is_no_matter() -> None:
    """What wasn't used needs no price."""
    assert price(Usage(input=2, requests=0), PriceQuote("v", Rates(input=7, requests=None))).pusd == 14


counts = st.integers(0, 3_000_000)
rate = st.none() | st.integers(0, 2_000_000_000)
all_rates = st.builds(
    Rates,
    **{
        bucket: (st.integers(0, 10**12) if bucket == "requests" else rate)
        for bucket in BUCKETS
        if bucket not in {"input", "output"}
    },
    input=st.integers(0, 2_000_000_000),
    output=st.integers(0, 2_000_000_000),
)
factors = st.builds(Multiplier, st.integers(1, 1_000), st.integers(1, 1_000))
quotes = st.builds(
    PriceQuote,
    version=st.just("v"),
    rates=all_rates,
    fx=st.builds(Fx, st.just("XTS"), st.integers(1, 10 * FX_SCALE)),
    multiplier=factors,
    tiers=st.lists(st.tuples(st.integers(1, 2_000_000), all_rates), max_size=3, unique_by=lambda pair: pair[0]).map(
        lambda pairs: tuple(Tier(bound, own) for bound, own in sorted(pairs, key=lambda pair: pair[0]))
    ),
    service_tiers=st.dictionaries(st.sampled_from(["batch", "flex"]), factors),
)
usages = st.builds(
    Usage, **dict.fromkeys(BUCKETS, counts), service_tier=st.sampled_from([None, "batch", "flex", "other"])
)

FALLS_BACK = {
    "cache_read": ("cache_read", "input"),
    "cache_write_5m": ("cache_write_5m", "input"),
    "cache_write_1h": ("cache_write_1h", "cache_write_5m", "input"),
    "reasoning": ("reasoning", "output"),
    "audio_in": ("audio_in", "input"),
    "audio_out": ("audio_out", "output"),
    "image": ("image", "input"),
}


def exact_cost(usage: Usage, quote: PriceQuote) -> Fraction:
    """The cost in pico-USD as a fraction, from the definition: no rounding, no code of `money` but its records."""
    prompt = usage.input + usage.cache_read + usage.cache_write_5m + usage.cache_write_1h + usage.audio_in + usage.image
    own = quote.rates
    for tier in quote.tiers:
        own = tier.rates if prompt > tier.above_input_tokens else own
    total = Fraction(0)
    for bucket in BUCKETS:
        stated = [getattr(own, name) for name in FALLS_BACK.get(bucket, (bucket,))]
        total += getattr(usage, bucket) * next(value for value in stated if value is not None)
    total *= Fraction(quote.multiplier.numerator, quote.multiplier.denominator)
    special = quote.service_tiers.get(usage.service_tier or "")
    if special is not None:
        total *= Fraction(special.numerator, special.denominator)
    return total * Fraction(quote.fx.nano_usd, 10**9)


@settings(max_examples=600, deadline=None)
@given(usages, quotes)
def test_costs_against_fractions(usage: Usage, quote: PriceQuote) -> None:
    """Invariant 2: the exact cost, rounded once, half to even (`round` of a Fraction is just that)."""
    assert price(usage, quote).pusd == round(exact_cost(usage, quote))


@settings(max_examples=300, deadline=None)
@given(usages, quotes)
def test_a_stored_row_computes_the_same_again(usage: Usage, quote: PriceQuote) -> None:
    """Invariant 4: rates, factor and exchange rate in the row, with its usage, give the very same figure."""
    cost = price(usage, quote)
    row = cost.as_dict()
    numerator, _, denominator = str(row["multiply"]).partition("/")
    stored = row["rates"]
    assert isinstance(stored, dict)
    counted: dict[str, Any] = {"requests": 0, **usage.as_dict()}
    again = price(
        Usage(**counted),
        PriceQuote(
            "v",
            Rates(**{**dict.fromkeys(BUCKETS), **stored}),
            Fx("XTS", int(Decimal(str(row["usd_per_unit"])) * FX_SCALE)),
            Multiplier(int(numerator), int(denominator or 1)),
        ),
    )
    assert again.pusd == cost.pusd


@settings(max_examples=200, deadline=None)
@given(usages, usages, all_rates)
def test_costs_add_up(one: Usage, other: Usage, own: Rates) -> None:
    """Without tiers and with whole rates, two requests cost what their sum costs."""
    both = Usage(**{bucket: getattr(one, bucket) + getattr(other, bucket) for bucket in BUCKETS})
    costs = [price(usage, PriceQuote("v", own)).pusd for usage in (one, other, both)]
    assert None not in costs
    assert costs[0] + costs[1] == costs[2]  # type: ignore[operator]  # not None, by the line above


@settings(max_examples=500, deadline=None)
@given(st.integers(-(10**30), 10**30), st.integers(1, 10**20))
def test_divide_half_even(numerator: int, denominator: int) -> None:
    """The rounding rule of the house is that of the standard library's fractions."""
    assert divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@pytest.mark.parametrize(("numerator", "rounded"), [(1, 0), (3, 2), (5, 2), (7, 4), (-1, 0), (-3, -2), (-5, -2)])
def test_halves_go_to_the_even_neighbour(numerator: int, rounded: int) -> None:
    """0.5, 1.5, 2.5, 3.5 and their negatives."""
    assert divide_half_even(numerator, 2) == rounded


def test_rounding_happens_once() -> None:
    """Three halves are one and a half, so two; three times a rounded half would be nothing."""
    quote = PriceQuote("v", Rates(input=1, output=1, cache_read=1), multiplier=Multiplier(1, 2))
    assert price(Usage(input=1, output=1, cache_read=1), quote).pusd == 2
    tiny = Fx("XTS", FX_SCALE // 2)
    assert price(Usage(input=1, output=1, cache_read=1), PriceQuote("v", quote.rates, tiny)).pusd == 2


def test_usage_refuses_what_is_no_count() -> None:
    """Negative, fractional, boolean: a vendor's nonsense stops here."""
    for bad in (-1, 1.0, True, "1", None):
        with pytest.raises(ValueError, match="usage bucket 'output'"):
            Usage(output=bad)  # type: ignore[arg-type]  # the mistake under test


def test_usage_totals_and_shape() -> None:
    """What chooses a tier, what was generated, what the ledger stores: in the order of the buckets, without zeros."""
    usage = Usage(1, 2, 4, 8, 16, 32, 64, 128, 256, 0)
    assert usage.input_total == 1 + 2 + 4 + 8 + 64 + 256 == sum(getattr(usage, bucket) for bucket in INPUT_BUCKETS)
    assert usage.output_total == 16 + 32 + 128
    assert list(usage.as_dict()) == [bucket for bucket in BUCKETS if bucket != "requests"]
    assert Usage(output=3).as_dict() == {"output": 3, "requests": 1}


def test_quote_is_known_only_when_every_tier_is() -> None:
    """One tier without an output price leaves requests of that size unpriced."""
    assert PriceQuote("v", CHEAP, tiers=TIERED).known
    assert not PriceQuote("v", CHEAP, tiers=(Tier(5, Rates(input=1)),)).known
    assert not PriceQuote("v", Rates(output=1)).known


def test_multipliers_are_exact() -> None:
    """Decimals become fractions, products stay exact, nonsense is refused."""
    assert Multiplier.of(Decimal("1.1")) == Multiplier(11, 10)
    assert Multiplier.of(Decimal(2)) == Multiplier(2, 1)
    assert Multiplier.of(Decimal("1.1")).times(Multiplier(1, 2)) == Multiplier(11, 20)
    assert [Multiplier(1, 2).as_text(), Multiplier(3).as_text(), ONE.as_text()] == ["1/2", "3", "1"]
    for bad in ("NaN", "Infinity", "-1"):
        with pytest.raises(ValueError, match="multiplier"):
            Multiplier.of(Decimal(bad))


@pytest.mark.parametrize(
    ("listed", "pico"), [("0.15", 150_000), ("0", 0), ("0.000001", 1), ("75", 75_000_000), ("1.20", 1_200_000)]
)
def test_rates_from_list_prices(listed: str, pico: int) -> None:
    """Pico-units per token, exactly."""
    assert rate_from_decimal(Decimal(listed)) == pico


@pytest.mark.parametrize("listed", ["-0.1", "NaN", "Infinity", "0.0000001", "0.1234567"])
def test_rates_that_are_refused(listed: str) -> None:
    """What is no price, or finer than a pico-unit."""
    with pytest.raises(ValueError, match="price"):
        rate_from_decimal(Decimal(listed))


@pytest.mark.parametrize(
    ("pusd", "text"),
    [
        (150_000, "0.00000015"),
        (0, "0"),
        (PICO, "1"),
        (-PICO // 2, "-0.5"),
        (1, "0.000000000001"),
        (798_336 * 10**9, "798.336"),
    ],
)
def test_usd_text(pusd: int, text: str) -> None:
    """Exact, without an exponent and without zeros at the end; it reads back."""
    assert usd_text(pusd) == text
    assert pusd_from_usd(Decimal(text)) == pusd


def test_pusd_from_usd_rounds_half_even() -> None:
    """Below a pico-dollar only; what is not finite is refused."""
    assert pusd_from_usd(Decimal("0.0000000000005")) == 0
    assert pusd_from_usd(Decimal("0.0000000000015")) == 2
    with pytest.raises(ValueError, match="finite"):
        pusd_from_usd(Decimal("NaN"))


def test_cost_row() -> None:
    """What the ledger stores of a price: version, currency, rates, factor, exchange rate."""
    cost = price(Usage(input=1), PriceQuote("v@2026-01-01", YUAN, CNY, Multiplier(1, 2)))
    assert cost.as_dict() == {
        "version": "v@2026-01-01",
        "currency": "CNY",
        "rates": {"input": 800_000, "cache_read": 160_000, "output": 2_000_000, "requests": 0},
        "multiply": "1/2",
        "usd_per_unit": "0.1406",
    }
    own = price(Usage(vendor_cost_pusd=5), PriceQuote("v", CHEAP))
    assert isinstance(own, Cost)
    assert own.from_vendor
    assert own.as_dict()["from_vendor"] is True
    assert own.as_dict()["vendor_pusd"] == 5
    tiered = price(
        Usage(input=1, service_tier="flex"),
        PriceQuote("v", CHEAP, service_tiers={"flex": Multiplier(1, 2)}, digest="0123456789ab"),
    ).as_dict()
    assert (tiered["multiply"], tiered["service_tier"], tiered["list"]) == ("1/2", "flex", "0123456789ab")


@pytest.mark.parametrize(
    ("told", "asked", "factor", "flags"),
    [
        (None, None, 1, ()),
        ("default", "priority", 1, ()),  # asked for more, and served as usual
        ("on_demand", None, 1, ()),
        ("flex", "priority", 0.5, ()),
        ("priority", None, 2, ()),
        ("turbo", None, 1, ("service_tier_unpriced",)),  # never half the price because flex is
        (None, "auto", 1, ()),
        (None, "priority", 2, ("service_tier_unconfirmed",)),  # the dearer reading
        (None, "flex", 1, ("service_tier_unconfirmed",)),  # the same
        (None, "turbo", 1, ("service_tier_unconfirmed",)),
    ],
)
def test_the_service_tier_of_the_answer_counts(
    told: str | None, asked: str | None, factor: float, flags: object
) -> None:
    """What was asked for counts only where the answer says nothing, and then only upwards."""
    quote = PriceQuote("v", CHEAP, service_tiers={"flex": Multiplier(1, 2), "priority": Multiplier(2)})
    cost = price(Usage(input=1_000, service_tier=told), quote, asked)
    assert (cost.pusd, cost.flags) == (150_000_000 * factor, flags)


def test_a_vendor_that_bills_nothing_is_marked() -> None:
    """Its figure is booked; where its list is not zero, somebody should look."""
    assert price(Usage(input=5, vendor_cost_pusd=0), PriceQuote("v", CHEAP)).flags == ("vendor_cost_zero",)
    assert price(Usage(input=5, vendor_cost_pusd=1), PriceQuote("v", CHEAP)).flags == ()
    assert price(Usage(input=5, vendor_cost_pusd=0), PriceQuote("v", Rates(0, 0))).flags == ()


def test_fx_text_is_exact() -> None:
    """No exponent, no zeros at the end."""
    assert [Fx("X", nano).as_text() for nano in (FX_SCALE, 140_600_000, 1, 100 * FX_SCALE)] == [
        "1",
        "0.1406",
        "0.000000001",
        "100",
    ]
