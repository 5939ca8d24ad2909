"""One contract for every place where answers are kept: memory, and a real Redis."""

from __future__ import annotations

import asyncio
import secrets
import time

import pytest
from redis_server import RedisServer

from service.cache.memory import MemoryStore
from service.cache.redis_store import RedisStore
from service.cache.stores import StoreAway

NAME, OTHER = secrets.token_bytes(32), secrets.token_bytes(32)
LARGE = 1024 * 1024
PATIENCE_S = 10.0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = RedisServer(tmp_path_factory.mktemp("redis"))
    yield running
    running.kill()


class Patient:
    """A store that is asked again while it is late: on a busy machine that is no fault."""

    def __init__(self, store):
        self.store = store

    async def get(self, name, bytes_max):
        return await self._again(lambda: self.store.get(name, bytes_max))

    async def put(self, name, value, ttl_s):
        return await self._again(lambda: self.store.put(name, value, ttl_s))

    async def close(self):
        await self.store.close()

    async def _again(self, call):
        due = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await call()
            except StoreAway:
                assert time.monotonic() < due, self.store.problem
                await asyncio.sleep(0.05)


@pytest.fixture(params=["memory", "redis"])
async def store(request):
    """An empty one."""
    if request.param == "memory":
        made = MemoryStore(time.monotonic, 64 * LARGE)
    else:
        server = request.getfixturevalue("server")
        server.command("FLUSHALL")
        made = RedisStore(server.url, "test", time.monotonic)
    yield Patient(made)
    await made.close()


async def test_what_was_put_there_is_there_under_its_name_alone(store):
    assert await store.get(NAME, LARGE) is None
    await store.put(NAME, b"one", 60)
    assert await store.get(NAME, LARGE) == b"one"
    assert await store.get(OTHER, LARGE) is None
    assert store.store.problem == ""


async def test_the_last_one_counts(store):
    await store.put(NAME, b"one", 60)
    await store.put(NAME, b"two", 60)
    assert await store.get(NAME, LARGE) == b"two"


async def test_it_ends_by_itself(store):
    await store.put(NAME, b"one", 1)
    await store.put(OTHER, b"two", 60)
    await asyncio.sleep(1.2)
    assert await store.get(NAME, LARGE) is None
    assert await store.get(OTHER, LARGE) == b"two"


async def test_any_bytes_come_back(store):
    """Zeros, line ends, all of them; and as much as an answer may be."""
    for value in (bytes(range(256)) * 4, b"\r\n$-1\r\n\0", secrets.token_bytes(LARGE)):
        await store.put(NAME, value, 60)
        assert await store.get(NAME, LARGE) == value


async def test_no_more_is_read_than_was_asked_for(store):
    """What is larger than any answer of ours is somebody else's: a byte too much is enough to know it."""
    await store.put(NAME, secrets.token_bytes(LARGE), 60)
    assert len(await store.get(NAME, 1_000)) in {1_000, 1_001}


async def test_many_at_once_get_their_own(store):
    names = [secrets.token_bytes(32) for _ in range(60)]
    await asyncio.gather(*(store.put(name, name * 9, 60) for name in names))
    found = await asyncio.gather(*(store.get(name, LARGE) for name in names))
    assert found == [name * 9 for name in names]


async def test_callers_who_leave_mix_nobody_up(store):
    """Whoever is cancelled at any moment; the others get their own, or nothing."""
    names = [secrets.token_bytes(32) for _ in range(20)]
    for name in names:
        await store.put(name, name * 9, 60)
    found_own = 0
    for turn in range(30):
        tasks = [asyncio.ensure_future(store.store.get(name, LARGE)) for name in names]
        for step in range(turn % 6):
            await asyncio.sleep(0 if step else 0.0002)
        for task in tasks[turn % 2 :: 2]:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        for name, one in zip(names, found, strict=True):
            found_own += one == name * 9
            assert one == name * 9 or isinstance(one, asyncio.CancelledError | StoreAway), one
    assert found_own > 100


async def test_after_its_end_it_holds_no_connection(store):
    await store.put(NAME, b"one", 60)
    await store.close()
    await store.close()
