"""A clock that is set while the router runs, by libfaketime under a real process: what callers, rows and prices make of it.

The price of the one model rises on a day that the clock is set before and behind, again and again. Durations must never
be negative, no attempt may be cut by a jump, and each is priced by the time at which it was decided. Used by
`tests/faults/test_clock.py` in small number and by `tests/chaos.py`.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from stage import SOURCE, registry, start_router
from underload import UnderLoad

from service.simulator import Script, SimulatorThread

LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
BEFORE, BEHIND = 1_200_000, 7_700_000
"""The output price, per token in pico-USD, before and behind the day on which it rises."""


def faketime() -> Path | None:
    """Where libfaketime is on this machine."""
    places = [Path(one) / "faketime" / "libfaketimeMT.so.1" for one in LIBRARIES]
    return next((one for one in places if one.exists()), None)


@dataclass
class Seen:
    """What came of some jumps."""

    jumps: int = 0
    answers: int = 0
    before: int = 0
    behind: int = 0
    told: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """In one line, what is wrong below it."""
        told = (
            f"{self.jumps} jumps, {self.told} told, {self.answers} answers ({self.before} before, {self.behind} behind)"
        )
        return "\n".join((told, *self.wrong[:10]))


class Clocks(UnderLoad):
    """A router whose clock is ours to set."""

    def __init__(self, home: Path, seed: int, preload: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._chance = random.Random(seed)
        self._offset = home / "offset"
        self._rises = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=40)
        self.set(0)
        self.seen = Seen()
        simulator = SimulatorThread({"alpha": Script(chunks=10, chunk_delay_s=0.05)})
        simulator.start()
        file = registry(home / "providers.yaml", simulator)
        text = file.read_text(encoding="utf-8")
        rise = f"          - {{from: {self._rises:%Y-%m-%d}, currency: USD, input: 0.15, output: 7.70, {SOURCE}}}\n"
        first = next(line for line in text.splitlines(keepends=True) if "output: 1.20" in line)
        file.write_text(text.replace(first, rise + first), encoding="utf-8")
        router = start_router(
            home / "data",
            file,
            LD_PRELOAD=str(preload),
            FAKETIME_TIMESTAMP_FILE=str(self._offset),
            FAKETIME_NO_CACHE="1",
            FAKETIME_DONT_FAKE_MONOTONIC="1",
        )
        super().__init__(simulator, router, "alpha-model", self.seen.wrong)

    def set(self, seconds: int) -> None:
        """Set the router's clock by so much before or behind this machine's."""
        self._set_to = seconds
        draft = self._offset.with_suffix(".draft")
        draft.write_text(f"{seconds:+d}\n", encoding="utf-8")
        draft.replace(self._offset)

    def play(self, jumps: int) -> Seen:
        """So many jumps while streams and whole answers run; `seen` is complete when this returns."""
        self.begin("stream", "stream", "kept")
        for number in range(jumps):
            time.sleep(0.4)
            days = self._chance.randint(50, 300) if number % 2 == 0 else -self._chance.randint(0, 300)
            self.set(days * 86_400 + self._chance.randint(-3_600, 3_600))
            self.seen.jumps += 1
        time.sleep(0.4)
        self.end()
        told = [json.loads(line)["by_s"] for line in self.router.log.read_text().splitlines() if "clock_jumped" in line]
        self.seen.told, self.seen.answers = len(told), self.answered
        if abs(sum(told) - self._set_to) > 1:  # two jumps while the loop stood still are told as one
            self.wrong.append(f"jumps by {told} were told, and the clock is {self._set_to} s off")
        rows = self.router.rows()
        decided = {body["id"]: body["created_ms"] for kind, body in rows if kind == "decision"}
        judge(self.router.attempts(), decided, round(self._rises.timestamp() * 1000), self.seen)
        return self.seen


Books = list[tuple[dict[str, Any], list[dict[str, Any]]]]


def judge(books: Books, decided: Mapping[str, int], rises_ms: int, seen: Seen) -> None:
    """No negative duration, one end each, and the price of the instant at which it was decided, in Unix ms."""
    for opened, ends in books:
        if len(ends) != 1 or ends[0]["ended"] != "complete":
            seen.wrong.append(f"{opened['attempt_id']} ended {[one['ended'] for one in ends]}")
            continue
        spans = {name: ends[0][name] for name in ("ttft_ms", "total_ms", "overhead_ms")}
        if any(value is None or not 0 <= value < 20_000 for value in spans.values()):
            seen.wrong.append(f"{opened['attempt_id']} took {spans}")
        at_ms = decided[opened["decision_id"]]
        behind = at_ms >= rises_ms
        seen.behind += behind
        seen.before += not behind
        price = ends[0]["price"]["rates"]["output"]
        if price != (BEHIND if behind else BEFORE):
            seen.wrong.append(f"{opened['attempt_id']} was decided at {at_ms} and priced {price}")
    if len(books) != seen.answers:
        seen.wrong.append(f"{seen.answers} answers, {len(books)} attempts")


def played(home: Path, seed: int, jumps: int, preload: Path) -> Seen:
    """So many jumps of the clock of a router of its own."""
    clocks = Clocks(home, seed, preload)
    try:
        return clocks.play(jumps)
    finally:
        clocks.close()
