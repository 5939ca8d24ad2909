"""The part of HTTP/1.1 that the simulator needs: one request in, head and chunks out. Pure but for reading its source.

Where on the path: `server` reads requests with `read_request`; `play` builds responses with the functions below.

Own code instead of a web framework, because a vendor that misbehaves does so below what a framework lets one send.

Invariants
1. Every part of a request has a limit; beyond it `BadHttp` carries the status to answer with.
2. Header names are lower-cased; a repeated header is joined with ", " as RFC 9110 allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

HEADER_BYTES_MAX = 64 * 1024
"""Request line and headers together."""

HEADERS_MAX = 128
"""Header lines of a request."""

BODY_BYTES_MAX = 16 * 1024 * 1024
"""A request body; the router's own limit is a quarter of that."""

CHUNK_LINE_BYTES_MAX = 256
"""The size line of a request chunk."""


class BadHttp(Exception):
    """What came in is no request we take: answer with `status` and close."""

    def __init__(self, status: int, message: str) -> None:
        """`message` goes into the error body."""
        super().__init__(message)
        self.status = status


class Source(Protocol):
    """Where bytes come from: the connection."""

    async def read_until(self, end: bytes, at_most: int) -> bytes | None:
        """Bytes up to and with `end`, or `None` when `at_most` bytes came without it."""

    async def read_exactly(self, size: int) -> bytes:
        """Exactly `size` bytes."""

    async def send(self, data: bytes) -> None:
        """Hand bytes to the socket."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. `path` is without its query; `keep_alive` says whether the client wants to go on."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool


async def read_request(source: Source) -> HttpRequest:
    """Read one request whole. Raises BadHttp; whatever the source raises when the client leaves passes through."""
    head = await source.read_until(b"\r\n\r\n", HEADER_BYTES_MAX)
    if head is None:
        raise BadHttp(431, f"the head is larger than {HEADER_BYTES_MAX} bytes")
    lines = head[:-4].decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadHttp(400, "the first line is no HTTP/1 request line")
    method, target, version = parts
    headers = _headers(lines[1:])
    if headers.get("expect", "").lower() == "100-continue":
        await source.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await _body(source, headers)
    wish = headers.get("connection", "").lower()
    keep_alive = wish != "close" if version == "HTTP/1.1" else wish == "keep-alive"
    return HttpRequest(method, target.split("?", 1)[0], headers, body, keep_alive)


def _headers(lines: Sequence[str]) -> dict[str, str]:
    if len(lines) > HEADERS_MAX:
        raise BadHttp(431, f"there are more than {HEADERS_MAX} headers")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadHttp(400, "a header line has no name")
        key = name.lower()
        headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    return headers


async def _body(source: Source, headers: Mapping[str, str]) -> bytes:
    coding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if coding is not None:
        if coding.lower() != "chunked" or length is not None:
            raise BadHttp(400, "Transfer-Encoding must be chunked, and without a Content-Length")
        return await _chunked_body(source)
    if length is None:
        return b""
    if not (length.isascii() and length.isdigit()) or len(length) > 18:
        raise BadHttp(400, "Content-Length is no number")
    if int(length) > BODY_BYTES_MAX:
        raise BadHttp(413, f"the body is larger than {BODY_BYTES_MAX} bytes")
    return await source.read_exactly(int(length))


async def _chunked_body(source: Source) -> bytes:
    body = bytearray()
    while True:
        line = await source.read_until(b"\r\n", CHUNK_LINE_BYTES_MAX)
        digits = (line or b"").split(b";", 1)[0].strip()
        try:
            size = int(digits, 16) if digits.isalnum() else -1
        except ValueError:
            size = -1
        if size < 0:
            raise BadHttp(400, "a chunk has no valid size")
        if len(body) + size > BODY_BYTES_MAX:
            raise BadHttp(413, f"the body is larger than {BODY_BYTES_MAX} bytes")
        if size == 0:
            while (await source.read_until(b"\r\n", HEADER_BYTES_MAX)) not in (b"\r\n", None):
                pass  # trailers say nothing that matters here
            return bytes(body)
        body += await source.read_exactly(size)
        await source.read_exactly(2)


def response_head(status: int, headers: Sequence[tuple[str, str]], verbatim: Sequence[str] = ()) -> bytes:
    """Status line and headers; `verbatim` lines are put in as they are, also when that breaks the syntax."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unassigned"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers), *verbatim]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
"""The end of a chunked body."""
