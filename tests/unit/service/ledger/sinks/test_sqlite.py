"""What is particular to the SQLite sink: its file, its durability, its layouts. The contract test has the rest."""

from __future__ import annotations

import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.ledger.lines import decode, encode
from service.ledger.sinks.port import Batch, SinkDamaged, SinkFault, SinkMissing
from service.ledger.sinks.sqlite import SqliteSink
from service.ledger.sinks.sqlite_layout import SCHEMA_VERSION


@pytest.fixture
def sink(tmp_path):
    made = SqliteSink(str(tmp_path / "ledger.sqlite"))
    made.prepare()
    yield made
    made.close()


def row(number):
    body = {"attempt_id": f"a{number}", "request_id": f"r{number}", "decision_id": "d", "at_ms": number}
    return decode(encode("open", body)[:-1])


def test_the_file_is_private_and_durable(sink):
    """0600 with its side files, write-ahead log, full synchronisation."""
    sink.store(Batch("s", 1, [row(1)]))
    assert {stat.S_IMODE(path.stat().st_mode) for path in sink.path.parent.iterdir()} == {0o600}
    assert sink._filling.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert sink._filling.execute("PRAGMA synchronous").fetchone() == (2,)


def test_asking_does_not_wait_for_filling(sink):
    """While a batch is under way a question is answered from the state before it, and can't write."""
    sink.store(Batch("s", 1, [row(1)]))
    sink._filling.execute("BEGIN IMMEDIATE")
    sink._filling.execute("DELETE FROM attempts")
    assert len(sink.attempts("d")) == 1
    sink._filling.execute("ROLLBACK")
    with sink._asking() as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM attempts")


def test_questions_come_from_any_thread(sink):
    """The server asks from its worker threads while the indexer fills from its own."""
    problems = []

    def ask():
        try:
            for _ in range(20):
                sink.sums(("model",), None, None)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(50):
        sink.store(Batch("s", number, [row(number)]))
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(sink.attempts("d")) == 50


def test_filling_needs_preparing(tmp_path):
    """A batch is never dropped in silence."""
    with pytest.raises(RuntimeError, match="prepare"):
        SqliteSink(str(tmp_path / "x.sqlite")).store(Batch("s", 1, [row(1)]))


def test_an_older_layout_is_emptied(sink):
    """It is built again from the journal, checkpoints and all."""
    sink.store(Batch("s", 1, [row(1)]))
    sink.close()
    with sqlite3.connect(sink.path) as connection:
        connection.execute("DROP TABLE attempts")
        connection.execute("CREATE TABLE attempts (something_old TEXT)")
        connection.execute("PRAGMA user_version = 0")
    connection.close()
    with pytest.raises(SinkMissing, match="isn't built"):
        sink.sums((), None, None)
    sink.prepare()
    assert sink.checkpoints() == {}
    assert sink.sums((), None, None) == []


def test_a_newer_layout_is_left_alone(sink):
    """An older program must not destroy what a newer one built."""
    sink.close()
    with sqlite3.connect(sink.path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(ConfigurationError, match="run the newer program"):
        sink.prepare()


def test_a_file_that_is_no_database_is_damaged(tmp_path):
    """It is told as what every sink may be; put aside it is kept, and the next one begins empty."""
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"certainly not a database" * 100)
    sink = SqliteSink(str(path))
    with pytest.raises(SinkDamaged, match="not a database"):
        sink.prepare()
    with pytest.raises(SinkDamaged, match="not a database"):
        sink.sums((), None, None)
    moved = sink.discard()
    assert Path(moved).read_bytes().startswith(b"certainly")
    sink.prepare()
    assert sink.checkpoints() == {}
    sink.close()
    assert {one.name for one in tmp_path.iterdir()} == {"ledger.sqlite", "ledger.sqlite.damaged"}


def test_damage_inside_is_damage_and_a_mistake_of_ours_is_not(tmp_path):
    """A page that is overwritten is found when it is read; an error in a statement stays what it is."""
    path = tmp_path / "ledger.sqlite"
    sink = SqliteSink(str(path))
    sink.prepare()
    sink.store(Batch("s", 1, [row(number) for number in range(2_000)]))
    with pytest.raises(sqlite3.ProgrammingError), sink._asking() as connection:
        connection.execute("SELECT ?", ())
    sink.close()
    content = bytearray(path.read_bytes())
    content[8_192:200_000] = b"\xa5" * (200_000 - 8_192)
    path.write_bytes(content)
    with pytest.raises(SinkDamaged):
        sink.sums((), None, None)


def test_all_of_it_is_looked_through(tmp_path):
    """Damage that no question has met is found; what is whole is whole, also while it is being filled; time is kept."""
    path = tmp_path / "ledger.sqlite"
    sink = SqliteSink(str(path))
    sink.prepare()
    sink.store(Batch("s", 1, [row(number) for number in range(2_000)]))
    assert sink.damage(60) is None
    with pytest.raises(SinkFault, match="interrupted"):
        sink.damage(-1)
    sink.close()
    content = bytearray(path.read_bytes())
    content[-40_960:-36_864] = b"\xa5" * 4_096
    path.write_bytes(content)
    assert sink.checkpoints() == {"s": 1}
    assert sink.damage(60)
    path.write_bytes(b"certainly not a database" * 100)
    assert sink.damage(60) == "file is not a database"


def test_a_lock_that_another_holds_is_a_fault_that_passes(sink):
    """Filling gives up for now and can be done later; asking goes on."""
    sink.store(Batch("s", 1, [row(1)]))
    with sqlite3.connect(sink.path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        sink._filling.execute("PRAGMA busy_timeout = 10")
        with pytest.raises(SinkFault, match="locked") as refused:
            sink.store(Batch("s", 2, [row(2)]))
        assert not isinstance(refused.value, SinkDamaged)
        assert len(sink.attempts("d")) == 1
        other.execute("ROLLBACK")
    other.close()
    sink.store(Batch("s", 2, [row(2)]))
    assert len(sink.attempts("d")) == 2


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    """The parent is a file."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigurationError, match="can't be opened"):
        SqliteSink(str(tmp_path / "taken" / "ledger.sqlite")).prepare()


def test_a_path_with_odd_characters_works(tmp_path):
    """The read-only address is a URI: percent signs, question marks and Chinese must be escaped."""
    directory = tmp_path / "账本 100%?#"
    directory.mkdir()
    sink = SqliteSink(str(directory / "ledger.sqlite"))
    sink.prepare()
    sink.store(Batch("s", 1, [row(1)]))
    assert len(sink.attempts("d")) == 1
    sink.close()


def test_a_decision_that_can_not_be_read_is_damage(sink):
    """A fault of ours would be told as one; this is the file's."""
    sink._filling.execute("INSERT INTO decisions (id, json) VALUES ('d', '{torn')")
    with pytest.raises(SinkDamaged):
        sink.decision("d")
