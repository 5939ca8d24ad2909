"""Points at which the router dies, fails or waits on purpose: for tests of what has to survive that.

    COE_FAILPOINT=after_open:kill         the first time that a request gets there
    COE_FAILPOINT=before_fsync:error@17   the 17th time, and never again
    COE_FAILPOINT=mid_write:sleep         half a second, each time

Where on the path: nowhere. Only when the setting is there does `app.build` hand the finished house to `arm`, which puts
itself around the one method of the point. Without it there is nothing to skip.

Invariants
1. A point or an action that is not in the tables stops the start: a test that arms nothing would prove nothing.
2. `error` raises what the method may really raise there, so that what follows is what would follow.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from service.errors import ConfigurationError, LedgerUnavailable
from service.house import House
from service.ledger import segments
from service.ledger.writer import REFUSAL

SLEEP_S: Final = 0.5
"""Longer than any of these steps takes, short enough for a test."""

ACTIONS: Final = ("kill", "error", "sleep")

_SPEC: Final = re.compile(r"(?P<point>[a-z_]+):(?P<action>[a-z]+)(?:@(?P<turn>[1-9][0-9]{0,8}))?")

Act = Callable[[Exception], None]
"""What a point calls with the error that may happen there."""


@dataclass(slots=True)
class Failpoint:
    """A point, what happens there, and in which turn (`None`: the first for what can happen once, else each)."""

    point: str
    action: str
    turn: int | None = None
    _count: int = field(default=0, init=False)

    def act(self, error: Exception) -> None:
        """Be killed, raise `error`, or wait, when it is the turn."""
        self._count += 1
        turn = self.turn if self.turn is not None or self.action == "sleep" else 1
        if turn is not None and self._count != turn:
            return
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.action == "error":
            raise error
        else:
            time.sleep(SLEEP_S)


def parse(spec: str) -> Failpoint:
    """The failpoint that a setting names; raises ConfigurationError."""
    found = _SPEC.fullmatch(spec)
    if found is None or found["point"] not in POINTS or found["action"] not in ACTIONS:
        raise ConfigurationError(
            f"COE_FAILPOINT={spec!r} is none: give point:action or point:action@turn, where a point is one of "
            f"{', '.join(POINTS)} and an action one of {', '.join(ACTIONS)}; unset it to serve"
        )
    return Failpoint(found["point"], found["action"], int(found["turn"]) if found["turn"] else None)


def arm(failpoint: Failpoint, house: House) -> None:
    """Put a failpoint where it belongs."""
    POINTS[failpoint.point](house, failpoint.act)


def _after_open(house: House, act: Act) -> None:
    """The intent to spend is as durable as promised, and nothing was sent."""
    real = house.journal.append_open

    async def append_open(entry: Any) -> None:  # noqa: ANN401 # whatever the journal takes
        await real(entry)
        act(LedgerUnavailable(REFUSAL))

    _replace(house.journal, "append_open", append_open)


def _before_settle(house: House, act: Act) -> None:
    """The answer is there and paid, and its end is not written."""
    real = house.journal.terminal_at_once

    def terminal_at_once(entry: Any) -> bool:  # noqa: ANN401 # whatever the journal takes
        act(LedgerUnavailable(REFUSAL))
        return real(entry)

    _replace(house.journal, "terminal_at_once", terminal_at_once)


def _after_settle(house: House, act: Act) -> None:
    """Its end is written, and the caller may not have the last of it."""
    at_once, later = house.journal.terminal_at_once, house.journal.append_terminal

    def terminal_at_once(entry: Any) -> bool:  # noqa: ANN401 # whatever the journal takes
        written = at_once(entry)
        if written:
            act(LedgerUnavailable(REFUSAL))
        return written

    async def append_terminal(entry: Any) -> None:  # noqa: ANN401 # whatever the journal takes
        await later(entry)
        act(LedgerUnavailable(REFUSAL))

    _replace(house.journal, "terminal_at_once", terminal_at_once)
    _replace(house.journal, "append_terminal", append_terminal)


def _mid_write(_: House, act: Act) -> None:
    """Half of an attempt's row is with the kernel: an open row with its decision, or an end."""
    real = segments.write_at

    def write_at(descriptor: int, content: bytes, offset: int) -> None:
        if b'"attempt_id":' not in content:
            real(descriptor, content, offset)
            return
        half = len(content) // 2
        real(descriptor, content[:half], offset)
        act(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        real(descriptor, content[half:], offset + half)

    _replace(segments, "write_at", write_at)


def _before_fsync(house: House, act: Act) -> None:
    """Rows are with the kernel and not on disk."""
    syncer = house.journal.writer.syncer
    real = syncer.force

    def force(descriptor: int) -> None:
        act(OSError(errno.EIO, os.strerror(errno.EIO)))
        real(descriptor)

    _replace(syncer, "force", force)


def _in_recovery(_: House, act: Act) -> None:
    """The ends of a dead process are written, and the mark that says so is not."""
    real = segments.mark_swept

    def mark_swept(*given: Any) -> None:  # noqa: ANN401 # whatever it takes
        act(OSError(errno.EIO, os.strerror(errno.EIO)))
        real(*given)

    _replace(segments, "mark_swept", mark_swept)


def _in_reload(house: House, act: Act) -> None:
    """Another registry is in place, and nobody was told to forget the old one."""
    attempting = house.pipeline.attempting
    real = attempting.forget

    def forget() -> None:
        act(ConfigurationError("a failpoint"))
        real()

    _replace(attempting, "forget", forget)


POINTS: Final[Mapping[str, Callable[[House, Act], None]]] = MappingProxyType(
    {
        "after_open": _after_open,
        "before_settle": _before_settle,
        "after_settle": _after_settle,
        "mid_write": _mid_write,
        "before_fsync": _before_fsync,
        "in_recovery": _in_recovery,
        "in_reload": _in_reload,
    }
)
"""Every point by its name. Each one's docstring says where it is; tests/contract/test_failpoints.py walks them all."""


def _replace(owner: object, name: str, value: object) -> None:
    """Put `value` in the place of a method or function: the one thing that this module is for."""
    setattr(owner, name, value)
