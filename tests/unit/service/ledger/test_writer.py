"""The journal's writer: nothing lost, nothing double, nothing half."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from service.errors import ConfigurationError, LedgerUnavailable
from service.ledger import segments
from service.ledger.spill import spilled_lines
from service.ledger.writer import DataDirUnwritable, EntryOrderError, JournalWriter


@pytest.fixture
def writer(tmp_path):
    made = JournalWriter(tmp_path)
    made.start()
    yield made
    made.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


def broken_disk(number=28, text="No space left on device"):
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, text)

    return fail


def test_a_row_is_with_the_kernel_when_the_method_returns(tmp_path, writer, opening, ending, contents):
    """One write of one whole line each: another reader sees it at once."""
    writer.hold_decision({"id": "d1"})
    writer.write_open(opening(1))
    seen = contents(tmp_path)
    assert (seen.decisions, seen.opens["a1"], seen.terminals["a1"]) == (["d1"], 1, 0)
    writer.write_terminal(ending(1))
    seen = contents(tmp_path)
    assert seen.terminals["a1"] == 1
    assert seen.damaged == 0


def test_a_row_is_one_write(writer, opening, ending, monkeypatch):
    """A crash between two writes can't leave half a row, because there are no two."""
    calls = []
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: calls.append(bytes(data)) or real(fd, data, offset))
    writer.write_open(opening(1))
    writer.write_terminal(ending(1))
    assert [(call.count(b"\n"), call.endswith(b"\n")) for call in calls] == [(1, True), (1, True)]


def test_a_decision_goes_with_the_row_after_it(tmp_path, writer, opening, contents, monkeypatch):
    """One write for both, the decision first."""
    calls = []
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: calls.append(bytes(data)) or real(fd, data, offset))
    line = writer.hold_decision({"id": "d1"})
    assert (calls, contents(tmp_path).decisions) == ([], [])
    writer.write_open(opening(1))
    ((first, second),) = [call.splitlines(keepends=True) for call in calls]
    assert (first, b'"a1"' in second) == (line, True)
    assert (contents(tmp_path).decisions, contents(tmp_path).damaged) == (["d1"], 0)


def test_a_decision_without_a_row_is_not_lost(tmp_path, opening, contents):
    """It is written when somebody says that nothing follows, when another one comes, and at the end."""
    writer = JournalWriter(tmp_path)
    writer.start()
    writer.hold_decision({"id": "d1"})
    writer.write_held()
    assert contents(tmp_path).decisions == ["d1"]
    writer.write_held()
    writer.hold_decision({"id": "d2"})
    writer.hold_decision({"id": "d3"})
    assert contents(tmp_path).decisions == ["d1", "d2"]
    writer.close()
    assert contents(tmp_path).decisions == ["d1", "d2", "d3"]
    with pytest.raises(LedgerUnavailable):
        writer.hold_decision({"id": "d4"})


def test_an_end_does_not_take_a_decision_along(tmp_path, writer, opening, ending, contents, monkeypatch):
    """It may go to the spill, and the decision of another request with it would be lost to its own open row."""
    writer.write_open(opening(1))
    writer.hold_decision({"id": "d2"})
    real, full = os.pwrite, broken_disk()
    segment = writer._segment.fd
    monkeypatch.setattr(os, "pwrite", lambda fd, *rest: full() if fd == segment else real(fd, *rest))
    writer.write_terminal(ending(1))
    monkeypatch.undo()
    writer.write_open(opening(2))
    assert (contents(tmp_path).decisions, contents(tmp_path).opens["a2"]) == (["d2"], 1)
    assert contents(tmp_path).terminals["a1"] == 1


def test_a_decision_whose_row_was_refused_is_gone_with_it(tmp_path, writer, opening, contents, monkeypatch):
    """Nothing waits for a disk that is full: what waits would grow with every request."""
    monkeypatch.setattr(os, "pwrite", broken_disk())
    for number in range(3):
        writer.hold_decision({"id": f"d{number}"})
        with pytest.raises(LedgerUnavailable):
            writer.write_open(opening(number))
        assert writer._held == b""
    monkeypatch.undo()
    writer.hold_decision({"id": "d9"})
    writer.write_open(opening(9))
    assert contents(tmp_path).decisions == ["d9"]


def test_files_are_private(tmp_path, writer):
    """Segments and spill 0600, the directory 0700, also when it was wider before."""
    paths = list((tmp_path / "journal").iterdir())
    assert {path.suffix for path in paths} == {".jsonl", ".spill"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o700


def test_a_second_terminal_row_is_refused(tmp_path, writer, opening, ending, contents):
    """Exactly one end for each attempt, and none without a beginning."""
    with pytest.raises(EntryOrderError, match="never opened"):
        writer.write_terminal(ending(1))
    writer.write_open(opening(1))
    with pytest.raises(EntryOrderError, match="open already"):
        writer.write_open(opening(1))
    writer.write_terminal(ending(1))
    with pytest.raises(EntryOrderError, match="exactly one"):
        writer.write_terminal(ending(1))
    assert contents(tmp_path).faults() == []


def test_a_row_that_cannot_be_stored_changes_nothing(tmp_path, writer, opening, ending, contents):
    """A bad row raises before a byte is written, and the attempt can still be ended properly."""
    with pytest.raises(ValueError, match="attempt_id"):
        writer.write_open(opening(1, attempt_id=""))
    writer.write_open(opening(1))
    with pytest.raises(ValueError, match="not JSON"):
        writer.write_terminal(ending(1, price={"version": object()}))
    writer.write_terminal(ending(1))
    assert contents(tmp_path).faults() == []


def test_segments_rotate_at_their_limit(tmp_path, opening, ending, contents):
    """No segment is longer than its limit, none begins or ends in the middle of a row, and all say whose they are."""
    writer = JournalWriter(tmp_path, max_segment_bytes=4_000)
    writer.start()
    for number in range(40):
        writer.write_open(opening(number))
        writer.write_terminal(ending(number))
    writer.close()
    files = segments.list_segments(tmp_path / "journal")
    assert [file.part for file in files] == list(range(len(files)))
    assert len(files) > 8
    assert {file.writer for file in files} == {writer.name}
    assert max(file.path.stat().st_size for file in files) <= 4_000
    assert contents(tmp_path).faults() == []
    assert len(contents(tmp_path).opens) == 40


def test_rotation_leaks_no_descriptor(tmp_path, opening, ending):
    """Full segments are closed, and the newest stays locked."""
    writer = JournalWriter(tmp_path, max_segment_bytes=2_000)
    writer.start()
    before = descriptors()
    for number in range(30):
        writer.write_open(opening(number))
        writer.write_terminal(ending(number))
    assert segments.try_lock(segments.list_segments(writer.directory)[-1].path) is None
    writer.close()
    after = descriptors()
    assert after <= before


def test_closing_with_every_attempt_ended_leaves_nothing_to_sweep(tmp_path, writer, opening, ending):
    """The mark is there, the spill is gone, the locks are free."""
    writer.write_open(opening(1))
    writer.write_terminal(ending(1))
    writer.close()
    writer.close()
    assert segments.unswept_writers(writer.directory) == []
    assert list(writer.directory.glob("*.spill")) == []
    with pytest.raises(LedgerUnavailable, match="closed"):
        writer.write_open(opening(2))
    assert writer.status().writable is False


def test_closing_with_an_open_attempt_leaves_it_to_the_sweep(writer, opening):
    """No mark: the next start has to look."""
    writer.write_open(opening(1))
    writer.close()
    assert segments.unswept_writers(writer.directory) == [writer.name]


def test_a_data_directory_that_cannot_be_used_is_named(tmp_path):
    """The message says where and what to do; nothing half-made stays."""
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(DataDirUnwritable, match=r"taken.*COE_DATA_DIR"):
        JournalWriter(tmp_path / "taken").start()


def test_a_disk_that_is_full_at_the_start_is_named(tmp_path, monkeypatch):
    """The spill must fit, or the start fails and leaves nothing."""
    monkeypatch.setattr(os, "pwrite", broken_disk())
    with pytest.raises(DataDirUnwritable, match="No space left"):
        JournalWriter(tmp_path).start()
    assert list((tmp_path / "journal").iterdir()) == []


def test_an_unknown_sync_mode_is_refused(tmp_path):
    """A typing error must not mean less durability."""
    with pytest.raises(ConfigurationError, match="choose one of group, always, interval"):
        JournalWriter(tmp_path, sync="never")


FULL_DISK = """
    import json, os, resource, sys
    from pathlib import Path
    from service.domain.decision import EntryState, OpenEntry, TerminalEntry
    from service.errors import LedgerUnavailable
    from service.ledger.writer import JournalWriter

    def opening(name):
        return OpenEntry(f"a{name}", "r", "d", 1, 1, None, "auto", "m", "p", "w", "coding", "en", "balanced", None, 7)

    def ending(name):
        return TerminalEntry(f"a{name}", EntryState.SETTLED, 2, "complete", cost_pusd=5)

    writer = JournalWriter(Path(sys.argv[1]), spill_bytes=16_384)
    writer.start()
    # The kernel refuses to let any file grow beyond this; what is in place already can be written over.
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    opened = refused = 0
    for number in range(200):
        try:
            writer.write_open(opening(number))
            opened += 1
        except LedgerUnavailable:
            refused += 1
    writable_when_full = writer.status().writable
    ended = 0
    for number in range(opened):
        try:
            writer.write_terminal(ending(number))
            ended += 1
        except LedgerUnavailable:
            break
    full = writer.status()
    if sys.argv[2] == "room again":
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        writer.write_open(opening("late"))
        writer.write_terminal(ending("late"))
        for number in range(ended, opened):
            writer.write_terminal(ending(number))
    last = writer.status()
    print(json.dumps([opened, refused, writable_when_full, ended, full.spilled_rows, last.spilled_rows, last.writable]))
    if sys.argv[2] == "killed":
        sys.stdout.flush()
        os.kill(os.getpid(), 9)
    writer.close()
"""


def on_a_full_disk(tmp_path, then):
    command = [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path), then]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_a_full_disk_refuses_opens_and_spills_ends(tmp_path, contents):
    """With a real limit of the kernel: no new spending, running attempts end in the reserve, no half line is left."""
    opened, refused, writable, ended, spilled, *_ = on_a_full_disk(tmp_path, "killed")
    assert opened > 20
    assert refused > 20
    assert writable is False
    assert spilled == ended > 20
    (segment,) = segments.list_segments(tmp_path / "journal")
    assert segment.path.read_bytes().endswith(b"\n")
    seen = contents(tmp_path)
    assert (sum(seen.opens.values()), seen.damaged, sum(seen.terminals.values())) == (opened, 0, 0)
    (spill,) = (tmp_path / "journal").glob("*.spill")
    assert len(list(spilled_lines(spill))) == ended


def test_room_again_moves_the_spilled_rows_into_the_journal(tmp_path, contents):
    """As soon as rows are accepted, the spilled ones come first; each attempt has one end."""
    opened, _, _, ended, spilled, left, writable = on_a_full_disk(tmp_path, "room again")
    assert spilled == ended > 20
    assert (left, writable) == (0, True)
    seen = contents(tmp_path)
    assert seen.faults() == []
    assert len(seen.terminals) == opened + 1
    assert list((tmp_path / "journal").glob("*.spill")) == []


def test_a_row_that_is_taken_in_part_is_cut_off_again(tmp_path, writer, opening, ending, contents, monkeypatch):
    """Half a line never stays in front of another."""
    real = os.pwrite
    calls = []

    def half_then_full(descriptor, data, offset):
        calls.append(offset)
        return real(descriptor, data[:50], offset) if len(calls) == 1 else broken_disk()()

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", half_then_full)
        with pytest.raises(LedgerUnavailable):
            writer.write_open(opening(1))
    assert writer.status().reason == "No space left on device"
    writer.write_open(opening(2))
    writer.write_terminal(ending(2))
    seen = contents(tmp_path)
    assert (seen.faults(), seen.damaged, list(seen.opens)) == ([], 0, ["a2"])
    assert writer.status().writable is True


def test_where_nothing_can_be_cut_the_next_segment_begins(tmp_path, writer, opening, ending, contents, monkeypatch):
    """A file system gone read-only under us: the torn line stays last in its segment."""
    real = os.pwrite
    calls = []

    def half_then_full(descriptor, data, offset):
        calls.append(offset)
        return real(descriptor, data[:50], offset) if len(calls) == 1 else broken_disk(30, "Read-only file system")()

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", half_then_full)
        broken.setattr(os, "ftruncate", broken_disk(30, "Read-only file system"))
        with pytest.raises(LedgerUnavailable):
            writer.write_open(opening(1))
        with pytest.raises(LedgerUnavailable):
            writer.write_open(opening(1))
    writer.write_open(opening(2))
    writer.write_terminal(ending(2))
    seen = contents(tmp_path)
    assert (seen.faults(), seen.damaged, list(seen.opens)) == ([], 0, ["a2"])
    assert [segment.part for segment in segments.list_segments(writer.directory)] == [0, 1]


@pytest.mark.parametrize("cut", [True, False])
def test_room_is_found_again_without_a_row(tmp_path, writer, opening, ending, contents, monkeypatch, cut):
    """Nobody sends requests to a router that is not ready: the look itself tries, and leaves nothing behind."""
    writer.write_open(opening(1))
    with monkeypatch.context() as broken:
        real, reserve = os.pwrite, writer._spill.fd
        broken.setattr(os, "pwrite", lambda fd, *what: real(fd, *what) if fd == reserve else broken_disk()())
        if not cut:
            broken.setattr(os, "ftruncate", broken_disk())
            broken.setattr(segments, "create_locked", broken_disk())
        with pytest.raises(LedgerUnavailable):
            writer.write_open(opening(2))
        writer.write_terminal(ending(1))
        writer.probe()
        assert (writer.status().writable, writer.status().spilled_rows) == (False, 1)
    size = segments.list_segments(writer.directory)[0].path.stat().st_size
    writer.probe()
    assert (writer.status().writable, writer.status().spilled_rows) == (True, 0)
    seen = contents(tmp_path)
    assert (seen.faults(), seen.damaged, seen.terminals["a1"]) == ([], 0, 1)
    before = segments.list_segments(writer.directory)[-1].path.read_bytes()
    writer.probe()  # of a writer that is well: nothing
    assert segments.list_segments(writer.directory)[-1].path.read_bytes() == before
    assert before.endswith(b"\n")
    assert segments.list_segments(writer.directory)[0].path.stat().st_size >= size


def test_too_little_room_is_no_room(writer, opening, monkeypatch):
    """One that takes a hundred bytes more would refuse the next request."""
    real = os.pwrite
    end = segments.list_segments(writer.directory)[0].path.stat().st_size + 100

    def nearly_full(descriptor, data, offset):
        if offset + len(data) <= end:
            return real(descriptor, data, offset)
        if offset >= end:
            return broken_disk()()
        return real(descriptor, data[: end - offset], offset)

    monkeypatch.setattr(os, "pwrite", nearly_full)
    with pytest.raises(LedgerUnavailable):
        writer.write_open(opening(1))
    writer.probe()
    assert writer.status().writable is False
    assert segments.list_segments(writer.directory)[0].path.stat().st_size == end - 100


def test_a_refusal_names_no_place_and_is_retryable(writer, opening, monkeypatch):
    """What the caller reads holds no path and no system error."""
    monkeypatch.setattr(os, "pwrite", broken_disk())
    with pytest.raises(LedgerUnavailable) as refused:
        writer.write_open(opening(1))
    assert refused.value.code == "ledger_unavailable"
    assert "space" not in str(refused.value)
    assert "/" not in str(refused.value)


def test_after_a_failed_sync_the_next_segment_begins(tmp_path, opening, ending, contents, monkeypatch):
    """The kernel may have dropped the pages: nothing more is entrusted to that file, and the failure is counted."""
    writer = JournalWriter(tmp_path)
    writer.start()
    writer.write_open(opening(1))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", broken_disk(5, "Input/output error"))
        with pytest.raises(LedgerUnavailable):
            writer.sync_now()
    writer.write_terminal(ending(1))
    assert [segment.part for segment in segments.list_segments(writer.directory)] == [0, 1]
    assert writer.status().failed_syncs >= 1
    writer.close()
    assert segments.unswept_writers(writer.directory) == [writer.name], "a start must look at what may be damaged"
    assert contents(tmp_path).faults() == []


def test_a_spill_that_fails_leaves_the_attempt_open(writer, opening, ending, monkeypatch):
    """When nothing can be written the end raises, and can be given again when something can."""
    writer.write_open(opening(1))
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", broken_disk())
        with pytest.raises(LedgerUnavailable, match="booked at its reservation"):
            writer.write_terminal(ending(1))
    assert writer.status().open_attempts == 1
    writer.write_terminal(ending(1))
    assert writer.status().open_attempts == 0


def test_rotation_does_not_wait_for_the_disk(tmp_path, opening, monkeypatch):
    """A row that begins a segment syncs nothing itself; the name and the bytes follow in the background."""
    writer = JournalWriter(tmp_path, max_segment_bytes=1_000)
    writer.start()
    me = threading.get_ident()
    synced_here = []
    synced = set()
    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)

        def seen(descriptor, real=real):
            (synced_here.append(descriptor) if threading.get_ident() == me else synced.add(os.fstat(descriptor).st_ino))
            real(descriptor)

        monkeypatch.setattr(os, name, seen)
    for number in range(6):
        writer.write_open(opening(number))
    assert synced_here == []
    parts = [segment.path.stat().st_ino for segment in segments.list_segments(writer.directory)]
    writer.close()
    assert len(parts) > 2
    assert {*parts, writer.directory.stat().st_ino} <= synced
