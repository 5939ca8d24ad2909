"""The end at any moment: a whole router under load, killed, stopped and continued, or dying at a failpoint.

`make chaos` plays hundreds, `tests/faults` a few. The oracle is the vendors' own log: whatever they saw has an open row
before any recovery could have written one, and exactly one end after it. Kills are drawn from a seed; which request is
where at that instant is the machine's to say.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final, Self

from books import PRICES, Books, TruthLog, faults_of
from crowd import Crowd, Errand, Verdicts
from stage import RunningRouter, registry, until_ready
from zygote import Zygote

from service.cli.exits import EX_CANTCREAT
from service.simulator import Script, SimulatorThread, VendorScript

VENDORS: Final = ("alpha", "beta", "deltacny")
MODELS: Final = ("alpha-model", "beta-model", "deltacny-model")
SYNCS: Final = ("group", "always", "interval")
TIMEOUTS: Final = "{connect_s: 5, first_token_s: 5, idle_s: 5, total_s: 20}"
SHORT_TIMEOUTS: Final = "{connect_s: 1, first_token_s: 1, idle_s: 1, total_s: 20}"
"""Shorter than the router is stopped for."""

CALLERS: Final = 40
EARLY: Final = 5
"""Every fifth life ends in its start, or in the recovery of those before it."""

LIFE_S: Final = 1.0
"""The longest that a router lives under load before it is killed."""

SETTLED_S: Final = 10.0
STOPPED_S: Final = 2.0

PACES: Final = VendorScript(
    cycle=(
        Script(header_delay_s=0.02, chunk_delay_s=0.03, chunks=8),
        Script(),
        Script(header_delay_s=0.3),
        Script(first_content_delay_s=0.1, chunk_delay_s=0.01, chunks=20, cached_tokens=7),
    )
)
"""Fast and slow answers in turn, so that a kill meets attempts in every phase."""


@dataclass(slots=True)
class Ending:
    """What came of one part: counts for the table, and what was wrong."""

    sync: str
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Lives:
    """Routers one after the other on one data directory, over the same vendors."""

    def __init__(self, home: Path, zygote: Zygote, simulator: SimulatorThread, *, timeouts: str = TIMEOUTS) -> None:
        self.data_dir = home / "data"
        self.truth = TruthLog(home / "truth.jsonl")
        self.lived = 0
        self._zygote = zygote
        self._simulator = simulator
        self._file = registry(home / "providers.yaml", simulator, timeouts=timeouts)
        self._numbers = count()
        for vendor in VENDORS:
            simulator.set_script(vendor, PACES)
        simulator.take_ended()

    @classmethod
    @contextmanager
    def on_stage(cls, home: Path, **options: str) -> Iterator[Self]:
        """With vendors and a zygote of its own."""
        home.mkdir(parents=True, exist_ok=True)
        with SimulatorThread(list(VENDORS)) as simulator, Zygote() as zygote:
            yield cls(home, zygote, simulator, **options)

    def begun(self, sync: str, **env: str) -> RunningRouter:
        """The next router, which may not be ready."""
        self.lived += 1
        router: RunningRouter = self._zygote.begun(self.data_dir, self._file, {"COE_JOURNAL_SYNC": sync, **env})
        return router

    def errands(self, seed: int | str) -> Iterator[Errand]:
        """Requests by callers who stay and make sense; no name comes twice."""
        for number in self._numbers:
            errand = Errand.drawn(seed, number, MODELS)
            if not errand.nonsense and errand.leaves_after is None:
                yield errand

    def noted(self) -> None:
        """Wait until vendors are done with everybody, and write down what they saw."""
        due = time.monotonic() + SETTLED_S
        while any(one.outcome.value == "open" for one in self._simulator.log):
            assert time.monotonic() < due, "a vendor still answers somebody who is dead"
            time.sleep(0.005)
        self.truth.add(self._simulator.take_ended())

    def unannounced(self) -> list[str]:
        """What vendors saw and no open row announced, as the journal is now: nobody has recovered anything yet."""
        found, _ = faults_of(Books.read(self.data_dir), self.truth.read(), PRICES)
        return [one for one in found if "announced" in one]

    def balanced(self, sync: str) -> tuple[Books, list[str], Counter[str]]:
        """A last life, which recovers what is left; then the books against everything that vendors saw."""
        router = until_ready(self.begun(sync))
        wrong = [] if router.stop() == 0 else ["the last router did not end with 0"]
        self.noted()
        books = Books.read(self.data_dir)
        faults, compared = faults_of(books, self.truth.read(), PRICES)
        return books, [*wrong, *faults], compared


async def loaded(router: RunningRouter, errands: Iterator[Errand], until: float, callers: int = CALLERS) -> Verdicts:
    """Callers who ask one thing after the other, until a moment; then those under way are waited for."""
    crowd = Crowd(router.port)
    while time.monotonic() < until and router.process.poll() is None:
        while len(crowd.under_way) < callers:
            crowd.send(next(errands))
        await asyncio.sleep(0.005)
    await crowd.back()
    return crowd.verdicts


def killed(lives: Lives, sync: str, cycles: int, seed: int) -> Ending:
    """So many lives, each killed at a random moment; then the books."""
    ending, errands = Ending(sync), lives.errands(f"{seed}:{sync}")
    chance = random.Random(f"{seed}:{sync}:kills")
    for cycle in range(cycles):
        router = lives.begun(sync)
        if cycle % EARLY == EARLY - 1:
            time.sleep(chance.uniform(0, LIFE_S))
            router.kill()
            ending.counts["killed while starting"] += 1
        else:
            until_ready(router)
            asyncio.run(_killed_under_load(router, errands, chance.uniform(0, LIFE_S)))
            ending.counts["killed under load"] += 1
        lives.noted()
        if cycle % 20 == 0:  # a look at all of it, each time, would take longer than the kills
            ending.wrong += lives.unannounced()
    ending.wrong += lives.unannounced()
    books, faults, compared = lives.balanced(sync)
    ending.wrong += faults
    ending.counts += Counter({name: compared[name] for name in ("attempts", "requests that vendors saw")})
    ending.counts += Counter({f"{state} rows": found for state, found in books.states().items()})
    if not books.states()["unknown"]:
        ending.wrong.append("no kill interrupted anything: this run shows nothing")
    return ending


async def _killed_under_load(router: RunningRouter, errands: Iterator[Errand], after_s: float) -> None:
    load = asyncio.create_task(loaded(router, errands, time.monotonic() + 2 * LIFE_S))
    await asyncio.sleep(after_s)
    router.kill()
    await load  # what callers of a dead router get is not the router's to promise


def stopped(lives: Lives, sync: str, seed: int, *, times: int = 1) -> Ending:
    """SIGSTOP under load, and SIGCONT two seconds later: everybody gets a whole answer, nobody is called twice for it."""
    ending, errands = Ending(sync), lives.errands(f"{seed}:stops")
    router = until_ready(lives.begun(sync))

    async def play() -> Verdicts:
        load = asyncio.create_task(loaded(router, errands, time.monotonic() + times * (STOPPED_S + 1)))
        for _ in range(times):
            await asyncio.sleep(0.5)
            os.kill(router.process.pid, signal.SIGSTOP)
            await asyncio.sleep(STOPPED_S)
            os.kill(router.process.pid, signal.SIGCONT)
            ending.counts["stops"] += 1
            await asyncio.sleep(0.5)
        return await load

    verdicts = asyncio.run(play())
    ending.wrong += verdicts.wrong
    ending.counts += verdicts.kinds
    if router.stop() != 0:
        ending.wrong.append("the router did not end with 0")
    lives.noted()
    books, faults, compared = lives.balanced(sync)
    ending.wrong += faults
    ending.counts["attempts"] = compared["attempts"]
    ending.counts["attempts that failed"] = sum(end["ended"] != "complete" for end in books.ends.values())
    return ending


def at_the_point(lives: Lives, point: str, action: str, sync: str, turn: int, errands: Iterator[Errand]) -> list[str]:
    """One life with a failpoint; what was wrong with it. The books are for later, over all lives."""
    if point == "in_recovery":
        _left_open(lives, sync, errands)
    once = point in {"in_recovery", "in_reload", "before_fsync"}
    router = lives.begun(sync, COE_FAILPOINT=f"{point}:{action}" if once else f"{point}:{action}@{turn}")
    try:
        until_ready(router)
    except AssertionError:
        lives.noted()
        code = router.process.poll()
        if (action, code) in {("kill", -signal.SIGKILL), ("error", EX_CANTCREAT)}:
            return []  # a start writes rows as well: it dies there, or says that it can't
        return [f"{point}:{action}: the router did not start"]
    if point == "in_reload":
        router.process.send_signal(signal.SIGHUP)
    # A machine that is busy with other things takes its time to get there; who is killed ends the load.
    patience_s = SETTLED_S if action == "kill" else 0.5
    verdicts = asyncio.run(loaded(router, errands, time.monotonic() + patience_s, callers=10))
    wrong: list[str] = []
    if action == "kill":
        if router.process.poll() is None:
            wrong.append(f"{point}:{action}@{turn} was not reached")
            router.kill()
    else:
        wrong += [f"{point}:{action}@{turn}: {one}" for one in verdicts.wrong]
        code = router.stop()
        wrong += [f"{point}:{action}@{turn}: ended with {code}"] if code != 0 else []
    lives.noted()
    return wrong


def _left_open(lives: Lives, sync: str, errands: Iterator[Errand]) -> None:
    """A life that ends with attempts open."""
    asyncio.run(_killed_under_load(until_ready(lives.begun(sync)), errands, 0.3))
    lives.noted()
