"""Price books: versions, windows, engines of one's own."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.money import PICO, Fx, Multiplier, PriceQuote, Rates, Usage, price, rate_from_decimal, usd_text
from service.domain.prices import DAWN, DUSK, Calendar, PriceBook, PriceVersion, SelfHosted, Window

SHANGHAI = timezone(timedelta(hours=8))
RATES = Rates(input=150_000, output=600_000)
PEAK = Window(
    UTC,
    ((time(1), time(4)), (time(6), time(10))),
    frozenset({1, 2, 3, 4, 5}),
    Multiplier(2),
    Calendar("holidays", SHANGHAI, frozenset({date(2026, 10, 1)}), date(2026, 12, 31)),
)


def at(text: str) -> datetime:
    """An instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def version(start: str, end: str | None = None, **more: object) -> PriceVersion:
    """A version from one day to another."""
    return PriceVersion(at(start), RATES, end=None if end is None else at(end), **more)  # type: ignore[arg-type]  # as given


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("2026-11-23 00:59:59", False),
        ("2026-11-23 01:00", True),
        ("2026-11-23 03:59:59.999999", True),
        ("2026-11-23 04:00", False),
        ("2026-11-23 06:00", True),
        ("2026-11-23 10:00", False),
        ("2026-11-21 07:00", False),
        ("2026-10-01 07:00", False),
        ("2026-09-30 07:00", True),
    ],
)
def test_window_edges(when: str, *, holds: bool) -> None:
    """Half-open spans, only on its days, never on a day of its calendar (in the calendar's zone)."""
    assert PEAK.holds(at(when)) is holds


def test_the_zone_of_the_instant_doesn_t_matter() -> None:
    """The same instant, spelt in another zone, has the same price."""
    instant = at("2026-11-23 01:30")
    for zone in (SHANGHAI, ZoneInfo("America/New_York")):
        assert PEAK.holds(instant.astimezone(zone))


def test_a_calendar_has_its_own_zone() -> None:
    """20:00 UTC on September 30 is already October 1 in Shanghai."""
    late = Window(UTC, ((time(20), time(22)),), frozenset(range(1, 8)), Multiplier(2), PEAK.except_on)
    assert not late.holds(at("2026-09-30 20:30"))
    assert late.holds(at("2026-10-01 20:30"))


def test_a_span_past_midnight_belongs_to_its_first_day() -> None:
    """Friday 22:00 to Saturday 02:00 is a Friday window."""
    night = Window(UTC, ((time(22), time(2)),), frozenset({5}), Multiplier(2))
    for text, holds in (
        ("2026-11-20 21:59", False),
        ("2026-11-20 22:00", True),
        ("2026-11-21 01:59", True),
        ("2026-11-21 02:00", False),
        ("2026-11-20 01:00", False),
        ("2026-11-21 22:00", False),
    ):
        assert night.holds(at(text)) is holds, text


def test_a_whole_day() -> None:
    """00:00 to 00:00 is the day, all of it and nothing more."""
    monday = Window(UTC, ((time(0), time(0)),), frozenset({1}), Multiplier(2))
    assert [
        monday.holds(at(text))
        for text in ("2026-11-22 23:59", "2026-11-23 00:00", "2026-11-23 23:59", "2026-11-24 00:00")
    ] == [
        False,
        True,
        True,
        False,
    ]


minutes = st.integers(0, 24 * 60 - 1)


@settings(max_examples=400, deadline=None)
@given(minutes, minutes, st.frozensets(st.integers(1, 7), min_size=1), st.integers(0, 14 * 24 * 60 - 1))
def test_windows_against_minutes_of_the_week(begin: int, end: int, days: frozenset[int], offset: int) -> None:
    """Against a plain count: the span as a set of minutes after each of its first days."""
    window = Window(UTC, ((time(begin // 60, begin % 60), time(end // 60, end % 60)),), days, Multiplier(2))
    instant = at("2026-11-16") + timedelta(minutes=offset)  # a Monday
    length = (end - begin) % 1440 or 1440
    starts = [day * 1440 + begin for day in range(-1, 15) if day % 7 + 1 in days]
    assert window.holds(instant) is any(start <= offset < start + length for start in starts)


def test_the_newest_version_that_began_applies() -> None:
    """Before the first: unknown. Between: the older. From its instant on: the newer."""
    book = PriceBook("p/m", (version("2026-01-01"), version("2026-06-01")))
    assert book.version_at(at("2025-12-31 23:59:59")) is None
    assert book.version_at(at("2026-05-31 23:59:59")) is book.versions[0]
    assert book.version_at(at("2026-06-01")) is book.versions[1]
    assert book.quote(at("2025-12-31")) is None


def test_a_closed_version_ends() -> None:
    """Its end is the first instant without it, also when a later version leaves a gap."""
    book = PriceBook("p/m", (version("2026-01-01", "2026-03-01"), version("2026-06-01", "2026-07-01")))
    known = [book.version_at(at(day)) is not None for day in ("2026-02-28", "2026-03-01", "2026-06-30", "2026-07-01")]
    assert known == [True, False, True, False]


@pytest.mark.parametrize(
    "versions",
    [
        (version("2026-01-01"), version("2026-01-01")),
        (version("2026-06-01"), version("2026-01-01")),
        (version("2026-01-01", "2026-06-02"), version("2026-06-01")),
    ],
)
def test_overlapping_versions_are_refused(versions: tuple[PriceVersion, ...]) -> None:
    """A book can't be built in which two prices hold at once."""
    with pytest.raises(ValueError, match="price versions of p/m overlap"):
        PriceBook("p/m", versions)


def test_a_quote_names_its_version_and_carries_everything() -> None:
    """Version, rates, exchange rate, factor of the hour, tiers."""
    yuan = Fx("CNY", 140_600_000)
    book = PriceBook("p/m", (version("2026-01-01", currency="CNY", windows=(PEAK,)),), {"CNY": yuan})
    quiet, peak = book.quote(at("2026-11-21")), book.quote(at("2026-11-23 07:00"))
    assert quiet is not None
    assert peak is not None
    assert (quiet.version, quiet.rates, quiet.fx, quiet.multiplier.as_text()) == ("p/m@2026-01-01", RATES, yuan, "1")
    assert peak.multiplier.as_text() == "2"


def test_a_price_without_figures_is_unknown() -> None:
    """`None` is no quote, in either direction."""
    for own in (Rates(), Rates(input=1), Rates(output=1)):
        assert PriceBook("p/m", (PriceVersion(at("2026-01-01"), own),)).quote(at("2026-11-21")) is None
    assert PriceBook("p/m").quote(at("2026-11-21")) is None


def test_the_worked_example_of_an_own_engine() -> None:
    """8 GPUs at 3.49 USD: 670.08 USD and 285,120,000 tokens a day, 2.350168 USD per million at full load.

    At 2.80 USD per million: 798.336 USD of revenue, 128.256 of profit, 16.07 % margin, break-even at 83.93 % load.
    """
    engine = SelfHosted(8, 3_490_000_000_000, 3_000, 300)
    day_pusd = engine.gpus * engine.pusd_per_gpu_hour * 24
    tokens = (engine.input_tokens_per_s + engine.output_tokens_per_s) * 86_400
    assert usd_text(day_pusd) == "670.08"
    assert tokens == 285_120_000
    assert engine.pusd_per_token == 2_350_168
    assert usd_text(engine.pusd_per_token * 1_000_000) == "2.350168"
    listed = rate_from_decimal(Decimal("2.80"))
    revenue = price(Usage(input=tokens), PriceQuote("list", Rates(input=listed, output=listed))).pusd
    assert revenue is not None
    assert usd_text(revenue) == "798.336"
    assert usd_text(revenue - day_pusd) == "128.256"
    assert round(Fraction(revenue - day_pusd, revenue) * 10_000) == 1607
    assert round(Fraction(day_pusd, revenue) * 10_000) == 8393


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 1_000),
    st.integers(0, 100 * PICO),
    st.integers(0, 1_000_000),
    st.integers(1, 1_000_000),
    st.integers(1, 1_000_000),
)
def test_engine_price_against_fractions(gpus: int, hour: int, fast: int, slow: int, load: int) -> None:
    """Cost of an hour over the tokens of an hour at this load, rounded once, half to even; input and output alike."""
    engine = SelfHosted(gpus, hour, fast, slow, load)
    exact = Fraction(gpus * hour) / (Fraction(load, 1_000_000) * (fast + slow) * 3_600)
    assert engine.pusd_per_token == round(exact)
    quote = PriceBook("p/m", self_hosted=engine).quote(at("2026-11-21"))
    assert quote is not None
    assert quote.rates.input == quote.rates.output == round(exact)
    assert quote.version == "p/m@self_hosted"


def test_quotes_are_made_once() -> None:
    """Outside every window the same quote comes back; in a window it is the same but for its factor."""
    book = PriceBook("p/m", (version("2026-01-01", windows=(PEAK,)),))
    quiet, again, peak = (book.quote(at(day)) for day in ("2026-11-21", "2026-11-22", "2026-11-23 07:00"))
    assert quiet is again
    assert peak == replace(quiet, multiplier=Multiplier(2))
    assert PriceBook("p/m", (version("2026-01-01", currency="CNY"),)).quote(at("2026-11-21")) is None


def test_a_book_that_is_copied_has_quotes_of_its_own() -> None:
    """Nothing that was made for the one is left in the other."""
    book = PriceBook("p/m", (version("2026-01-01"),))
    other = replace(book, deployment="q/m", versions=(version("2026-02-01"),))
    assert other.quote(at("2026-01-15")) is None
    found = other.quote(at("2026-11-21"))
    assert found is not None
    assert found.version == "q/m@2026-02-01"


PEAKS = (
    Window(UTC, ((time(1), time(4)),), frozenset({1, 2, 3, 4, 5}), Multiplier(2)),
    Window(
        ZoneInfo("Asia/Shanghai"),
        ((time(22, 30), time(6, 15)),),
        frozenset({5, 6, 7}),
        Multiplier(1, 2),
        Calendar("days", ZoneInfo("America/New_York"), frozenset({date(2026, 3, 8)}), date(2027, 1, 1)),
    ),
    Window(ZoneInfo("Europe/Berlin"), ((time(2), time(3)),), frozenset(range(1, 8)), Multiplier(3)),
    Window(UTC, ((time(5, 0, 7), time(5, 0, 9)),), frozenset(range(1, 8)), Multiplier(5)),
    Window(timezone(timedelta(seconds=17)), ((time(5), time(6)),), frozenset(range(1, 8)), Multiplier(5)),
)
BOOKS = st.builds(
    lambda windows, end, later: PriceBook(
        "d",
        (
            version("2026-03-01", end, windows=tuple(windows)),
            *([version("2026-04-01T12:00")] if later else []),
        ),
    ),
    st.lists(st.sampled_from(PEAKS), max_size=3),
    st.sampled_from([None, "2026-03-20"]),
    st.booleans(),
)
INSTANTS = st.datetimes(datetime(2026, 2, 27), datetime(2026, 4, 3), timezones=st.just(UTC))  # noqa: DTZ001 # hypothesis wants naive bounds


@settings(max_examples=400)
@given(
    book=BOOKS, when=INSTANTS | st.sampled_from([at("2026-03-29T01:00"), at("2026-03-08T05:00")]), part=st.floats(0, 1)
)
def test_a_price_holds_for_the_span_that_it_names(book: PriceBook, when: datetime, part: float) -> None:
    """At its first instant, at its last one and at any between: also across windows, zones and changes of the clock."""
    since, until = book.steady(when)
    assert since <= when < until
    first, last = max(since, when - timedelta(days=40)), min(until, when + timedelta(days=40))
    for instant in (first, first + (last - first) * part, last - timedelta(microseconds=1)):
        if since <= instant < until:
            assert book.quote(instant) == book.quote(when)


def test_a_span_is_as_long_as_nothing_changes() -> None:
    """An engine's own price for ever, a version from its start to the next one's, windows by the minute."""
    engine = PriceBook("d", self_hosted=SelfHosted(1, PICO, 10, 10))
    assert engine.steady(at("2026-03-05")) == (DAWN, DUSK)
    book = PriceBook("d", (version("2026-03-01", "2026-03-20"), version("2026-04-01")))
    days = ["2026-02-01", "2026-03-01", "2026-03-25", "2026-04-01"]
    edges = [DAWN, *(at(day) for day in ("2026-03-01", "2026-03-20", "2026-04-01")), DUSK]
    assert [book.steady(at(day)) for day in days] == list(itertools.pairwise(edges))
    when = datetime(2026, 3, 5, 12, 30, 15, 9, tzinfo=UTC)
    minute = (at("2026-03-05T12:30"), at("2026-03-05T12:31"))
    instant = (when, when + timedelta(microseconds=1))
    for window, span in zip(PEAKS, (minute, minute, minute, instant, instant), strict=True):
        assert PriceBook("d", (version("2026-03-01", windows=(window,)),)).steady(when) == span
    odd = replace(PEAKS[1], except_on=replace(PEAKS[1].except_on, zone=timezone(timedelta(seconds=59))))
    assert PriceBook("d", (version("2026-03-01", windows=(odd,)),)).steady(when) == instant
