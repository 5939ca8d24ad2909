"""Waits with deadlines on one timer: in time, late, cancelled, and what is left behind."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
import uvloop

from service.upstream import patience as patience_module
from service.upstream.patience import Patience


async def soon(value, after_s=0.0):
    """A value, after a while."""
    await asyncio.sleep(after_s)
    return value


async def test_what_comes_in_time_is_given():
    """A thousand waits, and at most one timer for them."""
    patience = Patience()
    timers = set()
    for number in range(1_000):
        assert await patience.wait(soon(number), 60) == number
        timers.add(patience._timer)
    assert len(timers) == 1
    patience.close()
    assert patience._timer is None


async def test_what_comes_too_late_is_a_timeout():
    """The task goes on, and is not left cancelled."""
    patience = Patience()
    with pytest.raises(TimeoutError):
        await patience.wait(asyncio.sleep(30), 0.02)
    assert asyncio.current_task().cancelling() == 0
    assert await patience.wait(soon("again", 0.01), 5) == "again"
    patience.close()


async def test_a_shorter_wait_after_a_longer_one():
    """The timer of the longer one must not set the pace."""
    patience = Patience()
    assert await patience.wait(soon(1), 60) == 1
    before = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await patience.wait(asyncio.sleep(30), 0.02)
    assert asyncio.get_running_loop().time() - before < 10
    patience.close()


async def test_a_longer_wait_after_a_shorter_one():
    """The timer of the shorter one fires and must not end it."""
    patience = Patience()
    assert await patience.wait(soon(1), 0.03) == 1
    assert await patience.wait(soon(2, 0.08), 60) == 2
    patience.close()


async def test_a_timer_that_fires_between_waits_harms_nobody():
    """Nobody waits, nobody is cancelled."""
    patience = Patience()
    assert await patience.wait(soon(1), 0.01) == 1
    await asyncio.sleep(0.05)
    assert asyncio.current_task().cancelling() == 0
    assert patience._timer is None


async def test_a_cancellation_from_outside_passes():
    """It is no timeout."""
    patience = Patience()
    task = asyncio.create_task(patience.wait(asyncio.sleep(30), 60))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    patience.close()


async def test_a_cancellation_together_with_the_deadline_passes():
    """Whoever cancelled must not be told that it was only late."""
    patience = Patience()
    task = asyncio.create_task(patience.wait(asyncio.sleep(30), 60))
    await asyncio.sleep(0.01)
    task.cancel()
    patience._due = 0.0
    patience._look()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_passes():
    """As it is."""

    async def fail():
        raise KeyError("x")

    with pytest.raises(KeyError):
        await Patience().wait(fail(), 60)


@pytest.mark.parametrize("within_s", [0, -1])
async def test_no_time_at_all(within_s):
    """Is a timeout, unless the answer is there already."""
    patience = Patience()
    with pytest.raises(TimeoutError):
        await patience.wait(asyncio.sleep(30), within_s)


def test_a_wait_without_time_leaves_a_timer_that_every_loop_knows():
    """Uvloop makes of a timer that is due a plain callback, which can't tell when it is."""

    async def go():
        patience = Patience()
        for _ in range(200):
            ready = asyncio.get_running_loop().create_future()
            ready.set_result(1)
            assert await patience.wait(ready, 0) == 1
            assert await patience.wait(soon(2), 60) == 2
        patience.close()

    for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(go())


async def test_an_awaitable_that_answers_a_cancellation_with_an_error():
    """The error passes, and the task is not left cancelled."""

    async def stubborn():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            raise KeyError("x") from None

    with pytest.raises(KeyError):
        await Patience().wait(stubborn(), 0.01)
    assert asyncio.current_task().cancelling() == 0


async def test_a_deadline_that_is_moved():
    """It counts from the last move, farther and nearer; the timer of the first one does not decide."""
    patience, loop = Patience(), asyncio.get_running_loop()

    async def moving():
        for _ in range(8):
            await asyncio.sleep(0.02)
            patience.again(0.06)
        return "done"

    assert await patience.wait(moving(), 0.06) == "done"
    patience.close()
    before = loop.time()
    loop.call_later(0.01, patience.again, 0.02)
    with pytest.raises(TimeoutError):
        await patience.wait(asyncio.sleep(30), 20)
    assert loop.time() - before < 10
    assert not patience.used_up
    patience.close()


async def test_no_move_goes_beyond_the_last_deadline():
    """A vendor that goes on and on is cut when the whole time is over; a first deadline beyond it is the last one."""
    patience = Patience()

    async def going_on():
        for _ in range(100):
            await asyncio.sleep(0.01)
            patience.again(30)

    with pytest.raises(TimeoutError):
        await patience.wait(going_on(), 30, 0.1)
    assert patience.used_up
    with pytest.raises(TimeoutError):
        await patience.wait(asyncio.sleep(30), 30, -1)
    assert patience.used_up
    with pytest.raises(TimeoutError):
        await patience.wait(asyncio.sleep(30), 0.01, 30)
    assert not patience.used_up
    patience.close()


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize(("grace_s", "wanted"), [(patience_module.GRACE_S, "said"), (0.0, "timed out")])
def test_who_spoke_while_the_process_stood_still_is_not_late(factory, grace_s, wanted, monkeypatch):
    """A stop longer than the deadline: what arrived in it counts. Positive control: without the grace it is a timeout."""
    monkeypatch.setattr(patience_module, "GRACE_S", grace_s)
    monkeypatch.setattr(patience_module, "LATE_S", patience_module.LATE_S if grace_s else 60)

    async def go():
        here, there = socket.socketpair()
        with there:
            reader, writer = await asyncio.open_connection(sock=here)
            patience = Patience()

            def stand_still():
                there.sendall(b"said")
                time.sleep(0.6)

            asyncio.get_running_loop().call_later(0.02, stand_still)
            try:
                return (await patience.wait(reader.read(4), 0.1)).decode()
            except TimeoutError:
                return "timed out"
            finally:
                patience.close()
                writer.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        found = runner.run(go())
    assert found == wanted or (not grace_s and factory is asyncio.new_event_loop)  # that one looks at sockets first


async def test_who_says_nothing_is_late_after_a_stop_as_well():
    """The grace is short, and given once."""
    patience, loop = Patience(), asyncio.get_running_loop()
    before = loop.time()
    loop.call_later(0.02, time.sleep, 0.5)
    with pytest.raises(TimeoutError):
        await patience.wait(asyncio.sleep(30), 0.1)
    assert 0.5 <= loop.time() - before < 5
    patience.close()


async def test_a_loop_that_is_always_late_waits_no_longer_for_that():
    """Otherwise each look would be put off again: a deadline would never come on a machine that is overloaded."""
    patience, loop = Patience(), asyncio.get_running_loop()
    busy = True

    def hold():
        if busy:
            time.sleep(patience_module.LATE_S + 0.1)
            loop.call_soon(hold)

    before = loop.time()
    loop.call_soon(hold)
    with pytest.raises(TimeoutError):
        await patience.wait(asyncio.sleep(30), 0.1)
    busy = False
    assert loop.time() - before < 2.5
    patience.close()
