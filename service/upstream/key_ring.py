"""The keys of a provider, one after the other; one that was refused rests while the others serve.

Where on the path: `client` takes a key for every call, and tells which one was refused. Pure but for its memory: the
time is an argument.

Invariants
1. A provider's keys are used in turn. One that rests is passed over as long as another does not.
2. A key is known by its place and never by its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from service.errors import UpstreamError

KEY_REST_S: Final = 30.0
"""Of a key that was refused and did not hear for how long."""

KEY_WAIT_S_MIN: Final = 1.0
KEY_WAIT_S_MAX: Final = 60.0
"""Of one that did, at least and at most."""

OF_A_KEY: Final = frozenset({"auth_failed", "payment_required", "rate_limited"})
"""Causes that may be those of one key alone: the account behind it, or its own limit."""


class KeyRing:
    """Which key is next. One for all providers of a process."""

    def __init__(self) -> None:
        self._calls: dict[str, int] = {}
        self._rests: dict[tuple[str, int], float] = {}

    def next(self, provider: str, keys: Sequence[str], now: float) -> int:
        """The place of the key to use; 0 where there is one at most. When all rest, the one that rests least."""
        count = len(keys)
        if count < 2:
            return 0
        calls = self._calls[provider] = self._calls.get(provider, 0) + 1
        turn = [(calls + step) % count for step in range(count)]
        if not self._rests:
            return turn[0]
        return min(turn, key=lambda place: max(0.0, self._rests.get((provider, place), 0.0) - now))

    def refused(self, provider: str, keys: Sequence[str], place: int, problem: UpstreamError, now: float) -> bool:
        """Have a key rest that was refused; whether another one may still be used."""
        if len(keys) < 2 or problem.cause not in OF_A_KEY:
            return False
        wait_s = KEY_REST_S if problem.retry_after_s is None else problem.retry_after_s
        self._rests[provider, place] = now + min(max(wait_s, KEY_WAIT_S_MIN), KEY_WAIT_S_MAX)
        return any(self._rests.get((provider, other), 0.0) <= now for other in range(len(keys)) if other != place)

    def forget(self) -> None:
        """Begin anew: another registry serves, and its keys may be others."""
        self._rests.clear()
