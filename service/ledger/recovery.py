"""The sweep at start: every attempt that a dead process left open gets its one terminal row, in the new segment.

Where on the path: `Journal.start`, before the first request. Costs a listing when nobody died.

Invariants
1. A writer is swept only under its locks, so never while it lives, and never by two at once.
2. A terminal row is added only for an attempt that has none in any segment that can hold one: those of its own writer,
   and those of every sweep that was begun before. A sweep names itself, durably, before it writes its first row, so one
   that was killed half-way and is done again adds nothing twice; and no sweep has to read the whole history.
3. A spilled row is the real end of its attempt and is preferred to `unknown`.
4. The mark that a writer is swept, and the removal of its spill, follow the sync of the rows, never the reverse.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from service.domain.decision import EntryState, TerminalEntry
from service.errors import LedgerUnavailable
from service.ledger import segments
from service.ledger.lines import MAX_LINE_BYTES, Line, LineError, decode, encode
from service.ledger.rows import terminal_body
from service.ledger.segments import SegmentFile
from service.ledger.spill import spilled_lines

if TYPE_CHECKING:
    from service.ledger.writer import JournalWriter

CRASH = "crash"
"""Why an attempt ended whose process died."""

LOST = "The disk refused to keep what the sweep wrote. Nothing is marked as done: repair the disk and start again."

WRITERS_AT_ONCE = 64
"""Dead writers swept together, each with two descriptors held: far from any limit on open files."""

MAX_PROBLEMS = 100
"""Damaged lines named one by one in a report; the counts beyond are still exact."""


@dataclass(slots=True)
class RecoveryReport:
    """What a sweep found and did. `problems` names places and reasons, never content."""

    segments_swept: int = 0
    writers_live: int = 0
    opens: int = 0
    closed_unknown: int = 0
    closed_from_spill: int = 0
    torn_tails: int = 0
    corrupt_lines: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def attempts_closed(self) -> int:
        """Attempts that got their terminal row from this sweep."""
        return self.closed_unknown + self.closed_from_spill

    def note(self, problem: str) -> None:
        """Add one problem, up to `MAX_PROBLEMS`."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


@dataclass(slots=True)
class _Dead:
    """A dead writer whose locks we hold; `unmatched` maps attempt ids to bodies of open rows without a terminal row."""

    writer: str
    descriptors: list[int]
    unmatched: dict[str, Mapping[str, object]] = field(default_factory=dict)
    spilled: dict[str, bytes] = field(default_factory=dict)


def recover(writer: JournalWriter) -> RecoveryReport:
    """Sweep every dead writer beside the started `writer`, whose segment takes the new rows.

    Raises LedgerUnavailable when a row can't be written and OSError when a segment can't be read; what was done stays
    right, and the next start goes on.
    """
    report = RecoveryReport()
    segments.remove_stale_drafts(writer.directory)
    pending = [name for name in segments.unswept_writers(writer.directory) if name != writer.name]
    while pending:
        batch, pending = pending[:WRITERS_AT_ONCE], pending[WRITERS_AT_ONCE:]
        with contextlib.ExitStack() as held:
            dead = []
            for name in batch:
                taken = _take(writer.directory, name)
                if taken is None:
                    report.writers_live += 1
                elif taken.descriptors:
                    held.callback(_release, taken.descriptors)
                    dead.append(taken)
            _sweep(writer, dead, report)
    return report


def _take(directory: Path, name: str) -> _Dead | None:
    """Lock a writer's spill and newest segment: `None` when it lives, no descriptors when another sweep finished it."""
    descriptors: list[int] = []
    parts = _parts(directory, name)
    for path in (segments.spill_path(directory, name), *(part.path for part in parts[-1:])):
        try:
            descriptor = segments.try_lock(path)
        except FileNotFoundError:  # No spill: closed with attempts open. No segment: killed between the two.
            continue
        if descriptor is None:
            _release(descriptors)
            return None
        descriptors.append(descriptor)
    if segments.swept_path(directory, name).exists():
        _release(descriptors)
        return _Dead(name, [])
    if _parts(directory, name) != parts:  # It went on to its next part while we looked.
        _release(descriptors)
        return None
    return _Dead(name, descriptors)


def _parts(directory: Path, name: str) -> list[SegmentFile]:
    return [segment for segment in segments.list_segments(directory) if segment.writer == name]


def _release(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _sweep(writer: JournalWriter, dead: list[_Dead], report: RecoveryReport) -> None:
    if not dead:
        return
    parts: dict[str, list[SegmentFile]] = {}
    for segment in segments.list_segments(writer.directory):
        parts.setdefault(segment.writer, []).append(segment)
    for one in dead:
        for segment in parts.get(one.writer, ()):
            _read_own(segment, one, report)
            report.segments_swept += 1
        _read_spill(writer.directory, one, report)
        _close_attempts(writer, one, parts, report)
    writer.sync_now()
    if writer.status().failed_syncs:
        # Rows of a part before this one may be gone: nobody may be told that all is done.
        raise LedgerUnavailable(LOST)
    for one in dead:
        segments.mark_swept(writer.directory, one.writer)
        segments.spill_path(writer.directory, one.writer).unlink(missing_ok=True)
        segments.sweepers_path(writer.directory, one.writer).unlink(missing_ok=True)


def _read_own(segment: SegmentFile, dead: _Dead, report: RecoveryReport) -> None:
    """Note which attempts of a segment are open at its end, and what of it is damaged."""
    for offset, line in _decoded(segment.path):
        if isinstance(line, Line):
            attempt = str(line.body.get("attempt_id"))
            if line.kind == "open":
                report.opens += 1
                dead.unmatched[attempt] = line.body
            elif line.kind == "terminal":
                dead.unmatched.pop(attempt, None)
        elif isinstance(line, LineError):
            report.corrupt_lines += 1
            report.note(f"{segment.name} at byte {offset}: {line}")
        else:
            report.torn_tails += 1
            report.note(f"{segment.name} at byte {offset}: torn at its end")


def _decoded(path: Path) -> Iterator[tuple[int, Line | LineError | None]]:
    """Every line of a segment: decoded, the reason why it can't be, or `None` for a torn tail."""
    for raw in segments.read_lines(path):
        if not raw.whole and len(raw.data) < MAX_LINE_BYTES:
            yield raw.offset, None
            continue
        try:
            yield raw.offset, decode(raw.data)
        except LineError as error:
            yield raw.offset, error


def _read_spill(directory: Path, dead: _Dead, report: RecoveryReport) -> None:
    path = segments.spill_path(directory, dead.writer)
    if not path.exists():
        return
    for raw, line in spilled_lines(path):
        if isinstance(line, Line) and line.kind == "terminal":
            dead.spilled[str(line.body.get("attempt_id"))] = raw
        else:
            report.corrupt_lines += 1
            report.note(f"{path.name}: {line if isinstance(line, LineError) else 'not a terminal row'}")


def _ended_in(segment: SegmentFile, wanted: set[str]) -> Iterator[str]:
    """Those of `wanted` that have a terminal row in a segment."""
    for raw in segments.read_lines(segment.path):
        if b'"t":"terminal"' not in raw.data:  # Most bytes of a journal are no terminal rows: don't parse them.
            continue
        if not raw.whole:  # All of a row but its newline is no row: nobody reads it, so it ends nothing.
            continue
        try:
            attempt = str(decode(raw.data).body.get("attempt_id"))
        except LineError:  # Reported where its own writer is swept; as an end it doesn't count.
            continue
        if attempt in wanted:
            yield attempt


def _close_attempts(
    writer: JournalWriter, dead: _Dead, parts: Mapping[str, list[SegmentFile]], report: RecoveryReport
) -> None:
    wanted = {*dead.unmatched, *dead.spilled}
    if not wanted:
        return
    holders = {dead.writer, *segments.sweepers_of(writer.directory, dead.writer)}
    ended = {
        attempt for holder in holders for segment in parts.get(holder, ()) for attempt in _ended_in(segment, wanted)
    }
    if wanted <= ended:
        return
    segments.note_sweeper(writer.directory, dead.writer, writer.name)
    for attempt, line in dead.spilled.items():
        if attempt not in ended:
            writer.write_recovered(line)
            report.closed_from_spill += 1
            ended.add(attempt)
    for attempt, opened in dead.unmatched.items():
        if attempt not in ended:
            writer.write_recovered(encode("terminal", terminal_body(_unknown_end(attempt, opened, writer.now_ms()))))
            report.closed_unknown += 1
            ended.add(attempt)


def _unknown_end(attempt: str, opened: Mapping[str, object], at_ms: int) -> TerminalEntry:
    """The end of an attempt whose process died: charged at its reservation, because the vendor may bill all of it."""
    reserved = opened.get("reserved_pusd")
    version = opened.get("price_version")
    return TerminalEntry(
        attempt_id=attempt,
        state=EntryState.UNKNOWN,
        at_ms=at_ms,
        ended=CRASH,
        cost_pusd=reserved if isinstance(reserved, int) else None,
        price={"version": version} if version else {},
    )
