"""Workers that are renewed one after the other while callers keep asking: nobody may lose a request.

Callers of three kinds: on a connection that is kept and used again and again, on a new connection each time, and with
streams. None of them repeats what failed, as SDKs would. Used by `tests/faults/test_rolling.py` in small number and by
`tests/chaos.py` with ten thousand requests.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from stage import RunningRouter, registry, start_router

from service.simulator import Script, SimulatorThread

CALLERS = ("kept", "kept", "kept", "new", "stream", "stream")
WORKERS = 2
PATIENCE_S = 60.0


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


class Rolling:
    """A router of two workers, and callers who keep asking."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._simulator = SimulatorThread({"alpha": Script(chunks=6, chunk_delay_s=0.05)})
        self._simulator.start()
        file = registry(home / "providers.yaml", self._simulator)
        self.router: RunningRouter = start_router(home / "data", file, "--workers", str(WORKERS))
        self._stop = threading.Event()
        self._done = threading.Lock()
        self.seen = Seen()

    def close(self) -> None:
        """End everything that was started."""
        self._stop.set()
        if self.router.process.poll() is None:
            self.router.kill()
        self._simulator.stop()

    def play(self, requests: int, renewals_min: int = 1) -> Seen:
        """Renew again and again until so many requests were answered; `seen` is complete when this returns."""
        callers = [threading.Thread(target=self._call, args=(kind,), daemon=True) for kind in CALLERS]
        for one in callers:
            one.start()
        while self.seen.asked < requests or self.seen.renewals < renewals_min:
            if not self._renew():
                break
        self._stop.set()
        for one in callers:
            one.join(PATIENCE_S)
            if one.is_alive():
                self.seen.wrong.append("a caller hangs")
        if self.router.stop() != 0:
            self.seen.wrong.append("the router did not end in order")
        self._judge()
        return self.seen

    def _renew(self) -> bool:
        before = self.router.log.read_text().count('"workers_renewed"')
        os.kill(self.router.process.pid, signal.SIGUSR2)
        due = time.monotonic() + PATIENCE_S
        while self.router.log.read_text().count('"workers_renewed"') == before:
            if time.monotonic() > due or self.router.process.poll() is not None:
                self.seen.wrong.append("the workers were not renewed")
                return False
            time.sleep(0.05)
        self.seen.renewals += 1
        return True

    def _call(self, kind: str) -> None:
        body = {"model": "alpha-model", "messages": [{"role": "user", "content": "hello"}], "stream": kind == "stream"}
        url = f"{self.router.url}/v1/chat/completions"
        with httpx.Client(trust_env=False, timeout=20) as kept:
            while not self._stop.is_set():
                try:
                    reply = httpx.post(url, json=body, timeout=20) if kind == "new" else kept.post(url, json=body)
                except httpx.HTTPError as problem:
                    self.seen.wrong.append(f"{kind}: {problem!r}")
                    continue
                if reply.status_code != 200 or (kind == "stream" and not reply.text.rstrip().endswith("[DONE]")):
                    self.seen.wrong.append(f"{kind}: {reply.status_code} {reply.text[-200:]}")
                with self._done:
                    self.seen.answers[kind] += 1

    def _judge(self) -> None:
        """Each answer has one attempt that was settled as complete, and a process of each renewal wrote some."""
        self.seen.processes = len(list((self.router.data_dir / "journal").glob("*.jsonl")))
        books = self.router.attempts()
        ended = Counter(end["ended"] for _, ends in books for end in ends)
        if len(books) != self.seen.asked or ended != {"complete": self.seen.asked}:
            self.seen.wrong.append(f"{self.seen.asked} answers, {len(books)} attempts, ended {dict(ended)}")


def played(home: Path, requests: int, renewals_min: int = 1) -> Seen:
    """Renewals of a router of its own."""
    rolling = Rolling(home)
    try:
        return rolling.play(requests, renewals_min)
    finally:
        rolling.close()
