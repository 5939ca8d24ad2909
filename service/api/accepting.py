"""Takes connections that wait to be accepted: many in a turn of the event loop, where the loop itself takes one.

Where on the path: `api.door` tells of every new connection; `cli.serving` gives the socket. The loop (uvloop, by libuv
1.45 and later) accepts one connection each time it looks around. In a flood a turn takes tens of milliseconds, so a
thousand callers who connect together would stand before the door for half a minute, unseen by any limit: they are
neither served nor refused. So whenever one was accepted, those behind it are taken in the next turn.

Invariants
1. At most `PER_TURN` in a turn: who is in already is served meanwhile.
2. Nothing is taken once the socket is closed; that is how a server stops.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

PER_TURN: Final = 128
"""Accepting one takes some 50 microseconds: six milliseconds of a turn. Where several workers listen on one socket, a
worker that took everything at once would leave nothing to the others."""


class Accepting:
    """The waiting connections of one listening socket, which is made non-blocking."""

    def __init__(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._turning = False
        self._opening: set[asyncio.Task[object]] = set()

    def arrived(self, make: Callable[[], asyncio.Protocol], loop: asyncio.AbstractEventLoop) -> None:
        """A connection was accepted: there may be more. `make` gives each of them its protocol."""
        if not self._turning:
            self._turning = True
            loop.call_soon(self._turn, make, loop)

    def _turn(self, make: Callable[[], asyncio.Protocol], loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(PER_TURN):
            try:
                connection, _address = self._listener.accept()
            except OSError:  # nobody waits any more, too many files are open, or the server stops
                self._turning = False
                return
            task: asyncio.Task[object] = loop.create_task(loop.connect_accepted_socket(make, connection))
            self._opening.add(task)  # the loop itself keeps tasks only weakly
            task.add_done_callback(self._opened)
        loop.call_soon(self._turn, make, loop)

    def _opened(self, task: asyncio.Task[object]) -> None:
        self._opening.discard(task)
        if not task.cancelled():
            task.exception()  # gone before it was taken: nobody to tell
