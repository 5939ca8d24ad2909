"""The journal's directory: names, locks, reading."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from service.ledger import segments
from service.ledger.segments import RawLine, create_locked, list_segments, read_lines, try_lock

WRITER = "20261121T101500123Z-42-0a1b2c3d"


def touch(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).write_bytes(b"")


def test_a_writer_name_sorts_by_time_and_names_the_process():
    """Names of one process differ even in the same millisecond."""
    early, late = segments.new_writer_name(1_795_000_000_001), segments.new_writer_name(1_795_000_000_002)
    assert early < late
    assert early.startswith(f"20261118T110640001Z-{os.getpid()}-")
    assert segments.new_writer_name(1_795_000_000_001) != early


def test_segments_are_listed_in_order_and_nothing_else_is(tmp_path):
    """Parts are numbers, not text; drafts, spills and foreign files are no segments."""
    touch(tmp_path, f"{WRITER}.100000.jsonl", f"{WRITER}.99999.jsonl", f"{WRITER}.00000.jsonl")
    touch(tmp_path, f"{WRITER}.00001.jsonl.draft", f"{WRITER}.spill", "notes.jsonl", f"x{WRITER}.00000.jsonl")
    assert [segment.part for segment in list_segments(tmp_path)] == [0, 99_999, 100_000]
    assert list_segments(tmp_path / "missing") == []


def test_unswept_writers_are_those_without_the_mark(tmp_path):
    """A writer of which only a spill is left counts too."""
    other, third = WRITER.replace("42", "43"), WRITER.replace("42", "44")
    touch(tmp_path, f"{WRITER}.00000.jsonl", f"{WRITER}.swept", f"{other}.00000.jsonl", f"{third}.spill")
    assert segments.unswept_writers(tmp_path) == [other, third]
    segments.mark_swept(tmp_path, other)
    segments.mark_swept(tmp_path, third)
    assert segments.unswept_writers(tmp_path) == []


def test_swept_writers_are_those_that_were_alive_since(tmp_path):
    """By the time of the mark: it comes last. Those without one, drafts and spills are none."""
    other, third = WRITER.replace("42", "43"), WRITER.replace("42", "44")
    touch(
        tmp_path, f"{WRITER}.swept", f"{WRITER}.00000.jsonl", f"{other}.00000.jsonl", f"{third}.spill", "x.swept.draft"
    )
    segments.mark_swept(tmp_path, third)
    assert segments.swept_writers(tmp_path, 0) == {WRITER, third}
    os.utime(segments.swept_path(tmp_path, WRITER), (1_000, 1_000))
    assert segments.swept_writers(tmp_path, 1_000) == {WRITER, third}
    assert segments.swept_writers(tmp_path, 1_001) == {third}
    segments.mark_swept(tmp_path, WRITER)
    assert segments.swept_writers(tmp_path, 1_001) == {third}, "a mark that is there stays as it is"
    with pytest.raises(FileNotFoundError):
        segments.swept_writers(tmp_path / "missing", 0)


def test_a_created_file_is_private_locked_and_whole(tmp_path):
    """Nobody else can lock it until its descriptor is closed, and no draft stays."""
    path = tmp_path / "one"
    descriptor = create_locked(path, b"content")
    assert path.read_bytes() == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert try_lock(path) is None
    os.close(descriptor)
    again = try_lock(path)
    assert again is not None
    os.close(again)
    assert [entry.name for entry in tmp_path.iterdir()] == ["one"]


def test_a_file_never_appears_unlocked(tmp_path, monkeypatch):
    """At the instant of the rename the lock is held already: a young writer is not taken for a dead one."""
    seen = []
    rename = Path.rename

    def look_first(draft: Path, target: Path) -> Path:
        seen.append(try_lock(draft))
        return rename(draft, target)

    monkeypatch.setattr(Path, "rename", look_first)
    os.close(create_locked(tmp_path / "one", b""))
    assert seen == [None]


def test_a_failed_creation_leaves_nothing(tmp_path, monkeypatch):
    """Neither the file nor its draft."""

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        create_locked(tmp_path / "one", b"content")
    assert list(tmp_path.iterdir()) == []


def test_only_old_drafts_are_removed(tmp_path):
    """A draft of this moment may be a start under way."""
    touch(tmp_path, "old.draft", "young.draft", "old.jsonl")
    for name in ("old.draft", "old.jsonl"):
        os.utime(tmp_path / name, (1, 1))
    segments.remove_stale_drafts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.jsonl", "young.draft"]


@pytest.mark.parametrize("read_bytes", [1, 2, 3, 5, 1 << 20])
def test_lines_do_not_depend_on_the_size_of_reads(tmp_path, monkeypatch, read_bytes):
    """Offsets, ends and the torn tail are the same however the file is cut into reads."""
    monkeypatch.setattr(segments, "READ_BYTES", read_bytes)
    path = tmp_path / "one"
    path.write_bytes(b"first\n\nthird\ntor")
    want = [RawLine(0, b"first", whole=True), RawLine(6, b"", whole=True), RawLine(7, b"third", whole=True)]
    assert list(read_lines(path)) == [*want, RawLine(13, b"tor", whole=False)]
    assert list(read_lines(path, 7)) == [want[2], RawLine(13, b"tor", whole=False)]
    assert [line.end for line in read_lines(path)] == [6, 7, 13, 16]
    assert list(read_lines(path, 16)) == []


def test_an_endless_line_comes_in_bounded_pieces(tmp_path, monkeypatch):
    """A file of garbage can't fill the memory; the line after it is found."""
    monkeypatch.setattr(segments, "READ_BYTES", 8)
    monkeypatch.setattr(segments, "MAX_LINE_BYTES", 10)
    path = tmp_path / "one"
    path.write_bytes(b"x" * 35 + b"\nok\n")
    lines = list(read_lines(path))
    assert max(len(line.data) for line in lines) <= 18
    assert lines[-1] == RawLine(36, b"ok", whole=True)
    assert b"".join(line.data for line in lines[:-1]) == b"x" * 35
    assert [line.offset for line in lines[1:]] == [line.end for line in lines[:-1]]


def test_a_write_that_is_taken_in_parts_is_completed(tmp_path, monkeypatch):
    """A short write is not an end."""
    path = tmp_path / "one"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: whole(fd, data[:3], offset))
    segments.write_at(descriptor, b"0123456789", 2)
    os.close(descriptor)
    assert path.read_bytes() == b"\0\x000123456789"


def test_sweepers_are_kept_durably_and_a_torn_name_hurts_nobody(tmp_path, monkeypatch):
    """Each name is on disk before its sweep goes on; a name that was torn off ends where the next begins."""
    assert segments.sweepers_of(tmp_path, WRITER) == set()
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), real(fd)))
    segments.note_sweeper(tmp_path, WRITER, "first")
    path = segments.sweepers_path(tmp_path, WRITER)
    assert synced == [path.stat().st_ino, tmp_path.stat().st_ino]
    with path.open("ab") as file:
        file.write(b"\nsec")
    segments.note_sweeper(tmp_path, WRITER, "third")
    assert segments.sweepers_of(tmp_path, WRITER) == {"first", "sec", "third"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
