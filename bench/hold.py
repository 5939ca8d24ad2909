"""How long one request can hold the event loop: bodies made to be slow, and what a health check feels of them.

    .venv/bin/python bench/hold.py [--rounds 5] [--write]

The router runs alone on one core. While a body is sent and answered, another connection asks /healthz again and again;
the longest of these waits, less the longest without any body, is what the body cost everybody else. A second column
sends eight of the same body at once. `--write` puts the table into docs/performance.md. Asserts nothing.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from growth import Result, table, write
from load import Route
from peers import open_coe
from stand import Stand

BODY_BYTES_MAX = 4 * 1024 * 1024
AT_ONCE = 8
ANSWER_S = 60
CALM_S = 1.0
PAUSE_S = 0.0005
"""Between two health checks: the prober must not be the load."""


def _filled(unit: str, before: str, behind: str, *, separator: str = ",", limit: int | None = None) -> bytes:
    """A body at the limit: `before`, as many units as fit (or `limit`), `behind`."""
    room = BODY_BYTES_MAX - len(before.encode()) - len(behind.encode())
    count = room // len((unit + separator).encode())
    if limit is not None:
        count = min(count, limit)
    return (before + separator.join([unit] * count) + behind).encode()


_ASK = '{"model":"auto","messages":[{"role":"user","content":"Say hello."}]'
_OPEN = '{"model":"auto","messages":[{"role":"user","content":"'
_CLOSE = '"}]}'


def _distinct_keys() -> bytes:
    keys = ",".join(f'"k{number}":0' for number in range(59_000))
    return f'{_ASK},"metadata":{{{keys}}}}}'.encode()


def _messages(count: int) -> bytes:
    turns = [{"role": ("user", "assistant")[place % 2], "content": f"and then {place} " * 90} for place in range(count)]
    return json.dumps({"model": "auto", "messages": turns}).encode()[:BODY_BYTES_MAX]


def _parts() -> bytes:
    parts = [{"type": "text", "text": "one more part of it"}] * 1_000
    return json.dumps({"model": "auto", "messages": [{"role": "user", "content": parts}] * 18}).encode()


def _tools() -> bytes:
    one = {"type": "function", "function": {"name": "f", "description": "x" * 3_000, "parameters": {"type": "object"}}}
    turns = [{"role": "user", "content": "Say hello."}]
    return json.dumps({"model": "auto", "messages": turns, "tools": [one] * 1_000}).encode()


BODIES: Mapping[str, Callable[[], bytes]] = {
    "ordinary, 1 kB": lambda: _filled("hello there ", _OPEN, _CLOSE, separator="", limit=85),
    "one English prompt": lambda: _filled("and so it goes on, ", _OPEN, _CLOSE, separator=""),
    "one Chinese prompt": lambda: _filled("这样一直写下去，", _OPEN, _CLOSE, separator=""),
    "one word without blanks": lambda: _filled("a", _OPEN, _CLOSE, separator=""),
    "escaped quotes": lambda: _filled('\\"', _OPEN, _CLOSE, separator=""),
    "escaped characters": lambda: _filled("\\u4f60", _OPEN, _CLOSE, separator=""),
    "escapes behind 4,200 strings": lambda: _filled(
        '\\"', _ASK + ',"metadata":[' + ",".join(['"a"'] * 4_200) + '],"user":"', '"}', separator=""
    ),
    "line ends": lambda: _filled("\\n", _OPEN, _CLOSE, separator=""),
    "tags": lambda: _filled("<a><b>", _OPEN, _CLOSE, separator=""),
    "2,048 messages": lambda: _messages(2_048),
    "18,000 parts": _parts,
    "1,000 tools": _tools,
    "59,000 keys": _distinct_keys,
    "small numbers": lambda: _filled("0", _ASK + ',"metadata":[', "]}"),
    "long numbers": lambda: _filled("0.12345678901234567", _ASK + ',"metadata":[', "]}"),
    "short strings": lambda: _filled('"a"', _ASK + ',"metadata":[', "]}"),
    "empty arrays": lambda: _filled("[]", _ASK + ',"metadata":[', "]}"),
    "deep arrays": lambda: _filled("[" * 50 + "]" * 50, _ASK + ',"metadata":[', "]}"),
    "an image as data": lambda: _filled(
        "QUJD",
        '{"model":"auto","messages":[{"role":"user","content":[{"type":"text","text":"What is it?"},'
        '{"type":"image_url","image_url":{"url":"data:image/png;base64,',
        '"}}]}]}',
        separator="",
    ),
    "blanks": lambda: _filled(" ", _ASK, "}", separator=""),
    "a broken end": lambda: _filled("and so it goes on, ", _OPEN, '"}]', separator=""),
    "quotes without end": lambda: _filled('"', _ASK, "", separator=""),
    "braces without end": lambda: _filled('{"a":', "", "", separator=""),
}


@dataclass(frozen=True, slots=True)
class Held:
    """What one body did: the answer's status, and the longest waits of a health check, in ms, over the rounds."""

    name: str
    size: int
    status: int
    alone_ms: Sequence[float]
    crowd_ms: Sequence[float]


class Probe:
    """Asks /healthz over one connection until it is stopped, and keeps the longest wait."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), ANSWER_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ask = f"GET /healthz HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n".encode()
        self._stop = threading.Event()
        self.longest_s = 0.0

    def during(self, work: Callable[[], object]) -> float:
        """The longest wait, in ms, while `work` runs."""
        self.longest_s = 0.0
        self._stop.clear()
        thread = threading.Thread(target=self._run)
        thread.start()
        work()
        self._stop.set()
        thread.join()
        return self.longest_s * 1_000

    def _run(self) -> None:
        while not self._stop.is_set():
            begun = time.perf_counter()
            self._socket.sendall(self._ask)
            answer = b""
            while b"}" not in answer:
                piece = self._socket.recv(65_536)
                if not piece:
                    raise ConnectionError("the router closed the connection of the health check")
                answer += piece
            self.longest_s = max(self.longest_s, time.perf_counter() - begun)
            time.sleep(PAUSE_S)


def post(route: Route, body: bytes) -> int:
    """Send one body; the status of its answer."""
    where = urlsplit(route.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=ANSWER_S)
    try:
        headers = {"content-type": "application/json", "authorization": f"Bearer {route.keys[0]}"}
        connection.request("POST", where.path, body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def measure(route: Route, rounds: int) -> tuple[float, list[Held]]:
    """The calm's longest wait in ms, and what each body did."""
    where = urlsplit(route.url)
    probe = Probe(where.hostname or "", where.port or 0)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        calm = statistics.median(probe.during(lambda: time.sleep(CALM_S)) for _ in range(3))
        found = []
        for place, (name, made) in enumerate(BODIES.items(), start=1):
            sys.stderr.write(f"{place} of {len(BODIES)}: {name}\n")
            body = made()
            statuses: set[int] = set()
            alone, crowd = [], []

            def send(bodies: Sequence[bytes], statuses: set[int] = statuses) -> None:
                statuses.update(pool.map(partial(post, route), bodies))

            for _ in range(rounds):
                alone.append(probe.during(partial(send, [body])))
                crowd.append(probe.during(partial(send, [body] * AT_ONCE)))
            found.append(Held(name, len(body), min(statuses), alone, crowd))
    return calm, found


def told(calm: float, found: Sequence[Held]) -> Result:
    """The table."""
    head = ("body", "MiB", "status", "one: median ms", "one: longest ms", f"{AT_ONCE} at once: median ms")
    rows: list[tuple[str, ...]] = [
        ("none: the longest wait of a calm second, taken off below", "–", "–", f"{calm:.1f}", "–", "–")
    ]
    for held in found:
        figures = (statistics.median(held.alone_ms), max(held.alone_ms), statistics.median(held.crowd_ms))
        over = (f"{max(0.0, figure - calm):.1f}" for figure in figures)
        rows.append((held.name, f"{held.size / 2**20:.1f}", str(held.status), *over))
    return Result("hold", {}, head, rows)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="fill docs/performance.md")
    asked = parser.parse_args()
    with Stand() as stand:
        _, upstream_url = stand.upstream()
        gateway = open_coe(stand, upstream_url)
        result = told(*measure(gateway.routes[0], asked.rounds))
    sys.stdout.write(table(result) + "\n")
    if asked.write:
        write(result)


if __name__ == "__main__":
    main()
