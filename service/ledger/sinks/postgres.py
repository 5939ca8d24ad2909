"""The PostgreSQL sink: one database that any number of data directories fill, each with what its own journal says.

Where on the path: beside it; see `port` for what a sink must do.

Invariants
1. One transaction at a time changes anything, whichever data directory it is from: all take the same advisory lock. So
   rollups are added to by one, and nobody waits for two things at once.
2. A data directory is known by the id in its `ledger.id`. Its sink touches the rows of that id only: emptying it, or
   building it again, leaves those of others alone.
3. Every question reads one state: a read-only transaction of a connection of its own.
4. Tables that were made anew since they were prepared are not filled further: the checkpoints are read again first.
5. Neither the URL nor a value of a row is in any message.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson
import psycopg
from psycopg import conninfo, errors

from service.domain.lengths import AnswerLength
from service.errors import ConfigurationError
from service.ledger.sinks import identity
from service.ledger.sinks import postgres_layout as layout
from service.ledger.sinks import postgres_reports as reports
from service.ledger.sinks.halves import OPEN_COLUMNS, TERMINAL_COLUMNS, writer_of
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
from service.ledger.sinks.postgres_audit import audit
from service.ledger.sinks.postgres_folding import Change, Numbers
from service.ledger.sinks.postgres_layout import Connection
from service.ledger.sinks.rollup import LEVELS

DEFAULTS: Final[Mapping[str, str | int]] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 15_000,
    "application_name": "coe-router ledger",
}
"""What a URL may say otherwise. A server that is cut off is given up after so many milliseconds."""

LOCK_WAIT_S: Final = 10
"""How long a batch waits for another data directory's, which takes milliseconds; emptying takes longer."""

ASKING_MIB: Final = 64
"""What a step of a report may take of the server's memory before it goes to its disk."""

_DAMAGE: Final = (errors.DataCorrupted, errors.IndexCorrupted)
_MISSING: Final = (errors.UndefinedTable, errors.InvalidSchemaName, errors.UndefinedColumn)

_ANSWERS_SQL: Final = f"""
SELECT model, intent, effort, output_tokens, reasoning_tokens, last_user_tokens, choices,
    output_tokens_cap IS NOT NULL AND output_tokens + reasoning_tokens >= output_tokens_cap * choices
FROM {layout.SCHEMA}.attempts
WHERE at_ms >= %s AND at_ms < %s
    AND state = 'settled' AND final = 1 AND ended = 'complete' AND simulated = 0 AND kind = 'answer'
    AND usage_source IN ('provider', 'counted')
    AND model IS NOT NULL AND intent IS NOT NULL AND effort IS NOT NULL AND choices > 0 AND last_user_tokens IS NOT NULL
ORDER BY at_ms DESC LIMIT {ANSWERS_MAX}
"""  # noqa: S608  # Literals of this package.

_COLUMNS: Final = ("attempt_id", "at_ms", "day", *OPEN_COLUMNS, *TERMINAL_COLUMNS)


class PostgresSink:
    """See the module. Nothing is connected before `prepare` or the first question."""

    def __init__(self, location: str, data_dir: Path) -> None:
        """`location` is a URL of libpq; raises ConfigurationError for one that can't be read."""
        try:
            said: dict[str, Any] = {**DEFAULTS, **conninfo.conninfo_to_dict(location)}
            self._where = conninfo.make_conninfo(**said)
        except psycopg.Error:
            # libpq's own words quote what it can't read, which may be the password.
            raise ConfigurationError(
                "the PostgreSQL URL can't be read; write postgresql://user:password@host:5432/database, and % as %25"
            ) from None
        self._data_dir = data_dir
        self._filling: Connection | None = None
        self._source = self._made = self._unknown = 0
        self._numbers = Numbers()
        self._lock = threading.Lock()

    def prepare(self, *, keep: bool = False) -> None:
        """Connect for filling and make the tables; raises ConfigurationError and SinkFault."""
        with self._lock:
            if self._filling is not None:
                return
            name = identity.made(self._data_dir)
            with _faults():
                connection: Connection = psycopg.connect(self._where, autocommit=True, prepare_threshold=None)
                try:
                    with _transaction(connection):
                        self._lay_out(connection, keep=keep)
                        self._source, self._unknown = _source(connection, name)
                except BaseException:
                    connection.close()
                    raise
            self._filling = connection
            self._numbers.forget()

    def _lay_out(self, connection: Connection, *, keep: bool) -> None:
        found = _version(connection)
        if found is not None and found[0] > layout.VERSION:
            raise ConfigurationError(
                f"the ledger's tables have layout {found[0]}, this program knows {layout.VERSION}: run the newer one"
            )
        if found is not None and found[0] < layout.VERSION and keep:
            raise ConfigurationError(OLDER)
        if found is None or found[0] < layout.VERSION:
            connection.execute(f"DROP SCHEMA IF EXISTS {layout.SCHEMA} CASCADE")
            connection.execute(layout.MAKE)
            insert = f"INSERT INTO {layout.SCHEMA}.layout VALUES (%s, gen_random_uuid())"  # noqa: S608  # A literal.
            connection.execute(insert, (layout.VERSION,))
            found = _version(connection)
        self._made = found[1] if found is not None else 0

    def damage(self, within_s: float) -> str | None:
        """See `Sink`: every table is read from end to end."""
        try:
            with self._asking() as connection:
                connection.execute(f"SET LOCAL statement_timeout = {max(1, int(within_s * 1000))}")
                tables = ("attempts", "decisions", "dimensions", *(level.table for level in LEVELS))
                for table in tables:
                    connection.execute(f"SELECT SUM(LENGTH(t::text)) FROM {layout.SCHEMA}.{table} AS t")  # noqa: S608  # Literals.
        except SinkDamaged as damage:
            return str(damage)
        return None

    def discard(self) -> str:
        """See `Sink`: the schema is renamed. Others who fill it build theirs again, too."""
        self.close()
        with _faults(), psycopg.connect(self._where, autocommit=True) as connection, _transaction(connection):
            connection.execute(f"DROP SCHEMA IF EXISTS {layout.DAMAGED} CASCADE")
            connection.execute(f"ALTER SCHEMA {layout.SCHEMA} RENAME TO {layout.DAMAGED}")
        return layout.DAMAGED

    def checkpoints(self) -> dict[str, int]:
        """See `Sink`."""
        with self._asking() as connection:
            query = (
                f"SELECT segment, at_byte FROM {layout.SCHEMA}.checkpoint AS c "  # noqa: S608  # A literal.
                f"JOIN {layout.SCHEMA}.sources AS s ON s.id = c.source WHERE s.name = %s"
            )
            return {
                str(segment): int(at) for segment, at in connection.execute(query, (identity.known(self._data_dir),))
            }

    def store(self, batch: Batch) -> None:
        """See `Sink`; what raises leaves everything as it was."""
        with self._changing() as connection:
            writer = _number(connection, self._source, writer_of(batch.segment))
            change = Change(connection, self._numbers, self._source, self._unknown)
            change.make(batch.lines, writer)
            problems = [(self._source, *_values(problem)) for problem in (*change.problems, *batch.problems)]
            if problems:
                with connection.cursor() as cursor:
                    cursor.executemany(layout.PUT_PROBLEM, problems)
            connection.execute(layout.PUT_CHECKPOINT, (self._source, batch.segment, batch.end))

    def clear(self) -> None:
        """See `Sink`: of this data directory."""
        with self._changing() as connection:
            for level in LEVELS:
                connection.execute(
                    f"DELETE FROM {layout.SCHEMA}.{level.table} WHERE writer IN "  # noqa: S608  # Literals.
                    f"(SELECT id FROM {layout.SCHEMA}.writers WHERE source = %s)",
                    (self._source,),
                )
            for table in layout.OWNED:
                connection.execute(f"DELETE FROM {layout.SCHEMA}.{table} WHERE source = %s", (self._source,))  # noqa: S608  # As above.

    def sums(
        self, by: Sequence[str], since_ms: int | None, until_ms: int | None, compared: int = len(BASELINES)
    ) -> list[CostSums]:
        """See `Sink`: of all data directories. Raises ValueError for an unknown grouping."""
        check_grouping(by)
        with self._asking() as connection:
            return reports.sums(connection, by, since_ms, until_ms, compared)

    def decision(self, decision_id: str) -> dict[str, object] | None:
        """See `Sink`."""
        with self._asking() as connection:
            query = f"SELECT json FROM {layout.SCHEMA}.decisions WHERE id = %s"  # noqa: S608  # A literal.
            row = connection.execute(query, (_text(decision_id),)).fetchone()
        if row is None:
            return None
        try:
            record: dict[str, object] = orjson.loads(row[0])
        except orjson.JSONDecodeError as error:
            raise SinkDamaged("a decision is not what was written") from error
        return record

    def attempts(self, decision_id: str) -> list[dict[str, object]]:
        """See `Sink`."""
        query = (
            f"SELECT {', '.join(_COLUMNS)} FROM {layout.SCHEMA}.attempts WHERE decision_id = %s "  # noqa: S608  # Literals.
            "ORDER BY attempt_number NULLS FIRST, at_ms, attempt_id"
        )
        with self._asking() as connection:
            return [dict(zip(_COLUMNS, row, strict=True)) for row in connection.execute(query, (_text(decision_id),))]

    def answers(self, since_ms: int | None, until_ms: int | None) -> list[AnswerLength]:
        """See `Sink`."""
        bounds = (reports.FIRST if since_ms is None else since_ms, reports.LAST if until_ms is None else until_ms)
        with self._asking() as connection:
            return [AnswerLength(*row) for row in connection.execute(_ANSWERS_SQL, bounds)]

    def spent(self, since_ms: int) -> list[Spent]:
        """See `Sink`: by writers of all data directories."""
        with self._asking() as connection:
            return reports.spent(connection, since_ms)

    def problems(self) -> list[Problem]:
        """See `Sink`: of this data directory."""
        query = (
            f"SELECT segment, at_byte, what FROM {layout.SCHEMA}.problems AS p "  # noqa: S608  # A literal.
            f"JOIN {layout.SCHEMA}.sources AS s ON s.id = p.source WHERE s.name = %s ORDER BY 1, 2, 3"
        )
        with self._asking() as connection:
            return [Problem(*row) for row in connection.execute(query, (identity.known(self._data_dir),))]

    def audit(self, progress: Callable[[int, int], None] | None = None) -> Audit:
        """See `Sink`: of this data directory."""
        with self._asking() as connection:
            query = f"SELECT id FROM {layout.SCHEMA}.sources WHERE name = %s"  # noqa: S608  # A literal.
            found = connection.execute(query, (identity.known(self._data_dir),)).fetchone()
            if found is None:
                raise SinkMissing("nothing of this data directory was ever indexed")
            return audit(connection, int(found[0]), progress)

    def close(self) -> None:
        """See `Sink`."""
        with self._lock:
            if self._filling is not None:
                self._filling.close()
                self._filling = None

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        """All of it or nothing, and nobody else meanwhile."""
        with self._lock:
            if self._filling is None:
                raise RuntimeError("the sink isn't open for filling; call prepare() first")
            try:
                with _faults(), _transaction(self._filling) as connection:
                    found = _version(connection)
                    if found is None or found[1] != self._made:
                        raise SinkFault("the ledger's tables were made anew by another router; filling begins again")
                    yield connection
            except BaseException:
                self._numbers.forget()
                raise

    @contextmanager
    def _asking(self) -> Iterator[Connection]:
        """A read-only connection of its own: a snapshot that neither waits for filling nor holds it up."""
        with _faults(asking=True), psycopg.connect(self._where, autocommit=True, prepare_threshold=None) as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            # Compiling takes longer than adding up a few million rows.
            connection.execute(f"SET LOCAL jit = off; SET LOCAL work_mem = '{ASKING_MIB}MB'")
            found = _version(connection)
            if found is None:
                raise SinkMissing("the ledger's tables aren't made yet")
            if found[0] != layout.VERSION:
                raise SinkFault(
                    f"the ledger's tables are of another version of this program (layout {found[0]}, this one knows "
                    f"{layout.VERSION}): ask with the version that the routers run"
                )
            yield connection
            connection.execute("COMMIT")


def _version(connection: Connection) -> tuple[Any, ...] | None:
    """(layout, id of these tables), or `None` without tables."""
    found = connection.execute("SELECT to_regclass(%s)", (f"{layout.SCHEMA}.layout",)).fetchone()
    if found is None or found[0] is None:
        return None
    row = connection.execute(f"SELECT version, made FROM {layout.SCHEMA}.layout").fetchone()  # noqa: S608  # A literal.
    return None if row is None else tuple(row)


def _source(connection: Connection, name: str) -> tuple[int, int]:
    """(number of a data directory, number of its unknown writer)."""
    insert = f"INSERT INTO {layout.SCHEMA}.sources (name) VALUES (%s) ON CONFLICT DO NOTHING"  # noqa: S608  # A literal.
    connection.execute(insert, (name,))
    query = f"SELECT id FROM {layout.SCHEMA}.sources WHERE name = %s"  # noqa: S608  # A literal.
    found = connection.execute(query, (name,)).fetchone()
    source = int(found[0]) if found is not None else 0
    return source, _number(connection, source, "")


def _number(connection: Connection, source: int, writer: str) -> int:
    """The number of a writer."""
    query = f"SELECT id FROM {layout.SCHEMA}.writers WHERE source = %s AND name = %s"  # noqa: S608  # A literal.
    found = connection.execute(query, (source, writer)).fetchone()
    if found is None:
        insert = f"INSERT INTO {layout.SCHEMA}.writers (source, name) VALUES (%s, %s) RETURNING id"  # noqa: S608  # As above.
        found = connection.execute(insert, (source, writer)).fetchone()
    return int(found[0]) if found is not None else 0


@contextmanager
def _transaction(connection: Connection) -> Iterator[Connection]:
    """A transaction of whoever changes anything."""
    with connection.transaction():
        connection.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (layout.LOCK,))
        yield connection


@contextmanager
def _faults(*, asking: bool = False) -> Iterator[None]:
    """PostgreSQL's own words for what every sink may meet; `asking` where nobody ever filled it."""
    try:
        yield
    except _DAMAGE as error:
        raise SinkDamaged(f"PostgreSQL: {type(error).__name__}") from error
    except _MISSING as error:
        if asking:
            raise SinkMissing("the ledger's tables aren't there") from error
        raise SinkFault("the ledger's tables are gone; they are made again") from error
    except psycopg.OperationalError as error:
        # Of the connection or the server, not of a row.
        raise SinkFault(f"PostgreSQL: {_first_line(error)}") from error
    except psycopg.Error as error:
        raise SinkFault(f"PostgreSQL: {type(error).__name__} ({error.sqlstate})") from error


def _first_line(error: psycopg.Error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _values(problem: Problem) -> tuple[object, object, object]:
    return problem.segment, problem.offset, problem.what


def _text(name: str) -> str:
    """An id that somebody asks for: PostgreSQL has no text with a NUL in it, so none is found."""
    return name.replace("\x00", "\ufffd")
