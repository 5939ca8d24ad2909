"""Answers in memory: who goes first, and how much there may be."""

from __future__ import annotations

import random

from service.cache.memory import ENTRY_BYTES, MemoryStore


class Clock:
    """Stands in the test's hand."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def room(*values):
    return sum(len(one) + ENTRY_BYTES for one in values)


async def test_the_least_recently_used_goes_first():
    store = MemoryStore(Clock(), room(b"1", b"2"))
    await store.put(b"a", b"1", 60)
    await store.put(b"b", b"2", 60)
    assert await store.get(b"a", 10) == b"1"
    await store.put(b"c", b"3", 60)
    assert [await store.get(name, 10) for name in (b"a", b"b", b"c")] == [b"1", None, b"3"]
    assert (store.evicted, store.held_bytes) == (1, room(b"1", b"3"))


async def test_what_is_larger_than_all_of_it_is_not_kept_and_nobody_goes_for_it():
    """Also in place of what was there: that is old now."""
    store = MemoryStore(Clock(), room(b"12"))
    await store.put(b"a", b"1", 60)
    await store.put(b"b", b"123", 60)
    assert (await store.get(b"a", 10), await store.get(b"b", 10)) == (b"1", None)
    await store.put(b"a", b"123", 60)
    assert await store.get(b"a", 10) is None
    assert (store.evicted, store.held_bytes) == (0, 0)


async def test_what_is_too_old_is_gone_and_makes_room():
    clock = Clock()
    store = MemoryStore(clock, 10_000)
    await store.put(b"a", b"1", 60)
    clock.now += 59.9
    assert await store.get(b"a", 10) == b"1"
    clock.now += 0.1
    assert await store.get(b"a", 10) is None
    assert store.held_bytes == 0


async def test_it_holds_nothing_until_it_is_told_how_much():
    """And lets go of what is over when it is told less."""
    store = MemoryStore(Clock())
    await store.put(b"a", b"1", 60)
    assert store.held_bytes == 0
    store.fit(room(b"1", b"2"))
    await store.put(b"a", b"1", 60)
    await store.put(b"b", b"2", 60)
    store.fit(room(b"2"))
    assert (await store.get(b"a", 10), await store.get(b"b", 10)) == (None, b"2")
    await store.close()
    assert await store.get(b"b", 10) is None


async def test_the_bound_holds_whatever_is_put_in():
    """Thousands of values of any size, under few names."""
    draw = random.Random(5)
    store = MemoryStore(Clock(), 20_000)
    for _ in range(3_000):
        await store.put(draw.randbytes(1), draw.randbytes(draw.randrange(3_000)), 60)
        assert 0 <= store.held_bytes <= 20_000
        assert store.held_bytes == sum(len(value) + ENTRY_BYTES for value, _ in store._values.values())
