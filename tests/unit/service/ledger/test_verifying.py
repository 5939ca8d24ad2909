"""What is a fault of a ledger and what is not; `coe ledger verify` is tested whole in test_ledger.py."""

from __future__ import annotations

from service.ledger.indexer import Indexer
from service.ledger.sinks import open_sink
from service.ledger.verifying import FAULTS_MAX, Verdict, verify
from service.ledger.writer import JournalWriter


def test_faults_are_counted_beyond_those_that_are_told():
    """A journal that is damaged all over makes no endless report."""
    verdict = Verdict()
    for number in range(FAULTS_MAX + 5):
        verdict.fault(f"fault {number}")
    assert (len(verdict.faults), verdict.fault_count) == (FAULTS_MAX, FAULTS_MAX + 5)


def test_what_is_written_after_the_index_was_looked_at_is_no_fault(tmp_path, opening, ending):
    """A router goes on while its ledger is checked."""
    writer = JournalWriter(tmp_path)
    writer.start()
    sink = open_sink(tmp_path)
    for number in range(3):
        writer.write_open(opening(number))
        writer.write_terminal(ending(number))
    with Indexer(tmp_path, sink) as indexer:
        indexer.catch_up()
    writer.write_open(opening(7))
    told = []
    verdict = verify(tmp_path, sink, lambda done, total, what: told.append((done, total, what)))
    writer.close()
    assert (verdict.fault_count, verdict.notes) == (0, [])
    assert "3 attempts begun, 3 ended" in verdict.lines[0]
    assert {what for _, _, what in told} == {"Adding up the index", "Reading the journal"}
    assert all(done <= total for done, total, _ in told)
