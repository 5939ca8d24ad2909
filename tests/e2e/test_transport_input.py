"""Bad input below the body, against a real router: each gets its stated answer, costs nothing and leaves no trace."""

from __future__ import annotations

import json
import socket
import time

import httpx
import pytest
from scenery import start_app
from stage import registry, start_router

from service.api import door
from service.simulator import Script, SimulatorThread

PATH = b"POST /v1/chat/completions HTTP/1.1\r\n"
HOST = b"Host: 127.0.0.1\r\n"
JSON = b"Content-Type: application/json\r\n"
ASK = b'{"model":"auto","messages":[{"role":"user","content":"hi"}]}'
SIZED = b"Content-Length: %d\r\n" % len(ASK)
END = b"Connection: close\r\n\r\n"
CANARY = b"canary-5e1b"
PATIENCE_S = 10.0


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    """One router for the module; nothing that was refused may be in its log or its journal."""
    home = tmp_path_factory.mktemp("transport-input")
    with SimulatorThread({"alpha": Script()}) as simulator:
        router = start_router(home / "data", registry(home / "providers.yaml", simulator))
        yield router
        log = router.log.read_text()
        assert "Traceback" not in log
        assert "internal_error" not in log
        assert "server_trouble" not in log
        assert CANARY.decode() not in log
        assert router.stop() == 0


def say(port, data):
    """Send, and read until the router closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as raw:
        raw.sendall(data)
        return until_closed(raw)


def until_closed(raw):
    """Everything up to the end of the connection."""
    told = b""
    while piece := raw.recv(65536):
        told += piece
    return told


def response(data):
    """(status, lower-case head, parsed body) of the only response."""
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), head.lower(), json.loads(body)


BAD = {
    "tls_hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), 400),
    "http2_preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "garbage": (CANARY + b"\x00\xff\r\n\r\n", 400),
    "header_70_kib": (PATH + HOST + b"X-Fill: " + CANARY * 6500 + b"\r\n" + JSON + SIZED + END + ASK, 431),
    "header_without_end": (PATH + HOST + b"X-Fill: " + CANARY * 20_000, 431),
    "headers_200": (
        PATH + HOST + b"".join(b"X-%d: 1\r\n" % one for one in range(200)) + JSON + SIZED + END + ASK,
        431,
    ),
    "target": (b"GET /" + CANARY * 1000 + b" HTTP/1.1\r\n" + HOST + END, 414),
    "no_host": (PATH + JSON + SIZED + END + ASK, 400),
    "two_hosts": (PATH + HOST + HOST + JSON + SIZED + END + ASK, 400),
    "cl_te": (PATH + HOST + JSON + SIZED + b"Transfer-Encoding: chunked\r\n" + END + ASK, 400),
    "two_cl": (PATH + HOST + JSON + SIZED + b"Content-Length: 3\r\n" + END + ASK, 400),
    "cl_negative": (PATH + HOST + JSON + b"Content-Length: -1\r\n" + END, 400),
    "chunk_size": (PATH + HOST + JSON + b"Transfer-Encoding: chunked\r\n" + END + b"zz\r\n", 400),
    "body_announced": (PATH + HOST + JSON + b"Content-Length: 999999999\r\n\r\n", 413),
    "body_gzip": (PATH + HOST + JSON + b"Content-Encoding: gzip\r\n" + SIZED + END + ASK, 415),
    "connect": (b"CONNECT vendor.example:443 HTTP/1.1\r\nHost: vendor.example:443\r\n\r\n", 405),
    "foreign_absolute": (b"GET http://vendor.example/healthz HTTP/1.1\r\n" + HOST + END, 400),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_transport_input_gets_its_stated_answer(name, router):
    """The status, OpenAI's error object, a closed connection, no row; and the router goes on."""
    data, status = BAD[name]
    rows = len(router.rows())
    told = say(router.port, data)
    got, head, body = response(told)
    assert got == status, body
    assert b"connection: close" in head
    assert b"x-should-retry: false" in head
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["type"] == "invalid_request_error"
    assert CANARY not in told
    assert len(router.rows()) == rows
    assert httpx.get(f"{router.url}/healthz", trust_env=False).status_code == 200


@pytest.mark.parametrize("kind", [b"h2c", b"websocket"])
def test_an_upgrade_is_served_normally(router, kind):
    """A chat with an Upgrade is a chat."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + kind + b"\r\nHTTP2-Settings: AAMAAABk\r\n"
    with socket.create_connection(("127.0.0.1", router.port), timeout=PATIENCE_S) as raw:
        raw.sendall(PATH + HOST + JSON + upgrade + SIZED + b"\r\n" + ASK)
        raw.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + END)
        told = until_closed(raw)
    assert told.startswith(b"HTTP/1.1 200 ")
    assert told.count(b"HTTP/1.1 200 ") == 2
    assert b'"chat.completion"' in told


def test_good_requests_share_a_connection(router):
    """Chunked, pipelined and an absolute target, one after the other, each answered once."""
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(ASK), ASK)
    absolute = b"GET http://127.0.0.1/healthz HTTP/1.1\r\n" + HOST + END
    told = say(
        router.port,
        PATH + HOST + JSON + SIZED + b"\r\n" + ASK
        + PATH + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
        + absolute,
    )  # fmt: skip
    assert told.count(b"HTTP/1.1 200 ") == 3
    assert told.count(b'"chat.completion"') == 2


def test_a_caller_gone_in_the_middle_of_a_chunk_costs_nothing(router):
    """No row, and nothing was sent to a vendor."""
    rows = len(router.rows())
    with socket.create_connection(("127.0.0.1", router.port), timeout=PATIENCE_S) as raw:
        raw.sendall(PATH + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n40\r\n" + ASK[:20])
    assert httpx.get(f"{router.url}/healthz", trust_env=False).status_code == 200
    assert len(router.rows()) == rows


@pytest.fixture
def near(tmp_path, vendors):
    """The application in this process, so that its limits can be made small."""
    app = start_app(tmp_path / "data", registry(tmp_path / "providers.yaml", vendors({"alpha": Script()})))
    yield app
    app.stop()


def test_slow_headers_are_closed_at_the_deadline(near, monkeypatch):
    """A byte now and then for ever: closed without a row; a client beside it is served meanwhile."""
    monkeypatch.setattr(door, "HEADER_S", 1.0)
    with socket.create_connection(("127.0.0.1", near.books.port), timeout=PATIENCE_S) as raw:
        raw.settimeout(0.05)
        raw.sendall(PATH + HOST)
        due, closed = time.monotonic() + PATIENCE_S, False
        while not closed:
            assert time.monotonic() < due, "the connection stays open"
            assert near.get("/healthz").status_code == 200
            try:
                closed = raw.recv(1) == b""
            except TimeoutError:
                raw.sendall(b"x")
            except ConnectionError:
                closed = True
    assert near.books.attempts() == []


def test_slow_bodies_are_answered_at_the_deadline(near, monkeypatch):
    """408 in the shape of every error, and no row."""
    monkeypatch.setattr("service.api.incoming.BODY_S", 0.3)
    told = say(near.books.port, PATH + HOST + JSON + SIZED + b"\r\n" + ASK[:10])
    status, head, body = response(told)
    assert (status, body["error"]["code"]) == (408, "body_timeout")
    assert b"connection: close" in head
    assert near.books.attempts() == []


def test_too_many_connections_are_shed(near, monkeypatch):
    """503 `overloaded` with Retry-After and no ban on retries, while those inside are served."""
    monkeypatch.setattr(door, "CONNECTIONS_MAX", 1)
    with socket.create_connection(("127.0.0.1", near.books.port), timeout=PATIENCE_S) as inside:
        inside.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
        assert inside.recv(4096).startswith(b"HTTP/1.1 200 ")
        shed = near.get("/v1/models")
        assert (shed.status_code, shed.json()["error"]["code"]) == (503, "overloaded")
        assert shed.headers["retry-after"] == "1"
        assert "x-should-retry" not in shed.headers
        assert near.get("/healthz").status_code == 200, "kept for whoever looks after the router"
        inside.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + END)
        assert until_closed(inside).startswith(b"HTTP/1.1 200 ")
