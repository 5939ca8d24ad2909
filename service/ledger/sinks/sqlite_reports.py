"""What the SQLite sink is asked about money: sums by group, and what was spent by whom.

Where on the path: below `sinks.sqlite`, which hands over a connection that reads one state of the file.

A report over a range is put together from the coarsest rollups that fit into it, and from attempts one by one: those
of the hours that its bounds cut, and those that the rollups leave out. No request is in two of these parts, so their
sums add up.
`plain_sums` gives the same from the attempts alone: what the rollups are held against.

Invariant: money is summed in two halves of 32 bits that Python puts together: SUM() would overflow at 9.2 million USD.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from service.ledger.sinks.halves import day_of
from service.ledger.sinks.port import BASELINES, TOKEN_COLUMNS, Baseline, CostSums, Spent, check_grouping
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
from service.ledger.sinks.sqlite_layout import LEFT_OUT, LOW, LOW_BITS

_ROLLED_FROM = COUNTED.index("simulated_attempts")
"""What rollups hold of `COUNTED` but for requests, which depend on the grouping, and attempts."""

_FIRST, _LAST = -(2**63), 2**63 - 1
"""Instants that stand for no bound."""

_GROUP_SQL: Mapping[str, str] = {
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

_ROLLED_SQL: Mapping[str, str] = {
    **_GROUP_SQL,
    "plan": "a.plan",
    "simulated": "a.simulated",
}
"""The same of a row of `dimensions`, which has no day."""


def _baseline_sql(one: Baseline) -> dict[str, str]:
    picked = f"a.pick_{one.name} = r.pick_{one.name} AND r.unpriced = 0"
    charged = f"(r.pick_{one.name} IS NOT NULL AND r.unpriced = 0) OR a.state = 'unknown'"
    return {
        one.name: f"CASE WHEN {picked} THEN a.{one.column} END",
        f"{one.name}_compared": f"CASE WHEN {charged} THEN a.cost_pusd END",
    }


_MONEY_SQL: Mapping[str, str] = {
    "cost": "a.cost_pusd",
    **{name: sql for one in BASELINES for name, sql in _baseline_sql(one).items()},
}
"""By the names of `MONEY`, in their order."""

_BILLABLE = "(a.state NOT IN ('open', 'refused') AND a.kind IS NOT 'cache')"
_COUNTS_SQL: Mapping[str, str] = {
    "requests": "COUNT(DISTINCT a.request)",
    "attempts": "COUNT(*)",
    "open": "COALESCE(SUM(a.state = 'open'), 0)",
    "simulated_attempts": "COALESCE(SUM(a.simulated = 1), 0)",
    "billable": f"COALESCE(SUM({_BILLABLE}), 0)",
    "guessed": f"COALESCE(SUM({_BILLABLE} AND a.usage_source IS NOT 'provider'), 0)",
    "unpriced": "COALESCE(SUM(a.state <> 'open' AND a.cost_pusd IS NULL), 0)",
    **{
        f"{one.name}_requests": f"COALESCE(SUM(a.pick_{one.name} = r.pick_{one.name} AND r.unpriced = 0), 0)"
        for one in BASELINES
    },
}
"""By the names of `COUNTED`, in their order."""

_PICKS = {
    f"pick_{one.name}": f"CASE WHEN final = 1 AND {one.column} IS NOT NULL "
    "THEN printf('%012d:%s', COALESCE(attempt_number, 0), attempt_id) END"
    for one in BASELINES
}

_ALL = (
    "SELECT *, COALESCE(decision_id, attempt_id) AS request, "  # noqa: S608  # As below.
    f"{', '.join(f'{pick} AS {name}' for name, pick in _PICKS.items())} FROM attempts"
)

# A pick names the one attempt of a request whose baseline counts: the last of its final ones. A request is known by its
# decision, an id of ours: the request id may be the caller's, and two callers may send the same.
_SCOPE_SQL = f"""
WITH a AS (
    {_ALL} WHERE {{scope}}
),
r AS (
    SELECT COALESCE(decision_id, attempt_id) AS request,
        {", ".join(f"MAX({pick}) AS {name}" for name, pick in _PICKS.items())},
        MAX(state <> 'open' AND cost_pusd IS NULL) AS unpriced
    FROM attempts
    WHERE decision_id IN (SELECT decision_id FROM a)
        OR (decision_id IS NULL AND attempt_id IN (SELECT attempt_id FROM a))
    GROUP BY 1
)
"""  # noqa: S608  # Literals of this package.

_IN_RANGE = "(at_ms >= :since_ms AND at_ms < :until_ms)"
_ROLLED = f"id NOT IN ({LEFT_OUT})"
_LEFT_OVER = (
    f"(id IN ({LEFT_OUT}) AND {_IN_RANGE}) "
    f"UNION ALL {_ALL} WHERE at_ms >= :since_ms AND at_ms < :first_ms AND {_ROLLED} "
    f"UNION ALL {_ALL} WHERE at_ms >= :last_ms AND at_ms < :until_ms AND {_ROLLED}"
)


def sums(
    connection: sqlite3.Connection,
    by: Sequence[str],
    since_ms: int | None,
    until_ms: int | None,
    compared: int = len(BASELINES),
) -> list[CostSums]:
    """See `Sink.sums`; raises ValueError for an unknown grouping."""
    check_grouping(by)
    since, until = _FIRST if since_ms is None else since_ms, _LAST if until_ms is None else until_ms
    first, last = -(-since // HOUR_MS), until // HOUR_MS
    if first >= last:
        return plain_sums(connection, by, since_ms, until_ms, compared)
    found: dict[tuple[Any, ...], Totals] = {}
    folded = dict(connection.execute("SELECT level, before FROM folded"))
    for piece in pieces(first, last, folded, by_day="day" in by):
        merge(found, _rolled(connection, by, piece, compared))
    bounds = {"first_ms": first * HOUR_MS, "last_ms": last * HOUR_MS}
    bounds = {name: min(max(value, since), until) for name, value in bounds.items()}
    merge(found, _asked(connection, by, _LEFT_OVER, {"since_ms": since, "until_ms": until, **bounds}, compared))
    return told(found, compared)


def plain_sums(
    connection: sqlite3.Connection,
    by: Sequence[str],
    since_ms: int | None,
    until_ms: int | None,
    compared: int = len(BASELINES),
) -> list[CostSums]:
    """The same as `sums` without a rollup: it reads every attempt in the range."""
    check_grouping(by)
    bounds = {
        "since_ms": _FIRST if since_ms is None else since_ms,
        "until_ms": _LAST if until_ms is None else until_ms,
    }
    return told(dict(_asked(connection, by, _IN_RANGE, bounds, compared)), compared)


def _rolled(connection: sqlite3.Connection, by: Sequence[str], piece: Piece, compared: int) -> Groups:
    """(keys, totals) of each group of a piece."""
    if "day" not in by:
        yield from _summed(connection, by, piece, compared)
        return
    # Day by day: what is sorted then is small enough to stay near the processor.
    others = [name for name in by if name != "day"]
    places = [number for number, name in enumerate(by) if name == "day"]
    query = f"SELECT MIN(start) FROM {piece.level.table} WHERE start >= ? AND start < ?"  # noqa: S608  # Literals of this package.
    start = piece.start
    while (found := connection.execute(query, (start, piece.stop)).fetchone()[0]) is not None:
        day = found * piece.level.hours // DAY_HOURS
        stop = min(piece.stop, (day + 1) * DAY_HOURS // piece.level.hours)
        name = day_of(day * DAY_HOURS * HOUR_MS)
        for keys, totals in _summed(connection, others, piece._replace(start=found, stop=stop), compared, once=True):
            named = list(keys)
            for place in places:
                named.insert(place, name)
            yield tuple(named), totals
        start = stop


def _summed(
    connection: sqlite3.Connection, by: Sequence[str], piece: Piece, compared: int, *, once: bool = False
) -> Groups:
    """As `_rolled`; `once`: most sets of dimensions stand once in the piece."""
    counts = (
        requests_column(by),
        "attempts",
        *counted(compared)[_ROLLED_FROM:],
        *TOKEN_COLUMNS,
    )
    columns = (*counts, *(f"{name}_{half}" for name in money(compared) for half in ("high", "low")))
    summed = ", ".join(f"SUM({column}) AS {column}" for column in columns)
    found = f"{piece.level.table} WHERE start >= ? AND start < ?"
    if by:
        # Else they are added up first, so that names and tags are looked at once for each.
        each = "*" if once else f"dimensions, {summed}"
        inner = f"SELECT {each} FROM {found}{'' if once else ' GROUP BY 1'}"  # noqa: S608  # Literals of this package.
        tags = " LEFT JOIN json_each(a.tags) AS t" if "tag" in by else ""
        query = (
            f"SELECT {', '.join(_ROLLED_SQL[name] for name in by)}, {summed} FROM ({inner}) AS s "  # noqa: S608  # As above.
            f"CROSS JOIN dimensions AS a ON a.id = s.dimensions{tags}{_grouping(by)}"
        )
    else:
        query = f"SELECT {summed} FROM {found}"  # noqa: S608  # As above.
    width, last = len(by), len(by) + len(counts)
    for row in connection.execute(query, (piece.start, piece.stop)):
        if row[width + 1]:
            yield row[:width], (*row[width : width + 2], 0, *row[width + 2 : last], *_whole(row[last:]))


def _grouping(by: Sequence[str]) -> str:
    return f" GROUP BY {', '.join(str(number + 1) for number in range(len(by)))}" if by else ""


def _asked(
    connection: sqlite3.Connection, by: Sequence[str], scope: str, bounds: Mapping[str, int], compared: int
) -> Groups:
    """(keys, totals) of each group of the attempts in a scope, read one by one."""
    keys = [f"{_GROUP_SQL[name]} AS key_{number}" for number, name in enumerate(by)]
    tokens = [f"COALESCE(SUM(a.{column}), 0)" for column in TOKEN_COLUMNS]
    counts = [_COUNTS_SQL[name] for name in counted(compared)]
    amounts = [
        f"COALESCE(SUM(({value}) >> {LOW_BITS}), 0), COALESCE(SUM(({value}) & {LOW}), 0)"
        for value in map(_MONEY_SQL.__getitem__, money(compared))
    ]
    tables = "a JOIN r ON r.request = a.request"
    if "tag" in by:
        tables += " LEFT JOIN json_each(a.tags) AS t"
    if "plan" in by:
        tables += " LEFT JOIN decisions AS d ON d.id = a.decision_id"
    figures = ", ".join([*keys, *counts, *tokens, *amounts])
    # Every piece is a literal of this file, chosen by name; the instants are bound.
    query = f"{_SCOPE_SQL.format(scope=scope)} SELECT {figures} FROM {tables}{_grouping(by)}"  # noqa: S608  # See above.
    halves = len(by) + len(counts) + len(tokens)
    for row in connection.execute(query, bounds):
        if row[len(by) + 1]:
            whole = (
                int(high << LOW_BITS) + int(low) for high, low in zip(row[halves::2], row[halves + 1 :: 2], strict=True)
            )
            yield row[: len(by)], (*row[len(by) : halves], *whole)


def _whole(halves: Sequence[int]) -> Iterator[int]:
    return ((high << LOW_BITS) + low for high, low in zip(halves[::2], halves[1::2], strict=True))


_SPENT_SQL = """
SELECT w.name, a.key_id, a.tags, a.day, CASE a.simulated WHEN 1 THEN 'true' ELSE 'false' END,
    SUM(a.cost_pusd >> 32), SUM(a.cost_pusd & 4294967295)
FROM attempts AS a JOIN writers AS w ON w.id = a.writer
WHERE a.cost_pusd > 0 AND ({scope})
GROUP BY 1, 2, 3, 4, 5
"""

_SPENT_ROLLED_SQL = """
SELECT w.name, a.key_id, a.tags, s.day, a.simulated, SUM(s.high), SUM(s.low) FROM (
    SELECT dimensions, writer, start * {hours} / 24 AS day, SUM(cost_high) AS high, SUM(cost_low) AS low
    FROM {table} WHERE start >= ? AND start < ? GROUP BY 1, 2, 3
) AS s JOIN dimensions AS a ON a.id = s.dimensions JOIN writers AS w ON w.id = s.writer
GROUP BY 1, 2, 3, 4, 5
"""


def spent(connection: sqlite3.Connection, since_ms: int) -> list[Spent]:
    """See `Sink.spent`."""
    first = -(-since_ms // HOUR_MS)
    found: dict[tuple[Any, ...], int] = {}
    folded = dict(connection.execute("SELECT level, before FROM folded"))
    for piece in pieces(first, _LAST // HOUR_MS, folded, by_day=True):
        query = _SPENT_ROLLED_SQL.format(hours=piece.level.hours, table=piece.level.table)
        for writer, key_id, tags, day, simulated, high, low in connection.execute(query, piece[1:]):
            _count(found, (writer, key_id, tags, day_of(day * DAY_HOURS * HOUR_MS), simulated), high, low)
    for scope, last in ((f"a.id IN ({LEFT_OUT})", _LAST), (f"a.id NOT IN ({LEFT_OUT})", first * HOUR_MS)):
        query = _SPENT_SQL.format(scope=f"{scope} AND a.at_ms >= ? AND a.at_ms < ?")
        for *who, high, low in connection.execute(query, (since_ms, last)):
            _count(found, tuple(who), high, low)
    return _told_spent(found)


def plain_spent(connection: sqlite3.Connection, since_ms: int) -> list[Spent]:
    """The same as `spent` without a rollup."""
    found: dict[tuple[Any, ...], int] = {}
    for *who, high, low in connection.execute(_SPENT_SQL.format(scope="a.at_ms >= ?"), (since_ms,)):
        _count(found, tuple(who), high, low)
    return _told_spent(found)


def _count(found: dict[tuple[Any, ...], int], who: tuple[Any, ...], high: int, low: int) -> None:
    found[who] = found.get(who, 0) + (high << LOW_BITS) + low


def _told_spent(found: Mapping[tuple[Any, ...], int]) -> list[Spent]:
    return [
        Spent(writer, key_id, tuple(orjson.loads(tags)), day, pusd, simulated == "true")
        for (writer, key_id, tags, day, simulated), pusd in found.items()
        if pusd
    ]
