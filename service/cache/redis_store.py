"""Answers in Redis (or Valkey), for all processes and replicas together. Every wait is bounded, every failure a miss.

Where on the path: under `answer_cache`, where `COE_CACHE_URL` is set. The server's own limit holds its size.

Invariants
1. Nobody waits longer than `WAIT_S` for it. After a failure nobody waits at all for `AGAIN_S`; then one asks, and the
   others go on without it until that one has heard.
2. A call that nobody waits for any more goes on by itself, to its end or for `CALL_S`: a connection is never taken over
   with half a reply in it. Were it ever, `sealing` refuses the reply: it is another name's.
3. No more than `CONNECTIONS` calls are under way. Who finds none free waits as long as for a reply, and no longer.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from service import telemetry
from service.cache.stores import StoreAway
from service.redis_client import Unreachable, check_url, closed, connected, told

if TYPE_CHECKING:
    from redis.asyncio import Redis

WAIT_S: Final = 0.05
"""Longest wait for a reply: fifty times what it takes nearby. An answer of a vendor takes longer than that."""

TURNS: Final = 20
"""Turns of the loop that a reply gets beyond that time: one that is held up by others has not looked at it yet."""

CALL_S: Final = 1.0
"""How long a call may go on that nobody waits for: a connection to far away takes longer than a reply from there."""

AGAIN_S: Final = 1.0
CONNECTIONS: Final = 32
SETTING: Final = "COE_CACHE_URL"
LATE: Final = f"no reply within {WAIT_S * 1000:.0f} ms"


class RedisStore:
    """See `stores.Store`. Use it from one event loop."""

    def __init__(self, url: str, prefix: str, monotonic: Callable[[], float]) -> None:
        """Connects to nobody yet. `prefix` begins every key. Raises ConfigurationError for a URL that can't be used."""
        check_url(url, SETTING)
        self.problem = ""
        self.evicted = self.held_bytes = 0
        self._url = url
        self._prefix = f"{prefix}:answer:".encode()
        self._monotonic = monotonic
        self._client: Redis | None = None
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._again_at = 0.0
        self._heard_at = -math.inf
        self._trying = False
        self._tasks: set[asyncio.Task[Any]] = set()

    async def get(self, name: bytes, bytes_max: int) -> bytes | None:
        """See `Store.get`."""
        # A range, and one byte more than may be: what somebody else put there may be larger than our memory.
        found = await self._within(lambda client: client.getrange(self._prefix + name.hex().encode(), 0, bytes_max))
        return found if isinstance(found, bytes) and found else None

    async def put(self, name: bytes, value: bytes, ttl_s: int) -> None:
        """See `Store.put`."""
        await self._within(lambda client: client.set(self._prefix + name.hex().encode(), value, ex=ttl_s))

    def fit(self, limit_bytes: int) -> None:
        """See `Store.fit`."""

    async def close(self) -> None:
        """See `Store.close`."""
        client, self._client = self._client, None
        if client is not None:
            self._spawn(closed(client))
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=AGAIN_S)

    async def _within(self, call: Callable[[Redis], Any]) -> object:
        """What a call gives; StoreAway when it fails, or takes too long, or the last one has not long ago."""
        if self.problem and (self._trying or self._monotonic() < self._again_at):
            raise StoreAway(self.problem)
        self._trying, begun = bool(self.problem), self._monotonic()
        running = self._spawn(self._called(call))
        # It is let go of by a timer, not by whoever waits: who waits may be cancelled at any moment, and it goes on.
        timer = asyncio.get_running_loop().call_later(CALL_S, running.cancel)
        running.add_done_callback(lambda _: timer.cancel())
        await asyncio.wait((running,), timeout=WAIT_S)
        for _ in range(TURNS):
            if running.done():
                break
            await asyncio.sleep(0)
        if running.done() and not running.cancelled():
            return running.result()
        if self._heard_at < begun:  # else it answers others meanwhile, and is only slow
            self._away(LATE)
        raise StoreAway(LATE)

    async def _called(self, call: Callable[[Redis], Any]) -> object:
        """One call, in a task of its own; what it raises is StoreAway alone."""
        try:
            async with self._free:
                client = self._client
                if client is None:
                    client = self._client = await connected(self._url, SETTING, CONNECTIONS)
                found: object = await call(client)
        except asyncio.CancelledError:
            self._give_up(LATE)
            raise
        except Unreachable as problem:
            self._give_up(str(problem))
            raise StoreAway(self.problem) from None
        except Exception as problem:  # noqa: BLE001 # whatever a client may raise: it is a miss
            self._give_up(told(problem, SETTING))
            raise StoreAway(self.problem) from None
        if self.problem:
            telemetry.logger().info(telemetry.CACHE_FOUND)
        self.problem, self._trying, self._heard_at = "", False, self._monotonic()
        return found

    def _away(self, why: str) -> None:
        """Leave the store alone for a while."""
        if not self.problem:
            telemetry.logger().warning(telemetry.CACHE_LOST, error=why)
        self.problem, self._trying = why, False
        self._again_at = self._monotonic() + AGAIN_S

    def _give_up(self, why: str) -> None:
        """The same, and let go of its connections."""
        self._away(why)
        client, self._client = self._client, None
        if client is not None:
            self._spawn(closed(client))

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited was told; who was gone by then need not be
