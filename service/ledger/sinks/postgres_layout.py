"""The tables of the PostgreSQL sink, and the statements that fill them. Literal SQL.

Where on the path: below `sinks.postgres`; what a row of attempts is stands in `halves`, what rollups are in `rollup`.

The tables lie in a schema of their own and may be filled from several data directories. Each of these is a source: its
attempts, decisions, checkpoints and problems carry its number, and its writers do, by which its rollups are known.
Money of one attempt is a bigint; sums of money are numeric, because they outgrow 64 bits at 9.2 million USD.
Texts are compared byte by byte (collation C), as Python and SQLite do.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Final

import psycopg

from service.ledger.sinks.halves import (
    DECISION_COLUMNS,
    DEFAULTS,
    OPEN_COLUMNS,
    TERMINAL_COLUMNS,
    WHOLE_COLUMNS,
    Kind,
    kind_of,
)
from service.ledger.sinks.port import BASELINES, LAYOUT, TOKEN_COLUMNS
from service.ledger.sinks.rollup import COUNTS, DIMENSIONS, KEYS, LEVELS, MONEY

Connection = psycopg.Connection[tuple[Any, ...]]

SCHEMA: Final = "coe_ledger"

DAMAGED: Final = f"{SCHEMA}_damaged"
"""What a damaged schema is called from then on; the next one that is damaged takes its place."""

VERSION: Final = LAYOUT

_TYPES: Final[Mapping[Kind, str]] = {
    Kind.TEXT: 'text COLLATE "C"',
    Kind.INTEGER: "bigint",
    Kind.REAL: "double precision",
    Kind.MONEY: "bigint",
}


def _column(name: str) -> str:
    default = f" NOT NULL DEFAULT '{DEFAULTS[name]}'" if name in DEFAULTS else ""
    return f"{name} {_TYPES[kind_of(name)]}{default}"


_TEXT: Final = _TYPES[Kind.TEXT]

SUMS: Final = (*COUNTS, *MONEY)

ROLLUP: Final = f"""
CREATE TABLE {SCHEMA}.{{table}} (
    {", ".join(f"{name} bigint NOT NULL" for name in (*KEYS, *COUNTS))},
    {", ".join(f"{name} numeric NOT NULL" for name in MONEY)},
    PRIMARY KEY ({", ".join(KEYS)})
) WITH (fillfactor = 70)
"""
"""Sums are updated where they stand, again and again: room for that on each page."""

MAKE: Final = f"""
CREATE SCHEMA {SCHEMA};
CREATE TABLE {SCHEMA}.layout (version integer NOT NULL, made uuid NOT NULL);
CREATE TABLE {SCHEMA}.sources (id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY, name {_TEXT} UNIQUE NOT NULL);
CREATE TABLE {SCHEMA}.writers (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, source integer NOT NULL, name {_TEXT} NOT NULL,
    UNIQUE (source, name)
);
CREATE TABLE {SCHEMA}.attempts (
    attempt_id {_TEXT} NOT NULL PRIMARY KEY, source integer NOT NULL, apart boolean NOT NULL,
    at_ms bigint NOT NULL, day {_TEXT} NOT NULL,
    {", ".join(_column(name) for name in (*OPEN_COLUMNS, *TERMINAL_COLUMNS))}
);
CREATE INDEX attempts_at ON {SCHEMA}.attempts (at_ms);
CREATE INDEX attempts_decision ON {SCHEMA}.attempts (decision_id);
CREATE INDEX attempts_apart ON {SCHEMA}.attempts (at_ms) WHERE apart;
CREATE TABLE {SCHEMA}.decisions (
    id {_TEXT} PRIMARY KEY, source integer NOT NULL, key_id {_TEXT}, at_ms bigint, plan {_TEXT}, json text NOT NULL
);
CREATE TABLE {SCHEMA}.checkpoint (
    source integer NOT NULL, segment {_TEXT} NOT NULL, at_byte bigint NOT NULL, PRIMARY KEY (source, segment)
);
CREATE TABLE {SCHEMA}.problems (
    source integer NOT NULL, segment {_TEXT} NOT NULL, at_byte bigint NOT NULL, what {_TEXT} NOT NULL,
    PRIMARY KEY (source, segment, at_byte, what)
);
CREATE TABLE {SCHEMA}.dimensions (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, {", ".join(f"{name} {_TEXT}" for name in DIMENSIONS)},
    tag_list text[] NOT NULL, name {_TEXT} NOT NULL UNIQUE
);
CREATE TABLE {SCHEMA}.folded (level {_TEXT} PRIMARY KEY, before bigint NOT NULL);
{";".join(ROLLUP.format(table=level.table) for level in LEVELS)}
"""
"""`apart` are attempts that no rollup holds. `folded` says before which period a coarser level holds everything."""

OWNED: Final = ("attempts", "decisions", "checkpoint", "problems")
"""Tables with a column `source`."""

LOCK: Final = 0x636F655F6C656467
"""The advisory lock of whoever changes anything: one transaction at a time, whichever data directory it is from."""

COPIED: Final = ("source", "apart", *WHOLE_COLUMNS)
COPY: Final = f"COPY {SCHEMA}.attempts ({', '.join(COPIED)}) FROM STDIN"


def _put(columns: tuple[str, ...], more: str) -> str:
    taken = ", ".join(f"{name} = %({name})s" for name in columns)
    return f"UPDATE {SCHEMA}.attempts SET {taken}{more} WHERE attempt_id = %(attempt_id)s"  # noqa: S608  # Names are literals of this package.


PUT_OPEN: Final = _put(OPEN_COLUMNS, ", at_ms = %(at_ms)s, day = %(day)s")
PUT_TERMINAL: Final = _put(TERMINAL_COLUMNS, "")
"""One half of an attempt whose row is there."""

PUT_DECISIONS: Final = (
    f"INSERT INTO {SCHEMA}.decisions (source, {', '.join(DECISION_COLUMNS)}) "  # noqa: S608  # As above.
    "SELECT %s, * FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::text[], %s::text[]) "
    "ON CONFLICT (id) DO UPDATE SET "
    f"{', '.join(f'{name} = excluded.{name}' for name in DECISION_COLUMNS[1:])}"
)

PUT_PROBLEM: Final = f"INSERT INTO {SCHEMA}.problems VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"  # noqa: S608  # As above.
PUT_CHECKPOINT: Final = (
    f"INSERT INTO {SCHEMA}.checkpoint VALUES (%s, %s, %s) "  # noqa: S608  # As above.
    "ON CONFLICT (source, segment) DO UPDATE SET at_byte = excluded.at_byte"
)

NAMED: Final = (
    *("a.model", "a.provider", "a.intent", "a.language", "a.key_id", "a.tags", "a.policy", "a.requested_model"),
    *("d.plan", "CASE a.simulated WHEN 1 THEN 'true' ELSE 'false' END"),
)
"""`DIMENSIONS` of an attempt `a` and its decision `d`."""

ROWS: Final = (
    "SELECT COALESCE(a.decision_id, a.attempt_id), a.apart, a.decision_id, a.open_rank, a.terminal_rank, a.attempt_id, "  # noqa: S608  # As above.
    "a.at_ms, a.writer, a.state, a.usage_source, a.kind, a.final, a.attempt_number, a.cost_pusd, "
    f"{', '.join((*(f'a.{one.column}' for one in BASELINES), *NAMED, *(f'a.{name}' for name in TOKEN_COLUMNS)))} "
    f"FROM {SCHEMA}.attempts AS a LEFT JOIN {SCHEMA}.decisions AS d ON d.id = a.decision_id "
)
BY_DECISION: Final = f"{ROWS} WHERE a.decision_id = ANY(%s)"
BY_ATTEMPT: Final = f"{ROWS} WHERE a.attempt_id = ANY(%s)"

_ADD: Final = ", ".join(f"{name} = r.{name} + excluded.{name}" for name in SUMS)
UPSERT: Final = {
    level: f"INSERT INTO {SCHEMA}.{level.table} AS r ({', '.join((*KEYS, *SUMS))}) SELECT * FROM unnest("  # noqa: S608  # As above.
    f"{', '.join(['%s::bigint[]'] * (len(KEYS) + len(COUNTS)) + ['%s::numeric[]'] * len(MONEY))}) "
    f"ON CONFLICT ({', '.join(KEYS)}) DO UPDATE SET {_ADD}"
    for level in LEVELS
}
EMPTIED: Final = {
    level: f"DELETE FROM {SCHEMA}.{level.table} AS r USING unnest(%s::bigint[], %s::bigint[], %s::bigint[]) "  # noqa: S608  # As above.
    f"AS gone ({', '.join(KEYS)}) WHERE attempts = 0 AND {' AND '.join(f'r.{name} = gone.{name}' for name in KEYS)}"
    for level in LEVELS
}
FOLD: Final = {
    coarser: f"INSERT INTO {SCHEMA}.{coarser.table} ({', '.join((*KEYS, *SUMS))}) "  # noqa: S608  # As above.
    f"SELECT start * {finer.hours} / {coarser.hours}, dimensions, writer, "
    f"{', '.join(f'SUM({name})' for name in SUMS)} FROM {SCHEMA}.{finer.table} "
    f"WHERE start >= %s::bigint * {coarser.hours // finer.hours} "
    f"AND start < %s::bigint * {coarser.hours // finer.hours} GROUP BY 1, 2, 3"
    for finer, coarser in itertools.pairwise(LEVELS)
}
