"""Ledger entries to write, and a reader that trusts nothing but the bytes on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from service.domain.decision import EntryState, OpenEntry, TerminalEntry
from service.ledger.lines import Line, LineError, decode

Opening = Callable[..., OpenEntry]
Ending = Callable[..., TerminalEntry]
Contents = Callable[[Path], "JournalContents"]


class JournalContents:
    """Every whole, intact row of a journal directory, by attempt id."""

    def __init__(self, data_dir: Path) -> None:
        self.opens: Counter[str] = Counter()
        self.terminals: Counter[str] = Counter()
        self.ends: dict[str, dict[str, object]] = {}
        self.decisions: list[str] = []
        self.damaged = 0
        for path in sorted((data_dir / "journal").glob("*.jsonl")):
            *whole, _ = path.read_bytes().split(b"\n")
            for raw in whole:
                try:
                    self._take(decode(raw))
                except LineError:
                    self.damaged += 1

    def _take(self, line: Line) -> None:
        if line.kind == "open":
            self.opens[str(line.body["attempt_id"])] += 1
        elif line.kind == "terminal":
            attempt = str(line.body["attempt_id"])
            self.terminals[attempt] += 1
            self.ends[attempt] = dict(line.body)
        elif line.kind == "decision":
            self.decisions.append(str(line.body["id"]))

    def faults(self) -> list[str]:
        """What breaks the promise of one open and one terminal row per attempt."""
        every = sorted(self.opens.keys() | self.terminals.keys())
        return [
            *(f"{name}: {self.opens[name]} open rows" for name in every if self.opens[name] > 1),
            *(f"{name}: {self.terminals[name]} terminal rows" for name in every if self.terminals[name] != 1),
        ]


@pytest.fixture
def contents() -> Contents:
    return JournalContents


@pytest.fixture
def opening() -> Opening:
    def make(name: object, **changes: object) -> OpenEntry:
        values: dict[str, object] = {
            "attempt_id": f"a{name}",
            "request_id": f"r{name}",
            "decision_id": f"d{name}",
            "attempt_number": 1,
            "at_ms": 1_795_000_000_000,  # 2026-11-18T11:06:40Z
            "key_id": "key-1",
            "requested_model": "auto",
            "model": "small",
            "provider": "acme",
            "wire_name": "small-1",
            "intent": "coding",
            "language": "en",
            "policy": "balanced",
            "price_version": "acme/small@2026-01-01",
            "reserved_pusd": 9_000_000,
            "tags": ("hr",),
        }
        return OpenEntry(**(values | changes))

    return make


@pytest.fixture
def ending() -> Ending:
    def make(name: object, **changes: object) -> TerminalEntry:
        values: dict[str, object] = {
            "attempt_id": f"a{name}",
            "state": EntryState.SETTLED,
            "at_ms": 1_795_000_002_000,
            "ended": "complete",
            "usage": {"input": 100, "cache_read": 40, "output": 20, "requests": 1},
            "usage_source": "provider",
            "cost_pusd": 1_500_000,
            "price": {"version": "acme/small@2026-01-01", "currency": "USD", "rates": {"input": 10_000}},
            "baseline_pusd": 6_000_000,
            "baseline_model": "large",
            "ttft_ms": 80.5,
            "total_ms": 1_900.25,
        }
        return TerminalEntry(**(values | changes))

    return make
