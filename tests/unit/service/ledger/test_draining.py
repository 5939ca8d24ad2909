"""Spilled rows on their way back into the journal: the reserve is wiped only when they are certain to be elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.ledger import segments
from service.ledger.journal import Journal
from service.ledger.recovery import recover
from service.ledger.spill import spilled_lines
from service.ledger.writer import DataDirUnwritable, JournalWriter


def full_disk(writer):
    """`os.pwrite` that takes nothing for the segment."""
    real = os.pwrite

    def pwrite(descriptor, data, offset):
        if descriptor == writer._segment.fd:
            raise OSError(28, "No space left on device")
        return real(descriptor, data, offset)

    return pwrite


def spilled(tmp_path, opening, ending, monkeypatch, *, count=3, **options):
    """A writer with so many ends in its spill."""
    writer = JournalWriter(tmp_path, **options)
    writer.start()
    for number in range(count + 1):
        writer.write_open(opening(number))
    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", full_disk(writer))
        for number in range(count):
            writer.write_terminal(ending(number))
    assert len(writer._spill.lines) == count
    return writer


def test_the_reserve_is_wiped_after_the_name_of_a_new_part_is_on_disk(tmp_path, opening, ending, monkeypatch):
    """The rows go to a part that begins with them: without its name nobody finds them after a power cut."""
    writer = spilled(tmp_path, opening, ending, monkeypatch)
    writer._suspect = True  # the next row begins a part
    order = []
    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda fd, real=real: (order.append(fd), real(fd))[1])
    wipe = writer._spill.wipe
    monkeypatch.setattr(type(writer._spill), "wipe", lambda _spill: (order.append("wipe"), wipe())[1])
    monkeypatch.setattr(writer.syncer, "force", lambda _fd: None)  # what the background does comes when it comes
    writer.write_terminal(ending(3))
    before = order[: order.index("wipe")]
    assert writer._segment.fd in before
    assert writer._names.fd in before
    writer.close()


def test_a_part_that_fills_up_on_the_way_is_on_disk_before_the_next(tmp_path, opening, ending, monkeypatch):
    """The first of them stand in a part that is full then: it is forced before it is let go of."""
    writer = spilled(tmp_path, opening, ending, monkeypatch, count=9, max_segment_bytes=2_000)
    parts, forced = set(), []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (forced.append(fd), real(fd))[1])
    monkeypatch.setattr(writer.syncer, "force", lambda _fd: None)
    monkeypatch.setattr(writer.syncer, "retire", lambda segment: parts.add(segment.fd))
    writer.write_terminal(ending(9))
    assert len(parts) > 1, "no part filled up: this test proves nothing"
    assert parts <= set(forced)


def test_a_sync_that_fails_on_the_way_leaves_them_in_the_reserve(tmp_path, opening, ending, contents, monkeypatch):
    """The disk may have dropped what was moved: the reserve keeps it, and the next start ends nobody twice."""
    writer = spilled(tmp_path, opening, ending, monkeypatch)
    real = segments.write_at

    def then_fails(descriptor, content, offset):
        real(descriptor, content, offset)
        if descriptor == writer._segment.fd and not writer._failed_syncs:
            writer._sync_failed(OSError(5, "Input/output error"))

    with monkeypatch.context() as disk:
        disk.setattr(segments, "write_at", then_fails)
        writer.write_terminal(ending(3))
    assert len(list(spilled_lines(writer._spill.path))) == 3
    writer.close()
    again = JournalWriter(tmp_path)
    again.start()
    recover(again)
    again.close()
    assert contents(tmp_path).faults() == []


def test_an_end_that_begins_another_part_closes_that_one(tmp_path, opening, ending, contents, monkeypatch):
    """The reserve is drained while the journal closes, into a new part: no descriptor is closed twice, none is left."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    writer = spilled(tmp_path, opening, ending, monkeypatch)
    writer.syncer.force(writer._segment.fd)
    writer._suspect = True
    writer.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert len(segments.list_segments(tmp_path / "journal")) == 2
    assert sum(contents(tmp_path).terminals.values()) == 3


async def test_a_start_that_cannot_end_what_a_crash_left_says_so(tmp_path, opening, monkeypatch):
    """With what to do, and nothing held: a later start works."""
    dead = JournalWriter(tmp_path)
    dead.start()
    dead.write_open(opening(1))
    dead.close()
    with monkeypatch.context() as disk:

        def broken(*_):
            raise OSError(5, "Input/output error")

        disk.setattr(segments, "mark_swept", broken)
        with pytest.raises(DataDirUnwritable, match=r"can't be closed in .* \(Input/output error\); make room"):
            await Journal(tmp_path).start()
    later = Journal(tmp_path)
    await later.start()
    assert later.recovered.closed_unknown == 0  # the row was written, only the mark was not
    await later.close()
