"""Registries that come and go under load: what callers had, and whether any answer was made of two of them.

Each good file has a number: its output price, the name of its model on the wire, and its version all say the same one.
So an answer made of two files shows. Used by `tests/faults/test_reloads.py` in small number and by `tests/chaos.py`.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from stage import RunningRouter, registry, start_router

from service.simulator import SimulatorThread

CALLERS = 6
PATIENCE_S = 30.0
INVALID_SHARE = 0.3

MISTAKES: dict[str, Callable[[str], str]] = {
    "a price below nothing": lambda text: text.replace("output: 1", "output: -1", 1),
    "half a file": lambda text: text[: len(text) // 2] + "\n  - {",
    "empty": lambda _: "",
    "no text": lambda _: "\x00\x01",
    "a field nobody knows": lambda text: text.replace("region: eu", "region: eu\n    colour: red", 1),
    "a key twice": lambda text: text.replace("version: 1", "version: 1\nversion: 1", 1),
    "a default that names nothing": lambda text: text.replace("default_policy: balanced", "default_policy: nobody"),
    "an environment variable that is not set": lambda text: re.sub(r"http://127\.0\.0\.1:\d+", "${env:NO_SUCH}", text),
}
"""What may be wrong with a registry, each done to a good one."""


Rows = list[tuple[str, dict[str, Any]]]
Books = list[tuple[dict[str, Any], list[dict[str, Any]]]]


@dataclass
class Seen:
    """What came of some reloads."""

    served: int = 0
    refused: int = 0
    answers: int = 0
    wrong: list[str] = field(default_factory=list)
    by_version: Counter[int] = field(default_factory=Counter)

    def __str__(self) -> str:
        """In one line, what is wrong below it."""
        told = (
            f"{self.served} served, {self.refused} refused, {self.answers} answers of {len(self.by_version)} versions"
        )
        return "\n".join((told, *self.wrong[:10]))


class Reloading:
    """A router under load whose registry is written again and again."""

    def __init__(self, home: Path, seed: int) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._file = home / "providers.yaml"
        self._chance = random.Random(seed)
        self._simulator = SimulatorThread(["alpha", "beta"])
        self._simulator.start()
        registry(self._file, self._simulator)
        self._base = self._file.read_text(encoding="utf-8")
        self._file.write_text(self._numbered(0), encoding="utf-8")
        self.router: RunningRouter = start_router(home / "data", self._file)
        self._stop = threading.Event()
        self.seen = Seen()

    def close(self) -> None:
        """End everything that was started."""
        self._stop.set()
        if self.router.process.poll() is None:
            self.router.kill()
        self._simulator.stop()

    def _numbered(self, number: int) -> str:
        """A good registry of a number."""
        text = self._base.replace("output: 1.20", f"output: 1.{number + 1:06d}")
        return text.replace("name: alpha-wire", f"name: alpha-wire-{number}")

    def play(self, reloads: int) -> Seen:
        """So many reloads under load; `seen` is complete when this returns."""
        callers = [threading.Thread(target=self._call, args=(number,), daemon=True) for number in range(CALLERS)]
        for one in callers:
            one.start()
        due = time.monotonic() + PATIENCE_S
        while not self.seen.answers and time.monotonic() < due:
            time.sleep(0.01)
        kinds = list(MISTAKES)
        for number in range(1, reloads + 1):
            text = self._numbered(number)
            mistake = self._chance.choice(kinds) if self._chance.random() < INVALID_SHARE else None
            self._file.write_text(text if mistake is None else MISTAKES[mistake](text), encoding="utf-8")
            self._reload(mistake)
        self._stop.set()
        for one in callers:
            one.join(PATIENCE_S)
            if one.is_alive():
                self.seen.wrong.append("a caller hangs")
        if self.router.stop() != 0:
            self.seen.wrong.append("the router did not end in order")
        judge(self.router.rows(), self.router.attempts(), self.seen)
        return self.seen

    def _reload(self, mistake: str | None) -> None:
        expected = '"registry_reloaded"' if mistake is None else '"registry_refused"'
        other = '"registry_refused"' if mistake is None else '"registry_reloaded"'
        log = self.router.log
        before, others = (log.read_bytes().count(word.encode()) for word in (expected, other))
        self.router.process.send_signal(1)
        due = time.monotonic() + PATIENCE_S
        while log.read_bytes().count(expected.encode()) == before:
            if time.monotonic() > due or log.read_bytes().count(other.encode()) > others:
                self.seen.wrong.append(f"{mistake or 'a good file'}: expected {expected}")
                return
            time.sleep(0.002)
        if mistake is None:
            self.seen.served += 1
        else:
            self.seen.refused += 1

    def _call(self, number: int) -> None:
        """Ask until told to stop; every answer must be whole."""
        body = {
            "model": "auto",
            "messages": [{"role": "user", "content": f"hello {number}"}],
            "stream": number % 3 == 0,
        }
        with httpx.Client(trust_env=False, timeout=20) as client:
            while not self._stop.is_set():
                try:
                    reply = client.post(f"{self.router.url}/v1/chat/completions", json=body)
                except httpx.HTTPError as problem:
                    self.seen.wrong.append(f"a caller had {problem!r}")
                    continue
                whole = reply.status_code == 200 and (not body["stream"] or reply.text.rstrip().endswith("[DONE]"))
                if not whole:
                    self.seen.wrong.append(f"a caller had {reply.status_code} {reply.text[:200]}")
                self.seen.answers += 1


def judge(rows: Rows, books: Books, seen: Seen) -> None:
    """Every attempt is of one version: decided, called and priced by the same file."""
    versions = {body["id"]: body["versions"]["registry"] for kind, body in rows if kind == "decision"}
    numbers: dict[str, int] = {}
    for opened, ends in books:
        number = int(opened["wire_name"].rpartition("-")[2])
        seen.by_version[number] += 1
        found = [end["price"]["rates"]["output"] for end in ends]
        if found != [1_000_000 + number + 1]:
            seen.wrong.append(f"called by file {number}, priced {found}: {json.dumps(opened)[:200]}")
        version = versions[opened["decision_id"]]
        if numbers.setdefault(version, number) != number:
            seen.wrong.append(f"version {version} is of files {numbers[version]} and {number}")
    if len(books) != seen.answers:
        seen.wrong.append(f"{seen.answers} answers, {len(books)} attempts")


def played(home: Path, seed: int, reloads: int) -> Seen:
    """So many reloads of a router of its own."""
    reloading = Reloading(home, seed)
    try:
        return reloading.play(reloads)
    finally:
        reloading.close()
