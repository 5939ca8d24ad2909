"""What happens when far more comes than can be answered: goodput, how quick refusals are, and whether health is seen.

    .venv/bin/python bench/overload.py [--times 4] [--seconds 8] [--write]

First the peak: as many answers as 32 connections get. Then requests are sent at so many times that rate, whether or not
the ones before were answered, over as many connections as it takes, while another connection asks /healthz. A request
for which no connection is free any more is not sent and counted. Times are from the call that sends to the instant at
which the kernel had the answer, so how late this program looks at it is not in them. `--write` puts the figures into
docs/performance.md.
Asserts nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import select
import socket
import statistics
import struct
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

BURST_MAX = 64
"""Sent at most before answers are looked at; what is late is sent with the next."""

SO_TIMESTAMPNS = 35
"""Linux: each message comes with the time at which the kernel had it."""

TIMESPEC = struct.Struct("qq")

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


class Caller:
    """One connection: a request at a time, whole answers with a content-length."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port))  # a listener's queue takes it at once
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._held = b""
        self._sent_ns: int | None = None

    @property
    def waits(self) -> bool:
        """Whether an answer is due."""
        return self._sent_ns is not None

    def ask(self, message: bytes) -> None:
        """Send a request: a few kilobytes, which an empty socket takes whole."""
        self._sent_ns = time.time_ns()
        self.socket.sendall(message)

    def heard(self) -> tuple[int, float] | None:
        """(status, seconds) of an answer that is whole now; `None` while it is not; raises OSError when none will come.

        The time is the kernel's own, of the moment at which the last bytes arrived: when we look at them is no matter.
        """
        data, told, _, _ = self.socket.recvmsg(1 << 16, 256)
        if not data:
            raise ConnectionError("closed")
        self._held += data
        head, separator, body = self._held.partition(b"\r\n\r\n")
        if not separator:
            return None
        place = head.lower().index(b"content-length:") + 15
        if len(body) < int(head[place:].split(b"\r\n", 1)[0]) or self._sent_ns is None:
            return None
        arrived = max(
            (int(seconds) * 10**9 + int(nanos) for _, _, stamp in told for seconds, nanos in (TIMESPEC.unpack(stamp),)),
            default=time.time_ns(),
        )
        took = (arrived - self._sent_ns) / 1e9
        self._held, self._sent_ns = b"", None
        return int(head[9:12]), took


class Flood:
    """Requests at a rate, whatever comes back."""

    def __init__(self, route: Route) -> None:
        where = urlsplit(route.url)
        self._host, self._port, self._path = where.hostname or "", where.port or 0, where.path
        self._key = route.keys[0]
        self._texts = [json.dumps(text)[1:-1] for text in prompts(PROMPTS, PROMPT_BYTES)]
        self._poll = select.epoll()
        self._callers: dict[int, Caller] = {}
        self._free: list[Caller] = []
        self.seen = Seen()

    def run(self, rate: float, seconds: float, gateway: Running) -> Seen:
        """`rate` requests a second for so long; then wait a moment for what is on its way."""
        watch, watched = self._connected(), 0.0
        begun = time.perf_counter()
        sent = 0
        while (now := time.perf_counter() - begun) < seconds + DRAIN_S:
            if now < seconds:
                due = int(now * rate)
                for _ in range(min(due - sent, BURST_MAX)):
                    self._one()
                    sent += 1
                self.seen.seconds, self.seen.mib = now, max(self.seen.mib, self._mib(gateway, now))
            if not watch.waits and now - watched >= HEALTH_EVERY_S and now < seconds:
                watched = now
                watch.ask(f"GET /healthz HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n\r\n".encode())
            for descriptor, _ in self._poll.poll(TICK_S):
                self._hear(self._callers[descriptor], watch)
        self.seen.broken += sum(one.waits for one in self._callers.values())
        for one in self._callers.values():
            one.socket.close()
        self._poll.close()
        return self.seen

    def _mib(self, gateway: Running, now: float) -> float:
        second = int(now)
        if second == self._looked:
            return 0.0
        self._looked = second
        return gateway.rss_mib()

    _looked = -1

    def _connected(self) -> Caller:
        caller = Caller(self._host, self._port)
        self._callers[caller.socket.fileno()] = caller
        self._poll.register(caller.socket, select.EPOLLIN)
        return caller

    def _one(self) -> None:
        if not self._free and len(self._callers) >= CONNECTIONS_MAX:
            self.seen.unsent += 1
            return
        caller = self._free.pop() if self._free else self._connected()
        caller.ask(self._message(self._texts[next(_numbers) % PROMPTS]))

    def _hear(self, caller: Caller, watch: Caller) -> None:
        try:
            told = caller.heard()
        except BlockingIOError:
            return
        except OSError:
            self.seen.broken += caller.waits
            del self._callers[caller.socket.fileno()]
            self._poll.unregister(caller.socket)
            caller.socket.close()
            if caller in self._free:
                self._free.remove(caller)
            return
        if told is None:
            return
        if caller is watch:
            self.seen.health.append(told[1])
            return
        self.seen.note(*told)
        self._free.append(caller)

    def _message(self, text: str) -> bytes:
        said = text.replace("@@", str(next(_numbers)))
        body = f'{{"model":"auto","messages":[{{"role":"user","content":"{said}"}}]}}'.encode()
        return (
            f"POST {self._path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {self._key}\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body


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
            floods.append(flood.run(asked.times * peaks[-1], asked.seconds, gateway.running))
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
