"""What the pipeline answers -> ASGI: a JSON body, or a stream that notices when the caller leaves.

Where on the path: last step of the chat route. Back-pressure is the server's: `send` waits while its buffer is full,
and while it waits nothing more is read from the vendor.

Invariants
1. A caller that leaves is noticed at once, not at the next chunk: the disconnect is awaited beside the stream.
2. After a disconnect the upstream is closed (or drained, if so configured) and the attempt settled, by us, always.
3. A stream that is cut because the router stops ends with an error event: no answer looks whole that is not.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.errors import plain
from service.config import OnDisconnect
from service.errors import Broken
from service.pipeline import StreamReply, WholeReply, error_event

_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # or nginx collects the events before it passes them on
}


def whole(reply: WholeReply, request_id: str) -> Response:
    """A unary answer: the vendor's bytes."""
    headers = plain({**reply.headers, "x-request-id": request_id})
    return Response(reply.body, 200, headers, reply.content_type)


class StreamResponse(Response):
    """A streamed answer."""

    def __init__(self, reply: StreamReply, request_id: str, on_disconnect: OnDisconnect) -> None:
        self.status_code = 200
        self.background = None
        self._reply = reply
        self._drain = on_disconnect is OnDisconnect.DRAIN
        self.init_headers(plain({**reply.headers, **_STREAM_HEADERS, "x-request-id": request_id}))

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, and let go of it when the caller does."""
        pump = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not pump.done() and self._drain:
                await asyncio.wait({pump})
        except asyncio.CancelledError:
            await _stopped(pump)
            if not self._reply.ended:
                stopping = error_event(Broken("the router is stopping", cause="router_stopping"))
                await send({"type": "http.response.body", "body": stopping, "more_body": False})
            raise
        finally:
            # Also on cancellation: nothing below may be skipped.
            gone.cancel()
            await _stopped(pump)
            await self._reply.abandon()
        if not pump.cancelled():
            pump.result()

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for piece in self._reply.pieces():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _stopped(task: asyncio.Task[None]) -> None:
    """Cancel a task, unless it is done, and wait until it has let go."""
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
