"""The way to counters in Redis (or Valkey): one script, one connection, every wait bounded.

Where on the path: below `counters.SharedCounters`. `redis` is imported when a link is opened: most routers need none.

| URL | means |
|---|---|
| `redis://`, `rediss://`, `unix://` | one server; `valkey://`, `valkeys://` are the same |
| `redis+sentinel://host:port,host:port/master/db` | the master that sentinels name |
| `redis+cluster://host:port` | a cluster: all keys carry one hash tag, so that one script may count |

Invariants
1. After a failure the connection is given up: a late reply is never taken for another one's.
2. Nothing is sent twice by this module: whoever is told `StoreLost` decides.
3. No error text holds the URL, which may hold a password.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import unquote, urlsplit

import orjson

from service.errors import ConfigurationError
from service.guard.counters import StoreLost, within
from service.guard.counting import MONEY, SLOTS, Ask, Counter, Ended, Line, Message, Reply, Share, State, Verdict
from service.guard.holdings import SHARES_PER_MESSAGE

if TYPE_CHECKING:
    from redis.asyncio import Redis

SCRIPT: Final = resources.files("service.guard").joinpath("exchange.lua").read_text("utf-8")
_SHA: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

CONNECT_S: Final = 1.0
SENTINEL, CLUSTER = "redis+sentinel", "redis+cluster"
_SHAPE: Final = "redis+sentinel://host:26379,host:26379/mymaster/0"
SCHEMES: Final = ("redis", "rediss", "unix", "valkey", "valkeys", SENTINEL, CLUSTER)


class _Sentinels(NamedTuple):
    """What a `redis+sentinel://` URL says; `secrets` are for the master."""

    hosts: list[tuple[str, int]]
    master: str
    database: int
    secrets: dict[str, str]


def check_url(url: str) -> None:
    """Raise ConfigurationError for a URL that no link can be opened for; the message does not repeat it."""
    scheme = url.partition("://")[0]
    if "://" not in url or scheme not in SCHEMES:
        raise ConfigurationError(f"COE_REDIS_URL must begin with one of {', '.join(f'{one}://' for one in SCHEMES)}.")
    try:
        if scheme == SENTINEL:
            found = _sentinels(url)
        else:
            _ = urlsplit(url).port
            pool = _single(url.replace(f"{CLUSTER}:", "redis:", 1)).connection_pool
            pool.make_connection()  # type: ignore[no-untyped-call] # redis does not annotate it; connects to nobody
    except ValueError as problem:
        if scheme != SENTINEL:
            raise ConfigurationError("COE_REDIS_URL has a port or an option that can't be read.") from problem
        raise ConfigurationError(f"COE_REDIS_URL has a port or a database that is no number: {_SHAPE}.") from problem
    except TypeError as problem:
        raise ConfigurationError("COE_REDIS_URL has an option that the client does not know.") from problem
    if scheme == SENTINEL and not (found.master and all(name for name, _ in found.hosts)):
        raise ConfigurationError(f"COE_REDIS_URL does not name sentinels and a master: {_SHAPE}.")


class RedisLink:
    """See `counters.Link`. Use it from one event loop."""

    def __init__(self, url: str, prefix: str) -> None:
        """`prefix` begins every key: routers that share a server and not their budgets need different ones."""
        check_url(url)
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
            await _closed(client)
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
            self._client = await _connected(self._url)
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
            problem = _told(error)
        else:
            return running.result()
        self._give_up(client, running)
        raise StoreLost(problem)

    def _give_up(self, client: Redis, running: asyncio.Future[object]) -> None:
        """Let go of the connection. Nobody waits for that: with a server that does nothing it may take its time."""
        running.cancel()
        if self._client is client:  # whoever else called through it may have opened the next one already
            self._client = None
        closing = asyncio.ensure_future(_closed(client))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


async def _closed(client: Redis) -> None:
    """Close a client and all that it opened; whatever goes wrong with it is over then."""
    closing: list[Callable[[], Awaitable[None]]] = [client.aclose]
    asked = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    if asked is not None:  # it does not close those that it asks for its master
        closing += [one.aclose for one in asked.sentinels]
    nodes = getattr(client, "nodes_manager", None)
    if nodes is not None:  # after an error it takes itself for closed
        closing += [nodes.aclose, partial(nodes.aclose, "startup_nodes")]
    for close in closing:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(close(), CONNECT_S)


async def _connected(url: str) -> Redis:
    """A client of one connection that neither waits nor tries again by itself."""
    from redis.asyncio import RedisCluster, Sentinel  # noqa: PLC0415 # see the module

    scheme, _, rest = url.partition("://")
    try:
        if scheme == CLUSTER:
            cluster = cast("Redis", RedisCluster.from_url(f"redis://{rest}", **_patience()))
            try:
                await asyncio.wait_for(cluster.initialize(), CONNECT_S)
            except BaseException:
                await _closed(cluster)
                raise
            return cluster
        if scheme == SENTINEL:
            found = _sentinels(url)
            sentinel = Sentinel(  # type: ignore[no-untyped-call] # redis does not annotate it
                found.hosts, sentinel_kwargs=_patience(), db=found.database, **found.secrets, **_patience()
            )
            return cast("Redis", sentinel.master_for(found.master))
        return _single(url)
    except Exception as problem:
        raise StoreLost(_told(problem)) from problem


_WHY: Final[Mapping[str, str]] = {
    "AuthenticationError": "user or password of COE_REDIS_URL are wrong or missing",
    "AuthenticationWrongNumberOfArgsError": "user or password of COE_REDIS_URL are wrong or missing",
    "ConnectionError": "nobody there, or the connection ended",
    "InvalidResponse": "what answers there is no Redis",
    "MasterNotFoundError": "the sentinels know no such master, or none of them answers",
    "NoPermissionError": "its user may not run scripts on these keys",
    "ReadOnlyError": "it is a copy that takes no writes",
    "ResponseError": "it refuses; is the number of the database right?",
    "TimeoutError": "no connection in time",
}


def _told(error: BaseException) -> str:
    """What went wrong, by kind: the text of an error may hold the URL."""
    name = type(error).__name__
    return f"{_WHY[name]} ({name})" if name in _WHY else name


def _patience() -> dict[str, Any]:
    """How long a connection is tried for: once, and not long."""
    from redis.asyncio.retry import Retry  # noqa: PLC0415 # see the module
    from redis.backoff import NoBackoff  # noqa: PLC0415 # see the module

    return {"socket_connect_timeout": CONNECT_S, "retry": Retry(NoBackoff(), 0)}


def _single(url: str) -> Redis:
    """A client of one server, not connected yet; raises ValueError or TypeError."""
    from redis.asyncio import Redis  # noqa: PLC0415 # see the module

    scheme, _, rest = url.partition("://")
    return Redis.from_url(f"{scheme.replace('valkey', 'redis')}://{rest}", max_connections=2, **_patience())


def _sentinels(url: str) -> _Sentinels:
    """What a `redis+sentinel://` URL says; raises ValueError for what is no number."""
    netloc, _, path = url.partition("://")[2].partition("?")[0].partition("/")  # `urlsplit` reads one host, not several
    user, _, hosts = netloc.rpartition("@")
    name, _, word = user.partition(":")
    secrets = {key: unquote(value) for key, value in (("username", name), ("password", word)) if value}
    master, _, database = path.strip("/").partition("/")
    return _Sentinels([_address(one) for one in hosts.split(",")], unquote(master), int(database or 0), secrets)


def _address(host: str) -> tuple[str, int]:
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):  # no port; what is in brackets has colons of its own
        return host.strip("[]"), 26379
    return name.strip("[]"), int(port)


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
        state, wait_ms, verdicts = found
        told = tuple(
            Verdict(int(taken), int(line), int(retry_ms), tuple(int(one) for one in used))
            for taken, line, retry_ms, used in verdicts
        )
        reply = Reply(State(int(state)), int(wait_ms), told)
    except (TypeError, ValueError) as problem:
        raise StoreLost("it said what it never says") from problem
    if reply.state is State.TAKEN and len(told) != len(asks):
        raise StoreLost("it did not answer every ask")
    return reply
