"""Several worker processes behind one port: started, watched, renewed, stopped together.

Where on the path: `coe serve --workers N`. The parent has checked everything, owns the data directory and holds the
bound socket; each worker is the same command again, given that socket. Each has its own journal segment; one of them
fills the index, another takes over when it dies.

Invariants
1. A worker that dies is replaced, after a pause that grows while they keep dying. When nobody is left who answers, and
   they died `RESTARTS_MAX` times within `RESTARTS_S`, the whole router ends.
2. A worker never outlives its parent: it holds the read end of a pipe whose write end dies with the parent.
3. SIGTERM and SIGINT stop all workers gracefully; SIGHUP reaches each of them as soon as it answers.
4. SIGUSR2 renews them one after the other: one that answers is told to end only when the new one in its place does. As
   the socket is the parent's, nobody who connects meanwhile is turned away. A new one that does not come up ends it.
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
from dataclasses import dataclass
from typing import Final

from service import telemetry
from service.cli.exits import EX_UNAVAILABLE

RESTARTS_MAX: Final = 5
RESTARTS_S: Final = 60.0

PAUSE_S: Final = 0.1
PAUSE_S_MAX: Final = 10.0
"""Before a worker is replaced: twice as long for each death of late."""

READY_S: Final = 60.0
"""A new worker that does not answer after so long never will; it takes a second or two."""

SETTLE_S: Final = 10.0
"""What a worker gets beyond its own grace, so that nobody is killed while it still settles."""

_POLL_S: Final = 0.1


@dataclass(slots=True)
class _Worker:
    """A process, and the pipe in which it says that it answers. `due`: when it is to have done so, or to have ended.

    `reloads`: the registry is to be read again once it answers, for it may have read it before it was written.
    """

    process: subprocess.Popen[bytes]
    ready: int
    due: float
    answers: bool = False
    reloads: bool = False

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def look(self) -> None:
        """See whether it has said that it answers."""
        if not self.answers and self.ready >= 0:
            try:
                self.answers = os.read(self.ready, 1) != b""
            except BlockingIOError:
                return
            os.close(self.ready)
            self.ready = -1
        if self.answers and self.reloads:
            self.reload()

    def reload(self) -> None:
        """Tell it to read the registry again. Before it answers the signal would end it."""
        self.reloads = not self.answers
        if self.answers and self.is_alive():
            self.process.send_signal(signal.SIGHUP)

    def end(self) -> None:
        """Let go of what was held for it, once it has ended."""
        if self.ready >= 0:
            os.close(self.ready)
            self.ready = -1


class Workers:
    """The workers of one router."""

    def __init__(self, arguments: Sequence[str], count: int, listener: socket.socket, drain_s: float) -> None:
        """`arguments` follow `coe serve` in each worker; the socket and the pipes are added.

        `drain_s` is how long a worker that is told to end may go on.
        """
        self._arguments = tuple(arguments)
        self._count = count
        self._listener = listener
        self._alive, self._life = os.pipe()
        os.set_inheritable(self._life, False)  # a worker must not keep its parent's pipe open
        self._running: list[_Worker] = []
        self._old: deque[_Worker] = deque()  # those whose successors are still to come
        self._new: _Worker | None = None
        self._leaving: list[_Worker] = []
        self._deaths: deque[float] = deque()
        self._paused_until = 0.0
        self._stop_s = drain_s + SETTLE_S
        self._asked: deque[int] = deque()
        self._stopping = False

    def run(self) -> int:
        """Start, watch until told to stop, and return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            # Noted only: in the middle of a start, or of a change of the lists, nothing could be done right.
            signal.signal(number, lambda asked, _: self._asked.append(asked))
        code = 0
        while not self._stopping:
            code = self._replace_the_dead()
            for worker in self._all():
                worker.look()
            self._do_what_was_asked()
            if code:
                self._stop()
            self._go_on_renewing()
            self._see_off()
            if not self._stopping:
                time.sleep(_POLL_S)
        return code if self._wait() else EX_UNAVAILABLE

    def _do_what_was_asked(self) -> None:
        while self._asked:
            number = self._asked.popleft()
            if number == signal.SIGHUP:
                for worker in self._all():
                    worker.reload()
            elif number == signal.SIGUSR2:
                self._old = deque(self._running)
            else:
                self._stop()

    def _start(self) -> _Worker:
        descriptor = self._listener.fileno()
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        command = [sys.executable, "-m", "service", "serve", *self._arguments]
        command += [
            "--worker-socket",
            str(descriptor),
            "--worker-life",
            str(self._alive),
            "--worker-ready",
            str(writing),
        ]
        process = subprocess.Popen(command, pass_fds=(descriptor, self._alive, writing))  # noqa: S603 # our own command
        os.close(writing)
        return _Worker(process, reading, time.monotonic() + READY_S)

    def _replace_the_dead(self) -> int:
        """0, or the exit code when nobody answers any more and those who are started die."""
        dead = [worker for worker in self._running if not worker.is_alive()]
        for worker in dead:
            self._running.remove(worker)
            if worker in self._old:
                self._old.remove(worker)
            worker.end()
            now = time.monotonic()
            self._deaths.append(now)
            while self._deaths[0] < now - RESTARTS_S:
                self._deaths.popleft()
            self._paused_until = now + min(PAUSE_S * 2 ** (len(self._deaths) - 1), PAUSE_S_MAX)
            telemetry.logger().error(telemetry.WORKER_DIED, pid=worker.process.pid, code=worker.process.returncode)
            if len(self._deaths) > RESTARTS_MAX and not any(one.answers for one in self._running):
                return worker.process.returncode if worker.process.returncode > 0 else EX_UNAVAILABLE
        if time.monotonic() >= self._paused_until and not self._stopping:
            while len(self._running) < self._count:
                self._running.append(self._start())
        return 0

    def _go_on_renewing(self) -> None:
        """One step: start a new one, or let it take the place of an old one, or give up."""
        new = self._new
        if self._stopping or (new is None and not self._old):
            return
        if new is None:
            self._new = self._start()
            return
        new.look()
        if new.answers:
            self._new = None
            self._running.append(new)
            if self._old:
                self._retire(self._old.popleft())
            elif len(self._running) > self._count:
                self._retire(self._running[0])  # the one it was for has died meanwhile, and was replaced
            if not self._old:
                telemetry.logger().info(telemetry.WORKERS_RENEWED, workers=len(self._running))
        elif not new.is_alive() or time.monotonic() > new.due:
            reason = (
                f"a new worker ended with {new.process.poll()}" if not new.is_alive() else "a new worker is too slow"
            )
            new.process.kill()
            new.process.wait()
            new.end()
            self._new = None
            self._old.clear()
            telemetry.logger().error(telemetry.RENEWAL_FAILED, reason=reason)

    def _retire(self, worker: _Worker) -> None:
        """Tell a worker to end: what runs in it ends well, and the others have taken its place."""
        self._running.remove(worker)
        worker.process.terminate()
        worker.due = time.monotonic() + self._stop_s
        self._leaving.append(worker)

    def _see_off(self) -> None:
        """Let go of those who were told to end and did, and end those who don't."""
        for worker in tuple(self._leaving):
            if worker.is_alive() and time.monotonic() > worker.due:
                _kill(worker)
            if not worker.is_alive():
                worker.end()
                self._leaving.remove(worker)

    def _stop(self) -> None:
        self._stopping = True
        self._tell(signal.SIGTERM)

    def _all(self) -> list[_Worker]:
        return [*self._running, *self._leaving, *([] if self._new is None else [self._new])]

    def _tell(self, number: signal.Signals) -> None:
        for worker in self._all():
            if worker.is_alive():
                worker.process.send_signal(number)

    def _wait(self) -> bool:
        """Wait for all of them; whether nobody had to be killed."""
        due, well = time.monotonic() + self._stop_s, True
        for worker in self._all():
            try:
                worker.process.wait(max(0.0, due - time.monotonic()))
            except subprocess.TimeoutExpired:
                _kill(worker)
                well = False
            worker.end()
        return well


def _kill(worker: _Worker) -> None:
    """End a worker that does not end by itself. What it left open the next start closes."""
    worker.process.kill()
    worker.process.wait()
    telemetry.logger().error(telemetry.WORKER_DIED, pid=worker.process.pid, code=worker.process.returncode)
