"""The stand that gateways are measured on: which cores, which processes, how much time and memory they took.

Invariants
1. Every process started here is the head of a process group of its own and ends with `Stand`: on success, on an
   error, on Ctrl-C and on SIGTERM. Nothing else on the machine is ever signalled.
2. Processor time and memory are those of a process and all its descendants, from /proc.
3. Everything listens on loopback.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
LOOPBACK = "127.0.0.1"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
START_S = 15.0
STOP_S = 15.0
POLL_S = 0.01
QUIET_S = 3.0
QUIET_POLL_S = 0.25
QUIET_SHARE = 0.1
"""A process that takes less of a core than this is at rest."""

LOG_SHOWN_CHARACTERS = 1_500
OPEN_FILES = 16_384

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Asks loopback itself, whatever proxy the environment names."""


class NotStarted(RuntimeError):
    """A process did not come up; the message has the end of what it said."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The core that the gateway gets alone, and those of everything else. The same one when there is only one."""

    gateway: str
    rest: str

    @classmethod
    def of_this_machine(cls) -> Cores:
        """The first core that we may use, and the others."""
        mine = [str(core) for core in sorted(os.sched_getaffinity(0))]
        return cls(mine[0], ",".join(mine[1:]) or mine[0])


@dataclass(slots=True)
class Running:
    """A process of ours. `ready_s` is how long it took from its start to its first sign of life."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    begun: float = field(default_factory=time.monotonic)
    ready_s: float = 0.0

    def tree(self) -> list[int]:
        """The ids of the process and of its descendants."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (fields := _stat(entry)) is not None:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
        found, waiting = [], [self.process.pid]
        while waiting:
            one = waiting.pop()
            found.append(one)
            waiting += children.get(one, [])
        return found

    def cpu_s(self) -> float:
        """Seconds of processor time so far, user and system, in steps of a clock tick (10 ms as a rule)."""
        taken = 0
        for one in self.tree():
            fields = _stat(Path("/proc") / str(one))
            taken += int(fields[11]) + int(fields[12]) if fields is not None else 0
        return taken / TICKS_PER_S

    def quiet_cpu_s(self) -> float:
        """The same once it works no more, or after `QUIET_S`: what was put off (a ledger, garbage) is work as well."""
        due, taken = time.monotonic() + QUIET_S, self.cpu_s()
        while time.monotonic() < due:
            time.sleep(QUIET_POLL_S)
            before, taken = taken, self.cpu_s()
            if taken - before <= QUIET_SHARE * QUIET_POLL_S:
                break
        return taken

    def rss_mib(self) -> float:
        """Resident memory, in MiB. Pages that two of its processes share count twice."""
        pages = 0
        for one in self.tree():
            fields = _stat(Path("/proc") / str(one))
            pages += int(fields[21]) if fields is not None else 0
        return pages * PAGE_BYTES / 2**20

    def said(self) -> str:
        """The end of what it wrote."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-LOG_SHOWN_CHARACTERS:]

    def stop(self) -> None:
        """SIGTERM to its group, and SIGKILL to what is left after `STOP_S`."""
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        self._signal(signal.SIGKILL)
        self.process.wait(STOP_S)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


@dataclass(slots=True)
class Stand:
    """A scratch directory and the processes that end with it."""

    cores: Cores = field(default_factory=Cores.of_this_machine)
    home: Path = field(init=False)
    _running: list[Running] = field(default_factory=list)
    _scratch: tempfile.TemporaryDirectory[str] = field(init=False)

    def __enter__(self) -> Self:
        """Make the directory; SIGTERM and SIGHUP unwind as Ctrl-C does."""
        self._scratch = tempfile.TemporaryDirectory(prefix="coe-bench-")
        self.home = Path(self._scratch.name)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        _make_room()
        return self

    def __exit__(self, *_: object) -> None:
        """End everything; a second Ctrl-C doesn't stop that."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for one in reversed(self._running):
            one.stop()
        self._running.clear()
        self._scratch.cleanup()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        cores: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Running:
        """A process on `cores`, with a clean environment and its output in a file."""
        log = self.home / f"{name}.{len(list(self.home.iterdir()))}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(  # noqa: S603 # commands of our own
                ["taskset", "-c", cores, *command],  # noqa: S607 # found on PATH, as every tool here
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=clean_environment(self.home, **(env or {})),
                cwd=cwd or self.home,
                start_new_session=True,
            )
        running = Running(name, process, log)
        self._running.append(running)
        return running

    def stop(self, one: Running) -> None:
        """End one of them now."""
        one.stop()
        self._running.remove(one)

    def upstream(self) -> tuple[Running, str]:
        """The scripted vendor and its root URL."""
        running = self.start("upstream", [sys.executable, str(HERE / "upstream.py")], cores=self.cores.rest)
        port = line_of(running, "listening ", START_S)
        return running, f"http://{LOOPBACK}:{port}"


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """What a child gets: enough to run, nothing that configures it, no proxy, no key."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    return {**kept, "HOME": str(home), "TMPDIR": str(home), "PYTHONUNBUFFERED": "1", **more}


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def line_of(running: Running, prefix: str, timeout_s: float) -> str:
    """What follows `prefix` in the first whole line that begins with it; sets `ready_s`. Raises NotStarted."""
    for _ in _until(running, timeout_s):
        whole = running.log.read_text(encoding="utf-8", errors="replace").rpartition("\n")[0]
        for line in whole.splitlines():
            if line.startswith(prefix):
                running.ready_s = time.monotonic() - running.begun
                return line.removeprefix(prefix)
    raise NotStarted(f"it did not say {prefix!r} in {timeout_s:g} s: {running.said()}")


def wait_until_ready(running: Running, url: str, timeout_s: float) -> None:
    """Wait for any answer with status 200 from `url`; sets `ready_s`. Raises NotStarted."""
    for _ in _until(running, timeout_s):
        try:
            with DIRECT.open(url, timeout=2) as answer:
                if answer.status == 200:
                    running.ready_s = time.monotonic() - running.begun
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
    raise NotStarted(f"it did not answer in {timeout_s:g} s: {running.said()}")


def others_share(over_s: float = 1.0) -> float:
    """The share of the whole machine that others take, while nothing of ours works; 1.0 is every core."""
    idle, whole, _ = _machine()
    time.sleep(over_s)
    idle_then, whole_then, _ = _machine()
    return 1 - (idle_then - idle) / max(1, whole_then - whole)


def stolen_s() -> float:
    """Seconds that the hypervisor gave to others, over all cores, since the machine started."""
    return _machine()[2] / TICKS_PER_S


def _machine() -> tuple[int, int, int]:
    """Ticks of all cores since the start: idle, all, stolen."""
    ticks = [int(field) for field in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks), ticks[7]


def set_pace(upstream_url: str, *, chunks: int = 64, delay_ms: float = 0) -> None:
    """How streams of the scripted vendor come from now on."""
    request = urllib.request.Request(  # noqa: S310 # our own loopback address
        f"{upstream_url}/pace?chunks={chunks}&delay_ms={delay_ms}", method="PUT"
    )
    with DIRECT.open(request, timeout=5):
        pass


def _until(running: Running, timeout_s: float) -> Iterator[None]:
    """Turns of waiting for a process, until it ended or the time is over."""
    due = time.monotonic() + timeout_s
    while time.monotonic() < due and running.process.poll() is None:
        yield
        time.sleep(POLL_S)


def _stat(process: Path) -> list[str] | None:
    """The fields of /proc/<id>/stat after the name (the first is the state), or None when it is gone."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _make_room() -> None:
    """Many open streams need many descriptors, here and in the children."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(f"signal {number}")
