"""What a place for answers promises. Held by one contract test over all of them.

Where on the path: under `answer_cache`, which seals what goes in and checks what comes out. A store is trusted with
nothing: it may lose, mix up and invent values, and all that comes of it is a miss.
"""

from __future__ import annotations

from typing import Protocol


class StoreAway(Exception):
    """The store can't be asked at the moment; the message says why, without a URL."""


class Store(Protocol):
    """Values by name, for a time.

    `problem` is why it can't be asked, empty while it can. `evicted` and `held_bytes` are of this process: 0 where the
    store has its own limits.
    """

    problem: str
    evicted: int
    held_bytes: int

    async def get(self, name: bytes, bytes_max: int) -> bytes | None:
        """The value of a name, at most so many bytes of it; `None` when there is none. Raises StoreAway, and soon."""
        ...

    async def put(self, name: bytes, value: bytes, ttl_s: int) -> None:
        """Keep a value for so many seconds, in place of the one before. Raises StoreAway, and soon."""
        ...

    def fit(self, limit_bytes: int) -> None:
        """Hold no more than this from now on; 0 lets go of everything. Nothing, where the store has its own limits."""
        ...

    async def close(self) -> None:
        """Let go of every connection. Never raises."""
        ...
