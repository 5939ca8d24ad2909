"""Cuts at any byte: the vendor's connection, or the caller's, ends after so many bytes of an answer.

`tests/faults/test_cuts.py` plays a few, `make chaos` thousands. A case is made from a seed and a number, so that any of
them can be played again alone. What must come of it does not depend on where the cut falls:

- the caller has the whole answer of one vendor, with its finish reason and [DONE], or an error that SDKs raise on;
- never two vendors' text, never [DONE] behind an answer without its end;
- each attempt is one row with one end; one whose answer was cut is estimated, one that ended is the vendor's number;
- once the caller has left, the vendor's connection is closed within a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from stage import RunningRouter, free_port, registry, start_router

from service.simulator import SimulatorThread

VENDOR_BYTES_MAX = 6_000
"""More than an answer has, so that some cases are not cut at all."""

FAILURES_AT_MOST = 4
SETTLED_S = 5.0
CLOSED_S = 1.0
RST = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Case:
    """One cut: on which side (`vendor`, `caller`), after how many bytes, by FIN or RST, of a stream or a whole answer."""

    number: int
    side: str
    after_bytes: int
    reset: bool
    stream: bool

    @classmethod
    def drawn(cls, seed: int, number: int) -> Case:
        """The case of a number: the same for the same seed."""
        chance = random.Random(f"{seed}:{number}")  # a reproducible draw
        side = chance.choice(("vendor", "caller"))
        return cls(number, side, chance.randrange(VENDOR_BYTES_MAX), chance.random() < 0.5, chance.random() < 0.7)


@dataclass(slots=True)
class Cut:
    """What came of a case."""

    case: Case
    kind: str = ""
    wrong: list[str] = field(default_factory=list)

    def expect(self, what: str, holds: object) -> None:
        """Note what does not hold."""
        if not holds:
            self.wrong.append(what)


class CuttingProxy:
    """Stands before a vendor and ends the connection after so many bytes of its answer. In a thread of its own.

    `before` is where it ends instead: at the first such bytes, wherever they are. `pause_s` is how long it is silent
    before it does. `cut` says whether it has since `drop`.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = free_port()
        self.after_bytes: int | None = None
        self.before = b""
        self.reset = False
        self.pause_s = 0.0
        self.cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result(SETTLED_S)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(SETTLED_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SETTLED_S)
        self._loop.close()

    async def _begin(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _end(self) -> None:
        self._server.close()
        self._close_all()
        await asyncio.sleep(0.01)

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._writers)

    def drop(self) -> None:
        """End whatever is kept open: the next case begins with a connection of its own."""
        self._loop.call_soon_threadsafe(self._close_all)
        due = time.monotonic() + SETTLED_S
        while self.open:
            assert time.monotonic() < due, "a connection stays open"
            time.sleep(0.001)
        self.cut = False

    def _close_all(self) -> None:
        for one in self._writers:
            one.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        to_vendor = None
        try:
            from_vendor, to_vendor = await asyncio.open_connection("127.0.0.1", self._target)
            asking = asyncio.ensure_future(_pump(reader, to_vendor))
            answering = asyncio.ensure_future(self._answer(from_vendor, writer))
            done, _ = await asyncio.wait({asking, answering}, return_when=asyncio.FIRST_COMPLETED)
            if answering in done and answering.result():
                self.cut = True
                await asyncio.sleep(self.pause_s)
            for one in (asking, answering):
                one.cancel()
        finally:
            with contextlib.suppress(OSError):  # it is closed already
                if self.reset:
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
            writer.close()
            if to_vendor is not None:
                to_vendor.close()
            self._writers.discard(writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """The bytes of an answer, up to where it is cut; whether it was."""
        left, passed = self.after_bytes, b""
        with contextlib.suppress(OSError):  # one side is gone: that is what is played
            while left is None or left > 0:
                data = await reader.read(65_536 if left is None else left)
                if not data:
                    return False
                at = (passed + data).find(self.before) if self.before else -1
                if at >= 0:
                    data, left = data[: max(0, at - len(passed))], 0
                writer.write(data)
                passed += data if self.before else b""
                await writer.drain()
                left = None if left is None else max(0, left - len(data))
            return True
        return False


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes from one to the other."""
    with contextlib.suppress(OSError):  # one side is gone: that is what is played
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


class Tail:
    """What was added to a journal since it was looked at last, as (kind, body)."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "journal"
        self._read: dict[Path, int] = {}

    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """Whole lines that are new."""
        found = []
        for path in sorted(self._folder.glob("*.jsonl")):
            with path.open("rb") as source:
                source.seek(self._read.get(path, 0))
                data, newline, _ = source.read().rpartition(b"\n")
                self._read[path] = self._read.get(path, 0) + len(data) + len(newline)
            lines = [json.loads(line) for line in data.splitlines()]
            found += [(line["t"], line["e"]) for line in lines]
        return found


class Cuts:
    """A router whose first vendor stands behind a proxy that cuts; the second one is healthy."""

    def __init__(self, router: RunningRouter, simulator: SimulatorThread, proxy: CuttingProxy) -> None:
        self._router = router
        self._simulator = simulator
        self._proxy = proxy
        self._tail = Tail(router.data_dir)
        self._played = 0

    def play(self, case: Case) -> Cut:
        """One case."""
        found = Cut(case)
        self._played += 1
        if self._played % FAILURES_AT_MOST == 0:
            self._router.reload()  # or the vendor that is cut would rest
        self._proxy.drop()
        self._simulator.clear_log()
        self._tail.rows()
        self._proxy.after_bytes = case.after_bytes if case.side == "vendor" else None
        self._proxy.reset = case.reset and case.side == "vendor"
        body = {
            "model": "auto",
            "messages": [{"role": "user", "content": f"What is the capital of France? ({case.number})"}],
            "stream": case.stream,
        }
        head, text, cut = _said(self._router.port, json.dumps(body).encode(), case)
        left_at = time.monotonic()
        if cut:
            found.kind = "caller left"
            self._check_closed(found, left_at)
        elif case.stream and head.startswith(b"HTTP/1.1 200"):
            self._check_stream(found, text)
        else:
            self._check_whole(found, head, text)
        self._check_rows(found)
        return found

    def _check_stream(self, found: Cut, text: str) -> None:
        lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
        events = [json.loads(line) for line in lines if line != "[DONE]"]
        models = {event["model"] for event in events if "model" in event}
        finished = any(choice.get("finish_reason") for event in events for choice in event.get("choices", ()))
        broken = bool(events) and "error" in events[-1]
        found.kind = "error event" if broken else f"whole stream of {min(models, default='nobody')}"
        found.expect(f"one vendor's text, not {sorted(models)}", len(models) <= 1)
        found.expect("[DONE] exactly when it is whole", ("[DONE]" in lines) == (not broken))
        found.expect("[DONE] last, once", "[DONE]" not in lines[:-1])
        found.expect("a finish reason, or an error", finished or broken)

    def _check_whole(self, found: Cut, head: bytes, text: str) -> None:
        status = int(head[9:12])
        answer: dict[str, Any] = json.loads(text)
        found.kind = f"whole answer of {answer.get('model', 'nobody')}" if status == 200 else f"status {status}"
        found.expect(f"an answer or an error, not {status}", status in {200, 502})
        if status == 200:
            found.expect("a finish reason", answer["choices"][0]["finish_reason"] == "stop")

    def _check_closed(self, found: Cut, left_at: float) -> None:
        while True:
            still = [one.vendor for one in self._simulator.log if one.outcome.value == "open" and one.stream]
            if not still or time.monotonic() > left_at + CLOSED_S:
                break
            time.sleep(0.005)
        found.expect(f"the vendor's connection closed within a second of the caller, not open at {still}", not still)

    def _check_rows(self, found: Cut) -> None:
        due = time.monotonic() + SETTLED_S
        rows = []
        while True:
            rows += self._tail.rows()
            opened = [row["attempt_id"] for kind, row in rows if kind == "open"]
            ended = [row for kind, row in rows if kind == "terminal"]
            if len(ended) >= len(opened) or time.monotonic() > due:
                break
            time.sleep(0.005)
        found.expect("one end for each attempt", sorted(opened) == sorted(row["attempt_id"] for row in ended))
        for row in ended:
            settled = row["state"] == "settled"
            # A caller that leaves between the last word and the usage has a whole answer, and nobody knows its number.
            unknown = row["ended"] == "complete" and row["usage_source"] != "provider" and found.kind == "caller left"
            found.expect(f"{row['state']} for {row['ended']}", settled == (row["ended"] == "complete") or unknown)
            found.expect("its own number when it is whole", row["usage_source"] == "provider" or not settled)
            found.expect("marked when it is not", settled or row["usage_source"] != "provider" or not row["usage"])


@contextmanager
def a_cutting(home: Path) -> Iterator[Cuts]:
    """A router whose first vendor is behind a proxy that cuts; its files go to a new directory."""
    home.mkdir()
    with SimulatorThread(["alpha", "beta"]) as simulator:
        vendor = int(simulator.base_url("alpha").split(":")[2].split("/")[0])
        with CuttingProxy(vendor) as proxy:
            file = registry(home / "providers.yaml", simulator)
            text = file.read_text(encoding="utf-8")
            file.write_text(text.replace(f":{vendor}/", f":{proxy.port}/"), encoding="utf-8")
            router = start_router(home / "data", file)
            yield Cuts(router, simulator, proxy)
            assert router.stop() == 0


def _said(port: int, body: bytes, case: Case) -> tuple[bytes, str, bool]:
    """Head and text of an answer, and whether the caller cut it."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    data = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
        raw.sendall(head.encode() + body)
        while True:
            left = case.after_bytes - len(data) if case.side == "caller" else 65_536
            if left <= 0:
                if case.reset:
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
                return b"", "", True
            piece = raw.recv(left)
            if not piece:
                break
            data += piece
    top, _, rest = data.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in top.lower():
        rest = _unchunked(rest)
    return top, rest.decode(), False


def _unchunked(data: bytes) -> bytes:
    """The body of a chunked answer; raises ValueError when its end is missing."""
    whole = b""
    while True:
        line, separator, rest = data.partition(b"\r\n")
        if not separator:
            raise ValueError("the router's own answer was cut")
        size = int(line, 16)
        if size == 0:
            return whole
        whole, data = whole + rest[:size], rest[size + 2 :]
