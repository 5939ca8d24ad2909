"""One connection to a vendor: writes a request, parses what comes back, and knows at every moment what was sent.

Where on the path: `transport_native` keeps a pool of these. llhttp (by httptools) does the parsing and is strict: no
bare line feeds, no folded lines, one framing; what it can't know, where a body ends that the vendor ends by hanging up,
is known here.

Invariants
1. A failure before the head of the answer is `NoReply` (the request may have been carried out), after it `Broken`. That
   nothing was sent is for the pool to say: it alone connects.
2. An answer is whole only when its framing says so: a length that was reached, a last chunk, or, where the vendor gave
   neither, an end without an error.
3. A connection serves another request only after an answer that was read to its end, that allows it, with the request
   written to its end and not a byte too many received.
4. Nothing grows without limit: the head, trailers and chunk lines, and what was received but not read (`PENDING_MAX`;
   beyond it the socket is not read, so the vendor has to wait).
5. Who pours a body has each piece in the very callback in which it arrived: no task has to be woken for it. Once its
   wait is over (cancelled, or out of time) it is given nothing more.
6. Once the socket is gone nothing here holds itself: who let go of a connection has freed it, without a collector.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, cast

import httptools

from service.errors import Broken, NoReply, UpstreamError

HEAD_BYTES_MAX: Final = 64 * 1024
"""Of an answer's head with whatever interim answers stand before it, and of framing between two pieces of a body.

Looked at after each read: one read more is taken when the head ends in it.
"""

HEADERS_MAX: Final = 128

PENDING_MAX: Final = 256 * 1024
"""Received bytes that wait to be read; reading goes on when they were."""

_NO_BODY: Final = frozenset({204, 304})
_CHUNKED: Final = b"chunked"
_STATUS_MIN: Final = 100
_STATUS_FINAL: Final = 200
"""Below it answers are interim: another one follows."""


class Connection(asyncio.Protocol):
    """See the module. One exchange at a time: `begin`, then `head`, then `pour` (or `chunks`) until the end."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._exchange = 0
        self._waiter: asyncio.Future[bool] | None = None
        self._take: Callable[[bytes], bool] | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._paused = False
        self._lost = False
        self._dirty = False
        self._problem: UpstreamError | None = None
        self._headed = False
        self._complete = True
        self._by_length = False
        self._by_end = False
        self._interim = False
        self._framing_bytes = 0
        self.status = 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.idle_since = 0.0

    # What the pool asks.

    @property
    def reusable(self) -> bool:
        """Whether another request may be written: the exchange is over, and nothing speaks against it."""
        transport = self._transport
        if transport is None or self._lost or self._dirty or not self._complete or self._pending:
            return False
        if transport.is_closing():
            return False
        return transport.get_write_buffer_size() == 0

    def is_stale(self) -> bool:
        """Whether it is of no use: the vendor said something or hung up since the last answer, or reads no more.

        The event loop may not have looked at the socket yet, so it is looked at here. It must take more, too: over TLS
        nobody else tells how much of a request still waits to be written.
        """
        if not self.reusable or self._poll is None:
            return True
        return [happened for _, happened in self._poll.poll(0)] != [select.POLLOUT]

    def begin(self, message: bytes) -> None:
        """Write a request. From here on it may have been carried out."""
        assert self._transport is not None  # noqa: S101 # the pool hands out connected ones only
        self._parser = httptools.HttpResponseParser(self)
        self._exchange += 1
        self.status, self.fields = 0, []
        self._headed, self._complete = False, False
        self._by_length = self._by_end = self._interim = False
        self._framing_bytes = 0
        self._transport.write(message)

    async def head(self) -> None:
        """Return when the head of the answer is there; raises `NoReply`."""
        while not self._headed:
            if self._problem is not None:
                raise _anew(self._problem)
            await self._wait()

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        """Give the body to `take` as it arrives, until that returns false; whether the body has ended.

        `take` is called from the event loop's own callback: it must not wait, and what it raises is raised here. Call
        again for the rest. Raises `Broken` when the body breaks, after what had arrived.
        """
        exchange = self._exchange
        while True:
            if self._exchange != exchange:
                raise RuntimeError("the answer was closed")  # what comes now is the answer to somebody else
            if self._pending:
                if not take(self._taken()):
                    break
            elif self._complete:
                break
            elif self._problem is not None:
                raise _anew(self._problem)
            else:
                self._take = take
                try:
                    if not await self._wait():
                        break
                finally:
                    self._take = None
        return self._complete and not self._pending

    def arrived(self) -> bytes | None:
        """The rest of the body, when all of it is here already."""
        if not self._complete:
            return None
        return self._taken() if self._pending else b""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives; raises `Broken` when it breaks, after what had arrived."""
        return self._chunks(self._exchange)

    async def _chunks(self, exchange: int) -> AsyncIterator[bytes]:
        came: list[bytes] = []

        def one(piece: bytes) -> bool:
            came.append(piece)
            return False

        while self._exchange == exchange:
            await self.pour(one)
            if not came:
                return
            yield came.pop()
        raise RuntimeError("the answer was closed")

    def abort(self) -> None:
        """Close at once, whatever is unsent or unread."""
        self._dirty = True
        if self._transport is not None:
            self._transport.abort()

    def let_go(self) -> None:
        """The socket is gone: hold neither parser nor transport any more, for both may hold us.

        Such a ring, of some KiB, only the collector frees, and for old ones it comes once in many thousand requests.
        """
        self._poll = self._parser = self._transport = None

    async def _wait(self) -> bool:
        """Whether to go on, once something has happened."""
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._waiter = waiter
        try:
            return await waiter
        finally:
            self._waiter = None

    def _taken(self) -> bytes:
        """All that is pending, as one piece; reading goes on."""
        pending = self._pending
        whole = pending[0] if len(pending) == 1 else b"".join(pending)
        pending.clear()
        self._pending_bytes = 0
        if self._paused:
            self._resume()
        return whole

    def _resume(self) -> None:
        self._paused = False
        if self._transport is not None and not self._lost:
            self._transport.resume_reading()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(True)

    def _pass_on(self, take: Callable[[bytes], bool]) -> None:
        """Hand over what has just arrived to who pours, and wake it when that was the end, or enough."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        try:
            more = take(self._taken())
        except Exception as problem:  # noqa: BLE001 # raised where it belongs: in the task that pours
            self._take = None
            waiter.set_exception(problem)
            return
        if not (more or waiter.done()):
            waiter.set_result(False)
        elif self._complete:
            self._wake()

    def _fail(self) -> None:
        """The answer can't be finished: say so to who reads it, and close."""
        if not self._complete and self._problem is None:
            if self._headed:
                self._problem = Broken("the vendor's answer was cut", cause="cut")
            else:
                self._problem = NoReply("the vendor hung up before it answered", cause="hung_up")
        self.abort()
        self._wake()

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not derived from it
        socket = transport.get_extra_info("socket")
        self._poll = select.poll()
        self._poll.register(socket.fileno(), select.POLLIN | select.POLLOUT)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._complete:
            # Nobody asked: the start of an answer that belongs to nobody, or an error before a hang-up.
            self._fail()
            return
        assert self._parser is not None  # noqa: S101 # made in `begin`
        self._framing_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail()
            return
        if self._framing_bytes > HEAD_BYTES_MAX:
            self._fail()
            return
        if self._take is not None and self._pending:
            self._pass_on(self._take)
        elif self._take is None or self._complete:
            self._wake()
        if self._pending_bytes > PENDING_MAX and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`: the vendor sends nothing more, so nothing more is worth sending."""
        self._ended(clean=True)
        return False

    def connection_lost(self, problem: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._lost = True
        self._ended(clean=problem is None)
        self.let_go()

    def _ended(self, *, clean: bool) -> None:
        if not self._complete and clean and self._headed and self._by_end and self._said_goodbye():
            self._complete = True
        self._dirty = True
        self._fail()

    def _said_goodbye(self) -> bool:
        """Whether an end over TLS is the vendor's: without its goodbye anybody on the way may have cut the answer."""
        tls = None if self._transport is None else self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return not tls.read(1)
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLError:
            return False

    # What the parser tells.

    def on_message_begin(self) -> None:
        """A second answer where one was asked for: the connection is of no more use."""
        if self._complete:
            self._dirty = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of trailers, which mean nothing here."""
        if self._headed or self._complete:
            return
        if len(self.fields) >= HEADERS_MAX:
            raise ValueError("too many header fields")
        name = name.lower()
        if name == b"content-length":
            self._by_length = True
        elif name == b"transfer-encoding":
            # Another coding was not asked for, and nobody here would undo it.
            if self._by_length or value.strip().lower() != _CHUNKED:
                raise ValueError("an unknown transfer coding")
            self._by_length = True
        self.fields.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is there, or that of an interim answer."""
        if self._complete or self._parser is None:
            return
        status = self._parser.get_status_code()
        if status < _STATUS_MIN:
            raise ValueError("no such status")
        if status < _STATUS_FINAL:
            self._interim = True
            self.fields.clear()
            self._by_length = False
            return
        self.status, self._headed = status, True
        self._by_end = not self._by_length and status not in _NO_BODY
        self._framing_bytes = 0

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._complete:
            return
        self._pending.append(body)
        self._pending_bytes += len(body)
        self._framing_bytes = 0

    def on_message_complete(self) -> None:
        """The framing says that the answer is whole, unless it was an interim one."""
        if self._interim:
            self._interim = False
            return
        if self._complete or self._parser is None:
            return
        self._complete = True
        if not self._parser.should_keep_alive():
            self._dirty = True


def header_map(fields: list[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Fields by lower-case name; those that are repeated are joined by commas, as HTTP allows."""
    found: dict[str, str] = {}
    for name, value in fields:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _anew(problem: UpstreamError) -> UpstreamError:
    """The same error once more: one that is kept would keep every frame it passed, and the request in them."""
    return type(problem)(problem.message, cause=problem.cause)
