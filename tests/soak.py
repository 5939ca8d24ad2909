"""An hour of everything at once: a real router, vendors that fail, lines that break, callers that leave, signals.

    .venv/bin/python tests/soak.py [--minutes 60] [--seed 20261122] [--rate 35] [--write]

Two of three vendors stand behind fault proxies; spells of bad weather come and go; the registry is read again, good and
bad; the router is stopped and continued; every five minutes nobody asks for a while. The seed draws all of it; who meets
whom in which millisecond it can't. It begins with a warm-up: so many requests that everything that is remembered is full, and a rush of as many callers
as there may ever be at once. In the end SIGTERM, and the judgement: every caller got a whole answer, a clear error
or left; the books balance with what the vendors saw; nothing grew. Exits with 1 when anything was not as promised.
`--write` puts the figures into docs/reliability.md and draws docs/plots/soak.svg.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "bench"))

import steadiness
from books import PRICES, Books, ListPrice, TruthLog, faults_of
from crowd import Crowd, Errand
from faultproxy import FaultProxy
from soak_report import Report
from stage import ROOT, RunningRouter, registry, start_router
from steadiness import Sample
from weather import FAIR, SILENT, Spell, spell

from service.simulator import SimulatorThread

SEED = 20261122
VENDORS = ("alpha", "beta", "deltacny")
PROXIED = ("alpha", "beta")
MODELS = ("alpha-model", "alpha-model", "beta-model", "deltacny/deltacny-model", "baseline-model")
TIMEOUTS = "{connect_s: 1, first_token_s: 3, idle_s: 3, total_s: 10}"
DEADLINE_S = "25"
UNDER_WAY_MAX = 500
SAMPLE_S = 10.0
IDLE_EVERY_S = 300.0
IDLE_S = 45.0
"""Longer than the router keeps connections to vendors: then it holds what it held in the beginning."""

WARM_REQUESTS = 20_000
"""Answered before anything is judged, some ten minutes. What the router remembers, the last decisions, is full after
2,048; the interpreter's own table of names has been laid out anew by then, which happens once."""

INSIDE = ROOT / "tests" / "inside"
"""What the router tells of itself at SIGUSR1."""

MOST_MIB_PER_HOUR = 1.0
PAUSE_S = (0.1, 2.0)
TROUBLE_EVENTS = ("internal_error", "server_trouble", "settle_failed", "journal_trouble", "indexer_failed")
"""Events of the log that nothing here may cause."""

OLD_ALPHA = "input: 0.15, cache_read: 0.015, output: 1.20"
NEW_ALPHA = "input: 0.21, cache_read: 0.021, output: 1.70"
NEW_PRICES = {"alpha/alpha-model@2026-02-01": ListPrice(Fraction(21, 100), Fraction(21, 1000), Fraction(170, 100))}

BAD_FILES = (
    b"",
    b"\x00\xff\x00",
    b"version: 1\nproviders: [",
    b"version: 1\nwhat: is this\n",
    b"a: &a [*a]\n",
    b"- 1e-6\n",
)


@dataclass(slots=True)
class Soak:
    """One run."""

    router: RunningRouter
    simulator: SimulatorThread
    proxies: dict[str, FaultProxy]
    file: Path
    truth: TruthLog
    seed: int
    rate: float
    begun: float = field(default_factory=time.monotonic)
    samples: list[Sample] = field(default_factory=list)
    did: Counter[str] = field(default_factory=Counter)
    quiet: asyncio.Event = field(default_factory=asyncio.Event)
    still: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever needs the router to run, or not to."""
    minutes: float = 0.0
    warm_requests: int = WARM_REQUESTS
    warm_s: float = math.inf
    asked: int = 0
    crowd: Crowd = field(init=False)
    _good: str = field(init=False)
    _dearer: str = field(init=False)

    def __post_init__(self) -> None:
        self.crowd = Crowd(self.router.port)
        self._good = self.file.read_text(encoding="utf-8")
        line = next(line for line in self._good.splitlines() if OLD_ALPHA in line)
        newer = line.replace("2026-01-01", "2026-02-01").replace(OLD_ALPHA, NEW_ALPHA)
        self._dearer = self._good.replace(line, f"{line}\n{newer}")

    @property
    def now_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.begun

    async def run(self, seconds: float, idle_every_s: float, idle_s: float) -> None:
        """The warm-up, and so many seconds more; ends with an idle spell."""
        async with self._chores("warm-up") as wait:
            while self.crowd.verdicts.kinds.total() < self.warm_requests:
                await wait(1.0)
        await self._rush()
        await self._idle(idle_s)
        self.warm_s = self.samples[-1].at_s
        async with self._chores("soak") as wait:
            while (left := self.warm_s + seconds - self.now_s) > 0:
                await wait(max(1.0, min(idle_every_s, left) - idle_s))
                await self._idle(idle_s)
        self.truth.add(self.simulator.take_ended())

    @contextlib.asynccontextmanager
    async def _chores(self, part: str) -> AsyncIterator[Callable[[float], Awaitable[None]]]:
        """Callers, weather and trouble while it is entered; gives what waits for so many seconds."""
        weather = [self._weather(one, part) for one in VENDORS]
        chores = [self._ask(part), self._sample(), self._reload(part), self._pause(part), *weather]
        tasks = [asyncio.create_task(one) for one in chores]

        async def wait(seconds: float) -> None:
            done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()  # a chore ends by its own fault only

        try:
            yield wait
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.router.process.send_signal(signal.SIGCONT)

    async def _rush(self) -> None:
        """As many callers at once as there may ever be, and nobody answers them."""
        await self.crowd.back()
        await self._write(self._good.encode(), "good registry files")  # nobody rests any more
        for vendor in VENDORS:
            self.simulator.set_script(vendor, SILENT)
        while len(self.crowd.under_way) < UNDER_WAY_MAX:
            self._send(nonsense=False)  # which is told 503 as well, where everybody is told to come back
        await self.crowd.back()
        for vendor in VENDORS:
            self.simulator.set_script(vendor, FAIR)

    def _send(self, *, nonsense: bool = True) -> None:
        errand = Errand.drawn(self.seed, self.asked, MODELS)
        self.asked += 1
        if nonsense or not errand.nonsense:
            self.crowd.send(errand)

    async def _ask(self, part: str) -> None:
        chance = random.Random(f"{self.seed}:{part}:arrivals")
        while True:
            await asyncio.sleep(chance.expovariate(self.rate))
            if self.quiet.is_set():
                continue
            if len(self.crowd.under_way) >= UNDER_WAY_MAX:
                self.did["held back, too many under way"] += 1
                continue
            self._send()

    async def _idle(self, idle_s: float) -> None:
        """Nobody asks, until everybody is back and for a while after; then everything is counted."""
        self.quiet.set()
        await self.crowd.back()
        await asyncio.sleep(idle_s)
        async with self.still:
            self.samples.append(await self._looked_at(idle=True))
        self.did["idle spells"] += 1
        self.quiet.clear()

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_S)
            async with self.still:
                self.samples.append(await self._looked_at(idle=False))
            self.truth.add(self.simulator.take_ended())
            if len(self.samples) % 6 == 0:
                sys.stderr.write(f"{self.now_s:6.0f} s  {self.samples[-1]}  {dict(self.crowd.verdicts.kinds)}\n")
                sys.stderr.write("".join(f"    wrong: {one}\n" for one in self.crowd.verdicts.wrong[-5:]))

    async def _looked_at(self, *, idle: bool) -> Sample:
        seen = steadiness.looked_at(self.router.process.pid)
        found = await gauges(self.router.port)
        used = await self._in_use() if idle else None
        return Sample(
            at_s=round(self.now_s, 1),
            tasks=found["coe_tasks"],
            in_flight=found["coe_requests_in_flight"],
            idle=idle,
            used=used,
            **seen,
        )

    async def _in_use(self) -> int:
        """Bytes, as the router tells them."""
        file, before = inside_file(self.file.parent), 0
        with contextlib.suppress(FileNotFoundError):
            before = file.stat().st_size
        self.router.process.send_signal(signal.SIGUSR1)
        async with asyncio.timeout(20):
            while not file.exists() or file.stat().st_size == before:
                await asyncio.sleep(0.05)
        return int(json.loads(file.read_bytes().splitlines()[-1])["used"])

    async def _reload(self, part: str) -> None:
        chance = random.Random(f"{self.seed}:{part}:reloads")
        while True:
            await asyncio.sleep(chance.uniform(15, 60))
            if chance.random() < 0.4:
                await self._write(chance.choice(BAD_FILES), "bad registry files")
            else:
                await self._write(chance.choice((self._good, self._dearer)).encode(), "good registry files")

    async def _write(self, content: bytes, kind: str) -> None:
        async with self.still:
            await asyncio.to_thread(self.file.write_bytes, content)
            self.router.process.send_signal(signal.SIGHUP)
            await asyncio.sleep(0.5)
            self.did[kind] += 1

    async def _pause(self, part: str) -> None:
        """SIGSTOP, and a while later SIGCONT: a machine that swaps, or a cloud that moves it."""
        chance = random.Random(f"{self.seed}:{part}:pauses")
        while True:
            await asyncio.sleep(chance.uniform(30, 120))
            async with self.still:
                self.router.process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(chance.uniform(*PAUSE_S))
                self.router.process.send_signal(signal.SIGCONT)
                self.did["pauses of the router"] += 1

    async def _weather(self, vendor: str, part: str) -> None:
        chance = random.Random(f"{self.seed}:{part}:weather:{vendor}")
        while True:
            async with self._under(vendor, spell(chance)) as drawn:
                await asyncio.sleep(drawn.seconds)

    @contextlib.asynccontextmanager
    async def _under(self, vendor: str, drawn: Spell) -> AsyncIterator[Spell]:
        self.did[f"spells: {drawn.name}"] += 1
        proxy = self.proxies.get(vendor)
        door = proxy or self.simulator
        where = () if proxy else (vendor,)
        self.simulator.set_script(vendor, drawn.scripts)
        if proxy:
            proxy.likely = drawn.trouble
        if drawn.refuses:
            door.refuse(*where)
        try:
            yield drawn
        finally:
            if drawn.refuses:
                door.accept(*where)
            if proxy:
                proxy.likely = 0.0
            self.simulator.set_script(vendor, FAIR)


async def gauges(port: int) -> dict[str, int]:
    """The plain numbers of /metrics."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n".encode())
        text = (await asyncio.wait_for(reader.read(-1), 20)).decode()
    finally:
        writer.close()
    lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith("coe_") and "{" not in line)
    return {name: int(value) for name, _, value in lines if value.isdigit()}


def inside_file(home: Path) -> Path:
    """Where the router tells of itself."""
    return home / "inside.jsonl"


@contextmanager
def a_stage(home: Path, seed: int, rate: float) -> Iterator[Soak]:
    """Vendors, proxies before two of them, and a router."""
    with contextlib.ExitStack() as held:
        simulator = held.enter_context(SimulatorThread(list(VENDORS)))
        file = registry(home / "providers.yaml", simulator, timeouts=TIMEOUTS)
        text, proxies = file.read_text(encoding="utf-8"), {}
        for vendor in PROXIED:
            port = int(simulator.base_url(vendor).split(":")[2].split("/")[0])
            proxies[vendor] = held.enter_context(FaultProxy(port, f"{seed}:{vendor}"))
            text = text.replace(f":{port}/", f":{proxies[vendor].port}/")
        file.write_text(text, encoding="utf-8")
        inside = {"PYTHONPATH": f"{INSIDE}{os.pathsep}{ROOT}", "INSIDE": str(inside_file(home))}
        router = start_router(home / "data", file, COE_DEADLINE_S=DEADLINE_S, **inside)
        try:
            yield Soak(router, simulator, proxies, file, TruthLog(home / "truth.jsonl"), seed, rate)
        finally:
            if router.process.poll() is None:
                router.process.send_signal(signal.SIGCONT)
                router.kill()


def judged(soak: Soak) -> Report:
    """Stop the router, and look at everything."""
    wrong = [*soak.crowd.verdicts.wrong]
    code = soak.router.stop()
    if code != 0:
        wrong.append(f"the router ended with {code}")
    log = soak.router.log.read_text(encoding="utf-8", errors="replace")
    events = Counter(json.loads(line)["event"] for line in log.splitlines() if line.startswith("{"))
    wrong += [f"{events[event]} times {event} in the log" for event in TROUBLE_EVENTS if events[event]]
    if soak.simulator.log_dropped:
        wrong.append(f"the vendors' log lost {soak.simulator.log_dropped} requests")
    books = Books.read(soak.router.data_dir)
    faults, compared = faults_of(books, soak.truth.read(), {**PRICES, **NEW_PRICES})
    wrong += faults
    told = sum(Fraction(row["cost_usd"]) for row in soak.router.costs()) * 10**12
    if told != books.total_pusd:
        wrong.append(f"`coe costs` says {told} pico-USD, the journal {books.total_pusd}")
    steady = steadiness.judged(soak.samples, soak.warm_s, MOST_MIB_PER_HOUR)
    wrong += steady.wrong
    for name, proxy in soak.proxies.items():
        soak.did.update({f"connections of {name}: {kind}": count for kind, count in proxy.drawn.items()})
    return Report(
        seed=soak.seed,
        command=f"python tests/soak.py --minutes {soak.minutes:g} --rate {soak.rate:g} --warm {soak.warm_requests}",
        minutes=soak.now_s / 60,
        samples=soak.samples,
        warm_s=soak.warm_s,
        verdicts=soak.crowd.verdicts.kinds,
        did=soak.did,
        states=books.states(),
        compared=compared,
        events=events,
        booked_pusd=books.total_pusd,
        steady=steady,
        wrong=wrong,
    )


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=60, help="after the warm-up")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--rate", type=float, default=35, help="requests a second, about")
    parser.add_argument("--warm", type=int, default=WARM_REQUESTS, help="requests before anything is judged")
    parser.add_argument("--keep", type=Path, help="leave everything in this directory")
    parser.add_argument("--write", action="store_true", help="fill docs/reliability.md and draw docs/plots/soak.svg")
    given = parser.parse_args()
    seconds = given.minutes * 60
    idle_every_s, idle_s = max(IDLE_S + 15, min(IDLE_EVERY_S, seconds / 3)), IDLE_S
    with contextlib.ExitStack() as held:
        scratch = given.keep or Path(held.enter_context(tempfile.TemporaryDirectory(prefix="coe-soak-")))
        scratch.mkdir(exist_ok=True)
        with a_stage(scratch, given.seed, given.rate) as soak:
            soak.warm_requests = given.warm
            soak.minutes = given.minutes
            asyncio.run(soak.run(seconds, idle_every_s, idle_s))
            report = judged(soak)
        (scratch / "samples.json").write_text(json.dumps([asdict(one) for one in soak.samples]))
    sys.stdout.write(report.table() + "\n")
    if given.write:
        report.write()
    return int(bool(report.wrong))


if __name__ == "__main__":
    sys.exit(main())
