"""Prices of the file -> `domain.prices`: dates, tiers, windows with zones and calendars, exchange rates, own engines.

Where on the path: `build` asks for the book of every deployment; what is wrong with a price is found here.

Invariants
1. Decimals become integers exactly; nothing is rounded before `domain.money.price` does.
2. What a tier leaves unstated is never cheaper than either the base price or the tier's own input or output price.
3. No price is above `MAX_USD_PER_MILLION` after conversion: beyond it someone wrote the price of something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from service.catalog.draft import DeploymentDraft, Located
from service.catalog.price_schema import PriceEntry, RateFields, SelfHostedEntry, WindowEntry
from service.catalog.problems import Path, Problems, unknown
from service.catalog.schema import CalendarEntry
from service.catalog.words import WEEKDAYS
from service.domain.money import (
    FX_SCALE,
    ONE,
    PICO,
    PICO_PER_TOKEN,
    Fx,
    Multiplier,
    Rates,
    Tier,
    pusd_from_usd,
    rate_from_decimal,
)
from service.domain.prices import Calendar, PriceBook, PriceVersion, SelfHosted, Window

MAX_USD_PER_MILLION = 1_000
"""USD per 1M tokens: several times the dearest list price there is."""

MAX_USD_PER_REQUEST = 100
"""USD for one request beside its tokens."""

OVERLAP_DAYS = 370
"""Days over which windows are compared: a year with both of its clock changes."""

_BUCKETS = {
    "input": "input",
    "output": "output",
    "cache_read": "cache_read",
    "cache_write": "cache_write_5m",
    "cache_write_1h": "cache_write_1h",
    "reasoning": "reasoning",
    "audio_in": "audio_in",
    "audio_out": "audio_out",
    "image": "image",
}
"""Price fields of the file and the usage buckets that they price."""


@dataclass(frozen=True, slots=True)
class Pricing:
    """What the prices of a file share: exchange rates by currency and calendars by name.

    `fx` is `None` when the file's rates are wrong themselves: then no price is blamed for lacking one. `regions` maps
    providers that pay for processing in a region to its name.
    """

    fx: Mapping[str, Fx] | None
    calendars: Mapping[str, Calendar]
    regions: Mapping[str, str] = field(default_factory=dict)


def book_of(deployment: str, draft: DeploymentDraft, pricing: Pricing, problems: Problems) -> PriceBook:
    """The price book of a deployment; an empty one is an unknown price. Problems go to `problems`."""
    if draft.entry is not None and draft.entry.self_hosted is not None:
        path = (*draft.path, "self_hosted")
        if draft.prices is not None:
            problems.at(path, "both prices and self_hosted; an engine of one's own has no list price")
        return PriceBook(deployment, self_hosted=_engine(path, draft.entry.self_hosted, problems))
    listed = draft.prices or ()
    region = pricing.regions.get(draft.provider)
    versions = [made for price in listed if (made := _version(price, pricing, region, problems)) is not None]
    if not _in_order(listed, problems) or len(versions) != len(listed):
        return PriceBook(deployment)
    versions.sort(key=lambda version: version.start)
    used = {version.currency for version in versions}
    return PriceBook(deployment, tuple(versions), {name: fx for name, fx in (pricing.fx or {}).items() if name in used})


def calendar_of(name: str, found: Located[CalendarEntry], problems: Problems) -> Calendar | None:
    """A calendar of the file, or `None` with a problem."""
    entry = found.entry
    zone = zone_of(entry.zone, (*found.path, "zone"), problems)
    for index, day in enumerate(entry.days):
        if day > entry.until:
            problems.at((*found.path, "days", index), f"{day} is after until ({entry.until}); move until, or the day")
    return None if zone is None else Calendar(name, zone, frozenset(entry.days), entry.until)


def zone_of(name: str, path: Path, problems: Problems) -> tzinfo | None:
    """A time zone by its IANA name, or `None` with a problem."""
    if name.upper() in {"UTC", "Z"}:
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # no such zone; a path outside the database; a folder of it ("America")
        problems.at(path, unknown("time zone", name, available_timezones()))
        return None


def midnight(day: date) -> datetime:
    """The instant at which a day begins in UTC: dates of the file are UTC days."""
    return datetime.combine(day, time(), UTC)


def _in_order(listed: Sequence[Located[PriceEntry]], problems: Problems) -> bool:
    """Whether the dates of a history don't overlap; the order of lines doesn't matter."""
    good = True
    for price in listed:
        if price.entry.until is not None and price.entry.until <= price.entry.from_day:
            problems.at((*price.path, "until"), f"until must be after from ({price.entry.from_day})")
            good = False
    by_day = sorted(listed, key=lambda price: price.entry.from_day)
    for earlier, later in pairwise(by_day):
        begin, end = later.entry.from_day, earlier.entry.until
        if earlier.entry.from_day == begin:
            line = problems.line_of((*earlier.path, "from"))
            problems.at((*later.path, "from"), f"overlapping dates: another price begins on {begin}, on line {line}")
            good = False
        elif end is not None and end > begin:
            message = f"overlapping dates: the next price begins on {begin}; end this one by then"
            problems.at((*earlier.path, "until"), message)
            good = False
    return good


def _version(
    price: Located[PriceEntry], pricing: Pricing, region: str | None, problems: Problems
) -> PriceVersion | None:
    entry, path = price.entry, price.path
    fx = Fx(entry.currency, 0) if pricing.fx is None else pricing.fx.get(entry.currency)
    if fx is None:
        problems.at(
            (*path, "currency"),
            f"no exchange rate for {entry.currency}; add it to currency.rates, in USD per {entry.currency}",
        )
        return None
    _not_absurd(path, entry, fx, problems)
    if (entry.input is None) != (entry.output is None):
        missing = "input" if entry.input is None else "output"
        message = f"{missing} is missing; write both prices, or leave both out while they are unknown (0 is free)"
        problems.at(path, message)
    if entry.input is None and (entry.tiers or entry.windows):
        problems.at(path, "tiers or windows on an unknown price; write input and output")
    base = _rates(entry, entry.request)
    tiers = []
    bound = 0
    for index, tier in enumerate(entry.tiers):
        where = (*path, "tiers", index)
        _not_absurd(where, tier, fx, problems)
        if tier.above_input_tokens <= bound:
            problems.at((*where, "above_input_tokens"), f"tiers must ascend, and {bound} came before")
        bound = tier.above_input_tokens
        tiers.append(Tier(tier.above_input_tokens, _at_least(base, _rates(tier, entry.request))))
    windows = _windows(path, entry, pricing, problems)
    return PriceVersion(
        start=midnight(entry.from_day),
        rates=base,
        currency=entry.currency,
        tiers=tuple(tiers),
        windows=tuple(windows),
        service_tiers={name: Multiplier.of(factor) for name, factor in entry.service_tiers.items()},
        end=None if entry.until is None else midnight(entry.until),
        source=entry.source or "",
        checked=entry.checked,
        multiplier=_uplift(entry, region, path, problems),
    )


def _uplift(entry: PriceEntry, region: str | None, path: Path, problems: Problems) -> Multiplier:
    """What processing in a region costs more. A price that says nothing of it is a problem: it may be dearer."""
    if region is None or entry.input is None:
        return ONE
    factor = entry.regions.get(region)
    if factor is None:
        problems.at(path, f"no price for the provider's price_region {region}; add regions: {{{region}: 1.1}} or such")
        return ONE
    return Multiplier.of(factor)


def _rates(entry: RateFields, request: Decimal | None) -> Rates:
    """The stated rates as integers. `request` is in currency units."""
    stated: dict[str, int] = {}
    for name, bucket in _BUCKETS.items():
        value: Decimal | None = getattr(entry, name)
        if value is not None:
            stated[bucket] = rate_from_decimal(value)
    return Rates(**stated, requests=0 if request is None else int(request * PICO))


def _at_least(base: Rates, tier: Rates) -> Rates:
    """The rates of a tier; what it leaves unstated costs the dearer of the base's price and its own fall-back.

    A larger request is never cheaper by omission; where the fall-back is dearer anyway, nothing needs filling.
    """
    filled = tier
    for bucket in _BUCKETS.values():  # writes for five minutes before those for longer, which fall back on them
        stated: int | None = getattr(base, bucket)
        fallback = filled.rate(bucket)
        if getattr(tier, bucket) is None and stated is not None and (fallback is None or stated > fallback):
            known: dict[str, Any] = {bucket: stated}
            filled = replace(filled, **known)
    return filled


def _not_absurd(path: Path, entry: RateFields, fx: Fx, problems: Problems) -> None:
    for name in _BUCKETS:
        value: Decimal | None = getattr(entry, name)
        if value is not None and value * fx.nano_usd > MAX_USD_PER_MILLION * FX_SCALE:
            problems.at(
                (*path, name),
                f"{value} {fx.currency} is above {MAX_USD_PER_MILLION} USD per 1M tokens; check the unit",
            )
    request: Decimal | None = getattr(entry, "request", None)
    if request is not None and request * fx.nano_usd > MAX_USD_PER_REQUEST * FX_SCALE:
        problems.at((*path, "request"), f"{request} {fx.currency} is above {MAX_USD_PER_REQUEST} USD for one request")


def _engine(path: Path, entry: SelfHostedEntry, problems: Problems) -> SelfHosted | None:
    if entry.input_tokens_per_s + entry.output_tokens_per_s == 0:
        problems.at(path, "the engine has no throughput; measure input_tokens_per_s and output_tokens_per_s")
        return None
    share = Decimal(1) if entry.utilization is None else entry.utilization
    engine = SelfHosted(
        gpus=entry.gpus,
        pusd_per_gpu_hour=pusd_from_usd(entry.usd_per_gpu_hour),
        input_tokens_per_s=entry.input_tokens_per_s,
        output_tokens_per_s=entry.output_tokens_per_s,
        utilization_ppm=int(share * 1_000_000),
        concurrency=entry.concurrency,
    )
    if engine.pusd_per_token > MAX_USD_PER_MILLION * PICO_PER_TOKEN:
        problems.at(path, f"comes to more than {MAX_USD_PER_MILLION} USD per 1M tokens; check its speed and price")
    return engine


def _windows(path: Path, entry: PriceEntry, pricing: Pricing, problems: Problems) -> list[Window]:
    """The windows of a price that are good by themselves; overlaps are reported."""
    made: list[tuple[Path, Window]] = []
    for index, raw in enumerate(entry.windows):
        where = (*path, "windows", index)
        window = _window(where, raw, pricing, problems)
        if window is not None:
            made.append((where, window))
    _no_overlap(made, entry.from_day, problems)
    return [window for _, window in made]


def _window(path: Path, entry: WindowEntry, pricing: Pricing, problems: Problems) -> Window | None:
    zone: tzinfo | None = UTC
    if (entry.utc is None) == (entry.hours is None):
        both = "both utc and hours" if entry.utc is not None else "a window without hours"
        problems.at(path, f"{both}; write utc: [...], or hours: [...] with zone: Area/City")
        return None
    if entry.hours is not None:
        if entry.zone is None:
            problems.at(path, "a window without a zone; add zone: Area/City, or write the hours as utc: [...]")
            return None
        zone = zone_of(entry.zone, (*path, "zone"), problems)
    elif entry.zone is not None:
        problems.at((*path, "zone"), "utc already says the zone; write hours: [...] to use another one")
        return None
    calendar = None
    if entry.except_on is not None:
        calendar = pricing.calendars.get(entry.except_on)
        if calendar is None:
            problems.at((*path, "except"), unknown("calendar", entry.except_on, pricing.calendars))
    field_name = "utc" if entry.hours is None else "hours"
    texts = entry.utc or entry.hours or []
    spans = [_span((*path, field_name, index), text, problems) for index, text in enumerate(texts)]
    if not spans:
        problems.at((*path, field_name), "no spans of hours; write at least one, such as 01:00-04:00")
    good = tuple(span for span in spans if span is not None)
    if zone is None or len(good) != len(spans) or not good or (entry.except_on is not None and calendar is None):
        return None
    days = _weekdays(entry.days)
    return Window(zone, good, days, Multiplier.of(entry.multiply), calendar)


def _span(path: Path, text: str, problems: Problems) -> tuple[time, time] | None:
    """`HH:MM-HH:MM` as two times; 24:00 is the midnight at which the day ends."""
    first, _, last = text.partition("-")
    begin = time.fromisoformat(first)
    end = time() if last == "24:00" else time.fromisoformat(last)
    if begin == end and last != "24:00":
        problems.at(path, f"the span {text} is empty; a whole day is 00:00-24:00")
        return None
    return begin, end


def _weekdays(ranges: Sequence[str] | None) -> frozenset[int]:
    """ISO numbers of the days; a range may pass Sunday."""
    if ranges is None:
        return frozenset(WEEKDAYS.values())
    chosen: set[int] = set()
    for text in ranges:
        first, _, last = text.partition("-")
        begin, end = WEEKDAYS[first], WEEKDAYS[last or first]
        length = (end - begin) % 7 + 1
        chosen.update((begin - 1 + step) % 7 + 1 for step in range(length))
    return frozenset(chosen)


def _no_overlap(windows: Sequence[tuple[Path, Window]], start: date, problems: Problems) -> None:
    """Report two spans that hold at the same instant: which of their factors counts would be anybody's guess.

    Two unions of half-open spans meet exactly when one of them begins inside the other, so the beginnings of a year
    are all that need a look, in whatever zones and with whatever calendars.
    """
    single = [(path, replace(window, spans=(span,))) for path, window in windows for span in window.spans]
    for index, (path, window) in enumerate(single):
        for other_path, other in single[:index]:
            instant = _common_instant(window, other, start)
            if instant is None:
                continue
            where = "spans of one window" if path == other_path else f"window on line {problems.line_of(other_path)}"
            problems.at(path, f"overlapping windows ({where}): both hold at {instant:%a %H:%M} UTC; cut one of them")
            return


def _common_instant(one: Window, other: Window, start: date) -> datetime | None:
    """An instant at which both hold, within `OVERLAP_DAYS` of `start`, or `None`."""
    for offset in range(OVERLAP_DAYS):
        day = start + timedelta(days=offset)
        for first, second in ((one, other), (other, one)):
            for begin, _ in first.spans:
                instant = datetime.combine(day, begin, first.zone).astimezone(UTC)
                if first.holds(instant) and second.holds(instant):
                    return instant
    return None
