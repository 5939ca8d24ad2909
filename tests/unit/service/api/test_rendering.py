"""What the pipeline answers -> ASGI: whole answers, streams, callers that leave, a server that stops."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from scenery import eventually

from service import telemetry
from service.api.door import LEFT, TELLS
from service.api.rendering import StreamResponse, send_whole
from service.config import OnDisconnect
from service.pipeline import WholeReply
from service.simulator import Fault, Script


class Reply:
    """A stream that gives what a test lets it; `endings` are those it was abandoned with."""

    def __init__(self, *pieces, stuck=False, fails=False, left_s=60.0):
        self.headers = {"x-coe-model": "模型\r\n", "x-coe-attempts": "1"}
        self.given, self.stuck, self.fails, self.left_s = [*pieces], stuck, fails, left_s
        self.endings = []
        self.caller_left = self.ended = False

    @property
    def abandoned(self):
        return len(self.endings)

    def left(self):
        self.caller_left = True

    async def forward(self, put):
        self.put = put
        while self.given:
            piece = self.given.pop(0)
            if not put(piece):
                return piece
        if self.stuck:
            await asyncio.sleep(60)
        if self.fails:
            raise RuntimeError("a fault of ours")
        self.ended = True
        return None

    async def abandon(self, ended):
        self.endings.append(ended)


class Wire:
    """The server's side: what was sent, and when the caller leaves. After `room` messages the caller reads no more."""

    def __init__(self, room=100):
        self.sent, self.gone, self.room, self.transport = [], asyncio.Event(), room, self
        self.writable, self.aborted = asyncio.Event(), False

    async def send(self, message):
        if len(self.sent) >= self.room:
            await self.writable.wait()
        self.sent.append(message)

    def reads_on(self):
        self.room = 100
        self.writable.set()

    def abort(self):
        self.aborted = True
        self.gone.set()

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent)


def response(reply, mode=OnDisconnect.CLOSE):
    """A stream response."""
    return StreamResponse(reply, "req_1", mode)


async def test_a_whole_answer_is_the_vendors_bytes():
    """Its type too, and header values that HTTP allows."""
    sent = []

    async def send(message):
        sent.append(message)

    await send_whole(WholeReply(b'{"a":1}', "application/json; x=y", {"x-coe-model": "模\n"}), "req_1", send)
    head, body = sent
    fields = dict(head["headers"])
    assert (head["status"], body["body"], body["more_body"]) == (200, b'{"a":1}', False)
    assert fields[b"content-type"] == b"application/json; x=y"
    assert fields[b"content-length"] == b"7"
    assert fields[b"x-coe-model"] == b"??"
    assert fields[b"x-request-id"] == b"req_1"


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
    assert reply.endings == ["client_left"]
    assert reply.caller_left
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
    assert reply.endings == ["router_stopping"]
    assert not wire.aborted


@pytest.mark.parametrize("name", ["send", "total"])
async def test_a_caller_that_stops_reading_is_let_go_of(name, monkeypatch):
    """After `SEND_S`, or earlier when the attempt's own time is over: settled, and the connection is dropped."""
    monkeypatch.setattr("service.api.rendering.SEND_S", 0.05 if name == "send" else 60.0)
    monkeypatch.setattr("service.api.rendering.GOODBYE_S", 0.05)
    reply = Reply(b"data: 1\n\n", b"data: 2\n\n", left_s=60.0 if name == "send" else 0.0)
    wire = Wire(room=2)
    await asyncio.wait_for(response(reply)({}, wire.receive, wire.send), 5)
    assert reply.endings == ["caller_stalled"]
    assert wire.aborted
    assert wire.body == b"data: 1\n\n"


async def test_a_caller_that_reads_gets_everything_though_no_time_is_left():
    """The limit is for waiting: what the connection takes at once is never cut."""
    reply, wire = Reply(b"data: 1\n\n", b"data: [DONE]\n\n", left_s=-1.0), Wire()
    await response(reply)({}, wire.receive, wire.send)
    assert wire.body.endswith(b"[DONE]\n\n")


async def test_last_words_wait_a_moment_though_no_time_is_left():
    """The event that says the total is over reaches a caller that reads on."""
    reply, wire = Reply(b"data: 1\n\n", b"data: error\n\n", left_s=-1.0), Wire(room=2)
    running = asyncio.create_task(response(reply)({}, wire.receive, wire.send))
    await asyncio.sleep(0.02)
    wire.reads_on()
    await asyncio.wait_for(running, 5)
    assert wire.body.endswith(b"data: error\n\n")
    assert not wire.aborted


async def test_a_server_that_stops_does_not_wait_for_a_caller_that_does_not_read(monkeypatch):
    """Settled first; then the error event is offered for a moment, and the connection dropped."""
    monkeypatch.setattr("service.api.rendering.GOODBYE_S", 0.05)
    reply, wire = Reply(b"data: 1\n\n", b"data: 2\n\n"), Wire(room=2)
    running = asyncio.create_task(response(reply)({}, wire.receive, wire.send))
    await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.sleep(0.01)
    assert (reply.endings, wire.aborted) == (["router_stopping"], False)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 5)
    assert wire.aborted


async def test_a_second_cancellation_does_not_undo_the_settlement():
    """The loop that closes cancels whoever still says goodbye; the connection goes all the same."""
    reply, wire = Reply(b"data: 1\n\n", b"data: 2\n\n"), Wire(room=2)
    running = asyncio.create_task(response(reply)({}, wire.receive, wire.send))
    await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.sleep(0.02)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 5)
    assert reply.endings == ["router_stopping"]
    assert wire.aborted


async def test_a_server_that_stops_before_the_head_answers_503():
    """Nothing was sent yet, so the caller gets a plain error that it may retry."""
    reply, wire = Reply(b"data: 1\n\n"), Wire(room=0)
    scope = {"type": "http"}
    running = asyncio.create_task(response(reply)(scope, wire.receive, wire.send))
    await asyncio.sleep(0.02)
    wire.room = 100
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 5)
    assert wire.sent[0]["status"] == 503
    assert dict(wire.sent[0]["headers"])[b"retry-after"]
    assert json.loads(wire.body)["error"]["code"] == "router_stopping"
    assert reply.endings == ["router_stopping"]


class Flow:
    """A server's flow control."""

    write_paused, resumed = False, 0

    def resume_reading(self):
        self.resumed += 1


class Server(Wire):
    """One like ours: it waits for room and for nothing else, and a door tells when the caller leaves."""

    def __init__(self, **more):
        super().__init__(**more)
        self.flow, self.scope, self.disconnected = Flow(), {TELLS: True}, False
        self.listened = 0

    async def send(self, message):
        if self.flow.write_paused:
            await self.writable.wait()
        self.sent.append(message)

    async def receive(self):
        self.listened += 1
        return await super().receive()


async def test_what_has_room_goes_out_from_where_it_arrives():
    """No task is woken for it, and none waits for the caller to leave."""
    reply, server = Reply(b"data: 1\n\n", stuck=True), Server()
    running = asyncio.create_task(response(reply)(server.scope, server.receive, server.send))
    await asyncio.sleep(0)
    reply.put(b"data: 2\n\n")
    assert server.body == b"data: 1\n\ndata: 2\n\n"
    assert len(asyncio.all_tasks()) == 2
    server.flow.write_paused = True
    assert not reply.put(b"data: 3\n\n")
    server.scope[LEFT]()
    await asyncio.wait_for(running, 1)
    assert (reply.endings, reply.caller_left, server.listened) == (["client_left"], True, 0)
    assert server.flow.resumed == 1
    assert LEFT not in server.scope, "nobody is called when the answer is over"


async def test_what_has_no_room_is_waited_for():
    """Each piece once and in order, with the wait in between."""
    reply, server = Reply(b"data: 1\n\n", b"data: 2\n\n", b"data: [DONE]\n\n"), Server()
    server.flow.write_paused = True
    running = asyncio.create_task(response(reply)(server.scope, server.receive, server.send))
    await asyncio.sleep(0.02)
    assert server.sent == []
    server.flow.write_paused = False
    server.writable.set()
    await asyncio.wait_for(running, 1)
    assert server.body == b"data: 1\n\ndata: 2\n\ndata: [DONE]\n\n"
    assert server.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_caller_that_had_left_before():
    """Nothing is said to it, and what it was charged for is settled; to its end, where that is configured."""
    for mode, sent in ((OnDisconnect.CLOSE, 0), (OnDisconnect.DRAIN, 4)):
        reply, server = Reply(b"data: 1\n\n", b"data: [DONE]\n\n"), Server()
        server.disconnected = True
        await asyncio.wait_for(response(reply, mode)(server.scope, server.receive, server.send), 1)
        assert (reply.endings, reply.caller_left, len(server.sent)) == (["client_left"], True, sent)
        assert asyncio.current_task().cancelling() == 0


async def test_draining_goes_on_when_the_door_tells():
    """The caller that left is noted, and the stream read to its end."""
    reply, server = Reply(b"data: 1\n\n", stuck=True), Server()
    running = asyncio.create_task(response(reply, OnDisconnect.DRAIN)(server.scope, server.receive, server.send))
    await asyncio.sleep(0.01)
    server.scope[LEFT]()
    await asyncio.sleep(0.01)
    assert not running.done()
    assert reply.caller_left
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert reply.endings == ["client_left"]
    assert b"error" not in server.body


async def test_a_caller_that_leaves_while_the_server_stops():
    """The server's own cancellation goes on; nobody is there for an error event."""
    reply, server = Reply(b"data: 1\n\n", stuck=True), Server()
    running = asyncio.create_task(response(reply)(server.scope, server.receive, server.send))
    await asyncio.sleep(0.01)
    server.scope[LEFT]()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert reply.endings == ["client_left"]
    assert b"error" not in server.body


async def test_a_scope_that_was_copied_is_not_the_doors():
    """It would tell into the void: the disconnect is awaited instead."""
    reply, server = Reply(b"data: 1\n\n", stuck=True), Server()
    running = asyncio.create_task(response(reply)({**server.scope}, server.receive, server.send))
    await asyncio.sleep(0.01)
    server.gone.set()
    await asyncio.wait_for(running, 1)
    assert reply.endings == ["client_left"]


async def test_a_server_that_fails_to_listen_has_lost_its_caller():
    """The stream is let go of, as after a disconnect."""
    reply, wire = Reply(b"data: 1\n\n", stuck=True), Wire()

    async def receive():
        raise OSError("the server's own")

    await asyncio.wait_for(response(reply)({}, receive, wire.send), 1)
    assert reply.endings == ["client_left"]


async def test_a_server_that_waits_for_something_else_is_a_fault():
    """It says that it has room and then waits: half a message can't be left behind unseen."""

    class Odd(Server):
        async def send(self, message):
            if message.get("more_body"):
                await self.writable.wait()
            self.sent.append(message)

    reply, server = Reply(b"data: 1\n\n"), Odd()
    with pytest.raises(RuntimeError, match="has room"):
        await response(reply)(server.scope, server.receive, server.send)
    assert reply.endings == ["internal_error"]


async def test_a_fault_of_ours_is_not_swallowed():
    """It goes to the net around every route; the attempt is let go of all the same."""
    reply, wire = Reply(b"data: 1\n\n", fails=True), Wire()
    with pytest.raises(RuntimeError, match="a fault of ours"):
        await response(reply)({}, wire.receive, wire.send)
    assert reply.endings == ["internal_error"]


def stall(app):
    """Ask for a stream and never read a byte of it; the socket."""
    raw = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "hello"}], "stream": True}).encode()
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
    wire.connect(("127.0.0.1", app.books.port))
    wire.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        + f"content-length: {len(raw)}\r\n\r\n".encode()
        + raw
    )
    return wire


def blocked(app):
    """Whether the server waits for a caller that does not read."""
    return any(one.flow.write_paused for one in list(app.server.server_state.connections))


@pytest.mark.parametrize("send_s", [0.3, 60.0], ids=["send", "total"])
def test_on_a_socket_a_caller_that_never_reads_is_dropped(serving, monkeypatch, capfd, send_s):
    """One row, an estimate; the upstream is closed, and so is the connection, whatever its buffers still hold."""
    telemetry.configure("INFO")
    monkeypatch.setattr("service.api.rendering.SEND_S", send_s)
    app, simulator = serving({"alpha": Script(fault=Fault.ENDLESS)})
    with stall(app):
        eventually(lambda: blocked(app))
        eventually(lambda: app.books.attempts()[0][1])
        eventually(lambda: simulator.log[0].outcome.value == "client_left")
        eventually(lambda: not app.server.server_state.connections, 2)
    ((_, ends),) = app.books.attempts()
    assert [(end["ended"], end["state"]) for end in ends] == [("caller_stalled", "estimated")]
    assert telemetry.SERVER_TROUBLE not in capfd.readouterr().err


def test_on_a_socket_stopping_settles_a_caller_that_never_reads(serving, capfd):
    """Its row is there when the server has stopped, and nothing waited in vain for it."""
    telemetry.configure("INFO")
    app, _ = serving({"alpha": Script(fault=Fault.ENDLESS)})
    app.server.config.timeout_graceful_shutdown = 0.2
    with stall(app):
        eventually(lambda: blocked(app))
        app.stop()
    ((_, ends),) = app.books.attempts()
    assert [(end["ended"], end["state"]) for end in ends] == [("router_stopping", "estimated")]
    assert "settle_failed" not in capfd.readouterr().err


def test_on_a_socket_a_caller_that_hangs_up_behind_a_large_body_is_noticed(serving):
    """The server stops reading while it holds a large body; it must read on to see the caller go."""
    app, _ = serving({"alpha": Script(fault=Fault.STALL, fault_after=2)})
    question = {"model": "auto", "messages": [{"role": "user", "content": "hello " * 60_000}], "stream": True}
    raw = json.dumps(question).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(raw)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", app.books.port)) as wire:
        wire.sendall(head + raw)
        assert wire.recv(1_000).startswith(b"HTTP/1.1 200")
    eventually(lambda: app.books.attempts()[0][1])
    assert app.books.attempts()[0][1][0]["ended"] == "client_left"
