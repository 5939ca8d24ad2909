"""One request at a glance: yes only where the parser, too, reads just these bytes as one message, and goes on."""

from __future__ import annotations

import random

import httptools
import pytest

from service.api.quick import HEAD_BYTES_MAX, is_one_request

BODY = b'{"model":"auto"}'
LINES = (
    b"Host: router.example:8000",
    b"content-type: application/json",
    b"Authorization: Bearer coe-x",
    b"content-length: %d" % len(BODY),
)


def request(*more, lines=LINES, body=BODY, first=b"POST /v1/chat/completions HTTP/1.1"):
    """A request on the wire."""
    return b"\r\n".join((first, *lines, *more, b"", b"")) + body


class Reading:
    """What the parser of the door makes of bytes."""

    def __init__(self, data):
        self.begun = self.ended = 0
        self.parser = httptools.HttpRequestParser(self)
        self.problem = None
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as problem:
            self.problem = problem

    def on_message_begin(self):
        self.begun += 1

    def on_message_complete(self):
        self.ended += 1

    @property
    def one(self):
        """Whether it was just one message, whole, behind which the connection goes on."""
        return (self.begun, self.ended, self.problem) == (1, 1, None) and bool(self.parser.should_keep_alive())


@pytest.mark.parametrize("more", [(), (b"Connection: keep-alive",), (b"x-stainless-lang: python", b"Accept: */*")])
def test_what_sdks_send_is_seen(more):
    """The good case, with and without the header that all of them send."""
    assert is_one_request(request(*more))
    assert Reading(request(*more)).one


ODD = {
    "nothing": b"",
    "half a header": request()[:40],
    "half a body": request()[:-1],
    "more than one": request() + request(),
    "a byte too many": request() + b"\n",
    "another method": request(first=b"PUT /v1/chat/completions HTTP/1.1"),
    "another path": request(first=b"POST /healthz HTTP/1.1"),
    "an older version": request(first=b"POST /v1/chat/completions HTTP/1.0"),
    "a whole URL": request(first=b"POST http://x/v1/chat/completions HTTP/1.1"),
    "two lengths": request(b"Content-Length: 3"),
    "two hosts": request(b"host: another"),
    "no host": request(lines=LINES[1:]),
    "no length": request(lines=LINES[:3]),
    "two in one": request(lines=(*LINES[:3], b"content-length: 16, 16")),
    "a signed length": request(lines=(*LINES[:3], b"content-length: +16")),
    "chunks": request(b"Transfer-Encoding: chunked"),
    "a coding": request(b"content-encoding: gzip"),
    "it wants to be asked": request(b"Expect: 100-continue"),
    "an upgrade": request(b"Upgrade: h2c", b"connection: upgrade"),
    "its last one": request(b"Connection: close"),
    "a folded line": request(b"x-a: 1\r\n b: 2"),
    "a line feed alone": request(b"x-a: 1\ncontent-length: 3"),
    "a carriage return alone": request(b"x-a: 1\rcontent-length: 3"),
    "a NUL": request(b"x-a: \x00"),
    "a blank before the colon": request(b"content-length : 3"),
    "no name": request(b": x"),
    "no colon": request(b"x-a"),
    "letters beyond ASCII": request("x-a: ü".encode()),
    "a long header": request(b"x-a: " + b"a" * HEAD_BYTES_MAX),
    "many lines": request(*(b"x-%d: 1" % number for number in range(41))),
    "a blank in the path": request(first=b"POST /v1/a b HTTP/1.1"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_goes_the_long_way(name):
    """Also what the parser would take: nobody has to agree on it."""
    assert not is_one_request(ODD[name])


def test_yes_is_never_more_than_the_parser_says():
    """A hundred thousand requests with something changed anywhere."""
    chance, seen = random.Random(5), 0
    pieces = [b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\x00", b"content-length: 16\r\n", b"Host: x\r\n", b"0", b"1",
              b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n", b",", b"/"]  # fmt: skip
    for _ in range(100_000):
        data = bytearray(request(*chance.sample([b"Connection: keep-alive", b"x-a: 1"], chance.randrange(3))))
        for _ in range(chance.randrange(3)):
            place = chance.randrange(len(data))
            end = place + chance.choice([0, 0, 1, 5])
            data[place:end] = chance.choice(pieces)
        if is_one_request(bytes(data)):
            seen += 1
            assert Reading(bytes(data)).one, bytes(data)
    assert seen > 20_000
