"""Segments that may go and segments that have to stay; that what went still counts, and is not given up by accident."""

from __future__ import annotations

import os
import time

import pytest

from service.errors import ConfigurationError
from service.ledger.indexer import Indexer
from service.ledger.pruning import RECORD, NotSound, lacks_some, prune, pruned
from service.ledger.segments import journal_dir, list_segments
from service.ledger.sinks import open_sink
from service.ledger.sinks.port import SinkFault
from service.ledger.verifying import verify
from service.ledger.writer import JournalWriter


@pytest.fixture
def sink(tmp_path):
    made = open_sink(tmp_path)
    yield made
    made.close()


@pytest.fixture
def writer(tmp_path):
    made = JournalWriter(tmp_path, max_segment_bytes=3_000)
    made.start()
    yield made
    made.close()


def index(tmp_path, sink):
    with Indexer(tmp_path, sink) as indexer:
        indexer.catch_up()


def names(tmp_path):
    return [segment.name for segment in list_segments(journal_dir(tmp_path))]


def total(sink):
    return sum(row.cost_pusd for row in sink.sums((), None, None))


def gone(tmp_path, sink, before_s=None):
    return list(prune(tmp_path, sink, time.time() + 60 if before_s is None else before_s))


def filled(writer, opening, ending, count=20):
    for number in range(count):
        writer.write_open(opening(number))
        writer.write_terminal(ending(number))


def test_what_went_still_adds_up(tmp_path, writer, sink, opening, ending):
    """Reports, budgets and the audit are those of before; the newest part of a writer that lives stays."""
    filled(writer, opening, ending)
    index(tmp_path, sink)
    before = (total(sink), sink.spent(0), names(tmp_path))
    went = gone(tmp_path, sink)
    assert [one.name for one in went] == before[2][:-1]
    assert names(tmp_path) == before[2][-1:]
    assert pruned(journal_dir(tmp_path)) == {one.name: one for one in went}
    index(tmp_path, sink)
    assert (total(sink), sink.spent(0)) == before[:2]
    verdict = verify(tmp_path, sink)
    assert verdict.faults == []
    assert any(line.startswith(f"pruned: {len(went)} segments up to 2026-11-18") for line in verdict.lines)
    writer.write_open(opening("later"))
    writer.write_terminal(ending("later"))
    index(tmp_path, sink)
    assert verify(tmp_path, sink).faults == []


def test_of_a_writer_that_has_ended_everything_goes(tmp_path, writer, sink, opening, ending):
    """Nobody will write to it again."""
    filled(writer, opening, ending)
    writer.close()
    index(tmp_path, sink)
    gone(tmp_path, sink)
    assert names(tmp_path) == []
    assert verify(tmp_path, sink).faults == []


def test_a_segment_stays_while_an_attempt_of_it_runs(tmp_path, writer, sink, opening, ending):
    """And so do all after it: whoever sweeps this writer must find the ends of what it finds begun."""
    writer.write_open(opening("slow"))
    filled(writer, opening, ending)
    index(tmp_path, sink)
    assert gone(tmp_path, sink) == []
    writer.write_terminal(ending("slow"))
    index(tmp_path, sink)
    assert gone(tmp_path, sink) != []
    assert verify(tmp_path, sink).faults == []


def test_a_segment_stays_that_is_not_indexed_whole(tmp_path, writer, sink, opening, ending):
    """Its rows would be gone."""
    filled(writer, opening, ending)
    index(tmp_path, sink)
    filled(writer, lambda number: opening(f"b{number}"), lambda number: ending(f"b{number}"))
    stays = [name for name in names(tmp_path) if name not in sink.checkpoints()]
    gone(tmp_path, sink)
    assert set(stays) <= set(names(tmp_path))


def test_a_segment_stays_that_is_young(tmp_path, writer, sink, opening, ending):
    """By when it was last written."""
    filled(writer, opening, ending)
    index(tmp_path, sink)
    first = list_segments(journal_dir(tmp_path))[0].path
    assert gone(tmp_path, sink, time.time() - 3_600) == []
    os.utime(first, (0, time.time() - 7_200))
    assert [one.name for one in gone(tmp_path, sink, time.time() - 3_600)] == [first.name]


def test_a_damaged_segment_stays(tmp_path, writer, sink, opening, ending):
    """Somebody has to look at it first."""
    filled(writer, opening, ending)
    index(tmp_path, sink)
    first = list_segments(journal_dir(tmp_path))[0].path
    content = bytearray(first.read_bytes())
    content[40] ^= 1
    first.write_bytes(content)
    with pytest.raises(NotSound, match=first.name):
        gone(tmp_path, sink)
    assert first.exists()
    assert not lacks_some(journal_dir(tmp_path))


def test_an_index_that_nothing_can_fill_again_is_not_emptied(tmp_path, writer, sink, opening, ending):
    """Neither by a rebuild, nor because it is damaged; only when somebody says so, and then it is told no more."""
    filled(writer, opening, ending)
    index(tmp_path, sink)
    before = total(sink)
    gone(tmp_path, sink)
    indexer = Indexer(tmp_path, sink)
    with pytest.raises(ConfigurationError, match="without-pruned"):
        indexer.rebuild()
    indexer.close()
    assert total(sink) == before
    path = tmp_path / "ledger.sqlite"
    content = path.read_bytes()
    path.write_bytes(b"no database at all" * 1_000)
    for side in ("-wal", "-shm"):
        path.with_name(path.name + side).unlink(missing_ok=True)
    with pytest.raises(SinkFault, match="without-pruned"):
        index(tmp_path, sink)
    assert path.read_bytes() != content  # it lies where it lay
    with Indexer(tmp_path, sink, without_pruned=True) as indexer:
        indexer.rebuild()
    assert total(sink) < before
    assert not lacks_some(journal_dir(tmp_path))
    assert verify(tmp_path, sink).faults == []


def test_an_index_without_what_was_pruned_is_a_fault(tmp_path, writer, sink, opening, ending):
    """Somebody took the file away: reports lack months, and verify says so."""
    filled(writer, opening, ending)
    index(tmp_path, sink)
    gone(tmp_path, sink)
    sink.close()
    for path in tmp_path.glob("ledger.sqlite*"):
        path.unlink()
    index(tmp_path, sink)
    faults = verify(tmp_path, sink).faults
    assert any("was pruned and is not in the index" in fault for fault in faults)


def test_a_record_that_is_damaged_is_told(tmp_path, writer, sink, opening, ending):
    """It is part of the books."""
    filled(writer, opening, ending)
    index(tmp_path, sink)
    gone(tmp_path, sink)
    record = journal_dir(tmp_path) / RECORD
    record.write_bytes(record.read_bytes().replace(b'"opened":', b'"opened": '))
    with pytest.raises(NotSound, match=RECORD):
        pruned(journal_dir(tmp_path))
    assert any(RECORD in fault for fault in verify(tmp_path, sink).faults)
