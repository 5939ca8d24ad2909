"""Both stores have what the port asks for; what they do is in tests/contract/test_answer_stores.py."""

from __future__ import annotations

import inspect
import time

import pytest

from service.cache.memory import MemoryStore
from service.cache.redis_store import RedisStore
from service.cache.stores import Store

STORES = [MemoryStore(time.monotonic), RedisStore("redis://127.0.0.1:9", "coe", time.monotonic)]


@pytest.mark.parametrize("store", STORES, ids=lambda one: type(one).__name__)
def test_a_store_has_the_ports_methods_and_begins_in_order(store):
    for name in ("get", "put", "fit", "close"):
        assert list(inspect.signature(getattr(store, name)).parameters) == [
            one for one in inspect.signature(getattr(Store, name)).parameters if one != "self"
        ]
    assert (store.problem, store.evicted, store.held_bytes) == ("", 0, 0)
