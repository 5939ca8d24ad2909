"""The chat route, on plain ASGI: no framework, no task of its own, and one parse of the body.

Where on the path: `app` lets every POST to `CHAT_PATH` in here before the framework sees it; the framework knows the
route for its OpenAPI document and for other methods. Bytes in, `ChatRequest` out to the pipeline, its reply as bytes.

Invariants
1. A caller that leaves a unary request stops fallback, but the running attempt goes on to its end: the vendor bills it
   anyway, and only its answer says how much. A caller that leaves a stream before its first content cancels it.
2. A server that stops cancels us; the pipeline settles and says `Stopping`, which becomes a 503.
3. What escapes is a 500 without internals while no head is out, else a connection that breaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api import rendering
from service.api.chat_body import read_chat
from service.api.document import documented
from service.api.door import LEFT
from service.api.errors import log_unexpected, render, unexpected
from service.api.incoming import CallerLeft, Head, admit, read_body, read_head
from service.config import OnDisconnect
from service.domain.chat import ChatRequest
from service.errors import CoeError, Stopping
from service.house import House
from service.ledger.recorder import CLIENT_LEFT
from service.pipeline import Reply, WholeReply
from service.work import Arrival

CHAT_PATH: Final = "/v1/chat/completions"

PARSE_IN_LOOP_BYTES_MAX = 32 * 1024
"""Larger bodies are read in a thread, one at a time: many of them at once would hold the event loop for tens of
milliseconds, and many threads would have the interpreter's lock one after the other before the loop's turn comes."""


class Application(FastAPI):
    """The framework's application, with the chat route in front of it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] == "http" and scope["path"] == CHAT_PATH and scope["method"] == "POST":
            await chat(self.state.house, scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The document, with what the framework can't know of the routes; made once."""
        if self.openapi_schema is None:
            self.openapi_schema = documented(super().openapi())
        return self.openapi_schema


class ChatResponse(Response):
    """The chat route as a response, for whoever gets to it by the framework."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        await chat(self._house, scope, receive, send)


async def chat(house: House, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one chat request."""
    head = read_head(scope["headers"])
    request_id = head.request_id
    arrived = house.clock.monotonic()
    try:
        answer = await _answer(house, head, request_id, arrived, scope, receive)
    except Exception as problem:  # noqa: BLE001 # the last net: whatever it is, it is logged and told as a 500
        answer = unexpected(problem, request_id)
    try:
        if isinstance(answer, WholeReply):
            await rendering.send_whole(answer, request_id, send)
        else:
            await answer(scope, receive, send)
    except Exception as problem:
        log_unexpected(problem, request_id)
        raise  # half an answer is out: the server closes the connection, which is the honest signal


async def _answer(
    house: House, head: Head, request_id: str, arrived: float, scope: Scope, receive: Receive
) -> WholeReply | Response:
    try:
        caller = admit(head, house)
        data = await read_body(head, receive, house.settings.body_bytes_max)
        request = await parsed(data, head, house)
        arrival = Arrival(request_id, caller, arrived)
        reply = await _while_listening(house, request, arrival, scope, receive)
    except CallerLeft:
        return Response(status_code=499)
    except CoeError as problem:
        return render(problem, request_id)
    except asyncio.CancelledError:
        return render(Stopping(), request_id)
    if isinstance(reply, WholeReply):
        return reply
    return rendering.StreamResponse(reply, request_id, house.settings.on_disconnect)


async def parsed(data: bytes, head: Head, house: House) -> ChatRequest:
    """The request in a body; raises InvalidRequest."""
    if len(data) <= PARSE_IN_LOOP_BYTES_MAX:
        return read_chat(data, head.steering)
    async with house.reading_large:
        return await asyncio.to_thread(read_chat, data, head.steering)


async def _while_listening(
    house: House, request: ChatRequest, arrival: Arrival, scope: Scope, receive: Receive
) -> Reply:
    """Run the pipeline; the door says at once when the caller leaves."""
    cuts = request.stream and house.settings.on_disconnect is OnDisconnect.CLOSE
    scope[LEFT] = left = _leaving(arrival, asyncio.current_task() if cuts else None)
    server = getattr(receive, "__self__", None)
    flow = getattr(server, "flow", None)
    if flow is not None:
        flow.resume_reading()  # paused behind a large body, it would not see the caller go
    if getattr(server, "disconnected", False):
        left()
    try:
        return await house.pipeline.answer(request, arrival)
    except asyncio.CancelledError:
        if arrival.cut_by == CLIENT_LEFT:
            raise CallerLeft from None
        raise
    finally:
        del scope[LEFT]


def _leaving(arrival: Arrival, task: asyncio.Task[object] | None) -> Callable[[], None]:
    """What to do when the caller leaves: note it, and cancel the task, if there is one."""

    def left() -> None:
        arrival.gone = True
        if task is not None:
            arrival.cut_by = CLIENT_LEFT
            task.cancel()

    return left
