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
from typing import Final

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

_BUCKETS: Final = frozenset(BUCKETS)
_MONEY: Final = tuple(
    (name, "cost_out_of_range" if name == "cost_pusd" else "baseline_out_of_range")
    for name in TerminalEntry._fields
    if name.endswith("_pusd")
)
"""What must fit 64 bits, and the flag of what does not."""

_APART: Final = frozenset({"tags", "usage", "usage_flags", "price"})
"""Fields that hold several values: each is made storable in its own way."""


def open_body(entry: OpenEntry) -> dict[str, object]:
    """The body of an `open` line; raises ValueError when an id or the reservation can't be stored."""
    if entry.reserved_pusd is not None and not _fits(entry.reserved_pusd):
        raise ValueError("a reservation must be an integer of at most 64 bits; send a smaller request")
    _check_identifier("attempt_id", entry.attempt_id)
    _check_identifier("request_id", entry.request_id)
    _check_identifier("decision_id", entry.decision_id)
    if entry.key_id is not None:
        _check_identifier("key_id", entry.key_id)
    _check_instant(entry.at_ms)
    body = _plain_fields(entry)
    if entry.tags:
        body["tags"] = _texts(entry.tags, MAX_TAGS)
    return body


def terminal_body(entry: TerminalEntry) -> dict[str, object]:
    """The body of a `terminal` line; raises ValueError when the state isn't terminal or the id can't be stored."""
    if entry.state is EntryState.OPEN:
        raise ValueError("a terminal row can't have the state 'open'; settle it, or give it another end")
    flags: list[str] = []
    usage: dict[str, int] = {}
    for bucket, count in entry.usage.items():
        if bucket not in _BUCKETS:
            continue
        if type(count) is not int or not 0 <= count <= MAX_COUNT:
            flags.append(f"{bucket}_out_of_range")
        elif count:
            usage[bucket] = count
    _check_identifier("attempt_id", entry.attempt_id)
    _check_instant(entry.at_ms)
    body = _plain_fields(entry)
    for name, flag in _MONEY:
        if name in body and not _fits(body[name]):
            del body[name]
            flags.append(flag)
    if usage:
        body["usage"] = usage
    if flags or entry.usage_flags:
        body["usage_flags"] = _texts((*flags, *entry.usage_flags), MAX_FLAGS)
    if entry.price:
        body["price"] = dict(entry.price)
    return body


def check_decision(record: Mapping[str, object]) -> None:
    """The body of a `decision` line is the record itself, which must have an `id`; raises ValueError without one."""
    _check_identifier("id", record.get("id"))


def clipped(text: str | None) -> str | None:
    """Foreign text made storable: at most `MAX_TEXT_CHARS` characters, lone surrogates replaced."""
    if text is None:
        return None
    if len(text) > MAX_TEXT_CHARS:
        text = text[: MAX_TEXT_CHARS - 1] + "…"
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _plain_fields(entry: OpenEntry | TerminalEntry) -> dict[str, object]:
    """The fields of one value that is known, texts clipped: most are short words of ours, which one look tells."""
    body: dict[str, object] = {}
    for name, value in zip(entry._fields, entry, strict=True):
        if value is None or name in _APART:
            continue
        if type(value) is str and (len(value) > MAX_TEXT_CHARS or not value.isascii()):
            body[name] = clipped(value)
        else:
            body[name] = value
    return body


def _check_identifier(name: str, value: object) -> None:
    if not isinstance(value, str) or not value or len(value) > MAX_ID_CHARS or not value.isascii():
        raise ValueError(f"{name} must be 1 to {MAX_ID_CHARS} ASCII characters")


def _check_instant(at_ms: int) -> None:
    if type(at_ms) is not int or not 0 <= at_ms <= MAX_INSTANT_MS:
        raise ValueError("at_ms must be Unix milliseconds, an integer from 0 to the year 9999")


def _fits(value: object) -> bool:
    return type(value) is int and -MAX_PUSD <= value <= MAX_PUSD


def _texts(values: Iterable[str], limit: int) -> list[str | None]:
    return [clipped(value) for value in tuple(values)[:limit]]
