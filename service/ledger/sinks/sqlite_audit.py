"""Whether the SQLite sink's rollups say what its attempts say: the same sums, worked out again in another way.

Where on the path: below `sinks.sqlite`, behind `coe ledger verify`. What `rollup` does request by request in
Python is done here by window functions over all attempts of a day, so that a mistake in one is not one in the other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Final

from service.ledger.sinks.halves import day_of
from service.ledger.sinks.port import BASELINES, TOKEN_COLUMNS, Audit, Baseline
from service.ledger.sinks.rollup import COUNTS, DAY_HOURS, DIMENSIONS, HOUR_MS, LEVELS, MONEY, Level
from service.ledger.sinks.sqlite_layout import LEFT_OUT, LOW, LOW_BITS

DIFFERENCES_MAX: Final = 100
"""Differences that are told one by one."""

Progress = Callable[[int, int], None]


def _picked(one: Baseline) -> str:
    return f"pick_{one.name} = its_pick_{one.name} AND NOT unpriced"


_TO_SUM: Final = (
    *("1", "first", "first_model", "first_provider", "first_both", "simulated = 'true'", "billable"),
    "billable AND usage_source IS NOT 'provider'",
    "cost_pusd IS NULL",
    *map(_picked, BASELINES),
    *TOKEN_COLUMNS,
)
_TO_PAY: Final = (
    "cost_pusd",
    *(
        value
        for one in BASELINES
        for value in (
            f"CASE WHEN {_picked(one)} THEN {one.column} END",
            f"CASE WHEN (its_pick_{one.name} IS NOT NULL AND NOT unpriced) OR state = 'unknown' THEN cost_pusd END",
        )
    ),
)


def _first(*among: str) -> str:
    return f"ROW_NUMBER() OVER (PARTITION BY {', '.join(('request', *among))} ORDER BY attempt_id) = 1"


def _halves(high: str, low: str) -> str:
    """Two halves of money in the one form in which the lower has 32 bits."""
    return f"{high} + ({low} >> {LOW_BITS}), {low} & {LOW}"


def _money(value: str) -> str:
    return _halves(f"COALESCE(SUM(({value}) >> {LOW_BITS}), 0)", f"COALESCE(SUM(({value}) & {LOW}), 0)")


_NAMED: Final = ", ".join(DIMENSIONS)
_PICKS: Final = ", ".join(
    f"CASE WHEN final = 1 AND {one.column} IS NOT NULL "
    f"THEN printf('%012d:%s', COALESCE(attempt_number, 0), attempt_id) END AS pick_{one.name}"
    for one in BASELINES
)
_ITS_PICKS: Final = ", ".join(
    f"MAX(pick_{one.name}) OVER (PARTITION BY request) AS its_pick_{one.name}" for one in BASELINES
)
_BASELINE_COLUMNS: Final = ", ".join(f"a.{one.column}" for one in BASELINES)

_ATTEMPTS: Final = f"""
SELECT start, {_NAMED}, by_writer, {", ".join(f"COALESCE(SUM({value}), 0)" for value in _TO_SUM)},
    {", ".join(_money(value) for value in _TO_PAY)}
FROM (
    SELECT *, {_first()} AS first, {_first("model")} AS first_model, {_first("provider")} AS first_provider,
        {_first("model", "provider")} AS first_both, {_ITS_PICKS},
        MAX(cost_pusd IS NULL) OVER (PARTITION BY request) AS unpriced
    FROM (
        SELECT COALESCE(a.decision_id, a.attempt_id) AS request, a.attempt_id, a.at_ms / {HOUR_MS} AS start,
            COALESCE(a.writer, 0) AS by_writer, a.model, a.provider, a.intent, a.language, a.key_id, a.tags, a.policy,
            a.requested_model, d.plan, CASE a.simulated WHEN 1 THEN 'true' ELSE 'false' END AS simulated,
            a.state, (a.state <> 'refused' AND a.kind IS NOT 'cache') AS billable, a.usage_source, a.cost_pusd,
            {_BASELINE_COLUMNS},
            {_PICKS}, {", ".join(f"a.{column}" for column in TOKEN_COLUMNS)}
        FROM attempts AS a LEFT JOIN decisions AS d ON d.id = a.decision_id
        WHERE a.id NOT IN ({LEFT_OUT}) AND a.at_ms >= :first * {HOUR_MS} AND a.at_ms < :last * {HOUR_MS}
    )
)
GROUP BY start, {_NAMED}, by_writer
"""  # noqa: S608  # Names are literals of this package.

_PAID: Final = ", ".join(_halves(f"{name}_high", f"{name}_low") for name in MONEY)

_STORED: Final = f"""
SELECT start, {_NAMED}, writer, {", ".join(COUNTS)}, {_PAID}
FROM rollup_hours JOIN dimensions ON dimensions.id = rollup_hours.dimensions
WHERE start >= :first AND start < :last
"""  # noqa: S608  # As above.

_SHARED: Final = (
    *(f"a.{name}" for name in ("intent", "language", "key_id", "tags", "policy", "requested_model")),
    "COALESCE(a.simulated = 1, 0)",
)
"""What the attempts of a request that is rolled up have in common; its plan is its decision's."""

_UNFIT: Final = f"""
SELECT COUNT(*) FROM (
    SELECT 1 FROM (SELECT *, id IN ({LEFT_OUT}) AS apart FROM attempts) AS a
    WHERE a.decision_id IN (SELECT decision_id FROM attempts GROUP BY 1 HAVING COUNT(*) > 1)
    GROUP BY a.decision_id
    HAVING MIN(a.apart) <> MAX(a.apart) OR (MAX(a.apart) = 0 AND (
        MIN(a.at_ms / {HOUR_MS}) <> MAX(a.at_ms / {HOUR_MS})
        OR {" OR ".join(f"COUNT(DISTINCT {value}) + MAX({value} IS NULL) > 1" for value in _SHARED)}
    ))
    UNION ALL SELECT 1 FROM attempts WHERE state = 'open' AND id NOT IN ({LEFT_OUT})
)
"""  # noqa: S608  # As above.


def audit(connection: sqlite3.Connection, progress: Progress | None = None) -> Audit:
    """See `Sink.audit`; `connection` reads one state of the file."""
    high, low, attempts, opened, ended = connection.execute(
        f"SELECT COALESCE(SUM(cost_pusd >> {LOW_BITS}), 0), COALESCE(SUM(cost_pusd & {LOW}), 0), COUNT(*), "  # noqa: S608  # As above.
        "COUNT(open_rank), COUNT(terminal_rank) FROM attempts"
    ).fetchone()
    running = connection.execute(
        "SELECT COALESCE(w.name, ''), COUNT(*) FROM attempts AS a LEFT JOIN writers AS w ON w.id = a.writer "
        "WHERE a.state = 'open' GROUP BY 1"
    )
    return Audit(
        checkpoints=dict(connection.execute("SELECT segment, offset FROM checkpoint")),
        attempts=attempts,
        opened=opened,
        ended=ended,
        running=dict(running),
        cost_pusd=(high << LOW_BITS) + low,
        differences=tuple(_differences(connection, progress)),
    )


def _differences(connection: sqlite3.Connection, progress: Progress | None) -> Iterator[str]:
    (unfit,) = connection.execute(_UNFIT).fetchone()
    if unfit:
        yield f"{unfit} requests are in the rollups that should not be, or only in part"
    told = 0
    for first in _days(connection, progress):
        days = {"first": first, "last": first + DAY_HOURS}
        count = _differing(connection, _ATTEMPTS, _STORED, days)
        if count and told < DIFFERENCES_MAX:
            told += 1
            yield f"rollup_hours: {count} sums of {day_of(first * HOUR_MS)} are not those of the attempts"
    folded = dict(connection.execute("SELECT level, before FROM folded"))
    for level in LEVELS[1:]:
        count = _differing(connection, _coarser(level), _all_of(level), {"before": folded.get(level.table, 0)})
        if count:
            yield f"{level.table}: {count} sums are not those of rollup_hours"


def _days(connection: sqlite3.Connection, progress: Progress | None) -> Iterator[int]:
    """The first hour of every day that has an attempt or a rollup."""
    bounds = (
        "SELECT {of}(hour) FROM (SELECT {of}(at_ms) / ? AS hour FROM attempts "
        "UNION ALL SELECT {of}(start) FROM rollup_hours)"
    )
    (first,) = connection.execute(bounds.format(of="MIN"), (HOUR_MS,)).fetchone()
    (last,) = connection.execute(bounds.format(of="MAX"), (HOUR_MS,)).fetchone()
    begin, hour = first, first
    while hour is not None:
        day = hour // DAY_HOURS * DAY_HOURS
        if progress is not None:
            progress(day - begin // DAY_HOURS * DAY_HOURS, last - begin + 1)
        yield day
        (hour,) = connection.execute(
            "SELECT MIN(hour) FROM (SELECT MIN(at_ms) / :hour_ms AS hour FROM attempts WHERE at_ms >= :next * :hour_ms "
            "UNION ALL SELECT MIN(start) FROM rollup_hours WHERE start >= :next)",
            {"hour_ms": HOUR_MS, "next": day + DAY_HOURS},
        ).fetchone()
    if progress is not None:
        progress(1, 1)


def _differing(connection: sqlite3.Connection, one: str, other: str, values: dict[str, int]) -> int:
    """How many rows are in one of two queries and not in the other: two for a sum that differs."""
    query = (
        f"SELECT COUNT(*) FROM (SELECT * FROM (SELECT * FROM ({one}) EXCEPT SELECT * FROM ({other})) "  # noqa: S608  # As above.
        f"UNION ALL SELECT * FROM (SELECT * FROM ({other}) EXCEPT SELECT * FROM ({one})))"
    )
    (found,) = connection.execute(query, values).fetchone()
    return int(found)


def _coarser(level: Level) -> str:
    money = ", ".join(_halves(f"SUM({name}_high)", f"SUM({name}_low)") for name in MONEY)
    return (
        f"SELECT start / {level.hours} AS period, dimensions, writer, "  # noqa: S608  # As above.
        f"{', '.join(f'SUM({name})' for name in COUNTS)}, {money} FROM rollup_hours "
        f"WHERE start < :before * {level.hours} GROUP BY 1, 2, 3"
    )


def _all_of(level: Level) -> str:
    return f"SELECT start, dimensions, writer, {', '.join(COUNTS)}, {_PAID} FROM {level.table}"  # noqa: S608  # As above.
