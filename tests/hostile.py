"""A server that says exactly what it is told, byte for byte, over raw sockets, and remembers what it saw.

Used by the contract test of transports. A play is what happens on the first connection; after it, and on every later
connection, the server is polite: it answers each request with `AFTER`. TLS is spoken over memory, so that a play can cut
a connection between records, or leave the goodbye out.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

AFTER = b"after"
POLITE = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\n" + AFTER
SLICE = 64 * 1024
LENGTH = re.compile(rb"^content-length:[ \t]*(\d+)", re.IGNORECASE | re.MULTILINE)


class Peer:
    """One connection as the server has it."""

    def __init__(self, number: int, connection: socket.socket, tls: ssl.SSLContext | None) -> None:
        self.number = number
        self.received = bytearray()
        """What came, after TLS."""
        self.requests: list[bytes] = []
        """The requests that came whole, by `request` or `polite`."""
        self.sent = 0
        """What the socket took, before TLS."""
        self.server_name: str | None = None
        self.gone = asyncio.Event()
        """The client closed its end, or we have no end any more."""
        self.released = asyncio.Event()
        """Set by the test when its caller has left: plays that do nothing wait for it."""
        self._socket = connection
        self._read = 0
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_side=True) if tls else None
        if self._tls is not None:
            self._tls.context.sni_callback = self._named

    def _named(self, _: object, name: str | None, __: object) -> None:
        self.server_name = name

    async def handshake(self) -> None:
        """TLS, when this server speaks it."""
        while self._tls is not None:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._more():
                    raise ConnectionResetError from None
            except ssl.SSLError:
                await self._flush()
                raise
            else:
                await self._flush()
                return

    async def receive(self) -> bytes:
        """What comes next; nothing when the client closed its end."""
        while True:
            if self._tls is None:
                data = await self._raw()
                break
            try:
                data = self._tls.read(SLICE)
                break
            except ssl.SSLWantReadError:
                if not await self._more():
                    return b""
        if not data:
            self.gone.set()
        self.received += data
        return data

    async def head(self) -> bool:
        """Read up to the end of a request's head (and what comes with it)."""
        while self.received.find(b"\r\n\r\n", self._read) < 0:
            if not await self.receive():
                return False
        return True

    async def request(self) -> bytes | None:
        """Read one whole request; `None` when the client closes before it is whole."""
        if not await self.head():
            return None
        end = self.received.index(b"\r\n\r\n", self._read) + 4
        length = LENGTH.search(bytes(self.received[self._read : end]))
        end += int(length[1]) if length else 0
        while len(self.received) < end:
            if not await self.receive():
                return None
        whole = bytes(self.received[self._read : end])
        self._read = end
        self.requests.append(whole)
        return whole

    async def send(self, data: bytes) -> None:
        """Say it; counts what the socket took."""
        for start in range(0, len(data), SLICE):
            piece = data[start : start + SLICE]
            if self._tls is None:
                await self.send_raw(piece)
            else:
                self._tls.write(piece)
                await self._flush()
            self.sent += len(piece)

    async def send_raw(self, data: bytes) -> None:
        """Say it beneath TLS."""
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def dribble(self, data: bytes, size: int = 1) -> None:
        """Say it in small pieces, each in a turn of the loop of its own, so that a client may see each."""
        for start in range(0, len(data), size):
            await self.send(data[start : start + size])
            await asyncio.sleep(0)

    async def say_goodbye(self) -> None:
        """The close_notify of TLS."""
        assert self._tls is not None
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        await self._flush()

    def fin(self) -> None:
        """Send no more, and listen on: a client must close its end of its own accord."""
        self._socket.shutdown(socket.SHUT_WR)

    def rst(self) -> None:
        """Reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close at once, both ways; a reset follows if anything was left unread."""
        self._socket.close()
        self.gone.set()

    def small_buffer(self) -> None:
        """Let the kernel hold little of what was said and not read."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SLICE)

    async def polite(self) -> None:
        """Answer every request until the client leaves."""
        while await self.request() is not None:
            await self.send(POLITE)

    async def listen(self) -> None:
        """Read on until the client leaves, without understanding it."""
        while await self._raw():
            pass

    @property
    def closed(self) -> bool:
        """Whether we have no socket any more."""
        return self._socket.fileno() < 0

    async def _raw(self) -> bytes:
        try:
            data = await asyncio.get_running_loop().sock_recv(self._socket, SLICE)
        except OSError:
            data = b""
        if not data:
            self.gone.set()
        return data

    async def _more(self) -> bool:
        data = await self._raw()
        self._incoming.write(data)
        return bool(data)

    async def _flush(self) -> None:
        while data := self._outgoing.read():
            await self.send_raw(data)


Play = Callable[[Peer], Awaitable[None]]


class HostileServer:
    """Listens on a free port of 127.0.0.1 while it is entered."""

    def __init__(self, play: Play, tls: ssl.SSLContext | None = None) -> None:
        self.peers: list[Peer] = []
        """Every connection, in the order in which they were accepted."""
        self._play = play
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self._listener.setblocking(False)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    @property
    def requests(self) -> list[bytes]:
        """Every request that came whole."""
        return [request for peer in self.peers for request in peer.requests]

    async def __aenter__(self) -> Self:
        self._start(self._accept())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()
        for peer in self.peers:
            peer.close()
        for problem in ended:
            if isinstance(problem, Exception):
                raise problem  # a fault of the play, not of who was played to

    def _start(self, work: Awaitable[None]) -> None:
        self._tasks.add(asyncio.ensure_future(work))

    async def _accept(self) -> None:
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(self._listener)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(len(self.peers) + 1, connection, self._tls)
            self.peers.append(peer)
            self._start(self._serve(peer))

    async def _serve(self, peer: Peer) -> None:
        try:
            await peer.handshake()
            if peer.number == 1:
                await self._play(peer)
            if not peer.closed:
                await peer.polite()
        except OSError:  # they left in the middle, or did not like our certificate (which is an OSError too)
            if not peer.closed:
                await peer.listen()
        finally:
            peer.gone.set()


@dataclass(frozen=True, slots=True)
class Certificates:
    """A private authority, and what servers of several kinds show. `trusting` is for the client."""

    trusting: ssl.SSLContext
    good: ssl.SSLContext
    expired: ssl.SSLContext
    other_name: ssl.SSLContext
    self_signed: ssl.SSLContext
    asks_back: ssl.SSLContext
    """A good one, that wants to see a certificate of the client's."""


@cache
def certificates() -> Certificates:
    """Made once per run with the `openssl` command, for names of this machine only."""
    with TemporaryDirectory() as place:
        return _made_in(Path(place))


def _made_in(place: Path) -> Certificates:
    def run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=place, check=True, capture_output=True)

    def made(name: str, host: str, days: int) -> None:
        (place / f"{name}.ext").write_text(f"subjectAltName={host}\n")
        run("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", str(days)]
        run("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem", "-extfile", f"{name}.ext")

    def server(name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(place / f"{name}.pem", place / f"{name}.key")
        return context

    here = "DNS:localhost,IP:127.0.0.1"
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for name, alone in (("ca", "basicConstraints=critical,CA:TRUE"), ("alone", f"subjectAltName={here}")):
        output = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
        run("req", "-x509", *key, *output, "-days", "2", "-addext", alone)
    made("good", here, 2)
    made("expired", here, -1)
    made("elsewhere", "DNS:elsewhere.invalid", 2)
    asks_back = server("good")
    asks_back.verify_mode = ssl.CERT_REQUIRED
    asks_back.load_verify_locations(place / "ca.pem")
    trusting = ssl.create_default_context(cafile=place / "ca.pem")
    return Certificates(trusting, server("good"), server("expired"), server("elsewhere"), server("alone"), asks_back)
