"""Whether the PostgreSQL sink's rollups say what its attempts say: the same sums, worked out again in another way.

Where on the path: below `sinks.postgres`, behind `coe ledger verify`; of one data directory. What `rollup` does request
by request in Python is done here by window functions over all attempts of a day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from service.ledger.sinks.halves import day_of
from service.ledger.sinks.port import BASELINES, TOKEN_COLUMNS, Audit, Baseline
from service.ledger.sinks.postgres_layout import NAMED, SCHEMA, SUMS, Connection
from service.ledger.sinks.postgres_reports import PICKS, folded
from service.ledger.sinks.rollup import DAY_HOURS, DIMENSIONS, HOUR_MS, LEVELS, Level

DIFFERENCES_MAX: Final = 100
"""Differences that are told one by one."""

Progress = Callable[[int, int], None]


def _picked(one: Baseline) -> str:
    return f"(pick_{one.name} = its_pick_{one.name} AND NOT unpriced)"


def _first(*among: str) -> str:
    return f"(ROW_NUMBER() OVER (PARTITION BY {', '.join(('request', *among))} ORDER BY attempt_id) = 1)"


_TO_SUM: Final = (
    *("1", "first::int", "first_model::int", "first_provider::int", "first_both::int"),
    *("(simulated = 'true')::int", "billable::int"),
    "(billable AND usage_source IS DISTINCT FROM 'provider')::int",
    "(cost_pusd IS NULL)::int",
    *(f"{_picked(one)}::int" for one in BASELINES),
    *TOKEN_COLUMNS,
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
"""In the order of `SUMS`."""

_KEYS: Final = ("start", *DIMENSIONS, "by_writer")
_NAMES: Final = ", ".join(f"{sql} AS {name}" for name, sql in zip(DIMENSIONS, NAMED, strict=True))
_FIELDS: Final = ", ".join(
    f"a.{name}"
    for name in (
        *("attempt_id", "attempt_number", "final", "state", "usage_source", "cost_pusd"),
        *(one.column for one in BASELINES),
        *TOKEN_COLUMNS,
    )
)
_ATTEMPTS: Final = f"""
SELECT {", ".join(_KEYS)}, {", ".join(f"COALESCE(SUM({value}), 0)::numeric" for value in _TO_SUM)}
FROM (
    SELECT *, {_first()} AS first, {_first("model")} AS first_model, {_first("provider")} AS first_provider,
        {_first("model", "provider")} AS first_both,
        {", ".join(f"MAX({name}) OVER (PARTITION BY request) AS its_{name}" for name in PICKS)},
        BOOL_OR(cost_pusd IS NULL) OVER (PARTITION BY request) AS unpriced
    FROM (
        SELECT *, {", ".join(f"{pick} AS {name}" for name, pick in PICKS.items())} FROM (
            SELECT COALESCE(a.decision_id, a.attempt_id) AS request, a.at_ms / {HOUR_MS} AS start,
                COALESCE(a.writer, (SELECT id FROM {SCHEMA}.writers WHERE source = %(source)s AND name = ''))
                AS by_writer, (a.state <> 'refused' AND a.kind IS DISTINCT FROM 'cache') AS billable,
                {_NAMES}, {_FIELDS}
            FROM {SCHEMA}.attempts AS a LEFT JOIN {SCHEMA}.decisions AS d ON d.id = a.decision_id
            WHERE a.source = %(source)s AND NOT a.apart
                AND a.at_ms >= %(first)s::bigint * {HOUR_MS} AND a.at_ms < %(last)s::bigint * {HOUR_MS}
        ) AS named
    ) AS picked
) AS placed
GROUP BY {", ".join(_KEYS)}
"""  # noqa: S608  # Names are literals of this package.

_MINE: Final = f"writer IN (SELECT id FROM {SCHEMA}.writers WHERE source = %(source)s)"  # noqa: S608  # As above.
_STORED: Final = f"""
SELECT start, {", ".join(f"d.{name}" for name in DIMENSIONS)}, writer, {", ".join(f"{name}::numeric" for name in SUMS)}
FROM {SCHEMA}.rollup_hours AS r JOIN {SCHEMA}.dimensions AS d ON d.id = r.dimensions
WHERE start >= %(first)s AND start < %(last)s AND {_MINE}
"""  # noqa: S608  # As above.

_SHARED: Final = (
    *(f"a.{name}" for name in ("intent", "language", "key_id", "tags", "policy", "requested_model")),
    "COALESCE(a.simulated = 1, false)::int",
)
"""What the attempts of a request that is rolled up have in common; its plan is its decision's."""

_UNFIT: Final = f"""
SELECT COUNT(*) FROM (
    SELECT 1 FROM {SCHEMA}.attempts AS a WHERE a.source = %(source)s AND a.decision_id IN (
        SELECT decision_id FROM {SCHEMA}.attempts WHERE source = %(source)s GROUP BY 1 HAVING COUNT(*) > 1
    )
    GROUP BY a.decision_id
    HAVING BOOL_OR(a.apart) <> BOOL_AND(a.apart) OR (NOT BOOL_OR(a.apart) AND (
        MIN(a.at_ms / {HOUR_MS}) <> MAX(a.at_ms / {HOUR_MS})
        OR {" OR ".join(f"COUNT(DISTINCT {value}) + MAX(({value} IS NULL)::int) > 1" for value in _SHARED)}
    ))
    UNION ALL SELECT 1 FROM {SCHEMA}.attempts WHERE source = %(source)s AND state = 'open' AND NOT apart
) AS found
"""  # noqa: S608  # As above.


def audit(connection: Connection, source: int, progress: Progress | None = None) -> Audit:
    """See `Sink.audit`; `connection` reads one state of the tables."""
    mine = {"source": source}
    query = (
        "SELECT COALESCE(SUM(cost_pusd), 0), COUNT(*), COUNT(open_rank), COUNT(terminal_rank) "  # noqa: S608  # As above.
        f"FROM {SCHEMA}.attempts WHERE source = %(source)s"
    )
    cost, attempts, opened, ended = (int(value) for value in connection.execute(query, mine).fetchone() or (0, 0, 0, 0))
    running = connection.execute(
        f"SELECT COALESCE(w.name, ''), COUNT(*) FROM {SCHEMA}.attempts AS a "  # noqa: S608  # As above.
        f"LEFT JOIN {SCHEMA}.writers AS w ON w.id = a.writer "
        "WHERE a.source = %(source)s AND a.state = 'open' GROUP BY 1",
        mine,
    ).fetchall()
    checkpoints = connection.execute(
        f"SELECT segment, at_byte FROM {SCHEMA}.checkpoint WHERE source = %(source)s",  # noqa: S608  # As above.
        mine,
    ).fetchall()
    return Audit(
        checkpoints={str(segment): int(at) for segment, at in checkpoints},
        attempts=attempts,
        opened=opened,
        ended=ended,
        running={str(name): int(count) for name, count in running},
        cost_pusd=cost,
        differences=tuple(_differences(connection, source, progress)),
    )


def _differences(connection: Connection, source: int, progress: Progress | None) -> Iterator[str]:
    unfit = _count(connection, _UNFIT, {"source": source})
    if unfit:
        yield f"{unfit} requests are in the rollups that should not be, or only in part"
    told = 0
    for first in _days(connection, source, progress):
        values = {"source": source, "first": first, "last": first + DAY_HOURS}
        count = _differing(connection, _ATTEMPTS, _STORED, values)
        if count and told < DIFFERENCES_MAX:
            told += 1
            yield f"rollup_hours: {count} sums of {day_of(first * HOUR_MS)} are not those of the attempts"
    over = folded(connection)
    for level in LEVELS[1:]:
        values = {"source": source, "before": over.get(level.table, 0)}
        count = _differing(connection, _coarser(level), _all_of(level), values)
        if count:
            yield f"{level.table}: {count} sums are not those of rollup_hours"


def _days(connection: Connection, source: int, progress: Progress | None) -> Iterator[int]:
    """The first hour of every day that has an attempt or a rollup."""
    query = (
        f"SELECT DISTINCT at_ms / {HOUR_MS} / {DAY_HOURS} FROM {SCHEMA}.attempts WHERE source = %(source)s "  # noqa: S608  # As above.
        f"UNION SELECT DISTINCT start / {DAY_HOURS} FROM {SCHEMA}.rollup_hours WHERE {_MINE} ORDER BY 1"
    )
    days = [int(day) for (day,) in connection.execute(query, {"source": source})]
    for number, day in enumerate(days):
        if progress is not None:
            progress(number, len(days))
        yield day * DAY_HOURS
    if progress is not None:
        progress(1, 1)


def _differing(connection: Connection, one: str, other: str, values: dict[str, int]) -> int:
    """How many rows are in one of two queries and not in the other: two for a sum that differs."""
    query = (
        f"WITH one AS MATERIALIZED ({one}), other AS MATERIALIZED ({other}) SELECT "  # noqa: S608  # As above.
        "(SELECT COUNT(*) FROM (SELECT * FROM one EXCEPT SELECT * FROM other) AS x) + "
        "(SELECT COUNT(*) FROM (SELECT * FROM other EXCEPT SELECT * FROM one) AS x)"
    )
    return _count(connection, query, values)


def _count(connection: Connection, query: str, values: dict[str, int]) -> int:
    found = connection.execute(query, values).fetchone()
    return int(found[0]) if found is not None else 0


def _coarser(level: Level) -> str:
    return (
        f"SELECT start / {level.hours} AS period, dimensions, writer, "  # noqa: S608  # As above.
        f"{', '.join(f'SUM({name})::numeric' for name in SUMS)} FROM {SCHEMA}.rollup_hours "
        f"WHERE start < %(before)s::bigint * {level.hours} AND {_MINE} GROUP BY 1, 2, 3"
    )


def _all_of(level: Level) -> str:
    names = ", ".join(f"{name}::numeric" for name in SUMS)
    return f"SELECT start, dimensions, writer, {names} FROM {SCHEMA}.{level.table} WHERE {_MINE}"  # noqa: S608  # As above.
