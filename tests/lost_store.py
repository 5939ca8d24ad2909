"""A router whose store of budgets is killed, paused, slow, emptied or replaced while callers keep asking (I13).

`tests/faults/test_budgets.py` plays each trouble once, `make chaos` often, and writes down how long things took.

Three callers ask all the time, one after the other each: one under a hard budget, one under a soft one, one under none.
While the store can't be asked the first is told so at once, the second has its answer with a mark, and the third is not
touched. When the store is back, so is the first.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import httpx
from redis_server import RedisServer
from stage import free_port, registry, start_router

from service.simulator import Script, SimulatorThread

ASK_S: Final = 20.0
BACK_S: Final = 10.0
"""Long after the five seconds of the promise, which the figures hold it to."""

LOST: Final = "503 budget_store_unavailable"
MARKED: Final = "200 marked"
CALLERS: Final = ("hard", "soft", "free")
COLUMNS: Final = (
    "trouble",
    "times",
    "hard: answers, refusals",
    "refusals, p50 / p99 ms",
    "answers in calm, p50 / p99 ms",
    "during, p50 / p99 ms",
    "soft: answers, marked",
    "neither",
    "back, worst s",
)
SLOW_S: Final = 0.015
"""Each way: an exchange takes thirty milliseconds, and who asks behind another one waits for two."""


class SlowLine:
    """A TCP relay on loopback whose delay can be set."""

    def __init__(self, target: int) -> None:
        self.delay_s = 0.0
        self.port = free_port()
        self._target = target
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait(ASK_S)

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ASK_S)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._carry, "127.0.0.1", self.port))
        ready.set()
        self._loop.run_forever()
        server.close()
        running = asyncio.all_tasks(self._loop)
        for one in running:
            one.cancel()
        self._loop.run_until_complete(asyncio.gather(*running, return_exceptions=True))
        self._loop.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer), return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65_536):
                await asyncio.sleep(self.delay_s)
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: when it was asked for (monotonic seconds), how long it took, and its kind."""

    at: float
    took_s: float
    kind: str


@dataclass
class Seen:
    """What came of one trouble, by caller. `back_s` is how long after its end the hard budget was served again."""

    trouble: str
    calm: Mapping[str, list[Answer]]
    during: Mapping[str, list[Answer]]
    back_s: float
    readiness: str
    wrong: list[str] = field(default_factory=list)

    def p(self, part: str, caller: str, share: float) -> float:
        """A percentile of milliseconds."""
        times = sorted(one.took_s * 1000 for one in getattr(self, part)[caller])
        return times[min(len(times) - 1, int(share * len(times)))] if times else 0.0

    def kinds(self, caller: str) -> Counter[str]:
        """What a caller was told during the trouble."""
        return Counter(one.kind for one in self.during[caller])

    def __str__(self) -> str:
        """In one line."""
        told = ", ".join(
            f"{caller} {dict(self.kinds(caller))} {statistics.median(one.took_s for one in self.during[caller]) * 1000:.0f} ms"
            for caller in CALLERS
            if self.during[caller]
        )
        return f"{self.trouble}: {told}; back after {self.back_s:.2f} s; {self.readiness} {self.wrong}"


class Lost:
    """A router over one vendor and a private Redis behind a line that can be slow."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.store = RedisServer(home / "redis")
        self.line = SlowLine(self.store.port)
        self.simulator = SimulatorThread({"alpha": Script()})
        self.simulator.start()
        file = registry(home / "providers.yaml", self.simulator)
        with file.open("a", encoding="utf-8") as more:
            more.write("budgets:\n- {name: hard, tag: hard, usd_per_day: 1000}\n")
            more.write("- {name: soft, tag: soft, usd_per_day: 1000, soft: true}\n")
        url = f"redis://127.0.0.1:{self.line.port}/0"
        self.router = start_router(home / "data", file, COE_REDIS_URL=url)
        due = time.monotonic() + BACK_S
        while self._readiness() != "ready" and time.monotonic() < due:  # a new store gathers first
            time.sleep(0.1)
        self._answers: dict[str, list[Answer]] = {}
        self._stop = threading.Event()
        self.troubles: Mapping[str, tuple[Callable[[], None], Callable[[], None]]] = {
            "killed": (self.store.kill, self.store.start),
            "paused": (self.store.pause, self.store.go_on),
            "slow": (lambda: self._delay(SLOW_S), lambda: self._delay(0)),
            "emptied": (lambda: None, lambda: self.store.command("FLUSHALL") and None),
            "its scripts forgotten": (lambda: self.store.command("SCRIPT", "FLUSH") and None, lambda: None),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self.router.process.poll() is None:
            self.router.kill()
        self.line.close()
        self.store.kill()
        self.simulator.stop()

    def play(self, trouble: str, for_s: float = 1.5) -> Seen:
        """Let everybody ask, in calm and under one trouble, until the hard budget is served again."""
        self._answers = {caller: [] for caller in CALLERS}
        self._stop.clear()
        threads = [threading.Thread(target=self._ask, args=(caller,), daemon=True) for caller in CALLERS]
        for one in threads:
            one.start()
        begin, end = self.troubles[trouble]
        time.sleep(for_s)
        began = time.monotonic()
        begin()
        time.sleep(for_s)
        readiness = self._readiness()
        end()
        ended = time.monotonic()
        seen = Seen(trouble, {}, {}, 0.0, readiness)
        back = self._back(ended)
        seen.back_s = (back or ended + BACK_S) - ended
        if back is None:
            seen.wrong.append(f"the hard budget is not served {BACK_S:.0f} s after")
        self._stop.set()
        for one in threads:
            one.join(ASK_S)
            if one.is_alive():
                seen.wrong.append("a caller hangs")
        seen.calm = {caller: [one for one in found if one.at + one.took_s < began] for caller, found in self._all()}
        last = back or ended + BACK_S
        seen.during = {caller: [one for one in found if began <= one.at < last] for caller, found in self._all()}
        self._judge(seen)
        return seen

    def _all(self) -> list[tuple[str, list[Answer]]]:
        return list(self._answers.items())

    def _judge(self, seen: Seen) -> None:
        allowed = {"hard": {"200", LOST}, "soft": {"200", MARKED}, "free": {"200"}}
        for caller in CALLERS:
            odd = {one.kind for one in (*seen.calm[caller], *seen.during[caller])} - allowed[caller]
            if odd:
                seen.wrong.append(f"{caller} was told {odd}")
            calm = {one.kind for one in seen.calm[caller]} - {"200"}
            if calm:
                seen.wrong.append(f"{caller} was told {calm} in calm")

    def _back(self, since: float) -> float | None:
        """When the hard budget was answered for the first time after an instant, and not refused again behind it."""
        while time.monotonic() < since + BACK_S:
            time.sleep(0.3)
            after = [one for one in self._answers["hard"] if one.at >= since]
            refused = max((one.at for one in after if one.kind == LOST), default=since)
            served = [one.at for one in after if one.kind == "200" and one.at > refused]
            if served and time.monotonic() - refused > 1:
                return served[0]
        return None

    def _delay(self, seconds: float) -> None:
        self.line.delay_s = seconds

    def _readiness(self) -> str:
        told = httpx.get(f"{self.router.url}/readyz", timeout=ASK_S, trust_env=False).json()
        return "budgets degraded" if "budgets" in told["degraded"] else "ready"

    def _ask(self, caller: str) -> None:
        body = {
            "model": "alpha-model",
            "messages": [{"role": "user", "content": "hello"}],
            "coe": {"tags": [caller]},
        }
        with httpx.Client(trust_env=False, timeout=ASK_S) as kept:
            while not self._stop.is_set():
                at = time.monotonic()
                try:
                    reply = kept.post(f"{self.router.url}/v1/chat/completions", json=body)
                except httpx.HTTPError as problem:
                    kind = repr(problem)
                else:
                    kind = str(reply.status_code)
                    if reply.status_code != 200:
                        kind += f" {reply.json()['error']['code']}"
                    elif "budgets" in reply.headers.get("x-coe-degraded", ""):
                        kind = MARKED
                self._answers[caller].append(Answer(at, time.monotonic() - at, kind))
                time.sleep(0.005)


def told(home: Path, times: int) -> tuple[str, list[str]]:
    """Every trouble so many times, as a table, and what was not as promised."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "|---|--:|---|--:|--:|--:|---|---|--:|",
    ]
    wrong: list[str] = []
    with Lost(home) as stage:
        for trouble in stage.troubles:
            found = [stage.play(trouble, for_s=4.0) for _ in range(times)]
            wrong += [str(one) for one in found if one.wrong]
            lines.append(_row(trouble, found))
    return "\n".join(lines), wrong


def _row(trouble: str, found: list[Seen]) -> str:
    kinds = {caller: sum((one.kinds(caller) for one in found), Counter()) for caller in CALLERS}
    calm = [answer for one in found for answer in one.calm["hard"]]
    during = [answer for one in found for answer in one.during["hard"]]
    refused = [answer for answer in during if answer.kind == LOST]
    served = [answer for answer in during if answer.kind != LOST]
    cells = [
        trouble,
        str(len(found)),
        f"{kinds['hard']['200']:,}, {kinds['hard'][LOST]:,}",
        _p50_p99(refused),
        _p50_p99(calm),
        _p50_p99(served),
        f"{kinds['soft']['200']:,}, {kinds['soft'][MARKED]:,}",
        f"{kinds['free']['200']:,}",
        f"{max(one.back_s for one in found):.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def _p50_p99(answers: list[Answer]) -> str:
    if not answers:
        return "-"
    times = sorted(one.took_s * 1000 for one in answers)
    return f"{times[len(times) // 2]:.0f} / {times[min(len(times) - 1, int(0.99 * len(times)))]:.0f}"
