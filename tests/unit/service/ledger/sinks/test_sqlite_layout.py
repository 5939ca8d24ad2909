"""The tables of the SQLite sink: every ledger field has its column, and every column its field."""

from __future__ import annotations

import sqlite3

import pytest

from service.domain.decision import OpenEntry, TerminalEntry
from service.ledger.lines import Line
from service.ledger.sinks import halves
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
    both = set(halves.OPEN_COLUMNS) | set(halves.TERMINAL_COLUMNS)
    assert both | {"id", "attempt_id", "at_ms", "day"} == set(columns)
    assert not set(halves.OPEN_COLUMNS) & set(halves.TERMINAL_COLUMNS)


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
    assert halves.open_values(Line("open", {"attempt_id": "a"}, "00000000"), 7)["writer"] == 7
    assert "writer" in halves.OPEN_COLUMNS
    assert "writers" in layout.TABLES, "emptied with the rest"
