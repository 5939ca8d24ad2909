"""The PostgreSQL sink on a real server: whose rows are whose, what is lost and comes back, what is never told."""

from __future__ import annotations

import threading

import psycopg
import pytest

from service.errors import ConfigurationError
from service.ledger.lines import decode, encode
from service.ledger.sinks import postgres as module
from service.ledger.sinks import postgres_layout as layout
from service.ledger.sinks.identity import IDENTITY
from service.ledger.sinks.port import Batch, SinkFault
from service.ledger.sinks.postgres import PostgresSink
from service.ledger.sinks.rollup import HOUR_MS

ROUNDS = 15
SEGMENT = "20261121T101500123Z-42-0a1b2c3d.00000.jsonl"


def lines(name, cost=5, **changes):
    opened = {"attempt_id": name, "decision_id": f"d-{name}", "at_ms": 10**12, "model": "small"} | changes
    ended = {"attempt_id": name, "state": "settled", "at_ms": 10**12, "cost_pusd": cost, "final": True}
    record = {"id": f"d-{name}", "key_id": "k", "plan": "single"}
    rows = (("decision", record), ("open", opened), ("terminal", ended))
    return [decode(encode(kind, body)[:-1]) for kind, body in rows]


@pytest.fixture
def url(postgres):
    return postgres.database()


@pytest.fixture
def sinks(url, tmp_path):
    """Two data directories on one database."""
    made = [PostgresSink(url, tmp_path / name) for name in ("one", "two")]
    for sink in made:
        sink.prepare()
    yield made
    for sink in made:
        sink.close()


def total(sink):
    return sum(row.cost_pusd for row in sink.sums((), None, None))


def test_replicas_fill_one_database_and_each_answers_for_all(sinks):
    """Costs are those of both; checkpoints, problems and audits are one's own."""
    one, two = sinks
    one.store(Batch(SEGMENT, 10, lines("a")))
    two.store(Batch(SEGMENT, 20, lines("b", cost=7)))
    assert total(one) == total(two) == 12
    assert (one.checkpoints(), two.checkpoints()) == ({SEGMENT: 10}, {SEGMENT: 20})
    assert (one.audit().cost_pusd, two.audit().cost_pusd) == (5, 7)
    assert one.audit().differences == two.audit().differences == ()


def test_emptying_one_leaves_the_rows_of_the_other(sinks):
    """A rebuild is of one's own journal, so only that may go."""
    one, two = sinks
    one.store(Batch(SEGMENT, 10, lines("a")))
    two.store(Batch(SEGMENT, 20, lines("b", cost=7)))
    one.clear()
    assert total(one) == 7
    assert (one.checkpoints(), two.checkpoints()) == ({}, {SEGMENT: 20})
    assert two.decision("d-b") is not None
    assert two.audit().differences == ()
    one.store(Batch(SEGMENT, 10, lines("a")))
    assert total(two) == 12


def test_tables_that_another_made_anew_are_not_filled_from_the_middle(sinks):
    """What was indexed before is gone with the old ones: the checkpoints have to be read again."""
    one, two = sinks
    one.store(Batch(SEGMENT, 10, lines("a")))
    assert two.discard() == layout.DAMAGED
    two.prepare()
    with pytest.raises(SinkFault, match="made anew"):
        one.store(Batch(SEGMENT, 20, lines("b")))
    one.close()
    one.prepare()
    assert one.checkpoints() == {}


def test_replicas_that_fill_at_once_are_in_no_way_of_each_other(sinks):
    """Same names, same hours, days that are over: nothing fails, and the sums of both are those of their attempts."""
    failed = []

    def fill(sink, name):
        try:
            for number in range(ROUNDS):
                some = [
                    line
                    for one in range(5)
                    for line in lines(f"{name}{number}-{one}", model=f"m{one}", at_ms=10**12 + number * HOUR_MS * 7)
                ]
                sink.store(Batch(SEGMENT.replace("-42-", f"-{name}-"), number, some))
        except Exception as problem:  # of a thread: told below
            failed.append(problem)

    threads = [threading.Thread(target=fill, args=(sink, str(number))) for number, sink in enumerate(sinks, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for sink in sinks:
        assert sink.audit().differences == ()
        assert sink.audit().attempts == 5 * ROUNDS
    assert total(sinks[0]) == 2 * 5 * ROUNDS * 5


def test_an_older_layout_with_what_nothing_could_fill_again_is_kept(sinks, monkeypatch):
    """A journal that was pruned makes the index the only place of its rows."""
    one, two = sinks
    one.store(Batch(SEGMENT, 10, lines("a")))
    one.close()
    monkeypatch.setattr(layout, "VERSION", layout.VERSION + 1)
    with pytest.raises(ConfigurationError, match="without-pruned"):
        one.prepare(keep=True)
    monkeypatch.undo()
    assert total(two) == 5


def test_a_data_directory_keeps_its_name(url, tmp_path):
    """Whoever opens it; nobody else has it."""
    first = PostgresSink(url, tmp_path)
    first.prepare()
    name = (tmp_path / IDENTITY).read_text()
    first.store(Batch(SEGMENT, 10, lines("a")))
    first.close()
    again = PostgresSink(url, tmp_path)
    again.prepare()
    assert (tmp_path / IDENTITY).read_text() == name
    assert again.checkpoints() == {SEGMENT: 10}
    assert (tmp_path / IDENTITY).stat().st_mode & 0o777 == 0o600
    again.close()


def test_the_url_is_in_no_message(postgres, tmp_path):
    """Neither of one that can't be read, nor of a server that isn't there, nor of one that refuses."""
    told = []
    for bad in ("postgresql://me:geheim%zz@db/x", "postgresql://me:geheim@db/x?nosuch=geheim"):
        with pytest.raises(ConfigurationError) as refused:
            PostgresSink(bad, tmp_path)
        told.append(refused.value)
    for bad in ("postgresql://me:geheim@127.0.0.1:1/x", postgres.url("nosuch")):
        with pytest.raises(SinkFault) as lost:
            PostgresSink(bad, tmp_path).checkpoints()
        told.append(lost.value)
    assert [text for text in map(str, told) if "geheim" in text] == []


def test_a_newer_layout_is_refused_and_an_older_one_made_anew(url, sinks, tmp_path, monkeypatch):
    """There are no migrations of what can be derived."""
    one, _ = sinks
    one.store(Batch(SEGMENT, 10, lines("a")))
    one.close()
    monkeypatch.setattr(layout, "VERSION", layout.VERSION - 1)
    with pytest.raises(ConfigurationError, match="run the newer one"):
        one.prepare()
    with pytest.raises(SinkFault, match="of another version of this program"):
        one.checkpoints()  # as nothing there it would be told as no spend at all
    monkeypatch.setattr(layout, "VERSION", layout.VERSION + 2)
    with pytest.raises(SinkFault, match="of another version"):
        one.sums((), None, None)
    one.prepare()
    assert one.checkpoints() == {}


def test_a_server_that_dies_in_a_batch_loses_and_doubles_nothing(postgres, sinks, monkeypatch):
    """The batch was not stored; the same one is stored when the server is back."""
    one, _ = sinks
    one.store(Batch(SEGMENT, 10, lines("a")))
    written = module.Change.make

    def dying(self, *arguments):
        written(self, *arguments)
        postgres.kill()

    monkeypatch.setattr(module.Change, "make", dying)
    with pytest.raises(SinkFault):
        one.store(Batch(SEGMENT, 20, lines("b")))
    monkeypatch.undo()
    with pytest.raises(SinkFault):
        one.checkpoints()
    postgres.start()
    one.close()
    one.prepare()
    assert one.checkpoints() == {SEGMENT: 10}
    for _ in range(2):
        one.store(Batch(SEGMENT, 20, lines("b")))
    assert total(one) == 10
    assert one.audit().differences == ()


def test_a_table_that_cannot_be_read_is_damage(postgres, url, sinks):
    """Found by reading everything; then it is put out of the way and filled again."""
    one, _ = sinks
    one.store(Batch(SEGMENT, 10, lines("a")))
    assert one.damage(30.0) is None
    spoil(postgres, url)
    found = one.damage(30.0)
    assert found is not None
    assert "DataCorrupted" in found
    assert one.discard() == layout.DAMAGED
    one.prepare()
    one.store(Batch(SEGMENT, 10, lines("a")))
    assert total(one) == 5


def spoil(postgres, url):
    """Overwrite the header of the first page of the attempts, in the file itself, while the server is down."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        path = connection.execute(f"SELECT pg_relation_filepath('{layout.SCHEMA}.attempts')").fetchone()[0]
    postgres.stop()
    with (postgres.home / "data" / path).open("r+b") as file:
        file.write(b"\xff" * 24)
    postgres.start()


def test_what_no_column_holds_is_unknown_and_stops_nothing(sinks):
    """A journal of another program may hold anything; a batch that can never be stored would stop the index for good."""
    one, _ = sinks
    odd = lines("a", model=7, language="x\x00y", tags=["t\x00", "u"], choices="many", last_user_tokens=2**63)
    one.store(Batch(SEGMENT, 10, odd))
    (row,) = one.attempts("d-a")
    assert (row["model"], row["language"], row["choices"]) == ("7", "x\ufffdy", None)
    assert [row.keys[0] for row in one.sums(("tag",), None, None)] == ["t\ufffd", "u"]
