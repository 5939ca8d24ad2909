"""Price books: which price applied to a deployment at an instant. Dated, windowed, tiered, self-hosted; pure.

Where on the path: `routing.estimate` and `pipeline` ask a book for a quote at dispatch; `money.price` does the sums.

Invariants
1. The newest version whose `start` is not after the instant applies, unless its `end` has passed.
2. Versions of a book never overlap: the loader refuses it, `PriceBook` asserts it.
3. A window is checked in its own time zone; a day that its calendar names is never inside it.
4. A multiplying window scales the whole price; when windows overlap, the loader refuses them.
5. Within the span that `steady` names, `quote` gives the same at every instant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

from service.domain.fingerprint import fingerprint
from service.domain.money import ONE, Fx, Multiplier, PriceQuote, Rates, Tier, divide_half_even

DAWN: Final = datetime.min.replace(tzinfo=UTC)
DUSK: Final = datetime.max.replace(tzinfo=UTC)
"""The ends of a span that has none."""

_MINUTE: Final = timedelta(minutes=1)
_INSTANT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Days (in `zone`) on which a window does not apply, and the last day the list speaks about."""

    name: str
    zone: tzinfo
    days: frozenset[date]
    until: date


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of the week in which the price is multiplied.

    `spans` are half-open [from, to) local times; a span whose end is not after its start runs past midnight and belongs
    to the day on which it starts. `weekdays` are ISO numbers, Monday 1.
    """

    zone: tzinfo
    spans: tuple[tuple[time, time], ...]
    weekdays: frozenset[int]
    multiplier: Multiplier
    except_on: Calendar | None = None

    def holds(self, at: datetime) -> bool:
        """Whether an aware instant lies in this window."""
        local = at.astimezone(self.zone)
        clock = local.time().replace(tzinfo=None)
        for start, end in self.spans:
            if start < end:
                if start <= clock < end and self._on(local.date(), at):
                    return True
            elif clock >= start:
                if self._on(local.date(), at):
                    return True
            elif clock < end and self._on(local.date() - timedelta(days=1), at - timedelta(days=1)):
                return True
        return False

    def by_the_minute(self, at: datetime) -> bool:
        """Whether `holds` gives the same all through the minute (of UTC) around an aware instant.

        Spans begin and end on whole minutes, and the clocks of the zones run whole minutes off UTC; that they are only
        ever changed at whole minutes goes for every zone since 1972.
        """
        zones = (self.zone,) if self.except_on is None else (self.zone, self.except_on.zone)
        return not any(one.second or one.microsecond for span in self.spans for one in span) and not any(
            (at.astimezone(zone).utcoffset() or _MINUTE) % _MINUTE for zone in zones
        )

    def _on(self, day: date, at: datetime) -> bool:
        if day.isoweekday() not in self.weekdays:
            return False
        return self.except_on is None or at.astimezone(self.except_on.zone).date() not in self.except_on.days


@dataclass(frozen=True, slots=True)
class PriceVersion:
    """One line of a price history. `start` and `end` are aware instants; `end` is exclusive, `None` means open.

    `multiplier` is what the vendor asks more where it processes, on every price.
    """

    start: datetime
    rates: Rates
    currency: str = "USD"
    tiers: tuple[Tier, ...] = ()
    windows: tuple[Window, ...] = ()
    service_tiers: Mapping[str, Multiplier] = field(default_factory=dict)
    end: datetime | None = None
    source: str = ""
    checked: date | None = None
    multiplier: Multiplier = ONE


_NOT_PRICED: Final = frozenset({"start", "end", "source", "checked"})
"""Fields of a version that change no price."""

_NO_PRICE_OF_ENGINE: Final = frozenset({"concurrency"})
"""The same of an engine."""


@dataclass(frozen=True, slots=True)
class SelfHosted:
    """An engine of one's own: what it costs to keep, and how much it can do at full load (tokens per second).

    `concurrency` is how many requests it answers at once at that load; it changes who is chosen, and no price.
    """

    gpus: int
    pusd_per_gpu_hour: int
    input_tokens_per_s: int
    output_tokens_per_s: int
    utilization_ppm: int = 1_000_000
    concurrency: int | None = None

    @property
    def pusd_per_token(self) -> int:
        """The amortised price of any token, input or output: an hour's cost over an hour's tokens at this load."""
        tokens_per_hour = (self.input_tokens_per_s + self.output_tokens_per_s) * 3600
        return divide_half_even(self.gpus * self.pusd_per_gpu_hour * 1_000_000, tokens_per_hour * self.utilization_ppm)


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Every known price of one deployment, oldest first. An empty book is an unknown price."""

    deployment: str
    versions: tuple[PriceVersion, ...] = ()
    fx: Mapping[str, Fx] = field(default_factory=dict)
    self_hosted: SelfHosted | None = None
    _own: PriceQuote | None = field(init=False, repr=False, compare=False)
    _listed: Mapping[datetime, PriceQuote] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Hold invariant 2 for books that were not made by the loader, and make the quotes that no window changes."""
        quotes = ((one.start, self._quote_of(one)) for one in self.versions)
        object.__setattr__(self, "_own", self._quote_of_engine())
        object.__setattr__(self, "_listed", {start: quote for start, quote in quotes if quote is not None})
        for earlier, later in zip(self.versions, self.versions[1:], strict=False):
            if earlier.start >= later.start or (earlier.end is not None and earlier.end > later.start):
                raise ValueError(f"price versions of {self.deployment} overlap at {later.start.isoformat()}")

    def version_at(self, at: datetime) -> PriceVersion | None:
        """The version that applies at an aware instant, or `None` before the first and after a closed last one."""
        for version in reversed(self.versions):
            if version.start <= at:
                return version if version.end is None or at < version.end else None
        return None

    def quote(self, at: datetime) -> PriceQuote | None:
        """The price at an aware instant, or `None` when nobody knows it."""
        if self._own is not None:
            return self._own
        version = self.version_at(at)
        if version is None:
            return None
        listed = self._listed.get(version.start)
        if listed is None or not version.windows:
            return listed
        multiplier = listed.multiplier
        for window in version.windows:
            if window.holds(at):
                multiplier = multiplier.times(window.multiplier)
        return listed if multiplier is listed.multiplier else replace(listed, multiplier=multiplier)

    def steady(self, at: datetime) -> tuple[datetime, datetime]:
        """The span [from, until) around an aware instant in which `quote` gives what it gives then.

        Open ends are `DAWN` and `DUSK`. It may be shorter than it could be: where a version has windows it is a minute.
        """
        if self._own is not None:
            return DAWN, DUSK
        until = DUSK
        for version in reversed(self.versions):
            if version.start <= at:
                break
            until = version.start
        else:
            return DAWN, until
        if version.end is not None and at >= version.end:
            return version.end, until
        since, until = version.start, until if version.end is None else min(until, version.end)
        if not version.windows:
            return since, until
        if not all(window.by_the_minute(at) for window in version.windows):
            return at, at + _INSTANT
        minute = at.astimezone(UTC).replace(second=0, microsecond=0)
        return max(since, minute), min(until, minute + _MINUTE)

    def _quote_of_engine(self) -> PriceQuote | None:
        """The price of an engine of one's own: the same at every instant."""
        if self.self_hosted is None:
            return None
        rate = self.self_hosted.pusd_per_token
        version, digest = f"{self.deployment}@self_hosted", fingerprint(self.self_hosted, _NO_PRICE_OF_ENGINE)
        return PriceQuote(version=version, rates=Rates(input=rate, output=rate), digest=digest)

    def _quote_of(self, version: PriceVersion) -> PriceQuote | None:
        """What a version says outside its windows, `None` when a side has no price or its currency no rate."""
        fx = self.fx.get(version.currency, Fx() if version.currency == "USD" else None)
        if fx is None or version.rates.input is None or version.rates.output is None:
            return None
        return PriceQuote(
            version=f"{self.deployment}@{version.start.date().isoformat()}",
            rates=version.rates,
            fx=fx,
            tiers=version.tiers,
            service_tiers=version.service_tiers,
            multiplier=version.multiplier,
            digest=fingerprint(version, _NOT_PRICED),
        )
