"""Writers of the journal, killed at any instant of their lives, thousands of times: nothing but a writer and its disk.

    .venv/bin/python tests/writer_kills.py --sync group --cycles 300 --seed 1 [--broken NAME]

Each life is a process of its own, forked from this one: it sweeps up after the lives before it, then opens and ends
attempts as fast as it goes, with parts of a few kilobytes so that they rotate, and with a disk that is full at times so
that rows go through the spill. What it tells on a pipe is what a router would do by then: `o` when an attempt may be sent
to its vendor, `t` when its caller may have its answer. A SIGKILL comes when chance has it: in the start, in the sweep, in
the middle of a row. Every `LOOK` lives one is left alone to sweep, and the journal is read with nothing but the pipe to
compare: whatever was told open has one open row and one end, whatever was told ended has that very end, and nobody has two.

The last line is JSON: what was counted, and what was not as promised. `BROKEN` are writers that must be caught.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recording import ending, opening

from service.errors import LedgerUnavailable
from service.ledger import recovery, segments
from service.ledger.lines import LineError, decode
from service.ledger.writer import DataDirUnwritable, JournalWriter

SEGMENT_BYTES: Final = 24_000
SPILL_BYTES: Final = 8_192
FULL_BYTES: Final = 12_000
"""How large a file may become while the disk is "full"."""

LOOK: Final = 40
"""Lives between two readings of the whole journal, which then begins anew."""

LIFE_S: Final = 0.03
"""The longest life behind its sweep."""

START_S: Final = 0.02
SWEEP_S: Final = 0.012
"""Every fifth is killed in its start, within so much time, and every fifth in its sweep, within so much of that."""

RUNNING_MAX: Final = 40
WAIT_S: Final = 30.0


class _Hasty(JournalWriter):
    """Tells that an attempt may be sent, and writes its open row a moment later."""

    def write_open(self, entry, done=None):  # type: ignore[no-untyped-def] # as its parent
        say("o", entry.attempt_id)
        time.sleep(0.0005)
        super().write_open(entry, done)


class _Lazy(JournalWriter):
    """Writes several ends at once, after they were told."""

    def write_terminal(self, entry, done=None):  # type: ignore[no-untyped-def] # as its parent
        held = self.__dict__.setdefault("held", [])
        held.append(entry)
        if len(held) == 4:
            for one in held:
                super().write_terminal(one, done)
            held.clear()
        elif done is not None:
            done(None)


def _sweep_twice() -> None:
    """Nobody looks at what a sweep that was killed has written already."""
    segments.sweepers_of = lambda *_: set()  # type: ignore[assignment,misc] # broken on purpose


BROKEN: Mapping[str, tuple[type[JournalWriter], Callable[[], None]]] = {
    "": (JournalWriter, lambda: None),
    "sent before it is written": (_Hasty, lambda: None),
    "told before it is written": (_Lazy, lambda: None),
    "swept twice": (JournalWriter, _sweep_twice),
}

_wire = -1


def say(what: str, name: str = "-") -> None:
    """One line to whoever counts."""
    os.write(_wire, f"{what} {name}\n".encode())


def _full(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


class _Synced:
    """Waits for the outcome of a sync, in the mode whose callers do."""

    def __init__(self, *, waits: bool) -> None:
        self._waits = waits
        self._there = threading.Event()
        self._error: OSError | None = None

    def _done(self, error: OSError | None) -> None:
        self._error = error
        self._there.set()

    def after(self, write: Callable[..., None], entry: object) -> None:
        self._there.clear()
        if not self._waits:
            write(entry)
            return
        write(entry, self._done)
        self._there.wait(WAIT_S)
        if self._error is not None:
            raise LedgerUnavailable(str(self._error))


def live(data_dir: Path, sync: str, chance: random.Random, name: str, broken: str, *, sweeps_only: bool) -> None:
    """A life, to its end or until it is killed."""
    kind, breaking = BROKEN[broken]
    breaking()
    writer = kind(data_dir, sync=sync, max_segment_bytes=SEGMENT_BYTES, spill_bytes=SPILL_BYTES)  # type: ignore[arg-type] # one of the modes
    writer.start()
    say("b")
    report = recovery.recover(writer)
    say("s", str(report.closed_from_spill))
    if sweeps_only:
        writer.close()
        return
    synced, running = _Synced(waits=sync == "always"), []
    for number in itertools.count():
        if number % 40 == 39:
            _full(FULL_BYTES if chance.random() < 0.5 else resource.RLIM_INFINITY)
        try:
            if len(running) < RUNNING_MAX and (not running or chance.random() < 0.6):
                attempt = f"{name}.{number}"
                synced.after(writer.write_open, opening(attempt))
                running.append(attempt)
                if broken != "sent before it is written":
                    say("o", attempt)
            else:
                attempt = running.pop(chance.randrange(len(running)))
                synced.after(writer.write_terminal, ending(attempt))
                say("t", attempt)
        except LedgerUnavailable:
            _full(resource.RLIM_INFINITY)  # somebody made room


@dataclass(slots=True)
class Kills:
    """What was counted, and what was not as promised."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Killing:
    """Lives in one directory after the other."""

    def __init__(self, home: Path, sync: str, seed: int, broken: str) -> None:
        self._home, self._sync, self._broken = home, sync, broken
        self._chance = random.Random(f"{seed}:{sync}")
        self._data, self._places = home / "0", 0
        self._opened: set[str] = set()
        self._ended: set[str] = set()
        self._heard: set[str] = set()
        self._rest = b""
        self.found = Kills()

    def run(self, cycles: int) -> Kills:
        """So many lives, and a look at the journal after each `LOOK`."""
        for number in range(cycles):
            self._one(number)
            if number % LOOK == LOOK - 1 or number == cycles - 1:
                self._one(number, spared=True)
                self._look()
                if (number + 1) % (LOOK * 25) == 0:
                    sys.stderr.write(f"writers, {self._sync}: {number + 1:,} of {cycles:,}\n")
        return self.found

    def _one(self, number: int, *, spared: bool = False) -> None:
        reading, writing = os.pipe()
        seed = self._chance.random()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            self._become(writing, seed, number, sweeps_only=spared)
        os.close(writing)
        self._heard, self._rest = set[str](), b""
        if not spared:
            stage, most = (("", START_S), ("b", SWEEP_S))[number % 5] if number % 5 < 2 else ("s", LIFE_S)
            self._hear(reading, time.monotonic() + WAIT_S, until=stage)
            self._hear(reading, time.monotonic() + self._chance.uniform(0, most))
            os.kill(pid, signal.SIGKILL)
        self._hear(reading, None)
        os.close(reading)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if spared and status != 0:
            self.found.wrong.append(f"life {number}: the sweep ended with {status}")
        elif not spared and status != -signal.SIGKILL:
            self.found.wrong.append(f"life {number}: ended by itself, with {status}")
        if not spared:
            self.found.counts["killed at work" if "s" in self._heard else "killed while starting"] += 1

    def _become(self, wire: int, seed: float, number: int, *, sweeps_only: bool) -> NoReturn:
        global _wire  # noqa: PLW0603 # this process has one
        _wire = wire
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        code = 1
        try:
            name = f"{self._places}.{number}"
            live(self._data, self._sync, random.Random(seed), name, self._broken, sweeps_only=sweeps_only)
            code = 0
        except DataDirUnwritable:
            code = 73
        finally:
            os._exit(code)

    def _hear(self, wire: int, due: float | None, until: str | None = None) -> None:
        """What it says until then, or until it is gone, or has said `until`."""
        while until not in self._heard | {""}:
            left = None if due is None else due - time.monotonic()
            if left is not None and (left <= 0 or not select.select([wire], [], [], left)[0]):
                return
            got = os.read(wire, 1 << 16)
            if not got:
                return
            *lines, self._rest = (self._rest + got).split(b"\n")
            for line in lines:
                what, name = line.decode().split(" ")
                self._heard.add(what)
                if what == "o":
                    self._opened.add(name)
                elif what == "t":
                    self._ended.add(name)
                elif what == "s":
                    self.found.counts["ends from a spill"] += int(name)

    def _look(self) -> None:
        """Read the whole journal, compare, and begin anew."""
        opens: Counter[str] = Counter()
        ends: dict[str, list[str]] = {}
        parts = segments.list_segments(segments.journal_dir(self._data))
        for part in parts:
            for raw in segments.read_lines(part.path):
                try:
                    line = decode(raw.data) if raw.whole else None
                except LineError:
                    line = None
                if line is None:
                    self.found.counts["torn lines"] += 1
                elif line.kind == "open":
                    opens[str(line.body["attempt_id"])] += 1
                elif line.kind == "terminal":
                    ends.setdefault(str(line.body["attempt_id"]), []).append(str(line.body["state"]))
        wrong = self.found.wrong
        wrong += [f"{name}: sent, and no open row" for name in self._opened if not opens[name]]
        wrong += [f"{name}: {times} open rows" for name, times in opens.items() if times > 1]
        wrong += [f"{name}: no end" for name in opens if name not in ends]
        wrong += [f"{name}: {len(states)} ends: {states}" for name, states in ends.items() if len(states) > 1]
        wrong += [f"{name}: an end without a beginning" for name in ends if name not in opens]
        wrong += [
            f"{name}: its caller had the answer, and it is {ends.get(name)}"
            for name in self._ended
            if ends.get(name, ["settled"])[0] != "settled"
        ]
        for states in ends.values():
            self.found.counts[states[0]] += 1
        self.found.counts["attempts"] += len(opens)
        self.found.counts["told as sent"] += len(self._opened)
        self.found.counts["parts of journals"] += len(parts)
        self._opened.clear()
        self._ended.clear()
        shutil.rmtree(self._data)
        self._places += 1
        self._data = self._home / str(self._places)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sync", default="group", choices=("group", "always", "interval"))
    parser.add_argument("--cycles", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broken", default="", choices=tuple(BROKEN))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="coe-writers-") as home:
        found = Killing(Path(home), asked.sync, asked.seed, asked.broken).run(asked.cycles)
    sys.stdout.write(json.dumps({"counts": found.counts, "wrong": found.wrong}) + "\n")
    return int(bool(found.wrong))


if __name__ == "__main__":
    sys.exit(main())
