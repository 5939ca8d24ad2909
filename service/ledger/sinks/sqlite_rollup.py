"""The rollups of the SQLite sink: their tables, and what the attempts of a request add to them. Pure functions.

Where on the path: below `sqlite_folding`, which writes them, and `sqlite_reports`, which adds them up.

A rollup is attempts added up by hour and by everything that costs are grouped by. What an attempt adds depends on the
others of its request: which of them has the baseline that counts, whether all are priced, which stands for the request.

A request is rolled up when it is regular: every attempt has ended, all in the same hour and alike in all dimensions but
model and provider. How many requests a group has is then a sum, too: its first attempt counts where neither of the two
is asked for, the first at each model where the model is, and so on. All other attempts are left out and read one by one
when somebody asks: those that came last wait in `waiting`, those that run or are not regular stand in `apart`.

Invariants
1. The rollups are the sum over all attempts that are not left out; `coe ledger verify` checks it.
2. All attempts of a request are left out, or none.
3. Coarser levels hold periods that are over; what comes late for those is written to each level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from service.ledger.sinks.port import TOKEN_COLUMNS

HOUR_MS: Final = 3_600_000


class Level(NamedTuple):
    """A table of sums over periods of so many hours, counted from the epoch."""

    table: str
    hours: int


LEVELS: Final = (Level("rollup_hours", 1), Level("rollup_days", 24), Level("rollup_blocks", 768))
"""From fine to coarse; each is made of the one before it. Blocks are 32 days: a ledger of years has a few dozen."""

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

COUNTS: Final = ("attempts", *FIRSTS, "billable", "guessed", "unpriced", "compared_requests", *TOKEN_COLUMNS)

MONEY: Final = ("cost", "baseline", "compared")
"""Each in two columns of 32 bits, `high` and `low`, whose sums Python puts together: no sum of them overflows."""

SUMS: Final = (*COUNTS, *(f"{name}_{half}" for name in MONEY for half in ("high", "low")))

LOW_BITS: Final = 32
LOW: Final = (1 << LOW_BITS) - 1

TOKENS_MAX: Final = 1 << 40
"""An attempt with more tokens stands apart: so no rollup of any number of attempts overflows."""

KEYS: Final = ("start", "dimensions", "writer")
"""Of a row of a rollup: its period by number, its set of dimensions, who opened the attempts (0: unknown)."""

SCHEMA: Final = ";".join(
    [
        f"CREATE TABLE dimensions (id INTEGER PRIMARY KEY, {', '.join(DIMENSIONS)}, name TEXT NOT NULL UNIQUE)",
        "CREATE TABLE waiting (id INTEGER PRIMARY KEY)",
        "CREATE TABLE apart (id INTEGER PRIMARY KEY)",
        "CREATE TABLE folded (level TEXT PRIMARY KEY, before INTEGER NOT NULL)",
        *(
            f"CREATE TABLE {level.table} ({', '.join(f'{name} INTEGER NOT NULL' for name in (*KEYS, *SUMS))}, "
            f"PRIMARY KEY ({', '.join(KEYS)})) WITHOUT ROWID"
            for level in LEVELS
        ),
    ]
)
"""`folded` says before which of its periods a coarser level holds everything; `waiting` and `apart` hold attempts.

The number of a set of dimensions that can't be rolled up is negative.
"""

LEFT_OUT: Final = "SELECT id FROM waiting UNION ALL SELECT id FROM apart"

TABLES: Final = ("dimensions", "folded", "waiting", "apart", *(level.table for level in LEVELS))


class Row(NamedTuple):
    """An attempt as far as sums depend on it; `dimensions` as in `DIMENSIONS`, `tokens` as in `TOKEN_COLUMNS`."""

    id: int
    attempt_id: str
    at_ms: int
    writer: int
    state: str
    usage_source: str | None
    final: int | None
    attempt_number: int | None
    cost_pusd: int | None
    baseline_pusd: int | None
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
    billable = state != "refused"
    counts = [1, 1, 1, 1, 1, int(billable), int(billable and row.usage_source != "provider"), int(cost is None)]
    if row.final == 1 and row.baseline_pusd is not None and cost is not None:
        return [*counts, 1, *row.tokens, cost, row.baseline_pusd, cost]
    return [*counts, 0, *row.tokens, cost or 0, 0, (cost or 0) if state == "unknown" else 0]


def _share(rows: Sequence[Row], found: Sequence[Added]) -> None:
    """Correct what the attempts of one request would add alone: each counts for what it is first at."""
    picks = [row for row in rows if row.final == 1 and row.baseline_pusd is not None]
    pick = max(picks, key=_rank) if picks else None
    compared = pick is not None and all(row.cost_pusd is not None for row in rows)
    seen: set[tuple[Any, ...]] = set()
    for row, one in zip(rows, found, strict=True):
        model, provider = row.dimensions[:2]
        for place, group in enumerate(((), ("model", model), ("provider", provider), ("both", model, provider))):
            one.values[_FIRST_AT + place] = int(group not in seen)
            seen.add(group)
        cost, picked = row.cost_pusd or 0, compared and row is pick
        one.values[_COMPARED_AT] = int(picked)
        one.values[-2] = (row.baseline_pusd or 0) if picked else 0
        one.values[-1] = cost if compared or row.state == "unknown" else 0


_FIRST_AT: Final = COUNTS.index("requests")
_COMPARED_AT: Final = COUNTS.index("compared_requests")


def _rank(row: Row) -> str:
    """The order of attempts by which the last final one is the one whose baseline counts, as in `sqlite_reports`."""
    return f"{row.attempt_number or 0:012d}:{row.attempt_id}"
