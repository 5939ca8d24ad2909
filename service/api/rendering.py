"""What the pipeline answers -> ASGI: a JSON body, or a stream that notices when the caller leaves.

Where on the path: last step of the chat route. Back-pressure is the server's: `send` waits while its buffer is full,
and while it waits nothing more is read from the vendor.

Invariants
1. A caller that leaves is noticed at once, not at the next chunk: the door tells, or the disconnect is awaited beside
   the stream.
2. A caller that stays but stops reading is let go of after `SEND_S`, or when the attempt's total time is over.
3. Whatever ends a stream, the upstream is closed (or drained, if so configured) and the attempt settled, by us, always,
   and before anything that waits for the caller.
4. A stream that is cut because the router stops ends with an error event: no answer looks whole that is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.api.door import LEFT, TELLS
from service.api.errors import plain, plain_value, render
from service.cached_reply import StoredStream
from service.config import OnDisconnect
from service.errors import Broken, Stopping
from service.ledger.recorder import CALLER_STALLED, CLIENT_LEFT, INTERNAL_ERROR, ROUTER_STOPPING
from service.pipeline import WholeReply
from service.stream_events import error_event
from service.stream_reply import StreamReply
from service.upstream.stream import Put

SEND_S = 30.0
"""How long one `send` may wait for a caller that does not read: as long as a vendor may be silent by default."""

GOODBYE_S = 1.0
"""How long last words may wait for the caller: the error event of a router that stops, or of a total that is over."""

_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # or nginx collects the events before it passes them on
}


async def send_whole(reply: WholeReply, request_id: str, send: Send) -> None:
    """A unary answer: the vendor's bytes."""
    body = reply.body
    fields = [
        (b"content-length", b"%d" % len(body)),
        (b"content-type", plain_value(reply.content_type).encode("ascii")),
        (b"x-request-id", request_id.encode("ascii")),
    ]
    fields += [(name.encode("ascii"), plain_value(value).encode("ascii")) for name, value in reply.headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body, "more_body": False})


class StreamResponse(Response):
    """A streamed answer."""

    def __init__(self, reply: StreamReply | StoredStream, request_id: str, on_disconnect: OnDisconnect) -> None:
        self.status_code = 200
        self.background = None
        self._reply = reply
        self._request_id = request_id
        self._drain = on_disconnect is OnDisconnect.DRAIN
        self._begun = self._left = self._over = False
        self._task: asyncio.Task[object] | None = None
        self.init_headers(plain({**reply.headers, **_STREAM_HEADERS, "x-request-id": request_id}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, and let go of it when the caller does, or when the server stops."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 # a coroutine runs in a task
        before, ended, cut = task.cancelling(), INTERNAL_ERROR, False
        listening = _Listening(scope, receive, self._caller_left)
        self._task = task
        try:
            ended = await self._pump(send)
        except asyncio.CancelledError:
            cut = not self._left
            ended = ROUTER_STOPPING if cut else CLIENT_LEFT
            if cut or self._drain or task.uncancel() > before:
                raise
        finally:
            # Also on cancellation: the attempt is settled before anything that waits for the caller.
            self._over, self._task = True, None
            del task
            await self._reply.abandon(ended)
            read = ended != CALLER_STALLED
            try:
                if cut:
                    read = False  # also when the goodbye is cancelled by a loop that closes
                    read = await self._goodbye(scope, receive, send)
            finally:
                if not read:
                    await _drop(receive, listening)
                listening.end()

    def _caller_left(self) -> None:
        """Note it, and stop, unless the stream is over or to be read to its end."""
        if self._over or self._left:
            return
        self._left = True
        self._reply.left()
        if self._task is not None and not self._drain:
            self._task.cancel()

    async def _pump(self, send: Send) -> str:
        """Send it all; how an attempt has ended that is not over by then.

        What arrives goes out from where it arrives, without waking this task: that only waits for the end, and for room
        when the caller reads too slowly.
        """
        if self._left and not self._drain:
            return CLIENT_LEFT
        head = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        if not await self._sent(send, head):
            return CALLER_STALLED
        self._begun = True
        put = _putter(send)
        while (piece := await self._reply.forward(put)) is not None:
            if not await self._sent(send, _body(piece)):
                return CALLER_STALLED
        last = {"type": "http.response.body", "body": b"", "more_body": False}
        return CLIENT_LEFT if await self._sent(send, last) else CALLER_STALLED

    async def _sent(self, send: Send, message: Message) -> bool:
        """Send a message; `False` when the caller did not read in time. What need not wait is always sent."""
        flow = _flow_of(send)
        if flow is not None and not flow.write_paused:
            await send(message)  # the server waits for nothing then, so there is nothing to time
            return True
        patience = asyncio.timeout(min(SEND_S, max(self._reply.left_s, GOODBYE_S)))
        try:
            async with patience:
                await send(message)
        except TimeoutError:
            if not patience.expired():
                raise
            return False
        return True

    async def _goodbye(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Say that the router stops, as an error event or, before the head, as a 503; `False` when nobody reads it."""
        patience = asyncio.timeout(GOODBYE_S)
        try:
            async with patience:
                if self._begun:
                    stopping = error_event(Broken("the router is stopping", cause="router_stopping"))
                    await send({"type": "http.response.body", "body": stopping, "more_body": False})
                else:
                    await render(Stopping(headers=self._reply.headers), self._request_id)(scope, receive, send)
        except TimeoutError:
            if not patience.expired():
                raise
            return False
        return True


class _Listening:
    """Hears at once when the caller leaves: the door tells; with another server a task listens for it."""

    __slots__ = ("_left", "_receive", "_scope", "_task")

    def __init__(self, scope: Scope, receive: Receive, left: Callable[[], None]) -> None:
        self._receive, self._left = receive, left
        self._task: asyncio.Task[None] | None = None
        self._scope: Scope | None = None
        server: Any = getattr(receive, "__self__", None)
        # A scope that somebody copied on the way is not the one that the door looks into.
        if TELLS in scope and getattr(server, "scope", None) is scope:
            self._scope = scope
            scope[LEFT] = left
            server.flow.resume_reading()  # paused behind a large body, it would not see the caller go
            if server.disconnected:
                left()
        else:
            self._listen().add_done_callback(self._heard)

    def _listen(self) -> asyncio.Task[None]:
        self._task = asyncio.get_running_loop().create_task(_disconnected(self._receive))
        return self._task

    def _heard(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # a server that can't even say so has lost its caller
            self._left()

    async def gone(self, within_s: float) -> None:
        """Return when the server knows that the caller is gone, or when the time is over."""
        await asyncio.wait({self._task or self._listen()}, timeout=within_s)

    def end(self) -> None:
        """Listen no more."""
        if self._scope is not None:
            self._scope.pop(LEFT, None)
        if self._task is not None:
            self._task.cancel()


def _flow_of(send: Send) -> Any:  # noqa: ANN401 # uvicorn's flow control
    """What knows whether the server's connection has room; `None` with another server."""
    return getattr(getattr(send, "__self__", None), "flow", None)


def _body(piece: bytes) -> Message:
    return {"type": "http.response.body", "body": piece, "more_body": True}


def _putter(send: Send) -> Put:
    """Sends a piece at once, where the server is known to wait for nothing but room; else has none."""
    flow = _flow_of(send)
    if flow is None:
        return _no_room

    def put(piece: bytes) -> bool:
        if flow.write_paused:
            return False
        sending: Any = send(_body(piece))
        try:
            sending.send(None)  # its one step: a coroutine that waits for nothing needs no task
        except StopIteration:
            return True
        sending.close()
        raise RuntimeError("the server waited for something though its connection has room")

    return put


def _no_room(_piece: bytes) -> bool:
    """What must be awaited can't be sent at once."""
    return False


async def _drop(receive: Receive, listening: _Listening) -> None:
    """Close the connection with what its buffers still hold: who does not read would keep them for ever.

    ASGI has no word for that, and to return from the application waits for the buffers. The server's transport, which
    `receive` is bound to, can; with another server the connection ends when its peer does.
    """
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is not None:
        transport.abort()
        await listening.gone(GOODBYE_S)  # or the server believes that we forgot to answer


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
