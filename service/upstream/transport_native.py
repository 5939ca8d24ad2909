"""The seam to the network, on asyncio and httptools alone: a pool of keep-alive connections to every vendor.

Where on the path: `upstream.client` calls `send`, as it does on `transport_httpx`, which stays for proxies and HTTP/2.
tests/contract/test_transports.py holds both to the same contract (docs/adr/0007-native-transport.md).

Invariants
1. Only the URL it is given is dialled: no redirects, no proxies, TLS verified and named (SNI).
2. `NotSent` only when not a byte of the request left this machine: it could not be written, or no connection came
   about.
3. A request is written to one connection and never again to another: a vendor that took it may bill it.
4. An idle connection is looked at before it is used again; one that the vendor closed is not.
5. At most `CONNECTIONS_MAX` connections, idle ones and all. Who waits for one waits in line, and no longer than for
   connecting.
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from service.domain.ports import UpstreamRequest, UpstreamResponse
from service.errors import NotSent
from service.upstream.native_connection import Connection, header_map
from service.upstream.patience import Patience
from service.upstream.tls import tls_context

CONNECTIONS_MAX: Final = 2_000
KEEPALIVE_MAX: Final = 200
"""Idle connections kept, all vendors together."""

KEEPALIVE_S: Final = 30.0  # shorter than the 60 s at which most vendors' load balancers hang up

ORIGINS_REMEMBERED: Final = 1_024
"""Addresses whose parts are remembered: a registry has a few hundred."""

NAMES_REMEMBERED: Final = 1_024
"""Names of header fields that are known to be writable. Their values are not remembered: some are secrets."""

_PORTS: Final = {"http": 80, "https": 443}
_FIELD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_UNWRITABLE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BLANKS: Final = " \t"
_TARGET: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class _Address:
    """The parts of a URL: where to connect, and what to ask for. `host` is what TLS verifies.

    Connections to one `origin` (TLS, host and port) serve one another's requests.
    """

    tls: bool
    host: str
    port: int
    authority: str
    target: str
    origin: tuple[bool, str, int]


class NativeTransport:
    """A pool of connections to every vendor. Use it from one event loop."""

    def __init__(self, *, verify: ssl.SSLContext | bool = True) -> None:
        """`verify` is a context, or whether certificates are checked against the bundled authorities."""
        self._tls = verify if isinstance(verify, ssl.SSLContext) else tls_context(verify=verify)
        self._idle: dict[tuple[bool, str, int], deque[Connection]] = {}
        self._idle_count = 0
        self._open = 0
        # One per request, not per connection: whoever is next may take an idle one, or has one closed to make room.
        self._slots = asyncio.Semaphore(CONNECTIONS_MAX)
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """See `Transport.send`."""
        address, message = _written(request)
        connection = None if self._slots.locked() else self._take_idle(address.origin)
        if connection is None:
            connection = await self._obtained(address, request.connect_s)
        else:
            await self._slots.acquire()  # there is one, so that this does not wait
        try:
            connection.begin(message)
            await connection.head()
        except BaseException:
            self.give_back(connection, address.origin)
            raise
        return _NativeResponse(self, connection, address.origin)

    async def aclose(self) -> None:
        """Close every idle connection; those in use close when they are given back."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for waiting in self._idle.values():
            while waiting:
                self._drop(waiting.pop())
        self._idle.clear()
        self._idle_count = 0

    def give_back(self, connection: Connection, origin: tuple[bool, str, int]) -> None:
        """End a request: keep its connection for the next one, or close it."""
        self._slots.release()
        if self._closed or connection.is_stale() or self._idle_count >= KEEPALIVE_MAX:
            self._drop(connection)
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.setdefault(origin, deque()).append(connection)
        self._idle_count += 1
        if self._sweep is None:
            self._sweep = loop.call_later(KEEPALIVE_S, self._swept)

    def _take_idle(self, origin: tuple[bool, str, int]) -> Connection | None:
        """The connection that was used last, so that those nobody needs grow old."""
        waiting = self._idle.get(origin)
        while waiting:
            connection = waiting.pop()
            self._idle_count -= 1
            if not connection.is_stale():
                return connection
            self._drop(connection)
        return None

    def _swept(self) -> None:
        """Close what was idle too long; come again while anything is idle."""
        self._sweep = None
        loop = asyncio.get_running_loop()
        old = loop.time() - KEEPALIVE_S
        for origin, waiting in list(self._idle.items()):
            while waiting and (waiting[0].idle_since <= old or not waiting[0].reusable):
                self._idle_count -= 1
                self._drop(waiting.popleft())
            if not waiting:
                del self._idle[origin]
        if self._idle:
            self._sweep = loop.call_later(KEEPALIVE_S / 4, self._swept)

    def _drop(self, connection: Connection) -> None:
        connection.abort()
        self._open -= 1

    async def _obtained(self, address: _Address, within_s: float) -> Connection:
        """A slot, and a connection that is nobody else's; raises `NotSent`."""
        patience = Patience()
        try:
            return await patience.wait(self._in_turn(address), within_s)
        except TimeoutError:
            raise NotSent("connecting to the vendor took too long", cause="timeout_connect") from None
        except (OSError, UnicodeError) as problem:
            raise NotSent("the vendor could not be reached", cause=_connect_cause(problem)) from None
        finally:
            patience.close()

    async def _in_turn(self, address: _Address) -> Connection:
        await self._slots.acquire()
        try:
            return self._take_idle(address.origin) or await self._connect(address)
        except BaseException:
            self._slots.release()
            raise

    async def _connect(self, address: _Address) -> Connection:
        if self._open >= CONNECTIONS_MAX:
            self._drop_an_idle_one()
        self._open += 1
        connection = Connection()
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                address.host,
                address.port,
                ssl=self._tls if address.tls else None,
                server_hostname=address.host if address.tls else None,
            )
        except BaseException:
            self._open -= 1
            connection.let_go()  # who leaves in the very moment in which it came about closes it without a word to it
            raise
        return connection

    def _drop_an_idle_one(self) -> None:
        """Make room. There is one whenever all are taken: a request without a connection holds a slot, too."""
        for waiting in self._idle.values():
            if waiting:
                self._idle_count -= 1
                self._drop(waiting.popleft())
                return


class _NativeResponse:
    """An answer whose head has arrived."""

    __slots__ = ("_connection", "_fields", "_headers", "_origin", "_transport", "status")

    def __init__(self, transport: NativeTransport, connection: Connection, origin: tuple[bool, str, int]) -> None:
        self._transport = transport
        self._connection: Connection | None = connection
        self._origin = origin
        self._fields = connection.fields
        self._headers: Mapping[str, str] | None = None
        self.status = connection.status

    @property
    def headers(self) -> Mapping[str, str]:
        if self._headers is None:
            self._headers = header_map(self._fields)
        return self._headers

    def pour(self, take: Callable[[bytes], bool]) -> Awaitable[bool]:
        """See `Connection.pour`."""
        if self._connection is None:
            raise RuntimeError("the answer was closed")
        return self._connection.pour(take)

    def arrived(self) -> bytes | None:
        """See `Connection.arrived`."""
        return None if self._connection is None else self._connection.arrived()

    def chunks(self) -> AsyncIterator[bytes]:
        if self._connection is None:
            raise RuntimeError("the answer was closed")
        return self._connection.chunks()

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.give_back(connection, self._origin)


@lru_cache(maxsize=ORIGINS_REMEMBERED)
def _address(url: str) -> _Address:
    """Raises ValueError for what can't be dialled."""
    if " " in url or not url.isprintable():
        raise ValueError("characters that can't stand in a URL")  # some of which `urlsplit` leaves out
    parts = urlsplit(url)
    host = parts.hostname
    if parts.scheme not in _PORTS or not host or parts.username is not None or parts.password is not None:
        raise ValueError("not an http or https URL with a host")
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    ascii_host = host if host.isascii() else host.encode("idna").decode("ascii")
    shown = f"[{ascii_host}]" if ":" in ascii_host else ascii_host
    authority = shown if port == _PORTS[parts.scheme] else f"{shown}:{port}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not _TARGET.fullmatch(target) or not _TARGET.fullmatch(authority):
        raise ValueError("characters that can't stand in a URL")
    tls = parts.scheme == "https"
    return _Address(tls, ascii_host, port, authority, target, (tls, ascii_host, port))


def _written(request: UpstreamRequest) -> tuple[_Address, bytes]:
    """Where a request goes, and its bytes; raises `NotSent` when it can't be written as HTTP."""
    try:
        address = _address(request.url)
        body = request.body
        lines = [f"{request.method} {address.target} HTTP/1.1\r\nhost: {address.authority}"]
        for name, value in request.headers:
            if not _is_field(name) or not (value.isprintable() or not _UNWRITABLE.search(value)):
                raise ValueError("a header field that can't be written")
            lines.append(f"{name}: {value.strip(_BLANKS)}")
        if body or request.method not in ("GET", "HEAD"):
            lines.append(f"content-length: {len(body)}")
        lines.append("\r\n")
        head = "\r\n".join(lines).encode("latin-1")
    except ValueError:
        # Not chained: what the error quotes may be a secret.
        raise NotSent("the request could not be written as HTTP", cause="invalid_request") from None
    return address, head + body


@lru_cache(maxsize=NAMES_REMEMBERED)
def _is_field(name: str) -> bool:
    return _FIELD.fullmatch(name) is not None


def _connect_cause(problem: BaseException) -> str:
    """A short stable word for why no connection came about."""
    if isinstance(problem, ssl.SSLError | ssl.CertificateError):
        return "tls"
    if isinstance(problem, socket.gaierror | UnicodeError):
        return "dns"
    # Several addresses that all refused come as one error without a number.
    refused = isinstance(problem, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(problem)
    return "connect_refused" if refused else "connect_failed"
