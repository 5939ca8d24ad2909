"""The sweep at start: every attempt of a dead process gets exactly one end, wherever the sweep itself is cut short."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from service.errors import LedgerUnavailable
from service.ledger import recovery, segments
from service.ledger.recovery import RecoveryReport, recover
from service.ledger.segments import list_segments
from service.ledger.writer import JournalWriter


def die(writer: JournalWriter) -> None:
    """Let go of a writer's files as the kernel does for a killed process: no closing row, no mark, spill in place."""
    writer.syncer.stop()
    for holder in (writer._segment, writer._spill, writer._names):
        os.close(holder.fd)
    writer._segment = writer._spill = None


def dead(tmp_path, rows, **options) -> JournalWriter:
    writer = JournalWriter(tmp_path, **options)
    writer.start()
    rows(writer)
    die(writer)
    return writer


def sweep(tmp_path) -> RecoveryReport:
    writer = JournalWriter(tmp_path)
    writer.start()
    try:
        return recover(writer)
    finally:
        writer.close()


def open_only(opening, *names):
    return lambda writer: [writer.write_open(opening(name)) for name in names]


def test_what_a_dead_writer_left_open_is_ended_once(tmp_path, opening, ending, contents):
    """Open attempts become unknown at their reservation, ended ones stay, and a second sweep adds nothing."""

    def rows(writer):
        for name in ("1", "2", "3"):
            writer.write_open(opening(name))
        writer.write_terminal(ending("2"))

    dead(tmp_path, rows)
    report = sweep(tmp_path)
    assert (report.opens, report.closed_unknown, report.closed_from_spill, report.problems) == (3, 2, 0, [])
    seen = contents(tmp_path)
    assert seen.faults() == []
    assert [seen.ends[name]["state"] for name in ("a1", "a2", "a3")] == ["unknown", "settled", "unknown"]
    assert sweep(tmp_path).attempts_closed == 0
    assert contents(tmp_path).faults() == []


def test_an_attempt_without_a_reservation_stays_unpriced(tmp_path, opening, contents):
    """Unknown is never written as zero."""
    dead(tmp_path, lambda writer: writer.write_open(opening(1, reserved_pusd=None)))
    sweep(tmp_path)
    assert "cost_pusd" not in contents(tmp_path).ends["a1"]


def test_ends_in_later_segments_of_the_same_writer_count(tmp_path, opening, ending, contents):
    """Rotation between open and end doesn't make a crash of it."""

    def rows(writer):
        for number in range(20):
            writer.write_open(opening(number))
        for number in range(20):
            writer.write_terminal(ending(number))

    dead(tmp_path, rows, max_segment_bytes=3_000)
    report = sweep(tmp_path)
    assert (report.closed_unknown, report.segments_swept) == (0, len(list_segments(tmp_path / "journal")) - 1)
    assert contents(tmp_path).faults() == []


def test_a_living_writer_is_left_alone(tmp_path, opening, ending, contents):
    """Also when it has rotated, and when somebody deleted its spill."""
    living = JournalWriter(tmp_path, max_segment_bytes=1_500)
    living.start()
    for number in range(6):
        living.write_open(opening(number))
    assert sweep(tmp_path).writers_live == 1
    living._spill.path.unlink()
    assert sweep(tmp_path).attempts_closed == 0
    for number in range(6):
        living.write_terminal(ending(number))
    living.close()
    assert contents(tmp_path).faults() == []


def test_without_the_locks_a_living_writer_would_be_swept(tmp_path, opening, ending, contents, monkeypatch):
    """Positive control: a sweep that doesn't ask for locks books running attempts as crashed, and the check sees it."""
    living = JournalWriter(tmp_path)
    living.start()
    living.write_open(opening(1))
    monkeypatch.setattr(segments, "try_lock", lambda path: os.open(path, os.O_RDONLY))
    sweep(tmp_path)
    living.write_terminal(ending(1))
    living.close()
    assert contents(tmp_path).faults() == ["a1: 2 terminal rows"]


def test_spilled_rows_are_the_real_ends(tmp_path, opening, ending, contents, monkeypatch):
    """What the reserve holds is preferred to a guess, and the reserve is gone afterwards."""

    def rows(writer):
        writer.write_open(opening(1))
        writer.write_open(opening(2))
        real = os.pwrite

        def full(descriptor, data, offset):
            if descriptor == writer._segment.fd:
                raise OSError(28, "No space left on device")
            return real(descriptor, data, offset)

        with monkeypatch.context() as disk:
            disk.setattr(os, "pwrite", full)
            writer.write_terminal(ending(1))

    dead(tmp_path, rows)
    report = sweep(tmp_path)
    assert (report.closed_from_spill, report.closed_unknown) == (1, 1)
    seen = contents(tmp_path)
    assert seen.faults() == []
    assert (seen.ends["a1"]["state"], seen.ends["a2"]["state"]) == ("settled", "unknown")
    assert list((tmp_path / "journal").glob("*.spill")) == []


def test_a_sweep_that_failed_before_its_mark_adds_nothing_twice(tmp_path, opening, contents, monkeypatch):
    """The rows are written, the mark is not: the next sweep finds them in the other segment."""
    dead(tmp_path, open_only(opening, *range(5)))
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        broken.setattr(segments, "mark_swept", fail)
        with pytest.raises(OSError, match="Input/output"):
            sweep(tmp_path)
    report = sweep(tmp_path)
    assert report.closed_unknown == 0
    assert contents(tmp_path).faults() == []


def test_a_sweep_that_looks_only_at_the_dead_segments_doubles_rows(tmp_path, opening, contents, monkeypatch):
    """Positive control for the test above: without looking at all segments the same story ends in double rows."""
    dead(tmp_path, open_only(opening, *range(5)))
    monkeypatch.setattr(recovery, "_ended_in", lambda _segment, _wanted: iter(()))
    with monkeypatch.context() as broken:
        broken.setattr(segments, "mark_swept", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(OSError, match="Input/output"):
            sweep(tmp_path)
    sweep(tmp_path)
    assert len(contents(tmp_path).faults()) == 5


def test_a_sweep_that_does_not_name_itself_doubles_rows(tmp_path, opening, contents, monkeypatch):
    """Positive control: the next sweep wouldn't know where to look."""
    dead(tmp_path, open_only(opening, *range(5)))
    monkeypatch.setattr(segments, "note_sweeper", lambda *_: None)
    with monkeypatch.context() as broken:
        broken.setattr(segments, "mark_swept", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(OSError, match="Input/output"):
            sweep(tmp_path)
    sweep(tmp_path)
    assert len(contents(tmp_path).faults()) == 5


def test_a_sweep_reads_only_what_can_matter(tmp_path, opening, monkeypatch):
    """A start after a crash costs the crashed writer's segments, not the history of years."""
    for number in range(4):
        dead(tmp_path, open_only(opening, f"old{number}"))
        sweep(tmp_path)
    last = dead(tmp_path, open_only(opening, "new"))
    looked_at = set()
    real = segments.read_lines
    monkeypatch.setattr(segments, "read_lines", lambda path: looked_at.add(path.name) or real(path))
    assert sweep(tmp_path).closed_unknown == 1
    assert looked_at == {segment.name for segment in list_segments(last.directory) if segment.writer == last.name}


KILLED_IN_A_SWEEP = """
    import os, sys
    from pathlib import Path
    from service.ledger import segments
    from service.ledger.recovery import recover
    from service.ledger.writer import JournalWriter

    steps = int(sys.argv[2])

    def counted(step):
        def wrapped(*given):
            global steps
            if steps == 0:
                os.kill(os.getpid(), 9)
            steps -= 1
            return step(*given)
        return wrapped

    writer = JournalWriter(Path(sys.argv[1]))
    writer.start()
    segments.note_sweeper = counted(segments.note_sweeper)
    writer.write_recovered = counted(writer.write_recovered)
    writer.sync_now = counted(writer.sync_now)
    segments.mark_swept = counted(segments.mark_swept)
    recover(writer)
    writer.close()
"""


@pytest.mark.parametrize("steps", range(7))
def test_a_sweep_killed_at_any_step_is_finished_by_the_next(tmp_path, opening, ending, contents, steps):
    """Its name, two rows, the sync, the mark, its own mark: a real kill before each, and one that ends by itself."""

    def rows(writer):
        writer.write_open(opening(1))
        writer.write_open(opening(2))
        writer.write_open(opening(3))
        writer.write_terminal(ending(3))

    dead(tmp_path, rows)
    script = textwrap.dedent(KILLED_IN_A_SWEEP)
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path), str(steps)], capture_output=True, check=False)
    assert run.returncode == (-9 if steps < 6 else 0), run.stderr
    assert sweep(tmp_path).closed_unknown == min(2, max(0, 3 - steps))
    assert contents(tmp_path).faults() == []


def test_a_torn_tail_is_ignored_and_reported(tmp_path, opening, contents):
    """The torn row was never acknowledged, so its attempt never began."""
    writer = dead(tmp_path, open_only(opening, 1, 2))
    (segment,) = list_segments(writer.directory)
    os.truncate(segment.path, segment.path.stat().st_size - 7)
    report = sweep(tmp_path)
    assert (report.torn_tails, report.corrupt_lines, report.closed_unknown) == (1, 0, 1)
    assert report.problems[0].endswith("torn at its end")
    assert contents(tmp_path).terminals["a1"] == 1


def test_a_row_without_its_newline_ends_nothing(tmp_path, opening, ending, contents):
    """A power cut may leave all of a row but its last byte: no reader takes that for a row, so the sweep must not."""

    def rows(writer):
        writer.write_open(opening(1))
        writer.write_terminal(ending(1))

    writer = dead(tmp_path, rows)
    (segment,) = list_segments(writer.directory)
    os.truncate(segment.path, segment.path.stat().st_size - 1)
    report = sweep(tmp_path)
    assert (report.torn_tails, report.closed_unknown) == (1, 1)
    assert contents(tmp_path).faults() == []


def test_a_sweep_whose_rows_the_disk_did_not_keep_is_not_marked_as_done(tmp_path, opening, contents, monkeypatch):
    """A sync that failed behind it: the start ends with an error, and the next one sweeps again."""
    dead(tmp_path, open_only(opening, 1, 2))
    writer = JournalWriter(tmp_path)
    writer.start()
    with monkeypatch.context() as disk:
        real = writer.write_recovered

        def unkept(line):
            real(line)
            writer._sync_failed(OSError(5, "Input/output error"))

        disk.setattr(writer, "write_recovered", unkept)
        with pytest.raises(LedgerUnavailable, match="repair the disk"):
            recover(writer)
    die(writer)
    assert len(segments.unswept_writers(tmp_path / "journal")) == 2
    assert sweep(tmp_path).opens == 2
    assert contents(tmp_path).faults() == []


def test_a_corrupt_line_in_the_middle_is_reported_and_the_rest_is_read(tmp_path, opening, ending, contents):
    """A damaged end counts as no end: the attempt is booked at its reservation, and the report says where."""

    def rows(writer):
        for name in ("1", "2"):
            writer.write_open(opening(name))
            writer.write_terminal(ending(name))

    writer = dead(tmp_path, rows)
    (segment,) = list_segments(writer.directory)
    content = bytearray(segment.path.read_bytes())
    place = content.index(b'"state":"settled"')
    content[place + 10] ^= 0x01
    segment.path.write_bytes(content)
    report = sweep(tmp_path)
    assert (report.corrupt_lines, report.closed_unknown) == (1, 1)
    assert "checksum" in report.problems[0]
    assert segment.name in report.problems[0]
    assert "acme" not in report.problems[0], "a report names places, not contents"
    seen = contents(tmp_path)
    assert (seen.terminals["a1"], seen.terminals["a2"], seen.ends["a1"]["state"]) == (1, 1, "unknown")


def test_a_journal_cut_anywhere_is_whole_after_the_sweep(tmp_path, opening, ending, contents):
    """A power cut may leave any prefix of what was written: each attempt in it ends up with one end."""

    def rows(writer):
        for name in ("1", "2"):
            writer.write_open(opening(name))
        writer.write_terminal(ending("1"))

    source = dead(tmp_path / "source", rows)
    (segment,) = list_segments(source.directory)
    content = segment.path.read_bytes()
    swept = 0
    for cut in range(0, len(content) + 1, 53):
        data_dir = tmp_path / f"cut{cut}"
        (data_dir / "journal").mkdir(parents=True)
        (data_dir / "journal" / segment.name).write_bytes(content[:cut])
        swept += sweep(data_dir).closed_unknown
        assert contents(data_dir).faults() == []
    assert swept > 10


def test_lost_pages_are_reported_as_damage(tmp_path, opening):
    """A power cut may keep the length and lose the bytes: zeros are no rows."""
    writer = dead(tmp_path, open_only(opening, 1, 2))
    (segment,) = list_segments(writer.directory)
    with segment.path.open("r+b") as file:
        file.seek(-300, os.SEEK_END)
        file.write(bytes(299))
    report = sweep(tmp_path)
    assert report.corrupt_lines == 1
    assert report.closed_unknown == 1


def test_many_dead_writers_are_swept_in_one_start(tmp_path, opening, contents, monkeypatch):
    """More than are held at once, with few descriptors."""
    monkeypatch.setattr(recovery, "WRITERS_AT_ONCE", 3)
    for number in range(8):
        dead(tmp_path, open_only(opening, number), spill_bytes=4_096)
    assert sweep(tmp_path).closed_unknown == 8
    assert segments.unswept_writers(tmp_path / "journal") == []
    assert contents(tmp_path).faults() == []


def test_a_spill_without_a_segment_is_cleared_away(tmp_path):
    """Killed between the two: nothing was written, nothing stays."""
    writer = JournalWriter(tmp_path)
    writer.start()
    path = writer._segment.path
    die(writer)
    path.unlink()
    assert sweep(tmp_path).attempts_closed == 0
    assert list((tmp_path / "journal").glob("*.spill")) == []


def test_the_problems_of_a_report_are_bounded(tmp_path):
    """A segment of garbage can't fill the memory with complaints; the count stays exact."""
    directory = tmp_path / "journal"
    directory.mkdir()
    (directory / "20261121T101500123Z-42-0a1b2c3d.00000.jsonl").write_bytes(b"x\n" * 1_000)
    report = sweep(tmp_path)
    assert report.corrupt_lines == 1_000
    assert len(report.problems) == recovery.MAX_PROBLEMS
