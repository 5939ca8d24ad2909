"""One decision with its attempts, as `GET /v1/decisions/{id}` shows it."""

from __future__ import annotations

import orjson
import pytest

from service.domain.decision import EntryState
from service.ledger.decisions import decision, recorded
from service.ledger.indexer import Indexer
from service.ledger.reports import costs
from service.ledger.segments import journal_dir, list_segments
from service.ledger.sinks import open_sink
from service.ledger.sinks.port import SinkMissing
from service.ledger.writer import JournalWriter

RECORD = {"id": "d1", "key_id": "key-1", "created_ms": 5, "plan": "cascade", "ranked": [{"model": "small"}], "问": "答"}


@pytest.fixture
def books(tmp_path):
    """Write rows with a writer; the sink that holds them afterwards."""

    def write(rows):
        writer = JournalWriter(tmp_path)
        writer.start()
        rows(writer)
        writer.close()
        sink = open_sink(tmp_path)
        with Indexer(tmp_path, sink) as indexer:
            indexer.catch_up()
        return sink

    return write


def test_a_decision_is_shown_with_its_attempts_and_their_sum(books, opening, ending):
    """In the order of the attempts, money as exact decimals, documents as documents."""

    def rows(writer):
        writer.hold_decision(RECORD)
        writer.write_open(opening("x", decision_id="d1"))
        failed = {"state": EntryState.ESTIMATED, "ended": "http_500", "cost_pusd": 1, "upstream_status": 500}
        writer.write_terminal(ending("x", **failed, usage={"input": 9}, final=False, usage_flags=("absurd",)))
        writer.write_open(opening("y", decision_id="d1", attempt_number=2, model="large", streaming=True))
        writer.write_terminal(ending("y", cost_pusd=2_000_000, served_model="large-1"))
        writer.write_open(opening("z", decision_id="other"))

    sink = books(rows)
    found = decision(sink, "d1")
    assert found is not None
    assert {name: found[name] for name in RECORD} == RECORD
    assert found["cost_usd"] == "0.000002000001"
    first, second = found["attempts"]
    assert (first["attempt_id"], first["ended"], first["cost_usd"], first["final"]) == (
        "ax",
        "http_500",
        "0.000000000001",
        False,
    )
    assert (first["input_tokens"], first["usage_flags"], first["tags"]) == (9, ["absurd"], ["hr"])
    assert (second["model"], second["served_model"], second["streaming"]) == ("large", "large-1", True)
    assert second["price"] == {"version": "acme/small@2026-01-01", "currency": "USD", "rates": {"input": 10_000}}
    orjson.dumps(found)
    assert {row.keys["plan"]: row.attempts for row in costs(sink, ("plan",))} == {"cascade": 2, None: 1}


def test_a_running_or_unpriced_attempt_leaves_the_sum_unknown(books, opening, ending):
    """A sum that may still grow is not a cost."""

    def rows(writer):
        writer.hold_decision(RECORD)
        writer.write_open(opening("x", decision_id="d1"))
        writer.write_terminal(ending("x"))
        writer.write_open(opening("y", decision_id="d1"))

    found = decision(books(rows), "d1")
    assert found is not None
    assert found["cost_usd"] is None
    assert [attempt["cost_usd"] for attempt in found["attempts"]] == ["0.0000015", None]
    assert [attempt["state"] for attempt in found["attempts"]] == ["settled", "open"]


def test_a_decision_without_attempts_cost_nothing(books):
    """A dry run, or one that was refused before it began."""
    found = decision(books(lambda writer: writer.hold_decision(RECORD)), "d1")
    assert found is not None
    assert (found["attempts"], found["cost_usd"]) == ([], "0")


def test_attempts_are_shown_even_when_the_record_is_lost(books, opening, ending):
    """With the key they belong to, so that the API can still tell whose they are."""

    def rows(writer):
        writer.write_open(opening("x", decision_id="d9"))
        writer.write_terminal(ending("x"))

    found = decision(books(rows), "d9")
    assert found is not None
    assert (found["id"], found["key_id"], len(found["attempts"])) == ("d9", "key-1", 1)


def test_an_unknown_decision_is_none(tmp_path, books):
    """And asking before anything was indexed says that there is no index."""
    with pytest.raises(SinkMissing):
        decision(open_sink(tmp_path), "d1")
    assert decision(books(lambda writer: writer.hold_decision(RECORD)), "d2") is None


def test_every_record_of_a_journal_is_read_back(tmp_path, opening):
    """In the order of writing, beside rows of other kinds; older ones are left out when asked."""
    writer = JournalWriter(tmp_path)
    writer.start()
    for number in range(3):
        writer.hold_decision(RECORD | {"id": f"d{number}", "created_ms": number})
        writer.write_open(opening(str(number), decision_id=f"d{number}"))
    assert [one["id"] for one in recorded(tmp_path)] == ["d0", "d1", "d2"]  # beside its writer
    writer.hold_decision({"id": "without an instant"})
    writer.close()
    assert next(recorded(tmp_path)) == RECORD | {"id": "d0", "created_ms": 0}
    assert [one["id"] for one in recorded(tmp_path, since_ms=2)] == ["d2", "without an instant"]
    assert list(recorded(tmp_path / "none")) == []


def test_a_damaged_line_is_told_and_a_torn_end_is_not(tmp_path):
    """A byte that changed is a problem with its place; a line that is being written is none."""
    writer = JournalWriter(tmp_path)
    writer.start()
    writer.hold_decision(RECORD)
    writer.hold_decision(RECORD | {"id": "d2"})
    writer.close()
    (segment,) = list_segments(journal_dir(tmp_path))
    content = segment.path.read_bytes()
    segment.path.write_bytes(content.replace(b"cascade", b"Cascade", 1) + b'{"v":1,"t":"decision"')
    problem, second = recorded(tmp_path)
    assert (problem.segment, problem.what) == (segment.name, "the checksum does not fit the content")
    assert content[problem.offset :].startswith(b'{"v":1,"t":"decision"')
    assert second["id"] == "d2"
