"""Nothing crosses tenants through the cache (I15), and no trouble of its store reaches a caller (I13).

The great number is in `make chaos`.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time

import httpx
import pytest
from crossings import TENANTS, Crossings
from redis_server import RedisServer
from stage import registry

from service import telemetry
from service.simulator import Script

SEED = 20261123
CACHE = "cache: {ttl_s: 600}"


@pytest.mark.parametrize("redis", [False, True], ids=["memory", "redis"])
def test_nobody_gets_an_answer_of_another_tenant(tmp_path, redis):
    with Crossings(tmp_path / "stage", redis=redis) as stage:
        seen = stage.play(SEED, 2_400)
    assert not seen.wrong, seen
    assert seen.crossings == 0, seen
    assert TENANTS >= 100 < seen.hits, seen
    assert seen.kinds["left"] > 150, seen
    assert seen.renewed, seen


def test_under_a_name_without_the_tenant_answers_cross(tmp_path):
    """The control: the same crowd, and whoever asks the same gets the same."""
    with Crossings(tmp_path / "stage", naive=True) as stage:
        seen = stage.play(SEED, 600)
    assert seen.crossings > 100, seen


@pytest.fixture
def redis_router(tmp_path, routers, vendors):
    """A router that keeps answers in a Redis, both of which the test may break."""
    store = RedisServer(tmp_path / "redis")
    file = registry(tmp_path / "providers.yaml", vendors({"alpha": Script()}), baseline="alpha-model", extra=CACHE)
    yield routers(file, COE_CACHE_URL=store.url), store
    with contextlib.suppress(ProcessLookupError, AssertionError):
        store.go_on()
    store.kill()


def asked(router, question="hello"):
    """(what is said of the cache, what was given up, milliseconds) of a chat that must be answered."""
    body = {"model": "auto", "temperature": 0, "messages": [{"role": "user", "content": question}]}
    begun = time.monotonic()
    reply = httpx.post(f"{router.url}/v1/chat/completions", json=body, timeout=20, trust_env=False)
    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"][0]["finish_reason"] == "stop"
    told = reply.headers["x-coe-cache"], reply.headers.get("x-coe-degraded")
    return *told, (time.monotonic() - begun) * 1000


def until(condition, within_s=15.0):
    due = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < due
        time.sleep(0.05)


@pytest.mark.parametrize("trouble", ["paused", "killed"])
def test_a_store_that_is_gone_is_a_miss_for_everybody_and_an_error_for_nobody(redis_router, trouble):
    """I13: no hang, told, and back by itself."""
    router, store = redis_router
    until(lambda: asked(router)[0] == "hit")
    usual = statistics.median(asked(router, f"before {number}")[2] for number in range(20))
    if trouble == "paused":
        store.pause()
    else:
        store.kill()
    during = [asked(router) for _ in range(40)]
    assert {one[0] for one in during} == {"miss"}
    assert {one[1] for one in during[1:]} == {"cache"}
    assert statistics.median(one[2] for one in during) < usual + 40, "nobody waits once it is known"
    assert max(one[2] for one in during) < usual + 50 + 500, "half a second is what a busy machine may add"
    ready = httpx.get(f"{router.url}/readyz", trust_env=False)
    assert ready.status_code == 200
    assert set(ready.json()["degraded"]) & set(telemetry.PARTS) == {"cache"}
    if trouble == "paused":
        store.go_on()
    else:
        store.start()
    until(lambda: asked(router)[0] == "hit", 5 + 10)
    until(lambda: "cache" not in httpx.get(f"{router.url}/readyz", trust_env=False).json()["degraded"])
    assert {"cache_lost", "cache_found"} <= {json.loads(line)["event"] for line in _log(router)}


def test_what_somebody_else_puts_there_is_never_given(redis_router):
    """Each value is swapped for another one's, changed, cut, replaced; every one of them is a miss."""
    router, store = redis_router
    for question in ("one", "two"):
        until(lambda question=question: asked(router, question)[0] == "hit")
    names = [word for word in store.command("KEYS", "coe:answer:*").decode().split("\r\n") if word.startswith("coe:")]
    assert len(names) == 2
    assert store.command("RENAME", names[0], "aside") == b"+OK\r\n"
    assert store.command("RENAME", names[1], names[0]) == b"+OK\r\n"
    assert store.command("RENAME", "aside", names[1]) == b"+OK\r\n"
    assert [asked(router, question)[0] for question in ("one", "two")] == ["miss"] * 2
    until(lambda: asked(router, "one")[0] == "hit")
    for change in (("SETRANGE", names[0], "90", "x"), ("SETRANGE", names[1], "90", "x")):
        store.command(*change)
    assert [asked(router, question)[0] for question in ("one", "two")] == ["miss"] * 2
    for name in names:
        store.command("SET", name, '{"choices":[{"message":{"content":"forged"},"finish_reason":"stop"}]}')
    assert [asked(router, question)[0] for question in ("one", "two")] == ["miss"] * 2
    for name in names:
        store.command("DEL", name)
        store.command("LPUSH", name, "a list")
    assert [asked(router, question)[0] for question in ("one", "two")] == ["miss"] * 2
    assert sum('"cache_forged"' in line for line in _log(router)) >= 6


def test_neither_question_nor_key_lies_in_the_store(tmp_path, routers, vendors):
    """What lies there is the answer, and nobody can tell to what."""
    store = RedisServer(tmp_path / "redis")
    vendor = vendors({"alpha": Script(answer="the answer canary")})
    file = registry(tmp_path / "providers.yaml", vendor, baseline="alpha-model", extra=CACHE)
    router = routers(file, COE_CACHE_URL=store.url)
    until(lambda: asked(router, "the question canary")[0] == "hit")
    names = [word for word in store.command("KEYS", "*").decode().split("\r\n") if word.startswith("coe:")]
    everything = store.command("KEYS", "*") + b"".join(store.command("GET", name) for name in names)
    assert b"the answer canary" in everything
    assert b"question" not in everything
    assert (router.data_dir / "pepper").read_bytes().strip() not in everything
    store.kill()


def _log(router):
    return [line for line in router.log.read_text().splitlines() if line.startswith("{")]
