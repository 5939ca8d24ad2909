"""The default sink: one SQLite file beside the journal.

Where on the path: beside it; see `port` for what a sink must do.

Invariants
1. WAL with synchronous=FULL: an indexed batch survives a power cut (NORMAL would lose acknowledged rows).
2. One connection fills, under a lock; every question opens its own read-only connection, so that asking never waits.
3. The rollups change in the transaction that changes the attempts, so that no question sees one without the other.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson

from service.domain.lengths import AnswerLength
from service.errors import ConfigurationError
from service.ledger.segments import FILE_MODE
from service.ledger.sinks import halves
from service.ledger.sinks import sqlite_layout as layout
from service.ledger.sinks import sqlite_reports as reports
from service.ledger.sinks.port import (
    ANSWERS_MAX,
    BASELINES,
    OLDER,
    Audit,
    Batch,
    CostSums,
    Problem,
    SinkDamaged,
    SinkFault,
    SinkMissing,
    Spent,
    check_grouping,
)
from service.ledger.sinks.sqlite_audit import audit
from service.ledger.sinks.sqlite_folding import Rollup

DAMAGED = ".damaged"
"""Added to the name of a file that is no database any more; the next one that is damaged takes its place."""

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

LOOK_EVERY = 100_000
"""Steps of SQLite from one look at the clock to the next: some milliseconds."""

BUSY_S = 5.0
"""How long a statement waits for another process's transaction; a batch takes milliseconds."""

_ANSWERS_SQL = """
SELECT model, intent, effort, output_tokens, reasoning_tokens, last_user_tokens, choices,
    output_tokens_cap IS NOT NULL AND output_tokens + reasoning_tokens >= output_tokens_cap * choices
FROM attempts
WHERE at_ms >= COALESCE(:since_ms, -9223372036854775808) AND at_ms < COALESCE(:until_ms, 9223372036854775807)
    AND state = 'settled' AND final = 1 AND ended = 'complete' AND simulated = 0 AND kind = 'answer'
    AND usage_source IN ('provider', 'counted')
    AND model IS NOT NULL AND intent IS NOT NULL AND effort IS NOT NULL AND choices > 0 AND last_user_tokens IS NOT NULL
ORDER BY at_ms DESC LIMIT :most
"""


class SqliteSink:
    """See the module. `location` is the file's path; nothing is opened before `prepare` or the first question."""

    def __init__(self, location: str) -> None:
        """`location` relative to the working directory or absolute."""
        self.path = Path(location)
        self._filling: sqlite3.Connection | None = None
        self._rollup = Rollup()
        self._lock = threading.Lock()

    def prepare(self, *, keep: bool = False) -> None:
        """Open the file for filling and lay the tables out; raises ConfigurationError."""
        with self._lock:
            if self._filling is not None:
                return
            try:
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
                connection = sqlite3.connect(
                    self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=64
                )
                try:
                    self._lay_out(connection, keep=keep)
                except BaseException:
                    connection.close()
                    raise
            except (OSError, sqlite3.Error) as error:
                if isinstance(fault := _fault(error), SinkDamaged):
                    raise fault from error
                raise ConfigurationError(
                    f"the ledger index {self.path} can't be opened ({error}); the journal is not affected: move the "
                    "file away and it is built again, or make its directory writable"
                ) from error
            self._filling = connection
            self._rollup.forget()  # another process may have filled the file meanwhile

    def damage(self, within_s: float) -> str | None:
        """See `Sink`: every page and row, on a connection of its own, which remembers nothing that was read before."""
        due = time.monotonic() + within_s
        try:
            with (
                _faults(),
                closing(
                    sqlite3.connect(self._read_only(), uri=True, timeout=BUSY_S, isolation_level=None)
                ) as connection,
            ):
                connection.set_progress_handler(lambda: int(time.monotonic() > due), LOOK_EVERY)
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except SinkDamaged as damage:
            return str(damage)
        return None if found == "ok" else str(found)

    def discard(self) -> str:
        """See `Sink`: the file is renamed, and what waited beside it goes."""
        self.close()
        damaged = self.path.with_name(self.path.name + DAMAGED)
        self.path.replace(damaged)
        for side in ("-wal", "-shm"):
            self.path.with_name(self.path.name + side).unlink(missing_ok=True)
        return str(damaged)

    def _lay_out(self, connection: sqlite3.Connection, *, keep: bool) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        with _transaction(connection):
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found == layout.SCHEMA_VERSION:
                return
            if found > layout.SCHEMA_VERSION:
                raise ConfigurationError(
                    f"the ledger index {self.path} has layout {found}, this program knows {layout.SCHEMA_VERSION}; "
                    "run the newer program, or move the file away and it is built again from the journal"
                )
            if found and keep:
                raise ConfigurationError(OLDER)
            for table in layout.TABLES:
                connection.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in layout.SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {layout.SCHEMA_VERSION}")

    def checkpoints(self) -> dict[str, int]:
        """See `Sink`."""
        with self._asking() as connection:
            return dict(connection.execute("SELECT segment, offset FROM checkpoint"))

    def store(self, batch: Batch) -> None:
        """See `Sink`; what raises leaves everything as it was."""
        whole, others = halves.whole_attempts(batch.lines)
        with self._changing() as connection:
            writer = _writer_id(connection, batch.segment)
            (last,) = connection.execute("SELECT COALESCE(MAX(id), 0) FROM attempts").fetchone()
            before = connection.total_changes
            connection.executemany(layout.PUT_WHOLE, [halves.whole_values(*lines, writer) for lines in whole])
            if connection.total_changes - before < len(whole):
                # Some were there already. Each line by itself changes nothing where it was taken a moment ago.
                others = batch.lines
            changed = {str(line.body.get("attempt_id")) for line in others if line.kind in ("open", "terminal")}
            self._rollup.begin(connection, batch.lines, changed, last)
            connection.executemany(
                layout.PUT_DECISION, [halves.decision_values(line) for line in batch.lines if line.kind == "decision"]
            )
            for line in others:
                if line.kind == "open":
                    values = halves.open_values(line, writer)
                    connection.execute(layout.NOTE_SECOND_OPEN, values)
                    connection.execute(layout.PUT_OPEN, values)
                elif line.kind == "terminal":
                    values = halves.terminal_values(line)
                    connection.execute(layout.NOTE_SECOND_TERMINAL, values)
                    connection.execute(layout.PUT_TERMINAL, values)
            self._rollup.finish(connection, changed, last)
            connection.executemany(
                "INSERT OR IGNORE INTO problems VALUES (?, ?, ?)",
                [(problem.segment, problem.offset, problem.what) for problem in batch.problems],
            )
            connection.execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?)", (batch.segment, batch.end))

    def clear(self) -> None:
        """See `Sink`."""
        with self._changing() as connection:
            self._rollup.forget()
            for table in layout.TABLES:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608  # Names are literals of the layout.

    def sums(
        self, by: Sequence[str], since_ms: int | None, until_ms: int | None, compared: int = len(BASELINES)
    ) -> list[CostSums]:
        """See `Sink`; raises ValueError for an unknown grouping."""
        check_grouping(by)
        with self._asking() as connection:
            return reports.sums(connection, by, since_ms, until_ms, compared)

    def decision(self, decision_id: str) -> dict[str, object] | None:
        """See `Sink`."""
        with self._asking() as connection:
            row = connection.execute("SELECT json FROM decisions WHERE id = ?", (decision_id,)).fetchone()
        if row is None:
            return None
        try:
            record: dict[str, object] = orjson.loads(row[0])
        except orjson.JSONDecodeError as error:
            raise SinkDamaged("a decision is not what was written") from error
        return record

    def attempts(self, decision_id: str) -> list[dict[str, object]]:
        """See `Sink`."""
        with self._asking() as connection:
            connection.row_factory = sqlite3.Row
            query = "SELECT * FROM attempts WHERE decision_id = ? ORDER BY attempt_number, at_ms, attempt_id"
            rows = connection.execute(query, (decision_id,)).fetchall()
        return [{name: row[name] for name in row.keys() if name != "id"} for row in rows]  # noqa: SIM118  # A row is no mapping: iterating it gives its values.

    def answers(self, since_ms: int | None, until_ms: int | None) -> list[AnswerLength]:
        """See `Sink`."""
        with self._asking() as connection:
            rows = connection.execute(
                _ANSWERS_SQL, {"since_ms": since_ms, "until_ms": until_ms, "most": ANSWERS_MAX}
            ).fetchall()
        return [_answer(row) for row in rows]

    def spent(self, since_ms: int) -> list[Spent]:
        """See `Sink`."""
        with self._asking() as connection:
            return reports.spent(connection, since_ms)

    def problems(self) -> list[Problem]:
        """See `Sink`."""
        with self._asking() as connection:
            rows = connection.execute("SELECT segment, offset, what FROM problems ORDER BY segment, offset, what")
            return [Problem(*row) for row in rows]

    def audit(self, progress: Callable[[int, int], None] | None = None) -> Audit:
        """See `Sink`."""
        with self._asking() as connection:
            connection.execute("PRAGMA temp_store = DEFAULT")  # a busy day is sorted: not all of it in memory
            return audit(connection, progress)

    def close(self) -> None:
        """See `Sink`."""
        with self._lock:
            if self._filling is not None:
                self._filling.close()
                self._filling = None

    def _open(self) -> sqlite3.Connection:
        if self._filling is None:
            raise RuntimeError("the sink isn't open for filling; call prepare() first")
        return self._filling

    def _read_only(self) -> str:
        return f"{self.path.absolute().as_uri()}?mode=ro"

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, and nobody else meanwhile."""
        with self._lock:
            try:
                with _transaction(self._open()) as connection:
                    yield connection
            except BaseException:
                self._rollup.forget()
                raise

    @contextmanager
    def _asking(self) -> Iterator[sqlite3.Connection]:
        """A read-only connection of its own: a snapshot that neither waits for filling nor holds it up."""
        if not self.path.exists():
            raise SinkMissing(f"there is no ledger index at {self.path}")
        with (
            _faults(),
            closing(sqlite3.connect(self._read_only(), uri=True, timeout=BUSY_S, isolation_level=None)) as connection,
        ):
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute("BEGIN")
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found != layout.SCHEMA_VERSION:
                raise SinkMissing(f"the ledger index {self.path} isn't built for this program yet")
            yield connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    with _faults():
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite has rolled back by itself when the disk is full.
                connection.execute("ROLLBACK")
            raise


@contextmanager
def _faults() -> Iterator[None]:
    """SQLite's own words for what every sink may meet."""
    try:
        yield
    except sqlite3.Error as error:
        fault = _fault(error)
        if fault is None:
            raise
        raise fault from error


def _fault(error: Exception) -> SinkFault | None:
    """What an error of SQLite means to whoever uses a sink; `None` for a mistake in the program."""
    # The low byte is the kind, what is above it says more.
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
        return SinkDamaged(str(error))
    return SinkFault(str(error)) if isinstance(error, sqlite3.OperationalError) else None


def _answer(row: Sequence[Any]) -> AnswerLength:
    """A row of `_ANSWERS_SQL`, whose last column is whether the answer was cut."""
    model, intent, effort, visible, reasoning, last, choices, cut = row
    return AnswerLength(model, intent, effort, visible, reasoning, last, choices, cut=bool(cut))


def _writer_id(connection: sqlite3.Connection, segment: str) -> int:
    """The number of the writer of a segment, whose file is named after it."""
    name = (halves.writer_of(segment),)
    connection.execute("INSERT OR IGNORE INTO writers (name) VALUES (?)", name)
    (found,) = connection.execute("SELECT id FROM writers WHERE name = ?", name).fetchone()
    return int(found)
