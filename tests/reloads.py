"""Registries that come and go under load: what callers had, and whether any answer was made of two of them.

Each good file has a number: its output price, the name of its model on the wire, and its version all say the same one.
So an answer made of two files shows. Used by `tests/faults/test_reloads.py` in small number and by `tests/chaos.py`.
"""

from __future__ import annotations

import json
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stage import registry, start_router
from underload import PATIENCE_S, UnderLoad

from service.simulator import SimulatorThread

CALLERS = ("kept", "kept", "kept", "kept", "stream", "stream")
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


class Reloading(UnderLoad):
    """A router under load whose registry is written again and again."""

    def __init__(self, home: Path, seed: int) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._file = home / "providers.yaml"
        self._chance = random.Random(seed)
        self.seen = Seen()
        simulator = SimulatorThread(["alpha", "beta"])
        simulator.start()
        self._base = registry(self._file, simulator).read_text(encoding="utf-8")
        self._file.write_text(self._numbered(0), encoding="utf-8")
        super().__init__(simulator, start_router(home / "data", self._file), "auto", self.seen.wrong)

    def _numbered(self, number: int) -> str:
        """A good registry of a number."""
        text = self._base.replace("output: 1.20", f"output: 1.{number + 1:06d}")
        return text.replace("name: alpha-wire", f"name: alpha-wire-{number}")

    def play(self, reloads: int) -> Seen:
        """So many reloads under load; `seen` is complete when this returns."""
        self.begin(*CALLERS)
        kinds = list(MISTAKES)
        for number in range(1, reloads + 1):
            text = self._numbered(number)
            mistake = self._chance.choice(kinds) if self._chance.random() < INVALID_SHARE else None
            self._file.write_text(text if mistake is None else MISTAKES[mistake](text), encoding="utf-8")
            self._reload(mistake)
        self.end()
        self.seen.answers = self.answered
        judge(self.router.rows(), self.router.attempts(), self.seen)
        return self.seen

    def _reload(self, mistake: str | None) -> None:
        expected, other = "registry_reloaded", "registry_refused"
        if mistake is not None:
            expected, other = other, expected
        before, others = self.logged(expected), self.logged(other)
        self.router.process.send_signal(signal.SIGHUP)
        due = time.monotonic() + PATIENCE_S
        while self.logged(expected) == before:
            if time.monotonic() > due or self.logged(other) > others:
                self.wrong.append(f"{mistake or 'a good file'}: expected {expected}")
                return
            time.sleep(0.002)
        if mistake is None:
            self.seen.served += 1
        else:
            self.seen.refused += 1


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
