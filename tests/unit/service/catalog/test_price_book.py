"""Prices from the file to a quote: dates, peak windows with holidays, tiers, currencies, engines of one's own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.catalog.load import load_bytes
from service.catalog.price_book import MAX_USD_PER_MILLION, midnight
from service.domain.catalog import Catalog, Deployment
from service.domain.money import PriceQuote, Usage, price

LoadText = Callable[..., Catalog]
Wrong = Callable[..., list[str]]


def priced(price_yaml: str) -> str:
    """A registry with one deployment, `v/m`, and this one price entry (a flow mapping) on line 8."""
    return (
        "version: 1\ncurrency: {rates: {CNY: 0.1406}, as_of: 2026-11-20}\n"
        "providers: {v: {base_url: https://v.example.com}}\nmodels:\n  m:\n    deployments:\n      - provider: v\n"
        f"        prices: [{price_yaml}]\n        name: m\n"
    )


@pytest.fixture
def flash(load_text: LoadText, example: str) -> Deployment:
    """The deployment with peak hours, tiers and a batch factor."""
    return load_text(example).by_id["deepseek/deepseek-flash"]


def quote_at(deployment: Deployment, when: str) -> PriceQuote:
    """The quote at a UTC instant given as `YYYY-MM-DD HH:MM`."""
    quote = deployment.prices.quote(datetime.fromisoformat(when).replace(tzinfo=UTC))
    assert quote is not None
    return quote


def in_peak(at: datetime) -> bool:
    """DeepSeek's peak, written down a second time from its definition, in minutes of the UTC day."""
    minute = at.hour * 60 + at.minute
    shanghai_day = (at + timedelta(hours=8)).date()
    by_clock = 60 <= minute < 240 or 360 <= minute < 600
    spans = [((1, 1), (1, 3)), ((2, 15), (2, 23)), ((4, 4), (4, 6)), ((5, 1), (5, 5)), ((6, 19), (6, 21))]
    spans += [((9, 25), (9, 27)), ((10, 1), (10, 7))]
    holiday = any(date(2026, *first) <= shanghai_day <= date(2026, *last) for first, last in spans)
    return by_clock and at.weekday() < 5 and not holiday


PEAKED = load_bytes(
    priced(
        '{from: 2026-07-24, input: 0.15, output: 0.60, windows: [{utc: ["01:00-04:00", "06:00-10:00"], days: mon-fri, '
        "except: cn-holidays, multiply: 2}]}"
    ).encode(),
    "providers.yaml",
    {},
    now=datetime(2026, 11, 21, tzinfo=UTC),
).by_id["v/m"]
"""The deployment of the property test, which takes no fixtures."""


@pytest.mark.parametrize(
    ("when", "factor"),
    [
        ("2026-11-23 00:59", 1),
        ("2026-11-23 01:00", 2),
        ("2026-11-23 03:59", 2),
        ("2026-11-23 04:00", 1),
        ("2026-11-23 05:59", 1),
        ("2026-11-23 06:00", 2),
        ("2026-11-23 09:59", 2),
        ("2026-11-23 10:00", 1),
        ("2026-11-27 09:59", 2),
        ("2026-11-28 07:00", 1),
        ("2026-11-29 07:00", 1),
        ("2026-09-30 07:00", 2),
        ("2026-10-01 07:00", 1),
        ("2026-10-07 07:00", 1),
        ("2026-10-08 07:00", 2),
    ],
)
def test_peak_hours_double(flash: Deployment, when: str, factor: int) -> None:
    """Half-open spans, Monday to Friday, not on Chinese public holidays."""
    quote = quote_at(flash, when)
    assert (quote.multiplier.numerator, quote.multiplier.denominator) == (factor, 1)
    cost = price(Usage(input=1000, cache_read=100, output=10), quote)
    assert cost.pusd == factor * (1000 * 150_000 + 100 * 15_000 + 10 * 600_000)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 160 * 24 * 60 - 1))
def test_peak_hours_all_year(minute: int) -> None:
    """At any minute of the price's first 160 days the loaded window agrees with its definition."""
    at = datetime(2026, 7, 24, tzinfo=UTC) + timedelta(minutes=minute)
    quote = PEAKED.prices.quote(at)
    assert quote is not None
    assert (quote.multiplier.numerator == 2) == in_peak(at)


def test_the_whole_request_moves_to_the_tier(flash: Deployment) -> None:
    """128,000 input tokens cost the base price, one more costs the tier's, for all of them and the output too."""
    quote = quote_at(flash, "2026-11-21 12:00")
    assert price(Usage(input=128_000, output=100), quote).pusd == 128_000 * 150_000 + 100 * 600_000
    assert price(Usage(input=128_001, output=100), quote).pusd == 128_001 * 300_000 + 100 * 1_200_000
    assert price(Usage(input=28_001, cache_read=100_000), quote).pusd == 128_001 * 300_000


def test_service_tiers_multiply(flash: Deployment) -> None:
    """Batch at half price, exactly, on top of the peak."""
    usage = Usage(input=3, output=0, service_tier="batch")
    assert price(usage, quote_at(flash, "2026-11-21 12:00")).pusd == 225_000
    assert price(usage, quote_at(flash, "2026-11-23 07:00")).pusd == 450_000


def test_a_region_multiplies(load_text: LoadText, wrong: Wrong) -> None:
    """What a provider pays for where it is processed, on top of everything; the plain price for one that names none."""
    entry = "{from: 2026-01-01, input: 1, output: 2, service_tiers: {flex: 0.5}, regions: {eu: 1.1, us-gov: 1.2}}"
    usage = Usage(input=1_000, output=500, service_tier="flex")
    for region, pusd in (
        ("", 1_000_000_000),
        (", price_region: eu", 1_100_000_000),
        (", price_region: us-gov", 1_200_000_000),
    ):
        text = priced(entry).replace("v.example.com}", f"v.example.com{region}}}")
        quote = quote_at(load_text(text).by_id["v/m"], "2026-11-21 12:00")
        assert price(usage, quote).pusd == pusd
    (told,) = wrong(priced(entry).replace("v.example.com}", "v.example.com, price_region: apac}"))
    assert "no price for the provider's price_region apac" in told


def test_a_list_is_named_by_what_it_says(load_text: LoadText) -> None:
    """Another rate, factor or tier is another list, under the same version; another source is the same list."""

    def digest(entry: str) -> str:
        return quote_at(load_text(priced(entry)).by_id["v/m"], "2026-11-21 12:00").digest

    plain = digest("{from: 2026-01-01, input: 1, output: 2}")
    assert plain == digest("{from: 2026-01-01, input: 1, output: 2, source: a page, checked: 2026-11-01}")
    others = ("output: 3", "output: 2, cache_read: 0", "output: 2, service_tiers: {batch: 0.5}", "output: 2, currency: CNY",
              "output: 2, tiers: [{above_input_tokens: 9, input: 2, output: 3}]")  # fmt: skip
    assert len({plain, *(digest(f"{{from: 2026-01-01, input: 1, {other}}}") for other in others)}) == 1 + len(others)


def test_dates_choose_the_version(load_text: LoadText, example: str) -> None:
    """A price begins at midnight UTC of its day; before the first there is none; lines may be in any order."""
    book = load_text(example).by_id["bailian/deepseek-flash"].prices
    assert book.quote(datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC)) is None
    old = book.quote(datetime(2026, 8, 31, 23, 59, 59, tzinfo=UTC))
    new = book.quote(datetime(2026, 9, 1, tzinfo=UTC))
    assert old is not None
    assert new is not None
    assert (old.version, old.rates.input) == ("bailian/deepseek-flash@2026-01-01", 2_000_000)
    assert (new.version, new.rates.input) == ("bailian/deepseek-flash@2026-09-01", 1_200_000)


def test_an_ended_price_is_unknown(load_text: LoadText) -> None:
    """`until` is the first day without it; nothing is guessed after it, and the notes say so."""
    catalog = load_text(priced("{from: 2026-01-01, until: 2026-11-01, input: 1, output: 2}"))
    book = catalog.by_id["v/m"].prices
    assert book.quote(datetime(2026, 10, 31, 23, 59, tzinfo=UTC)) is not None
    assert book.quote(datetime(2026, 11, 1, tzinfo=UTC)) is None
    assert catalog.notes == ("v/m: none of its prices applies on 2026-11-21; its price is unknown",)


def test_native_currency_and_price_of_a_request(load_text: LoadText, example: str) -> None:
    """Yuan stay yuan until the sum; the rate is in the row."""
    deployment = load_text(example).by_id["bailian/deepseek-flash"]
    cost = price(Usage(input=1_000_000, output=500_000, requests=1), quote_at(deployment, "2026-11-21 12:00"))
    # (1.2 + 2.4 + 0.001) CNY x 0.1406 USD
    assert cost.pusd == int(Decimal("3.601") * Decimal("0.1406") * 10**12)
    assert cost.currency == "CNY"
    assert cost.fx.as_text() == "0.1406"
    assert cost.fx.as_of == date(2026, 11, 20)


@pytest.mark.parametrize(
    "listed", ["null", "[]", "[{from: 2026-01-01}]", "[{from: 2026-01-01, input: null, output: null}]"]
)
def test_an_unknown_price_is_unknown(load_text: LoadText, listed: str) -> None:
    """No list, an empty one, an entry without figures: no quote, and never zero."""
    text = priced("").replace("prices: []", f"prices: {listed}")
    assert load_text(text).by_id["v/m"].prices.quote(datetime(2026, 11, 21, tzinfo=UTC)) is None


def test_zero_is_free(load_text: LoadText) -> None:
    """A price of 0 is a price."""
    deployment = load_text(priced("{from: 2026-01-01, input: 0, output: 0}")).by_id["v/m"]
    assert price(Usage(input=5, output=5), quote_at(deployment, "2026-11-21 00:00")).pusd == 0


def test_what_a_tier_leaves_unstated_is_never_cheaper(load_text: LoadText) -> None:
    """The dearer of the base's price and the tier's own fall-back: never free, never under either."""
    text = priced(
        "{from: 2026-01-01, input: 1, output: 4, cache_read: 0.1, cache_write_1h: 9, audio_in: 20, reasoning: 3,"
        " tiers: [{above_input_tokens: 10, input: 2, output: 8},"
        " {above_input_tokens: 20, input: 3, output: 9, cache_read: 0}]}"
    )
    catalog = load_text(text)
    quote = quote_at(catalog.by_id["v/m"], "2026-11-21 00:00")
    first, second = quote.rates_for(11), quote.rates_for(21)
    assert (first.rate("cache_read"), first.rate("cache_write_1h"), first.rate("audio_in")) == (
        2_000_000,
        9_000_000,
        20_000_000,
    )
    assert first.rate("reasoning") == 8_000_000
    assert second.rate("cache_read") == 0
    assert catalog.notes == (
        "v/m from 2026-01-01: a tier states no cache_read; cached input counts at the tier's input price",
    )


def test_windows_in_a_zone_follow_its_clock(load_text: LoadText) -> None:
    """18:00 in Berlin is 16:00 UTC in summer, 17:00 in winter; a span past midnight belongs to its first day."""
    deployment = load_text(
        priced(
            "{from: 2026-01-01, input: 1, output: 1, windows: "
            '[{hours: "18:00-02:00", zone: Europe/Berlin, days: [fri], multiply: 0.5}]}'
        )
    ).by_id["v/m"]
    halves = ["2026-07-03 16:00", "2026-07-03 23:59", "2026-01-02 17:00", "2026-01-03 00:59"]
    fulls = ["2026-07-03 15:59", "2026-07-04 00:00", "2026-01-02 16:59", "2026-01-03 01:00", "2026-01-01 23:30"]
    assert [quote_at(deployment, when).multiplier.as_text() for when in halves] == ["1/2"] * 4
    assert [quote_at(deployment, when).multiplier.as_text() for when in fulls] == ["1"] * 5


def test_whole_days_and_week_ranges(load_text: LoadText) -> None:
    """00:00-24:00 is a day; sat-mon passes the end of the week."""
    deployment = load_text(
        priced('{from: 2026-01-01, input: 1, output: 1, windows: [{utc: "00:00-24:00", days: sat-mon, multiply: 3}]}')
    ).by_id["v/m"]
    factors = [quote_at(deployment, f"2026-11-{day} 12:00").multiplier.numerator for day in range(16, 23)]
    assert factors == [3, 1, 1, 1, 1, 3, 3]


@pytest.mark.parametrize(
    "windows",
    [
        '{utc: "01:00-04:00", multiply: 2}, {utc: "03:59-05:00", multiply: 2}',
        '{utc: "22:00-02:00", days: sun, multiply: 2}, {utc: "01:00-03:00", days: mon, multiply: 2}',
        '{utc: "00:00-24:00", multiply: 2}, {utc: "12:00-12:01", days: wed, multiply: 3}',
        '{utc: "16:00-17:00", multiply: 2}, {hours: "17:30-19:00", zone: Europe/Berlin, multiply: 2}',
        '{utc: "15:00-16:00", multiply: 2}, {hours: "17:30-19:00", zone: Europe/Berlin, multiply: 2}',
    ],
)
def test_overlapping_windows_are_refused(wrong: Wrong, windows: str) -> None:
    """Also past midnight, past the week's end, and when only the summer clock makes two zones meet."""
    (problem,) = wrong(priced(f"{{from: 2026-01-01, input: 1, output: 1, windows: [{windows}]}}"))
    assert "overlapping windows (window on line 8)" in problem


@pytest.mark.parametrize(
    "windows",
    [
        '{utc: "01:00-04:00", multiply: 2}, {utc: "04:00-05:00", multiply: 3}',
        '{utc: "01:00-04:00", days: mon-fri, multiply: 2}, {utc: "01:00-04:00", days: sat-sun, multiply: 3}',
        '{utc: "22:00-02:00", days: sun, multiply: 2}, {utc: "02:00-03:00", days: mon, multiply: 2}',
        '{utc: "22:00-24:00", multiply: 2}, {utc: "00:00-03:00", multiply: 2}',
    ],
)
def test_touching_windows_are_fine(load_text: LoadText, windows: str) -> None:
    """The end of a span is not in it."""
    load_text(priced(f"{{from: 2026-01-01, input: 1, output: 1, windows: [{windows}]}}"))


def test_a_calendar_of_the_file(load_text: LoadText) -> None:
    """The file's own days, in their own zone; a calendar of a built-in name replaces it."""
    text = priced(
        '{from: 2026-01-01, input: 1, output: 1, windows: [{utc: "00:00-24:00", except: cn-holidays, multiply: 2}]}'
    )
    text += "calendars: {cn-holidays: {zone: Asia/Shanghai, days: [2027-02-06], until: 2027-12-31}}\n"
    deployment = load_text(text).by_id["v/m"]
    assert quote_at(deployment, "2026-10-01 07:00").multiplier.numerator == 2
    assert quote_at(deployment, "2027-02-05 15:59").multiplier.numerator == 2
    assert quote_at(deployment, "2027-02-05 16:00").multiplier.numerator == 1
    assert quote_at(deployment, "2027-02-06 16:00").multiplier.numerator == 2


def test_absurd_prices_are_measured_in_usd(wrong: Wrong, load_text: LoadText) -> None:
    """7,112 yuan are just under 1,000 USD; a dear price in a cheap currency is fine, the same figure in USD is not."""
    load_text(priced("{from: 2026-01-01, currency: CNY, input: 7112, output: 1}"))
    load_text(priced(f"{{from: 2026-01-01, input: {MAX_USD_PER_MILLION}, output: 1}}"))
    (problem,) = wrong(
        priced("{from: 2026-01-01, input: 1, output: 1, tiers: [{above_input_tokens: 1, input: 7112, output: 1}]}")
    )
    assert "7112 USD is above 1000 USD per 1M tokens" in problem


def test_self_hosted_engine(load_text: LoadText, example: str) -> None:
    """The worked example's engine at 60 % load: 2.350168 / 0.6 USD per million."""
    quote = quote_at(load_text(example).by_id["local/qwen-onprem"], "2026-11-21 00:00")
    exact = Fraction(8 * 349, 100) * 10**12 / (Fraction(6, 10) * 3_300 * 3_600)
    assert quote.rates.input == quote.rates.output == round(exact)
    assert price(Usage(input=1_000_000), quote).pusd == 1_000_000 * round(exact)


def test_an_absurd_engine_is_refused(wrong: Wrong, example: str) -> None:
    """One token a second on eight GPUs is a typing error."""
    text = example.replace(
        "input_tokens_per_s: 3000, output_tokens_per_s: 300", "input_tokens_per_s: 1, output_tokens_per_s: 0"
    )
    (problem,) = wrong(text)
    assert "comes to more than 1000 USD per 1M tokens" in problem


def test_midnight_is_utc() -> None:
    """Dates of the file are UTC days."""
    assert midnight(date(2026, 7, 24)) == datetime.combine(date(2026, 7, 24), time(), UTC)
