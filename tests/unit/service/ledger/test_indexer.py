"""From the journal to a sink: everything, once, in any number of steps."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from service.ledger import indexer as module
from service.ledger.indexer import IndexBusy, Indexer, wait_until_indexed
from service.ledger.segments import list_segments
from service.ledger.sinks import open_sink
from service.ledger.sinks.port import GROUPINGS, SinkDamaged, SinkFault
from service.ledger.writer import JournalWriter


@pytest.fixture
def writer(tmp_path):
    made = JournalWriter(tmp_path, max_segment_bytes=5_000)
    made.start()
    yield made
    made.close()


@pytest.fixture
def sink(tmp_path):
    made = open_sink(tmp_path)
    yield made
    made.close()


@pytest.fixture
def write(writer, opening, ending):
    def rows(start, stop):
        for number in range(start, stop):
            writer.hold_decision({"id": f"d{number}", "plan": "single"})
            writer.write_open(opening(number, model=f"m{number % 3}"))
            if number % 5:
                writer.write_terminal(ending(number, cost_pusd=number))

    return rows


def everything(sink):
    return (
        {by: sink.sums((by,), None, None) for by in GROUPINGS},
        [sink.attempts(f"d{number}") for number in range(100)],
        [sink.decision(f"d{number}") for number in range(100)],
        sink.problems(),
        sink.checkpoints(),
    )


def test_catching_up_indexes_every_byte_there_is(tmp_path, writer, sink, write):
    """Over many segments; the checkpoints are the sizes, and a second time there is nothing to do."""
    write(0, 30)
    with Indexer(tmp_path, sink) as indexer:
        done = indexer.catch_up()
        files = list_segments(writer.directory)
        assert len(files) > 3
        assert sink.checkpoints() == {file.name: file.path.stat().st_size for file in files}
        assert done == sum(file.path.stat().st_size for file in files)
        assert indexer.catch_up() == 0
    (total,) = sink.sums((), None, None)
    assert (total.attempts, total.open_attempts, total.cost_pusd) == (30, 6, sum(n for n in range(30) if n % 5))


def test_rebuilding_gives_what_following_gave(tmp_path, sink, write):
    """Step by step, across restarts of the indexer, or from nothing: the same rows to the last column."""
    for start in range(0, 40, 4):
        write(start, start + 4)
        with Indexer(tmp_path, sink) as indexer:
            indexer.catch_up()
    followed = everything(sink)
    with Indexer(tmp_path, sink) as indexer:
        assert indexer.rebuild() > 10_000
    assert everything(sink) == followed
    other = open_sink(tmp_path, f"sqlite:///{tmp_path}/other.sqlite")
    with Indexer(tmp_path, other) as indexer:
        indexer.catch_up()
    assert everything(other) == followed


def test_a_crash_between_batches_repeats_nothing(tmp_path, sink, write, monkeypatch):
    """Rows and checkpoint go together, so the next indexer goes on at the exact line."""
    monkeypatch.setattr(module, "BATCH_LINES", 3)
    write(0, 20)
    stored = []

    class Full:
        def __getattr__(self, name):
            return getattr(sink, name)

        def store(self, batch):
            if len(stored) == 7:
                raise SinkFault("database or disk is full")
            stored.append(batch)
            sink.store(batch)

    with Indexer(tmp_path, Full()) as indexer, pytest.raises(SinkFault):
        indexer.catch_up()
    assert len(stored) == 7
    with Indexer(tmp_path, sink) as indexer:
        indexer.catch_up()
    (total,) = sink.sums((), None, None)
    assert (total.attempts, sink.problems()) == (20, [])
    followed = everything(sink)
    with Indexer(tmp_path, sink) as indexer:
        indexer.rebuild()
    assert everything(sink) == followed


def test_an_unfinished_line_is_left_until_it_is_whole(tmp_path, writer, sink, write):
    """The writer may be at it this instant: no problem, no row, and the checkpoint stays in front of it."""
    write(1, 2)
    (segment,) = list_segments(writer.directory)
    content = segment.path.read_bytes()
    lines = content.splitlines(keepends=True)
    with Indexer(tmp_path, sink) as indexer:
        segment.path.write_bytes(content[:-5])
        indexer.catch_up()
        assert sink.checkpoints() == {segment.name: len(content) - len(lines[-1])}
        assert sink.problems() == []
        assert sink.attempts("d1")[0]["state"] == "open"
        segment.path.write_bytes(content)
        indexer.catch_up()
        assert sink.attempts("d1")[0]["state"] == "settled"


def test_a_damaged_line_is_reported_and_the_rest_is_indexed(tmp_path, writer, sink, write):
    """Its place is kept, once, also after a rebuild; nothing of its content is."""
    write(1, 4)
    (segment,) = list_segments(writer.directory)
    content = bytearray(segment.path.read_bytes())
    place = content.index(b'"attempt_id":"a2"')
    content[place + 15] ^= 0x01
    segment.path.write_bytes(content)
    with Indexer(tmp_path, sink) as indexer:
        indexer.catch_up()
        (problem,) = sink.problems()
        assert (problem.segment, problem.offset) == (segment.name, content.rindex(b"\n", 0, place) + 1)
        assert problem.what == "the checksum does not fit the content"
        indexer.rebuild()
        assert sink.problems() == [problem]
    (total,) = sink.sums((), None, None)
    assert (total.attempts, total.cost_pusd) == (3, 6), "the end of the damaged attempt still counts"


def test_garbage_without_end_is_passed(tmp_path, writer, sink, write, monkeypatch):
    """A line longer than any line doesn't stop the indexer for ever."""
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 2_000)
    monkeypatch.setattr("service.ledger.segments.MAX_LINE_BYTES", 2_000)
    monkeypatch.setattr("service.ledger.segments.READ_BYTES", 500)
    write(1, 2)
    (segment,) = list_segments(writer.directory)
    with segment.path.open("ab") as file:
        file.write(b"x" * 9_000 + b"\n")
    with Indexer(tmp_path, sink) as indexer:
        indexer.catch_up()
    assert sink.checkpoints()[segment.name] == segment.path.stat().st_size
    assert len(sink.problems()) >= 4


def test_a_segment_that_shrank_is_reported(tmp_path, writer, sink, write):
    """Somebody put an older copy in place: rebuilding is for a person to decide."""
    write(0, 3)
    (segment,) = list_segments(writer.directory)
    with Indexer(tmp_path, sink) as indexer:
        indexer.catch_up()
        os.truncate(segment.path, 300)
        indexer.catch_up()
        indexer.catch_up()
    (problem,) = sink.problems()
    assert "rebuild the index" in problem.what


def test_one_indexer_at_a_time(tmp_path, sink, write):
    """A second one is refused while the first holds the lock, in this process or another."""
    write(0, 2)
    program = (
        "import sys; from pathlib import Path; from service.ledger.indexer import Indexer, IndexBusy\n"
        "from service.ledger.sinks import open_sink\n"
        "directory = Path(sys.argv[1])\n"
        "try:\n    Indexer(directory, open_sink(directory)).catch_up()\nexcept IndexBusy:\n    sys.exit(7)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with Indexer(tmp_path, sink):
        with pytest.raises(IndexBusy):
            Indexer(tmp_path, open_sink(tmp_path)).catch_up()
        assert subprocess.run(command, check=False).returncode == 7
    assert subprocess.run(command, check=False).returncode == 0


def test_closing_lets_the_next_one_in_and_opening_again_goes_on(tmp_path, sink, write):
    """The lock goes with `close`, and an indexer can be used again after it."""
    write(0, 2)
    indexer = Indexer(tmp_path, sink)
    indexer.catch_up()
    indexer.close()
    with Indexer(tmp_path, sink) as other:
        assert other.catch_up() == 0
    write(2, 4)
    assert indexer.catch_up() > 0
    indexer.close()


def test_running_follows_the_journal_until_it_is_stopped(tmp_path, sink, write):
    """In a thread, as in the server; another thread may ask for the last byte at any time."""
    indexer = Indexer(tmp_path, sink)
    stop = threading.Event()
    thread = threading.Thread(target=indexer.run, args=(stop, 0.01))
    thread.start()
    try:
        for number in range(1, 40):
            write(number, number + 1)
            if number % 13 == 0:
                indexer.catch_up()
                assert sink.decision(f"d{number}") is not None
        assert wait_until_indexed(tmp_path, open_sink(tmp_path), 20)
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()
    (total,) = sink.sums((), None, None)
    assert total.attempts == 39
    with Indexer(tmp_path, sink):
        pass  # the lock was released


def test_running_survives_a_failure_and_takes_over_a_lock(tmp_path, sink, write, monkeypatch):
    """A full disk or a busy lock is waited out; then it goes on by itself."""
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    write(0, 3)
    holder = Indexer(tmp_path, open_sink(tmp_path, f"sqlite:///{tmp_path}/holder.sqlite"))
    holder.open()
    failures = []

    class Flaky:
        def __getattr__(self, name):
            return getattr(sink, name)

        def store(self, batch):
            if len(failures) < 3:
                failures.append(batch)
                raise SinkFault("database or disk is full")
            sink.store(batch)

    stop = threading.Event()
    thread = threading.Thread(target=Indexer(tmp_path, Flaky()).run, args=(stop, 0.01))
    thread.start()
    try:
        time.sleep(0.1)
        assert failures == [], "another holds the lock"
        holder.close()
        assert wait_until_indexed(tmp_path, open_sink(tmp_path), 20)
    finally:
        stop.set()
        thread.join(20)
    assert len(failures) == 3


def test_a_damaged_index_is_put_aside_and_built_again(tmp_path, sink, write):
    """At the start, in the middle of filling, or when somebody who asked has found it: the same rows each time."""
    write(0, 20)
    told = []
    with Indexer(tmp_path, sink, lambda *what: told.append(what)) as indexer:
        indexer.catch_up()
        whole = everything(sink)
    sink.path.write_bytes(b"no database" * 1_000)
    with Indexer(tmp_path, sink, lambda *what: told.append(what)) as indexer:
        indexer.catch_up()
        assert everything(sink) == whole
        tear(sink)
        indexer.suspect(SinkDamaged("somebody's question failed"))
        indexer.catch_up()
        assert everything(sink) == whole
    assert [moved for _, moved in told] == ["ledger.sqlite.damaged"] * 2
    assert told[0][0] == "file is not a database"
    assert "question" not in told[1][0], "what was found, not what was suspected"


def tear(sink):
    """Overwrite a page in the middle, in a file that nobody has open for filling."""
    with sqlite3.connect(sink.path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    content = bytearray(sink.path.read_bytes())
    at = len(content) // 2 // size * size
    content[at : at + size] = b"\xa5" * size
    sink.path.write_bytes(content)


def test_an_index_that_only_seemed_damaged_is_kept(tmp_path, sink, write, capsys):
    """A read failed once: looked through and whole, nothing is thrown away, and filling goes on; twice is damage."""
    write(0, 20)
    told = []
    with Indexer(tmp_path, sink, lambda *what: told.append(what)) as indexer:
        indexer.catch_up()
        inode = sink.path.stat().st_ino
        indexer.suspect(SinkDamaged("a read failed"))
        write(20, 30)
        assert indexer.catch_up() > 0
        assert (told, sink.path.stat().st_ino) == ([], inode)
        assert sink.sums((), None, None)[0].attempts == 30
        assert "index_kept" in "".join(capsys.readouterr())
        indexer.suspect(SinkDamaged("and again"))
        indexer.catch_up()
        assert told == [("and again", "ledger.sqlite.damaged")]
        assert sink.sums((), None, None)[0].attempts == 30


def test_an_index_that_can_not_be_looked_through_is_built_again(tmp_path, sink, write, monkeypatch):
    """It takes too long, or the disk does not give it back: then nobody can tell that it is whole."""
    write(0, 20)
    told = []

    def too_long(within_s):
        raise SinkFault("interrupted")

    monkeypatch.setattr(sink, "damage", too_long)
    with Indexer(tmp_path, sink, lambda *what: told.append(what)) as indexer:
        indexer.catch_up()
        indexer.suspect(SinkDamaged("a read failed"))
        indexer.catch_up()
    assert told == [("a read failed; interrupted", "ledger.sqlite.damaged")]
    assert sink.sums((), None, None)[0].attempts == 20


def test_a_batch_that_meets_damage_is_stored_once_it_is_mended(tmp_path, sink, write):
    """Once is kept and stored anew; what goes on failing is built again at the next look."""
    told, failures = [], []

    class Torn:
        def __getattr__(self, name):
            return getattr(sink, name)

        def store(self, batch):
            if len(failures) < 3:
                failures.append(batch)
                raise SinkDamaged("malformed")
            sink.store(batch)

    write(20, 30)
    with Indexer(tmp_path, Torn(), lambda *what: told.append(what)) as indexer:
        with pytest.raises(SinkDamaged):
            indexer.catch_up()
        assert told == [], "kept, and tried again"
        assert indexer.catch_up() > 0
        assert [what for what, _ in told] == ["malformed"]
    assert sink.sums((), None, None)[0].attempts == 10


def test_a_suspicion_does_not_outlive_the_index_that_it_was_of(tmp_path, sink, write):
    """Whoever held the lock may have built it again meanwhile: what is fine is not thrown away."""
    write(0, 5)
    told = []
    late = Indexer(tmp_path, sink, lambda *what: told.append(what))
    with Indexer(tmp_path, open_sink(tmp_path)) as holder:
        holder.catch_up()
        with pytest.raises(IndexBusy):
            late.catch_up()
        late.suspect(SinkDamaged("seen while another filled it"))
    with late:
        late.catch_up()
    assert told == []
    assert sink.attempts("d1")


def test_finished_segments_are_not_looked_at_again(tmp_path, writer, sink, write, monkeypatch):
    """Ten thousand old segments cost the poll nothing but the listing."""
    write(1, 5)
    writer.close()
    with Indexer(tmp_path, sink) as indexer:
        indexer.catch_up()
        (total,) = sink.sums((), None, None)
        assert total.attempts == 4
        monkeypatch.setattr(module, "read_lines", lambda *_: pytest.fail("read again"))
        monkeypatch.setattr(module, "swept_path", lambda *_: pytest.fail("looked at again"))
        assert indexer.catch_up() == 0


def test_waiting_has_an_end(tmp_path, sink, write):
    """When nobody indexes, the caller is told so; a torn tail is not waited for."""
    write(0, 2)
    assert wait_until_indexed(tmp_path, sink, 0.05) is False
    with Indexer(tmp_path, sink) as indexer:
        indexer.catch_up()
    (segment,) = list_segments(tmp_path / "journal")
    with segment.path.open("ab") as file:
        file.write(b'{"v":1,"t":"op')
    assert wait_until_indexed(tmp_path, sink, 0.05) is True


def test_progress_ends_at_the_total(tmp_path, sink, write, monkeypatch):
    """The bar of `coe costs` starts somewhere and ends at the end."""
    monkeypatch.setattr(module, "BATCH_LINES", 4)
    write(0, 20)
    told = []
    with Indexer(tmp_path, sink) as indexer:
        done = indexer.catch_up(lambda *figures: told.append(figures))
    assert len(told) > 5
    assert [at for at, _ in told] == sorted(at for at, _ in told)
    assert {total for _, total in told} == {done}
    assert told[-1] == (done, done)


def test_an_index_that_cannot_be_opened_is_reported_and_comes_back_when_it_is_moved_away(tmp_path, sink, write):
    """The thread lives on: it says what is wrong, and builds the index again once what stands there is gone."""
    write(0, 5)
    sink.path.mkdir()
    indexer = Indexer(tmp_path, sink)
    stop = threading.Event()
    thread = threading.Thread(target=indexer.run, args=(stop, 0.01), daemon=True)
    thread.start()
    try:
        due = time.monotonic() + 20
        while indexer.problem is None:
            assert time.monotonic() < due, "nobody noticed"
            time.sleep(0.01)
        assert "move the file away" in indexer.problem
        sink.path.rmdir()
        while indexer.problem is not None:
            assert time.monotonic() < due, "it never came back"
            time.sleep(0.01)
        assert sink.attempts("d1")
    finally:
        stop.set()
        thread.join(10)
