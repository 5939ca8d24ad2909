"""What the pipeline answers -> ASGI: a JSON body, or a stream that notices when the caller leaves.

Where on the path: last step of the chat route. Back-pressure is the server's: `send` waits while its buffer is full,
and while it waits nothing more is read from the vendor.

Invariants
1. A caller that leaves is noticed at once, not at the next chunk: the disconnect is awaited beside the stream.
2. A caller that stays but stops reading is let go of after `SEND_S`, or when the attempt's total time is over.
3. Whatever ends a stream, the upstream is closed (or drained, if so configured) and the attempt settled, by us, always,
   and before anything that waits for the caller.
4. A stream that is cut because the router stops ends with an error event: no answer looks whole that is not.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.api.errors import plain, plain_value, render
from service.config import OnDisconnect
from service.errors import Broken, Stopping
from service.ledger.recorder import CALLER_STALLED, CLIENT_LEFT, INTERNAL_ERROR, ROUTER_STOPPING
from service.pipeline import StreamReply, WholeReply, error_event

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
    fields = [
        (b"content-length", str(len(reply.body)).encode("ascii")),
        (b"content-type", plain_value(reply.content_type).encode("ascii")),
        (b"x-request-id", request_id.encode("ascii")),
    ]
    fields += [(name.encode("ascii"), plain_value(value).encode("ascii")) for name, value in reply.headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": reply.body, "more_body": False})


class StreamResponse(Response):
    """A streamed answer."""

    def __init__(self, reply: StreamReply, request_id: str, on_disconnect: OnDisconnect) -> None:
        self.status_code = 200
        self.background = None
        self._reply = reply
        self._request_id = request_id
        self._drain = on_disconnect is OnDisconnect.DRAIN
        self._begun = False
        self.init_headers(plain({**reply.headers, **_STREAM_HEADERS, "x-request-id": request_id}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, and let go of it when the caller does, or when the server stops."""
        pump = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(_disconnected(receive))
        stopping = False
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not pump.done():
                self._reply.left()
                if self._drain:
                    await asyncio.wait({pump})
        except asyncio.CancelledError:
            stopping = not gone.done()
            raise
        finally:
            # Also on cancellation: the attempt is settled before anything that waits for the caller.
            ended, cut = ROUTER_STOPPING if stopping else _ending(pump), not pump.done()
            await _stopped(pump)
            await self._reply.abandon(ended)
            try:
                read = ended != CALLER_STALLED
                if stopping and cut:
                    read = False  # also when the goodbye is cancelled by a loop that closes
                    read = await self._goodbye(scope, receive, send)
            finally:
                if not read:
                    await _drop(receive, gone)
                gone.cancel()
        if not pump.cancelled():
            pump.result()

    async def _pump(self, send: Send) -> bool:
        """Send it all; `False` when the caller stopped reading."""
        head = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        if not await self._sent(send, head):
            return False
        self._begun = True
        async for piece in self._reply.pieces():
            if not await self._sent(send, {"type": "http.response.body", "body": piece, "more_body": True}):
                return False
        return await self._sent(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _sent(self, send: Send, message: Message) -> bool:
        """Send a message; `False` when the caller did not read in time. What need not wait is always sent."""
        flow = getattr(getattr(send, "__self__", None), "flow", None)
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


def _ending(pump: asyncio.Task[bool]) -> str:
    """How an attempt ends that has not ended yet, by where its pump stands."""
    if not pump.done() or pump.cancelled():
        return CLIENT_LEFT
    if pump.exception() is not None:
        return INTERNAL_ERROR
    return CLIENT_LEFT if pump.result() else CALLER_STALLED


async def _stopped(task: asyncio.Task[bool]) -> None:
    """Cancel a task, unless it is done, and wait until it has let go; what it raises then is its own."""
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})


async def _drop(receive: Receive, gone: asyncio.Task[None]) -> None:
    """Close the connection with what its buffers still hold: who does not read would keep them for ever.

    ASGI has no word for that, and to return from the application waits for the buffers. The server's transport, which
    `receive` is bound to, can; with another server the connection ends when its peer does.
    """
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is not None:
        transport.abort()
        await asyncio.wait({gone}, timeout=GOODBYE_S)  # or the server believes that we forgot to answer


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
