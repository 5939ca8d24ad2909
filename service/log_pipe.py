"""Standard error, or standard output, as a stream that never holds anybody up.

Where on the path: below `telemetry`, which writes every line of both logs through it.

Who reads a log may be slow, or stand still: then a pipe is full, and a plain write would wait in the event loop until
somebody reads. Nothing but the log would be at fault for requests that hang.

Invariants
1. `write` and `flush` never wait and never raise. What can't be written yet is kept, `BACKLOG_BYTES` at most.
2. Whole lines are dropped, never parts of one, and counted; the next line that is kept is led in by the count. Lines of
   several processes on one pipe don't mix, up to the 4 KiB that a pipe takes as one.
3. The flags of the descriptor that was inherited are left alone: a shell or a parent shares them.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

BACKLOG_BYTES: Final = 4 << 20
"""Some ten thousand lines: seconds of a busy router, for a reader that does not keep up for a moment."""

STDOUT: Final = 1
STDERR: Final = 2

Put = Callable[[bytes], int]
"""Hands bytes over without waiting and returns how many were taken; raises BlockingIOError, or OSError for ever."""


class LogPipe:
    """One per process and descriptor. `lead_in` makes the line that tells how many were dropped."""

    def __init__(
        self, lead_in: Callable[[int], str], backlog_bytes: int = BACKLOG_BYTES, descriptor: int = STDERR
    ) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._lead_in = lead_in
        self._most = backlog_bytes
        self._kept = bytearray()
        self._untold = 0
        self._turn = threading.Lock()
        self._put: Put | None = None
        self._dropped_at: float | None = None
        self._led = 0  # lines of ours among those that are kept

    def write(self, text: str) -> None:
        """Write whole lines, now or later."""
        ours = (sys.stdout, sys.__stdout__) if self._descriptor == STDOUT else (sys.stderr, sys.__stderr__)
        if ours[0] is not ours[1]:
            with contextlib.suppress(OSError, ValueError):  # somebody put a stream of their own there: it is theirs
                ours[0].write(text)
            return
        with self._turn:
            self._hand_over()
            line = text.encode("utf-8", "backslashreplace")
            led = self._lead_in(self._untold).encode() if self._untold else b""
            if len(self._kept) + len(led) + len(line) > self._most:
                self._drop(text.count("\n"))
                return
            line = led + line
            self._led += bool(led)
            self._untold = 0
            self._kept += line
            self._hand_over()

    def flush(self) -> None:
        """Write what is kept, as far as that goes without waiting."""
        if self._kept:
            with self._turn:
                self._hand_over()

    def drain(self, timeout_s: float) -> None:
        """At the end of a process: wait so long for whoever reads."""
        due = time.monotonic() + timeout_s
        while self._kept and (left_s := due - time.monotonic()) > 0:
            with contextlib.suppress(OSError, ValueError):
                select.select([], [self._descriptor], [], left_s)
            self.flush()

    def drops(self, within_s: float) -> bool:
        """Whether a line was dropped in the last so many seconds."""
        return self._dropped_at is not None and time.monotonic() - self._dropped_at < within_s

    def _hand_over(self) -> None:
        while self._kept:
            try:
                if self._put is None:
                    self._put = without_waiting(self._descriptor)
                taken = self._put(bytes(self._kept[: self._whole()]))
            except BlockingIOError:
                return
            except OSError:
                # Closed, or on a disk that is full: nobody gets these any more.
                self._drop(self._kept.count(b"\n") - self._led)
                self._kept.clear()
            else:
                del self._kept[:taken]
            if not self._kept:
                self._led = 0

    def _whole(self) -> int:
        """How much to hand over at once: whole lines, as many as a pipe takes without another's lines in between."""
        end = self._kept.rfind(b"\n", 0, select.PIPE_BUF) + 1
        return end or self._kept.find(b"\n") + 1 or len(self._kept)

    def _drop(self, lines: int) -> None:
        self.dropped += lines
        self._untold += lines
        self._dropped_at = time.monotonic()


def without_waiting(descriptor: int) -> Put:
    """How bytes get to a descriptor without waiting for whoever reads it; raises OSError when it is closed."""
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(kind):
        shared = socket.socket(fileno=os.dup(descriptor))
        return lambda content: shared.send(content, socket.MSG_DONTWAIT)
    if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
        with contextlib.suppress(OSError):  # no such directory on this system: then it is looked at before each write
            # Opened again, it has flags of its own.
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
            own = os.open(f"/proc/self/fd/{descriptor}", flags)
            return lambda content: os.write(own, content)
    if stat.S_ISREG(kind):
        return lambda content: os.write(descriptor, content)
    return lambda content: _when_writable(descriptor, content)


def _when_writable(descriptor: int, content: bytes) -> int:
    """Where it can't be opened again: so much as a descriptor that is writable takes at once.

    A terminal with less room than that does not quite promise it.
    """
    if not select.select([], [descriptor], [], 0)[1]:
        raise BlockingIOError
    return os.write(descriptor, content[: select.PIPE_BUF])
