"""What only a process itself knows of its memory, added to the file `INSIDE` as a line of JSON at each SIGUSR1.

`used`: bytes that Python's own allocator and the C library have handed out and not got back. What the kernel counts says
less: memory that is free again, but not given back, takes a leak in without a sign.

With `INSIDE_RINGS` instead, `rings`: what was left behind in a ring since the start, by type. Only the collector frees
such objects, and it comes late. `INSIDE_RINGS=control` leaves one behind with each connection to a vendor.

Python runs a `sitecustomize` that it finds on its path before anything else.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

INSIDE = os.environ.get("INSIDE", "")
RINGS = os.environ.get("INSIDE_RINGS", "")
_FIELDS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class MallInfo(ctypes.Structure):
    """`struct mallinfo2` of the GNU C library."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _FIELDS)


def _of_python() -> int:
    """Bytes in blocks of Python's allocator, which tells them to standard error only."""
    with tempfile.TemporaryFile() as told:
        kept = os.dup(2)
        os.dup2(told.fileno(), 2)
        try:
            sys._debugmallocstats()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        told.seek(0)
        found = re.search(rb"# bytes in allocated blocks +=\s*([\d,]+)", told.read())
    return int(found[1].replace(b",", b"")) if found else 0


def _of_library() -> int:
    """Bytes that `malloc` has handed out; none where the C library is another one."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return 0
    mallinfo.restype = MallInfo
    found = mallinfo()
    return int(found.uordblks + found.hblkhd)


def _told() -> dict[str, Any]:
    if not RINGS:
        return {"used": _of_python() + _of_library()}
    gc.collect()
    return {"rings": Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)}


def _tell(*_: object) -> None:
    line = json.dumps(_told())
    with Path(INSIDE).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def _keep_rings() -> None:
    """From now on what was in a ring is kept: what the start left behind is none of anybody's."""
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)


def _prepare() -> None:
    from service import house  # nothing of the service where nobody asked for it
    from service.upstream.native_connection import Connection  # as above

    opened, lost = house.House.open, Connection.connection_lost

    async def keeping(self: Any) -> None:
        await opened(self)
        _keep_rings()

    def ringed(self: Any, problem: Exception | None) -> None:
        lost(self, problem)
        self.itself = self

    house.House.open = keeping  # type: ignore[method-assign]
    if RINGS == "control":
        Connection.connection_lost = ringed  # type: ignore[method-assign]


if INSIDE:
    signal.signal(signal.SIGUSR1, _tell)
    if RINGS:
        _prepare()
