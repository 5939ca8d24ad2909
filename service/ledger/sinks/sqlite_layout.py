"""The tables of the SQLite sink, and the statements that fill them. Literal SQL.

Where on the path: below `sinks.sqlite`; what a row of attempts is stands in `halves`, what the rollups are in `rollup`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from service.ledger.sinks.halves import (
    DECISION_COLUMNS,
    DEFAULTS,
    OPEN_COLUMNS,
    TERMINAL_COLUMNS,
    WHOLE_COLUMNS,
    Kind,
    kind_of,
)
from service.ledger.sinks.port import LAYOUT
from service.ledger.sinks.rollup import COUNTS, DIMENSIONS, KEYS, LEVELS, MONEY

SCHEMA_VERSION: Final = LAYOUT
"""Kept in `user_version`. The index is rebuilt when it changes: there are no migrations of what can be derived."""

_TYPES: Final[Mapping[Kind, str]] = {
    Kind.TEXT: "TEXT",
    Kind.INTEGER: "INTEGER",
    Kind.REAL: "REAL",
    Kind.MONEY: "INTEGER CHECK (typeof({name}) IN ('integer', 'null'))",
}


def _column(name: str) -> str:
    default = f" NOT NULL DEFAULT '{DEFAULTS[name]}'" if name in DEFAULTS else ""
    return f"{name} {_TYPES[kind_of(name)].format(name=name)}{default}"


_ATTEMPTS: Final = f"""
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    attempt_id TEXT NOT NULL UNIQUE,
    at_ms INTEGER NOT NULL,
    day TEXT NOT NULL,
    {", ".join(_column(name) for name in (*OPEN_COLUMNS, *TERMINAL_COLUMNS))}
);
CREATE INDEX attempts_at ON attempts (at_ms);
CREATE INDEX attempts_decision ON attempts (decision_id);
CREATE TABLE decisions (id TEXT PRIMARY KEY, key_id TEXT, at_ms INTEGER, plan, json TEXT NOT NULL);
CREATE TABLE writers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE checkpoint (segment TEXT PRIMARY KEY, offset INTEGER NOT NULL);
CREATE TABLE problems (segment TEXT, offset INTEGER, what TEXT, PRIMARY KEY (segment, offset, what));
"""
"""`at_ms` is the dispatch, or the end where the open row is damaged; `writer` is who opened it, of `writers`."""

SUMS: Final = (*COUNTS, *(f"{name}_{half}" for name in MONEY for half in ("high", "low")))
"""Of a rollup. Money in two columns of 32 bits whose sums Python puts together: no sum of them overflows."""

LOW_BITS: Final = 32
LOW: Final = (1 << LOW_BITS) - 1

_ROLLUPS: Final = ";".join(
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

SCHEMA: Final = _ATTEMPTS + _ROLLUPS

LEFT_OUT: Final = "SELECT id FROM waiting UNION ALL SELECT id FROM apart"
"""Attempts that no rollup holds."""

TABLES: Final = (
    *("attempts", "decisions", "writers", "checkpoint", "problems"),
    *("dimensions", "folded", "waiting", "apart", *(level.table for level in LEVELS)),
)


def _upsert(columns: tuple[str, ...], rank: str, on_update: str) -> str:
    names = ", ".join(columns)
    values = ", ".join(f":{column}" for column in columns)
    taken = ", ".join(f"{column} = excluded.{column}" for column in columns)
    # Every name comes from the tuples above; the values are bound.
    return (
        f"INSERT INTO attempts (attempt_id, at_ms, day, {names}) VALUES (:attempt_id, :at_ms, :day, {values}) "  # noqa: S608  # Names are literals of this file.
        f"ON CONFLICT (attempt_id) DO UPDATE SET {on_update}{taken} "
        f"WHERE attempts.{rank} IS NULL OR excluded.{rank} < attempts.{rank}"
    )


PUT_OPEN: Final = _upsert(OPEN_COLUMNS, "open_rank", "at_ms = excluded.at_ms, day = excluded.day, ")
PUT_TERMINAL: Final = _upsert(TERMINAL_COLUMNS, "terminal_rank", "")
"""Each half by its own statement, so that the two may come in any order."""

NOTE_SECOND_OPEN: Final = """
INSERT OR IGNORE INTO problems SELECT '', 0, 'attempt ' || attempt_id || ' has more than one open row'
FROM attempts WHERE attempt_id = :attempt_id AND open_rank <> :open_rank
"""

NOTE_SECOND_TERMINAL: Final = """
INSERT OR IGNORE INTO problems SELECT '', 0, 'attempt ' || attempt_id || ' has more than one terminal row'
FROM attempts WHERE attempt_id = :attempt_id AND terminal_rank <> :terminal_rank
"""

PUT_WHOLE: Final = (
    f"INSERT INTO attempts ({', '.join(WHOLE_COLUMNS)}) "  # noqa: S608  # Names are literals of this package.
    f"VALUES ({', '.join('?' * len(WHOLE_COLUMNS))}) ON CONFLICT (attempt_id) DO NOTHING"
)
"""Both halves of an attempt at once, where the table has neither; else nothing."""

PUT_DECISION: Final = (
    f"INSERT OR REPLACE INTO decisions ({', '.join(DECISION_COLUMNS)}) "  # noqa: S608  # As above.
    f"VALUES ({', '.join(f':{name}' for name in DECISION_COLUMNS)})"
)
