"""A router that is asked all the time while something happens to it: what reloads, clocks and renewals are played on.

Callers are of three kinds: on a connection that is kept, on a new one each time, and with streams. None of them repeats
what failed, as SDKs would: every request that is lost shows.
"""

from __future__ import annotations

import threading
import time
from collections import Counter

import httpx
from stage import RunningRouter

from service.simulator import SimulatorThread

PATIENCE_S = 60.0
ASK_S = 20.0


class UnderLoad:
    """The router and its vendors, both ours to end; `answers` counts by the kind of caller, `wrong` says what was not whole."""

    def __init__(self, simulator: SimulatorThread, router: RunningRouter, model: str, wrong: list[str]) -> None:
        """Both run already."""
        self.simulator = simulator
        self.router = router
        self.answers: Counter[str] = Counter()
        self.wrong = wrong
        self._model = model
        self._stop = threading.Event()
        self._turn = threading.Lock()
        self._callers: list[threading.Thread] = []

    def close(self) -> None:
        """End everything that was started."""
        self._stop.set()
        if self.router.process.poll() is None:
            self.router.kill()
        self.simulator.stop()

    @property
    def answered(self) -> int:
        """Requests that had an answer, whole or not."""
        return sum(self.answers.values())

    def begin(self, *kinds: str) -> None:
        """Let a caller of each of these kinds ask until `end`; returns when the first one has its answer."""
        self._callers = [threading.Thread(target=self._ask, args=(kind,), daemon=True) for kind in kinds]
        for one in self._callers:
            one.start()
        due = time.monotonic() + PATIENCE_S
        while not self.answers and not self.wrong and time.monotonic() < due:
            time.sleep(0.01)

    def end(self) -> None:
        """Let everybody have their last answer, and stop the router in order."""
        self._stop.set()
        for one in self._callers:
            one.join(PATIENCE_S)
            if one.is_alive():
                self.wrong.append("a caller hangs")
        if self.router.stop() != 0:
            self.wrong.append("the router did not end in order")

    def logged(self, event: str) -> int:
        """How often an event stands in the router's log."""
        return self.router.log.read_bytes().count(f'"{event}"'.encode())

    def _ask(self, kind: str) -> None:
        body = {"model": self._model, "messages": [{"role": "user", "content": "hello"}], "stream": kind == "stream"}
        url = f"{self.router.url}/v1/chat/completions"
        with httpx.Client(trust_env=False, timeout=ASK_S) as kept:
            while not self._stop.is_set():
                try:
                    reply = httpx.post(url, json=body, timeout=ASK_S) if kind == "new" else kept.post(url, json=body)
                except httpx.HTTPError as problem:
                    self.wrong.append(f"{kind}: {problem!r}")
                    continue
                if reply.status_code != 200 or (kind == "stream" and not reply.text.rstrip().endswith("[DONE]")):
                    self.wrong.append(f"{kind}: {reply.status_code} {reply.text[-200:]}")
                elif not float(reply.headers["x-coe-overhead-ms"]) >= 0:
                    self.wrong.append(f"{kind}: overhead {reply.headers['x-coe-overhead-ms']}")
                with self._turn:
                    self.answers[kind] += 1
