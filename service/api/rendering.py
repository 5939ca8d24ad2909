"""What the pipeline answers -> ASGI: a JSON body, or a stream that notices when the caller leaves.

Where on the path: last step of the chat route. Back-pressure is the server's: `send` waits while its buffer is full, and
while it waits nothing more is read from the vendor.

Invariants
1. A caller that leaves is noticed at once, not at the next chunk: the disconnect is awaited beside the stream.
2. After a disconnect the upstream is closed (or drained, if so configured) and the attempt settled, by us, always.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.config import OnDisconnect
from service.pipeline import StreamReply, WholeReply

_STREAM_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no"}


def whole(reply: WholeReply, request_id: str) -> Response:
    """A unary answer: the vendor's bytes."""
    headers = _plain({**reply.headers, "x-request-id": request_id})
    return Response(reply.body, 200, headers, reply.content_type)


class StreamResponse(Response):
    """A streamed answer."""

    def __init__(self, reply: StreamReply, request_id: str, on_disconnect: OnDisconnect) -> None:
        self.status_code = 200
        self.background = None
        self._reply = reply
        self._drain = on_disconnect is OnDisconnect.DRAIN
        self.init_headers(_plain({**reply.headers, **_STREAM_HEADERS, "x-request-id": request_id}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, and let go of it when the caller does."""
        pump = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not pump.done() and self._drain:
                await asyncio.wait({pump})
        finally:
            # Also on cancellation (the server stops): nothing below may be skipped.
            gone.cancel()
            if not pump.done():
                pump.cancel()
                with suppress(asyncio.CancelledError):
                    await pump
            await self._reply.abandon()
        pump.result()

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for piece in self._reply.pieces():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _plain(headers: Mapping[str, str]) -> dict[str, str]:
    """Header values as HTTP allows them: model names of local engines may hold anything."""
    return {
        name: "".join(character if " " <= character <= "~" else "?" for character in value)
        for name, value in headers.items()
    }
