"""The door: what a connection may send before anybody looks at the request. uvicorn's httptools protocol, with limits.

Where on the path: between the socket and the ASGI application; `cli.serving` hands this class to the server. It sees
bytes and headers, never a body's meaning. The deadline of a body is in `openai.py`, where the route knows its limit.

Invariants
1. Nothing grows without a limit: no unfinished header, trailer or chunk line, no queue behind an answer, no number of
   connections or of requests. A header that is never finished is closed at its deadline.
2. One reading of every request: one valid Host, one framing. What two servers could read in two ways is refused.
3. A refusal never lands inside an answer: it waits until all answers before it are out, then the connection ends.
4. However full it is, `RESERVED` pages are answered: connections are kept for them, and they wait in no line.
5. A refusal quotes nothing of what was sent, and nothing is logged for it: a stranger can't write our log.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.api import refusals
from service.api.accepting import Accepting
from service.api.framing import check_coding, origin_form, the_host
from service.api.quick import is_one_request
from service.domain.ids import new_id
from service.errors import CoeError, InvalidRequest, MethodNotAllowed

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

    from service.guard.admission import Admission

HEADERS_MAX = 64
"""Header fields and trailers of one request. Official SDKs send about 20."""

TARGET_BYTES_MAX = 8 * 1024
"""Of the request target; RFC 9112 asks servers to take at least 8,000."""

HEADER_S = 10.0
"""From the connection, or the first byte after an answer, to the end of the request's header."""

PIPELINED_MAX = 16
"""Requests that wait on one connection behind the one being answered. No client of ours pipelines at all."""

CONNECTIONS_MAX = 4_096
"""Open at once in one process; more are told 503, unless they ask for a reserved page."""

RESERVED = (b"/healthz", b"/readyz", b"/metrics", b"/admin")
"""How paths begin that whoever looks after the router needs most when it is full."""

REFUSING_MAX = 256
"""Connections over that limit which may still say what they want; beyond them they are closed without a word."""

LINGER_S = 1.0
"""How long the rest of a refused request is read and dropped: closing at once could reset the refusal on its way."""

PARTING_S = 1.0
"""How long a silent connection is kept when the process ends: its caller may be about to send, and would lose that."""

UNREAD_S, UNREAD_AT_THE_END_S = 30.0, 5.0
"""How long a closed connection is kept whose caller takes nothing of its answer any more; and when the process ends."""

LEFT = "coe.left"
"""Where a scope holds what is called when its caller hangs up: a request need not wait for that in another task."""

TELLS = "coe.tells"
"""In a scope that the door made: whoever puts a callable under `LEFT` is told."""


class Door(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        *arguments: Any,  # noqa: ANN401 # the server's own, passed through
        admission: Admission | None = None,
        accepting: Accepting | None = None,
        **named: Any,  # noqa: ANN401 # as above
    ) -> None:
        """`admission` is the queue of the process; without one every request is begun at once.

        `accepting` takes the connections behind this one; without it the loop takes them one by one.
        """
        super().__init__(*arguments, **named)
        self._accepting = accepting
        self._admission = admission
        self._parted = False
        self._over = False  # one connection too many: only reserved pages
        self._running: RequestResponseCycle | None = None  # the one being answered; `cycle` is the one read last
        self._refusal: bytes | None = None  # once set, nothing more is read
        self._fault: CoeError | None = None  # why a callback stopped the parser
        self._timer: asyncio.TimerHandle | None = None
        self._silent = 0  # bytes since the parser last handed over something whole: what it may be holding
        self._fields = 0
        self._field_bytes = 0
        self._in_header = False
        self._between = True  # the parser has read all of a request, and nothing of the next
        self._set_aside = False  # the parser stopped at an `Upgrade` that is going to be ignored

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as its parent has it
        """Start the clock, or say that there are too many."""
        super().connection_made(transport)
        if self._accepting is not None:
            self._accepting.arrived(self._another, self.loop)
        if len(self.connections) > CONNECTIONS_MAX + REFUSING_MAX:
            self._refusal = b""
            transport.abort()
            return
        self._over = len(self.connections) > CONNECTIONS_MAX
        self._timer = self.loop.call_later(HEADER_S, transport.close)

    def _another(self) -> Door:
        """The next connection, made as this one was."""
        return Door(
            config=self.config,
            server_state=self.server_state,
            app_state=self.app_state,
            _loop=self.loop,
            admission=self._admission,
            accepting=self._accepting,
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is being answered, which need not be the one read last."""
        self._stop_timer()
        if self._busy() and self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()
            left = cast("dict[str, Any]", self._running.scope).get(LEFT)
            if left is not None:
                left()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The process ends, and whoever is in the middle of something is answered.

        A caller to whom no answer has said `Connection: close` may send another request at any moment, so its
        connection is kept for a little longer: the next answer says it.
        """
        if self._admission is None:
            super().shutdown()
            return
        self._admission.stopping = True
        if self._busy() and self._running is not None and not self._running.response_started:
            super().shutdown()
        elif not self._busy():
            self._part_soon()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing was asked for a while: close, also when the last answer was not read by then."""
        super().timeout_keep_alive_handler()
        self._give_up_later()

    def _give_up_later(self) -> None:
        """A connection that is closed waits for its buffer: for ever, when its caller does not read."""
        left = self.transport.get_write_buffer_size()
        if left:
            ends = self._admission is not None and self._admission.stopping
            self.loop.call_later(UNREAD_AT_THE_END_S if ends else UNREAD_S, self._give_up, left)

    def _give_up(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._give_up_later()  # somebody reads, if slowly
        else:
            self.transport.abort()

    def _part_soon(self) -> None:
        self.loop.call_later(PARTING_S, self._part_when_silent)

    def _part_when_silent(self) -> None:
        if not self._busy() and not self.transport.is_closing():
            self.transport.close()
            self._give_up_later()

    def data_received(self, data: bytes) -> None:
        """Feed the parser in pieces, so that what it holds of an unfinished header never exceeds the limit."""
        self._unset_keepalive_if_required()
        if self._between and not self._busy() and self._shed_at_a_glance(data):
            return
        if self._timer is None and not self._busy():
            self._timer = self.loop.call_later(HEADER_S, self.transport.close)
        rest = memoryview(data)
        while rest and self._refusal is None:
            piece = rest[: refusals.HEADER_BYTES_MAX + 1 - self._silent]
            rest = rest[self._feed(piece) :]

    def _shed_at_a_glance(self, data: bytes) -> bool:
        """Refuse a request that nobody has room for, where its bytes show all of it: most of a flood."""
        full = self._admission is not None and not self._over and self._refusal is None and self._admission.is_full
        if not (full and is_one_request(data)):
            return False
        self._admission.refused += 1  # type: ignore[union-attr] # it is full, so it is there
        self._stop_timer()
        self.transport.write(b"".join((*self._opening(503), refusals.shed(new_id("req_")))))
        self.on_response_complete()
        return True

    def _feed(self, piece: bytes | memoryview) -> int:
        """Parse a piece; returns how many of its bytes were read."""
        self._silent += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as stopped:
            self._ignore_upgrade()
            return int(stopped.args[0])
        except httptools.HttpParserError as problem:
            self._refuse(self._fault or refusals.malformed(problem))
        else:
            if self._silent > refusals.HEADER_BYTES_MAX:
                self._refuse(refusals.header_too_large())
        return len(piece)

    def _ignore_upgrade(self) -> None:
        """Read the request again without its `Upgrade`, which a server may ignore (RFC 9110, 7.8).

        The parser can't be told to go on: it takes what follows for another protocol, also the request's own body.
        """
        self._set_aside = False
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as the parent's own
        self._feed(b"\r\n".join((*lines, b"", b"")))

    # What the parser calls

    def on_message_begin(self) -> None:
        """A request starts: count anew."""
        self._fields = self._field_bytes = 0
        self._in_header, self._between = True, False
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[TELLS] = True

    def on_url(self, url: bytes) -> None:
        """The target, or a part of it."""
        super().on_url(url)
        if len(self.url) > TARGET_BYTES_MAX:
            self._stop(refusals.with_status(414, f"the request target is over the limit of {TARGET_BYTES_MAX} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count; a trailer is dropped, for the application has read the header already and trusts it."""
        self._fields += 1
        self._field_bytes += len(name) + len(value) + len(b": \r\n")
        if self._fields > HEADERS_MAX:
            self._stop(refusals.with_status(431, f"the request has more than {HEADERS_MAX} header fields"))
        if len(self.url) + self._field_bytes > refusals.HEADER_BYTES_MAX:
            self._stop(refusals.header_too_large())
        if self._in_header:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The header is whole: refuse what can be read in two ways, then let the application have it."""
        self._silent = 0
        self._in_header = False
        version = self.parser.get_http_version()
        try:
            if version not in ("1.0", "1.1"):
                raise InvalidRequest("only HTTP/1.1 and HTTP/1.0 are spoken here")
            if self.parser.get_method() == b"CONNECT":
                raise MethodNotAllowed("this is not a proxy: CONNECT is not possible", headers={"allow": "GET, POST"})
            host = the_host(self.headers, version)
            check_coding(self.headers, version)
            if self.parser.should_upgrade():
                self._set_aside = True
                return
            self.url = origin_form(self.url, host)
            if self._over and not self.url.startswith(RESERVED):
                raise refusals.overloaded("there are too many connections")
            if len(self.pipeline) >= PIPELINED_MAX:
                raise refusals.overloaded("too many requests wait on this connection")
        except CoeError as problem:
            self._stop(problem)
        self._stop_timer()
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """A chunk's first line is whole."""
        self._silent = 0

    def on_body(self, body: bytes) -> None:
        """Handed over: the parser holds nothing of it."""
        self._silent = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._silent = 0
        if not self._set_aside:
            self._between = True
            super().on_message_complete()

    # Answers and refusals

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Begin a request, or have it wait in line; none behind a refusal that ends the connection."""
        if self._parted:
            return
        self._running = cycle
        admission = self._admission
        if admission is not None and admission.stopping and not self.pipeline:
            cycle.keep_alive = False
        if admission is None or cycle.scope["raw_path"].startswith(RESERVED):
            super()._start_asgi_task(cycle, app)
            return

        def start() -> bool:
            if cycle.disconnected:
                return False
            task = self.loop.create_task(cycle.run_asgi(app))
            task.add_done_callback(ended)
            self.tasks.add(task)
            return True

        def ended(task: asyncio.Task[None]) -> None:
            self.tasks.discard(task)
            admission.ended()

        admission.arrive(start, partial(self._shed, cycle))

    def _shed(self, cycle: RequestResponseCycle) -> None:
        """Refuse a request that no task was made for; its connection goes on where the caller wants it to."""
        if cycle.disconnected or self.transport.is_closing():
            return
        told = refusals.shed(new_id("req_"))
        # A HEAD has no body to be told in, and whoever waits to be asked for a body is not asked any more.
        if not cycle.keep_alive or cycle.waiting_for_100_continue or cycle.scope["method"] == "HEAD":
            self._refusal = b"".join((*self._opening(503), b"connection: close\r\n", told))
            cycle.response_started = cycle.response_complete = True
            self._part()
            return
        self.transport.write(b"".join((*self._opening(503), told)))
        cycle.response_started = cycle.response_complete = True
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """An answer is out: the next one, or the refusal that waited."""
        last = not self.pipeline
        super().on_response_complete()
        if last and self._refusal is not None:
            self._part()
        elif last and self._admission is not None and self._admission.stopping:
            self._part_soon()

    def _busy(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _stop(self, problem: CoeError) -> None:
        """Stop the parser from inside one of its callbacks."""
        self._fault = problem
        raise problem

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, problem: CoeError) -> None:
        """Read no more, and say why as soon as the answers before it are out."""
        self._refusal = b"".join((*self._opening(problem.status), refusals.last_words(problem, new_id("req_"))))
        broken = self.cycle if self.cycle is not None and self.cycle.more_body else None
        if broken is not None and not broken.response_complete:
            # The application has this request or would get it, and its body will never be whole.
            if broken is not self._running:
                self.pipeline.popleft()  # newest first
                return
            broken.disconnected = True
            broken.message_event.set()
            if broken.response_started:
                self._refusal = b""  # an answer that is cut must look cut
            self._part()
        elif not self._busy():
            self._part()

    def _part(self) -> None:
        """Write the refusal, end our side, and read on for a moment; once."""
        if self._parted:
            return
        self._parted = True
        self._unset_keepalive_if_required()
        self._stop_timer()
        if self.transport.is_closing():
            return
        self.transport.write(self._refusal or b"")
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_S, self.transport.close)

    def _opening(self, status: int) -> list[bytes]:
        """The status line and the server's own fields."""
        return [
            STATUS_LINE[status],
            *(name + b": " + value + b"\r\n" for name, value in self.server_state.default_headers),
        ]
