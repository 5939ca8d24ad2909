"""Reading requests and building responses."""

import pytest

from service.simulator.http1 import BODY_BYTES_MAX, HEADER_BYTES_MAX, BadHttp, chunk, read_request, response_head


class Bytes:
    """A source that holds all bytes already; running out of them is the end of the test's input."""

    def __init__(self, data):
        self.data = data
        self.sent = b""

    async def read_until(self, end, at_most):
        at = self.data.find(end, 0, at_most)
        if at < 0:
            if len(self.data) >= at_most:
                return None
            raise EOFError
        return await self.read_exactly(at + len(end))

    async def read_exactly(self, size):
        if len(self.data) < size:
            raise EOFError
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    async def send(self, data):
        self.sent += data


async def test_request_with_length():
    """Names lower-cased, repeated ones joined, the query cut off, the rest left for the next request."""
    source = Bytes(b"POST /a/b?c=d HTTP/1.1\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 3\r\n\r\nabcGET")
    request = await read_request(source)
    assert (request.method, request.path, request.body) == ("POST", "/a/b", b"abc")
    assert request.headers["x-a"] == "1, 2"
    assert request.keep_alive
    assert source.data == b"GET"


async def test_chunked_request():
    """Sizes in hex, extensions ignored, trailers swallowed."""
    source = Bytes(
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\nNEXT"
    )
    assert (await read_request(source)).body == b"abc0123456789"
    assert source.data == b"NEXT"


async def test_continue_is_said():
    """A client with a large body waits for it."""
    source = Bytes(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx")
    await read_request(source)
    assert source.sent == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "keep"),
    [
        (b"GET / HTTP/1.1", True),
        (b"GET / HTTP/1.1\r\nConnection: Close", False),
        (b"GET / HTTP/1.0", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive", True),
    ],
)
async def test_keep_alive(head, keep):
    """By version and header."""
    assert (await read_request(Bytes(head + b"\r\n\r\n"))).keep_alive is keep


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01 garbage\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nName : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"x" * HEADER_BYTES_MAX, 431),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1), 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (BODY_BYTES_MAX + 1), 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 300, 400),
    ],
)
async def test_bad_requests(data, status):
    """Each limit and each ambiguity."""
    with pytest.raises(BadHttp) as refused:
        await read_request(Bytes(data))
    assert refused.value.status == status


def test_response_head():
    """Known and unknown codes; verbatim lines are not repaired."""
    assert response_head(200, [("A", "b")]) == b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"
    assert response_head(529, []) == b"HTTP/1.1 529 Unassigned\r\n\r\n"
    assert response_head(200, [], ["Broken\nX: y"]) == b"HTTP/1.1 200 OK\r\nBroken\nX: y\r\n\r\n"


def test_chunk():
    """Size in hex."""
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
