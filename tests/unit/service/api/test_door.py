"""The door over raw sockets and a small application: each limit, each refusal, and that good requests pass unharmed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from functools import partial

import pytest
import uvicorn

from service.api import door, refusals
from service.api.door import LEFT, TELLS, Door
from service.api.refusals import RETRY_AFTER_S
from service.guard.admission import Admission

SOON_S = 10.0
CANARY = "canary-91c2"
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Echo:
    """Answers with what it was given.

    `/slow` waits for `go`, `/early` answers before it reads, `/bug` fails; `/listens` and `/told` wait for the caller to
    leave, the one with the server and the other with the door.
    """

    def __init__(self):
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.seen: list[str] = []
        self.gone: list[str] = []
        self.failing = False

    async def __call__(self, scope, receive, send):
        path = scope["path"]
        self.seen.append(path)
        self.begun.release()
        body, more = b"", path != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone.append(path)
                return
            body, more = body + message["body"], message["more_body"]
        if path == "/slow":
            while not self.go.is_set():
                await asyncio.sleep(0.01)
        if path == "/listens":
            await receive()
            self.gone.append(path)
        if path == "/told":
            assert scope[TELLS]
            left = asyncio.Event()
            scope[LEFT] = left.set
            self.begun.release()
            await left.wait()
            self.gone.append(path)
        told = {
            "path": path,
            "query": scope["query_string"].decode(),
            "method": scope["method"],
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
            "body": body.decode("latin-1"),
        }
        data = json.dumps(told).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(data))]})
        await send({"type": "http.response.body", "body": data})


class Running:
    """A server in a thread with the door in front of `Echo`."""

    def __init__(self, http=Door):
        self.app = Echo()
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        config = uvicorn.Config(
            self._application,
            http=http,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=2,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],), daemon=True)
        self.thread.start()
        eventually(lambda: self.server.started)

    async def _application(self, scope, receive, send):
        await self.app(scope, receive, send)

    def connect(self):
        return socket.create_connection(self.address, timeout=SOON_S)

    def say(self, *pieces, pause_s=0.0):
        """Send, and read until the server closes."""
        with self.connect() as raw:
            for piece in pieces:
                raw.sendall(piece)
                time.sleep(pause_s)
            return until_closed(raw)

    def stop(self):
        self.server.should_exit = True
        self.thread.join(SOON_S)
        assert not self.thread.is_alive()


def eventually(holds):
    due = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < due, "it never came about"
        time.sleep(0.01)


def until_closed(raw):
    data = b""
    while piece := raw.recv(65536):
        data += piece
    return data


def answers(data):
    """[(status, headers, parsed body)] of everything on the wire, which must be nothing but whole responses."""
    found = []
    while data:
        head, separator, rest = data.partition(b"\r\n\r\n")
        assert separator, data[:200]
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        length = int(headers["content-length"])
        assert len(rest) >= length, "an answer was cut"
        found.append((int(line.split(" ")[1]), headers, json.loads(rest[:length])))
        data = rest[length:]
    return found


def refused(data, status):
    """Exactly one response: a refusal in OpenAI's shape that ends the connection and quotes nothing."""
    ((got, headers, body),) = answers(data)
    assert got == status, body
    assert headers["connection"] == "close"
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert CANARY.encode() not in data
    if status < 500:
        assert body["error"]["type"] == "invalid_request_error"
        assert headers["x-should-retry"] == "false"
    return body["error"]["message"]


@pytest.fixture(scope="module")
def server():
    one = Running()
    yield one
    one.stop()


@pytest.fixture
def running(server):
    """The server with a fresh application; it is left without a connection."""
    server.app = Echo()
    yield server
    server.app.go.set()
    eventually(lambda: not server.server.server_state.connections)


# Good requests


def test_requests_on_one_connection(running):
    """Keep-alive, pipelining, a chunked body with a trailer, a body in small pieces, HTTP/1.0."""
    with running.connect() as raw:
        for _ in range(3):
            raw.sendall(GET)
            assert b"200 OK" in raw.recv(65536)
        chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nX-Coe-Trailer: 1\r\n\r\n"
        raw.sendall(chunked + GET + POST + b"Content-Length: 3\r\n\r\nxyz" + LAST)
        told = answers(until_closed(raw))
    assert [one[0] for one in told] == [200] * 4
    assert [one[2]["body"] for one in told] == ["abcdefg", "", "xyz", ""]
    assert [one[2]["path"] for one in told] == ["/a", "/a", "/a", "/last"]
    assert "x-coe-trailer" not in dict(told[0][2]["headers"])
    everything = POST + b"Content-Length: 3\r\nConnection: close\r\n\r\nxyz"
    slowly = answers(running.say(*(everything[at : at + 7] for at in range(0, len(everything), 7)), pause_s=0.002))
    assert [one[2]["body"] for one in slowly] == ["xyz"]
    assert answers(running.say(b"GET /a HTTP/1.0\r\n\r\n"))[0][0] == 200


def test_a_large_body_passes_whole(running):
    """A megabyte and more, fixed and chunked: the limit of a header is no limit of a body."""
    body = bytes(range(32, 127)) * 16_000
    fixed = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    assert answers(running.say(fixed))[0][2]["body"] == body.decode()
    pieces = [body[at : at + 100_000] for at in range(0, len(body), 100_000)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    chunked = POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    assert answers(running.say(chunked))[0][2]["body"] == body.decode()


# Sizes


def filled(size):
    """A request whose header is exactly `size` bytes long."""
    start = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Fill: "
    return start + CANARY.encode() + b"f" * (size - len(start) - len(CANARY) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("step", [300, 1 << 20])
def test_a_header_at_the_limit_and_one_over_it(running, step):
    """16 KiB pass, more is 431, in one piece or in many, also as second request."""
    for ahead in (b"", GET):
        for size, status in ((refusals.HEADER_BYTES_MAX, 200), (refusals.HEADER_BYTES_MAX + 100, 431)):
            data = ahead + filled(size)
            told = answers(running.say(*(data[at : at + step] for at in range(0, len(data), step))))
            assert [one[0] for one in told] == [200] * bool(ahead) + [status]
    blanks = GET[:-2] + b"X:" + b" " * refusals.HEADER_BYTES_MAX + b"1\r\n\r\n"
    refused(running.say(blanks), 431)
    over = refused(running.say(filled(refusals.HEADER_BYTES_MAX + 100)), 431)
    assert str(refusals.HEADER_BYTES_MAX) in over


def test_an_unfinished_header_is_not_collected(running):
    """A header without end is refused after 16 KiB; so are a trailer and the line of a chunk, and blank lines."""
    endless = b"f" * (refusals.HEADER_BYTES_MAX + 1)
    assert "header" in refused(running.say(b"GET / HTTP/1.1\r\nX-Fill: " + endless), 431)
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    refused(running.say(chunked + b"0\r\nX-Trailer: ", endless, pause_s=0.05), 431)
    refused(running.say(chunked + b"3;", endless, pause_s=0.05), 431)
    refused(running.say(b"\r\n" * refusals.HEADER_BYTES_MAX), 431)
    assert running.app.gone == ["/a", "/a"]


def test_too_many_fields(running):
    """64 pass, the 65th is 431; trailers count."""
    for more, status in ((62, 200), (63, 431)):
        fields = b"".join(b"X-%d: %s\r\n" % (number, CANARY.encode()) for number in range(more))
        ((got, _, _),) = answers(running.say(POST[:-2] + b"\r\nConnection: close\r\n" + fields + b"\r\n"))
        assert got == status
    trailers = b"".join(b"T-%d: 1\r\n" % number for number in range(63))
    assert "64" in refused(running.say(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + trailers + b"\r\n"), 431)


def test_a_long_target(running):
    """8 KiB pass, more is 414, also when the line never ends."""
    for length, status in ((door.TARGET_BYTES_MAX, 200), (door.TARGET_BYTES_MAX + 1, 414)):
        target = b"/" + b"t" * (length - 1)
        ((got, _, _),) = answers(running.say(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
        assert got == status
    refused(running.say(b"GET /" + CANARY.encode() + b"t" * door.TARGET_BYTES_MAX), 414)


def test_too_many_requests_behind_one(running):
    """Sixteen wait behind the one being answered, the next is 503; all before it are answered first."""
    slow = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    with running.connect() as raw:
        raw.sendall(slow + GET * (door.PIPELINED_MAX + 5))
        assert running.app.begun.acquire(timeout=SOON_S)
        running.app.go.set()
        told = answers(until_closed(raw))
    assert [one[0] for one in told] == [200] * (door.PIPELINED_MAX + 1) + [503]
    assert told[-1][1]["retry-after"] == str(RETRY_AFTER_S)


# Deadlines


@pytest.mark.parametrize(
    "start",
    [b"", b"GET / HTTP/1.1\r\nHost: ", b"\r\n", GET, GET + b"GET /"],
    ids=["none", "half", "crlf", "idle", "next"],
)
def test_a_slow_header_is_closed_at_its_deadline(running, monkeypatch, start):
    """However it drips: a byte now and then does not move the deadline. An answer before it is whole."""
    monkeypatch.setattr(door, "HEADER_S", 0.8)
    with running.connect() as raw:
        raw.settimeout(0.05)
        raw.sendall(start)
        data, began, closed = b"", time.monotonic(), False
        while not closed:
            assert time.monotonic() - began < SOON_S, "the connection stays open"
            try:
                piece = raw.recv(65536)
                data, closed = data + piece, not piece
            except TimeoutError:
                if start:  # one byte of nothing much, often enough for any timer that starts again
                    raw.sendall(b"\r\n" if start in (b"\r\n", GET) else b"x")
            except ConnectionError:
                closed = True
    assert time.monotonic() - began >= 0.6
    assert [one[0] for one in answers(data)] == [200] * start.startswith(GET)


def test_the_deadline_is_of_the_header_alone(running, monkeypatch):
    """Neither a slow answer nor a slow body falls under it."""
    monkeypatch.setattr(door, "HEADER_S", 1.0)
    with running.connect() as raw:
        raw.sendall(POST.replace(b"/a", b"/slow") + b"Content-Length: 2\r\nConnection: close\r\n\r\n")
        for byte in (b"x", b"y"):
            time.sleep(0.5)
            raw.sendall(byte)
        time.sleep(0.5)
        running.app.go.set()
        assert answers(until_closed(raw))[0][2]["body"] == "xy"


def test_the_rest_of_a_body_nobody_reads_does_not_hold_the_connection(running, monkeypatch):
    """Answered before the body was there: the rest may come for as long as a header may."""
    monkeypatch.setattr(door, "HEADER_S", 0.8)
    with running.connect() as raw:
        raw.sendall(POST.replace(b"/a", b"/early") + b"Content-Length: 1000000\r\n\r\n")
        assert b"200 OK" in raw.recv(65536)
        eventually(lambda: dripped_and_cut(raw))


def dripped_and_cut(raw):
    """Send one byte more; True once the other side has closed."""
    try:
        raw.sendall(b"x")
    except ConnectionError:
        return True
    time.sleep(0.05)
    return False


# Two readings of one request

HOSTS = {
    "none": b"",
    "two": b"Host: x\r\nHost: x\r\n",
    "empty": b"Host:\r\n",
    "blank": b"Host: x y\r\n",
    "path": b"Host: x/canary-91c2\r\n",
    "user": b"Host: canary-91c2@x\r\n",
    "list": b"Host: x, y\r\n",
    "bytes": b"Host: \xc3\xa9\r\n",
    "port": b"Host: x:port\r\n",
}


@pytest.mark.parametrize("name", HOSTS)
def test_one_valid_host(running, name):
    """Anything but exactly one valid Host is 400."""
    assert "`Host`" in refused(running.say(b"GET / HTTP/1.1\r\n" + HOSTS[name] + b"\r\n"), 400)


FRAMINGS = {
    "cl_te": b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "te_cl": b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two_cl": b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "same_cl": b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "negative": b"Content-Length: -1\r\n\r\n",
    "signed": b"Content-Length: +1\r\n\r\na",
    "list": b"Content-Length: 1, 1\r\n\r\na",
    "huge": b"Content-Length: 99999999999999999999\r\n\r\na",
    "gzip": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity": b"Transfer-Encoding: identity\r\n\r\n",
    "not_last": b"Transfer-Encoding: chunked, identity\r\n\r\n",
    "two_te": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded": b"X: 1\r\n canary-91c2\r\n\r\n",
    "blank_name": b"X : 1\r\n\r\n",
    "nul": b"X: a\x00b\r\n\r\n",
    "bare_cr": b"X: a\rY: b\r\n\r\n",
    "bare_lf": b"X: a\nY: b\n\n",
}


@pytest.mark.parametrize("name", FRAMINGS)
def test_one_framing(running, name):
    """Whatever could end in two places is 400, and the application never has it."""
    refused(running.say(POST + FRAMINGS[name]), 400)
    assert running.app.seen == []


def test_a_transfer_coding_in_http_1_0(running):
    """Refused: a proxy that speaks 1.0 would frame it in another way."""
    refused(running.say(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400)


OTHERS = {
    "garbage": b"\x00\xff\x01 canary-91c2 \r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "http2_version": b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    "http09": b"GET /\r\n\r\n",
    "no_path": b"GET canary-91c2 HTTP/1.1\r\nHost: x\r\n\r\n",
    "star": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "other_host": b"GET http://canary-91c2/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "user": b"GET http://x@y/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "scheme": b"GET ftp://x/a HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_our_protocol(running, name):
    """400 and closed; the deadline, which closes without a word, has no part in it."""
    refused(running.say(OTHERS[name]), 400)
    assert running.app.seen == []


def test_connect_is_no_method_of_ours(running):
    """405 with what is possible."""
    data = running.say(b"CONNECT vendor.example:443 HTTP/1.1\r\nHost: vendor.example:443\r\n\r\n")
    refused(data, 405)
    assert answers(data)[0][1]["allow"] == "GET, POST"


def test_an_absolute_target_is_its_path(running):
    """As a proxy would send it; only with the authority that Host names."""
    for target, path, query in ((b"http://X:80/b/c?d=e", "/b/c", "d=e"), (b"HTTPS://x:80?q", "/", "q")):
        data = running.say(b"GET " + target + b" HTTP/1.1\r\nHost: x:80\r\nConnection: close\r\n\r\n")
        ((_, _, told),) = answers(data)
        assert (told["path"], told["query"]) == (path, query)


@pytest.mark.parametrize("kind", [b"h2c", b"websocket", b"canary-91c2"])
@pytest.mark.parametrize("together", [True, False])
def test_an_upgrade_is_ignored(running, kind, together):
    """The request is served with its body, and so is the one after it."""
    head = POST + b"Connection: keep-alive, Upgrade\r\nUpgrade: " + kind + b"\r\nX-Last: 1\r\nContent-Length: 5\r\n\r\n"
    pieces = [head + b"hello" + LAST] if together else [head, b"he", b"llo", LAST]
    told = answers(running.say(*pieces, pause_s=0.02))
    assert [(one[0], one[2]["path"], one[2]["body"]) for one in told] == [(200, "/a", "hello"), (200, "/last", "")]
    assert dict(told[0][2]["headers"])["x-last"] == "1"
    chunked = head.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n" + LAST
    assert [one[2]["body"] for one in answers(running.say(chunked))] == ["hello", ""]


def test_an_upgrade_is_no_way_around_the_checks(running):
    """No Host, and a body that could end in two places, are refused with an Upgrade too."""
    upgrade = b"Connection: upgrade\r\nUpgrade: h2c\r\n"
    refused(running.say(b"GET / HTTP/1.1\r\n" + upgrade + b"\r\n"), 400)
    refused(running.say(POST + upgrade + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 400)


# Where a refusal may land


def test_a_refusal_waits_for_the_answer_before_it(running):
    """Garbage behind a running request: the answer is whole, then comes the refusal, then the end."""
    with running.connect() as raw:
        raw.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + b"\x00garbage")
        assert running.app.begun.acquire(timeout=SOON_S)
        raw.settimeout(0.1)
        with pytest.raises(TimeoutError):
            raw.recv(1)
        raw.settimeout(SOON_S)
        running.app.go.set()
        told = answers(until_closed(raw))
    assert [one[0] for one in told] == [200, 400]


def test_a_waiting_request_with_a_broken_body_is_never_begun(running):
    """Its chunks make no sense while another is answered: that one is answered, this one is refused unseen."""
    broken = POST.replace(b"/a", b"/broken") + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"
    with running.connect() as raw:
        raw.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + broken)
        assert running.app.begun.acquire(timeout=SOON_S)
        running.app.go.set()
        told = answers(until_closed(raw))
    assert [one[0] for one in told] == [200, 400]
    assert running.app.seen == ["/slow"]


def test_a_body_that_breaks_is_refused_and_the_application_told(running, monkeypatch):
    """The caller gets its 400, and the application learns at once that there will be no more, not when the caller goes."""
    monkeypatch.setattr(door, "LINGER_S", SOON_S * 2)
    with running.connect() as raw:
        raw.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        assert running.app.begun.acquire(timeout=SOON_S)
        raw.sendall(b"zz\r\n")
        refused(until_closed(raw), 400)
        eventually(lambda: running.app.gone == ["/a"])


def test_a_refusal_is_read_by_a_caller_that_is_still_sending(running):
    """A megabyte behind a bad header: the refusal arrives nevertheless, not a reset."""
    refused(running.say(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 1_000_000), 400)


@pytest.mark.parametrize(("path", "steps"), [("/listens", 1), ("/told", 2)])
def test_a_caller_that_leaves_is_noticed_by_the_request_being_answered(running, path, steps):
    """Also when another request waits behind it; and the door tells by itself, so that nobody has to listen."""
    with running.connect() as raw:
        raw.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode() + GET)
        assert all(running.app.begun.acquire(timeout=SOON_S) for _ in range(steps))
    eventually(lambda: running.app.gone == [path])


def test_a_fault_of_ours_is_not_the_callers(running, monkeypatch):
    """An error inside a callback is 500, not 400."""

    def broken(*_):
        raise ZeroDivisionError(CANARY)

    monkeypatch.setattr(door, "check_coding", broken)
    refused(running.say(GET), 500)


# Connections


def test_too_many_connections_are_told_so(running, monkeypatch):
    """Over the limit: 503 with Retry-After to whatever they ask for. When one leaves, the next gets in."""
    monkeypatch.setattr(door, "CONNECTIONS_MAX", 2)
    with running.connect(), running.connect() as second:
        eventually(lambda: len(running.server.server_state.connections) == 2)
        data = running.say(GET)
        assert refused(data, 503).endswith("1 s")
        ((_, headers, body),) = answers(data)
        assert (headers["retry-after"], body["error"]["code"]) == ("1", "overloaded")
        assert running.app.seen == []
        second.sendall(LAST)
        assert answers(until_closed(second))[0][0] == 200
        eventually(lambda: len(running.server.server_state.connections) == 1)
        assert answers(running.say(LAST))[0][0] == 200


@pytest.mark.parametrize("path", [b"/healthz", b"/readyz", b"/metrics", b"/admin/keys"])
def test_connections_are_kept_for_whoever_looks_after_the_router(running, monkeypatch, path):
    """When all are taken, these pages are still answered."""
    monkeypatch.setattr(door, "CONNECTIONS_MAX", 1)
    with running.connect():
        eventually(lambda: len(running.server.server_state.connections) == 1)
        ((status, _, _),) = answers(running.say(LAST.replace(b"/last", path)))
        assert status == 200


def test_a_flood_of_connections_is_closed_without_a_word(running, monkeypatch):
    """Those that may still ask are bounded too."""
    monkeypatch.setattr(door, "CONNECTIONS_MAX", 1)
    monkeypatch.setattr(door, "REFUSING_MAX", 1)
    with running.connect(), running.connect() as told:
        eventually(lambda: len(running.server.server_state.connections) == 2)
        with contextlib.suppress(ConnectionError):
            assert running.say() == b""
        told.sendall(GET)
        refused(until_closed(told), 503)


@pytest.fixture
def crowded():
    """A server that answers two requests at once."""
    admission = Admission(2, time.monotonic, lambda call: asyncio.get_running_loop().call_soon(call))
    found = Running(http=partial(Door, admission=admission))
    found.admission = admission
    yield found
    found.app.go.set()
    found.stop()


SLOW = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


def read_one(raw):
    """One answer of a connection that stays open."""
    data = b""
    while b"}" not in data.partition(b"\r\n\r\n")[2]:
        data += raw.recv(65536)
    return answers(data)[0]


def test_who_is_one_too_many_is_told_so_and_may_ask_again(crowded):
    """503 with Retry-After on a connection that goes on, without a task; health pages are answered meanwhile."""
    with crowded.connect() as first, crowded.connect() as second, crowded.connect() as third:
        first.sendall(SLOW)
        second.sendall(SLOW)
        eventually(lambda: crowded.admission.in_flight == 2)
        for _ in range(3):
            third.sendall(SLOW)
            status, headers, body = read_one(third)
            assert (status, headers["retry-after"], body["error"]["code"]) == (503, "1", "overloaded")
            assert "connection" not in headers
        third.sendall(GET.replace(b"/a", b"/healthz"))
        assert read_one(third)[0] == 200
        assert crowded.app.seen.count("/slow") == 2
        crowded.app.go.set()
        assert [read_one(one)[0] for one in (first, second)] == [200, 200]
        eventually(lambda: crowded.admission.in_flight == 0)
        third.sendall(SLOW)
        assert read_one(third)[0] == 200
    assert crowded.admission.refused == 3


CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


def test_most_of_a_flood_is_refused_at_a_glance(crowded, monkeypatch):
    """Without the parser; the connection goes on, its deadlines are those of any, and what comes in pieces is read."""
    monkeypatch.setattr(door, "HEADER_S", 0.8)
    with crowded.connect() as first, crowded.connect() as second, crowded.connect() as third:
        first.sendall(SLOW)
        second.sendall(SLOW)
        eventually(lambda: crowded.admission.in_flight == 2)
        with monkeypatch.context() as patch:
            patch.setattr(Door, "_feed", lambda *_: pytest.fail("it was parsed"))
            for _ in range(3):
                third.sendall(CHAT)
                status, headers, body = read_one(third)
                assert (status, headers["retry-after"], body["error"]["code"]) == (503, "1", "overloaded")
                assert "connection" not in headers
        time.sleep(1.2)  # longer than a header may take: there is none
        third.sendall(CHAT[:50])
        time.sleep(0.1)
        third.sendall(CHAT[50:])
        assert read_one(third)[0] == 503
        third.sendall(CHAT + GET.replace(b"/a", b"/healthz"))
        data = b""
        while b'"/healthz"' not in data:
            data += third.recv(65536)
        assert [one[0] for one in answers(data)] == [503, 200]
        assert crowded.admission.refused == 5
        crowded.app.go.set()
        assert [read_one(one)[0] for one in (first, second)] == [200, 200]
        eventually(lambda: crowded.admission.in_flight == 0)
        third.sendall(CHAT)
        assert read_one(third)[0] == 200
        third.sendall(CHAT[:50])
        began = time.monotonic()
        assert third.recv(1) == b""
        assert 0.5 <= time.monotonic() - began < SOON_S


@pytest.mark.parametrize(
    "asked",
    [
        SLOW.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        SLOW.replace(b"\r\n\r\n{}", b"\r\nExpect: 100-continue\r\n\r\n"),
        SLOW.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
    ids=["close", "expect", "1.0"],
)
def test_who_is_one_too_many_on_a_connection_that_ends(crowded, asked):
    """The refusal is whole, then the connection ends."""
    with crowded.connect() as first, crowded.connect() as second:
        first.sendall(SLOW)
        second.sendall(SLOW)
        eventually(lambda: crowded.admission.in_flight == 2)
        refused(crowded.say(asked), 503)


def test_a_body_that_comes_after_its_refusal_is_dropped(crowded):
    """And the request behind it is read as what it is."""
    with crowded.connect() as first, crowded.connect() as second, crowded.connect() as third:
        first.sendall(SLOW)
        second.sendall(SLOW)
        eventually(lambda: crowded.admission.in_flight == 2)
        third.sendall(SLOW[:-2].replace(b"Length: 2", b"Length: 70000"))
        assert read_one(third)[0] == 503
        third.sendall(b"GET /x HTTP/1.1\r\n\r\n" + b"x" * (70_000 - 19))
        third.sendall(GET.replace(b"/a", b"/healthz"))
        assert read_one(third)[0] == 200
        assert "/x" not in crowded.app.seen


def test_nothing_is_begun_behind_a_refusal_that_ends_the_connection(crowded, caplog):
    """One packet: who waits to be asked for its body, and a health check behind it. One refusal, and no log line."""
    expect = SLOW.replace(b"\r\n\r\n{}", b"\r\nExpect: 100-continue\r\n\r\n{}")
    with crowded.connect() as first, crowded.connect() as second:
        first.sendall(SLOW)
        second.sendall(SLOW)
        eventually(lambda: crowded.admission.in_flight == 2)
        for behind in (b"/healthz", b"/v1"):
            refused(crowded.say(expect + GET.replace(b"/a", behind)), 503)
        assert crowded.app.seen.count("/healthz") == 0
    assert not caplog.records


def test_a_head_that_is_one_too_many_ends_its_connection(crowded):
    """Its answer has no body, so a refusal with one would be read as the next answer."""
    with crowded.connect() as first, crowded.connect() as second:
        first.sendall(SLOW)
        second.sendall(SLOW)
        eventually(lambda: crowded.admission.in_flight == 2)
        refused(crowded.say(GET.replace(b"GET", b"HEAD")), 503)


def test_pipelined_requests_are_refused_in_their_turn(crowded):
    """An answer, then the refusals of those behind it, in order."""
    with crowded.connect() as first, crowded.connect() as second:
        first.sendall(GET.replace(b"/a", b"/told"))  # until its caller leaves
        eventually(lambda: crowded.admission.in_flight == 1)
        second.sendall(SLOW + GET + LAST)
        eventually(lambda: crowded.admission.in_flight == 2)
        crowded.app.go.set()
        assert [status for status, _, _ in answers(until_closed(second))] == [200, 503, 503]


def test_a_refused_connection_does_not_linger(running, monkeypatch):
    """A caller that never closes its side is closed for it."""
    monkeypatch.setattr(door, "LINGER_S", 0.2)
    with running.connect() as raw:
        raw.sendall(b"\x00")
        refused(until_closed(raw), 400)
        eventually(lambda: not running.server.server_state.connections)


# Pure parts


@pytest.mark.parametrize("running", [False, True])
def test_a_connection_that_is_kept_hears_that_the_process_ends(crowded, running):
    """Whoever sends on it at that moment is answered, and told that this was the last; the silent are let go."""
    with crowded.connect() as kept, crowded.connect() as silent:
        silent.settimeout(SOON_S)
        for raw in (kept, silent):
            raw.sendall(GET)
            assert b"connection: close" not in raw.recv(65_536)
        if running:
            kept.sendall(SLOW)
            eventually(lambda: crowded.admission.in_flight == 1)
        crowded.server.should_exit = True
        eventually(lambda: crowded.admission.stopping)
        if running:
            crowded.app.go.set()
        else:
            kept.sendall(GET)
        (answer,) = answers(until_closed(kept))
        assert (answer[0], answer[1]["connection"]) == (200, "close")
        assert silent.recv(1) == b""
    crowded.thread.join(SOON_S)
    assert not crowded.thread.is_alive()


def test_an_answer_that_nobody_reads_does_not_keep_its_connection(crowded, monkeypatch):
    """It is out and settled; who reads slowly gets all of it, who reads nothing is let go, and the process ends."""
    monkeypatch.setattr(door, "UNREAD_AT_THE_END_S", 0.3)
    monkeypatch.setattr(door, "PARTING_S", 0.1)
    crowded.server.config.timeout_graceful_shutdown = 60  # what the drain would take for nothing
    large = b"x" * 12_000_000
    asked = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(large) + large
    with crowded.connect() as slow, crowded.connect() as deaf:
        for raw in (slow, deaf):
            raw.sendall(asked)
        eventually(lambda: len(crowded.app.seen) == 2)
        time.sleep(0.3)
        crowded.server.should_exit = True
        size = 0
        while piece := slow.recv(1_048_576):
            size += len(piece)
            time.sleep(0.02)
        assert size > len(large)
        crowded.thread.join(SOON_S)
        assert not crowded.thread.is_alive()
