"""Many waits in a row, each with a deadline, and one timer for all of them.

Where on the path: `upstream.client` and `upstream.stream` wait for a vendor with it. `asyncio.timeout` makes and
cancels a timer for each wait; most of what is waited for comes long before its deadline, so a timer that looks again
when it fires is enough. For the same reason a deadline can be moved while the wait runs, with every piece of a stream.

Invariants
1. A wait ends in `TimeoutError` no sooner than its deadline, and, while the loop runs, not noticeably later. When the
   process itself stood still (stopped, swapped out, moved), what arrived meanwhile is read before anybody is blamed,
   once for each deadline.
2. A cancellation from outside passes as it is, also when it comes together with the deadline.
3. Between waits the timer does nothing but end itself.
4. However often its deadline is moved, a wait ends at its `last_s`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import Final, TypeVar

LATE_S: Final = 0.25
"""A timer that comes so much later than it was set for says that the loop did not run."""

GRACE_S: Final = 0.25
"""Then what waits in the sockets is given so long to be read: loops run their timers before they look there."""

T = TypeVar("T")


class Patience:
    """One timer. Use it for one wait at a time; the task may change between waits."""

    __slots__ = ("_due", "_expired", "_graced", "_last", "_loop", "_task", "_timer", "_when")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._due = self._when = 0.0
        self._graced = -1.0
        self._last = math.inf
        self._expired = False

    @property
    def used_up(self) -> bool:
        """Whether the deadline of the wait, running or over, is its last one."""
        return self._due >= self._last

    @property
    def expired(self) -> bool:
        """Whether the wait, running or over, was ended by its deadline."""
        return self._expired

    async def wait(self, awaitable: Awaitable[T], within_s: float, last_s: float = math.inf) -> T:
        """What comes of an awaitable; raises TimeoutError when it takes longer than `within_s` seconds.

        `again` moves that deadline, but never beyond `last_s` seconds from now.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 # a coroutine runs in a task
        before = task.cancelling()
        self._expired = False
        now = self._loop.time()
        self._last = now + max(last_s, 0.0)
        self._due = due = min(now + max(within_s, 0.0), self._last)
        self._task = task
        if self._timer is None or self._when > due:
            self._arm()
        try:
            return await awaitable
        except asyncio.CancelledError:
            if self._expired and task.uncancel() <= before:
                raise TimeoutError from None
            raise
        finally:
            if self._expired and task.cancelling() > before:
                task.uncancel()  # what we waited for answered our cancellation with something else
            self._task = None
            del task  # an error holds this frame, and the task that error

    def again(self, within_s: float) -> None:
        """Let the wait that is running end `within_s` seconds from now."""
        self._due = due = min(self._loop.time() + within_s, self._last)
        if self._when > due:
            self._arm()

    def close(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self.close()
        self._when = self._due  # not every loop's timers tell
        self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._task is None:
            return
        now = self._loop.time()
        if now < self._due:
            self._arm()
            return
        if now - self._when > LATE_S and self._graced != self._due:
            self._graced = self._due  # once: a loop that is always late must not wait for ever
            self._when = now + GRACE_S
            self._timer = self._loop.call_at(self._when, self._look)
            return
        self._expired = True
        self._task.cancel()
