"""`coe ledger verify` and `coe ledger rebuild`, run as a user runs them, on ledgers that hold and that do not."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from typing import NamedTuple

import pytest

from service.cli import main
from service.cli.exits import EX_CONFIG, EX_DATAERR, EX_TEMPFAIL, EX_USAGE
from service.domain.decision import EntryState, OpenEntry, TerminalEntry
from service.ledger.indexer import Indexer
from service.ledger.lines import encode
from service.ledger.rows import terminal_body
from service.ledger.segments import list_segments, mark_swept
from service.ledger.sinks import INDEX_FILE, open_sink, sqlite_folding
from service.ledger.writer import JournalWriter

AT_MS = 1_795_000_000_000


class Run(NamedTuple):
    """What a run of the command left."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def coe(monkeypatch, capsys, tmp_path):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["coe", "ledger", *arguments, "--data-dir", str(tmp_path)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Run(int(ended.value.code or 0), *capsys.readouterr())

    return run


def begin(writer, number):
    names = (f"a{number}", f"r{number}", f"d{number}", 1, AT_MS + number, "key-1", "auto", "small", "acme", "w")
    writer.write_open(OpenEntry(*names, "coding", "zh", "balanced", None, 9, tags=("hr",)))


def attempt(writer, number):
    begin(writer, number)
    usage = {"input": 10, "output": 5}
    writer.write_terminal(
        TerminalEntry(f"a{number}", EntryState.SETTLED, AT_MS + 5, "complete", usage, "provider", (), 1_000_001)
    )


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Small ledgers would wait to be rolled up."""
    monkeypatch.setattr(sqlite_folding, "SETTLE_ROWS", 1)


@pytest.fixture
def writer(tmp_path):
    made = JournalWriter(tmp_path, max_segment_bytes=3_000)
    made.start()
    for number in range(20):
        attempt(made, number)
    yield made
    made.close()


def damaged(path, statement):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def test_a_ledger_that_holds(coe, writer):
    """While its writer lives and an attempt runs."""
    begin(writer, 99)
    run = coe("verify")
    assert run.returncode == 0, run.stderr
    assert "21 attempts begun, 20 ended, 0.00002000002 USD" in run.stdout
    assert "index: 21 attempts, 0.00002000002 USD" in run.stdout
    assert run.stdout.endswith("sums: no differences from the attempts\nThe ledger holds.\n")
    assert run.stderr == f"Note: 1 attempts of {writer.name} are running, or are ended by the next start\n"


def test_no_ledger_yet_is_no_error(coe):
    """There is nothing that could be wrong."""
    for command in ("verify", "rebuild"):
        run = coe(command)
        assert (run.returncode, run.stdout) == (0, "")
        assert "No ledger" in run.stderr


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("UPDATE rollup_hours SET cost_low = cost_low + 1", "rollup_hours: 2 sums of 2026-11-18"),
        ("UPDATE rollup_hours SET requests = requests - 1", "rollup_hours: 2 sums of 2026-11-18"),
        ("DELETE FROM rollup_hours", "rollup_hours: 1 sums of 2026-11-18"),
        ("UPDATE attempts SET cost_pusd = 7 WHERE attempt_id = 'a3'", "the journal has others"),
        ("DELETE FROM attempts WHERE attempt_id = 'a3'", "the index has 19 beginnings"),
        ("INSERT INTO apart SELECT id FROM attempts WHERE attempt_id = 'a3'", "rollup_hours: 2 sums of 2026-11-18"),
        ("UPDATE attempts SET decision_id = 'd4' WHERE attempt_id = 'a3'", "rollup_hours"),
        ("UPDATE attempts SET state = 'open' WHERE attempt_id = 'a3'", "1 requests are in the rollups"),
    ],
)
def test_an_index_that_says_something_else_is_told_and_built_anew(coe, tmp_path, writer, statement, complaint):
    """Each of them ends with 65 and says what to do; that done, the ledger holds."""
    assert coe("verify").returncode == 0
    damaged(tmp_path / INDEX_FILE, statement)
    run = coe("verify")
    assert run.returncode == EX_DATAERR
    assert complaint in run.stderr
    assert "coe ledger rebuild" in run.stderr
    assert coe("rebuild").stdout.endswith(": 20 attempts.\n")
    assert coe("verify").returncode == 0


def test_a_changed_byte_in_the_journal_is_told(coe, tmp_path, writer):
    """By place; what stood there is not repeated."""
    segment = list_segments(tmp_path / "journal")[1].path
    content = bytearray(segment.read_bytes())
    content[content.index(b"1000001")] = ord("2")
    segment.write_bytes(content)
    run = coe("verify")
    assert run.returncode == EX_DATAERR
    assert f"{segment.name} at byte" in run.stderr
    assert "checksum" in run.stderr
    assert "2000001" not in run.stderr + run.stdout


def test_a_segment_that_is_gone_is_told(coe, tmp_path, writer):
    """Before it was indexed its number is missing, after it its name as well."""
    gone = list_segments(tmp_path / "journal")[1].path
    content = gone.read_bytes()
    gone.unlink()
    run = coe("verify")
    assert run.returncode == EX_DATAERR
    assert f"{gone.name} is missing" in run.stderr
    gone.write_bytes(content)
    assert coe("verify").returncode == 0
    gone.unlink()
    assert f"{gone.name} is gone" in coe("verify").stderr


def test_ends_that_are_missing_or_too_many_are_told(coe, tmp_path, writer):
    """An attempt of a writer that is done for has ended; and nobody ends an attempt twice."""
    begin(writer, 99)
    mark_swept(writer.directory, writer.name)
    run = coe("verify")
    assert run.returncode == EX_DATAERR
    assert f"1 attempts of {writer.name} have begun and never ended" in run.stderr
    other = JournalWriter(tmp_path)
    other.start()
    end = TerminalEntry("a3", EntryState.SETTLED, AT_MS + 7, "complete", cost_pusd=5)
    other.write_recovered(encode("terminal", terminal_body(end)))
    run = coe("verify")
    other.close()
    assert "attempt a3 has more than one terminal row" in run.stderr
    assert "has others" not in run.stderr, "one of the two ends counts: the sums of the journal are no measure then"


def test_a_last_line_that_is_torn_is_a_note(coe, tmp_path, writer):
    """A power cut does that; nobody was told that it was written."""
    writer.close()
    last = list_segments(tmp_path / "journal")[-1].path
    last.write_bytes(last.read_bytes() + b'{"v":1,"t":"open","e":{"att')
    run = coe("verify")
    assert run.returncode == 0, run.stderr
    assert "its last line is not whole" in run.stderr


def test_rebuilding_needs_the_index_for_itself(coe, tmp_path, writer):
    """A router that runs fills it."""
    with Indexer(tmp_path, open_sink(tmp_path)) as indexer:
        indexer.catch_up()
        run = coe("rebuild")
    assert run.returncode == EX_TEMPFAIL
    assert "stop the router" in run.stderr


def test_old_segments_are_pruned_and_reports_stay(coe, tmp_path, writer):
    """By days since they were written; then a rebuild has to be asked for by name."""
    assert coe("verify").returncode == 0
    assert (
        coe("prune", "--keep-days", "1").stdout == "Removed 0 segments, 0 bytes. Reports still have what was in them.\n"
    )
    for segment in list_segments(tmp_path / "journal"):
        os.utime(segment.path, (0, 0))
    run = coe("prune", "--keep-days", "1")
    assert run.returncode == 0, run.stderr
    assert len(list_segments(tmp_path / "journal")) == 1
    held = coe("verify")
    assert held.returncode == 0, held.stderr
    assert "index: 20 attempts" in held.stdout
    writer.close()
    refused = coe("rebuild")
    assert refused.returncode == EX_CONFIG
    assert "--without-pruned" in refused.stderr
    assert "index: 20 attempts" in coe("verify").stdout
    assert coe("rebuild", "--without-pruned").returncode == 0
    assert coe("verify").returncode == 0


def test_prune_says_how_it_is_used(coe, tmp_path):
    """Without a ledger there is nothing to do; without days it does nothing."""
    assert coe("prune").returncode == EX_USAGE
    assert "No ledger" in coe("prune", "--keep-days", "30").stderr
