"""Long questions: in threads, a few at once, and given up when they take too long."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from service.asking import Asking
from service.errors import IndexUnavailable, Overloaded


async def test_the_loop_goes_on_meanwhile():
    """The work is in a thread; its result and its errors come back."""
    asking, free, turns = Asking(), threading.Event(), 0

    def work():
        assert free.wait(10)
        return threading.current_thread()

    asked = asyncio.create_task(asking.ask(work))
    for _ in range(20):
        await asyncio.sleep(0.001)
        turns += 1
    assert not asked.done()
    free.set()
    assert await asked is not threading.main_thread()
    assert turns == 20
    with pytest.raises(ZeroDivisionError):
        await asking.ask(lambda: 1 // 0)


async def test_only_so_many_at_once():
    """The next one is told to come back, and may when one has ended."""
    asking, free = Asking(at_once=2), threading.Event()
    held = [asyncio.create_task(asking.ask(lambda: free.wait(10))) for _ in range(2)]
    await asyncio.sleep(0.01)
    with pytest.raises(Overloaded) as refused:
        await asking.ask(lambda: None)
    assert refused.value.headers["retry-after"] == "2"
    free.set()
    assert await asyncio.gather(*held) == [True, True]
    assert await asking.ask(lambda: 7) == 7


async def test_one_that_takes_too_long_keeps_its_place():
    """Who asked is answered; the thread can't be stopped, so nobody else gets its place before it ends."""
    asking, free = Asking(at_once=1, within_s=0.05), threading.Event()
    began = time.monotonic()
    with pytest.raises(IndexUnavailable, match=r"longer than 0\.05 s"):
        await asking.ask(lambda: free.wait(10))
    assert time.monotonic() - began < 5
    with pytest.raises(Overloaded):
        await asking.ask(lambda: None)
    free.set()
    due = time.monotonic() + 10
    while True:
        try:
            assert await asking.ask(lambda: 1) == 1
            break
        except Overloaded:
            assert time.monotonic() < due
            await asyncio.sleep(0.005)


async def test_who_leaves_gives_no_place_back_either():
    """A caller that hangs up again and again does not get a thread each time."""
    asking, free = Asking(at_once=1), threading.Event()
    asked = asyncio.create_task(asking.ask(lambda: free.wait(10)))
    await asyncio.sleep(0.01)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    with pytest.raises(Overloaded):
        await asking.ask(lambda: None)
    free.set()
