"""What happens when far more comes than can be answered: goodput, how quick refusals are, and whether health is seen.

    .venv/bin/python bench/overload.py [--times 4] [--seconds 8] [--write]

First the peak: as many answers as 32 connections get. Then requests are sent at so many times that rate, whether or not
the ones before were answered, over as many connections as it takes, while another connection asks /healthz. A request
for which no connection is free any more is not sent and counted. `--write` puts the figures into docs/performance.md.
Asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from growth import Result, table, write
from load import Bodies, Route, wrk
from peers import Gateway, open_coe
from prompts import prompts
from stand import Running, Stand

PROMPT_BYTES = 1_100
PROMPTS = 509
CONNECTIONS = 32
CONNECTIONS_MAX = 3_000
PEAK_S = 4.0
TICK_S = 0.005
HEALTH_EVERY_S = 0.02
DRAIN_S = 3.0
ROUNDS = 3

_numbers = itertools.count(50_000_000)


@dataclass(slots=True)
class Seen:
    """What the flood saw: latencies in seconds by status, of health checks, and what could not be sent."""

    by_status: dict[int, list[float]] = field(default_factory=dict)
    health: list[float] = field(default_factory=list)
    unsent: int = 0
    broken: int = 0
    seconds: float = 0.0
    mib: float = 0.0

    def note(self, status: int, took_s: float) -> None:
        """One answer."""
        self.by_status.setdefault(status, []).append(took_s)


class Caller(asyncio.Protocol):
    """One connection: a request at a time, whole answers with a content-length."""

    def __init__(self, flood: Flood) -> None:
        self._flood = flood
        self._transport: asyncio.Transport | None = None
        self._held = b""
        self._sent_at: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 # a stream socket
        self._transport = transport

    def ask(self, message: bytes) -> None:
        """Send a request."""
        assert self._transport is not None  # noqa: S101 # it is connected
        self._sent_at = time.perf_counter()
        self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        """Part of an answer."""
        self._held += data
        head, separator, body = self._held.partition(b"\r\n\r\n")
        if not separator:
            return
        place = head.lower().index(b"content-length:") + 15
        if len(body) < int(head[place:].split(b"\r\n", 1)[0]):
            return
        self._held = b""
        if self._sent_at is not None:
            self._flood.seen.note(int(head[9:12]), time.perf_counter() - self._sent_at)
            self._sent_at = None
        self._flood.free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone: an answer that was waited for will not come."""
        del exc
        self._flood.seen.broken += self._sent_at is not None
        self._flood.open -= 1
        if self in self._flood.free:
            self._flood.free.remove(self)


class Flood:
    """Requests at a rate, whatever comes back."""

    def __init__(self, route: Route) -> None:
        where = urlsplit(route.url)
        self._host, self._port, self._path = where.hostname or "", where.port or 0, where.path
        self._key = route.keys[0]
        self._texts = list(prompts(PROMPTS, PROMPT_BYTES))
        self.free: list[Caller] = []
        self.open = 0
        self.seen = Seen()

    async def run(self, rate: float, seconds: float, gateway: Running) -> Seen:
        """`rate` requests a second for so long; then wait a moment for what is on its way."""
        texts = [json.dumps(text)[1:-1] for text in self._texts]
        watching = asyncio.get_running_loop().create_task(self._watch_health())
        begun = time.perf_counter()
        sent = 0
        while (now := time.perf_counter() - begun) < seconds:
            due = int(now * rate)
            for _ in range(due - sent):
                await self._one(texts[next(_numbers) % PROMPTS])
            sent = due
            await asyncio.sleep(TICK_S)
        self.seen.seconds = time.perf_counter() - begun
        self.seen.mib = gateway.rss_mib()
        await asyncio.sleep(DRAIN_S)
        watching.cancel()
        return self.seen

    async def _one(self, text: str) -> None:
        if not self.free:
            if self.open >= CONNECTIONS_MAX:
                self.seen.unsent += 1
                return
            self.open += 1
            try:
                _, caller = await asyncio.get_running_loop().create_connection(
                    lambda: Caller(self), self._host, self._port
                )
            except OSError:
                self.open -= 1
                self.seen.broken += 1
                return
        else:
            caller = self.free.pop()
        caller.ask(self._message(text))

    def _message(self, text: str) -> bytes:
        said = text.replace("@@", str(next(_numbers)))
        body = f'{{"model":"auto","messages":[{{"role":"user","content":"{said}"}}]}}'.encode()
        return (
            f"POST {self._path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {self._key}\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body

    async def _watch_health(self) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        while True:
            before = time.perf_counter()
            writer.write(f"GET /healthz HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n\r\n".encode())
            await reader.readuntil(b"}")
            self.seen.health.append(time.perf_counter() - before)
            await asyncio.sleep(HEALTH_EVERY_S)


def _p(share: float, values: Sequence[float]) -> str:
    """A percentile in milliseconds."""
    if not values:
        return "–"
    ordered = sorted(values)
    return f"{ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1_000:.0f}"


def told(times: float, peaks: Sequence[float], floods: Sequence[Seen]) -> Result:
    """The table: one row per round, and the medians of what counts."""
    head = (
        "round",
        "peak, answers/s",
        f"answers/s at {times:g} x",
        "of peak",
        "refused",
        "refusal p50 ms",
        "refusal p90, p95, p99 ms",
        "health p99 ms",
        "MiB",
        "other, broken, unsent",
    )
    rows = []
    shares = []
    for number, (peak, seen) in enumerate(zip(peaks, floods, strict=True), start=1):
        good, refused = seen.by_status.get(200, []), seen.by_status.get(503, [])
        rate = len(good) / seen.seconds
        shares.append(rate / peak)
        other = sum(len(found) for status, found in seen.by_status.items() if status not in {200, 503})
        rows.append(
            (
                str(number),
                f"{peak:,.0f}",
                f"{rate:,.0f}",
                f"{100 * rate / peak:.0f}%",
                f"{len(refused):,}",
                _p(0.5, refused),
                ", ".join(_p(share, refused) for share in (0.9, 0.95, 0.99)),
                _p(0.99, seen.health),
                f"{seen.mib:.0f}",
                f"{other}, {seen.broken}, {seen.unsent:,}",
            )
        )
    sys.stderr.write(f"of peak, median: {100 * statistics.median(shares):.0f}%\n")
    return Result("overload", {}, head, rows)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--times", type=float, default=4)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--write", action="store_true", help="fill docs/performance.md")
    asked = parser.parse_args()
    with Stand() as stand:
        os.sched_setaffinity(0, {int(core) for core in stand.cores.rest.split(",")})  # the flood comes from here
        _, upstream_url = stand.upstream()
        bodies = Bodies.written(stand, PROMPT_BYTES)
        peaks, floods = [], []
        for number in range(ROUNDS):
            sys.stderr.write(f"round {number + 1} of {ROUNDS}\n")
            gateway = open_coe(stand, upstream_url)
            peaks.append(_peak(stand, gateway, bodies))
            flood = Flood(gateway.routes[0])
            floods.append(asyncio.run(flood.run(asked.times * peaks[-1], asked.seconds, gateway.running)))
            stand.stop(gateway.running)
    result = told(asked.times, peaks, floods)
    sys.stdout.write(table(result) + "\n")
    if asked.write:
        write(result)


def _peak(stand: Stand, gateway: Gateway, bodies: Bodies) -> float:
    found = wrk(
        stand, gateway.routes[0], bodies, gateway.running, connections=CONNECTIONS, seconds=PEAK_S, stream=False
    )
    return found.rate


if __name__ == "__main__":
    main()
