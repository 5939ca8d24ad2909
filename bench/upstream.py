"""The vendor that the benches call: scripted answers over raw sockets, so that it is never what is measured.

Where on the path: a process of its own behind whatever gateway is measured. It knows no gateway: it answers every
POST with the same completion, whole or as a stream, whatever the address says. How fast a stream comes and how many
chunks it has are set while it runs:

    PUT /pace?chunks=64&delay_ms=0

    .venv/bin/python bench/upstream.py [--port 0]

Invariants
1. An unhurried stream (`delay_ms` above 0) writes into every chunk when that chunk was sent (`t` and nanoseconds of
   the system's monotonic clock), so that a client on the same machine can tell how long it was on its way.
2. Usage is streamed only when the request asks for it, and every stream ends in a finish reason and `[DONE]`.
3. It listens on loopback only, and prints the port.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from typing import cast
from urllib.parse import parse_qs

import uvloop

CHUNKS = 64
"""Lines of content or finish of one stream; the usage chunk and `[DONE]` come on top."""

CHUNKS_MAX = 100_000
BACKLOG = 4_096
HEAD_BYTES_MAX = 64 * 1024

HEAD_END = b"\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
USAGE = {"prompt_tokens": 300, "completion_tokens": 80, "total_tokens": 380}


def _whole() -> bytes:
    """The unary answer, head and body: 0.6 kB."""
    body = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "scripted",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "word " * 76}, "finish_reason": "stop"}
            ],
            "usage": USAGE,
        }
    ).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def _framed(data: bytes) -> bytes:
    """One event of a stream as one piece of a chunked body."""
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _event(delta: dict[str, str], finish: str | None = None, usage: dict[str, int] | None = None) -> bytes:
    whole: dict[str, object] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "scripted",
    }
    if usage is None:
        whole["choices"] = [{"index": 0, "delta": delta, "finish_reason": finish}]
    else:
        whole |= {"choices": [], "usage": usage}
    return _framed(json.dumps(whole).encode())


WHOLE = _whole()
FIRST = _event({"role": "assistant", "content": "first "})
MIDDLE = tuple(_event({"content": f"word{number} "}) for number in range(62))
FINISH = _event({}, "stop")
USAGE_EVENT = _event({}, None, USAGE)
DONE = _framed(b"[DONE]") + b"0\r\n\r\n"


class Pace:
    """How streams come: the same for every stream that begins from now on."""

    chunks = CHUNKS
    delay_s = 0.0


def _content(pace: Pace) -> Iterator[bytes]:
    """The events of one stream but for usage and end."""
    yield FIRST if not pace.delay_s else _stamped("assistant")
    for number in range(max(0, pace.chunks - 2)):
        yield MIDDLE[number % len(MIDDLE)] if not pace.delay_s else _stamped()
    yield FINISH


def _stamped(role: str | None = None) -> bytes:
    delta = {"content": f"t{time.monotonic_ns()} "}
    return _event(delta if role is None else {"role": role, **delta})


class Connection(asyncio.Protocol):
    """One keep-alive connection: a request, its answer, the next one."""

    def __init__(self, pace: Pace) -> None:
        """`pace` is shared by all."""
        self._pace = pace
        self._buffer = bytearray()
        self._wanted = 0
        self._head = b""
        self._stream: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _problem: Exception | None) -> None:
        """Nobody reads any more."""
        if self._stream is not None:
            self._stream.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer every whole request."""
        self._buffer += data
        while True:
            if not self._wanted:
                end = self._buffer.find(HEAD_END)
                if end < 0:
                    if len(self._buffer) > HEAD_BYTES_MAX:
                        self._transport.abort()
                    return
                self._head = bytes(self._buffer[:end]).lower()
                self._wanted = end + len(HEAD_END) + _body_bytes(self._head)
            if len(self._buffer) < self._wanted:
                return
            body = self._buffer[self._wanted - _body_bytes(self._head) : self._wanted]
            del self._buffer[: self._wanted]
            self._wanted = 0
            self._answer(self._head, body)

    def _answer(self, head: bytes, body: bytearray) -> None:
        if head.startswith(b"put /pace?"):
            asked = parse_qs(head.split(b" ")[1].partition(b"?")[2].decode())
            self._pace.chunks = min(CHUNKS_MAX, int(asked.get("chunks", [CHUNKS])[0]))
            self._pace.delay_s = float(asked.get("delay_ms", ["0"])[0]) / 1000
            self._transport.write(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n")
        elif b'"stream":true' in body or b'"stream": true' in body:
            usage = b'"include_usage":true' in body or b'"include_usage": true' in body
            self._stream = asyncio.get_running_loop().create_task(self._play(usage=usage))
        else:
            self._transport.write(WHOLE)

    async def _play(self, *, usage: bool) -> None:
        delay_s = self._pace.delay_s
        self._transport.write(STREAM_HEAD)
        due = asyncio.get_running_loop().time()
        for event in _content(self._pace):
            self._transport.write(event)
            # A turn of the loop in between, so that every chunk is a packet of its own, as vendors send them.
            due += delay_s
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()) if delay_s else 0)
        self._transport.write((USAGE_EVENT if usage else b"") + DONE)
        self._stream = None


def _body_bytes(head: bytes) -> int:
    """The content length of a request in lower case; chunked bodies are not spoken here."""
    _, found, rest = head.partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


async def serve(port: int) -> None:
    """Answer until killed."""
    pace = Pace()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(pace), "127.0.0.1", port, backlog=BACKLOG)
    print(f"listening {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Read the port and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    try:
        uvloop.run(serve(parser.parse_args().port))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
