"""Plays for a `HostileServer`: what may happen on its first connection, as functions from what is said to a `Play`.

Each ends where the server goes on politely, unless the play ended the connection. Ends are methods of a `Peer`: `fin`,
`rst`, `close`.
"""

from __future__ import annotations

import asyncio

from hostile import Peer, Play

FLOOD = 64 * 1024 * 1024
"""What no caller should be given, and no memory hold, at once."""

OK = b"HTTP/1.1 200 OK\r\n"
WELL = OK + b"content-length: 2\r\n\r\nok"
SETTLE_S = 0.01
"""So long a play waits for a client to take what was said."""


def says(data: bytes, end: str = "") -> Play:
    """Read the request, say something, and end, or wait for what comes."""

    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(data)
        if end == "rst":
            await asyncio.sleep(SETTLE_S)  # a reset may overtake what was not read yet
        if end:
            getattr(peer, end)()

    return play


def greets(data: bytes, end: str = "") -> Play:
    """Say something as soon as anything comes."""

    async def play(peer: Peer) -> None:
        await peer.receive()
        await peer.send(data)
        if end:
            getattr(peer, end)()

    return play


def closes(end: str, after: str = "") -> Play:
    """Accept, see nothing, the `head` or the whole `request`, and end without a word."""

    async def play(peer: Peer) -> None:
        if after:
            await getattr(peer, after)()
        getattr(peer, end)()

    return play


def dribbles(data: bytes, size: int = 1) -> Play:
    """An answer in small pieces."""

    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.dribble(data, size)

    return play


def repeats(start: bytes, more: bytes, upto: int = FLOOD) -> Play:
    """Say something over and over, until it is very much or the client leaves."""

    async def play(peer: Peer) -> None:
        peer.small_buffer()
        await peer.request()
        await peer.send(start)
        while peer.sent < upto:
            await peer.send(more)
            await asyncio.sleep(0)

    return play


def floods(size: int = FLOOD) -> Play:
    """An answer of that many NULs."""

    async def play(peer: Peer) -> None:
        peer.small_buffer()
        await peer.request()
        await peer.send(OK + b"content-length: %d\r\n\r\n" % size)
        await peer.send(bytes(size))

    return play


def early(data: bytes, then: str) -> Play:
    """Answer when the head of a large request is there; `drain` it, read no more (`stop`), or end."""

    async def play(peer: Peer) -> None:
        await peer.head()
        await peer.send(data)
        if then == "drain":
            await peer.request()
        elif then == "stop":
            peer.fin()
            await peer.released.wait()
        else:
            getattr(peer, then)()

    return play


def idle(end: str = "", unasked: bytes = b"", first: bytes = WELL) -> Play:
    """Answer well; once the connection is idle, say more or end."""

    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(first)
        await asyncio.sleep(SETTLE_S)
        await peer.send(unasked)
        if end:
            getattr(peer, end)()

    return play


def on_reuse(end: str, said: bytes = b"") -> Play:
    """Answer well once; when the second request is there, say something that is no answer, and end."""

    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(WELL)
        await peer.request()
        await peer.send(said)
        getattr(peer, end)()

    return play


def breaks_tls(said: bytes) -> Play:
    """Say something, and then what no key of this connection has sealed."""

    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(said)
        await asyncio.sleep(SETTLE_S)
        await peer.send_raw(b"\x17\x03\x03\x00\x20" + bytes(32))

    return play


def leaves_tls(said: bytes) -> Play:
    """Say something, say goodbye as TLS has it, and end."""

    async def play(peer: Peer) -> None:
        await peer.request()
        await peer.send(said)
        await peer.say_goodbye()
        peer.fin()

    return play


async def courtesy(_: Peer) -> None:
    """Nothing out of the ordinary."""


async def silence(peer: Peer) -> None:
    """Take whatever comes and say nothing until the caller has left."""
    await peer.receive()
    await peer.released.wait()


async def deafness(peer: Peer) -> None:
    """Read nothing until the caller has left."""
    await peer.released.wait()
