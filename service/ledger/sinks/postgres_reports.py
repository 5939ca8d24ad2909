"""What the PostgreSQL sink is asked about money: sums by group, and what was spent by whom.

Where on the path: below `sinks.postgres`, which hands over a connection that reads one state of the tables.

A report over a range is put together from the coarsest rollups that fit into it, and from attempts one by one: those
of the hours that its bounds cut, and those that stand apart. No request is in two of these parts, so their sums add up.
`plain_sums` gives the same from the attempts alone: what the rollups are held against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from service.ledger.sinks.halves import day_of
from service.ledger.sinks.port import BASELINES, TOKEN_COLUMNS, Baseline, CostSums, Spent
from service.ledger.sinks.postgres_layout import SCHEMA, Connection
from service.ledger.sinks.rollup import (
    COUNTED,
    DAY_HOURS,
    HOUR_MS,
    Groups,
    Piece,
    Totals,
    counted,
    merge,
    money,
    pieces,
    requests_column,
    told,
)

_ROLLED_FROM = COUNTED.index("simulated_attempts")
"""What rollups hold of `COUNTED` but for requests, which depend on the grouping, and attempts."""

FIRST, LAST = -(2**63), 2**63 - 1
"""Instants that stand for no bound."""

_GROUP_SQL: Final[Mapping[str, str]] = {
    "model": "a.model",
    "provider": "a.provider",
    "intent": "a.intent",
    "language": "a.language",
    "key": "a.key_id",
    "tag": "t.value",
    "day": "a.day",
    "policy": "a.policy",
    "plan": "d.plan",
    "requested": "a.requested_model",
    "simulated": "CASE a.simulated WHEN 1 THEN 'true' ELSE 'false' END",
}

_ROLLED_SQL: Final[Mapping[str, str]] = {**_GROUP_SQL, "day": "s.day", "plan": "a.plan", "simulated": "a.simulated"}
"""The same of a row of `dimensions`."""

TAGS: Final = (
    " LEFT JOIN LATERAL jsonb_array_elements_text(CASE jsonb_typeof(a.tags::jsonb) WHEN 'array' THEN a.tags::jsonb "
    "ELSE jsonb_build_array(a.tags::jsonb) END) AS t (value) ON true"
)


def _baseline_sql(one: Baseline) -> dict[str, str]:
    picked = f"a.pick_{one.name} = r.pick_{one.name} AND NOT r.unpriced"
    charged = f"(r.pick_{one.name} IS NOT NULL AND NOT r.unpriced) OR a.state = 'unknown'"
    return {
        one.name: f"CASE WHEN {picked} THEN a.{one.column} END",
        f"{one.name}_compared": f"CASE WHEN {charged} THEN a.cost_pusd END",
    }


_MONEY_SQL: Final = {
    "cost": "a.cost_pusd",
    **{name: sql for one in BASELINES for name, sql in _baseline_sql(one).items()},
}
_BILLABLE: Final = "a.state NOT IN ('open', 'refused') AND a.kind IS DISTINCT FROM 'cache'"
_COUNTS_SQL: Final = (
    "COUNT(DISTINCT a.request)",
    "COUNT(*)",
    "COUNT(*) FILTER (WHERE a.state = 'open')",
    "COUNT(*) FILTER (WHERE a.simulated = 1)",
    f"COUNT(*) FILTER (WHERE {_BILLABLE})",
    f"COUNT(*) FILTER (WHERE {_BILLABLE} AND a.usage_source IS DISTINCT FROM 'provider')",
    "COUNT(*) FILTER (WHERE a.state <> 'open' AND a.cost_pusd IS NULL)",
    *(f"COUNT(*) FILTER (WHERE a.pick_{one.name} = r.pick_{one.name} AND NOT r.unpriced)" for one in BASELINES),
)
"""In the order of `COUNTED`."""

PICKS: Final = {
    f"pick_{one.name}": f"CASE WHEN final = 1 AND {one.column} IS NOT NULL "
    "THEN lpad(COALESCE(attempt_number, 0)::text, 12, '0') || ':' || attempt_id END"
    for one in BASELINES
}
"""A pick names the one attempt of a request whose baseline counts: the last of its final ones."""

_ALL: Final = (
    "SELECT *, COALESCE(decision_id, attempt_id) AS request, "  # noqa: S608  # Literals of this package.
    f"{', '.join(f'{pick} AS {name}' for name, pick in PICKS.items())} FROM {SCHEMA}.attempts"
)
_SCOPE_SQL: Final = f"""
WITH a AS MATERIALIZED (
    {_ALL} WHERE {{scope}}
),
r AS MATERIALIZED (
    SELECT COALESCE(decision_id, attempt_id) AS request,
        {", ".join(f"MAX({pick}) AS {name}" for name, pick in PICKS.items())},
        BOOL_OR(state <> 'open' AND cost_pusd IS NULL) AS unpriced
    FROM (
        SELECT * FROM {SCHEMA}.attempts WHERE decision_id IN (SELECT decision_id FROM a)
        UNION ALL SELECT * FROM {SCHEMA}.attempts
        WHERE decision_id IS NULL AND attempt_id IN (SELECT attempt_id FROM a WHERE decision_id IS NULL)
    ) AS its GROUP BY 1
)
"""  # noqa: S608  # As above.

_IN_RANGE: Final = "(at_ms >= %(since)s AND at_ms < %(until)s)"
_LEFT_OVER: Final = (
    f"apart AND {_IN_RANGE} "
    f"UNION ALL {_ALL} WHERE at_ms >= %(since)s AND at_ms < %(first)s AND NOT apart "
    f"UNION ALL {_ALL} WHERE at_ms >= %(last)s AND at_ms < %(until)s AND NOT apart"
)


def sums(
    connection: Connection,
    by: Sequence[str],
    since_ms: int | None,
    until_ms: int | None,
    compared: int = len(BASELINES),
) -> list[CostSums]:
    """See `Sink.sums`."""
    since, until = FIRST if since_ms is None else since_ms, LAST if until_ms is None else until_ms
    first, last = -(-since // HOUR_MS), until // HOUR_MS
    if first >= last:
        return _few(connection, by, _IN_RANGE, {"since": since, "until": until}, compared)
    found: dict[tuple[Any, ...], Totals] = {}
    for piece in pieces(first, last, folded(connection), by_day="day" in by):
        merge(found, _rolled(connection, by, piece, compared))
    bounds = {"first": first * HOUR_MS, "last": last * HOUR_MS}
    bounds = {name: min(max(value, since), until) for name, value in bounds.items()}
    _seek(connection)
    merge(found, _asked(connection, by, _LEFT_OVER, {"since": since, "until": until, **bounds}, compared))
    return told(found, compared)


def plain_sums(
    connection: Connection,
    by: Sequence[str],
    since_ms: int | None,
    until_ms: int | None,
    compared: int = len(BASELINES),
) -> list[CostSums]:
    """The same as `sums` without a rollup: it reads every attempt in the range."""
    bounds = {"since": FIRST if since_ms is None else since_ms, "until": LAST if until_ms is None else until_ms}
    return told(dict(_asked(connection, by, _IN_RANGE, bounds, compared)), compared)


def _few(
    connection: Connection, by: Sequence[str], scope: str, bounds: Mapping[str, int], compared: int
) -> list[CostSums]:
    _seek(connection)
    return told(dict(_asked(connection, by, scope, bounds, compared)), compared)


def _seek(connection: Connection) -> None:
    """What is read one by one is a small part of its table, whatever the statistics say of a table that grew since."""
    connection.execute("SET LOCAL enable_seqscan = off")


def folded(connection: Connection) -> dict[str, int]:
    """Before which of its periods each coarser level holds everything."""
    found = connection.execute(f"SELECT level, before FROM {SCHEMA}.folded")  # noqa: S608  # A literal.
    return {str(level): int(before) for level, before in found}


def _rolled(connection: Connection, by: Sequence[str], piece: Piece, compared: int) -> Groups:
    """(keys, totals) of each group of a piece."""
    counts = (
        requests_column(by),
        "attempts",
        *counted(compared)[_ROLLED_FROM:],
        *TOKEN_COLUMNS,
    )
    summed = ", ".join(f"SUM({column}) AS {column}" for column in (*counts, *money(compared)))
    found = f"{SCHEMA}.{piece.level.table} WHERE start >= %s AND start < %s"
    day = f"start * {piece.level.hours} / {DAY_HOURS}"
    keys = [_ROLLED_SQL[name] for name in by]
    tags = " LEFT JOIN LATERAL unnest(a.tag_list) AS t (value) ON true" if "tag" in by else ""
    if set(by) <= {"day"}:
        query = f"SELECT {', '.join([*(day for _ in by), summed])} FROM {found}{_grouping(by)}"  # noqa: S608  # Literals of this package.
    else:
        # In two steps: names and tags are looked at once for each set of dimensions. By day there are as many of both.
        inner = f"SELECT dimensions, {summed} FROM {found} GROUP BY 1"  # noqa: S608  # As above.
        if "day" in by:
            inner = f"SELECT {day} AS day, * FROM {found}"  # noqa: S608  # As above.
        query = (
            f"SELECT {', '.join([*keys, summed])} FROM ({inner}) AS s "  # noqa: S608  # As above.
            f"JOIN {SCHEMA}.dimensions AS a ON a.id = s.dimensions{tags}{_grouping(by)}"
        )
    days = [number for number, name in enumerate(by) if name == "day"]
    width, last = len(by), len(counts)
    for row in connection.execute(query, (piece.start, piece.stop)):
        named = list(row[:width])
        values = [int(value or 0) for value in row[width:]]
        if values[1]:
            for number in days:
                named[number] = day_of(int(named[number]) * DAY_HOURS * HOUR_MS)
            yield tuple(named), (*values[:2], 0, *values[2:last], *values[last:])


def _grouping(by: Sequence[str]) -> str:
    return f" GROUP BY {', '.join(str(number + 1) for number in range(len(by)))}" if by else ""


def _asked(connection: Connection, by: Sequence[str], scope: str, bounds: Mapping[str, int], compared: int) -> Groups:
    """(keys, totals) of each group of the attempts in a scope, read one by one."""
    keys = [_GROUP_SQL[name] for name in by]
    tokens = [f"COALESCE(SUM(a.{column}), 0)" for column in TOKEN_COLUMNS]
    counts = _COUNTS_SQL[: len(counted(compared))]
    amounts = [f"COALESCE(SUM({_MONEY_SQL[name]}), 0)" for name in money(compared)]
    tables = "a JOIN r ON r.request = a.request"
    if "tag" in by:
        tables += TAGS
    if "plan" in by:
        tables += f" LEFT JOIN {SCHEMA}.decisions AS d ON d.id = a.decision_id"
    figures = ", ".join([*keys, *counts, *tokens, *amounts])
    # Every piece is a literal of this package, chosen by name; the instants are bound.
    query = f"{_SCOPE_SQL.format(scope=scope)} SELECT {figures} FROM {tables}{_grouping(by)}"  # noqa: S608  # See above.
    for row in connection.execute(query, bounds):
        if row[len(by) + 1]:
            yield row[: len(by)], tuple(int(value) for value in row[len(by) :])


_SPENT_SQL: Final = (
    "SELECT w.name, a.key_id, a.tags, a.day, "  # noqa: S608  # As above.
    "CASE a.simulated WHEN 1 THEN 'true' ELSE 'false' END, SUM(a.cost_pusd) "
    f"FROM {SCHEMA}.attempts AS a "
    f"JOIN {SCHEMA}.writers AS w ON w.id = a.writer WHERE a.cost_pusd > 0 AND {{scope}} GROUP BY 1, 2, 3, 4, 5"
)
_SPENT_ROLLED_SQL: Final = (
    "SELECT w.name, a.key_id, a.tags, s.day, a.simulated, SUM(s.cost) "  # noqa: S608  # As above.
    "FROM (SELECT dimensions, writer, "
    f"start * {{hours}} / {DAY_HOURS} AS day, SUM(cost) AS cost FROM {SCHEMA}.{{table}} "
    "WHERE start >= %s AND start < %s GROUP BY 1, 2, 3) AS s "
    f"JOIN {SCHEMA}.dimensions AS a ON a.id = s.dimensions JOIN {SCHEMA}.writers AS w ON w.id = s.writer "
    "WHERE w.name <> '' GROUP BY 1, 2, 3, 4, 5"
)


def spent(connection: Connection, since_ms: int) -> list[Spent]:
    """See `Sink.spent`."""
    first = -(-since_ms // HOUR_MS)
    found: dict[tuple[Any, ...], int] = {}
    for piece in pieces(first, LAST // HOUR_MS, folded(connection), by_day=True):
        query = _SPENT_ROLLED_SQL.format(hours=piece.level.hours, table=piece.level.table)
        for writer, key_id, tags, day, simulated, pusd in connection.execute(query, piece[1:]):
            _count(found, (writer, key_id, tags, day_of(int(day) * DAY_HOURS * HOUR_MS), simulated), pusd)
    _seek(connection)
    for scope, until in (("a.apart", LAST), ("NOT a.apart", first * HOUR_MS)):
        query = _SPENT_SQL.format(scope=f"{scope} AND a.at_ms >= %s AND a.at_ms < %s")
        for *who, pusd in connection.execute(query, (since_ms, until)):
            _count(found, tuple(who), pusd)
    return _told_spent(found)


def plain_spent(connection: Connection, since_ms: int) -> list[Spent]:
    """The same as `spent` without a rollup."""
    found: dict[tuple[Any, ...], int] = {}
    for *who, pusd in connection.execute(_SPENT_SQL.format(scope="a.at_ms >= %s"), (since_ms,)):
        _count(found, tuple(who), pusd)
    return _told_spent(found)


def _count(found: dict[tuple[Any, ...], int], who: tuple[Any, ...], pusd: int) -> None:
    found[who] = found.get(who, 0) + int(pusd)


def _told_spent(found: Mapping[tuple[Any, ...], int]) -> list[Spent]:
    return [
        Spent(writer, key_id, tuple(orjson.loads(tags)), day, pusd, simulated == "true")
        for (writer, key_id, tags, day, simulated), pusd in found.items()
        if pusd
    ]
