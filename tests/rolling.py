"""Workers that are renewed one after the other while callers keep asking: nobody may lose a request.

Used by `tests/faults/test_rolling.py` in small number and by `tests/chaos.py` in great number.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from stage import registry, start_router
from underload import PATIENCE_S, UnderLoad

from service.simulator import Script, SimulatorThread

CALLERS = ("kept", "kept", "kept", "new", "stream", "stream")
WORKERS = 2


@dataclass
class Seen:
    """What came of some renewals."""

    renewals: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    processes: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def asked(self) -> int:
        """Requests that were answered."""
        return sum(self.answers.values())

    def __str__(self) -> str:
        """In one line, what is wrong below it."""
        told = f"{self.renewals} renewals, {self.asked} answers {dict(self.answers)} by {self.processes} processes"
        return "\n".join((told, *self.wrong[:10]))


class Rolling(UnderLoad):
    """A router of two workers, and callers who keep asking."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.seen = Seen()
        simulator = SimulatorThread({"alpha": Script(chunks=6, chunk_delay_s=0.05)})
        simulator.start()
        file = registry(home / "providers.yaml", simulator)
        router = start_router(home / "data", file, "--workers", str(WORKERS))
        super().__init__(simulator, router, "alpha-model", self.seen.wrong)
        self.seen.answers = self.answers

    def play(self, requests: int, renewals_min: int = 1) -> Seen:
        """Renew again and again until so many requests were answered; `seen` is complete when this returns."""
        self.begin(*CALLERS)
        while self.seen.asked < requests or self.seen.renewals < renewals_min:
            if not self._renew():
                break
        self.end()
        self._judge()
        return self.seen

    def _renew(self) -> bool:
        before = self.logged("workers_renewed")
        os.kill(self.router.process.pid, signal.SIGUSR2)
        due = time.monotonic() + PATIENCE_S
        while self.logged("workers_renewed") == before:
            if time.monotonic() > due or self.router.process.poll() is not None:
                self.wrong.append("the workers were not renewed")
                return False
            time.sleep(0.05)
        self.seen.renewals += 1
        return True

    def _judge(self) -> None:
        """Each answer has one attempt that was settled as complete, and a process of each renewal wrote some."""
        self.seen.processes = len(list((self.router.data_dir / "journal").glob("*.jsonl")))
        books = self.router.attempts()
        ended = Counter(end["ended"] for _, ends in books for end in ends)
        if len(books) != self.seen.asked or ended != {"complete": self.seen.asked}:
            self.wrong.append(f"{self.seen.asked} answers, {len(books)} attempts, ended {dict(ended)}")


def played(home: Path, requests: int, renewals_min: int = 1) -> Seen:
    """Renewals of a router of its own."""
    rolling = Rolling(home)
    try:
        return rolling.play(requests, renewals_min)
    finally:
        rolling.close()
