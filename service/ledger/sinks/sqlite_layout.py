"""The tables of the SQLite sink, and how journal bodies become their rows. Literal SQL and pure functions.

Where on the path: below `sinks.sqlite`.

An attempt is one row. Its columns come in two halves, one from the `open` line and one from the `terminal` line. Each
half is written by its own statement, so that the two may come in any order, and carries the rank of its line (time and
checksum): the same line again changes nothing; another line for the same half is damage, and the lower rank wins, so
that the result doesn't depend on the order of reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

import orjson

from service.domain.money import BUCKETS
from service.ledger.lines import Line

SCHEMA_VERSION = 4
"""Kept in `user_version`. The index is rebuilt when it changes: there are no migrations of what can be derived."""

OPEN_COLUMNS = (
    "request_id",
    "decision_id",
    "attempt_number",
    "opened_ms",
    "key_id",
    "requested_model",
    "model",
    "provider",
    "wire_name",
    "intent",
    "language",
    "policy",
    "price_version",
    "reserved_pusd",
    "tags",
    "streaming",
    "simulated",
    "kind",
    "effort",
    "choices",
    "output_tokens_cap",
    "last_user_tokens",
    "writer",
    "open_rank",
)

_BUCKET_COLUMNS = tuple(
    (bucket, f"{bucket}_tokens" if bucket != "requests" else "billed_requests") for bucket in BUCKETS
)

TERMINAL_COLUMNS = (
    "state",
    "ended_ms",
    "ended",
    *(column for _, column in _BUCKET_COLUMNS),
    "usage_source",
    "usage_flags",
    "cost_pusd",
    "price",
    "baseline_pusd",
    "baseline_model",
    "served_model",
    "upstream_status",
    "upstream_id",
    "ttft_ms",
    "total_ms",
    "overhead_ms",
    "final",
    "terminal_rank",
)

SCHEMA = """
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    attempt_id TEXT NOT NULL UNIQUE,
    at_ms INTEGER NOT NULL,          -- dispatch, or the end where the open row is damaged
    day TEXT NOT NULL,               -- of at_ms, UTC
    request_id TEXT, decision_id TEXT, attempt_number INTEGER, opened_ms INTEGER, key_id TEXT, requested_model TEXT,
    model TEXT, provider TEXT, wire_name TEXT, intent TEXT, language TEXT, policy TEXT, price_version TEXT,
    reserved_pusd INTEGER CHECK (typeof(reserved_pusd) IN ('integer', 'null')),
    tags TEXT NOT NULL DEFAULT '[]', streaming INTEGER, simulated INTEGER, kind TEXT,
    effort TEXT, choices INTEGER, output_tokens_cap INTEGER, last_user_tokens INTEGER,
    writer INTEGER,                  -- who opened it, of `writers`
    open_rank TEXT,
    state TEXT NOT NULL DEFAULT 'open', ended_ms INTEGER, ended TEXT,
    input_tokens INTEGER, cache_read_tokens INTEGER, cache_write_5m_tokens INTEGER, cache_write_1h_tokens INTEGER,
    output_tokens INTEGER, reasoning_tokens INTEGER, audio_in_tokens INTEGER, audio_out_tokens INTEGER,
    image_tokens INTEGER, billed_requests INTEGER, usage_source TEXT, usage_flags TEXT,
    cost_pusd INTEGER CHECK (typeof(cost_pusd) IN ('integer', 'null')),
    price TEXT,
    baseline_pusd INTEGER CHECK (typeof(baseline_pusd) IN ('integer', 'null')),
    baseline_model TEXT, served_model TEXT, upstream_status INTEGER, upstream_id TEXT,
    ttft_ms REAL, total_ms REAL, overhead_ms REAL, final INTEGER, terminal_rank TEXT
);
CREATE INDEX attempts_at ON attempts (at_ms);
CREATE INDEX attempts_decision ON attempts (decision_id);
CREATE TABLE decisions (id TEXT PRIMARY KEY, key_id TEXT, at_ms INTEGER, plan, json TEXT NOT NULL);
CREATE TABLE writers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE checkpoint (segment TEXT PRIMARY KEY, offset INTEGER NOT NULL);
CREATE TABLE problems (segment TEXT, offset INTEGER, what TEXT, PRIMARY KEY (segment, offset, what));
"""

_DAY_MS = 86_400_000

TABLES = ("attempts", "decisions", "writers", "checkpoint", "problems")


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


PUT_OPEN = _upsert(OPEN_COLUMNS, "open_rank", "at_ms = excluded.at_ms, day = excluded.day, ")
PUT_TERMINAL = _upsert(TERMINAL_COLUMNS, "terminal_rank", "")

NOTE_SECOND_OPEN = """
INSERT OR IGNORE INTO problems SELECT '', 0, 'attempt ' || attempt_id || ' has more than one open row'
FROM attempts WHERE attempt_id = :attempt_id AND open_rank <> :open_rank
"""

NOTE_SECOND_TERMINAL = """
INSERT OR IGNORE INTO problems SELECT '', 0, 'attempt ' || attempt_id || ' has more than one terminal row'
FROM attempts WHERE attempt_id = :attempt_id AND terminal_rank <> :terminal_rank
"""

_OPEN_MADE = ("opened_ms", "tags", "writer", "open_rank")
_TERMINAL_MADE = ("ended_ms", "usage_flags", "price", "terminal_rank", *(column for _, column in _BUCKET_COLUMNS))
"""Columns that are made from a body; the others hold a field of it as it is."""

_OPEN_PLAIN = tuple(column for column in OPEN_COLUMNS if column not in _OPEN_MADE)
_TERMINAL_PLAIN = tuple(column for column in TERMINAL_COLUMNS if column not in _TERMINAL_MADE)
_WHOLE_COLUMNS = ("attempt_id", "at_ms", "day", *_OPEN_MADE, *_OPEN_PLAIN, *_TERMINAL_MADE, *_TERMINAL_PLAIN)

PUT_WHOLE = (
    f"INSERT INTO attempts ({', '.join(_WHOLE_COLUMNS)}) "  # noqa: S608  # Names are literals of this file.
    f"VALUES ({', '.join('?' * len(_WHOLE_COLUMNS))}) ON CONFLICT (attempt_id) DO NOTHING"
)
"""Both halves of an attempt at once, where the table has neither; else nothing. Values in the order of its columns."""

PUT_DECISION = (
    "INSERT OR REPLACE INTO decisions (id, key_id, at_ms, plan, json) VALUES (:id, :key_id, :at_ms, :plan, :json)"
)


def open_values(line: Line, writer: int) -> dict[str, object]:
    """The values of an `open` line for `PUT_OPEN`; `writer` is its id."""
    body = line.body
    at_ms = _integer(body.get("at_ms")) or 0
    values = {"attempt_id": body.get("attempt_id"), "at_ms": at_ms, "day": day_of(at_ms)}
    values.update(zip(_OPEN_PLAIN, map(body.get, _OPEN_PLAIN), strict=True))
    values.update(zip(_OPEN_MADE, _open_made(line, at_ms, writer), strict=True))
    return values


def _open_made(line: Line, at_ms: int, writer: int) -> tuple[object, ...]:
    """The values of `_OPEN_MADE`."""
    return at_ms, _json(line.body.get("tags", [])), writer, f"{at_ms:020d}:{line.seal}"


def whole_values(opened: Line, ended: Line, writer: int) -> list[object]:
    """The values of both lines of an attempt for `PUT_WHOLE`."""
    at_ms = _integer(opened.body.get("at_ms")) or 0
    return [
        opened.body.get("attempt_id"),
        at_ms,
        day_of(at_ms),
        *_open_made(opened, at_ms, writer),
        *map(opened.body.get, _OPEN_PLAIN),
        *_terminal_made(ended, _integer(ended.body.get("at_ms")) or 0),
        *map(ended.body.get, _TERMINAL_PLAIN),
    ]


def terminal_values(line: Line) -> dict[str, object]:
    """The values of a `terminal` line for `PUT_TERMINAL`."""
    body = line.body
    at_ms = _integer(body.get("at_ms")) or 0
    values = {"attempt_id": body.get("attempt_id"), "at_ms": at_ms, "day": day_of(at_ms)}
    values.update(zip(_TERMINAL_PLAIN, map(body.get, _TERMINAL_PLAIN), strict=True))
    values.update(zip(_TERMINAL_MADE, _terminal_made(line, at_ms), strict=True))
    return values


def _terminal_made(line: Line, at_ms: int) -> tuple[object, ...]:
    """The values of `_TERMINAL_MADE`."""
    body = line.body
    usage = body.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    # What a sweep assumed ranks behind what a process knew.
    assumed = int(body.get("state") == "unknown")
    rank = f"{assumed}:{at_ms:020d}:{line.seal}"
    flags, price = _json(body.get("usage_flags", [])), _json(body.get("price", {}))
    return at_ms, flags, price, rank, *[counts.get(bucket, 0) for bucket in BUCKETS]


def decision_values(line: Line) -> dict[str, object]:
    """The values of a `decision` line for `PUT_DECISION`."""
    body = line.body
    key_id = body.get("key_id")
    return {
        "id": body.get("id"),
        "key_id": key_id if isinstance(key_id, str) else None,
        "at_ms": _integer(body.get("created_ms", body.get("at_ms"))),
        "plan": _plan(body if "plan" in body or not line.text else orjson.loads(line.text)),
        "json": line.text.decode("utf-8") if line.text else _json(body),
    }


def _plan(record: Mapping[str, object]) -> str | int | float | None:
    """The plan of a decision as costs are grouped by it; what is no name is told as JSON."""
    plan = record.get("plan")
    return plan if plan is None or isinstance(plan, str | int | float) else _json(plan)


def day_of(at_ms: int) -> str:
    """The UTC day of an instant, `YYYY-MM-DD`."""
    return _day(at_ms // _DAY_MS)


@lru_cache(maxsize=64)
def _day(days: int) -> str:
    return datetime.fromtimestamp(days * _DAY_MS / 1000, UTC).date().isoformat()


def _integer(value: object) -> int | None:
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def _json(value: object) -> str:
    return orjson.dumps(value).decode("utf-8")
