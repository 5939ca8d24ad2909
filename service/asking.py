"""Questions that take long, away from the event loop: at most so many at once, and nobody waits for ever.

Where on the path: beside it. `api.admin` asks the ledger through it.

Invariants
1. The loop never waits: the work is done in a thread.
2. No more threads than `AT_ONCE` work on such questions, also when those who asked have gone: one that is given up
   keeps its place until its thread has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from service.errors import IndexUnavailable, Overloaded

AT_ONCE: Final = 2
"""Reports at the same time: each takes a processor, and requests need one."""

ANSWER_S: Final = 30.0
"""Longest wait for one; a report over ten million attempts takes two seconds."""

T = TypeVar("T")


class Asking:
    """The places for long questions of one process."""

    def __init__(self, at_once: int = AT_ONCE, within_s: float = ANSWER_S) -> None:
        """`within_s` is the longest wait for an answer, in seconds."""
        self._at_once = at_once
        self._within_s = within_s
        self._running: set[asyncio.Task[object]] = set()

    async def ask(self, work: Callable[[], T]) -> T:
        """What `work` returns, called in a thread; raises what it raises, Overloaded or IndexUnavailable."""
        if len(self._running) >= self._at_once:
            raise Overloaded(
                f"{self._at_once} reports are being made already, which is all at once. Ask again in a moment.",
                headers={"retry-after": "2"},
            )
        task: asyncio.Task[T] = asyncio.get_running_loop().create_task(asyncio.to_thread(work))
        self._running.add(task)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait((task,), timeout=self._within_s)
        if not done:
            raise IndexUnavailable(
                f"The report took longer than {self._within_s:g} s. Ask for a shorter range or for less detail, or "
                "run `coe costs` beside the router."
            )
        return task.result()

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # somebody who has gone does not ask for it, and it is no fault of the loop's
