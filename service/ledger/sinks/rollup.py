"""The rollups of a sink: what they hold, what the attempts of a request add to them, how a range is put together. Pure.

Where on the path: below the sinks that keep rollups, each in tables of its own.

A rollup is attempts added up by hour and by everything that costs are grouped by. What an attempt adds depends on the
others of its request: which of them has the baseline that counts, whether all are priced, which stands for the request.

A request is rolled up when it is regular: every attempt has ended, all in the same hour and alike in all dimensions but
model and provider. How many requests a group has is then a sum, too: its first attempt counts where neither of the two
is asked for, the first at each model where the model is, and so on. All other attempts are left out and read one by one
when somebody asks: those that run or are not regular stand apart, and a sink may let the newest wait.

Invariants
1. The rollups are the sum over all attempts that are not left out; `coe ledger verify` checks it.
2. All attempts of a request are left out, or none.
3. Coarser levels hold periods that are over; what comes late for those is written to each level.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import add
from typing import Any, Final, NamedTuple

from service.ledger.sinks.port import BASELINES, TOKEN_COLUMNS, Compared, CostSums

HOUR_MS: Final = 3_600_000
DAY_HOURS: Final = 24


class Level(NamedTuple):
    """A table of sums over periods of so many hours, counted from the epoch."""

    table: str
    hours: int


LEVELS: Final = (
    Level("rollup_hours", 1),
    Level("rollup_days", 24),
    Level("rollup_octets", 192),
    Level("rollup_blocks", 768),
)
"""From fine to coarse; each is made of the one before it. An octet is 8 days, a block 32: a ledger of years has a few
dozen of these, and a report on a month has no month of days to read."""

DIMENSIONS: Final = (
    "model",
    "provider",
    "intent",
    "language",
    "key_id",
    "tags",
    "policy",
    "requested_model",
    "plan",
    "simulated",
)
"""What else a row of a rollup is about; the set of them has a number in `dimensions`."""

FIRSTS: Final = ("requests", "requests_by_model", "requests_by_provider", "requests_by_both")
"""Attempts that are the first of their request: at all, at their model, at their provider, at both."""

COUNTS: Final = (
    *("attempts", *FIRSTS, "simulated_attempts", "billable", "guessed", "unpriced"),
    *(f"{baseline.name}_requests" for baseline in BASELINES),
    *TOKEN_COLUMNS,
)
"""`<baseline>_requests` are those that are compared with it."""

MONEY: Final = ("cost", *(f"{baseline.name}{figure}" for baseline in BASELINES for figure in ("", "_compared")))
"""What was paid; then of each baseline what the compared requests would have cost, and what they cost."""

TOKENS_MAX: Final = 1 << 40
"""An attempt with more tokens stands apart: so no rollup of any number of attempts overflows."""

KEYS: Final = ("start", "dimensions", "writer")
"""Of a row of a rollup: its period by number, its set of dimensions, who opened the attempts (0: unknown)."""


class Row(NamedTuple):
    """An attempt as far as sums depend on it: `baselines`, `dimensions`, `tokens` as in the tables of these names."""

    id: int
    attempt_id: str
    at_ms: int
    writer: int
    state: str
    usage_source: str | None
    kind: str | None
    final: int | None
    attempt_number: int | None
    cost_pusd: int | None
    baselines: tuple[int | None, ...]
    dimensions: tuple[Any, ...]
    tokens: Sequence[Any]


class Added(NamedTuple):
    """What one attempt adds: `values` as in `COUNTS`, then money as in `MONEY`."""

    hour: int
    dimensions: tuple[Any, ...]
    writer: int
    values: list[int]


def added(rows: Sequence[Row]) -> list[Added] | None:
    """What the attempts of one request add, each; `None` when the request has to stand apart."""
    found: list[Added] = []
    for row in sorted(rows, key=lambda row: row.attempt_id):
        values = _alone(row)
        if values is None:
            return None
        found.append(Added(row.at_ms // HOUR_MS, row.dimensions, row.writer, values))
    if len(found) > 1:
        if len({(one.hour, one.dimensions[2:]) for one in found}) > 1:
            return None
        _share(sorted(rows, key=lambda row: row.attempt_id), found)
    return found


def _alone(row: Row) -> list[int] | None:
    """What an attempt adds that is the only one of its request, as in `Added`.

    `None` when it has not ended, or when a figure of it is not as writers of ours write them.
    """
    try:
        total = sum(row.tokens)
    except TypeError:
        return None
    state, cost = row.state, row.cost_pusd
    ordinary = type(total) is int and total < TOKENS_MAX and min(row.tokens) >= 0 and (cost is None or cost >= 0)
    if state == "open" or row.at_ms < 0 or not ordinary:
        return None
    billable = state != "refused" and row.kind != "cache"
    guessed = billable and row.usage_source != "provider"
    counts = [1, 1, 1, 1, 1, int(row.dimensions[-1] == "true"), int(billable), int(guessed), int(cost is None)]
    crashed = (cost or 0) if state == "unknown" else 0
    compared, money = [], [cost or 0]
    for baseline in row.baselines:
        if row.final == 1 and baseline is not None and cost is not None:
            compared.append(1)
            money += (baseline, cost)
        else:
            compared.append(0)
            money += (0, crashed)
    return [*counts, *compared, *row.tokens, *money]


def _share(rows: Sequence[Row], found: Sequence[Added]) -> None:
    """Correct what the attempts of one request would add alone: each counts for what it is first at."""
    seen: set[tuple[Any, ...]] = set()
    for row, one in zip(rows, found, strict=True):
        model, provider = row.dimensions[:2]
        for place, group in enumerate(((), ("model", model), ("provider", provider), ("both", model, provider))):
            one.values[_FIRST_AT + place] = int(group not in seen)
            seen.add(group)
    priced = all(row.cost_pusd is not None for row in rows)
    for number in range(len(BASELINES)):
        picks = [row for row in rows if row.final == 1 and row.baselines[number] is not None]
        pick = max(picks, key=_rank) if picks else None
        compared = pick is not None and priced
        for row, one in zip(rows, found, strict=True):
            cost, picked = row.cost_pusd or 0, compared and row is pick
            one.values[_COMPARED_AT + number] = int(picked)
            one.values[_BASELINE_AT + 2 * number] = (row.baselines[number] or 0) if picked else 0
            one.values[_BASELINE_AT + 2 * number + 1] = cost if compared or row.state == "unknown" else 0


_FIRST_AT: Final = COUNTS.index("requests")
_COMPARED_AT: Final = COUNTS.index(f"{BASELINES[0].name}_requests")
_BASELINE_AT: Final = len(COUNTS) + 1


def _rank(row: Row) -> str:
    """The order of attempts by which the last final one is the one whose baseline counts."""
    return f"{row.attempt_number or 0:012d}:{row.attempt_id}"


class Piece(NamedTuple):
    """Periods [start, stop) of a level."""

    level: Level
    start: int
    stop: int


def pieces(first: int, last: int, folded: Mapping[str, int], *, by_day: bool) -> Iterator[Piece]:
    """The hours [first, last) as periods of the coarsest levels that have them; `folded` says how far each goes."""
    levels = [level for level in LEVELS if not by_day or level.hours <= DAY_HOURS]
    yield from _split(first, last, levels, folded)


def _split(first: int, last: int, levels: Sequence[Level], folded: Mapping[str, int]) -> Iterator[Piece]:
    *finer, level = levels
    start, stop = -(-first // level.hours), last // level.hours
    if finer:
        stop = min(stop, folded.get(level.table, 0))
    if start < stop:
        yield Piece(level, start, stop)
        ranges = ((first, start * level.hours), (stop * level.hours, last))
    else:
        ranges = ((first, last), (last, last))
    for its_first, its_last in ranges:
        if finer and its_first < its_last:
            yield from _split(its_first, its_last, finer, folded)


Totals = tuple[int, ...]
"""What a group adds up to: `counted`, the tokens, `money`."""

COUNTED: Final = (
    *("requests", "attempts", "open", "simulated_attempts", "billable", "guessed", "unpriced"),
    *(f"{baseline.name}_requests" for baseline in BASELINES),
)

PLAIN: Final = len(COUNTED) - len(BASELINES)
"""How many of them are about no baseline."""

Groups = Iterable[tuple[tuple[Any, ...], Totals]]
"""(keys, totals) of each group."""


def counted(compared: int) -> tuple[str, ...]:
    """`COUNTED` with the first so many baselines: a report that shows one need not add up all."""
    return COUNTED[: PLAIN + compared]


def money(compared: int) -> tuple[str, ...]:
    """`MONEY` with these."""
    return MONEY[: 1 + 2 * compared]


def requests_column(by: Collection[str]) -> str:
    """Which of `FIRSTS` are the requests of a report."""
    return FIRSTS[("model" in by) + 2 * ("provider" in by)]


def merge(found: dict[tuple[Any, ...], Totals], more: Groups) -> None:
    """Add groups to those that were found."""
    for keys, totals in more:
        before = found.get(keys)
        found[keys] = totals if before is None else tuple(map(add, before, totals))


def told(found: Mapping[tuple[Any, ...], Totals], compared: int) -> list[CostSums]:
    """In the order of the keys, so that the same attempts give the same list however they came to be stored."""
    plain, counts = PLAIN, PLAIN + compared
    at = counts + len(TOKEN_COLUMNS)
    rows = []
    for keys, totals in sorted(found.items(), key=lambda one: [(key is not None, str(key)) for key in one[0]]):
        baselines = {
            baseline.name: Compared(totals[plain + number], *totals[at + 1 + 2 * number : at + 3 + 2 * number])
            for number, baseline in enumerate(BASELINES[:compared])
        }
        tokens = dict(zip(TOKEN_COLUMNS, totals[counts:at], strict=True))
        figures: tuple[Any, ...] = (*totals[:plain], tokens, totals[at], baselines)
        rows.append(CostSums(keys, *figures))
    return rows
