"""The ClickHouse sink on a real server: whose rows are whose, what breaks off and comes again, what is never told."""

from __future__ import annotations

import threading

import pytest

from service.errors import ConfigurationError
from service.ledger.lines import decode, encode
from service.ledger.sinks import clickhouse as module
from service.ledger.sinks import clickhouse_folding
from service.ledger.sinks import clickhouse_layout as layout
from service.ledger.sinks.clickhouse import ClickHouseSink
from service.ledger.sinks.clickhouse_client import Client
from service.ledger.sinks.port import Batch, SinkFault, SinkMissing

SEGMENT = "20261121T101500123Z-42-0a1b2c3d.00000.jsonl"
ROUNDS = 6


def lines(name, cost=5, **changes):
    opened = {"attempt_id": name, "decision_id": f"d-{name}", "at_ms": 10**12, "model": "small"} | changes
    ended = {"attempt_id": name, "state": "settled", "at_ms": 10**12, "cost_pusd": cost, "final": True}
    record = {"id": f"d-{name}", "key_id": "k", "plan": "single"}
    rows = (("decision", record), ("open", opened), ("terminal", ended))
    return [decode(encode(kind, body)[:-1]) for kind, body in rows]


@pytest.fixture
def url(clickhouse):
    return clickhouse.database()


@pytest.fixture
def sinks(url, tmp_path):
    """Two data directories on one database."""
    made = [ClickHouseSink(url, tmp_path / name) for name in ("one", "two")]
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
    one.store(Batch(SEGMENT, 10, lines("a")))
    assert total(two) == 12


@pytest.mark.parametrize("blind", [False, True])
def test_the_same_batch_five_times_counts_once(sinks, monkeypatch, blind):
    """By whatever process, seeing what was stored or not, and before anything merges it: the sums are exact."""
    one, _ = sinks
    if blind:  # as when what was sent arrives after it was given up
        monkeypatch.setattr(clickhouse_folding, "_before", lambda *_: {})
    for _ in range(5):
        one._versions = module.Versions()  # as of another process
        one.store(Batch(SEGMENT, 10, [line for name in "abc" for line in lines(name)]))
    for by in ((), ("model",), ("day", "tag"), ("plan",)):
        (found,) = one.sums(by, None, None)
        assert (found.requests, found.attempts, found.cost_pusd) == (3, 3, 15)
    assert one.audit().attempts == 3


@pytest.mark.parametrize("table", [layout.PROBLEMS, layout.DECISIONS, layout.ATTEMPTS, layout.CHECKPOINT])
def test_a_batch_that_breaks_off_is_stored_over_itself(clickhouse, sinks, monkeypatch, table):
    """The server dies behind any table: what was written counts once, and nothing of it is lost."""
    one, _ = sinks
    one.store(Batch(SEGMENT, 10, lines("a")))
    second = [line._replace(seal="00000000") for line in lines("a", cost=6)]  # these rank first
    insert = Client.insert

    def dying(self, name, rows):
        insert(self, name, rows)
        if name == table:
            clickhouse.kill()

    monkeypatch.setattr(Client, "insert", dying)
    with pytest.raises(SinkFault):
        one.store(Batch(SEGMENT, 20, [*lines("b"), *second]))
    monkeypatch.undo()
    with pytest.raises(SinkFault):
        one.checkpoints()
    clickhouse.start()
    one.close()
    one.prepare()
    assert one.checkpoints() == {SEGMENT: 20 if table == layout.CHECKPOINT else 10}
    monkeypatch.setattr(module, "QUIET_S", 0.1)
    with pytest.raises(SinkFault, match="in part only"):
        one.audit()
    one.store(Batch(SEGMENT, 20, [*lines("b"), *second]))
    assert total(one) == 11
    found = one.audit()
    assert (found.attempts, found.cost_pusd, found.differences) == (2, 11, ())
    assert [one.what.rpartition("one ")[2] for one in one.problems()] == ["open row", "terminal row"]


def test_tables_that_another_made_anew_are_not_filled_from_the_middle(sinks):
    """What was indexed before is gone with the old ones: the checkpoints have to be read again."""
    one, two = sinks
    one.store(Batch(SEGMENT, 10, lines("a")))
    assert two.discard() == f"{layout.DAMAGED}*"
    two.prepare()
    with pytest.raises(SinkFault, match="made anew"):
        one.store(Batch(SEGMENT, 20, lines("b")))
    one.close()
    one.prepare()
    assert one.checkpoints() == {}


def test_a_checkpoint_of_other_tables_counts_for_nothing(sinks, clickhouse, url):
    """A batch may be on its way while another router makes the tables anew."""
    one, _ = sinks
    one.store(Batch(SEGMENT, 10, lines("a")))
    database = url.rpartition("/")[2]
    clickhouse.ask(f"INSERT INTO {layout.LAYOUT_TABLE} VALUES ({layout.VERSION}, '0')", database)  # noqa: S608  # Literals of ours.
    assert one.checkpoints() == {}


def test_replicas_that_fill_at_once_are_in_no_way_of_each_other(sinks):
    """Nothing fails, and the sums of both are those of their attempts."""
    failed = []

    def fill(sink, name):
        try:
            for number in range(ROUNDS):
                some = [line for one in range(5) for line in lines(f"{name}{number}-{one}", model=f"m{one}")]
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
        assert (sink.audit().differences, sink.audit().attempts) == ((), 5 * ROUNDS)
    assert total(sinks[0]) == 2 * 5 * ROUNDS * 5


def test_a_newer_layout_is_refused_and_an_older_one_made_anew(sinks, monkeypatch):
    """There are no migrations of what can be derived; what nothing could fill again is kept."""
    one, two = sinks
    one.store(Batch(SEGMENT, 10, lines("a")))
    one.close()
    monkeypatch.setattr(layout, "VERSION", layout.VERSION - 1)
    with pytest.raises(ConfigurationError, match="run the newer one"):
        one.prepare()
    with pytest.raises(SinkFault, match="another version"):
        one.checkpoints()
    monkeypatch.setattr(layout, "VERSION", layout.VERSION + 2)
    with pytest.raises(ConfigurationError, match="without-pruned"):
        one.prepare(keep=True)
    one.prepare()
    assert one.checkpoints() == {}
    monkeypatch.undo()
    with pytest.raises(SinkFault, match="another version"):
        two.checkpoints()


def test_the_url_and_the_rows_are_in_no_message(clickhouse, url, tmp_path, sinks):
    """Neither of a server that isn't there, nor of one that refuses, nor of a statement that fails."""
    told = []
    where = f"127.0.0.1:{clickhouse.port}"
    bad = ("me:geheim@127.0.0.1:1/x", f"tester:geheim@{where}/nosuch", f"tester:geheim2@{where}/default")
    for one in bad:
        with pytest.raises((SinkFault, SinkMissing)) as lost:
            ClickHouseSink(f"clickhouse://{one}", tmp_path).checkpoints()
        told.append(str(lost.value))
        with pytest.raises(SinkFault) as lost:
            ClickHouseSink(f"clickhouse://{one}", tmp_path).prepare()
        told.append(str(lost.value))
    clickhouse.ask(f"DROP TABLE {layout.ATTEMPTS}", url.rpartition("/")[2])
    with pytest.raises(SinkFault, match="error 60") as lost:
        sinks[0].store(Batch(SEGMENT, 1, lines("geheim")))
    told.append(str(lost.value))
    assert [text for text in told if "geheim" in text or "127.0.0.1" in text] == []
    assert any("wrong password" in text for text in told)


def test_what_cannot_be_read_is_damage(clickhouse, url, sinks):
    """Found by reading everything; then it is put out of the way and filled again."""
    one, _ = sinks
    one.store(Batch(SEGMENT, 10, lines("a")))
    assert one.damage(30.0) is None
    database = url.rpartition("/")[2]
    (path,) = (clickhouse.home / "data" / "data" / database / layout.DECISIONS).glob("*_*_*/json.bin")
    content = bytearray(path.read_bytes())
    content[-4:] = b"\xff" * 4
    path.write_bytes(content)
    clickhouse.ask("SYSTEM DROP UNCOMPRESSED CACHE")
    found = one.damage(30.0)
    assert found is not None
    assert "error 40" in found
    assert one.discard() == f"{layout.DAMAGED}*"
    one.prepare()
    one.store(Batch(SEGMENT, 10, lines("a")))
    assert total(one) == 5


def test_what_no_column_holds_is_unknown_and_stops_nothing(sinks):
    """A journal of another program may hold anything; a batch that can never be stored would stop the index for good."""
    one, _ = sinks
    odd = lines("a'\\b", model=7, language="x\x00y", tags=["t\\'\n", "人"], choices="many", last_user_tokens=2**63)
    one.store(Batch(SEGMENT, 10, odd))
    one.store(Batch(SEGMENT, 10, odd))
    (row,) = one.attempts("d-a'\\b")
    assert (row["model"], row["language"], row["choices"]) == ("7", "x\ufffdy", None)
    assert [row.keys[0] for row in one.sums(("tag",), None, None)] == ["t\\'\n", "人"]
