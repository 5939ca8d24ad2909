"""The way to counters in Redis (or Valkey): one script, one connection, every wait bounded.

Where on the path: below `counters.SharedCounters`. `redis_client` connects. All keys carry one hash tag, so that one
script may count in a cluster, too.

Invariants
1. After a failure the connection is given up: a late reply is never taken for another one's.
2. Nothing is sent twice by this module: whoever is told `StoreLost` decides.
3. No error text holds the URL, which may hold a password.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from service.guard.counters import StoreLost, within
from service.guard.counting import MONEY, SLOTS, Ask, Counter, Ended, Line, Message, Reply, Share, State, Verdict
from service.guard.holdings import SHARES_PER_MESSAGE
from service.redis_client import Unreachable, check_url, closed, connected
from service.redis_client import told as told_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

SCRIPT: Final = resources.files("service.guard").joinpath("exchange.lua").read_text("utf-8")
_SHA: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

SETTING: Final = "COE_REDIS_URL"


class RedisLink:
    """See `counters.Link`. Use it from one event loop."""

    def __init__(self, url: str, prefix: str) -> None:
        """`prefix` begins every key: routers that share a server and not their budgets need different ones."""
        check_url(url, SETTING)
        self._url = url
        self._tag = f"{{{prefix}}}:"
        self._client: Redis | None = None
        self._closing: set[asyncio.Future[None]] = set()

    async def exchange(self, message: Message, within_s: float) -> Reply:
        """See `Link.exchange`."""
        places: dict[str, int] = {}
        told: dict[str, object] = {
            "m": message.member,
            "n": message.number,
            "b": message.heard,
            "l": message.lease_ms,
            "g": message.grace_ms,
            "s": [_share(one, places) for one in message.shares],
            "a": [[[_line(line, places) for line in lines] for lines in ask] for ask in message.asks],
            "r": message.era_ms,
            "k": [_place(name, places) for name in message.known],
        }
        if message.joins:
            told["j"] = True
        found = await self._call(message.member, places, told, within_s)
        return _reply(found, message.asks)

    async def end(self, ended: Ended, within_s: float) -> None:
        """See `Link.end`."""
        shares = {one.counter.name: one for one in ended.shares}
        if ended.last:
            mark = self._tag
            names = await self._within(lambda one: one.smembers(self._of(ended.member)), within_s)
            for name in (one.decode().removeprefix(mark) for one in cast("set[bytes]", names)):
                if name[0] in {MONEY, SLOTS} and name not in shares:
                    shares[name] = Share(Counter(name[0], name), 0, 0)
        rest = list(shares.values())
        while True:
            now, rest = rest[:SHARES_PER_MESSAGE], rest[SHARES_PER_MESSAGE:]
            places: dict[str, int] = {}
            told: dict[str, object] = {"m": ended.member, "e": True, "s": [_share(one, places) for one in now]}
            if ended.last and not rest:
                told["z"] = True
            await self._call(ended.member, places, told, within_s)
            if not rest:
                return

    async def close(self) -> None:
        """See `Link.close`."""
        client, self._client = self._client, None
        if client is not None:
            await closed(client)
        if self._closing:
            await asyncio.wait(self._closing)

    def _of(self, member: str) -> str:
        return f"{self._tag}of:{member}"

    async def _call(self, member: str, places: dict[str, int], told: dict[str, object], within_s: float) -> Any:  # noqa: ANN401 # what Redis says
        keys = [f"{self._tag}{name}" for name in ("members", "alive", "ready")]
        keys += [self._of(member), *[f"{self._tag}{name}" for name in places]]
        argument = orjson.dumps(told)

        async def run(client: Redis) -> object:
            from redis.exceptions import NoScriptError  # noqa: PLC0415 # see the module

            try:
                return await cast("Awaitable[object]", client.evalsha(_SHA, len(keys), *keys, argument))
            except NoScriptError:  # a new server, or one whose scripts were flushed
                return await cast("Awaitable[object]", client.eval(SCRIPT, len(keys), *keys, argument))

        return await self._within(run, within_s)

    async def _within(self, call: Callable[[Redis], Any], within_s: float) -> object:
        """What a call gives; StoreLost when it fails or takes too long, and then the connection is given up."""
        if self._client is None:
            try:
                self._client = await connected(self._url, SETTING)
            except Unreachable as unreachable:
                raise StoreLost(str(unreachable)) from unreachable
        client = self._client
        running = asyncio.ensure_future(call(client))
        try:
            await within(running, within_s)
        except BaseException:
            self._give_up(client, running)
            raise
        if not running.done():
            problem = f"no reply within {within_s * 1000:.0f} ms"
        elif (error := running.exception()) is not None:
            problem = told_of(error, SETTING)
        else:
            return running.result()
        self._give_up(client, running)
        raise StoreLost(problem)

    def _give_up(self, client: Redis, running: asyncio.Future[object]) -> None:
        """Let go of the connection. Nobody waits for that: with a server that does nothing it may take its time."""
        running.cancel()
        if self._client is client:  # whoever else called through it may have opened the next one already
            self._client = None
        closing = asyncio.ensure_future(closed(client))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


def _place(name: str, places: dict[str, int]) -> int:
    """The place of a counter's key among those of a message, 1 for the first."""
    return places.setdefault(name, len(places) + 1)


def _share(share: Share, places: dict[str, int]) -> list[object]:
    counter, money = share.counter, share.counter.kind == MONEY
    held: object = str(share.held) if money else share.held
    place = _place(counter.name, places)
    return [place, counter.kind, counter.until_ms, str(share.settled), held, share.known, share.limit]


def _line(line: Line, places: dict[str, int]) -> list[object]:
    counter, money = line.counter, line.counter.kind == MONEY
    amount: object = str(line.amount) if money else line.amount
    limit: object = str(line.limit) if money else line.limit
    return [_place(counter.name, places), counter.kind, counter.until_ms, amount, limit, line.soft]


def _reply(found: Any, asks: Sequence[Ask]) -> Reply:  # noqa: ANN401 # what Redis says
    try:
        state, wait_ms, verdicts, era_ms = found
        told = tuple(
            Verdict(int(taken), int(line), int(retry_ms), tuple(int(one) for one in used))
            for taken, line, retry_ms, used in verdicts
        )
        reply = Reply(State(int(state)), int(wait_ms), told, int(era_ms))
    except (TypeError, ValueError) as problem:
        raise StoreLost("it said what it never says") from problem
    if reply.state is State.TAKEN and len(told) != len(asks):
        raise StoreLost("it did not answer every ask")
    return reply
