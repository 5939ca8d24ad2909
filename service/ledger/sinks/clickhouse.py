"""The ClickHouse sink: one database that any number of data directories fill, each with what its own journal says.

Where on the path: beside it; see `port` for what a sink must do, `clickhouse_layout` for how rows replace each other.

Invariants
1. There are no transactions, so every step may come twice: a batch's rows are written first, its checkpoint last. What
   broke off between is written again, over itself.
2. A data directory is known by the id in its `ledger.id`. Its sink touches the rows of that id only.
3. A checkpoint names the tables that it was made in: those of other tables count for nothing.
4. Neither the URL nor a value of a row is in any message.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson

from service.domain.lengths import AnswerLength
from service.errors import ConfigurationError
from service.ledger.sinks import clickhouse_layout as layout
from service.ledger.sinks import clickhouse_reports as reports
from service.ledger.sinks import identity
from service.ledger.sinks.clickhouse_audit import audit, checkpoints
from service.ledger.sinks.clickhouse_client import Client, Unknown, place_of, quoted
from service.ledger.sinks.clickhouse_folding import Versions, change
from service.ledger.sinks.halves import writer_of
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

QUIET_S: Final = 10.0
"""How long an audit waits for a batch that is on its way, which takes milliseconds."""

AUDITS_MAX: Final = 5
"""How often an audit begins anew when a batch came in meanwhile."""

_ANSWERS_SQL: Final = f"""
SELECT model, intent, effort, output_tokens, reasoning_tokens, last_user_tokens, choices,
    ifNull(output_tokens + reasoning_tokens >= output_tokens_cap * choices, 0)
FROM {layout.ATTEMPTS} FINAL
WHERE state = 'settled' AND final = 1 AND ended = 'complete' AND simulated = 0 AND kind = 'answer'
    AND usage_source IN ('provider', 'counted')
    AND isNotNull(model) AND isNotNull(intent) AND isNotNull(effort) AND choices > 0 AND isNotNull(last_user_tokens)
    {{scope}}
ORDER BY at_ms DESC LIMIT {ANSWERS_MAX}
"""  # noqa: S608  # Literals of this package.


class ClickHouseSink:
    """See the module. Nothing is connected before `prepare` or the first question."""

    def __init__(self, location: str, data_dir: Path) -> None:
        """Raises ConfigurationError for a URL that can't be read."""
        self._place = place_of(location)
        self._data_dir = data_dir
        self._filling: Client | None = None
        self._source = self._made = ""
        self._versions = Versions()
        self._lock = threading.Lock()

    def prepare(self, *, keep: bool = False) -> None:
        """Connect for filling and make the tables; raises ConfigurationError, OSError and SinkFault."""
        with self._lock:
            if self._filling is not None:
                return
            self._source = identity.made(self._data_dir)
            client = Client(self._place)
            try:
                with _filling():
                    client.settle_inserts()
                    self._made = _lay_out(client, keep=keep)
            except BaseException:
                client.close()
                raise
            self._filling = client

    def damage(self, within_s: float) -> str | None:
        """See `Sink`: every column is read from end to end."""
        due = time.monotonic() + within_s
        try:
            with self._asking() as (client, _):
                for table in layout.OWNED:
                    query = f"SELECT count() FROM {table} WHERE NOT ignore(*)"  # noqa: S608  # Literals of this package.
                    client.rows(query, max(1.0, due - time.monotonic()))
        except SinkDamaged as damage:
            return str(damage)
        return None

    def discard(self) -> str:
        """See `Sink`: the tables are renamed. Others who fill them build theirs again, too."""
        self.close()
        with _filling(), Client(self._place) as client:
            for table in layout.MAKE:
                aside = layout.DAMAGED + table.removeprefix(layout.PREFIX)
                client.run(f"DROP TABLE IF EXISTS {aside}")
                with contextlib.suppress(Unknown):
                    client.run(f"RENAME TABLE {table} TO {aside}")
        return f"{layout.DAMAGED}*"

    def checkpoints(self) -> dict[str, int]:
        """See `Sink`."""
        with self._asking() as (client, made):
            return checkpoints(client, identity.known(self._data_dir) or "", made)

    def store(self, batch: Batch) -> None:
        """See `Sink`; what raises is stored in part at most, and is stored over itself the next time."""
        with self._changing() as client:
            found = change(client, self._source, batch, writer_of(batch.segment), self._versions)
            version = self._versions.next()
            mine: dict[str, Any] = {"source": self._source, "version": version}
            checkpoint = {"segment": batch.segment, "at_byte": batch.end, "made": self._made}
            stored = orjson.dumps(checkpoint | mine)
            if any(found.values()):
                client.insert(layout.FILLING, [orjson.dumps(mine | {"done": 0})])
            for table, rows in found.items():
                client.insert(table, rows)
            client.insert(layout.CHECKPOINT, [stored])
            client.insert(layout.FILLING, [orjson.dumps(mine | {"done": 1, "version": self._versions.next()})])

    def clear(self) -> None:
        """See `Sink`: of this data directory."""
        with self._changing() as client:
            for table in layout.OWNED:
                client.run(f"ALTER TABLE {table} DROP PARTITION {quoted(self._source)}")

    def sums(
        self, by: Sequence[str], since_ms: int | None, until_ms: int | None, compared: int = len(BASELINES)
    ) -> list[CostSums]:
        """See `Sink`: of all data directories. Raises ValueError for an unknown grouping."""
        check_grouping(by)
        with self._asking() as (client, _):
            return reports.sums(client, by, since_ms, until_ms, compared)

    def decision(self, decision_id: str) -> dict[str, object] | None:
        """See `Sink`."""
        query = f"SELECT json FROM {layout.DECISIONS} FINAL WHERE id = {quoted(decision_id)} LIMIT 1"  # noqa: S608  # As above; quoted.
        with self._asking() as (client, _):
            found = client.rows(query)
        if not found:
            return None
        try:
            record: dict[str, object] = orjson.loads(found[0][0])
        except orjson.JSONDecodeError as error:
            raise SinkDamaged("a decision is not what was written") from error
        return record

    def attempts(self, decision_id: str) -> list[dict[str, object]]:
        """See `Sink`; `writer` is a name here."""
        name = quoted(decision_id)
        query = (
            f"SELECT {', '.join(layout.TOLD)} FROM {layout.ATTEMPTS} FINAL WHERE decision_id = {name} "  # noqa: S608  # As above.
            f"AND attempt_id IN (SELECT attempt_id FROM {layout.REQUESTS} WHERE decision_id = {name}) "
            "ORDER BY isNotNull(attempt_number), attempt_number, at_ms, attempt_id"
        )
        with self._asking() as (client, _):
            return [dict(zip(layout.TOLD, row, strict=True)) for row in client.rows(query)]

    def answers(self, since_ms: int | None, until_ms: int | None) -> list[AnswerLength]:
        """See `Sink`."""
        scope = f"AND at_ms >= {since_ms:d} " if since_ms is not None else ""
        scope += f"AND at_ms < {until_ms:d}" if until_ms is not None else ""
        with self._asking() as (client, _):
            found = [(*row[:-1], bool(row[-1])) for row in client.rows(_ANSWERS_SQL.format(scope=scope))]
        return [AnswerLength(*row) for row in found]

    def spent(self, since_ms: int) -> list[Spent]:
        """See `Sink`: by writers of all data directories."""
        with self._asking() as (client, _):
            return reports.spent(client, since_ms)

    def problems(self) -> list[Problem]:
        """See `Sink`: of this data directory."""
        query = (
            f"SELECT segment, at_byte, what FROM {layout.PROBLEMS} FINAL "  # noqa: S608  # As above.
            f"WHERE source = {quoted(identity.known(self._data_dir) or '')} ORDER BY segment, at_byte, what"
        )
        with self._asking() as (client, _):
            return [Problem(*row) for row in client.rows(query)]

    def audit(self, progress: Callable[[int, int], None] | None = None) -> Audit:
        """See `Sink`: of this data directory. One state is seen by seeing that none came in meanwhile."""
        source = identity.known(self._data_dir)
        with self._asking() as (client, made):
            if source is None:
                raise SinkMissing("nothing of this data directory was ever indexed")
            for _ in range(AUDITS_MAX):
                before = _quiet(client, source)
                found = audit(client, source, made, progress)
                if _quiet(client, source) == before:
                    return found
        raise SinkFault(
            "the index was filled while it was looked at, again and again: try when there are fewer requests"
        )

    def close(self) -> None:
        """See `Sink`."""
        with self._lock:
            if self._filling is not None:
                self._filling.close()
                self._filling = None

    @contextmanager
    def _changing(self) -> Iterator[Client]:
        """One thread at a time, in the tables that were prepared."""
        with self._lock:
            if self._filling is None:
                raise RuntimeError("the sink isn't open for filling; call prepare() first")
            with _filling():
                found = _version(self._filling)
                if found is None or found[1] != self._made:
                    raise SinkFault("the ledger's tables were made anew by another router; filling begins again")
                yield self._filling

    @contextmanager
    def _asking(self) -> Iterator[tuple[Client, str]]:
        """(connections of its own, the id of the tables)."""
        with Client(self._place) as client:
            found = _version(client)
            if found is None:
                raise SinkMissing("the ledger's tables aren't made yet")
            if found[0] != layout.VERSION:
                raise SinkFault(
                    f"the ledger's tables are of another version of this program (layout {found[0]}, this one knows "
                    f"{layout.VERSION}): ask with the version that the routers run"
                )
            yield client, found[1]


def _lay_out(client: Client, *, keep: bool) -> str:
    """Make what tables are missing; the id of these tables."""
    found = _version(client)
    if found is not None and found[0] > layout.VERSION:
        raise ConfigurationError(
            f"the ledger's tables have layout {found[0]}, this program knows {layout.VERSION}: run the newer one"
        )
    if found is not None and found[0] < layout.VERSION:
        if keep:
            raise ConfigurationError(OLDER)
        for table in layout.MAKE:
            client.run(f"DROP TABLE IF EXISTS {table}")
        found = None
    for table, made in layout.MAKE.items():
        client.run(f"CREATE TABLE IF NOT EXISTS {table} {made}")
    if found is None:
        row = {"version": layout.VERSION, "made": f"{time.time_ns():020d}-{secrets.token_hex(8)}"}
        client.insert(layout.LAYOUT_TABLE, [orjson.dumps(row)])
        # Of several who made them at once the first one counts, for all.
        found = _version(client)
    if found is None:
        raise SinkFault("the ledger's tables went away while they were made; they are made again")
    return found[1]


def _version(client: Client) -> tuple[int, str] | None:
    """(layout, id of these tables), or `None` without tables."""
    query = f"SELECT version, made FROM {layout.LAYOUT_TABLE} ORDER BY version DESC, made LIMIT 1"  # noqa: S608  # A literal.
    try:
        found = client.rows(query)
    except Unknown:
        return None
    return (int(found[0][0]), str(found[0][1])) if found else None


def _quiet(client: Client, source: str) -> int:
    """Which batch was stored last; raises SinkFault when one stays on its way."""
    query = f"SELECT done, version FROM {layout.FILLING} FINAL WHERE source = {quoted(source)}"  # noqa: S608  # A literal; quoted.
    due = time.monotonic() + QUIET_S
    while (found := client.rows(query)) and not found[0][0]:
        if time.monotonic() > due:
            raise SinkFault("a batch was indexed in part only: start the router, which stores the rest")
        time.sleep(0.05)
    return int(found[0][1]) if found else 0


@contextmanager
def _filling() -> Iterator[None]:
    """What is missing while filling is no empty index."""
    try:
        yield
    except Unknown as error:
        raise SinkFault(f"{error}: the ledger's tables or their database are gone; tables are made again") from error
