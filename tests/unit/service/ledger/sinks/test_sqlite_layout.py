"""The tables of the SQLite sink: every ledger field has its column, and every column its field."""

from __future__ import annotations

import sqlite3

import pytest

from service.domain.decision import EntryState, OpenEntry, TerminalEntry
from service.ledger.lines import Line
from service.ledger.sinks import sqlite_layout as layout

RENAMED = {"at_ms", "usage"}
"""Fields whose columns have other names: the two instants, and the buckets of the usage."""


@pytest.fixture
def columns():
    connection = sqlite3.connect(":memory:")
    connection.executescript(layout.SCHEMA)
    found = {row[1]: row[2] for row in connection.execute("PRAGMA table_info(attempts)")}
    connection.close()
    return found


def test_every_field_of_the_ledger_has_a_column(columns):
    """A field added to the entries can't be forgotten here."""
    fields = {name for entry in (OpenEntry, TerminalEntry) for name in entry._fields}
    assert fields - RENAMED <= columns.keys()
    halves = set(layout.OPEN_COLUMNS) | set(layout.TERMINAL_COLUMNS)
    assert halves | {"id", "attempt_id", "at_ms", "day"} == set(columns)
    assert not set(layout.OPEN_COLUMNS) & set(layout.TERMINAL_COLUMNS)


def test_money_is_kept_as_integers(columns):
    """The type is declared, and a float is refused."""
    money = [name for name in columns if name.endswith("_pusd")]
    assert [columns[name] for name in money] == ["INTEGER"] * len(money)
    connection = sqlite3.connect(":memory:")
    connection.executescript(layout.SCHEMA)
    for name in money:
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(f"INSERT INTO attempts (attempt_id, at_ms, day, {name}) VALUES ('a', 1, 'd', 0.5)")  # noqa: S608 # names of our own table
    connection.close()


def test_every_writer_has_one_number():
    """An attempt names who opened it by a number: names are long, and attempts are many."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(layout.SCHEMA)
    connection.execute("INSERT INTO writers (name) VALUES ('one')")
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT INTO writers (name) VALUES ('one')")
    connection.close()
    assert layout.open_values(Line("open", {"attempt_id": "a"}, "00000000"), 7)["writer"] == 7
    assert "writer" in layout.OPEN_COLUMNS
    assert "writers" in layout.TABLES, "emptied with the rest"


def test_days_are_utc():
    """The last millisecond of a day belongs to it."""
    assert layout.day_of(1_794_959_999_999) == "2026-11-17"
    assert layout.day_of(1_794_960_000_000) == "2026-11-18"


def test_a_line_with_nothing_but_an_id_still_has_every_value():
    """Statements bind by name: a field that the line leaves out is bound as unknown."""
    opened = layout.open_values(Line("open", {"attempt_id": "a"}, "00000000"), 1)
    ended = layout.terminal_values(Line("terminal", {"attempt_id": "a"}, "00000000"))
    assert set(layout.OPEN_COLUMNS) <= opened.keys()
    assert set(layout.TERMINAL_COLUMNS) <= ended.keys()
    assert (opened["key_id"], ended["cost_pusd"], ended["input_tokens"]) == (None, None, 0)


def test_an_assumed_end_ranks_behind_a_known_one():
    """Whatever their times are."""
    known = {"attempt_id": "a", "state": EntryState.SETTLED.value, "at_ms": 9}
    assumed = {"attempt_id": "a", "state": EntryState.UNKNOWN.value, "at_ms": 1}
    ranks = [layout.terminal_values(Line("terminal", body, "ffffffff"))["terminal_rank"] for body in (known, assumed)]
    assert ranks == sorted(ranks)


def test_instants_outside_64_bits_are_unknown():
    """A decision record is free-form: what no integer column holds is left out."""
    values = layout.decision_values(Line("decision", {"id": "d", "created_ms": 2**64 - 1, "key_id": 7}, "0"))
    assert (values["at_ms"], values["key_id"]) == (None, None)
