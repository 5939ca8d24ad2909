"""What faults cost, in figures: how much later an answer comes (I7), and how many calls are made for nothing (I9).

`tests/faults/test_toll.py` plays a little of it; `make chaos` plays it in number and fills docs/reliability.md.

*Later*: the first of three vendors fails at every third request, in one way, and the two requests between are answered
by it. So both kinds are measured in the same minute on the same machine, by one connection, and nobody's breaker opens.
*Calls*: some vendors fail at everything, for one caller or several, and the ledger's rows are counted.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from types import MappingProxyType

import httpx
from endings import Told
from matrix import VENDORS
from stage import RunningRouter, registry, start_router

from service.config import Settings
from service.simulator import Fault, Script, SimulatorThread, http_error
from service.startup import open_keys

ADDED_MS = 50.0
"""By how much the slowest hundredth may be slower than the slowest hundredth without a fault."""

CALLS_MAX = 1.2
"""Attempts for each request while nobody answers."""

RETRIES_MAX = 0.2
"""Attempts for each request, beyond the first, where something has failed."""

ATTEMPTS_MAX = 3
EVERY = 3
PEPPER = "5d0c2f7a91b84e63a7d9f01c8be24653"
ASKERS = 4

UNTIL_BREAKERS_OPEN = (5 + ASKERS) * (ATTEMPTS_MAX - 1)
"""Attempts beyond the first until then: five requests of a caller, and those that are on their way."""

FAST: Mapping[str, Script] = MappingProxyType(
    {
        "refused": Script(fault=Fault.REFUSE),
        "reset": Script(fault=Fault.RESET),
        "500": http_error(500),
        "503": http_error(503),
        "a web page": Script(fault=Fault.HTML),
        "nothing under a 200": Script(fault=Fault.EMPTY),
        "cut after the role": Script(fault=Fault.CUT, fault_after=0),
    }
)
"""Faults that are noticed at once."""

OUTAGES: Sequence[tuple[str, Script, int, int]] = (
    ("500", http_error(500), 3, 1),
    ("500", http_error(500), 3, 8),
    ("503", http_error(503), 3, 1),
    ("hung up", Script(fault=Fault.HANG_UP), 3, 1),
    ("refused", Script(fault=Fault.REFUSE), 3, 1),
    ("500", http_error(500), 2, 1),
    ("500", http_error(500), 1, 1),
)
"""(fault, its script, how many of the three vendors, how many callers)."""


@contextmanager
def a_router(home: Path, keys: int = 0) -> Iterator[tuple[RunningRouter, SimulatorThread, list[dict[str, str]]]]:
    """A router over three vendors, with the headers of so many callers."""
    home.mkdir(parents=True)
    with SimulatorThread(list(VENDORS)) as simulator:
        timeouts = "{connect_s: 2, first_token_s: 5, idle_s: 5, total_s: 10}"
        file = registry(home / "providers.yaml", simulator, timeouts=timeouts)
        store = open_keys(Settings(data_dir=home / "data", key_pepper=PEPPER))
        secrets = [store.create(f"k{number}").secret for number in range(keys)]
        router = start_router(home / "data", file, COE_KEY_PEPPER=PEPPER)
        yield router, simulator, [{"authorization": f"Bearer {one}"} for one in secrets] or [{}]
        router.stop()


def die(simulator: SimulatorThread, vendor: str, script: Script) -> None:
    """Have a vendor fail from now on."""
    if script.fault is Fault.REFUSE:
        simulator.refuse(vendor)
    else:
        simulator.set_script(vendor, script)


def live(simulator: SimulatorThread, vendor: str, script: Script) -> None:
    """Have it answer again."""
    if script.fault is Fault.REFUSE:
        simulator.accept(vendor)
    simulator.set_script(vendor, Script())


def asked_ms(client: httpx.Client, router: RunningRouter, *, stream: bool) -> tuple[float, str]:
    """(milliseconds until the whole answer is there, who gave it)."""
    body = {"model": "auto", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    begun = time.perf_counter()
    answer = client.post(f"{router.url}/v1/chat/completions", json={**body, "stream": stream})
    took_ms = (time.perf_counter() - begun) * 1_000
    return took_ms, answer.headers.get("x-coe-provider", "") if answer.status_code == 200 else str(answer.status_code)


def quantile(share: float, values: Sequence[float]) -> float:
    """The value that a share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Later:
    """One fault: times with it and without it, in ms, and what was not as promised."""

    fault: str
    with_it: Sequence[float]
    without: Sequence[float]
    wrong: Sequence[str]

    def added(self, share: float) -> float:
        """How much later the answers at this share come."""
        return quantile(share, self.with_it) - quantile(share, self.without)

    def row(self) -> str:
        """Its line of the table."""
        shares = (0.5, 0.9, 0.99)
        cells = [", ".join(f"{quantile(one, found):.1f}" for one in shares) for found in (self.without, self.with_it)]
        added = " | ".join(f"{self.added(one):+.1f}" for one in shares)
        return f"| {self.fault} | {len(self.with_it)} | {cells[0]} | {cells[1]} | {added} |"


def later(home: Path, fault: str, script: Script, count: int) -> Later:
    """`count` requests at which the first vendor fails, whole answers and streams by turns, and twice as many others."""
    times: dict[bool, list[float]] = {True: [], False: []}
    wrong = []
    with a_router(home) as (router, simulator, _), httpx.Client(timeout=30, trust_env=False) as client:
        for _ in range(2 * EVERY):
            asked_ms(client, router, stream=False)  # connections are open, code is warm
        for number in range(EVERY * count):
            failing = number % EVERY == EVERY - 1
            if failing:
                die(simulator, "alpha", script)
            took_ms, who = asked_ms(client, router, stream=number // EVERY % 2 == 1)
            if failing:
                live(simulator, "alpha", script)
            times[failing].append(took_ms)
            wanted = "beta" if failing else "alpha"
            if who != wanted:
                wrong.append(f"{fault}, request {number}: {who}, not {wanted}")
    found = Later(fault, times[True], times[False], wrong)
    if found.added(0.99) > ADDED_MS:
        wrong.append(
            f"{fault}: the slowest hundredth is {found.added(0.99):.0f} ms later, at most {ADDED_MS:g} promised"
        )
    return found


def fast(home: Path, count: int) -> Told:
    """How much later an answer comes for each fast fault."""
    lines = [
        "| fault of the first vendor | N | without, ms: p50, p90, p99 | with it | added: p50 | p90 | p99 |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    wrong: list[str] = []
    for number, (fault, script) in enumerate(FAST.items()):
        found = later(home / f"fast-{number}", fault, script, count)
        sys.stderr.write(f"{found.row()}\n")
        lines.append(found.row())
        wrong += found.wrong
    return "\n".join(lines), wrong


@dataclass(frozen=True, slots=True)
class Calls:
    """An outage: attempts of each request, and how requests ended."""

    attempts: Sequence[int]
    statuses: Mapping[int, int]

    @property
    def each(self) -> float:
        """Attempts for each request."""
        return sum(self.attempts) / len(self.attempts)

    @property
    def beyond(self) -> float:
        """Attempts for each request beyond its first one."""
        return sum(max(0, one - 1) for one in self.attempts) / len(self.attempts)


def called(home: Path, script: Script, dead: int, callers: int, count: int) -> Calls:
    """`count` requests of so many callers, a few at once, after some that were answered; the last `dead` vendors live."""
    with a_router(home, callers if callers > 1 else 0) as (router, simulator, headers):
        body = {"model": "auto", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
        with httpx.Client(timeout=30, trust_env=False) as client, ThreadPoolExecutor(ASKERS) as pool:

            def ask(who: dict[str, str]) -> tuple[int, int]:
                answer = client.post(f"{router.url}/v1/chat/completions", json=body, headers=who)
                return answer.status_code, int(answer.headers["x-coe-attempts"])

            turns = [who for who, _ in zip(cycle(headers), range(count), strict=False)]
            list(pool.map(ask, turns[: count // 4]))  # the budget of retries is not at its beginning
            for vendor in VENDORS[:dead]:
                die(simulator, vendor, script)
            seen = list(pool.map(ask, turns))
    return Calls([attempts for _, attempts in seen], Counter(status for status, _ in seen))


def outages(home: Path, count: int) -> Told:
    """How many calls an outage takes."""
    lines = [
        (
            "| what fails | dead of three | callers | requests | attempts: each | most | beyond the first, each | "
            "how requests ended |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    wrong = []
    for number, (fault, script, dead, callers) in enumerate(OUTAGES):
        found = called(home / f"outage-{number}", script, dead, callers, count)
        ends = ", ".join(f"{status}: {often:,}" for status, often in sorted(found.statuses.items()))
        lines.append(
            f"| {fault} | {dead} | {callers} | {len(found.attempts):,} | {found.each:.2f} | {max(found.attempts)} | "
            f"{found.beyond:.2f} | {ends} |"
        )
        sys.stderr.write(f"{lines[-1]}\n")
        wrong += judged(f"{fault}, {dead} dead, {callers} callers", found, dead, callers)
    return "\n".join(lines), wrong


def judged(name: str, found: Calls, dead: int, callers: int = 1) -> list[str]:
    """What is not as promised."""
    wrong = []
    if max(found.attempts) > ATTEMPTS_MAX:
        wrong.append(f"{name}: a request with {max(found.attempts)} attempts")
    if found.beyond * len(found.attempts) > RETRIES_MAX * len(found.attempts) + UNTIL_BREAKERS_OPEN * callers:
        wrong.append(f"{name}: {found.beyond:.2f} attempts beyond the first for each request")
    if dead == len(VENDORS):
        if found.each > CALLS_MAX:
            wrong.append(f"{name}: {found.each:.2f} attempts for each request")
    elif set(found.statuses) != {200}:
        wrong.append(f"{name}: {dict(found.statuses)} although somebody could answer")
    return wrong
