"""One accepted socket: bounded reading, writing with flow control, and the three ways to end it (FIN, RST, wait).

Where on the path: the event loop feeds it, `server` reads requests from it, `server` plays steps onto it.

Invariants
1. A client that leaves is noticed at once, whatever we are doing: every wait here ends with `ClientLeft`. A
   half-closed client counts as gone, as it does at the vendors' own front ends.
2. At most `BUFFER_BYTES_MAX` unread bytes are held beyond what is being read; then the socket is not read any more.
3. No send returns without having yielded to the loop: an endless answer can't starve the rest.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import cast

BUFFER_BYTES_MAX = 256 * 1024
"""Unread bytes held for one connection."""

WRITE_BYTES = 64 * 1024
"""The largest single write; larger data goes in slices, so that flow control is felt."""

GOODBYE_S = 1.0
"""How long the rest of a refused request is swallowed, so that its sender reads our answer before a reset."""


class ClientLeft(Exception):
    """The other side closed or reset the connection."""


class Connection(asyncio.Protocol):
    """See the module. `on_open` is called once, when the socket is ready."""

    def __init__(self, on_open: Callable[[Connection], None]) -> None:
        """Made by the loop's server for each accepted socket."""
        self._on_open = on_open
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = asyncio.Event()
        self._paused = False
        self._transport: asyncio.Transport | None = None
        self.write_bytes: int | None = None
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and say that we are open."""
        self._transport = cast("asyncio.Transport", transport)
        self._on_open(self)

    def data_received(self, data: bytes) -> None:
        """Hold what came; stop reading when it is too much (invariant 2)."""
        self._buffer += data
        if len(self._buffer) > BUFFER_BYTES_MAX and not self._paused and not self._gone.is_set():
            self._paused = True
            self.transport.pause_reading()
        self._arrived.set()

    def eof_received(self) -> bool:
        """The client will send no more: invariant 1. The transport stays open until we end it."""
        self._leave()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed; a reset and a close are the same to us."""
        del exc
        self._leave()
        self.closed.set()

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client caught up."""
        if not self._gone.is_set():
            self._writable.set()

    def _leave(self) -> None:
        self._gone.set()
        self._arrived.set()
        self._writable.set()

    @property
    def transport(self) -> asyncio.Transport:
        """The open transport; only valid after `connection_made`."""
        if self._transport is None:
            raise RuntimeError("the connection was used before it was made")
        return self._transport

    async def wait_for_data(self) -> None:
        """Return when at least one byte is unread. Raises ClientLeft."""
        while not self._buffer:
            await self._more()

    async def _more(self) -> None:
        if self._gone.is_set():
            raise ClientLeft
        self._arrived.clear()
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        await self._arrived.wait()

    async def read_until(self, end: bytes, at_most: int) -> bytes | None:
        """Bytes up to and with `end`, or `None` when `at_most` bytes came without it. Raises ClientLeft."""
        searched = 0
        while True:
            found = self._buffer.find(end, searched, at_most)
            if found >= 0:
                return self._take(found + len(end))
            if len(self._buffer) >= at_most:
                return None
            searched = max(0, len(self._buffer) - len(end) + 1)
            await self._more()

    async def read_exactly(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises ClientLeft."""
        while len(self._buffer) < size:
            await self._more()
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def send(self, data: bytes) -> None:
        """Hand bytes to the socket, in pieces of `write_bytes` when that is set. Raises ClientLeft."""
        size = self.write_bytes or WRITE_BYTES
        view = memoryview(data)
        for start in range(0, len(data), size):
            if self._gone.is_set():
                raise ClientLeft
            self.transport.write(view[start : start + size])
            await asyncio.sleep(0)
            await self._writable.wait()
        if self._gone.is_set():
            raise ClientLeft

    async def pause(self, seconds: float) -> None:
        """Wait, or raise ClientLeft as soon as the client leaves."""
        try:
            async with asyncio.timeout(seconds):
                await self._gone.wait()
        except TimeoutError:
            return
        raise ClientLeft

    async def hold(self) -> None:
        """Say nothing until the client leaves; then raise ClientLeft."""
        await self._gone.wait()
        raise ClientLeft

    def close(self) -> None:
        """End with FIN after what was sent."""
        self.transport.close()

    def reset(self) -> None:
        """End with RST: unsent bytes are dropped and the client's next read or write fails."""
        raw = self.transport.get_extra_info("socket")
        if raw is not None and raw.fileno() >= 0:
            # A duplicate, because event loops differ in what their own socket object allows; the option is shared.
            with socket.socket(fileno=os.dup(raw.fileno())) as twin:
                twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    async def say_goodbye(self) -> None:
        """Close our side, then swallow what still comes for `GOODBYE_S`: a refused sender gets to read why."""
        if self.transport.can_write_eof() and not self._gone.is_set():
            self.transport.write_eof()
        try:
            async with asyncio.timeout(GOODBYE_S):
                while True:
                    self._buffer.clear()
                    await self._more()
        except (TimeoutError, ClientLeft):
            self.close()
