"""Several worker processes behind one port: started, watched, stopped together.

Where on the path: `coe serve --workers N`. The parent has checked everything, owns the data directory and holds the
bound socket; each worker is the same command again, given that socket. Each has its own journal segment; one of them
fills the index, another takes over when it dies.

Invariants
1. A worker that dies is replaced; one that dies `RESTARTS_MAX` times within `RESTARTS_S` ends the whole router.
2. A worker never outlives its parent: it holds the read end of a pipe whose write end dies with the parent.
3. SIGTERM and SIGINT stop all workers gracefully; SIGHUP reaches each of them.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence

from service.cli.exits import EX_UNAVAILABLE

RESTARTS_MAX = 5
RESTARTS_S = 60.0

STOP_S = 40.0
"""Longer than a worker's own grace, so that nobody is killed while it still settles."""

_POLL_S = 0.1


class Workers:
    """The workers of one router."""

    def __init__(self, arguments: Sequence[str], count: int, listener: socket.socket) -> None:
        """`arguments` follow `coe serve` in each worker; the socket and the pipe are added."""
        self._arguments = tuple(arguments)
        self._count = count
        self._listener = listener
        self._alive, self._life = os.pipe()
        os.set_inheritable(self._life, False)  # a worker must not keep its parent's pipe open
        self._running: list[subprocess.Popen[bytes]] = []
        self._deaths: deque[float] = deque()
        self._stopping = False

    def run(self) -> int:
        """Start, watch until told to stop, and return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        signal.signal(signal.SIGHUP, lambda *_: self._tell(signal.SIGHUP))
        self._running = [self._start() for _ in range(self._count)]
        code = 0
        while self._running and not self._stopping:
            time.sleep(_POLL_S)
            code = self._replace_the_dead()
            if code:
                self._stop()
        self._wait()
        return code

    def _start(self) -> subprocess.Popen[bytes]:
        descriptor = self._listener.fileno()
        command = [sys.executable, "-m", "service", "serve", *self._arguments]
        command += ["--worker-socket", str(descriptor), "--worker-life", str(self._alive)]
        return subprocess.Popen(command, pass_fds=(descriptor, self._alive))  # noqa: S603 # our own command line

    def _replace_the_dead(self) -> int:
        """0, or the exit code when workers die faster than they can be replaced."""
        for index, worker in enumerate(self._running):
            if worker.poll() is None or self._stopping:
                continue
            now = time.monotonic()
            self._deaths.append(now)
            while self._deaths and self._deaths[0] < now - RESTARTS_S:
                self._deaths.popleft()
            if len(self._deaths) > RESTARTS_MAX:
                return worker.returncode if worker.returncode > 0 else EX_UNAVAILABLE
            self._running[index] = self._start()
        return 0

    def _stop(self) -> None:
        self._stopping = True
        self._tell(signal.SIGTERM)

    def _tell(self, number: signal.Signals) -> None:
        for worker in self._running:
            if worker.poll() is None:
                worker.send_signal(number)

    def _wait(self) -> None:
        due = time.monotonic() + STOP_S
        for worker in self._running:
            try:
                worker.wait(max(0.0, due - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
