"""Ledger entries as line bodies: what of an entry is stored, and within which limits.

Where on the path: `writer` calls it for each row, just before the bytes go to the kernel.

Invariants
1. Our own identifiers are stored whole or the entry is refused: a clipped id would join two rows.
2. Text that others chose (model names, tags, vendor ids) is clipped, so no caller and no vendor can make a row grow.
3. A figure that doesn't fit 64 bits is stored as unknown and flagged, never clamped: a wrong sum is worse than none.
4. A field that is `None` or empty is left out; readers take its absence for that value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from service.domain.decision import EntryState, OpenEntry, TerminalEntry
from service.domain.money import BUCKETS

MAX_ID_CHARS = 128
MAX_TEXT_CHARS = 256
MAX_TAGS = 32
MAX_FLAGS = 32

MAX_PUSD = 2**63 - 1
"""The largest money figure of one row, 9.2 million USD: what SQLite and PostgreSQL keep in one integer."""

MAX_INSTANT_MS = 253_402_300_799_999
"""The last millisecond of the year 9999: the end of every calendar that reads the ledger."""

MAX_COUNT = 10**15
"""The largest token count of one bucket; 9,000 such rows can still be summed in 64 bits."""


def open_body(entry: OpenEntry) -> dict[str, object]:
    """The body of an `open` line; raises ValueError when an id or the reservation can't be stored."""
    if entry.reserved_pusd is not None and not _fits(entry.reserved_pusd):
        raise ValueError("a reservation must be an integer of at most 64 bits; send a smaller request")
    return _known(
        {
            "attempt_id": _identifier("attempt_id", entry.attempt_id),
            "request_id": _identifier("request_id", entry.request_id),
            "decision_id": _identifier("decision_id", entry.decision_id),
            "attempt_number": entry.attempt_number,
            "at_ms": _instant(entry.at_ms),
            "key_id": None if entry.key_id is None else _identifier("key_id", entry.key_id),
            "requested_model": clipped(entry.requested_model),
            "model": clipped(entry.model),
            "provider": clipped(entry.provider),
            "wire_name": clipped(entry.wire_name),
            "intent": clipped(entry.intent),
            "language": clipped(entry.language),
            "policy": clipped(entry.policy),
            "price_version": clipped(entry.price_version),
            "reserved_pusd": entry.reserved_pusd,
            "tags": _texts(entry.tags, MAX_TAGS),
            "streaming": entry.streaming,
            "simulated": entry.simulated,
            "kind": clipped(entry.kind),
            "effort": clipped(entry.effort),
            "choices": entry.choices,
            "output_tokens_cap": entry.output_tokens_cap,
            "last_user_tokens": entry.last_user_tokens,
        }
    )


def terminal_body(entry: TerminalEntry) -> dict[str, object]:
    """The body of a `terminal` line; raises ValueError when the state isn't terminal or the id can't be stored."""
    if entry.state is EntryState.OPEN:
        raise ValueError("a terminal row can't have the state 'open'; settle it, or give it another end")
    flags: list[str] = []
    usage: dict[str, int] = {}
    for bucket in BUCKETS:
        count = entry.usage.get(bucket, 0)
        if type(count) is not int or not 0 <= count <= MAX_COUNT:
            flags.append(f"{bucket}_out_of_range")
        elif count:
            usage[bucket] = count
    cost = _money(entry.cost_pusd, "cost_out_of_range", flags)
    baseline = _money(entry.baseline_pusd, "baseline_out_of_range", flags)
    return _known(
        {
            "attempt_id": _identifier("attempt_id", entry.attempt_id),
            "state": entry.state.value,
            "at_ms": _instant(entry.at_ms),
            "ended": clipped(entry.ended),
            "usage": usage,
            "usage_source": clipped(entry.usage_source),
            "usage_flags": _texts((*flags, *entry.usage_flags), MAX_FLAGS),
            "cost_pusd": cost,
            "price": dict(entry.price),
            "baseline_pusd": baseline,
            "baseline_model": clipped(entry.baseline_model),
            "served_model": clipped(entry.served_model),
            "upstream_status": entry.upstream_status,
            "upstream_id": clipped(entry.upstream_id),
            "ttft_ms": entry.ttft_ms,
            "total_ms": entry.total_ms,
            "overhead_ms": entry.overhead_ms,
            "final": entry.final,
        }
    )


def decision_body(record: Mapping[str, object]) -> dict[str, object]:
    """The body of a `decision` line: the record itself, which must have an `id`; raises ValueError without one."""
    _identifier("id", record.get("id"))
    return dict(record)


def clipped(text: str | None) -> str | None:
    """Foreign text made storable: at most `MAX_TEXT_CHARS` characters, lone surrogates replaced."""
    if text is None:
        return None
    if len(text) > MAX_TEXT_CHARS:
        text = text[: MAX_TEXT_CHARS - 1] + "…"
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _identifier(name: str, value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > MAX_ID_CHARS or not value.isascii():
        raise ValueError(f"{name} must be 1 to {MAX_ID_CHARS} ASCII characters")
    return value


def _instant(at_ms: int) -> int:
    if type(at_ms) is not int or not 0 <= at_ms <= MAX_INSTANT_MS:
        raise ValueError("at_ms must be Unix milliseconds, an integer from 0 to the year 9999")
    return at_ms


def _fits(value: object) -> bool:
    return type(value) is int and -MAX_PUSD <= value <= MAX_PUSD


def _money(value: int | None, flag: str, flags: list[str]) -> int | None:
    if value is None or _fits(value):
        return value
    flags.append(flag)
    return None


def _texts(values: Iterable[str], limit: int) -> list[str | None]:
    return [clipped(value) for value in tuple(values)[:limit]]


def _known(body: dict[str, object]) -> dict[str, object]:
    # What is true needs no second look: nearly everything is.
    return {
        name: value
        for name, value in body.items()
        if value or (value is not None and not isinstance(value, list | dict))
    }
