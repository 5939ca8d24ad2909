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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import add
from typing import Any, Final, NamedTuple

import orjson

from service.ledger.sinks.port import GROUPINGS, TOKEN_COLUMNS, CostSums, Spent
from service.ledger.sinks.sqlite_layout import day_of
from service.ledger.sinks.sqlite_rollup import HOUR_MS, LEFT_OUT, LEVELS, LOW, LOW_BITS, MONEY, Level

_FIRST, _LAST = -(2**63), 2**63 - 1
"""Instants that stand for no bound."""

_DAY_HOURS: Final = 24

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
    "day": "s.day",
    "plan": "a.plan",
    "simulated": "a.simulated",
}
"""The same of a row of `dimensions`."""

_MONEY_SQL: Mapping[str, str] = {
    "cost": "a.cost_pusd",
    "baseline": "CASE WHEN a.pick = r.pick AND r.unpriced = 0 THEN a.baseline_pusd END",
    "compared": "CASE WHEN (r.pick IS NOT NULL AND r.unpriced = 0) OR a.state = 'unknown' THEN a.cost_pusd END",
}

_COUNTS_SQL: Mapping[str, str] = {
    "requests": "COUNT(DISTINCT a.request)",
    "attempts": "COUNT(*)",
    "open": "COALESCE(SUM(a.state = 'open'), 0)",
    "simulated": "COALESCE(SUM(a.simulated = 1), 0)",
    "billable": "COALESCE(SUM(a.state NOT IN ('open', 'refused')), 0)",
    "guessed": "COALESCE(SUM(a.state NOT IN ('open', 'refused') AND a.usage_source IS NOT 'provider'), 0)",
    "unpriced": "COALESCE(SUM(a.state <> 'open' AND a.cost_pusd IS NULL), 0)",
    "compared_requests": "COALESCE(SUM(a.pick = r.pick AND r.unpriced = 0), 0)",
}
"""In the order of `CostSums`."""

_PICK = """CASE WHEN final = 1 AND baseline_pusd IS NOT NULL
    THEN printf('%012d:%s', COALESCE(attempt_number, 0), attempt_id) END"""

_ALL = f"SELECT *, COALESCE(decision_id, attempt_id) AS request, {_PICK} AS pick FROM attempts"  # noqa: S608  # As below.

# `pick` names the one attempt of a request whose baseline counts: the last of its final ones. A request is known by its
# decision, an id of ours: the request id may be the caller's, and two callers may send the same.
_SCOPE_SQL = f"""
WITH a AS (
    {_ALL} WHERE {{scope}}
),
r AS (
    SELECT COALESCE(decision_id, attempt_id) AS request, MAX({_PICK}) AS pick,
        MAX(state <> 'open' AND cost_pusd IS NULL) AS unpriced
    FROM attempts
    WHERE decision_id IN (SELECT decision_id FROM a)
        OR (decision_id IS NULL AND attempt_id IN (SELECT attempt_id FROM a))
    GROUP BY 1
)
"""  # noqa: S608  # Literals of this file.

_IN_RANGE = "(at_ms >= :since_ms AND at_ms < :until_ms)"
_ROLLED = f"id NOT IN ({LEFT_OUT})"
_LEFT_OVER = (
    f"(id IN ({LEFT_OUT}) AND {_IN_RANGE}) "
    f"UNION ALL {_ALL} WHERE at_ms >= :since_ms AND at_ms < :first_ms AND {_ROLLED} "
    f"UNION ALL {_ALL} WHERE at_ms >= :last_ms AND at_ms < :until_ms AND {_ROLLED}"
)

Totals = tuple[int, ...]
"""The counts of `_COUNTS_SQL`, the tokens, and the money of `_MONEY_SQL`, of one group."""

Groups = Iterator[tuple[tuple[Any, ...], Totals]]


class Piece(NamedTuple):
    """Periods [start, stop) of a level."""

    level: Level
    start: int
    stop: int


def sums(
    connection: sqlite3.Connection, by: Sequence[str], since_ms: int | None, until_ms: int | None
) -> list[CostSums]:
    """See `Sink.sums`; raises ValueError for an unknown grouping."""
    check_grouping(by)
    since, until = _FIRST if since_ms is None else since_ms, _LAST if until_ms is None else until_ms
    first, last = -(-since // HOUR_MS), until // HOUR_MS
    if first >= last:
        return plain_sums(connection, by, since_ms, until_ms)
    found: dict[tuple[Any, ...], Totals] = {}
    folded = dict(connection.execute("SELECT level, before FROM folded"))
    for piece in pieces(first, last, folded, by_day="day" in by):
        _merge(found, _rolled(connection, by, piece))
    bounds = {"first_ms": first * HOUR_MS, "last_ms": last * HOUR_MS}
    bounds = {name: min(max(value, since), until) for name, value in bounds.items()}
    _merge(found, _asked(connection, by, _LEFT_OVER, {"since_ms": since, "until_ms": until, **bounds}))
    return _told(found)


def plain_sums(
    connection: sqlite3.Connection, by: Sequence[str], since_ms: int | None, until_ms: int | None
) -> list[CostSums]:
    """The same as `sums` without a rollup: it reads every attempt in the range."""
    check_grouping(by)
    bounds = {
        "since_ms": _FIRST if since_ms is None else since_ms,
        "until_ms": _LAST if until_ms is None else until_ms,
    }
    return _told(dict(_asked(connection, by, _IN_RANGE, bounds)))


def check_grouping(by: Iterable[str]) -> None:
    """Raise ValueError for an unknown grouping."""
    for name in by:
        if name not in _GROUP_SQL:
            raise ValueError(f"costs can't be grouped by {name!r}; choose from {', '.join(GROUPINGS)}")


def pieces(first: int, last: int, folded: Mapping[str, int], *, by_day: bool) -> Iterator[Piece]:
    """The hours [first, last) as periods of the coarsest levels that have them; `folded` says how far each goes."""
    levels = [level for level in LEVELS if not by_day or level.hours <= _DAY_HOURS]
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


def _rolled(
    connection: sqlite3.Connection, by: Sequence[str], piece: Piece
) -> Iterator[tuple[tuple[Any, ...], Totals]]:
    """(keys, totals) of each group of a piece.

    Two steps: rows are added up by number first, so that names and tags are looked at once for each set of dimensions.
    """
    requests = (
        "requests"
        + {
            (True, True): "_by_both",
            (True, False): "_by_model",
            (False, True): "_by_provider",
            (False, False): "",
        }["model" in by, "provider" in by]
    )
    counts = (requests, "attempts", "billable", "guessed", "unpriced", "compared_requests", *TOKEN_COLUMNS)
    columns = (*counts, *(f"{name}_{half}" for name in MONEY for half in ("high", "low")))
    day = f"start * {piece.level.hours} / {_DAY_HOURS}" if "day" in by else "0"
    inner = ", ".join(["dimensions", f"{day} AS day", *(f"SUM({column}) AS {column}" for column in columns)])
    keys = [f"{_ROLLED_SQL[name]} AS key_{number}" for number, name in enumerate(by)]
    summed = [*(f"SUM(s.{column})" for column in columns), "SUM((a.simulated = 'true') * s.attempts)"]
    tags = " LEFT JOIN json_each(a.tags) AS t" if "tag" in by else ""
    grouping = f" GROUP BY {', '.join(str(number + 1) for number in range(len(by)))}" if by else ""
    query = (
        f"SELECT {', '.join([*keys, *summed])} FROM "  # noqa: S608  # Literals of this file.
        f"(SELECT {inner} FROM {piece.level.table} WHERE start >= ? AND start < ? GROUP BY 1, 2) AS s "
        f"JOIN dimensions AS a ON a.id = s.dimensions{tags}{grouping}"
    )
    days = [number for number, name in enumerate(by) if name == "day"]
    width = len(by)
    for row in connection.execute(query, (piece.start, piece.stop)):
        found, values = list(row[:width]), row[width:]
        if not values[1]:
            continue
        for number in days:
            found[number] = day_of(found[number] * _DAY_HOURS * HOUR_MS)
        money = values[len(counts) : -1]
        yield (
            tuple(found),
            (
                *(values[0], values[1], 0, values[-1], *values[2 : len(counts)]),
                *_whole(money),
            ),
        )


def _asked(connection: sqlite3.Connection, by: Sequence[str], scope: str, bounds: Mapping[str, int]) -> Groups:
    """(keys, totals) of each group of the attempts in a scope, read one by one."""
    keys = [f"{_GROUP_SQL[name]} AS key_{number}" for number, name in enumerate(by)]
    tokens = [f"COALESCE(SUM(a.{column}), 0)" for column in TOKEN_COLUMNS]
    money = [
        f"COALESCE(SUM(({value}) >> {LOW_BITS}), 0), COALESCE(SUM(({value}) & {LOW}), 0)"
        for value in _MONEY_SQL.values()
    ]
    tables = "a JOIN r ON r.request = a.request"
    if "tag" in by:
        tables += " LEFT JOIN json_each(a.tags) AS t"
    if "plan" in by:
        tables += " LEFT JOIN decisions AS d ON d.id = a.decision_id"
    grouping = f" GROUP BY {', '.join(str(number + 1) for number in range(len(by)))}" if by else ""
    figures = ", ".join([*keys, *_COUNTS_SQL.values(), *tokens, *money])
    # Every piece is a literal of this file, chosen by name; the instants are bound.
    query = f"{_SCOPE_SQL.format(scope=scope)} SELECT {figures} FROM {tables}{grouping}"  # noqa: S608  # See above.
    halves = len(by) + len(_COUNTS_SQL) + len(tokens)
    for row in connection.execute(query, bounds):
        if row[len(by) + 1]:
            whole = (
                int(high << LOW_BITS) + int(low) for high, low in zip(row[halves::2], row[halves + 1 :: 2], strict=True)
            )
            yield row[: len(by)], (*row[len(by) : halves], *whole)


def _whole(halves: Sequence[int]) -> Iterator[int]:
    return ((high << LOW_BITS) + low for high, low in zip(halves[::2], halves[1::2], strict=True))


def _merge(found: dict[tuple[Any, ...], Totals], more: Groups) -> None:
    for keys, totals in more:
        before = found.get(keys)
        found[keys] = totals if before is None else tuple(map(add, before, totals))


def _told(found: Mapping[tuple[Any, ...], Totals]) -> list[CostSums]:
    """In the order of the keys, so that the same attempts give the same list however they came to be stored."""
    at = len(_COUNTS_SQL)
    rest = at + len(TOKEN_COLUMNS)
    told = []
    for keys, totals in sorted(found.items(), key=lambda one: [(key is not None, str(key)) for key in one[0]]):
        counts: tuple[Any, ...] = totals[:at]
        money: tuple[Any, ...] = totals[rest:]
        tokens = dict(zip(TOKEN_COLUMNS, totals[at:rest], strict=True))
        figures = (*counts, tokens, *money)
        told.append(CostSums(keys, *figures))
    return told


_SPENT_SQL = """
SELECT w.name, a.key_id, a.tags, a.day, SUM(a.cost_pusd >> 32), SUM(a.cost_pusd & 4294967295)
FROM attempts AS a JOIN writers AS w ON w.id = a.writer
WHERE a.cost_pusd > 0 AND ({scope})
GROUP BY 1, 2, 3, 4
"""

_SPENT_ROLLED_SQL = """
SELECT w.name, a.key_id, a.tags, s.day, SUM(s.high), SUM(s.low) FROM (
    SELECT dimensions, writer, start * {hours} / 24 AS day, SUM(cost_high) AS high, SUM(cost_low) AS low
    FROM {table} WHERE start >= ? AND start < ? GROUP BY 1, 2, 3
) AS s JOIN dimensions AS a ON a.id = s.dimensions JOIN writers AS w ON w.id = s.writer
GROUP BY 1, 2, 3, 4
"""


def spent(connection: sqlite3.Connection, since_ms: int) -> list[Spent]:
    """See `Sink.spent`."""
    first = -(-since_ms // HOUR_MS)
    found: dict[tuple[Any, ...], int] = {}
    folded = dict(connection.execute("SELECT level, before FROM folded"))
    for piece in pieces(first, _LAST // HOUR_MS, folded, by_day=True):
        query = _SPENT_ROLLED_SQL.format(hours=piece.level.hours, table=piece.level.table)
        for writer, key_id, tags, day, high, low in connection.execute(query, piece[1:]):
            _count(found, (writer, key_id, tags, day_of(day * _DAY_HOURS * HOUR_MS)), high, low)
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
        Spent(writer, key_id, tuple(orjson.loads(tags)), day, pusd)
        for (writer, key_id, tags, day), pusd in found.items()
        if pusd
    ]
