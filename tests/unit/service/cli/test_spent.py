"""What keys have spent and have left, from a real ledger: in whole pico-dollars, by UTC day and month."""

from __future__ import annotations

import itertools
import json
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from service.cli.keys import keys
from service.cli.spent import NOTHING, Spend, spend_cells, spend_row, spent_by_key
from service.domain.decision import EntryState, OpenEntry, TerminalEntry
from service.domain.limits import NO_LIMITS, Limits
from service.ledger.indexer import Indexer
from service.ledger.sinks import INDEX_FILE, open_sink
from service.ledger.writer import JournalWriter

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def writer(tmp_path):
    made = JournalWriter(tmp_path)
    made.start()
    yield made
    made.close()


def spend(writer, key_id, pusd, at=NOW, ended=None):
    """One attempt of a key that cost this; `None` leaves it open."""
    name, at_ms = f"att_{next(numbers)}", int(at.timestamp() * 1000)
    names = ("auto", "m", "acme", "m-1", "coding", "zh", "balanced", "v")
    writer.write_open(OpenEntry(name, f"r{name}", f"d{name}", 1, at_ms, key_id, *names, 9))
    if pusd is not None:
        ended_ms = at_ms + 5 if ended is None else int(ended.timestamp() * 1000)
        usage = {"input": 1}
        writer.write_terminal(
            TerminalEntry(name, EntryState.SETTLED, ended_ms, "complete", usage, "provider", (), pusd)
        )


numbers = itertools.count()


def test_each_key_by_day_and_month(tmp_path, writer):
    """An attempt over midnight is of the day in which it was opened; the last instant of a month is not in the next."""
    midnight = datetime(2026, 11, 22, tzinfo=UTC)
    spend(writer, "key_1", 5)
    spend(writer, "key_1", 7, midnight)
    spend(writer, "key_1", 11, midnight - timedelta(milliseconds=1), ended=NOW)
    spend(writer, "key_1", 13, datetime(2026, 11, 1, tzinfo=UTC))
    spend(writer, "key_1", 17, datetime(2026, 10, 31, 23, 59, 59, 999_000, tzinfo=UTC), ended=NOW)
    spend(writer, "key_1", None)
    spend(writer, "key_2", 10**17 + 1)
    spend(writer, None, 19)
    assert spent_by_key(tmp_path, NOW) == {"key_1": Spend(12, 36), "key_2": Spend(10**17 + 1, 10**17 + 1)}
    spend(writer, "key_1", 100)
    assert spent_by_key(tmp_path, NOW)["key_1"] == Spend(112, 136), "the index is brought up to date each time"
    assert spent_by_key(tmp_path, datetime(2026, 12, 1, tzinfo=UTC)) == {}


def test_the_day_is_utc_wherever_one_looks_from(tmp_path, writer):
    """By the instant, not by its zone."""
    spend(writer, "key_1", 5)
    assert spent_by_key(tmp_path, NOW.astimezone(tz=None)) == {"key_1": Spend(5, 5)}


def test_no_ledger_is_nothing_spent_and_makes_none(tmp_path):
    """Neither a file nor a directory."""
    assert spent_by_key(tmp_path / "none", NOW) == {}
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_another_fills_is_read(tmp_path, writer):
    """A router runs: it holds the index's lock, and has it up to date."""
    spend(writer, "key_1", 5)
    with Indexer(tmp_path, open_sink(tmp_path)) as indexer:
        indexer.catch_up()
        assert spent_by_key(tmp_path, NOW) == {"key_1": Spend(5, 5)}


@pytest.fixture(params=["no file", "newer", "no lock"])
def spoilt(request, tmp_path):
    """An index that can't be used: something else has its name, a newer version made it, its lock can't be taken."""
    if request.param == "no file":
        (tmp_path / INDEX_FILE).mkdir()
    elif request.param == "newer":
        with sqlite3.connect(tmp_path / INDEX_FILE) as made:
            made.execute("PRAGMA user_version = 9999")
        made.close()
    else:
        Indexer(tmp_path, open_sink(tmp_path))._lock_path.mkdir()


def test_what_can_not_be_known_is_not_0(tmp_path, writer, spoilt, capsys):
    """Why is said, and the list goes on: an operator who needs a key's id gets it."""
    spend(writer, "key_1", 5)
    assert spent_by_key(tmp_path, NOW) is None
    assert "what was spent is not known" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("limits", "spent", "row", "cells"),
    [
        (NO_LIMITS, NOTHING, (None,) * 4, ("-", "-")),
        (Limits(requests_per_minute=1), Spend(1, 1), (None,) * 4, ("-", "-")),
        (Limits(day_pusd=10**12), NOTHING, ("0", "0", "1", None), ("0 USD, 1 left", "0 USD")),
        (
            Limits(day_pusd=5 * 10**12, month_pusd=4_000_000 * 10**12),
            Spend(1, 2_500_000_000_001),
            ("0.000000000001", "2.500000000001", "4.999999999999", "3999997.499999999999"),
            ("0.000000000001 USD, 4.999999999999 left", "2.500000000001 USD, 3999997.499999999999 left"),
        ),
        (Limits(month_pusd=3, soft=True), Spend(5, 5), ("0.000000000005",) * 2 + (None, "0"), None),
        (Limits(day_pusd=10**12), None, (None,) * 4, ("?", "?")),
    ],
)
def test_rows_and_cells_are_exact(limits, spent, row, cells):
    """Decimals to the last pico-dollar; what has no budget or is not known has none."""
    names = ("spent_day_usd", "spent_month_usd", "left_day_usd", "left_month_usd")
    assert spend_row(limits, spent) == dict(zip(names, row, strict=True))
    assert cells is None or spend_cells(limits, spent) == cells


# coe keys list


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `coe keys …` on the data directory of the writer."""
    monkeypatch.delenv("COE_KEY_PEPPER", raising=False)
    return lambda *said: CliRunner().invoke(keys, [*said, "--data-dir", str(tmp_path)])


def made(run, name, *options):
    """A new key's id."""
    return json.loads(run("create", "--name", name, *options, "--format", "json").stdout)["id"]


def test_the_list_shows_what_is_spent_and_left(run, writer):
    """In columns of their own once some key has a budget; `-` for a key that has none."""
    free = made(run, "free", "--requests-per-minute", "9")
    now = datetime.now(UTC)
    spend(writer, free, 10**12, now)
    assert "TODAY" not in run("list").stdout
    rich = made(run, "rich", "--usd-per-day", "5", "--usd-per-month", "100")
    spend(writer, rich, 1_250_000_000_001, now)
    result = run("list")
    header, first, second = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert header.split()[-3:] == ["TODAY", "THIS", "MONTH"]
    assert first.split()[-2:] == ["-", "-"]
    assert second.endswith("1.250000000001 USD, 3.749999999999 left  1.250000000001 USD, 98.749999999999 left")
    rows = json.loads(run("list", "--format", "json").stdout)
    assert [(row["spent_day_usd"], row["left_month_usd"]) for row in rows] == [
        (None, None),
        ("1.250000000001", "98.749999999999"),
    ]


def test_the_list_without_a_budget_leaves_the_ledger_alone(run, writer, tmp_path):
    """It makes no index, and can't fail over one."""
    spend(writer, made(run, "free"), 5, datetime.now(UTC))
    assert run("list").exit_code == 0
    assert not (tmp_path / INDEX_FILE).exists()


def test_the_list_comes_also_where_the_index_can_not_be_used(run, writer, tmp_path):
    """A note on stderr, the list on stdout."""
    spend(writer, made(run, "rich", "--usd-per-day", "5"), 5, datetime.now(UTC))
    (tmp_path / INDEX_FILE).mkdir()
    result = run("list")
    assert result.exit_code == 0
    assert "Note: " in result.stderr
    assert result.stdout.splitlines()[1].split()[-2:] == ["?", "?"]
