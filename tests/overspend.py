"""Hard budgets on several replicas over one Redis that is paused, lost, or lags behind: nobody may overspend (I4).

`tests/faults/test_budgets.py` plays a little of it, `make chaos` all. Every round is a fight for one small budget by
hundreds of callers at once, spread over all replicas; beside it runs a budget that is never near its end.

The promises, held against what the vendors themselves billed and against the ledgers of all replicas together:
- no budget is overspent, not by a pico-dollar;
- nobody is refused for money while there is room, and nothing waits longer than a store takes to come back;
- at rest the store has what the ledgers have, to the pico-dollar, and nothing is held.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from books import PRICES, Books, TruthLog
from crowd import Errand, asked
from redis_server import RedisServer
from stage import RunningRouter, registry, start_router

from service.domain.limits import day_of
from service.simulator import Script, SimulatorThread, VendorScript

REPLICAS: Final = 4
IN_FLIGHT: Final = 256
ASKED_PER_ROUND: Final = 500
MAX_TOKENS: Final = 60
AMPLE: Final = "ample"
TIGHT_USD: Final = "0.0075"
AMPLE_USD: Final = "1000"
HUNG_S: Final = 20.0
BACK_S: Final = 8.0
"""How long a store that lost everything may be missed: two and a half seconds of gathering, on a busy machine."""

TROUBLES: Final = ("kill", "kill", "pause", "restart", "flush", "failover", "failover")
"""What befalls a round, each as often as it stands here.

`kill`: a replica is killed and started again. `pause`, `restart`, `flush`: of the store. `failover`: a copy of the store
stops following, and takes over some time later with the totals of then, while all replicas but one stand still for a
while; half the time that one was killed and started before, so that the copy does not know it.
"""

LAGS_S: Final = 1.5
"""The longest time for which a copy that takes over has not followed: thousands of requests."""

STANDS_S: Final = 1.2
"""The longest time for which a replica stands still: the store gathers for twice as long."""

REFUSED_S: Final = 2 + 2 * STANDS_S
"""By when a refusal is there on a busy machine, also of a replica that stands still, and perhaps once more."""

MEANWHILE: Final = 16
PACE_S: Final = 0.1
"""So many requests each time, while trouble lasts: a budget that is spent must stay spent."""

LOST: Final = "503 budget_store_unavailable"
AGAIN_S: Final = 0.25

NAIVE: Final = Path(__file__).parent / "naive"
PACES: Final = VendorScript(
    cycle=(
        Script(header_delay_s=0.02, chunks=6),
        Script(header_delay_s=0.15, chunks=3),
        Script(header_delay_s=0.06, chunks=12),
        Script(header_delay_s=0.3, chunks=9),
    )
)


@dataclass
class Seen:
    """What came of it: `kinds` are statuses and codes, `over_pusd` the money by which budgets were overspent."""

    kinds: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    budget_pusd: int = 0
    over_pusd: int = 0
    overspent: int = 0
    wrong: list[str] = field(default_factory=list)
    overruns: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """In a few lines."""
        share = 100 * self.over_pusd / self.budget_pusd if self.budget_pusd else 0
        told = f"{self.rounds} budgets, {self.overspent} overspent by {share:.1f} % of all; {dict(self.troubles)}"
        return "\n".join((told, str(dict(self.kinds)), *self.wrong[:20]))


class Replicas:
    """Routers with a data directory each, over one simulated vendor and one Redis."""

    def __init__(self, home: Path, rounds: int, *, count: int = REPLICAS, naive: bool = False) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.seen = Seen()
        self._home = home
        self.store = RedisServer(home / "redis")
        self.simulator = SimulatorThread({"alpha": PACES})
        self.simulator.start()
        self.truth = TruthLog(home / "truth.jsonl")
        file = registry(home / "providers.yaml", self.simulator)
        tight = [f"- {{name: b{one}, tag: b{one}, usd_per_day: {TIGHT_USD}}}" for one in range(rounds)]
        ample = f"- {{name: {AMPLE}, tag: {AMPLE}, usd_per_month: {AMPLE_USD}}}"
        with file.open("a", encoding="utf-8") as more:
            more.write("\n".join(("budgets:", ample, *tight, "")))
        self._env = {"COE_REDIS_URL": self.store.url, "COE_PROVIDERS": str(file)}
        if naive:
            self._env["PYTHONPATH"] = os.pathsep.join((str(NAIVE), os.environ.get("PYTHONPATH", "")))
        self.routers: list[RunningRouter] = [
            start_router(home / f"replica{number}", **self._env) for number in range(count)
        ]
        self._befell: dict[str, str] = {}  # what the round of a budget had to suffer
        self._numbers = iter(range(10**9))
        self._down: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for router in self.routers:
            if router.process.poll() is None:
                router.kill()
        self.store.kill()
        self.simulator.stop()

    def play(
        self, seed: int, *, troubles: Sequence[str] = TROUBLES, asked_per_round: int = ASKED_PER_ROUND, rounds: int
    ) -> Seen:
        """Every round, then the reckoning; `seen` is complete when this returns."""
        asyncio.run(self._played(random.Random(seed), rounds, asked_per_round, troubles))
        self._reckon(rounds)
        return self.seen

    async def _played(self, draw: random.Random, rounds: int, asked_per_round: int, troubles: Sequence[str]) -> None:
        free = asyncio.Semaphore(IN_FLIGHT)
        for number in range(rounds):
            ends = self._begin(asked_per_round, f"b{number}", draw, free)
            if troubles:
                await asyncio.sleep(draw.uniform(0, 1))
                kind = self._befell[f"b{number}"] = draw.choice(troubles)
                trouble = asyncio.ensure_future(self._trouble(kind, draw))
                while not (await asyncio.wait((trouble,), timeout=PACE_S))[0]:
                    ends += self._begin(MEANWHILE, f"b{number}", draw, free)
                trouble.result()
                ends += self._begin(IN_FLIGHT // 4, f"b{number}", draw, free)
            await asyncio.gather(*ends)
            self.truth.add(self.simulator.log)
            self.simulator.clear_log()
            self.seen.rounds += 1
        await self._quiet()
        for number in range(rounds):
            await self._fill(f"b{number}")

    def _begin(self, many: int, tag: str, draw: random.Random, free: asyncio.Semaphore) -> list[asyncio.Future[str]]:
        """So many requests, most of them for a budget, the others for the one with room for everything."""
        tags = [tag if draw.random() < 0.8 else AMPLE for _ in range(many)]
        return [asyncio.ensure_future(self._ask(one, draw, free)) for one in tags]

    async def _ask(self, tag: str, draw: random.Random, free: asyncio.Semaphore) -> str:
        async with free:
            up = [place for place in range(len(self.routers)) if place not in self._down]
            due = time.monotonic() + BACK_S
            while (kind := await self._told(draw.choice(up), tag, stream=draw.random() < 0.3)) == LOST:
                if time.monotonic() > due:
                    self.seen.wrong.append(f"{tag}: the store is not back after {BACK_S:.0f} s")
                    break
                await asyncio.sleep(AGAIN_S)
                up = [place for place in range(len(self.routers)) if place not in self._down]
            return kind

    async def _told(self, place: int, tag: str, *, stream: bool = False) -> str:
        """Ask one replica; the kind of end, which is noted."""
        body = {
            "model": "alpha-model",
            "messages": [{"role": "user", "content": f"Question {tag} number {next(self._numbers)}"}],
            "max_tokens": MAX_TOKENS,
            "stream": stream,
            "coe": {"tags": [tag]},
        }
        errand = Errand(tag, json.dumps(body).encode(), stream)
        before = time.monotonic()
        try:
            async with asyncio.timeout(HUNG_S):
                got = await asked(self.routers[place].port, errand)
        except TimeoutError:
            kind = "hung"
            self.seen.wrong.append(f"{tag}: nothing came in {HUNG_S:.0f} s")
        except (OSError, ValueError):
            kind = "cut"
        else:
            kind = str(got.status)
            if got.status != 200:
                kind += " " + str(_error(got.body).get("code"))
            elif not got.whole:
                kind = "cut"
        if kind.startswith("429") and tag == AMPLE:
            self.seen.wrong.append(f"refused for money with room for everything: {kind}")
        if kind.startswith("503") and time.monotonic() - before > REFUSED_S:
            self.seen.wrong.append(f"{kind} after {time.monotonic() - before:.1f} s")
        self.seen.kinds[kind] += 1
        return kind

    async def _trouble(self, kind: str, draw: random.Random) -> None:
        self.seen.troubles[kind] += 1
        if kind == "kill":
            await self._kill(draw)
        elif kind == "failover":
            await self._fail_over(draw)
        elif kind == "pause":
            self.store.pause()
            await asyncio.sleep(draw.uniform(0.05, 1.5))
            self.store.go_on()
        elif kind == "restart":
            self.store.kill()
            await asyncio.sleep(draw.uniform(0, 0.5))
            await asyncio.to_thread(self.store.start)
        else:
            self.store.command("FLUSHALL")

    async def _kill(self, draw: random.Random) -> int:
        """End a replica in the middle of what it does, and start it again; its place."""
        place = draw.randrange(len(self.routers))
        self._down.add(place)
        self.routers[place].kill()
        await asyncio.sleep(draw.uniform(0, 0.5))
        self.routers[place] = await asyncio.to_thread(start_router, self.routers[place].data_dir, **self._env)
        self._down.discard(place)
        return place

    async def _fail_over(self, draw: random.Random) -> None:
        """Have a copy of the store take over that does not know the last of it."""
        home = self._home / f"redis{self.seen.troubles['failover']}"
        copy = await asyncio.to_thread(RedisServer, home, replica_of=self.store.port)
        await asyncio.to_thread(copy.cut_off)
        awake = await self._kill(draw) if draw.random() < 0.5 else draw.randrange(len(self.routers))
        await asyncio.sleep(draw.uniform(0, LAGS_S))
        slow = [router for place, router in enumerate(self.routers) if place != awake]  # they notice later
        port = self.store.port
        for router in slow:
            router.process.send_signal(signal.SIGSTOP)
        self.store.kill()
        copy.take_over(port)
        self.store = copy
        await asyncio.sleep(draw.uniform(0.1, STANDS_S))
        for router in slow:
            router.process.send_signal(signal.SIGCONT)

    async def _quiet(self) -> None:
        """Return when every replica answers under a budget again."""
        due = time.monotonic() + BACK_S
        for place in range(len(self.routers)):
            while not (await self._told(place, AMPLE)).startswith("200"):
                if time.monotonic() > due:
                    self.seen.wrong.append(f"replica {place} is not back after {BACK_S:.0f} s")
                    return
                await asyncio.sleep(0.1)

    async def _fill(self, tag: str) -> None:
        """Spend what is left of a budget, one after the other, so that the reckoning can say that nothing was left."""
        due = time.monotonic() + HUNG_S
        place = 0
        while (kind := await self._told(place % len(self.routers), tag)) != "429 insufficient_quota":
            place += 1
            if time.monotonic() > due:
                self.seen.wrong.append(f"{tag}: never exhausted, {kind}")
                return

    def _reckon(self, rounds: int) -> None:
        """Stop everybody; then hold vendors, ledgers and store against each other."""
        self.truth.add(self.simulator.log)
        for router in self.routers:
            if router.stop() != 0:
                self.seen.wrong.append("a router did not end in order")
        booked: Counter[str] = Counter()
        largest = 0
        for router in self.routers:
            books = Books.read(router.data_dir)
            for attempt, row in books.opens.items():
                booked[row["tags"][0]] += books.ends[attempt]["cost_pusd"] or 0
                largest = max(largest, row["reserved_pusd"])
        billed: Counter[str] = Counter()
        price = PRICES["alpha/alpha-model@2026-01-01"]
        for one in self.truth.read():
            billed[one.name] += price.pusd(one.usage or {})
        budget = int(float(TIGHT_USD) * 10**12)
        for tag in (f"b{number}" for number in range(rounds)):
            self.seen.budget_pusd += budget
            over = max(billed[tag], booked[tag]) - budget
            if over > 0:
                self.seen.overspent += 1
                self.seen.over_pusd += over
                told = f"billed {billed[tag]}, booked {booked[tag]} of {budget}"
                self.seen.overruns.append(f"{tag}: {told}; {self._befell.get(tag, 'no trouble')}")
            if booked[tag] + largest <= budget:
                self.seen.wrong.append(f"{tag}: refused at {booked[tag]} of {budget}, and {largest} would have fit")
            self._hold_against_store(tag, booked[tag])

    def _hold_against_store(self, tag: str, booked: int) -> None:
        from datetime import UTC, datetime

        words = self.store.command("HGETALL", f"{{coe}}:m:t:{tag}:{day_of(datetime.now(UTC))}").decode().split("\r\n")
        found = dict(zip(words[2::4], words[4::4], strict=False))
        if found.get("u") != str(booked):
            self.seen.wrong.append(f"{tag}: the store has {found.get('u')}, the ledgers {booked}")
        held = {name: value for name, value in found.items() if name.startswith("h:") and value != "0"}
        if held:
            self.seen.wrong.append(f"{tag}: still held: {held}")


def _error(body: bytes) -> Mapping[str, Any]:
    try:
        told = json.loads(body)["error"]
    except (ValueError, KeyError):
        return {}
    return told if isinstance(told, dict) else {}


def told(home: Path, rounds: int, seed: int) -> tuple[str, list[str]]:
    """So many rounds with troubles, and a few of the control, as a table; and what was not as promised."""
    with Replicas(home / "true", rounds) as replicas:
        true = replicas.play(seed, rounds=rounds)
    few = min(rounds, 10)
    with Replicas(home / "naive", few, naive=True) as replicas:
        naive = replicas.play(seed, troubles=(), rounds=few)
    lines = ["| | budgets | requests | answered | refused for money | store lost | cut by a kill | overspent | by |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, seen in (("reserved, then settled", true), ("checked, then added: the control", naive)):
        kinds = seen.kinds
        share = 100 * seen.over_pusd / seen.budget_pusd
        rest = kinds.total() - kinds["200"] - kinds["429 insufficient_quota"] - kinds[LOST]
        lines.append(
            f"| {name} | {seen.rounds} | {kinds.total():,} | {kinds['200']:,} | {kinds['429 insufficient_quota']:,} "
            f"| {kinds[LOST]:,} | {rest:,} | {seen.overspent} | {share:.1f} % |"
        )
    troubles = ", ".join(f"{count} x {kind}" for kind, count in sorted(true.troubles.items()))
    wrong = list(true.wrong)
    if true.overspent:
        wrong += [f"overspent: {one}" for one in true.overruns]
    if not naive.overspent:
        wrong.append("the control was not seen to overspend")
    return "\n".join((*lines, "", f"{REPLICAS} replicas, {IN_FLIGHT} in flight; {troubles}.")), wrong
