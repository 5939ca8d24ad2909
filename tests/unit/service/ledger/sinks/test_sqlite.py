"""What is particular to the SQLite sink: its file, its durability, its layouts. The contract test has the rest."""

from __future__ import annotations

import sqlite3
import stat
import threading

import pytest

from service.errors import ConfigurationError
from service.ledger.lines import decode, encode
from service.ledger.sinks.port import Batch, SinkMissing
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


def test_a_file_that_is_no_database_is_named(tmp_path):
    """And the reader learns that the journal is not affected."""
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"certainly not a database" * 100)
    with pytest.raises(ConfigurationError, match="move the file away"):
        SqliteSink(str(path)).prepare()
    assert path.read_bytes().startswith(b"certainly")


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
