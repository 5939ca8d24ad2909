"""The client of streams: how soon the first token comes, and how late chunks come while many streams are open.

Where on the path: a process of its own, started by `load` and `growth` with its plan as JSON. Prints JSON.

    .venv/bin/python bench/streams.py first|hold PLAN

`first`: each connection asks one stream after the other; the time from sending to the first content is taken.
`hold`: every connection holds one unhurried stream open; each of its chunks says when the vendor sent it. `open` is
printed once all have begun, then only chunks that come in the next `seconds` count.

A raw protocol on uvloop, so that thousands of chunks per second cost this side little.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import time
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop
from prompts import MARK, prompts

CONTENT = re.compile(rb'"content":\s*"[^"]')
STAMP = re.compile(rb'"content":\s*"t(\d+) ')
LAST_CHUNK = b"0\r\n\r\n"
TAIL_BYTES = 256
"""Kept of what was read, since a chunk may come in two pieces."""

PROMPT_BYTES = 1_100
PROMPTS = 101
OPENED_PER_S = 250
"""How fast streams are opened: slowly enough that their chunks spread over the time between two of one stream."""

START_S = 30


class Requests:
    """Every request once: texts in turn, numbered; keys in turn."""

    def __init__(self, plan: dict[str, Any]) -> None:
        """`plan` as `load.client_plan` writes it."""
        self._plan = plan
        self._number = int(plan["from"])
        self._texts = list(prompts(PROMPTS, PROMPT_BYTES))
        parts = urlsplit(plan["url"])
        self.host, self.port = str(parts.hostname), int(parts.port or 80)
        self._head = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
        self._head += "".join(f"{name}: {value}\r\n" for name, value in plan["headers"].items())

    def next(self) -> bytes:
        """The bytes of the next request."""
        self._number += 1
        text = self._texts[self._number % len(self._texts)].replace(MARK, str(self._number))
        body = json.dumps(
            {"model": self._plan["model"], "messages": [{"role": "user", "content": text}], "stream": True}
        ).encode()
        keys = self._plan["keys"]
        key = f"authorization: Bearer {keys[self._number % len(keys)]}\r\n" if keys else ""
        return f"{self._head}{key}content-length: {len(body)}\r\n\r\n".encode() + body


class Stream(asyncio.Protocol):
    """One connection. `lost` is set when the other side closed it or sent no stream."""

    def __init__(self) -> None:
        """Not connected yet."""
        self.lost = False
        self.done = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _problem: Exception | None) -> None:
        """Whoever waits for its end learns it."""
        self.lost = True
        self.done.set()


class FirstTokens(Stream):
    """A connection that notes when the first content of a stream came."""

    def __init__(self) -> None:
        """Nothing asked yet."""
        super().__init__()
        self.first_ns = 0
        self._tail = b""

    def ask(self, request: bytes) -> None:
        """Send the next request."""
        self.done.clear()
        self.first_ns, self._tail = 0, b""
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Look for content, then for the end."""
        now = time.monotonic_ns()
        whole = self._tail + data
        if not self.first_ns and CONTENT.search(whole):
            self.first_ns = now
        self._tail = whole[-TAIL_BYTES:]
        if self._tail.endswith(LAST_CHUNK):
            self.done.set()


class Held(Stream):
    """A connection that notes how long each stamped chunk was on its way, in nanoseconds."""

    def __init__(self, delays: list[int]) -> None:
        """`delays` is shared by all."""
        super().__init__()
        self.begun = asyncio.Event()
        self._delays = delays
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        """Note every whole stamp."""
        now = time.monotonic_ns()
        whole = self._tail + data
        end = 0
        for found in STAMP.finditer(whole):
            self._delays.append(now - int(found[1]))
            end = found.end()
            self.begun.set()
        self._tail = whole[max(end, len(whole) - TAIL_BYTES) :]


async def first(plan: dict[str, Any]) -> None:
    """Ask streams for `seconds` on each connection and print what was found."""
    requests, loop = Requests(plan), asyncio.get_running_loop()
    found: list[int] = []
    broken, begun_s = 0, loop.time()
    end = begun_s + float(plan["seconds"])

    async def ask(place: int) -> None:
        nonlocal broken
        connection: FirstTokens | None = None
        # Not all at once: connections would go on hand in hand, and each would wait for all others.
        await asyncio.sleep(place * 0.007)
        while loop.time() < end:
            if connection is None or connection.lost:
                _, connection = await loop.create_connection(FirstTokens, requests.host, requests.port)
            request = requests.next()
            begun = time.monotonic_ns()
            connection.ask(request)
            await connection.done.wait()
            if connection.first_ns:
                found.append(connection.first_ns - begun)
            else:
                broken += 1
                await asyncio.sleep(0.01)

    await asyncio.gather(*(ask(place) for place in range(int(plan["connections"]))))
    counts = {"streams": len(found), "broken": broken, "seconds": loop.time() - begun_s}
    print(json.dumps({**counts, **percentiles(found)}))


async def hold(plan: dict[str, Any]) -> None:
    """Hold streams open for `seconds` and print how late their chunks were."""
    requests, loop = Requests(plan), asyncio.get_running_loop()
    delays: list[int] = []
    held: list[Held] = []
    begun = loop.time()
    for place in range(int(plan["connections"])):
        await asyncio.sleep(max(0.0, begun + place / OPENED_PER_S - loop.time()))
        _, connection = await loop.create_connection(lambda: Held(delays), requests.host, requests.port)
        connection.transport.write(requests.next())
        held.append(connection)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_S):
            for one in held:
                await one.begun.wait()
    print("open", flush=True)
    delays.clear()
    await asyncio.sleep(float(plan["seconds"]))
    found = list(delays)
    lost = sum(one.lost or not one.begun.is_set() for one in held)
    print(json.dumps({"chunks": len(found), "lost": lost, **percentiles(found)}), flush=True)
    for one in held:
        one.transport.abort()


def percentiles(found_ns: list[int]) -> dict[str, float]:
    """p50, p99 and the largest, in milliseconds; not-a-number when there is nothing."""
    if not found_ns:
        return dict.fromkeys(("p50_ms", "p99_ms", "worst_ms"), float("nan"))
    ordered = sorted(found_ns)
    return {
        "p50_ms": ordered[len(ordered) // 2] / 1e6,
        "p99_ms": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] / 1e6,
        "worst_ms": ordered[-1] / 1e6,
    }


if __name__ == "__main__":
    uvloop.run({"first": first, "hold": hold}[sys.argv[1]](json.loads(sys.argv[2])))
