"""Reports as text: aligned for eyes, exact for programs, harmless for terminals and spreadsheets."""

from __future__ import annotations

import csv
import io

import orjson
import pytest

from service.ledger.cells import CELL_WIDTH_MAX, printable, width
from service.ledger.render import FORMATS, NOTHING, as_csv, as_json, as_table
from service.ledger.reports import CostReport, CostRow
from service.ledger.sinks.port import TOKEN_COLUMNS


def row(**changes):
    values = {
        "keys": {"model": "small"},
        "requests": 2,
        "attempts": 3,
        "tokens": dict.fromkeys(TOKEN_COLUMNS, 0) | {"input_tokens": 1_234, "output_tokens": 56},
        "cost_pusd": 1_500_000,
        "baseline_pusd": 6_000_000,
        "saved_pusd": 4_500_000,
        "estimated_share": 0.25,
        "unpriced_attempts": 0,
        "open_attempts": 0,
        "simulated_attempts": 0,
    }
    return CostRow(**(values | changes))


def report(*rows, by=("model",), notes=()):
    total = row(keys={}) if rows else None
    return CostReport(by, rows, total, notes)


def test_json_is_an_array_of_objects_with_the_documented_fields():
    """The contract of `--format json`: groups only, money as strings, unknown as null."""
    (shown,) = orjson.loads(as_json(report(row(saved_pusd=None, baseline_pusd=None))))
    assert list(shown) == [
        "model",
        "requests",
        "attempts",
        "input_tokens",
        "cache_read_tokens",
        "cache_write_5m_tokens",
        "cache_write_1h_tokens",
        "output_tokens",
        "reasoning_tokens",
        "audio_in_tokens",
        "audio_out_tokens",
        "image_tokens",
        "cost_usd",
        "baseline_cost_usd",
        "saved_usd",
        "estimated_share",
        "unpriced_attempts",
        "open_attempts",
        "simulated_attempts",
    ]
    assert (shown["cost_usd"], shown["baseline_cost_usd"], shown["input_tokens"]) == ("0.0000015", None, 1_234)
    assert orjson.loads(as_json(report())) == []


def test_csv_has_the_columns_of_json_and_nothing_but_groups():
    """A column adds up to what it says: no total line. Unknown is an empty cell."""
    text = as_csv(report(row(), row(keys={"model": None}, saved_pusd=None)))
    first, second = list(csv.DictReader(io.StringIO(text)))
    assert list(first) == list(orjson.loads(as_json(report(row())))[0])
    assert (first["model"], first["cost_usd"], first["saved_usd"]) == ("small", "0.0000015", "0.0000045")
    assert (second["model"], second["saved_usd"]) == ("", "")
    assert as_csv(report()).count("\n") == 1


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)"])
def test_a_name_cannot_become_a_formula(name):
    """Tags and models are chosen by callers; a spreadsheet must show them, not run them. Negative money stays money."""
    text = as_csv(report(row(keys={"model": name}, saved_pusd=-1)))
    (shown,) = csv.DictReader(io.StringIO(text, newline=""))
    assert shown["model"] == f"'{name}"
    assert shown["saved_usd"] == "-0.000000000001"


def test_a_csv_row_is_one_line_whatever_a_name_holds():
    """Commas and quotes stay in their cell; line ends and tabs are escaped, also where a formula might hide behind."""
    text = as_csv(report(row(keys={"model": 'a,"b"\nc\rd'}), row(keys={"model": "\t=1"})))
    assert text.count("\n") == 3
    assert "\r" not in text
    first, second = csv.DictReader(io.StringIO(text, newline=""))
    assert (first["model"], second["model"]) == ('a,"b"\\nc\\rd', "\\t=1")


def test_the_table_is_aligned_as_a_terminal_shows_it():
    """Chinese names are two cells wide: every line ends its columns in the same cell."""
    text = as_table(
        report(row(keys={"model": "通义千问-最大"}), row(keys={"model": "gpt"}, cost_pusd=123_456_789_012_345))
    )
    header, rule, *rows, _, total = text.rstrip("\n").split("\n")
    assert {width(line) for line in (header, rule, *rows, total)} == {width(rule)}
    assert total.startswith("total ")
    for line in rows:
        figures = line[line.index("  ") :].split()
        assert figures[:2] == ["2", "3"]


def test_rare_columns_appear_only_when_they_hold_something():
    """A table fits a terminal; nothing that isn't zero is hidden."""
    plain = as_table(report(row()))
    assert "cache_write_5m" not in plain
    assert "simulated" not in plain
    tokens = dict.fromkeys(TOKEN_COLUMNS, 1)
    total = row(keys={}, tokens=tokens, simulated_attempts=1, open_attempts=1, unpriced_attempts=1)
    full = as_table(CostReport(("model",), (row(tokens=tokens),), total, ()))
    for name in (*TOKEN_COLUMNS, "simulated", "open_attempts", "unpriced_attempts"):
        assert name.removesuffix("_tokens") in full


def test_notes_stand_under_the_table():
    """What a reader must know about the figures is where the figures are."""
    assert as_table(report(row(), notes=("3 attempts are simulated.",))).endswith(
        "\n\nNote: 3 attempts are simulated.\n"
    )


def test_an_empty_report_says_so_in_the_table():
    """Not a header over nothing."""
    assert as_table(report()) == NOTHING + "\n"


def test_a_name_cannot_steer_the_terminal():
    """Escape sequences, line ends, bidirectional overrides and lone surrogates are shown, not obeyed."""
    text = as_table(report(row(keys={"model": "\x1b[31mred\n\u202eevil\ud800"})))
    assert "\\x1b[31mred\\n\\u202eevil\\ud800" in text
    assert "\x1b" not in text
    assert printable("人事 é 🙂") == "人事 é 🙂"


def test_a_long_name_is_clipped_in_the_table_only():
    """By cells, not by characters; the exact formats keep it whole."""
    name = "模" * 100
    shown = report(row(keys={"model": name}))
    first = as_table(shown).split("\n")[2].split()[0]
    assert width(first) <= CELL_WIDTH_MAX
    assert first.endswith("…")
    assert name in as_csv(shown)
    assert orjson.loads(as_json(shown))[0]["model"] == name


def test_truth_values_and_absence_are_words_in_the_table():
    """`simulated` reads yes or no; an attempt without a key is `(none)`."""
    shown = report(row(keys={"simulated": True, "key": None}), by=("simulated", "key"))
    assert as_table(shown).split("\n")[2].split()[:2] == ["yes", "(none)"]
    assert ",".join(as_csv(shown).split("\n")[1].split(",")[:2]) == "true,"
    assert orjson.loads(as_json(shown))[0]["simulated"] is True


def test_the_formats_of_the_command_line_are_these():
    """`--format` offers exactly what exists."""
    assert sorted(FORMATS) == ["csv", "focus", "json", "table"]
