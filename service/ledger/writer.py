"""The journal's writer: the append-only segments of one process, written by one thread. The truth about money.

Where on the path: step 6 (`open`, before the first upstream byte) and step 9 (`terminal`) of the one path, through
`journal.Journal`. Recovery writes through it at start.

Invariants
1. A row is handed to the kernel in one write of whole lines before its method returns: a crash of ours loses none.
   Only a decision waits for the row after it: its own `open` row, or the end of a request that opened nothing.
2. A segment never holds half a line followed by another: what the kernel took only in part is cut off again.
3. Each attempt opened here gets exactly one terminal row; a second one, or one without an open, raises.
4. No open row is accepted that can't be written. A terminal row that can't be written goes to the spill.
5. After a failed sync no row goes to that segment any more: its pages may be gone, so the next part begins.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from service import telemetry
from service.domain.decision import OpenEntry, TerminalEntry
from service.errors import ConfigurationError, LedgerUnavailable
from service.ledger import segments
from service.ledger.lines import encode
from service.ledger.rows import check_decision, open_body, terminal_body
from service.ledger.spill import SPILL_BYTES, Spill
from service.ledger.syncing import Done, Syncer

SyncMode = Literal["group", "always", "interval"]

GATHER_S: Mapping[SyncMode, float] = {"group": 0.005, "always": 0.0, "interval": 1.0}
"""Seconds of writes that share one sync: what a power cut may lose. In `always` a row waits for its sync instead."""

MAX_SEGMENT_BYTES = 64 << 20
"""About 60,000 requests: small enough to copy and to read whole, large enough that rotation is rare."""

PROBE_BYTES = 16 << 10
"""Room that must be there before rows are called possible again: for those of a few requests."""

REFUSAL = "The ledger can't be written, so nothing was spent. Try again later; the operator must make room on its disk."
"""What a caller reads. The cause is for the log and for `JournalStatus.reason`."""

_log = telemetry.logger()


class DataDirUnwritable(ConfigurationError):
    """The data directory can't be used; the message names it and says what to do."""


class EntryOrderError(RuntimeError):
    """A row out of order: a second open, a second terminal, or a terminal without an open. A defect of the caller."""


@dataclass(frozen=True, slots=True)
class JournalStatus:
    """How the journal is. `writable` is false from the first refused row until a row is accepted again."""

    writable: bool
    reason: str | None
    open_attempts: int
    spilled_rows: int
    failed_syncs: int


@dataclass(frozen=True, slots=True)
class _Directory:
    fd: int
    forgets: ClassVar[bool] = False  # names are in the file system's own journal


@dataclass(slots=True)
class _Segment:
    forgets: ClassVar[bool] = True
    fd: int
    path: Path
    part: int
    size_bytes: int


class JournalWriter:
    """One process's writer, without asyncio. Call it from one thread at a time; its syncer has a thread of its own."""

    def __init__(
        self,
        data_dir: Path,
        *,
        sync: SyncMode = "group",
        now_ms: Callable[[], int] | None = None,
        max_segment_bytes: int = MAX_SEGMENT_BYTES,
        spill_bytes: int = SPILL_BYTES,
    ) -> None:
        """`data_dir` holds the journal directory; `now_ms` is Unix milliseconds (default: the system's clock)."""
        if sync not in GATHER_S:
            raise ConfigurationError(f"journal sync mode {sync!r} is unknown; choose one of {', '.join(GATHER_S)}")
        self.sync = sync
        self.directory = segments.journal_dir(data_dir)
        self.now_ms = now_ms or _system_ms
        self.name = ""
        self._max_segment_bytes = max_segment_bytes
        self._spill_bytes = spill_bytes
        self._open: set[str] = set()
        self._segment: _Segment | None = None
        self._spill: Spill | None = None
        self._held = b""
        self._names: _Directory | None = None
        self.syncer = Syncer(GATHER_S[sync], self._sync_failed)
        self._suspect = False
        self._reason: str | None = None
        self._failed_syncs = 0

    def start(self) -> None:
        """Create the spill and the first segment; raises DataDirUnwritable when the directory can't be used."""
        if self.name:
            raise RuntimeError("a journal writer starts once; make a new one")
        self.name = segments.new_writer_name(self.now_ms())
        try:
            segments.make_private_dir(self.directory)
            # The spill comes first: its lock is the writer's sign of life over all its segments.
            self._spill = Spill.create(segments.spill_path(self.directory, self.name), self._spill_bytes)
            self._names = _Directory(os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC))
            self._segment = self._new_segment(0, sync=True)
        except OSError as error:
            self._abandon_start()
            raise DataDirUnwritable(
                f"the journal in {self.directory} can't be written ({error.strerror}); make room, give this user the "
                "right to write there, or set COE_DATA_DIR to another directory"
            ) from error
        self.syncer.start()

    def write_open(self, entry: OpenEntry, done: Done | None = None) -> None:
        """Write the intent to spend. `done` gets the outcome of its sync, from another thread.

        Raises LedgerUnavailable (nothing may be spent), EntryOrderError, or ValueError for a row that can't be stored.
        """
        if entry.attempt_id in self._open:
            raise EntryOrderError(f"attempt {entry.attempt_id} is open already; an attempt is opened once")
        line = encode("open", open_body(entry))
        self._append(self._taken() + line, done)
        self._open.add(entry.attempt_id)

    def write_terminal(self, entry: TerminalEntry, done: Done | None = None) -> None:
        """Write how an attempt ended, to the spill when no segment takes it. `done` as for `write_open`.

        Raises LedgerUnavailable when the spill can't take it either (the attempt stays open: recovery books it at its
        reservation), EntryOrderError, or ValueError.
        """
        if entry.attempt_id not in self._open:
            raise EntryOrderError(
                f"attempt {entry.attempt_id} has no open row here: it was never opened, or it has its terminal row "
                "already; each attempt gets exactly one"
            )
        line = encode("terminal", terminal_body(entry))
        try:
            self._append(line, done)
        except LedgerUnavailable:
            if self._spill is None:
                raise
            self._spill.append(line)
            if done is not None:
                done(None)
        self._open.discard(entry.attempt_id)

    def hold_decision(self, record: Mapping[str, object]) -> bytes:
        """Have a decision record, which must have an `id`, written with the next open row, and return its line.

        Raises LedgerUnavailable or ValueError. When that row can't be written, the record goes the same way.
        """
        check_decision(record)
        line = encode("decision", record)
        self.write_held()
        self._live()
        self._held = line
        return line

    def write_held(self) -> None:
        """Write the decision that waits, if there is one; raises LedgerUnavailable."""
        if self._held:
            self._append(self._taken(), None)

    def write_feedback(self, body: Mapping[str, object], done: Done | None = None) -> None:
        """Write what a caller says of an answer (`feedback.body_of`). `done` as for `write_open`.

        Raises LedgerUnavailable, or ValueError for what can't be stored.
        """
        self._append(encode("feedback", body), done)

    def _taken(self) -> bytes:
        """The decision that waits, which from now on does not."""
        line, self._held = self._held, b""
        return line

    def write_recovered(self, line: bytes) -> None:
        """Write a terminal line for an attempt of a dead writer. That it is the only one is recovery's to know."""
        self._append(line, None, keep=True)

    def sync_now(self) -> None:
        """Force every row of the current segment to disk, in any mode, and its name; raises LedgerUnavailable."""
        segment = self._live()
        try:
            os.fdatasync(segment.fd)
            if self._names is not None:
                os.fsync(self._names.fd)  # A part may have begun a moment ago: no name, no rows.
        except OSError as error:
            self._sync_failed(error)
            raise LedgerUnavailable(REFUSAL) from error

    def probe(self) -> None:
        """While rows are refused, see whether one could be written by now.

        A balancer sends no request to a router that is not ready, so no request would ever find out.
        """
        if self._reason is None or self._segment is None:
            return
        with contextlib.suppress(LedgerUnavailable):
            if self._spill is not None and self._spill.lines:
                self._drain(self._spill)
            self._try_room(self._rotate(self._segment) if self._suspect else self._segment)
            self._reason = None

    def status(self) -> JournalStatus:
        """How the journal is now."""
        return JournalStatus(
            writable=self._segment is not None and self._reason is None,
            reason=self._reason if self._segment is not None else "closed",
            open_attempts=len(self._open),
            spilled_rows=len(self._spill.lines) if self._spill is not None else 0,
            failed_syncs=self._failed_syncs,
        )

    def close(self) -> None:
        """Sync, release the locks and refuse every further row. Attempts still open are the next start's to close."""
        spill = self._spill
        if self._segment is None or spill is None:
            return
        with contextlib.suppress(LedgerUnavailable):  # Nothing was ever sent for it.
            self.write_held()
        if spill.lines:
            with contextlib.suppress(LedgerUnavailable):  # The spill stays on disk; the next start drains it.
                self._drain(spill)
        segment = self._live()  # Only now: either may have begun another part, and the former one is closed by others.
        self._segment = None
        self.syncer.stop()
        if not self._open and not spill.lines and not self._failed_syncs:
            try:
                segments.mark_swept(self.directory, self.name)
                spill.path.unlink(missing_ok=True)
            except OSError as error:
                _log.warning(telemetry.JOURNAL_TROUBLE, step="mark", error=error.strerror)
        self._spill = None
        os.close(segment.fd)
        os.close(spill.fd)
        self._close_directory()

    def _live(self) -> _Segment:
        if self._segment is None:
            raise LedgerUnavailable("The ledger is closed: the router is starting or stopping. Try again shortly.")
        return self._segment

    def _append(self, line: bytes, done: Done | None, *, keep: bool = False) -> None:
        if self._spill is not None and self._spill.lines:
            # First, so that a row is never refused after it was written.
            self._drain(self._spill)
        self._write(line, done, keep=keep)
        self._reason = None

    def _write(self, line: bytes, done: Done | None, *, keep: bool = False) -> None:
        """With `keep`, somebody relies on the `sync_now` that follows: a full part is forced before the next begins."""
        segment = self._live()
        if self._suspect or segment.size_bytes + len(line) > self._max_segment_bytes:
            if keep:
                self.sync_now()
            segment = self._rotate(segment)
        try:
            segments.write_at(segment.fd, line, segment.size_bytes)
        except OSError as error:
            self._refuse(error)
            self._cut_back(segment)
            raise LedgerUnavailable(REFUSAL) from error
        segment.size_bytes += len(line)
        self.syncer.mark(segment, done)

    def _try_room(self, segment: _Segment) -> None:
        """Write blanks behind the last row and cut them off again; raises LedgerUnavailable."""
        try:
            segments.write_at(segment.fd, b" " * PROBE_BYTES, segment.size_bytes)
        except OSError as error:
            self._refuse(error)
            raise LedgerUnavailable(REFUSAL) from error
        finally:
            self._cut_back(segment)

    def _cut_back(self, segment: _Segment) -> None:
        try:
            os.ftruncate(segment.fd, segment.size_bytes)
        except OSError as error:
            # Half a line may stand at its end: nothing may be written after it.
            self._suspect = True
            _log.warning(telemetry.JOURNAL_TROUBLE, step="cut", error=error.strerror)

    def _rotate(self, full: _Segment) -> _Segment:
        try:
            # Its header and name are synced in the background, before or with its first row: the caller's thread may be
            # an event loop, and a sync can take longer than that may stand still.
            fresh = self._new_segment(full.part + 1, sync=False)
        except OSError as error:
            self._refuse(error)
            raise LedgerUnavailable(REFUSAL) from error
        self._suspect = False
        self._segment = fresh
        if self._names is not None:
            self.syncer.mark(self._names)
        self.syncer.retire(full)
        return fresh

    def _new_segment(self, part: int, *, sync: bool) -> _Segment:
        header = {"writer": self.name, "part": part, "pid": os.getpid(), "created_ms": self.now_ms(), "sync": self.sync}
        line = encode("segment", header)
        path = segments.segment_path(self.directory, self.name, part)
        return _Segment(segments.create_locked(path, line, sync=sync), path, part, len(line))

    def _drain(self, spill: Spill) -> None:
        """Move spilled rows into the segment that accepts rows again. A crash in between is recovery's to sort out."""
        failed = self._failed_syncs
        while spill.lines:
            self._write(spill.lines[0], None, keep=not self._suspect)
            # From here on the row stands in the segment: writing it again would be its second terminal.
            del spill.lines[0]
        self.sync_now()
        if self._failed_syncs != failed:
            return  # One that was moved may be gone again. They stay in the spill; the next start compares.
        try:
            spill.wipe()
        except OSError as error:
            # The rows in it are in the segment too; the next start sees that.
            _log.warning(telemetry.JOURNAL_TROUBLE, step="wipe", error=error.strerror)

    def _refuse(self, error: OSError) -> None:
        if self._reason is None:
            _log.error(telemetry.JOURNAL_TROUBLE, step="write", error=error.strerror)
        self._reason = error.strerror

    def _sync_failed(self, error: OSError) -> None:
        self._suspect = True
        self._failed_syncs += 1
        _log.error(telemetry.JOURNAL_TROUBLE, step="sync", error=error.strerror)

    def _abandon_start(self) -> None:
        if self._spill is not None:
            self._spill.path.unlink(missing_ok=True)
            os.close(self._spill.fd)
            self._spill = None
        self._close_directory()

    def _close_directory(self) -> None:
        if self._names is not None:
            os.close(self._names.fd)
            self._names = None


def _system_ms() -> int:
    return time.time_ns() // 1_000_000
