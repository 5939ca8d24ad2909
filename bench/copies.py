"""A ledger made ten times as long in a minute: its attempts and sums copied within the database, hours later each time.

Used by reports.py: filling a ledger of ten million attempts takes a quarter of an hour, copying a tenth of it little.
What a copy lacks is what no report looks at: other keys and models than its original.
"""

# ruff: noqa: S608  # names in the statements are literals of the sinks
from __future__ import annotations

import itertools
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from service.ledger.sinks import sqlite_layout
from service.ledger.sinks.halves import OPEN_COLUMNS, TERMINAL_COLUMNS
from service.ledger.sinks.rollup import COUNTS, HOUR_MS, LEVELS, MONEY

REST = ", ".join(name for name in (*OPEN_COLUMNS, *TERMINAL_COLUMNS) if name not in ("decision_id", "opened_ms"))


def copy_sqlite(path: Path, copies: int) -> None:
    """Have an index of the SQLite sink hold itself so many times."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        (many,) = connection.execute("SELECT MAX(id) FROM attempts").fetchone()
        first, last = connection.execute("SELECT MIN(at_ms), MAX(at_ms) FROM attempts").fetchone()
        hours = last // HOUR_MS - first // HOUR_MS + 1
        for number in range(1, copies):
            later = number * hours * HOUR_MS
            connection.execute("BEGIN")
            connection.execute(
                f"INSERT INTO attempts (id, attempt_id, at_ms, day, decision_id, opened_ms, {REST}) "
                f"SELECT id + {number * many}, attempt_id || ':{number}', at_ms + {later}, "
                f"date((at_ms + {later}) / 1000, 'unixepoch'), decision_id || ':{number}', opened_ms + {later}, {REST} "
                f"FROM attempts WHERE id <= {many}"
            )
            connection.execute(
                f"INSERT INTO decisions SELECT id || ':{number}', key_id, at_ms + {later}, plan, json FROM decisions "
                "WHERE id NOT LIKE '%:%'"
            )
            connection.execute(
                f"INSERT INTO apart SELECT id + {number * many} FROM ({sqlite_layout.LEFT_OUT}) WHERE id <= {many}"
            )
            connection.execute(
                f"INSERT INTO rollup_hours SELECT start + {number * hours}, dimensions, writer, "
                f"{', '.join(sqlite_layout.SUMS)} FROM rollup_hours WHERE start <= {last // HOUR_MS}"
            )
            connection.execute("COMMIT")
            print(f"copy {number + 1} of {copies}", file=sys.stderr, flush=True)
        (newest,) = connection.execute("SELECT MAX(start) FROM rollup_hours").fetchone()
        for finer, level in itertools.pairwise(LEVELS):
            connection.execute(f"DELETE FROM {level.table}")
            sums = ", ".join(f"SUM({name})" for name in sqlite_layout.SUMS)
            before = newest // level.hours
            connection.execute(
                f"INSERT INTO {level.table} SELECT start * {finer.hours} / {level.hours}, dimensions, writer, {sums} "
                f"FROM {finer.table} WHERE start < {before * level.hours // finer.hours} GROUP BY 1, 2, 3"
            )
            connection.execute("INSERT OR REPLACE INTO folded VALUES (?, ?)", (level.table, before))


def copy_postgres(url: str, copies: int) -> None:
    """Have the tables of the PostgreSQL sink hold themselves so many times."""
    import psycopg  # noqa: PLC0415 # only who asks for it

    sums = ", ".join((*COUNTS, *MONEY))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET search_path TO coe_ledger")
        connection.execute("SET synchronous_commit TO off")
        ((first, last),) = connection.execute("SELECT MIN(at_ms), MAX(at_ms) FROM attempts").fetchall()
        hours = last // HOUR_MS - first // HOUR_MS + 1
        for number in range(1, copies):
            later = number * hours * HOUR_MS
            connection.execute(
                f"INSERT INTO attempts (attempt_id, source, apart, at_ms, day, decision_id, opened_ms, {REST}) "
                f"SELECT attempt_id || ':{number}', source, apart, at_ms + {later}, "
                f"to_char(to_timestamp((at_ms + {later}) / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD'), "
                f"decision_id || ':{number}', opened_ms + {later}, {REST} FROM attempts WHERE at_ms <= {last}"
            )
            connection.execute(
                f"INSERT INTO decisions SELECT id || ':{number}', source, key_id, at_ms + {later}, plan, json "
                "FROM decisions WHERE id NOT LIKE '%:%'"
            )
            connection.execute(
                f"INSERT INTO rollup_hours SELECT start + {number * hours}, dimensions, writer, {sums} "
                f"FROM rollup_hours WHERE start <= {last // HOUR_MS}"
            )
            print(f"copy {number + 1} of {copies}", file=sys.stderr, flush=True)
        ((newest,),) = connection.execute("SELECT MAX(start) FROM rollup_hours").fetchall()
        for finer, level in itertools.pairwise(LEVELS):
            connection.execute(f"DELETE FROM {level.table}")
            before = newest // level.hours
            connection.execute(
                f"INSERT INTO {level.table} SELECT start * {finer.hours} / {level.hours}, dimensions, writer, "
                f"{', '.join(f'SUM({name})' for name in (*COUNTS, *MONEY))} FROM {finer.table} "
                f"WHERE start < {before * level.hours // finer.hours} GROUP BY 1, 2, 3"
            )
            connection.execute(
                "INSERT INTO folded VALUES (%s, %s) ON CONFLICT (level) DO UPDATE SET before = excluded.before",
                (level.table, before),
            )
        connection.execute("VACUUM (ANALYZE) attempts, rollup_hours, rollup_days, rollup_octets, rollup_blocks")
