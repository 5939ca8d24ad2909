"""Connections that wait: many in a turn, where the event loop takes one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest
import uvloop

from service.api.accepting import PER_TURN, Accepting

WAITING = 200
TURN_S = 0.002
PATIENCE_S = 10.0


class Guest(asyncio.Protocol):
    """One connection, counted; it tells `accepting` as the door does."""

    def __init__(self, seen, accepting):
        self.seen, self.accepting = seen, accepting

    def connection_made(self, transport):
        self.seen.append(transport)
        if self.accepting is not None:
            self.accepting.arrived(lambda: Guest(self.seen, self.accepting), asyncio.get_running_loop())


async def turns_until_all_are_in(listener, accepting, wanted=WAITING):
    """How many busy turns of the loop it takes to accept all that wait."""
    loop, seen, turns = asyncio.get_running_loop(), [], 0
    server = await loop.create_server(lambda: Guest(seen, accepting), sock=listener)
    due = time.monotonic() + PATIENCE_S
    while len(seen) < wanted and time.monotonic() < due:
        time.sleep(TURN_S)  # what keeps a turn busy
        await asyncio.sleep(0)
        turns += 1
    found = len(seen)
    server.close()
    await asyncio.sleep(0.05)  # those that it has in hand
    for transport in seen:
        transport.abort()
    await server.wait_closed()
    await asyncio.sleep(0.05)  # until the last of them is closed
    return found, turns


@pytest.fixture
def crowd():
    """A listening socket in front of which `WAITING` callers have connected."""
    with contextlib.ExitStack() as open_ones:
        listener = socket.create_server(("127.0.0.1", 0), backlog=WAITING + 10)
        for _ in range(WAITING):
            open_ones.enter_context(socket.create_connection(listener.getsockname()))
        yield listener
        listener.close()


def test_a_crowd_is_taken_in_a_few_turns(crowd):
    """Two hundred at most in some ten turns; a hundred times as long without, which is the control."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found, turns = runner.run(turns_until_all_are_in(crowd, Accepting(crowd)))
    assert found == WAITING
    assert turns <= 4 * (WAITING / PER_TURN + 2)


def test_the_loop_alone_takes_one_in_a_turn(crowd):
    """Should that change one day, `accepting` is not needed any more."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        _, turns = runner.run(turns_until_all_are_in(crowd, None, wanted=WAITING // 4))
    assert turns >= WAITING // 4 - 1


def test_nothing_is_taken_from_a_socket_that_was_closed():
    """A server that stops lets the others wait for the next one; no error is raised, and later ones begin anew."""

    async def closed():
        listener = socket.create_server(("127.0.0.1", 0))
        accepting, made = Accepting(listener), []
        listener.close()
        for _ in range(2):
            accepting.arrived(lambda: made.append(1), asyncio.get_running_loop())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return made

    assert asyncio.run(closed()) == []


def test_who_has_left_while_waiting_disturbs_nobody(crowd):
    """Reset before it was accepted: the others are taken all the same."""
    gone = socket.create_connection(crowd.getsockname())
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    gone.close()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found, _ = runner.run(turns_until_all_are_in(crowd, Accepting(crowd)))
    assert found >= WAITING
