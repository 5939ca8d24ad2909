"""What an engine was seen to do: files of measurements, and the ledger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from service.cli import economics_traffic
from service.cli.economics_traffic import EXAMPLE, read_measured, traffic_of
from service.domain.decision import EntryState, OpenEntry, TerminalEntry
from service.ledger.writer import JournalWriter

AT = datetime(2026, 11, 18, 12, tzinfo=UTC)


@pytest.fixture
def measured(tmp_path):
    """A file with these lines."""

    def write(*lines):
        path = tmp_path / "measured.jsonl"
        path.write_bytes("\n".join(lines).encode())
        return path

    return write


def test_all_tokens_over_all_seconds(measured):
    """Exactly, with decimals as written; blank lines and further fields are the reader's own."""
    path = measured(
        EXAMPLE, "", '{"seconds": 0.1, "input_tokens": 0, "output_tokens": 7, "note": "warm", "gpu": {"util": 0.9}}'
    )
    found = read_measured(path)
    assert found.seconds == Fraction(601, 10)
    assert (found.input_per_s, found.output_per_s) == (Fraction(1_800_000, 601), Fraction(180_070, 601))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ("[" * 60_000, "not a JSON object"),
        ('{"seconds": 1e99999999999999999999}', "not a JSON object"),
        ('{"input_tokens": 1, "output_tokens": 1}', "`seconds` must be a number above 0"),
        ('{"seconds": 0, "input_tokens": 1, "output_tokens": 1}', "`seconds` must be"),
        ('{"seconds": true, "input_tokens": 1, "output_tokens": 1}', "`seconds` must be"),
        ('{"seconds": "60", "input_tokens": 1, "output_tokens": 1}', "`seconds` must be"),
        ('{"seconds": NaN, "input_tokens": 1, "output_tokens": 1}', "`seconds` must be"),
        ('{"seconds": 1e999999, "input_tokens": 1, "output_tokens": 1}', "`seconds` must be"),
        ('{"seconds": 1e-999999, "input_tokens": 1, "output_tokens": 1}', "`seconds` must be"),
        ('{"seconds": 1, "output_tokens": 1}', "`input_tokens` must be a whole number"),
        ('{"seconds": 1, "input_tokens": 1.0, "output_tokens": 1}', "`input_tokens` must be"),
        ('{"seconds": 1, "input_tokens": true, "output_tokens": 1}', "`input_tokens` must be"),
        ('{"seconds": 1, "input_tokens": 1, "output_tokens": -1}', "`output_tokens` must be"),
        ('{"seconds": 1, "input_tokens": 1, "output_tokens": 10000000000000000}', "`output_tokens` must be"),
        (" " * 70_000, "too much"),
    ],
)
def test_a_line_that_is_no_measurement_is_named(measured, capsys, line, said):
    """With its number and what to write."""
    with pytest.raises(SystemExit) as ended:
        read_measured(measured(EXAMPLE, line))
    told = capsys.readouterr().err
    assert ended.value.code == 64
    assert f"line 2: {said}" in told
    assert EXAMPLE in told


def test_bytes_that_are_no_text(tmp_path, capsys):
    """Not UTF-8."""
    path = tmp_path / "m"
    path.write_bytes(b'{"seconds": 1, "\xff\xfe": 1}')
    with pytest.raises(SystemExit):
        read_measured(path)
    assert "line 1: not a JSON object" in capsys.readouterr().err


@pytest.mark.parametrize("lines", [(), ("",), ('{"seconds": 1, "input_tokens": 0, "output_tokens": 0}',)])
def test_nothing_measured(measured, capsys, lines):
    """A file without tokens says what to write."""
    with pytest.raises(SystemExit) as ended:
        read_measured(measured(*lines))
    assert ended.value.code == 64
    assert "no tokens were measured" in capsys.readouterr().err


def test_too_many_lines(measured, capsys, monkeypatch):
    """A bound on everything."""
    monkeypatch.setattr(economics_traffic, "LINES_MAX", 2)
    assert read_measured(measured(EXAMPLE, EXAMPLE)).seconds == 120
    with pytest.raises(SystemExit):
        read_measured(measured(EXAMPLE, EXAMPLE, EXAMPLE))
    assert "line 3: too much" in capsys.readouterr().err


@pytest.fixture
def ledger(tmp_path):
    """Three attempts of two deployments, a simulated one, and one that is older."""
    writer = JournalWriter(tmp_path)
    writer.start()

    def attempt(name, model, at, usage, *, simulated=False):
        at_ms = round(at.timestamp() * 1000)
        entry = OpenEntry(
            name, f"r{name}", f"d{name}", 1, at_ms, None, "auto", model, "own", "w", "coding", "en", "balanced", None, 9,
            simulated=simulated,
        )  # fmt: skip
        writer.write_open(entry)
        writer.write_terminal(TerminalEntry(name, EntryState.SETTLED, at_ms + 5, "complete", usage, "provider", (), 1))

    attempt("a1", "small", AT, {"input": 600, "cache_read": 300, "cache_write_5m": 100, "output": 50, "reasoning": 50})
    attempt("a2", "small", AT + timedelta(hours=1), {"input": 1_000, "output": 100})
    attempt("a3", "large", AT, {"input": 10, "output": 5})
    attempt("a4", "small", AT, {"input": 10**9, "output": 10**9}, simulated=True)
    attempt("a5", "small", AT - timedelta(days=9), {"input": 10**9, "output": 10**9})
    writer.close()
    return tmp_path


def test_a_mean_day_of_the_ledger(ledger):
    """Half a day doubles; what was read from a cache and the size of a request are the ledger's; all or one deployment."""
    since, until = AT - timedelta(hours=6), AT + timedelta(hours=6)
    own = traffic_of(ledger, since, until, "own/small")
    assert (own.input, own.output) == (4_000, 400)
    assert (own.cache_share, own.request_input_tokens) == (Fraction(3, 20), 1_000)
    everybody = traffic_of(ledger, since, until, None)
    assert (everybody.input, everybody.output) == (4_020, 410)


@pytest.mark.parametrize("name", ["own/other", "other/small"])
def test_no_traffic(ledger, capsys, name):
    """Says whose, since when and where it looked."""
    with pytest.raises(SystemExit) as ended:
        traffic_of(ledger, AT - timedelta(days=1), AT + timedelta(days=1), name)
    assert ended.value.code == 69
    assert f"no tokens of {name} since 2026-11-17 12:00 UTC in {ledger}" in capsys.readouterr().err


def test_no_ledger(tmp_path, capsys):
    """The same."""
    with pytest.raises(SystemExit) as ended:
        traffic_of(tmp_path, AT, AT + timedelta(days=1), None)
    assert ended.value.code == 69
    assert "no tokens of anybody" in capsys.readouterr().err
