"""An attempt as a row: its columns in every sink, and how journal bodies become their values. Pure functions.

Where on the path: below the sinks, which lay out their tables by it.

An attempt is one row. Its columns come in two halves, one from the `open` line and one from the `terminal` line. They
may come in any order, and each carries the rank of its line (time and checksum): the same line again changes nothing;
another line for the same half is damage, and the lower rank wins, so that the result doesn't depend on the order of
reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Final

import orjson

from service.domain.money import BUCKETS
from service.ledger.lines import Line
from service.ledger.sinks.port import BASELINES


class Kind(Enum):
    """What a column holds. Money is an integer that is never anything else."""

    TEXT = "text"
    INTEGER = "integer"
    REAL = "real"
    MONEY = "money"


_INTEGERS: Final = frozenset(
    {
        *("attempt_number", "opened_ms", "ended_ms", "streaming", "simulated", "choices", "output_tokens_cap"),
        *("last_user_tokens", "writer", "upstream_status", "final", "compared_by"),
    }
)

OPEN_COLUMNS: Final = (
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

_BUCKET_COLUMNS: Final = tuple(f"{bucket}_tokens" if bucket != "requests" else "billed_requests" for bucket in BUCKETS)

TERMINAL_COLUMNS: Final = (
    "state",
    "ended_ms",
    "ended",
    *_BUCKET_COLUMNS,
    "usage_source",
    "usage_flags",
    "cost_pusd",
    "price",
    *(baseline.column for baseline in BASELINES),
    "baseline_model",
    "compared_by",
    "served_model",
    "upstream_status",
    "upstream_id",
    "ttft_ms",
    "total_ms",
    "overhead_ms",
    "final",
    "terminal_rank",
)

_OPEN_MADE: Final = ("opened_ms", "tags", "writer", "open_rank")
_TERMINAL_MADE: Final = ("ended_ms", "usage_flags", "price", "terminal_rank", *_BUCKET_COLUMNS)
"""Columns that are made from a body; the others hold a field of it as it is."""

_OPEN_PLAIN: Final = tuple(column for column in OPEN_COLUMNS if column not in _OPEN_MADE)
_TERMINAL_PLAIN: Final = tuple(column for column in TERMINAL_COLUMNS if column not in _TERMINAL_MADE)

WHOLE_COLUMNS: Final = ("attempt_id", "at_ms", "day", *_OPEN_MADE, *_OPEN_PLAIN, *_TERMINAL_MADE, *_TERMINAL_PLAIN)
"""Both halves at once, in the order of `whole_values`."""

DECISION_COLUMNS: Final = ("id", "key_id", "at_ms", "plan", "json")

DEFAULTS: Final[Mapping[str, str]] = {"tags": "[]", "state": "open"}
"""What a row has of the half that is not there, where that is not unknown."""

DAY_MS: Final = 86_400_000

INTEGER_MAX: Final = 2**63 - 1


def kind_of(column: str) -> Kind:
    """What a column of an attempt holds; token counts are integers."""
    if column.endswith("_pusd"):
        return Kind.MONEY
    if column in _INTEGERS or column in _BUCKET_COLUMNS:
        return Kind.INTEGER
    return Kind.REAL if column in ("ttft_ms", "total_ms", "overhead_ms") else Kind.TEXT


def open_values(line: Line, writer: int) -> dict[str, object]:
    """The values of an `open` line by column, with `attempt_id`, `at_ms` and `day`; `writer` is its number."""
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
    """The values of both lines of an attempt, as in `WHOLE_COLUMNS`."""
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


def whole_attempts(lines: Sequence[Line]) -> tuple[list[tuple[Line, Line]], Sequence[Line]]:
    """(the two lines of each attempt that has exactly both of them here, the other lines of attempts)."""
    found: dict[object, list[Line]] = {}
    for line in lines:
        if line.kind in ("open", "terminal"):
            found.setdefault(line.body.get("attempt_id"), []).append(line)
    whole: list[tuple[Line, Line]] = []
    others: list[Line] = []
    for its_lines in found.values():
        if [line.kind for line in its_lines] == ["open", "terminal"]:
            whole.append((its_lines[0], its_lines[1]))
        else:
            others += its_lines
    return whole, others


def terminal_values(line: Line) -> dict[str, object]:
    """The values of a `terminal` line by column, with `attempt_id`, `at_ms` and `day`."""
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
    """The values of a `decision` line by `DECISION_COLUMNS`."""
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
    return _day(at_ms // DAY_MS)


def writer_of(segment: str) -> str:
    """The name of the writer of a segment, whose file is named after it."""
    return segment.partition(".")[0]


@lru_cache(maxsize=64)
def _day(days: int) -> str:
    return datetime.fromtimestamp(days * DAY_MS / 1000, UTC).date().isoformat()


def _integer(value: object) -> int | None:
    return value if type(value) is int and -(2**63) <= value <= INTEGER_MAX else None


def _json(value: object) -> str:
    return orjson.dumps(value).decode("utf-8")
