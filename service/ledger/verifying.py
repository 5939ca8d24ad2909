"""Whether a ledger holds: every seal, every attempt's two ends, the index beside the journal, the sums beside the rows.

Where on the path: beside it, behind `coe ledger verify`. Reads; changes nothing.

The journal is the truth. It is read up to where the index stood when it was looked at, so that a router may go on
writing meanwhile. What is whole but not indexed yet is no fault, nor is an attempt whose process lives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from service.domain.money import usd_text
from service.ledger.lines import MAX_LINE_BYTES, Line, LineError, decode
from service.ledger.pruning import FORGOTTEN, NotSound, Pruned, pruned
from service.ledger.segments import SegmentFile, journal_dir, list_segments, read_lines, swept_path
from service.ledger.sinks.halves import day_of
from service.ledger.sinks.port import Audit, Sink

FAULTS_MAX = 100
"""Faults that are told one by one; the count beyond is exact."""

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what)."""


@dataclass(slots=True)
class Verdict:
    """What was found: `lines` to read, `notes` that are no fault, and `faults`, the first of `fault_count`."""

    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    fault_count: int = 0

    def fault(self, what: str) -> None:
        """Add one fault."""
        self.fault_count += 1
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(what)


@dataclass(slots=True)
class _Journal:
    """What was read: how many lines of each kind, and what ended attempts cost."""

    lines: int = 0
    opened: int = 0
    ended: int = 0
    cost_pusd: int = 0

    def take(self, line: Line) -> None:
        """Count one line."""
        if line.kind == "open":
            self.opened += 1
        elif line.kind == "terminal":
            self.ended += 1
            cost = line.body.get("cost_pusd")
            self.cost_pusd += cost if isinstance(cost, int) else 0


def verify(data_dir: Path, sink: Sink, progress: Progress | None = None) -> Verdict:
    """Check a data directory whose index was just brought up to date.

    Raises OSError, SinkMissing where nothing was ever indexed, and SinkFault.
    """
    verdict = Verdict()
    directory = journal_dir(data_dir)
    audit = sink.audit(None if progress is None else lambda done, total: progress(done, total, "Adding up the index"))
    segments = list_segments(directory)
    gone, lost = _check_pruned(directory, audit.checkpoints, verdict)
    _check_files(segments, audit.checkpoints, gone, lost, verdict)
    read = _read(segments, audit.checkpoints, verdict, progress)
    writers = len({segment.writer for segment in segments})
    seals = f"journal: {len(segments)} segments of {writers} starts, {read.lines:,} lines"
    verdict.lines.append(
        f"{seals}, {read.opened:,} attempts begun, {read.ended:,} ended, {usd_text(read.cost_pusd)} USD"
    )
    for one in gone.values():
        read.opened += one.opened
        read.ended += one.ended
        read.cost_pusd += one.cost_pusd
    repeated = _check_attempts(directory, sink, audit, verdict)
    verdict.lines.append(f"index: {audit.attempts:,} attempts, {usd_text(audit.cost_pusd)} USD")
    if not repeated and (read.opened, read.ended, read.cost_pusd) != (audit.opened, audit.ended, audit.cost_pusd):
        verdict.fault(
            f"the index has {audit.opened:,} beginnings, {audit.ended:,} ends and {usd_text(audit.cost_pusd)} USD, the "
            "journal has others: run `coe ledger rebuild`"
        )
    for difference in audit.differences:
        verdict.fault(f"{difference}: run `coe ledger rebuild`")
    verdict.lines.append(f"sums: {len(audit.differences) or 'no'} differences from the attempts")
    return verdict


def _check_pruned(
    directory: Path, checkpoints: Mapping[str, int], verdict: Verdict
) -> tuple[Mapping[str, Pruned], Mapping[str, Pruned]]:
    """(what was taken out of the journal and is in the index, what no index has any more)."""
    try:
        gone, lost = pruned(directory), pruned(directory, FORGOTTEN)
    except NotSound as problem:
        verdict.fault(str(problem))
        return {}, {}
    for one in gone.values():
        if checkpoints.get(one.name) != one.size_bytes:
            verdict.fault(f"{one.name} was pruned and is not in the index: restore the index, or the file")
    if gone:
        day = day_of(max(one.until_ms for one in gone.values()))
        attempts = sum(one.opened for one in gone.values())
        verdict.lines.append(
            f"pruned: {len(gone)} segments up to {day}, {attempts:,} attempts begun, in the index only"
        )
    return gone, lost


def _check_files(
    segments: list[SegmentFile],
    checkpoints: Mapping[str, int],
    gone: Mapping[str, Pruned],
    lost: Mapping[str, Pruned],
    verdict: Verdict,
) -> None:
    """Every part of every writer is there, and nothing that was indexed is gone or shorter, but what was pruned."""
    sizes = {segment.name: segment.path.stat().st_size for segment in segments}
    sizes = {name: one.size_bytes for name, one in gone.items()} | sizes
    for name, offset in sorted(checkpoints.items()):
        if sizes.get(name, -1) < offset:
            have = f"has {sizes[name]:,} bytes" if name in sizes else "is gone"
            verdict.fault(f"{name} {have}, {offset:,} were indexed: put the file back")
    parts: dict[str, set[int]] = {}
    for segment in segments:
        parts.setdefault(segment.writer, set()).add(segment.part)
    for name in (*gone, *lost):
        its_writer, number, _ = name.split(".")
        if its_writer in parts:
            parts[its_writer].add(int(number))
    for writer, there in parts.items():
        for part in sorted(set(range(max(there))) - there):
            verdict.fault(f"{writer}.{part:05d}.jsonl is missing, later parts are there: put the file back")


def _read(
    segments: list[SegmentFile], checkpoints: Mapping[str, int], verdict: Verdict, progress: Progress | None
) -> _Journal:
    """Every line up to where the index stood."""
    found = _Journal()
    total = sum(checkpoints.get(segment.name, 0) for segment in segments)
    done = 0
    for segment in segments:
        end = checkpoints.get(segment.name, 0)
        for raw in read_lines(segment.path):
            if raw.offset >= end:
                if not raw.whole and len(raw.data) < MAX_LINE_BYTES:
                    verdict.notes.append(f"{segment.name} at byte {raw.offset}: its last line is not whole")
                break
            found.lines += 1
            try:
                found.take(decode(raw.data))
            except LineError as error:
                verdict.fault(f"{segment.name} at byte {raw.offset}: {error}")
        done += end
        if progress is not None:
            progress(done, total, "Reading the journal")
    return found


def _check_attempts(directory: Path, sink: Sink, audit: Audit, verdict: Verdict) -> bool:
    """One beginning and one end each; whether one has more, so that the journal's sums are not to be compared."""
    repeated = [problem.what for problem in sink.problems() if not problem.segment]
    for what in repeated:
        verdict.fault(what)
    if audit.opened < audit.attempts:
        verdict.fault(f"{audit.attempts - audit.opened} attempts have ended and never begun")
    for writer, count in sorted(audit.running.items()):
        if not writer or swept_path(directory, writer).exists():
            verdict.fault(f"{count} attempts of {writer or 'nobody'} have begun and never ended")
        else:
            verdict.notes.append(f"{count} attempts of {writer} are running, or are ended by the next start")
    return bool(repeated)
