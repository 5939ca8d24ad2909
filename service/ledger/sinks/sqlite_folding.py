"""The rollups of the SQLite sink kept up with the attempts, in the transactions that store those.

Where on the path: below `sinks.sqlite`; what a request adds is told by `rollup`.

New and changed attempts wait until some thousands have come together, and are then added at once: most are the only one
of their request, and SQLite adds those up by itself, without holding up other threads of ours. Of a request that is in
the rollups already, what it had added is subtracted before anything of it changes, and it waits anew.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import add
from typing import Any, Final

import orjson

from service.ledger.lines import Line
from service.ledger.sinks.port import BASELINES, TOKEN_COLUMNS, Baseline
from service.ledger.sinks.rollup import COUNTS, DIMENSIONS, HOUR_MS, KEYS, LEVELS, MONEY, TOKENS_MAX, Row, added
from service.ledger.sinks.sqlite_layout import LOW, LOW_BITS, SUMS

SETTLE_ROWS = 4_000
"""Attempts that wait until they are added: a report reads those one by one, in some ten milliseconds."""

Key = tuple[int, int, int]
"""(hour, number of the set of dimensions, writer)."""

_DIMENSIONS: Final = (
    *("a.model", "a.provider", "a.intent", "a.language", "a.key_id", "a.tags", "a.policy", "a.requested_model"),
    *("d.plan", "CASE a.simulated WHEN 1 THEN 'true' ELSE 'false' END"),
)
_TOKENS: Final = tuple(f"a.{column}" for column in TOKEN_COLUMNS)

_COLUMNS: Final = (
    "COALESCE(a.decision_id, a.attempt_id)",
    *("a.id", "a.attempt_id", "a.at_ms", "COALESCE(a.writer, 0)", "a.state", "a.usage_source", "a.kind"),
    *("a.final", "a.attempt_number", "a.cost_pusd"),
    *(*(f"a.{baseline.column}" for baseline in BASELINES), *_DIMENSIONS, *_TOKENS),
)
_AT_BASELINES: Final = 11
_AT_DIMENSIONS: Final = _AT_BASELINES + len(BASELINES)
_AT_TOKENS: Final = _AT_DIMENSIONS + len(DIMENSIONS)
_ROWS: Final = (
    f"SELECT {', '.join(_COLUMNS)} FROM json_each(?) AS asked "  # noqa: S608  # Names are literals of this package.
    "CROSS JOIN attempts AS a ON {found} LEFT JOIN decisions AS d ON d.id = a.decision_id"
)
_OF_DECISIONS: Final = _ROWS.format(found="a.decision_id = asked.value")
_LONE: Final = _ROWS.format(found="a.attempt_id = asked.value AND a.decision_id IS NULL")

_ROLLED: Final = """
SELECT a.decision_id, a.attempt_id FROM json_each(?) AS asked CROSS JOIN attempts AS a ON a.{column} = asked.value
WHERE a.id <= ? AND NOT EXISTS (SELECT 1 FROM waiting WHERE id = a.id)
    AND NOT EXISTS (SELECT 1 FROM apart WHERE id = a.id)
"""
"""Attempts that are in the rollups, by decision or by id."""

_SEVERAL: Final = """
SELECT DISTINCT a.decision_id FROM waiting CROSS JOIN attempts AS a ON a.id = waiting.id
WHERE EXISTS (SELECT 1 FROM attempts AS other WHERE other.decision_id = a.decision_id AND other.id <> a.id)
"""

_MAKE_SINGLE: Final = (
    "CREATE TEMP TABLE IF NOT EXISTS single "
    f"(id INTEGER PRIMARY KEY, start, dimensions, writer, name, {', '.join(SUMS)})"
)
_BILLABLE: Final = "(a.state <> 'refused' AND a.kind IS NOT 'cache')"


def _compared(baseline: Baseline) -> dict[str, str]:
    """Of an attempt that is the only one of its request, by the names of `COUNTS` and `MONEY`."""
    compared = f"(a.final IS 1 AND a.{baseline.column} IS NOT NULL AND a.cost_pusd IS NOT NULL)"
    charged = f"{compared} OR a.state = 'unknown'"
    return {
        f"{baseline.name}_requests": compared,
        baseline.name: f"CASE WHEN {compared} THEN a.{baseline.column} ELSE 0 END",
        f"{baseline.name}_compared": f"CASE WHEN {charged} THEN COALESCE(a.cost_pusd, 0) ELSE 0 END",
    }


_BASELINES: Final = ", ".join(f"{sql} AS {name}" for one in BASELINES for name, sql in _compared(one).items())
_SINGLE: Final = f"""
INSERT INTO single SELECT id, start, (SELECT id FROM dimensions WHERE dimensions.name = found.name), writer, name,
    1, 1, 1, 1, 1, {", ".join(SUMS[5 : len(COUNTS)])},
    {", ".join(f"{name} >> {LOW_BITS}, {name} & {LOW}" for name in MONEY)}
FROM (
    SELECT a.id, a.at_ms / {HOUR_MS} AS start, COALESCE(a.writer, 0) AS writer,
        json_array({", ".join(_DIMENSIONS)}) AS name, a.simulated IS 1 AS simulated_attempts, {_BILLABLE} AS billable,
        {_BILLABLE} AND a.usage_source IS NOT 'provider' AS guessed, a.cost_pusd IS NULL AS unpriced,
        {", ".join(_TOKENS)}, COALESCE(a.cost_pusd, 0) AS cost, {_BASELINES}
    FROM waiting CROSS JOIN attempts AS a ON a.id = waiting.id LEFT JOIN decisions AS d ON d.id = a.decision_id
    WHERE a.state <> 'open' AND a.at_ms >= 0 AND COALESCE(a.cost_pusd, 0) >= 0
        AND {" AND ".join(f"{token} BETWEEN 0 AND {TOKENS_MAX >> 4}" for token in _TOKENS)}
        AND typeof({" + ".join(_TOKENS)}) = 'integer'
) AS found
"""  # noqa: S608  # As above.
"""Of the attempts that wait, those that have ended and whose figures are as writers of ours write them."""

_ADDED: Final = "SELECT id FROM single WHERE dimensions > 0"

_ADDING: Final = f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in SUMS)}"
_UPSERT: Final = {
    level: f"INSERT INTO {level.table} VALUES ({', '.join('?' * (len(KEYS) + len(SUMS)))}) {_ADDING}"  # noqa: S608  # As above.
    for level in LEVELS
}
_UPSERT_SINGLE: Final = {
    level: f"INSERT INTO {level.table} SELECT start / {level.hours}, dimensions, writer, "  # noqa: S608  # As above.
    f"{', '.join(f'SUM({name})' for name in SUMS)} FROM single WHERE dimensions > 0 AND start < ? "
    f"GROUP BY 1, 2, 3 {_ADDING}"
    for level in LEVELS
}
_EMPTIED: Final = {
    level: f"DELETE FROM {level.table} WHERE start = ? AND dimensions = ? AND writer = ? AND attempts = 0"  # noqa: S608  # As above.
    for level in LEVELS
}
_FOLD: Final = {
    level: f"INSERT INTO {level.table} SELECT start * {finer.hours} / {level.hours}, dimensions, writer, "  # noqa: S608  # As above.
    f"{', '.join(f'SUM({name})' for name in SUMS)} FROM {finer.table} "
    f"WHERE start >= ?1 * {level.hours // finer.hours} AND start < ?2 * {level.hours // finer.hours} GROUP BY 1, 2, 3"
    for finer, level in itertools.pairwise(LEVELS)
}
_PUT_DIMENSIONS: Final = (
    f"INSERT OR IGNORE INTO dimensions VALUES (?, {', '.join('?' * len(DIMENSIONS))}, json_array("  # noqa: S608  # As above.
    f"{', '.join(f'?{number + 2}' for number in range(len(DIMENSIONS)))}))"
)
_NUMBER_OF: Final = f"SELECT id FROM dimensions WHERE name = json_array({', '.join('?' * len(DIMENSIONS))})"  # noqa: S608  # As above.


class Rollup:
    """The rollups of one index that is being filled; `forget` when its file or its transaction is another."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._waiting: int | None = None
        """How much waits, at most; what changes twice is counted twice."""
        self._more = 0

    def forget(self) -> None:
        """What was remembered of the tables may not hold any more."""
        self._waiting = None

    def begin(self, connection: sqlite3.Connection, lines: Iterable[Line], changed: Collection[str], last: int) -> None:
        """Take out of the rollups what `lines` are about to change.

        They name decisions; of `changed` attempts, by id, a half may be stored. `last` is the newest id of an attempt
        that was stored before.
        """
        named = {body.get("id" if kind == "decision" else "decision_id") for kind, body, *_ in lines}
        rolled = connection.execute(_ROLLED.format(column="decision_id"), (_list(named - {None}), last)).fetchall()
        if changed:
            rolled += connection.execute(_ROLLED.format(column="attempt_id"), (_list(changed), last))
        deltas: dict[Key, list[int]] = {}
        decisions = {decision for decision, _ in rolled if decision is not None}
        for now in _requests(connection, decisions, {attempt for decision, attempt in rolled if decision is None}):
            rows = [row for row in now if row.id <= last]
            _take(connection, rows, deltas, -1)
            connection.executemany("INSERT OR IGNORE INTO waiting VALUES (?)", [(row.id,) for row in rows])
        if deltas:
            _write(connection, deltas)
        self._more = len(changed) + len(rolled)

    def finish(self, connection: sqlite3.Connection, changed: Collection[str], last: int) -> None:
        """Let wait what is new or `changed` as in `begin`, and add it up when it has become much."""
        connection.execute("INSERT OR IGNORE INTO waiting SELECT id FROM attempts WHERE id > ?", (last,))
        if changed:
            connection.execute(
                "INSERT OR IGNORE INTO waiting SELECT a.id FROM json_each(?) AS asked "
                "CROSS JOIN attempts AS a ON a.attempt_id = asked.value AND a.id <= ?",
                (_list(changed), last),
            )
        (newest,) = connection.execute("SELECT MAX(id) FROM attempts").fetchone()
        if self._waiting is None:
            (self._waiting,) = connection.execute("SELECT COUNT(*) FROM waiting").fetchone()
        else:
            self._waiting += (newest or 0) - last + self._more
        if self._waiting >= SETTLE_ROWS:
            settle(connection)
            self._waiting = 0


def settle(connection: sqlite3.Connection) -> None:
    """Add up all that waits; what can't be stands apart from now on, until it changes."""
    deltas: dict[Key, list[int]] = {}
    several = {decision for (decision,) in connection.execute(_SEVERAL)}
    regular: list[tuple[int]] = []
    others: list[tuple[int]] = []
    for rows in _requests(connection, several, set()):
        (regular if _take(connection, rows, deltas, 1) else others).extend((row.id,) for row in rows)
    connection.executemany("DELETE FROM waiting WHERE id = ?", [*regular, *others])
    connection.executemany("DELETE FROM apart WHERE id = ?", regular)
    connection.execute(_MAKE_SINGLE)
    connection.execute(_SINGLE)
    for (name,) in connection.execute("SELECT DISTINCT name FROM single WHERE dimensions IS NULL").fetchall():
        _number_of(connection, orjson.loads(name))
    connection.execute(
        "UPDATE single SET dimensions = (SELECT id FROM dimensions WHERE dimensions.name = single.name) "
        "WHERE dimensions IS NULL"
    )
    connection.execute(f"INSERT OR IGNORE INTO apart SELECT id FROM waiting WHERE id NOT IN ({_ADDED})")  # noqa: S608  # A literal.
    connection.executemany("INSERT OR IGNORE INTO apart VALUES (?)", others)
    connection.execute(f"DELETE FROM apart WHERE id IN ({_ADDED})")  # noqa: S608  # As above.
    connection.execute("DELETE FROM waiting")
    _write(connection, deltas, with_single=True)
    connection.execute("DELETE FROM single")


def _number_of(connection: sqlite3.Connection, dimensions: Sequence[Any]) -> int:
    """The number of a set of dimensions, given when there is none; negative for one that can't be rolled up."""
    found = connection.execute(_NUMBER_OF, dimensions).fetchone()
    if found is not None:
        return int(found[0])
    tags = orjson.loads(dimensions[DIMENSIONS.index("tags")])
    # An attempt stands in the group of each tag: the same one twice is no sum.
    fits = isinstance(tags, list) and all(isinstance(tag, str) for tag in tags) and len(set(tags)) == len(tags)
    end = "SELECT MAX(id) FROM dimensions" if fits else "SELECT MIN(id) FROM dimensions"
    (last,) = connection.execute(end).fetchone()
    number = max(last or 0, 0) + 1 if fits else min(last or 0, 0) - 1
    connection.execute(_PUT_DIMENSIONS, (number, *dimensions))
    return number


def _requests(connection: sqlite3.Connection, decisions: set[str], lone: set[str]) -> Collection[list[Row]]:
    """The attempts of decisions, and of attempts that have none, as they are stored now: one list a request."""
    found: dict[str, list[Row]] = {}
    for query, asked in ((_OF_DECISIONS, decisions), (_LONE, lone)):
        if asked:
            for row in connection.execute(query, (_list(asked),)):
                baselines, dimensions = row[_AT_BASELINES:_AT_DIMENSIONS], row[_AT_DIMENSIONS:_AT_TOKENS]
                figures: tuple[Any, ...] = (*row[1:_AT_BASELINES], baselines, dimensions, row[_AT_TOKENS:])
                found.setdefault(row[0], []).append(Row(*figures))
    return found.values()


def _take(connection: sqlite3.Connection, rows: Sequence[Row], deltas: dict[Key, list[int]], sign: int) -> bool:
    """Add (1) or subtract (-1) what the attempts of a request add; false when it can't be rolled up."""
    found = added(rows)
    if found is None:
        return False
    numbers = [_number_of(connection, one.dimensions) for one in found]
    if min(numbers) < 0:
        return False
    for number, (hour, _, writer, values) in zip(numbers, found, strict=True):
        key = (hour, number, writer)
        signed = values if sign == 1 else [-value for value in values]
        deltas[key] = list(map(add, deltas[key], signed)) if key in deltas else signed
    return True


def _list(names: Iterable[Any]) -> str:
    return orjson.dumps(list(names)).decode("utf-8")


def _write(connection: sqlite3.Connection, deltas: Mapping[Key, list[int]], *, with_single: bool = False) -> None:
    """Add deltas (as in `Added`) and `single` to the hours and to every coarser period that is folded; fold more."""
    folded = dict(connection.execute("SELECT level, before FROM folded"))
    for level in LEVELS:
        first = level is LEVELS[0]
        before = 2**62 if first else folded.get(level.table, 0)
        due: dict[Key, list[int]] = {}
        for (hour, number, writer), values in deltas.items():
            period = hour // level.hours
            if period < before:
                key = (period, number, writer)
                due[key] = list(map(add, due[key], values)) if key in due else values
        _add(connection, _UPSERT[level], _EMPTIED[level], due)
        if with_single:
            connection.execute(_UPSERT_SINGLE[level], (before if first else before * level.hours,))
        if not first:
            (newest,) = connection.execute("SELECT MAX(start) FROM rollup_hours").fetchone()
            over = (newest or 0) // level.hours
            if over > before:
                connection.execute(_FOLD[level], (before, over))
                connection.execute("INSERT OR REPLACE INTO folded VALUES (?, ?)", (level.table, over))


def _add(connection: sqlite3.Connection, upsert: str, emptied: str, deltas: Mapping[Key, list[int]]) -> None:
    last = len(COUNTS)
    connection.executemany(
        upsert,
        [
            (*key, *values[:last], *(half for amount in values[last:] for half in (amount >> LOW_BITS, amount & LOW)))
            for key, values in deltas.items()
            if any(values)
        ],
    )
    # What has become nothing goes: a rebuilt index would not have it.
    less = [key for key, values in deltas.items() if values[0] < 0]
    if less:
        connection.executemany(emptied, less)
