"""What it cost, and what it saved: one question for the command line, the admin API and the console.

Where on the path: beside it; asks a sink.

Invariants
1. Money is added up in integers and shown as exact decimals: no figure here was ever a float.
2. `saved` is signed and never clipped. It is known only where a baseline is, and it is net of every attempt of the
   compared requests and of crashed attempts.
3. A request stands in the group of each of its attempts; in the total it counts once.
4. Simulated attempts are reported like others, and every report that holds one says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from service.domain.money import usd_text
from service.domain.rivals import BASELINE, CHEAPEST, RANDOM, STRONGEST, interval
from service.ledger.sinks.port import BASELINES, CostSums, Sink

DEFAULT_GROUPING = ("model",)

SHARE_DIGITS = 6
"""Decimals of a share: a millionth is finer than any journal is long."""


@dataclass(frozen=True, slots=True)
class Saving:
    """Requests that are compared with one baseline: what they cost, what they would have cost; pico-USD.

    `assumed_pusd` is what of the latter is for answers whose length was assumed, `None` where some row does not say.
    """

    requests: int
    cost_pusd: int
    would_pusd: int
    assumed_pusd: int | None

    @property
    def saved_pusd(self) -> int:
        """Signed."""
        return self.would_pusd - self.cost_pusd

    @property
    def saved_between(self) -> tuple[int | None, int | None]:
        """(least, most) that was saved, by how long the answers could have been; `None` is unknown."""
        if self.assumed_pusd is None:
            return None, None
        low, high = interval(self.would_pusd, self.assumed_pusd)
        return low - self.cost_pusd, high - self.cost_pusd


@dataclass(frozen=True, slots=True)
class CostRow:
    """One line of a report. Money in pico-USD; `baseline_pusd` and `saved_pusd` are `None` when no baseline is known.

    `keys` maps each grouping to its value; `None` is an attempt without it (no key, no tag). `estimated_share` in
    [0, 1] is the share of billable attempts whose usage is not the provider's own number. `savings` has each baseline
    that some request is compared with, by name, in a report on savings.
    """

    keys: Mapping[str, str | bool | None]
    requests: int
    attempts: int
    tokens: Mapping[str, int]
    cost_pusd: int
    baseline_pusd: int | None
    saved_pusd: int | None
    estimated_share: float
    unpriced_attempts: int
    open_attempts: int
    simulated_attempts: int
    savings: Mapping[str, Saving] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """The row as every format shows it: tokens by bucket, money as exact decimal strings in USD."""
        return {
            **self.keys,
            "requests": self.requests,
            "attempts": self.attempts,
            **self.tokens,
            "cost_usd": usd_text(self.cost_pusd),
            "baseline_cost_usd": None if self.baseline_pusd is None else usd_text(self.baseline_pusd),
            "saved_usd": None if self.saved_pusd is None else usd_text(self.saved_pusd),
            "estimated_share": self.estimated_share,
            "unpriced_attempts": self.unpriced_attempts,
            "open_attempts": self.open_attempts,
            "simulated_attempts": self.simulated_attempts,
        }


@dataclass(frozen=True, slots=True)
class CostReport:
    """Rows by group, the total over all attempts (with empty `keys`), and what a reader should know about them.

    `since` and `until` are the bounds that were asked for.
    """

    by: tuple[str, ...]
    rows: tuple[CostRow, ...]
    total: CostRow | None
    notes: tuple[str, ...]
    since: datetime | None = None
    until: datetime | None = None


def costs(
    sink: Sink, by: Sequence[str] = DEFAULT_GROUPING, since: datetime | None = None, until: datetime | None = None
) -> list[CostRow]:
    """The rows of `cost_report`."""
    return list(cost_report(sink, by, since, until).rows)


def cost_report(
    sink: Sink,
    by: Sequence[str] = DEFAULT_GROUPING,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    savings: bool = False,
) -> CostReport:
    """Attempts dispatched in [since, until) (aware instants), added up by group; `savings`: with every baseline.

    Rows are by day when grouped by day, else the dearest first. No attempt at all: no rows and no total. Raises
    ValueError for an unknown grouping or an instant without a zone, SinkMissing when nothing was ever indexed.
    """
    grouping = tuple(dict.fromkeys(by))
    since_ms, until_ms = _unix_ms(since), _unix_ms(until)
    compared = len(BASELINES) if savings else 1
    totals = sink.sums((), since_ms, until_ms, compared)
    if not totals:
        return CostReport(grouping, (), None, (), since, until)
    comparable = totals[0].configured.requests > 0
    total = _row((), totals[0], comparable=comparable)
    rows = [_row(grouping, sums, comparable=comparable) for sums in sink.sums(grouping, since_ms, until_ms, compared)]
    overlapping = sum(row.attempts for row in rows) > total.attempts
    if "day" in grouping:
        rows.sort(key=_by_keys)
    else:
        rows.sort(key=lambda row: (-row.cost_pusd, _by_keys(row)))
    return CostReport(grouping, tuple(rows), total, _notes(total, overlapping=overlapping), since, until)


def _row(by: Sequence[str], sums: CostSums, *, comparable: bool) -> CostRow:
    keys: dict[str, str | bool | None] = dict(zip(by, sums.keys, strict=True))
    if "simulated" in keys:
        keys["simulated"] = keys["simulated"] == "true"
    share = sums.guessed_attempts / sums.billable_attempts if sums.billable_attempts else 0.0
    return CostRow(
        keys=keys,
        requests=sums.requests,
        attempts=sums.attempts,
        tokens=sums.tokens,
        cost_pusd=sums.cost_pusd,
        baseline_pusd=sums.configured.baseline_pusd if comparable else None,
        saved_pusd=sums.configured.baseline_pusd - sums.configured.cost_pusd if comparable else None,
        estimated_share=round(share, SHARE_DIGITS),
        unpriced_attempts=sums.unpriced_attempts,
        open_attempts=sums.open_attempts,
        simulated_attempts=sums.simulated_attempts,
        savings=_savings(sums),
    )


def _savings(sums: CostSums) -> dict[str, Saving]:
    """What each baseline comes to that is known of some request."""
    found: dict[str, Saving] = {}
    if len(sums.baselines) < len(BASELINES):
        return found  # nobody asked
    for name in (BASELINE, STRONGEST, CHEAPEST, RANDOM):
        one, assumed = sums.baselines[name], sums.baselines[f"{name}_assumed"]
        if one.requests:
            told = assumed.baseline_pusd if assumed.requests == one.requests else None
            found[name] = Saving(one.requests, one.cost_pusd, one.baseline_pusd, told)
    return found


def _by_keys(row: CostRow) -> tuple[tuple[bool, str], ...]:
    return tuple((value is None, str(value)) for value in row.keys.values())


def _notes(total: CostRow, *, overlapping: bool) -> tuple[str, ...]:
    notes = []
    if total.simulated_attempts:
        simulated = f"{total.simulated_attempts} of {total.attempts} attempts are simulated"
        notes.append(f"{simulated}: no real money was spent on them.")
    if total.unpriced_attempts:
        notes.append(f"{total.unpriced_attempts} attempts have no known price: their cost is missing from every sum.")
    if total.estimated_share:
        notes.append(f"{total.estimated_share:.1%} of the billable attempts are booked on estimated usage.")
    if total.open_attempts:
        notes.append(f"{total.open_attempts} attempts are still running: they have no cost yet.")
    if overlapping:
        notes.append("An attempt with several tags stands in the row of each; the total counts it once.")
    return tuple(notes)


def _unix_ms(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError("a report's bounds need a time zone; give UTC")
    return round(moment.timestamp() * 1000)
