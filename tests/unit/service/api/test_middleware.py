"""The outermost layer: request ids, and the net under a fault of ours."""

from __future__ import annotations

import json

import pytest

from service import telemetry
from service.api.middleware import RequestId


async def run(app, headers=(), kind="http"):
    """(scope, messages sent) of one request."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": kind, "headers": list(headers), "method": "GET", "path": "/"}
    await RequestId(app)(scope, receive, send)
    return scope, sent


async def quiet(scope, receive, send):
    """An app that says nothing."""


@pytest.mark.parametrize("given", ["abcd-1234", "a" * 64, "A.b_c-d9"])
async def test_a_plain_id_of_the_callers_is_kept(given):
    """So that logs on both sides meet."""
    scope, _ = await run(quiet, [(b"x-request-id", given.encode())])
    assert scope["state"]["request_id"] == given


@pytest.mark.parametrize(
    "given", [b"", b"short", b"a" * 65, b"has space1", b"inject\\r\\nx", b"\xff" * 10, b'"quoted"']
)
async def test_anything_else_gets_a_fresh_one(given):
    """No control over our logs, and two requests never share one."""
    (first, _), (second, _) = [await run(quiet, [(b"x-request-id", given)]) for _ in range(2)]
    assert first["state"]["request_id"].startswith("req_")
    assert first["state"]["request_id"] != second["state"]["request_id"]


async def test_what_escapes_is_a_500_without_internals():
    """Every route stands over this net."""

    async def broken(scope, receive, send):
        raise ValueError("secret prompt")

    scope, sent = await run(broken)
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"])["error"]["code"] == "internal_error"
    assert b"secret" not in sent[1]["body"]
    assert (b"x-request-id", scope["state"]["request_id"].encode()) in sent[0]["headers"]


async def test_after_the_head_is_out_the_connection_breaks(capsys):
    """Half an answer followed by a second head would be read as one: it is logged, and raised to the server."""
    telemetry.configure("INFO")

    async def half(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("secret prompt")

    with pytest.raises(ValueError, match="secret prompt"):
        await run(half)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["error"]) == (telemetry.INTERNAL_ERROR, "ValueError")


async def test_other_scopes_pass():
    """The lifespan has no request id."""
    scope, _ = await run(quiet, kind="lifespan")
    assert "state" not in scope


async def test_every_response_says_its_id_once():
    """Also one whose route did not; one that did keeps its own."""

    def saying(*headers):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": list(headers)})

        return app

    given = (b"x-request-id", b"abcd-1234")
    for app in (saying((b"a", b"b")), saying((b"a", b"b"), given)):
        _, sent = await run(app, [given])
        assert sent[0]["headers"] == [(b"a", b"b"), given]
