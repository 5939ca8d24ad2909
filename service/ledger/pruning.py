"""Old segments taken out of the journal: only whole ones, only what the index has, and never without leaving a record.

Where on the path: beside it, behind `coe ledger prune`. A router may run meanwhile.

Invariants
1. A segment goes when every attempt that began in it has ended, all of it is indexed, and every line of it is sound.
2. Of one writer the oldest parts go first: whoever sweeps that writer later finds the end of every beginning it finds.
3. What was in it (lines, beginnings, ends, money) is recorded durably before it goes. `coe ledger verify` counts it in,
   and an index that has it is emptied only when somebody says so: nothing else could fill it again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from service.ledger.lines import LineError, decode, encode
from service.ledger.segments import (
    FILE_MODE,
    SegmentFile,
    journal_dir,
    list_segments,
    read_lines,
    swept_path,
    sync_directory,
)
from service.ledger.sinks.port import Sink

RECORD: Final = "pruned.records"
"""The file in the journal directory that says what is no longer there; each line is sealed as those of segments are."""


FORGOTTEN: Final = "pruned.forgotten"
"""The same of what no index has any more."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a segment held when it went: `until_ms` is the newest instant in it, `cost_pusd` what its ends cost."""

    name: str
    size_bytes: int
    lines: int = 0
    opened: int = 0
    ended: int = 0
    cost_pusd: int = 0
    until_ms: int = 0


class NotSound(Exception):
    """A segment that stays: what of it is damaged has to be looked at first. The message says where."""


def pruned(directory: Path, record: str = RECORD) -> dict[str, Pruned]:
    """What a journal directory no longer holds, by name of segment.

    Raises OSError, and NotSound for a damaged record.
    """
    path = directory / record
    found: dict[str, Pruned] = {}
    if not path.exists():
        return found
    for raw in read_lines(path):
        if not raw.whole:
            continue  # its writer died before the segment went
        try:
            body = decode(raw.data).body
            values: dict[str, Any] = {name: body[name] for name in Pruned.__dataclass_fields__}
            one = Pruned(**values)
        except (LineError, KeyError) as error:
            raise NotSound(f"{record} at byte {raw.offset}: {error}") from error
        found[one.name] = one
    return found


def lacks_some(directory: Path) -> bool:
    """Whether segments were ever taken out of a journal directory: its index can't be built from it alone then."""
    return (directory / RECORD).exists()


def forget(directory: Path) -> None:
    """No longer count what was taken out: an index without it was asked for. Raises OSError."""
    _append(directory / FORGOTTEN, (directory / RECORD).read_bytes())
    (directory / RECORD).unlink()
    sync_directory(directory)


def prune(data_dir: Path, sink: Sink, before_s: float) -> Iterator[Pruned]:
    """Take out every segment that was last written before an instant (Unix seconds) and may go, one by one.

    Raises OSError, SinkMissing, SinkFault and NotSound; what went is recorded.
    """
    directory = journal_dir(data_dir)
    known = pruned(directory)
    checkpoints = sink.checkpoints()
    for writer, parts in groupby(list_segments(directory), key=lambda segment: segment.writer):
        swept = swept_path(directory, writer).exists()
        yield from _prune_writer(directory, list(parts), checkpoints, before_s, known, swept=swept)


def _prune_writer(
    directory: Path,
    parts: Sequence[SegmentFile],
    checkpoints: Mapping[str, int],
    before_s: float,
    known: dict[str, Pruned],
    *,
    swept: bool,
) -> Iterator[Pruned]:
    """The oldest parts, up to the first that has to stay; of a writer that may live never the newest."""
    for number, segment in enumerate(parts if swept else parts[:-1]):
        status = segment.path.stat()
        if status.st_mtime >= before_s or checkpoints.get(segment.name) != status.st_size:
            return
        held, running = _read(segment)
        for later in parts[number + 1 :] if not swept else ():
            if not running:
                break
            running -= _ended(later)
        if running and not swept:
            return
        if segment.name not in known:
            _append(directory / RECORD, encode("segment", asdict(held)))
        segment.path.unlink()
        sync_directory(directory)
        yield held


def _read(segment: SegmentFile) -> tuple[Pruned, set[str]]:
    """(what a segment holds, the attempts that began in it and did not end in it); raises NotSound."""
    running: set[str] = set()
    lines = opened = ended = cost_pusd = until_ms = 0
    for raw in read_lines(segment.path):
        try:
            kind, body, *_ = decode(raw.data)
        except LineError as error:
            raise NotSound(f"{segment.name} at byte {raw.offset}: {error}; it stays until somebody looked") from error
        lines += 1
        at_ms, cost = body.get("at_ms"), body.get("cost_pusd")
        until_ms = max(until_ms, at_ms) if isinstance(at_ms, int) else until_ms
        if kind == "open":
            opened += 1
            running.add(str(body.get("attempt_id")))
        elif kind == "terminal":
            ended += 1
            cost_pusd += cost if isinstance(cost, int) else 0
            running.discard(str(body.get("attempt_id")))
    size = segment.path.stat().st_size
    return Pruned(segment.name, size, lines, opened, ended, cost_pusd, until_ms), running


def _ended(segment: SegmentFile) -> set[str]:
    """The attempts that ended in a segment."""
    found = set()
    for raw in read_lines(segment.path):
        if raw.whole and b'"t":"terminal"' in raw.data:
            try:
                found.add(str(decode(raw.data).body.get("attempt_id")))
            except LineError:  # No end that counts.
                continue
    return found


def _append(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)
