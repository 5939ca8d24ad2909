"""The journal's directory: names, locks and reading. It knows files and bytes, not what the lines mean.

Where on the path: below `writer`, `recovery` and `indexer`.

A writer (one process from start to end) is named `<utc time>-<pid>-<random>`. Its files in `<data_dir>/journal/`:

    <writer>.00000.jsonl    its first segment; the next part begins when a segment is full
    <writer>.spill          room for the end of running attempts when nothing else can be written
    <writer>.sweepers       after its death: the writers whose segments may hold rows for its attempts
    <writer>.swept          present when no attempt of this writer is open any more: nobody needs to look again

Invariants
1. A segment or spill appears under its name only once it is locked: nobody can mistake a young writer for a dead one.
2. A live writer holds the lock of its spill and of its newest segment; the kernel drops both when the process dies.
3. The order of names is for people. Nothing here depends on clocks that go forward.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from service.ledger.lines import MAX_LINE_BYTES

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700

READ_BYTES = 1 << 20
"""Bytes per read: larger than any line, small enough to stay out of the way of a busy process."""

STALE_DRAFT_S = 3600.0
"""A file still under its draft name after an hour belongs to a start that died; a start takes milliseconds."""

_WRITER = r"(?P<writer>\d{8}T\d{9}Z-\d+-[0-9a-f]{8})"
_SEGMENT = re.compile(_WRITER + r"\.(?P<part>\d{5,})\.jsonl")
_SPILL = re.compile(_WRITER + r"\.spill")
_DRAFT_SUFFIX = ".draft"
_SWEPT_SUFFIX = ".swept"


@dataclass(frozen=True, slots=True, order=True)
class SegmentFile:
    """A segment on disk: who wrote it, the how-manieth of that writer it is, and where it lies."""

    writer: str
    part: int
    path: Path

    @property
    def name(self) -> str:
        """The file's name: how sinks and reports call the segment."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class RawLine:
    """Bytes of one line without the newline, and the offset at which it starts. A line without newline isn't whole."""

    offset: int
    data: bytes
    whole: bool

    @property
    def end(self) -> int:
        """The offset just after this line."""
        return self.offset + len(self.data) + self.whole


def journal_dir(data_dir: Path) -> Path:
    """Where the segments of a data directory lie."""
    return data_dir / "journal"


def make_private_dir(path: Path) -> None:
    """Create a directory, and the one above it, that only their owner may enter; raises OSError."""
    path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    path.chmod(DIRECTORY_MODE)


def new_writer_name(now_ms: int) -> str:
    """A name no other process has: Unix milliseconds, process id and 32 random bits."""
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    stamp = f"{moment:%Y%m%dT%H%M%S}{now_ms % 1000:03d}Z"
    return f"{stamp}-{os.getpid()}-{secrets.token_hex(4)}"


def segment_path(directory: Path, writer: str, part: int) -> Path:
    """The file of a writer's segment."""
    return directory / f"{writer}.{part:05d}.jsonl"


def spill_path(directory: Path, writer: str) -> Path:
    """The file of a writer's spill."""
    return directory / f"{writer}.spill"


def swept_path(directory: Path, writer: str) -> Path:
    """The mark that none of a writer's attempts is open any more."""
    return directory / f"{writer}{_SWEPT_SUFFIX}"


def sweepers_path(directory: Path, writer: str) -> Path:
    """The list of writers that began to sweep a dead one."""
    return directory / f"{writer}.sweepers"


def list_segments(directory: Path) -> list[SegmentFile]:
    """Every segment in a journal directory, by writer and part; none when the directory doesn't exist."""
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                match = _SEGMENT.fullmatch(entry.name)
                if match:
                    found.append(SegmentFile(match["writer"], int(match["part"]), Path(entry.path)))
    except FileNotFoundError:
        return []
    return sorted(found)


def swept_writers(directory: Path, since_s: float) -> set[str]:
    """Every writer whose attempts have all ended and that was alive at an instant (Unix seconds) or later.

    Raises OSError.
    """
    with os.scandir(directory) as entries:
        marks = [entry for entry in entries if entry.name.endswith(_SWEPT_SUFFIX)]
        return {entry.name.removesuffix(_SWEPT_SUFFIX) for entry in marks if entry.stat().st_mtime >= since_s}


def unswept_writers(directory: Path) -> list[str]:
    """Every writer with a segment or a spill and without the mark; raises OSError."""
    names = {path.name for path in directory.iterdir()}
    writers = {match["writer"] for name in names if (match := _SEGMENT.fullmatch(name) or _SPILL.fullmatch(name))}
    return sorted(writer for writer in writers if swept_path(directory, writer).name not in names)


def create_locked(path: Path, content: bytes, *, sync: bool = True) -> int:
    """Create `path` with `content`, locked, and return its descriptor; with `sync` both bytes and name are on disk.

    Raises OSError; nothing is left under `path` then.
    """
    draft = path.with_name(path.name + _DRAFT_SUFFIX)
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write_at(descriptor, content, 0)
        if sync:
            os.fsync(descriptor)
        draft.rename(path)
        if sync:
            sync_directory(path.parent)
    except OSError:
        draft.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return descriptor


def write_at(descriptor: int, content: bytes, offset: int) -> None:
    """Hand all of `content` to the kernel: one call as a rule, more when it takes only a part; raises OSError."""
    done = os.pwrite(descriptor, content, offset)
    while done < len(content):
        done += os.pwrite(descriptor, content[done:], offset + done)


def try_lock(path: Path) -> int | None:
    """The descriptor of `path`, locked, or `None` when another one holds the lock; raises OSError (e.g. no file)."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def mark_swept(directory: Path, writer: str) -> None:
    """Leave the mark that a writer's attempts are all closed, durably; raises OSError."""
    os.close(os.open(swept_path(directory, writer), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
    sync_directory(directory)


def note_sweeper(directory: Path, dead: str, sweeper: str) -> None:
    """Write down, durably, that `sweeper` is about to write rows for attempts of `dead`; raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(sweepers_path(directory, dead), flags, FILE_MODE)
    try:
        # The newline in front ends what a power cut may have torn before.
        os.write(descriptor, f"\n{sweeper}\n".encode("ascii"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(directory)


def sweepers_of(directory: Path, dead: str) -> set[str]:
    """Every writer that may have written rows for attempts of `dead`; raises OSError."""
    try:
        return set(sweepers_path(directory, dead).read_text("ascii", "replace").split())
    except FileNotFoundError:
        return set()


def remove_stale_drafts(directory: Path) -> None:
    """Remove drafts that a killed start left behind; they never held a row."""
    for draft in directory.glob(f"*{_DRAFT_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # Its start came to an end, or another sweep was faster.
            if time.time() - draft.stat().st_mtime > STALE_DRAFT_S:
                draft.unlink()


def sync_directory(directory: Path) -> None:
    """Force the names in a directory to disk; raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_lines(path: Path, start: int = 0) -> Iterator[RawLine]:
    """The lines of a segment from byte `start`; the last one isn't whole when the file doesn't end in a newline.

    A line beyond `MAX_LINE_BYTES` comes in pieces, each of which fails to decode: memory stays bounded on any file.
    Raises OSError.
    """
    with path.open("rb") as file:
        file.seek(start)
        offset, rest = start, b""
        while chunk := file.read(READ_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield RawLine(offset, line, whole=True)
                offset += len(line) + 1
            while len(rest) > MAX_LINE_BYTES:
                yield RawLine(offset, rest[:MAX_LINE_BYTES], whole=False)
                offset += MAX_LINE_BYTES
                rest = rest[MAX_LINE_BYTES:]
        if rest:
            yield RawLine(offset, rest, whole=False)
