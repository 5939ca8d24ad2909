"""Many tenants ask the very same questions of a router that keeps answers: nobody may get what another one was given (I15).

`tests/faults/test_cache.py` plays a little of it, `make chaos` all. Every answer of the vendor is a canary: it has an id of
its own, in every event, and a mark in its text. Callers share connections, some leave before, in or after an answer, and
keys are revoked and made again under the same name.

The promises, held against the router's own journal, which knows for whom the vendor was called:
- every id that anybody sees, also in half an answer, is of a call for just this key;
- an answer from the cache is whole, one answer, and the very one that was given first;
- every row of a hit names a call of the same key.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from redis_server import RedisServer
from stage import RunningRouter, registry, start_router

from service.guard.keys import KEYS_FILE, KeyStore
from service.guard.pepper import load_pepper
from service.simulator import Fault, Script, SimulatorThread, VendorScript

TENANTS: Final = 120
LINES: Final = 40
"""Connections, each used by one tenant after the other."""

QUESTIONS: Final = 6
LEAVERS: Final = 0.12
KNOWN_S: Final = 1.0
"""How long a router may take to know a new key."""

HUNG_S: Final = 30.0
MARKS: Final = 97
NAIVE: Final = Path(__file__).parent / "naive_cache"
CACHE: Final = "cache: {ttl_s: 20, memory_bytes: 6000000}"

_ID = re.compile(rb'chatcmpl-sim-\d+(?=")')
_MARK = re.compile(rb"canary-\d{3}")

ANSWERS: Final = VendorScript(
    cycle=tuple(
        Script(
            answer=" ".join([f"canary-{number:03}"] * 6),
            chunks=3,
            chunk_delay_s=0.004 if number % 10 == 0 else 0.0,
            fault=Fault.CUT if number == MARKS - 1 else None,
        )
        for number in range(MARKS)
    )
)


@dataclass
class Seen:
    """What came of it. `ids` has the keys that saw an id, `marks` the marks that were seen with it."""

    kinds: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    streams: int = 0
    renewed: int = 0
    hits: int = 0
    crossings: int = 0
    took_s: float = 0.0
    ids: dict[bytes, set[str]] = field(default_factory=lambda: defaultdict(set))
    marks: dict[bytes, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """In a few lines."""
        told = f"{self.requests} requests, {self.hits} hits, {self.crossings} crossings in {self.took_s:.0f} s"
        return "\n".join((told, str(dict(self.kinds)), str(dict(self.told)), *self.wrong[:20]))


@dataclass(frozen=True)
class Got:
    """What came back: status, what the router said of the cache, the bytes of the body so far, whether that is all."""

    status: int
    told: str
    body: bytes
    whole: bool


class Line:
    """A connection that stays, for one request after the other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, secret: str, body: bytes, leaves_after: int | None, waits_s: float) -> Got:
        """Send a request and read what comes, or so many bytes of it."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._reader, self._writer
        assert reader is not None
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\nauthorization: Bearer {secret}\r\n"
        )
        writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        if leaves_after is not None:
            data = b""
            if waits_s:
                await asyncio.sleep(waits_s)
            while len(data) < leaves_after and (piece := await reader.read(leaves_after - len(data))):
                data += piece
            self.leave()
            return Got(0, "", data, whole=False)
        top = (await reader.readuntil(b"\r\n\r\n")).lower()
        told = re.search(rb"x-coe-cache: (\w+)", top)
        length = re.search(rb"content-length: (\d+)", top)
        if length is not None:
            found = await reader.readexactly(int(length[1]))
        else:
            found = b"".join([piece async for piece in _chunks(reader)])
        return Got(int(top[9:12]), "" if told is None else told[1].decode(), found, whole=True)

    def leave(self) -> None:
        """Hang up, with a reset."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.transport.abort()


async def _chunks(reader: asyncio.StreamReader) -> Any:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")


class Crossings:
    """A router with a cache, its tenants, and one simulated vendor."""

    def __init__(self, home: Path, *, redis: bool = False, naive: bool = False, tenants: int = TENANTS) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.seen = Seen()
        self._ends = ExitStack()
        data = home / "data"
        data.mkdir()
        self._keys = KeyStore(data / KEYS_FILE, load_pepper(data, None))
        self._tenants = [self._made(number) for number in range(tenants)]
        self._renewed: set[str] = set()
        simulator = self._ends.enter_context(SimulatorThread({"alpha": ANSWERS}))
        env: dict[str, str] = {}
        if redis:
            store = RedisServer(home / "redis")
            self._ends.callback(store.kill)
            env["COE_CACHE_URL"] = store.url
        if naive:
            env["PYTHONPATH"] = os.pathsep.join((str(NAIVE), os.environ.get("PYTHONPATH", "")))
        file = registry(home / "providers.yaml", simulator, baseline="alpha-model", extra=CACHE)
        self.router: RunningRouter = start_router(data, file, COE_LOG_LEVEL="WARNING", **env)
        self._ends.callback(lambda: self.router.process.poll() is None and self.router.kill())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def play(self, seed: int, requests: int) -> Seen:
        """So many requests, then the reckoning; `seen` is complete when this returns."""
        begun = time.monotonic()
        asyncio.run(self._played(random.Random(seed), requests))
        self.seen.took_s = time.monotonic() - begun
        if self.router.stop() != 0:
            self.seen.wrong.append("the router did not end in order")
        self._reckon()
        return self.seen

    def _made(self, number: int) -> tuple[str, str]:
        key = self._keys.create(f"tenant-{number}")
        return key.id, key.secret

    async def _played(self, draw: random.Random, requests: int) -> None:
        numbers = iter(range(requests))
        renewing = asyncio.ensure_future(self._renew(draw))
        await asyncio.gather(*(self._one_line(random.Random(draw.random()), numbers) for _ in range(LINES)))
        renewing.cancel()

    async def _renew(self, draw: random.Random) -> None:
        """Now and then a key is revoked, and its owner gets another one of the same name."""
        while True:
            await asyncio.sleep(0.5)
            place = draw.randrange(len(self._tenants))
            old = self._tenants[place][0]
            self._renewed.add(old)
            await asyncio.to_thread(self._keys.revoke, old)
            new = await asyncio.to_thread(self._made, place)
            await asyncio.sleep(KNOWN_S)
            self._tenants[place] = new
            self.seen.renewed += 1

    async def _one_line(self, draw: random.Random, numbers: Iterator[int]) -> None:
        line = Line(self.router.port)
        for _ in numbers:
            key_id, secret = draw.choice(self._tenants)
            stream = draw.random() < 0.5
            body = {
                "model": "auto",
                "temperature": 0,
                "stream": stream,
                "messages": [{"role": "user", "content": f"Question {draw.randrange(QUESTIONS)}: who am I?"}],
            }
            leaves = waits_s = 0
            left = draw.random() < LEAVERS
            if left:
                leaves, waits_s = draw.choice((0, 0, draw.randrange(3_000))), draw.choice((0, 0.001, 0.004))
            self.seen.requests += 1
            self.seen.streams += stream
            try:
                async with asyncio.timeout(HUNG_S):
                    got = await line.ask(secret, json.dumps(body).encode(), leaves if left else None, waits_s)
            except (OSError, EOFError, TimeoutError) as problem:
                self.seen.wrong.append(f"nothing whole came: {problem!r}")
                line.leave()
                continue
            self._note(key_id, got, stream=stream, left=left)
        line.leave()

    def _note(self, key_id: str, got: Got, *, stream: bool, left: bool) -> None:
        seen = self.seen
        ids, marks = set(_ID.findall(got.body)), set(_MARK.findall(got.body))
        for one in ids:
            seen.ids[one].add(key_id)
            seen.marks[one] |= marks
        if left:
            seen.kinds["left"] += 1
            return
        seen.kinds[str(got.status)] += 1
        seen.told[got.told] += got.status == 200
        if got.status == 401 and key_id in self._renewed:
            return
        if got.status not in {200, 502, 503}:
            seen.wrong.append(f"{got.status}: {got.body[:200]!r}")
        if got.told != "hit":
            return
        seen.hits += 1
        whole = got.body.endswith(b"data: [DONE]\n\n") if stream else got.body.endswith(b"}")
        if len(ids) != 1 or len(marks) != 1 or not whole or b'"finish_reason":"stop"' not in got.body:
            seen.wrong.append(f"a hit that is no whole answer: {got.body[:300]!r}")

    def _reckon(self) -> None:
        """Hold what was seen against the journal."""
        seen, owners, keys, hits = self.seen, {}, {}, []
        calls: dict[str, str] = {}
        for kind, row in _rows(self.router.data_dir):
            if kind == "open":
                keys[row["attempt_id"]] = row["key_id"]
            elif "answer_of" in row.get("price", {}):
                hits.append((row["attempt_id"], row["price"]["answer_of"]))
            elif "upstream_id" in row:
                calls[row["attempt_id"]] = row["upstream_id"]
        for attempt, upstream_id in calls.items():
            owners[upstream_id.encode()] = keys[attempt]
        for one, seers in seen.ids.items():
            strangers = seers - {owners.get(one)}
            seen.crossings += len(strangers)
            if one not in owners:
                seen.wrong.append(f"{one!r} is of no call in the journal")
            if len(seen.marks[one]) > 1:
                seen.wrong.append(f"{one!r} came with more than one text: {seen.marks[one]}")
        crossed = sum(keys[hit] != keys[call] for hit, call in hits)
        if crossed and not seen.crossings:
            seen.wrong.append(f"{crossed} rows of hits name another key's call, and no caller saw one")


def _rows(data_dir: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Open and terminal rows one by one: of so many requests not all fit into memory at once."""
    for path in sorted((data_dir / "journal").glob("*.jsonl")):
        with path.open("rb") as lines:
            for line in lines:
                if b'"t":"decision"' not in line[:40]:
                    parsed = json.loads(line)
                    yield parsed["t"], parsed["e"]


def told(home: Path, requests: int, seed: int) -> tuple[str, list[str]]:
    """So many requests, half of them over Redis, and a few of the control, as a table; and what was not as promised."""
    wrong: list[str] = []
    lines = [
        "| answers are kept | requests | of them streams | keys | callers who left | hits | keys made again | crossings |"
    ]
    lines.append("|---|--:|--:|--:|--:|--:|--:|--:|")
    few = min(requests // 2, 3_000)
    for name, redis, naive, count in (
        ("in memory", False, False, requests // 2),
        ("in Redis", True, False, requests // 2),
        ("under a name without the tenant: the control", False, True, few),
    ):
        with Crossings(home / f"{redis:d}{naive:d}", redis=redis, naive=naive) as stage:
            seen = stage.play(seed, count)
        sys.stderr.write(f"{name}: {seen}\n")
        lines.append(
            f"| {name} | {seen.requests:,} | {seen.streams:,} | {TENANTS + seen.renewed} | {seen.kinds['left']:,} "
            f"| {seen.hits:,} | {seen.renewed} | {seen.crossings:,} |"
        )
        wrong += [f"{name}: {one}" for one in seen.wrong]
        if naive and not seen.crossings:
            wrong.append("the control was not seen to cross")
        if not naive and seen.crossings:
            wrong.append(f"{name}: {seen.crossings} answers crossed")
    return "\n".join(lines), wrong
