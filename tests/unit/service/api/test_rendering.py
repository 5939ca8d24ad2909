"""What the pipeline answers -> ASGI: whole answers, streams, callers that leave, a server that stops."""

from __future__ import annotations

import asyncio

import pytest

from service.api.rendering import StreamResponse, whole
from service.config import OnDisconnect
from service.pipeline import WholeReply


class Reply:
    """A stream that yields what a test lets it; `abandoned` counts."""

    def __init__(self, *pieces, stuck=False, fails=False):
        self.headers = {"x-coe-model": "模型\r\n", "x-coe-attempts": "1"}
        self.given, self.stuck, self.fails = pieces, stuck, fails
        self.abandoned = 0
        self.ended = False

    async def pieces(self):
        for piece in self.given:
            yield piece
        if self.stuck:
            await asyncio.sleep(60)
        if self.fails:
            raise RuntimeError("a fault of ours")
        self.ended = True

    async def abandon(self):
        self.abandoned += 1


class Wire:
    """The server's side: what was sent, and when the caller leaves."""

    def __init__(self):
        self.sent, self.gone = [], asyncio.Event()

    async def send(self, message):
        self.sent.append(message)

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent)


def response(reply, mode=OnDisconnect.CLOSE):
    """A stream response."""
    return StreamResponse(reply, "req_1", mode)


def test_a_whole_answer_is_the_vendors_bytes():
    """Its type too, and header values that HTTP allows."""
    made = whole(WholeReply(b'{"a":1}', "application/json; x=y", {"x-coe-model": "模\n"}), "req_1")
    assert made.body == b'{"a":1}'
    assert made.headers["content-type"] == "application/json; x=y"
    assert made.headers["x-coe-model"] == "??"
    assert made.headers["x-request-id"] == "req_1"


async def test_a_stream_to_its_end():
    """Head, pieces, end; let go of exactly once."""
    reply, wire = Reply(b"data: 1\n\n", b"data: [DONE]\n\n"), Wire()
    await response(reply)({}, wire.receive, wire.send)
    head = dict(wire.sent[0]["headers"])
    assert head[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert head[b"x-accel-buffering"] == b"no"
    assert head[b"x-coe-model"] == b"????"
    assert wire.body == b"data: 1\n\ndata: [DONE]\n\n"
    assert wire.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert reply.abandoned == 1


async def test_a_caller_that_leaves_is_noticed_between_chunks():
    """At once, though the vendor is silent; the upstream is let go of."""
    reply, wire = Reply(b"data: 1\n\n", stuck=True), Wire()
    running = asyncio.create_task(response(reply)({}, wire.receive, wire.send))
    await asyncio.sleep(0.02)
    wire.gone.set()
    await asyncio.wait_for(running, 1)
    assert reply.abandoned == 1
    assert b"error" not in wire.body


async def test_draining_reads_on_after_the_caller_left():
    """To the end, and only then lets go."""
    reply, wire = Reply(b"data: 1\n\n", b"data: [DONE]\n\n"), Wire()
    wire.gone.set()
    await response(reply, OnDisconnect.DRAIN)({}, wire.receive, wire.send)
    assert reply.ended
    assert reply.abandoned == 1


async def test_a_server_that_stops_ends_the_stream_with_an_error_event():
    """No [DONE], the attempt is let go of, and the cancellation goes on."""
    reply, wire = Reply(b"data: 1\n\n", stuck=True), Wire()
    running = asyncio.create_task(response(reply)({}, wire.receive, wire.send))
    await asyncio.sleep(0.02)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert b"stream_router_stopping" in wire.body
    assert b"[DONE]" not in wire.body
    assert reply.abandoned == 1


async def test_a_fault_of_ours_is_not_swallowed():
    """It goes to the net around every route; the attempt is let go of all the same."""
    reply, wire = Reply(b"data: 1\n\n", fails=True), Wire()
    with pytest.raises(RuntimeError, match="a fault of ours"):
        await response(reply)({}, wire.receive, wire.send)
    assert reply.abandoned == 1
