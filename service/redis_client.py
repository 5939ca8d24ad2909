"""A client of Redis (or Valkey) by its URL: one server, sentinels or a cluster. Connects once, waits briefly.

Where on the path: below `guard.redis_link`, which counts there, and `cache.redis_store`, which keeps answers there.
`redis` is imported when a client is made: most routers need none.

| URL | means |
|---|---|
| `redis://`, `rediss://`, `unix://` | one server; `valkey://`, `valkeys://` are the same |
| `redis+sentinel://host:port,host:port/master/db` | the master that sentinels name |
| `redis+cluster://host:port` | a cluster |

Invariants
1. Nothing is tried twice by a client: whoever is told that it failed decides.
2. No error text holds the URL, which may hold a password.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from service.errors import ConfigurationError

if TYPE_CHECKING:
    from redis.asyncio import Redis

CONNECT_S: Final = 1.0
SENTINEL, CLUSTER = "redis+sentinel", "redis+cluster"
_SHAPE: Final = "redis+sentinel://host:26379,host:26379/mymaster/0"
SCHEMES: Final = ("redis", "rediss", "unix", "valkey", "valkeys", SENTINEL, CLUSTER)


class Unreachable(Exception):
    """No client can be made, by kind; the message holds nothing of the URL."""


class _Sentinels(NamedTuple):
    """What a `redis+sentinel://` URL says; `secrets` are for the master."""

    hosts: list[tuple[str, int]]
    master: str
    database: int
    secrets: dict[str, str]


def check_url(url: str, setting: str) -> None:
    """Raise ConfigurationError for a URL that no client can be made for; the message names the setting alone."""
    scheme = url.partition("://")[0]
    if "://" not in url or scheme not in SCHEMES:
        raise ConfigurationError(f"{setting} must begin with one of {', '.join(f'{one}://' for one in SCHEMES)}.")
    try:
        if scheme == SENTINEL:
            found = _sentinels(url)
        else:
            _ = urlsplit(url).port
            pool = _single(url.replace(f"{CLUSTER}:", "redis:", 1)).connection_pool
            pool.make_connection()  # type: ignore[no-untyped-call] # redis does not annotate it; connects to nobody
    except ValueError as problem:
        if scheme != SENTINEL:
            raise ConfigurationError(f"{setting} has a port or an option that can't be read.") from problem
        raise ConfigurationError(f"{setting} has a port or a database that is no number: {_SHAPE}.") from problem
    except TypeError as problem:
        raise ConfigurationError(f"{setting} has an option that the client does not know.") from problem
    if scheme == SENTINEL and not (found.master and all(name for name, _ in found.hosts)):
        raise ConfigurationError(f"{setting} does not name sentinels and a master: {_SHAPE}.")


async def closed(client: Redis) -> None:
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


async def connected(url: str, setting: str, connections: int = 2) -> Redis:
    """A client that neither waits nor tries again by itself, of so many connections where it is one server's.

    `setting` names the URL in messages. Raises Unreachable.
    """
    from redis.asyncio import RedisCluster, Sentinel  # noqa: PLC0415 # see the module

    scheme, _, rest = url.partition("://")
    try:
        if scheme == CLUSTER:
            cluster = cast("Redis", RedisCluster.from_url(f"redis://{rest}", **_patience()))
            try:
                await asyncio.wait_for(cluster.initialize(), CONNECT_S)
            except BaseException:
                await closed(cluster)
                raise
            return cluster
        if scheme == SENTINEL:
            found = _sentinels(url)
            sentinel = Sentinel(  # type: ignore[no-untyped-call] # redis does not annotate it
                found.hosts, sentinel_kwargs=_patience(), db=found.database, **found.secrets, **_patience()
            )
            return cast("Redis", sentinel.master_for(found.master))
        return _single(url, connections)
    except Exception as problem:
        raise Unreachable(told(problem, setting)) from problem


_WHY: Final[Mapping[str, str]] = {
    "AuthenticationError": "user or password of {setting} are wrong or missing",
    "AuthenticationWrongNumberOfArgsError": "user or password of {setting} are wrong or missing",
    "ConnectionError": "nobody there, or the connection ended",
    "InvalidResponse": "what answers there is no Redis",
    "MasterNotFoundError": "the sentinels know no such master, or none of them answers",
    "NoPermissionError": "its user may not use these keys so",
    "ReadOnlyError": "it is a copy that takes no writes",
    "ResponseError": "it refuses; is the number of the database right?",
    "TimeoutError": "no connection in time",
}


def told(error: BaseException, setting: str) -> str:
    """What went wrong, by kind: the text of an error may hold the URL."""
    name = type(error).__name__
    return f"{_WHY[name].format(setting=setting)} ({name})" if name in _WHY else name


def _patience() -> dict[str, Any]:
    """How long a connection is tried for: once, and not long."""
    from redis.asyncio.retry import Retry  # noqa: PLC0415 # see the module
    from redis.backoff import NoBackoff  # noqa: PLC0415 # see the module

    return {"socket_connect_timeout": CONNECT_S, "retry": Retry(NoBackoff(), 0)}


def _single(url: str, connections: int = 2) -> Redis:
    """A client of one server, not connected yet; raises ValueError or TypeError."""
    from redis.asyncio import Redis  # noqa: PLC0415 # see the module

    scheme, _, rest = url.partition("://")
    return Redis.from_url(f"{scheme.replace('valkey', 'redis')}://{rest}", max_connections=connections, **_patience())


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
