"""The truth log: every request a simulated vendor saw, how it ended and what it would be billed. Bounded, thread-safe.

Where on the path: `server` writes it; tests and benches compare it with the router's ledger.

Invariants
1. A request is in the log from the moment it is complete, also while it is being answered (`outcome` is `open`).
2. `billed`, `status` and `sent_bytes` are final once `outcome` is; `billed` is `None` when nothing was generated, else
   what was generated and handed to the socket, in the router's disjoint buckets.
3. Oldest entries go first when `ENTRIES_MAX` or `BYTES_MAX` is passed; `dropped` counts them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from service.domain.money import Usage
from service.simulator.script import Fault

ENTRIES_MAX = 200_000
"""Requests remembered."""

BYTES_MAX = 256 * 1024 * 1024
"""Body bytes remembered, over all requests."""


class Outcome(StrEnum):
    """How a request ended, as the vendor saw it."""

    OPEN = "open"  # still being answered
    ANSWERED = "answered"  # played to its end without a fault
    FAILED = "failed"  # the script's fault was played to its end
    REJECTED = "rejected"  # the vendor refused it: bad HTTP, bad body, unknown model, wrong key
    CLIENT_LEFT = "client_left"  # the client left first
    STOPPED = "stopped"  # the simulator was stopped first


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """One request. `headers` have lower-case names. `at_monotonic` and `ended_monotonic` are seconds of one clock.

    `number` counts all requests of a simulator from 1 and is part of the answer's id. `path` is empty for a connection
    that was reset before it could ask. `model` is the wire name asked for, empty outside chat. `sent_bytes` were handed
    to the socket, head included. `connection` numbers the sockets.
    """

    number: int
    vendor: str
    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    at_monotonic: float
    connection: int
    outcome: Outcome = Outcome.OPEN
    fault: Fault | None = None
    status: int | None = None
    model: str = ""
    stream: bool = False
    billed: Usage | None = None
    sent_bytes: int = 0
    ended_monotonic: float | None = None


class RequestLog:
    """See the module. Readers get copies, so they may look from another thread while the simulator runs."""

    def __init__(self, *, keep_bodies: bool) -> None:
        """With `keep_bodies` off, bodies are not stored: for long runs, and where prompts are real."""
        self._keep_bodies = keep_bodies
        self._lock = threading.Lock()
        self._entries: dict[int, SeenRequest] = {}
        self._bytes = 0
        self._count = 0
        self.dropped = 0

    def open(
        self, *, vendor: str, method: str, path: str, headers: Mapping[str, str], body: bytes, connection: int
    ) -> SeenRequest:
        """Write a request down; the entry's `number` is its handle."""
        with self._lock:
            self._count += 1
            seen = SeenRequest(
                number=self._count,
                vendor=vendor,
                method=method,
                path=path,
                headers=headers,
                body=body if self._keep_bodies else b"",
                at_monotonic=time.monotonic(),
                connection=connection,
            )
            self._entries[seen.number] = seen
            self._bytes += len(seen.body)
            while len(self._entries) > ENTRIES_MAX or self._bytes > BYTES_MAX:
                oldest = self._entries.pop(next(iter(self._entries)))
                self._bytes -= len(oldest.body)
                self.dropped += 1
        return seen

    def update(self, number: int, **changes: object) -> None:
        """Replace fields of an entry; one that was dropped meanwhile stays dropped."""
        with self._lock:
            seen = self._entries.get(number)
            if seen is not None:
                self._entries[number] = replace(seen, **changes)  # type: ignore[arg-type]  # names are ours, checked by tests

    def end(self, number: int, outcome: Outcome) -> None:
        """Write down how it ended."""
        self.update(number, outcome=outcome, ended_monotonic=time.monotonic())

    def entries(self) -> list[SeenRequest]:
        """All remembered requests, oldest first."""
        with self._lock:
            return list(self._entries.values())

    def take_ended(self) -> list[SeenRequest]:
        """The remembered requests that have ended, oldest first; they are forgotten. For runs of hours."""
        with self._lock:
            ended = [seen for seen in self._entries.values() if seen.outcome is not Outcome.OPEN]
            for seen in ended:
                del self._entries[seen.number]
                self._bytes -= len(seen.body)
        return ended

    def clear(self) -> None:
        """Forget everything; numbers go on counting."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0
