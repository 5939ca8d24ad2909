"""`coe costs`, run as a user runs it: what is on stdout, what is on stderr, and the exit code."""

from __future__ import annotations

import csv
import importlib
import io
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import click
import pytest

from service.cli import main
from service.cli.costs import parse_grouping, parse_moment
from service.domain.decision import EntryState, OpenEntry, TerminalEntry
from service.ledger.indexer import Indexer
from service.ledger.segments import list_segments
from service.ledger.sinks import open_sink
from service.ledger.writer import JournalWriter

module = importlib.import_module("service.cli.costs")

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
AT_MS = 1_795_000_000_000  # 2026-11-18T11:06:40Z


class Run(NamedTuple):
    """What a run of the command left."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def coe(monkeypatch, capsys):
    """Run `coe costs` through the console script's own entrance."""

    def run(*arguments, directory=None):
        monkeypatch.setattr(sys, "argv", ["coe", "costs", *arguments])
        if directory is not None:
            monkeypatch.setenv("COE_DATA_DIR", str(directory))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Run(int(ended.value.code or 0), *capsys.readouterr())

    return run


def attempt(writer, name, model="small", at_ms=AT_MS, *, simulated=False):
    entry = OpenEntry(
        *(
            name,
            f"r{name}",
            f"d{name}",
            1,
            at_ms,
            "key-1",
            "auto",
            model,
            "acme",
            "w",
            "coding",
            "zh",
            "balanced",
            None,
            9,
        ),
        tags=("人事",),
        simulated=simulated,
    )
    writer.write_open(entry)
    usage = {"input": 10, "output": 5}
    end = TerminalEntry(name, EntryState.SETTLED, at_ms + 5, "complete", usage, "provider", (), 1_000_001)
    writer.write_terminal(end)


@pytest.fixture
def writer(tmp_path):
    made = JournalWriter(tmp_path)
    made.start()
    yield made
    made.close()


@pytest.fixture
def ledger(tmp_path, writer):
    for number in range(4):
        attempt(writer, f"a{number}", model="small" if number else "large")
    return tmp_path


def test_json_is_an_array_with_exact_money(coe, ledger):
    """While the writer lives, from a data directory that has no index yet."""
    run = coe("--by", "model,tag", "--format", "json", directory=ledger)
    assert (run.returncode, run.stderr) == (0, "")
    rows = json.loads(run.stdout)
    assert [(row["model"], row["tag"], row["requests"], row["cost_usd"]) for row in rows] == [
        ("small", "人事", 3, "0.000003000003"),
        ("large", "人事", 1, "0.000001000001"),
    ]


def test_it_runs_as_a_program_of_its_own(ledger):
    """In a fresh interpreter, with the exit code of a shell."""
    command = [sys.executable, "-c", "from service.cli import main; main()", "costs", "--data-dir", str(ledger)]
    good = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stderr, len(json.loads(good.stdout))) == (0, "", 2)
    assert subprocess.run([*command, "--since", "2026-02-30"], capture_output=True, check=False).returncode == 64


def test_csv_and_table_tell_the_same(coe, ledger):
    """Two shapes of one report; the table has a total."""
    rows = list(csv.DictReader(io.StringIO(coe("--format", "csv", directory=ledger).stdout)))
    assert [(row["model"], row["attempts"]) for row in rows] == [("small", "3"), ("large", "1")]
    table = coe("--data-dir", str(ledger)).stdout
    assert table.split("\n")[0].split()[:3] == ["model", "requests", "attempts"]
    assert "total" in table
    assert "0.000004000004" in table


def test_dates_bound_the_report(coe, ledger, writer):
    """A day counts whole, in UTC; an instant is exact."""
    attempt(writer, "later", at_ms=AT_MS + 86_400_000)

    def attempts(*arguments):
        rows = json.loads(coe("--format", "json", *arguments, directory=ledger).stdout)
        return sum(row["attempts"] for row in rows)

    assert attempts() == 5
    assert attempts("--until", "2026-11-18") == 4
    assert attempts("--since", "2026-11-19") == 1
    assert attempts("--since", "2026-11-18T11:06:40Z", "--until", "2026-11-18T11:06:41Z") == 4
    assert attempts("--until", "2026-11-18T19:06:40+08:00") == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--since", "2026-02-30"], "--since: '2026-02-30' is no date (day is out of range for month)"),
        (["--until", "yesterday"], "--until: 'yesterday' is no date"),
        (["--since", "2026-11-02", "--until", "2026-11-01"], "this range is empty"),
        (["--by", "colour"], "'colour' is not something to group by. Choose from model"),
        (["--by", ""], "is not something to group by"),
        (["--format", "xml"], "'xml'"),
        (["--colour"], "--colour"),
        (["extra"], "extra"),
    ],
)
def test_wrong_use_exits_with_64_and_says_what_to_do(coe, ledger, arguments, complaint):
    """Nothing on stdout, one clear complaint on stderr."""
    run = coe(*arguments, directory=ledger)
    assert (run.returncode, run.stdout) == (64, "")
    assert complaint in run.stderr
    assert "Traceback" not in run.stderr


def test_a_file_as_data_directory_is_73(coe, tmp_path):
    """One line that names it."""
    (tmp_path / "file").touch()
    run = coe(directory=tmp_path / "file")
    assert (run.returncode, run.stdout) == (73, "")
    assert run.stderr.startswith(f"coe: {tmp_path / 'file'}")
    assert "Not a directory" in run.stderr


@pytest.mark.parametrize(
    ("shape", "empty"), [("json", "[]\n"), ("table", "No attempts in this range.\n"), ("csv", None)]
)
def test_no_ledger_yet_is_no_error(coe, tmp_path, shape, empty):
    """An empty report that is valid in its format, a friendly word, and nothing created."""
    run = coe("--format", shape, directory=tmp_path / "missing")
    assert run.returncode == 0
    assert "No ledger in" in run.stderr
    assert "COE_LEDGER_URL" in run.stderr
    assert run.stdout == empty if empty else run.stdout.startswith("model,requests")
    assert list(tmp_path.iterdir()) == []


def test_a_running_indexer_is_waited_for(coe, ledger, writer):
    """The router holds the index: its newest rows are in the report, or the command says that they aren't."""
    sink = open_sink(ledger)
    with Indexer(ledger, sink) as indexer:
        indexer.catch_up()
        attempt(writer, "new")
        late = coe("--format", "json", directory=ledger)
        assert "the newest rows may be missing" in late.stderr
        assert sum(row["attempts"] for row in json.loads(late.stdout)) == 4
        indexer.catch_up()
        run = coe("--format", "json", directory=ledger)
    assert run.stderr == ""
    assert sum(row["attempts"] for row in json.loads(run.stdout)) == 5


def test_simulated_money_is_marked_in_every_format(coe, ledger, writer):
    """On stderr where stdout must stay clean."""
    attempt(writer, "play", simulated=True)
    assert "1 of 5 attempts are simulated" in coe("--format", "json", directory=ledger).stderr
    assert "1 of 5 attempts are simulated" in coe("--format", "csv", directory=ledger).stderr
    assert "1 of 5 attempts are simulated" in coe(directory=ledger).stdout


def test_damage_is_told(coe, ledger, writer):
    """A report that lacks something says so, and where."""
    (segment,) = list_segments(writer.directory)
    content = bytearray(segment.path.read_bytes())
    content[content.index(b"large")] ^= 0x01
    segment.path.write_bytes(content)
    run = coe("--format", "json", directory=ledger)
    assert run.returncode == 0
    assert "Warning: 1 damaged places" in run.stderr
    assert segment.name in run.stderr


def test_an_index_that_is_no_database_is_put_aside_and_built_again(coe, ledger):
    """The report is whole, a note says what happened, and what lay there is kept."""
    before = coe("--format", "json", directory=ledger)
    (ledger / "ledger.sqlite").write_bytes(b"no database at all" * 100)
    run = coe("--format", "json", directory=ledger)
    assert (run.returncode, run.stdout) == (0, before.stdout)
    assert "the index was damaged (file is not a database); it lies in ledger.sqlite.damaged now" in run.stderr
    assert (ledger / "ledger.sqlite.damaged").read_bytes() == b"no database at all" * 100
    assert coe(directory=ledger).stderr.count("damaged") == 0


def test_an_index_that_cannot_be_written_is_told(coe, tmp_path, ledger):
    """The lock can't be made: 73 without an index, an older report with one."""
    (ledger / "index.lock").mkdir()
    run = coe(directory=ledger)
    assert (run.returncode, run.stdout) == (73, "")
    (ledger / "index.lock").rmdir()
    assert coe(directory=ledger).returncode == 0
    (ledger / "index.lock").unlink()
    (ledger / "index.lock").mkdir()
    run = coe(directory=ledger)
    assert run.returncode == 0
    assert "the newest rows may be missing" in run.stderr
    assert "0.000004000004" in run.stdout


def test_much_to_index_shows_progress_on_stderr(ledger, monkeypatch, capsys):
    """Plain lines where there is no terminal; stdout stays the report's."""
    monkeypatch.setattr(module, "PROGRESS_FROM_BYTES", 1)
    with Indexer(ledger, open_sink(ledger)) as indexer:
        module._index(indexer)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "Indexing the journal: 100 %\n"


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)),
        ("2026-11-01T08:00", datetime(2026, 11, 1, 8, tzinfo=UTC), None),
        ("2026-11-01T08:00Z", datetime(2026, 11, 1, 8, tzinfo=UTC), None),
        ("2026-11-01T08:00+08:00", datetime(2026, 11, 1, tzinfo=UTC), None),
        ("30m", NOW - timedelta(minutes=30), None),
        ("24h", NOW - timedelta(hours=24), None),
        ("7d", NOW - timedelta(days=7), None),
        ("2w", NOW - timedelta(days=14), None),
    ],
)
def test_moments_a_user_may_write(text, start, end):
    """A day is whole; everything else is an instant."""
    assert parse_moment(text, NOW, option="--since", is_end=False) == start
    assert parse_moment(text, NOW, option="--until", is_end=True) == (end or start)


@pytest.mark.parametrize("text", ["", "2026-13-01", "2025-02-29", "9999999d", "7 d", "-7d", "now", "1e3", "9999-12-31"])
def test_moments_that_make_no_sense(text):
    """Each is named with what to write instead; nothing escapes as another error."""
    with pytest.raises(click.UsageError, match="Write 2026-11-01"):
        parse_moment(text, NOW, option="--until", is_end=True)


def test_groupings_may_have_spaces():
    """`--by "model, day"` is what people type."""
    assert parse_grouping("model, day") == ("model", "day")
