"""Room kept in reserve for the end of running attempts when the disk is full or gone read-only.

Where on the path: `writer` creates one per process and turns to it only when a segment refuses a terminal row.

The file is written full of zeros at start, so that later writes go to blocks that the file already owns. File systems
that never overwrite in place (btrfs, ZFS) make no such promise: keep the data directory on another one.

Invariants
1. Lines are the journal's own, one after the other from byte 0; the first zero byte ends them.
2. A line is in the spill whole and on disk before `append` returns, or not at all as far as a reader can tell.
3. What was spilled stays until it is on disk in a segment; only then is it wiped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.errors import LedgerUnavailable
from service.ledger.lines import Line, LineError, decode
from service.ledger.segments import create_locked, write_at

SPILL_BYTES = 1 << 20
"""Enough for the ends of about 1,500 attempts: more than a worker runs at a time."""

FULL = (
    "The ledger can't be written, nor its reserve. The attempt will be booked at its reservation when the router "
    "starts again; the operator must make room on its disk."
)


@dataclass(slots=True)
class Spill:
    """An open spill. `lines` are those not yet in a segment; `used_bytes` counts all that were written."""

    path: Path
    fd: int
    size_bytes: int
    used_bytes: int
    lines: list[bytes]

    @classmethod
    def create(cls, path: Path, size_bytes: int = SPILL_BYTES) -> Spill:
        """A new, empty, locked spill of `size_bytes`; raises OSError."""
        return cls(path, create_locked(path, bytes(size_bytes)), size_bytes, 0, [])

    def append(self, line: bytes) -> None:
        """Write one line in place and force it to disk; raises LedgerUnavailable when there is no room or no disk."""
        if self.used_bytes + len(line) > self.size_bytes:
            raise LedgerUnavailable(FULL)
        try:
            # The zero ends the list anew: an append that failed half-way may have left bytes further on.
            write_at(self.fd, (line + b"\0")[: self.size_bytes - self.used_bytes], self.used_bytes)
            os.fdatasync(self.fd)
        except OSError as error:
            raise LedgerUnavailable(FULL) from error
        self.used_bytes += len(line)
        self.lines.append(line)

    def wipe(self) -> None:
        """Forget every line, durably. For when all of them are on disk elsewhere; raises OSError."""
        write_at(self.fd, bytes(self.used_bytes), 0)
        os.fdatasync(self.fd)
        self.used_bytes = 0
        self.lines.clear()


def spilled_lines(path: Path) -> Iterator[tuple[bytes, Line | LineError]]:
    """Each line of a spill with its bytes (newline included), or the reason why it can't be trusted; raises OSError."""
    content = path.read_bytes()
    end = content.find(b"\0")
    *whole, torn = content[: end if end >= 0 else len(content)].split(b"\n")
    for raw in whole:
        try:
            yield raw + b"\n", decode(raw)
        except LineError as error:
            yield raw, error
    if torn:
        yield torn, LineError("torn at its end")
