"""Decisions read back: one with what came of it, or all that the journal holds.

Where on the path: beside it; behind `GET /v1/decisions/{id}`, the console and `coe replay`. Who may see a record is the
API's to check, by its `key_id`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson

from service.domain.money import usd_text
from service.ledger.lines import MAX_LINE_BYTES, LineError, decode
from service.ledger.segments import journal_dir, list_segments, read_lines
from service.ledger.sinks.port import TOKEN_COLUMNS, Problem, Sink

_PLAIN = (
    "attempt_id",
    "request_id",
    "attempt_number",
    "key_id",
    "kind",
    "requested_model",
    "model",
    "provider",
    "served_model",
    "state",
    "ended",
    "opened_ms",
    "ended_ms",
    "ttft_ms",
    "total_ms",
    "overhead_ms",
    "upstream_status",
    "upstream_id",
    "usage_source",
    "baseline_model",
    "price_version",
)
_BOOLEANS = ("streaming", "simulated", "final")
_DOCUMENTS = ("tags", "usage_flags", "price")
_MONEY = {
    "reserved_usd": "reserved_pusd",
    "cost_usd": "cost_pusd",
    "baseline_cost_usd": "baseline_pusd",
    "strongest_cost_usd": "strongest_pusd",
    "cheapest_cost_usd": "cheapest_pusd",
    "random_cost_usd": "random_pusd",
}


def decision(sink: Sink, decision_id: str) -> dict[str, object] | None:
    """The record with `attempts` (by number) and `cost_usd` (their sum) added, or `None` when nobody wrote that id.

    Money is exact decimals as strings; `cost_usd` of the whole is `None` while an attempt runs or when one has no known
    price. A decision whose record is damaged still shows its attempts. Raises SinkMissing.
    """
    record = sink.decision(decision_id)
    rows = sink.attempts(decision_id)
    if record is None and not rows:
        return None
    found = [row["cost_pusd"] for row in rows]
    known = [cost for cost in found if isinstance(cost, int)]
    whole: dict[str, object] = {"id": decision_id, **(record or {"key_id": rows[0]["key_id"]})}
    whole["attempts"] = [_attempt(row) for row in rows]
    whole["cost_usd"] = usd_text(sum(known)) if len(known) == len(found) else None
    return whole


def recorded(data_dir: Path, since_ms: int | None = None) -> Iterator[Mapping[str, object] | Problem]:
    """Every decision record of a journal, segment by segment, as it was written; a damaged line is a Problem.

    The journal itself is read, not its index, beside whoever writes it: a last line that is not whole yet is left out.
    `since_ms` leaves out what was decided before. Raises OSError.
    """
    for segment in list_segments(journal_dir(data_dir)):
        for raw in read_lines(segment.path):
            if not raw.whole and len(raw.data) < MAX_LINE_BYTES:
                continue
            try:
                line = decode(raw.data)
            except LineError as error:
                yield Problem(segment.name, raw.offset, str(error))
                continue
            if line.kind == "decision" and not _before(line.body, since_ms):
                yield line.body


def _before(body: Mapping[str, object], since_ms: int | None) -> bool:
    """Whether a record is older than what was asked for; one that does not say when it was made is not."""
    at_ms = body.get("created_ms")
    return since_ms is not None and isinstance(at_ms, int) and at_ms < since_ms


def _attempt(row: Mapping[str, object]) -> dict[str, object]:
    shown = {name: row[name] for name in _PLAIN}
    shown |= {name: None if row[name] is None else bool(row[name]) for name in _BOOLEANS}
    shown |= {name: _document(row[name]) for name in _DOCUMENTS}
    shown |= {name: row[name] for name in TOKEN_COLUMNS if row[name]}
    for name, column in _MONEY.items():
        amount = row[column]
        shown[name] = usd_text(amount) if isinstance(amount, int) else None
    return shown


def _document(text: object) -> object:
    return orjson.loads(text) if isinstance(text, str) else None
