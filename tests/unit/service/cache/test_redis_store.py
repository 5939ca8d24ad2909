"""A real Redis that is paused, slow, killed, locked: what a request waits, what is told, and when it is back.

What it keeps is held to one contract with memory in tests/contract/test_answer_stores.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from redis_server import RedisServer
from stage import free_port

from service.cache.redis_store import AGAIN_S, CALL_S, WAIT_S, RedisStore
from service.cache.stores import StoreAway
from service.errors import ConfigurationError

NAME = b"n" * 32
SLACK_S = 0.1
"""What a busy machine adds."""


@pytest.fixture
def server(tmp_path):
    running = RedisServer(tmp_path / "redis")
    yield running
    with contextlib.suppress(ProcessLookupError, AssertionError):
        running.go_on()
    running.kill()


@pytest.fixture
async def stores():
    """`stores(url)` gives a store that ends with the test."""
    running = []

    def to(url):
        running.append(RedisStore(url, "test", time.monotonic))
        return running[-1]

    yield to
    for one in running:
        await one.close()


async def away(store):
    """How long it took to learn that it is away, in seconds."""
    begun = time.monotonic()
    with pytest.raises(StoreAway):
        await store.get(NAME, 100)
    return time.monotonic() - begun


async def back(store):
    """Wait until it answers; a test that waits in vain fails."""
    due = time.monotonic() + 5 * AGAIN_S
    while True:
        with contextlib.suppress(StoreAway):
            return await store.get(NAME, 100)
        assert time.monotonic() < due, store.problem
        await asyncio.sleep(0.05)


async def test_a_paused_server_costs_one_wait_and_then_none(server, stores):
    store = stores(server.url)
    await store.put(NAME, b"one", 60)
    server.pause()
    assert WAIT_S <= await away(store) < WAIT_S + SLACK_S
    assert store.problem == "no reply within 50 ms"
    times = sorted([await away(store) for _ in range(200)])
    assert times[150] < 0.005, times[150]
    server.go_on()
    assert await back(store) == b"one"
    assert store.problem == ""


async def test_a_crowd_at_a_paused_server_waits_no_longer_than_one(server, stores):
    store = stores(server.url)
    await store.put(NAME, b"one", 60)
    server.pause()
    begun = time.monotonic()
    found = await asyncio.gather(*(store.get(NAME, 100) for _ in range(300)), return_exceptions=True)
    assert time.monotonic() - begun < WAIT_S + 3 * SLACK_S
    assert all(isinstance(one, StoreAway) for one in found)
    await asyncio.sleep(CALL_S + 0.1)
    assert len(store._tasks) <= 1, "calls that nobody waits for have ended"


async def test_a_server_that_dies_is_noticed_at_once_and_found_again(server, stores):
    store = stores(server.url)
    await store.put(NAME, b"one", 60)
    server.kill()
    assert await away(store) < WAIT_S + SLACK_S
    assert store.problem
    server.start()
    assert await back(store) is None, "it is empty now"
    await store.put(NAME, b"two", 60)
    assert await store.get(NAME, 100) == b"two"


async def test_one_probes_while_the_others_go_on_without(server, stores):
    """While it is away the wait is one request's in each second."""
    store = stores(server.url)
    await store.put(NAME, b"one", 60)
    server.pause()
    await away(store)
    await asyncio.sleep(CALL_S + AGAIN_S + 0.1)
    times = sorted(await asyncio.gather(*(away(store) for _ in range(50))))
    assert times[48] < WAIT_S <= times[49] + 0.001, times[-3:]


async def test_where_nobody_listens_nobody_waits(stores):
    store = stores(f"redis://127.0.0.1:{free_port()}")
    assert await away(store) < WAIT_S + SLACK_S
    assert store.problem == "nobody there, or the connection ended (ConnectionError)"


async def test_a_wrong_password_is_told_without_it_by_the_name_of_the_setting(server, stores):
    server.command("CONFIG", "SET", "requirepass", "right")
    store = stores(f"redis://:wrong-canary@127.0.0.1:{server.port}")
    await away(store)
    assert "COE_CACHE_URL" in store.problem
    assert "canary" not in store.problem


async def test_a_full_server_takes_nothing_and_gives_what_it_has(server, stores):
    """Where it may not evict; budgets must not lie there."""
    store = stores(server.url)
    await store.put(NAME, b"one", 60)
    server.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreAway):
        await store.put(b"m" * 32, b"x" * 100, 60)
    assert await back(store) == b"one"


async def test_a_url_that_can_not_be_meant_is_refused_at_the_start(stores):
    with pytest.raises(ConfigurationError, match="COE_CACHE_URL"):
        stores("http://h")


async def test_keys_begin_with_the_prefix_and_end(server, stores):
    store = stores(server.url)
    await store.put(NAME, b"one", 60)
    assert server.command("KEYS", "*").split() == [b"*1", b"$76", b"test:answer:" + NAME.hex().encode()]
    assert 0 < int(server.command("TTL", f"test:answer:{NAME.hex()}")[1:]) <= 60
