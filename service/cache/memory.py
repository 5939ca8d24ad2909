"""Answers in the memory of this process: the least recently used go first.

Where on the path: under `answer_cache`, where no Redis is configured. Each worker has its own.

Invariants
1. Names, values and what Python needs around them are never more than the limit, whatever is put in.
2. What is too old is never given, and makes room first when it is met.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

ENTRY_BYTES: Final = 320
"""What an entry takes beside its value: name, tuple, float, and its places in the dictionary. Measured at 253."""


class MemoryStore:
    """See `stores.Store`."""

    def __init__(self, monotonic: Callable[[], float], limit_bytes: int = 0) -> None:
        """Holds nothing until it is told how much it may (`fit`), unless told here."""
        self.problem = ""
        self.evicted = 0
        self.held_bytes = 0
        self._limit_bytes = limit_bytes
        self._monotonic = monotonic
        self._values: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()

    async def get(self, name: bytes, bytes_max: int) -> bytes | None:
        """See `Store.get`."""
        found = self._values.get(name)
        if found is None:
            return None
        if found[1] <= self._monotonic():
            self._drop(name)
            return None
        self._values.move_to_end(name)
        return found[0][:bytes_max]

    async def put(self, name: bytes, value: bytes, ttl_s: int) -> None:
        """See `Store.put`."""
        self._drop(name)
        if len(value) + ENTRY_BYTES > self._limit_bytes:
            return
        self._values[name] = (value, self._monotonic() + ttl_s)
        self.held_bytes += len(value) + ENTRY_BYTES
        self._make_room()

    def fit(self, limit_bytes: int) -> None:
        """See `Store.fit`."""
        self._limit_bytes = limit_bytes
        self._make_room()

    async def close(self) -> None:
        """See `Store.close`."""
        self.fit(0)

    def _make_room(self) -> None:
        while self.held_bytes > self._limit_bytes:
            self._drop(next(iter(self._values)))
            self.evicted += 1

    def _drop(self, name: bytes) -> None:
        found = self._values.pop(name, None)
        if found is not None:
            self.held_bytes -= len(found[0]) + ENTRY_BYTES
