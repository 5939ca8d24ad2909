"""What a request to a vendor costs in processor time, by transport: microseconds of the client alone.

A server in another process answers from memory. Each transport in turn asks one request after the other, and 64 at a
time: whole answers of 1.1 kB, and streams of 64 chunks that come a few milliseconds apart. Each measurement has a pool
of its own, since what lies idle in it may cost, too. Prints one table of medians over alternating rounds and the ratio
to the first transport; asserts nothing. Loopback without TLS, on uvloop, ends by itself in less than a minute.

    .venv/bin/python bench/transports.py
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, cast

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from service.domain.ports import UpstreamRequest
from service.upstream.transports import TRANSPORTS

ROUNDS = 5
CHUNKS = 64
CHUNK_EVERY_S = 0.006
"""So far apart that each is read by itself, by the slowest transport, too."""

MEASURED_S = 0.7
"""So long each measurement begins new requests."""

CASES = {
    "whole, 1 at a time": ("/whole", 1),
    "whole, 64 at a time": ("/whole", 64),
    "stream, 1 at a time": ("/stream", 1),
    "stream, 64 at a time": ("/stream", 64),
}
"""Path, and how many at a time."""

BODY = b'{"model":"m","messages":[{"role":"user","content":"' + b"Explain how a heat pump works. " * 34 + b'"}]}'
ANSWER = b'{"id":"x","choices":[{"message":{"role":"assistant","content":"' + b"It moves heat. " * 68 + b'"}}]}'
EVENT = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":" heat"}}]}\n\n'
OK = b"HTTP/1.1 200 OK\r\ndate: Sun, 01 Nov 2026 00:00:00 GMT\r\nserver: bench\r\n"
WHOLE = OK + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
STREAM = OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
SIZES = {"/whole": len(ANSWER), "/stream": CHUNKS * len(EVENT)}
CHUNK = b"%x\r\n" % len(EVENT) + EVENT + b"\r\n"
HEADERS = (
    ("authorization", "Bearer " + "k" * 48),
    ("content-type", "application/json"),
    ("accept", "application/json"),
    ("accept-encoding", "identity"),
    ("user-agent", "bench"),
)

Asked = Callable[[UpstreamRequest], Awaitable[int]]
"""Sends a request and returns how many bytes its answer had."""


class Vendor(asyncio.Protocol):
    """Answers every request that came whole. The requests are ours, so that little has to be understood."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._received += data
        if not self._received.endswith(BODY):
            return
        streams = self._received.startswith(b"POST /stream")
        self._received.clear()
        if streams:
            self._transport.write(STREAM)
            self._say(CHUNKS)
        else:
            self._transport.write(WHOLE)

    def _say(self, left: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(CHUNK if left else b"0\r\n\r\n")
        if left:
            asyncio.get_running_loop().call_later(CHUNK_EVERY_S, self._say, left - 1)


def serve(said: Pipe) -> None:
    """The other process: says its port, and ends with this one."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Vendor, "127.0.0.1", 0, backlog=256)
        said.send(server.sockets[0].getsockname()[1])
        await loop.run_in_executor(None, said.poll, None)

    uvloop.run(main())


def asks(transport: Any) -> Asked:  # noqa: ANN401 # whatever has a `send`
    """Asking over a transport as `upstream.client` does."""

    async def ask(request: UpstreamRequest) -> int:
        response = await transport.send(request)
        size = 0
        try:
            async for chunk in response.chunks():
                size += len(chunk)
        finally:
            await response.aclose()
        return size

    return ask


async def spent(ask: Asked, base: str, path: str, at_once: int) -> float:
    """Microseconds of this process's time per request."""

    async def asked(path: str) -> None:
        size = await ask(UpstreamRequest("POST", base + path, HEADERS, BODY))
        if size != SIZES[path]:
            raise RuntimeError(f"{size} bytes came instead of {SIZES[path]}")

    async def asks_on(until: float) -> int:
        count = 0
        while not count or time.perf_counter() < until:
            await asked(path)
            count += 1
        return count

    await asyncio.gather(*(asked("/whole") for _ in range(at_once)))  # opens the connections
    before, until = time.process_time(), time.perf_counter() + MEASURED_S
    counts = await asyncio.gather(*(asks_on(until) for _ in range(at_once)))
    return (time.process_time() - before) / sum(counts) * 1e6


def main() -> None:
    """Measure and print."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    found: dict[tuple[str, str], list[float]] = {}

    async def measure(port: int) -> None:
        for number in range(ROUNDS):
            for case, (path, at_once) in CASES.items():
                for name, make in TRANSPORTS.items():
                    transport = make()
                    took = await spent(asks(transport), f"http://127.0.0.1:{port}", path, at_once)
                    await transport.aclose()
                    found.setdefault((case, name), []).append(took)
            print(f"round {number + 1} of {ROUNDS} done", file=sys.stderr)

    uvloop.run(measure(ours.recv()))
    ours.send(None)
    server.join()
    first = next(iter(TRANSPORTS))
    print(f"{'case':<24}{'transport':<12}{'median us':>10}{'best':>8}{'ratio':>8}")
    for (case, name), took in found.items():
        middle = statistics.median(took)
        ratio = middle / statistics.median(found[case, first])
        print(f"{case:<24}{name:<12}{middle:>10.0f}{min(took):>8.0f}{ratio:>8.2f}")


if __name__ == "__main__":
    main()
