"""Counting for this process: asks the store and tells it what came of what was granted.

Where on the path: `limits` asks before an attempt and settles after it; `tallies` answers in memory, `exchange.lua` in
Redis.

Invariants
1. An ask is answered, or `StoreLost` is raised, within `ASK_S`: a store that is gone never holds a request.
2. One message is on its way at a time: what the next one tells already counts with what this one is granted. What is
   asked meanwhile goes together with the next.
3. A grant that nobody waits for any more is given back.
4. While the store is lost every ask fails at once. It is tried again all the time, and told everything anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from service import telemetry
from service.guard.counting import Ask, Ended, Message, Reply, State, Verdict
from service.guard.holdings import SHARES_PER_MESSAGE, Holdings
from service.guard.tallies import Tallies

ASK_S: Final = 0.14
"""Longest wait for an answer: with it a request is refused within 150 ms of a store's death."""

CALL_S: Final = 1.0
"""Longest wait for one exchange before its connection is given up; on a local network it takes a millisecond. Longer
than any ask waits: a store that stumbled is not lost, and what it grants too late goes back."""

RETRY_S: Final = (0.0, 0.05, 0.25)
"""How long after the store was lost it is tried again: at once, then soon, then at this pace."""
HEARTBEAT_S: Final = 1.0

LEASE_MS: Final = 30_000
"""How long a silent member keeps its slots: longer than any pause of a healthy process."""

GRACE_MS: Final = 2_500
"""How long a store that lost everything waits for the others: two heartbeats and a half."""

ASKS_PER_MESSAGE: Final = 64
SLICES: Final = 5
JOIN_S: Final = 2.0
"""Longest wait for one exchange while a new store is told everything: nobody asks then."""


class StoreLost(Exception):
    """The store can't be asked at the moment."""


class Link(Protocol):
    """The way to a shared store; every method raises `StoreLost`."""

    async def exchange(self, message: Message, within_s: float) -> Reply:
        """Send a message and return its reply. After a failure nothing of it is awaited any more."""
        ...

    async def end(self, ended: Ended, within_s: float) -> None:
        """Tell what is known of a member that is no more."""
        ...

    async def close(self) -> None:
        """Let go of the connection. Never raises."""
        ...


class Counters(Protocol):
    """What `limits` needs."""

    holdings: Holdings

    async def ask(self, ask: Ask) -> Verdict:
        """Reserve one of the alternatives; raises `StoreLost`."""
        ...

    async def end(self, members: Iterable[Ended]) -> None:
        """Tell what the ledger knows of members that are no more. A store that is lost hears it when it is back.

        May raise `StoreLost`.
        """
        ...

    def changed(self) -> None:
        """What was settled or given back is worth telling soon."""
        ...

    def forget(self, now_ms: int) -> None:
        """Let go of windows that were over at an instant (Unix milliseconds)."""
        ...

    @property
    def problem(self) -> str:
        """Why the store can't be asked; empty while it can."""
        ...


class LocalCounters:
    """The counters of a router that is one process: nothing is ever lost, nobody waits."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        """`now_ms` is a clock that began with Unix milliseconds and never jumps."""
        self.holdings = Holdings()
        self.problem = ""
        self._member = "this"
        self._now_ms = now_ms
        self._tallies = Tallies()
        self._number = 0

    @classmethod
    def from_now(cls) -> LocalCounters:
        """Counters by the machine's clock as it is now, whatever it is set to later."""
        began_ms, began = time.time_ns() // 1_000_000, time.monotonic()
        return cls(lambda: began_ms + int((time.monotonic() - began) * 1000))

    async def ask(self, ask: Ask) -> Verdict:
        """See `Counters`."""
        now_ms = self._now_ms()
        news = self.holdings.news(self.holdings.pending)
        self._number += 1
        message = Message(self._member, self._number, self._number - 1, LEASE_MS, news, (ask,), joins=True)
        (verdict,) = self._tallies.exchange(message, now_ms).verdicts
        self.holdings.told(news)
        if verdict.taken >= 0:
            for line in ask[verdict.taken]:
                self.holdings.granted(line)
        return verdict

    async def end(self, members: Iterable[Ended]) -> None:
        """See `Counters`."""
        for ended in members:
            self._tallies.end(ended)

    def changed(self) -> None:
        """See `Counters`: the next ask tells it."""

    def forget(self, now_ms: int) -> None:
        """See `Counters`."""
        # By the clock that is behind: the machine's may have been set back since this one began.
        now_ms = min(now_ms, self._now_ms())
        self._tallies.forget(now_ms)
        self.holdings.forget(now_ms)


async def within(future: asyncio.Future[Any], seconds: float) -> bool:
    """Wait for a future, and say whether it is done. What the loop was held up by itself does not count as waiting.

    Otherwise a router that is short of processor time would take its store for lost.
    """
    for _ in range(SLICES):
        done, _ = await asyncio.wait((future,), timeout=seconds / SLICES)
        if done:
            return True
    return future.done()


class _Waiting:
    """One ask that waits for its answer."""

    __slots__ = ("answer", "ask")

    def __init__(self, ask: Ask, answer: asyncio.Future[Verdict]) -> None:
        self.ask = ask
        self.answer = answer


class SharedCounters:
    """The counters that all processes of all replicas share. Use it from one event loop."""

    def __init__(self, link: Link) -> None:
        """Nothing is sent before `start`."""
        self.holdings = Holdings()
        self.problem = "it was not asked yet"
        self._member = ""
        self._link = link
        self._ended: dict[str, Ended] = {}
        self._reasons: set[str] = set()  # why it was lost, as the log has it, since it was last there
        self._number = self._heard = self._era_ms = 0
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._joined = False
        self._pause_s = HEARTBEAT_S
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, member: str) -> None:
        """Begin to speak with the store, as `member`: a name that no other process has or had."""
        self._member = member
        self._task = asyncio.get_running_loop().create_task(self._speak())

    async def is_ready(self, within_s: float) -> bool:
        """Whether the store answers asks, or does so within a time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ready.wait(), within_s)
        return self._ready.is_set()

    async def close(self) -> None:
        """Tell what is left to tell, briefly, and stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        if self._joined:
            with contextlib.suppress(StoreLost):
                while self.holdings.pending:
                    await self._tell(())
        self._ready.clear()
        self.problem = "the router stops"
        while self._queue:
            _fail(self._queue.popleft())
        await self._link.close()

    async def ask(self, ask: Ask) -> Verdict:
        """See `Counters`."""
        if not self._ready.is_set():
            raise StoreLost(self.problem)
        waiting = _Waiting(ask, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._wake.set()
        try:
            await within(waiting.answer, ASK_S)
        except BaseException:
            self._withdraw(waiting)
            raise
        if not waiting.answer.done():
            self._withdraw(waiting)
            raise StoreLost(f"no answer within {ASK_S * 1000:.0f} ms")
        return waiting.answer.result()

    async def end(self, members: Iterable[Ended]) -> None:
        """See `Counters`."""
        for ended in members:
            self._ended[ended.member] = ended
            if self._joined:
                await self._link.end(ended, JOIN_S)

    def changed(self) -> None:
        """What was settled or given back is worth telling soon."""
        self._wake.set()

    def forget(self, now_ms: int) -> None:
        """See `Counters`."""
        self.holdings.forget(now_ms)
        for member, ended in tuple(self._ended.items()):
            # Whoever spent nothing may have held something, and there is no saying of which window.
            if ended.shares and all(share.counter.until_ms <= now_ms for share in ended.shares):
                del self._ended[member]

    def _withdraw(self, waiting: _Waiting) -> None:
        """Nobody waits for this any more: what it was granted, or is granted yet, goes back."""
        if not waiting.answer.cancel() and waiting.answer.exception() is None:
            self._give_back(waiting, waiting.answer.result())

    def _give_back(self, waiting: _Waiting, verdict: Verdict) -> None:
        if verdict.taken >= 0:
            for line in waiting.ask[verdict.taken]:
                self.holdings.give_back(line)
            self._wake.set()

    async def _speak(self) -> None:
        failed = 0
        while True:
            try:
                if not self._joined:
                    await self._join()
                batch = await self._batch()
                await self._tell(batch)
            except StoreLost as lost:
                self._lose(str(lost))
            except Exception as fault:  # noqa: BLE001 # a fault of ours; without this task nobody could ask ever again
                self._lose(f"a fault of the router: {type(fault).__name__} at {telemetry.place_of(fault)}")
            else:
                failed = 0
                continue
            await asyncio.sleep(RETRY_S[min(failed, len(RETRY_S) - 1)])
            failed += 1

    async def _batch(self) -> list[_Waiting]:
        """Who asks now; nobody when a heartbeat is due, or there is something to tell."""
        if not self._queue:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._pause_s)
        self._wake.clear()  # not before the wait: what changed while the last message was under way is to be told now
        batch: list[_Waiting] = []
        while self._queue and len(batch) < ASKS_PER_MESSAGE:
            waiting = self._queue.popleft()
            if not waiting.answer.done():
                batch.append(waiting)
        return batch

    async def _tell(self, batch: Iterable[_Waiting]) -> None:
        """One exchange; raises `StoreLost`, and then everybody in the batch was told."""
        batch = list(batch)
        try:
            # No ask before everything was told: what was settled since counts against what is asked.
            await self._catch_up(CALL_S)
            reply = await self._exchange(batch, CALL_S)
        except BaseException:
            for waiting in batch:
                self._doubt(waiting)
                _fail(waiting)
            raise
        for waiting, verdict in zip(batch, reply.verdicts, strict=False):
            self._hear(waiting, verdict)
        for waiting in batch[len(reply.verdicts) :]:
            _fail(waiting)

    async def _catch_up(self, within_s: float, *, joins: bool = False) -> None:
        """Tell all but a message full of what there is to tell now. What comes meanwhile may wait: it could go on."""
        for _ in range((self.holdings.pending - 1) // SHARES_PER_MESSAGE):
            await self._exchange((), within_s, joins=joins)

    async def _exchange(self, asked: Sequence[_Waiting], within_s: float, *, joins: bool = False) -> Reply:
        self._number += 1
        news = self.holdings.news()
        message = Message(
            self._member,
            self._number,
            self._heard,
            LEASE_MS,
            news,
            [waiting.ask for waiting in asked],
            joins=joins,
            grace_ms=GRACE_MS,
            era_ms=self._era_ms,
            known=self.holdings.known(waiting.ask for waiting in asked),
        )
        reply = await self._link.exchange(message, within_s)
        if reply.state is State.UNKNOWN:
            self._heard = self._era_ms = 0
            raise StoreLost("it has lost what it was told, and gathers it anew")
        if reply.state is State.OLD:  # of a life before this one: go on after it
            raise StoreLost("it has heard later messages of this process")
        self._heard, self._era_ms = message.number, reply.era_ms
        self.holdings.told(news)
        self._pause_s = HEARTBEAT_S
        if reply.state is State.GATHERING:
            self._ready.clear()
            self.problem = "it gathers what the routers know"
            self._pause_s = min(HEARTBEAT_S, reply.wait_ms / 1000)
        elif not self._ready.is_set() and self._joined:
            self._found()
        return reply

    async def _join(self) -> None:
        """Tell the store everything."""
        told: dict[str, Ended] = {}
        await self._tell_ended(told)
        self.holdings.doubt_all()
        await self._catch_up(JOIN_S, joins=True)
        await self._tell_ended(told)  # those that came meanwhile: from here on `end` tells them itself
        self._joined = True
        await self._exchange((), JOIN_S, joins=True)

    async def _tell_ended(self, told: dict[str, Ended]) -> None:
        """Tell of all members that are no more, but for those that were `told` of."""
        while new := [ended for ended in self._ended.values() if told.get(ended.member) is not ended]:
            for ended in new:
                await self._link.end(ended, JOIN_S)
                told[ended.member] = ended

    def _hear(self, waiting: _Waiting, verdict: Verdict) -> None:
        if verdict.taken >= 0:
            for line in waiting.ask[verdict.taken]:
                self.holdings.granted(line)
        if waiting.answer.done():
            self._give_back(waiting, verdict)
        else:
            waiting.answer.set_result(verdict)

    def _doubt(self, waiting: _Waiting) -> None:
        for lines in waiting.ask:
            for line in lines:
                self.holdings.doubt(line.counter)

    def _lose(self, why: str) -> None:
        self._joined = False  # to be safe: it may have come back as another, or as it was some time ago
        if why not in self._reasons:
            self._reasons.add(why)
            telemetry.logger().error(telemetry.COUNTERS_LOST, error=why)
        self._ready.clear()
        self.problem = why
        while self._queue:
            _fail(self._queue.popleft())

    def _found(self) -> None:
        self._ready.set()
        self.problem = ""
        self._reasons.clear()
        telemetry.logger().info(telemetry.COUNTERS_FOUND)


def _fail(waiting: _Waiting) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(StoreLost("the store was lost"))
