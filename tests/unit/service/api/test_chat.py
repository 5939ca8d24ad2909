"""The chat route without a framework: who leaves when, what escapes, and what the framework still knows of it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import httpx
import pytest

from service.api import chat as chat_module
from service.api.chat import CHAT_PATH, ChatResponse, chat
from service.api.door import LEFT
from service.config import OnDisconnect
from service.domain.access import ANONYMOUS
from service.errors import NoCandidate, Stopping
from service.pipeline import WholeReply
from service.simulator import Script

BODY = b'{"model":"auto","messages":[{"role":"user","content":"hello"}]}'
STREAM = BODY[:-1] + b',"stream":true}'


class Clock:
    """A clock that stands still."""

    def monotonic(self):
        return 0.0

    def utc(self):
        return SimpleNamespace(timestamp=lambda: 0.0)


class Stage:
    """A house whose pipeline does what the test says, and the server's side of one request."""

    def __init__(self, answer, body=BODY, mode=OnDisconnect.CLOSE):
        settings = SimpleNamespace(host="127.0.0.1", port=1, body_bytes_max=10_000, on_disconnect=mode)
        keys = SimpleNamespace(authenticate=lambda *_, **__: ANONYMOUS)
        pipeline = SimpleNamespace(answer=answer)
        self.house = SimpleNamespace(settings=settings, keys=keys, pipeline=pipeline, clock=Clock())
        self.scope = {"type": "http", "method": "POST", "path": CHAT_PATH, "headers": [(b"host", b"127.0.0.1")]}
        self.sent, self.body, self.disconnected = [], body, False

    async def receive(self):
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message):
        self.sent.append(message)

    async def run(self):
        await chat(self.house, self.scope, self.receive, self.send)

    @property
    def status(self):
        return self.sent[0]["status"]


async def test_a_whole_answer_takes_no_other_task():
    """One request, one task: the server's own."""
    tasks = []

    async def answer(_chat, _arrival):
        tasks.append(len(asyncio.all_tasks()))
        return WholeReply(b"{}", "application/json", {"x-coe-model": "m"})

    stage, before = Stage(answer), len(asyncio.all_tasks())
    await stage.run()
    assert tasks == [before]
    assert (stage.status, stage.sent[1]["body"]) == (200, b"{}")
    assert LEFT not in stage.scope, "nobody is called when the answer is there"


@pytest.mark.parametrize(
    ("body", "mode", "cut"),
    [
        (BODY, OnDisconnect.CLOSE, False),
        (BODY, OnDisconnect.DRAIN, False),
        (STREAM, OnDisconnect.DRAIN, False),
        (STREAM, OnDisconnect.CLOSE, True),
    ],
)
async def test_a_caller_that_leaves(body, mode, cut):
    """A unary attempt goes on, for it is billed; a stream before its first content is cancelled, unless it drains."""
    ends = []

    async def answer(_chat, arrival):
        stage.scope[LEFT]()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            ends.append((arrival.gone, arrival.cut_by))
            raise
        ends.append((arrival.gone, "went on"))
        return WholeReply(b"{}", "application/json", {})

    stage = Stage(answer, body, mode)
    await stage.run()
    assert ends == [(True, "client_left" if cut else "went on")]
    assert stage.status == (499 if cut else 200)


async def test_a_caller_that_has_left_already():
    """The door set its mark before anybody could be called."""
    seen = []

    async def answer(_chat, arrival):
        seen.append(arrival.gone)
        return WholeReply(b"{}", "application/json", {})

    class Gone(Stage):
        async def receive(self):
            self.disconnected = True
            return await super().receive()

    await Gone(answer).run()
    assert seen == [True]


async def test_a_server_that_paused_behind_a_large_body_reads_on():
    """Or nobody would see the caller go while the vendor works."""
    order = []

    async def answer(_chat, _arrival):
        order.append("answer")
        return WholeReply(b"{}", "application/json", {})

    stage = Stage(answer)
    stage.flow = SimpleNamespace(resume_reading=lambda: order.append("reads"))
    await stage.run()
    assert order == ["reads", "answer"]


@pytest.mark.parametrize(
    ("problem", "status"),
    [(NoCandidate("nobody"), 422), (Stopping(), 503), (asyncio.CancelledError(), 503), (KeyError("secret"), 500)],
)
async def test_what_goes_wrong_has_its_status(problem, status, capfd):
    """Errors of the tree as they are, a server that stops 503, anything else 500 without a word of it."""

    async def answer(_chat, _arrival):
        raise problem

    stage = Stage(answer)
    await stage.run()
    assert stage.status == status
    assert b"secret" not in stage.sent[1]["body"]
    assert "secret" not in capfd.readouterr().err


async def test_half_an_answer_breaks_the_connection():
    """Once a head is out nothing else may be said."""

    async def answer(_chat, _arrival):
        return WholeReply(b"{}", "application/json", {})

    class Broken(Stage):
        async def send(self, message):
            await super().send(message)
            if message["type"] == "http.response.body":
                raise RuntimeError("the server's own trouble")

    stage = Broken(answer)
    with pytest.raises(RuntimeError):
        await stage.run()
    assert [one["type"] for one in stage.sent] == ["http.response.start", "http.response.body"]


async def test_by_the_framework_it_is_the_same():
    """What the framework would route to is this very function."""

    async def answer(_chat, _arrival):
        return WholeReply(b"{}", "application/json", {})

    stage = Stage(answer)
    await ChatResponse(stage.house)(stage.scope, stage.receive, stage.send)
    assert stage.status == 200


def test_the_framework_knows_the_route_and_does_not_run_it(serving, monkeypatch):
    """It stands in the OpenAPI document, other methods are 405; a chat never gets there."""
    app, _ = serving({"alpha": Script()})
    monkeypatch.setattr(chat_module.FastAPI, "__call__", None)
    assert app.chat().status_code == 200
    monkeypatch.undo()
    assert "post" in httpx.get(f"{app.url}/openapi.json", trust_env=False).json()["paths"][CHAT_PATH]
    assert httpx.get(f"{app.url}{CHAT_PATH}", trust_env=False).status_code == 405
