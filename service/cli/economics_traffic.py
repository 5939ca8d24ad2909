"""What an engine of one's own was seen to do: tokens per second in a file of measurements, tokens a day in the ledger.

Where on the path: beside it; `coe economics --measured FILE` and `--since WHEN` read with these.

Invariants
1. Counts are added up as whole numbers, seconds as decimals exactly as written: no float.
2. A line that is not a measurement ends the program with its number and what to write instead; none is left out.
3. Simulated attempts are no traffic.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import click

from service.cli.costs import catch_up, refuse_index
from service.cli.exits import EX_UNAVAILABLE, EX_USAGE
from service.cli.settings import fail, ledger_sink
from service.domain.economics import REQUEST_INPUT_TOKENS, SECONDS_A_DAY, Traffic
from service.ledger.reports import CostRow, costs
from service.ledger.segments import journal_dir, list_segments
from service.ledger.sinks.port import SinkFault, SinkMissing

LINES_MAX = 1_000_000
"""Measurements of a file: one for every second of eleven days."""

LINE_BYTES_MAX = 65_536
"""Of one line: a measurement is three numbers and whatever stands beside them."""

COUNT_MAX = 10**15
"""Tokens of one line, and seconds: more is a typing error."""

SECONDS_MIN = Decimal("1e-9")
"""Of one line: a clock tells no less."""

EXAMPLE = '{"seconds": 60, "input_tokens": 180000, "output_tokens": 18000}'

_INPUT = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "audio_in_tokens",
    "image_tokens",
)
_OUTPUT = ("output_tokens", "reasoning_tokens", "audio_out_tokens")


@dataclass(frozen=True, slots=True)
class Throughput:
    """Tokens per second over all of a file's measurements, and how many seconds those were."""

    input_per_s: Fraction
    output_per_s: Fraction
    seconds: Fraction


def read_measured(path: Path) -> Throughput:
    """The throughput that a file of JSON lines was measured at: all tokens over all seconds.

    Each line is one stretch of time of the whole engine, as `EXAMPLE`; further fields are the reader's own. Ends the
    program (64) for a line that is none, and for a file without tokens. Raises OSError.
    """
    seconds, read, said, number = Fraction(0), 0, 0, 0
    with path.open("rb") as lines:
        while line := lines.readline(LINE_BYTES_MAX + 1):
            number += 1
            if len(line) > LINE_BYTES_MAX or number > LINES_MAX:
                _wrong(path, number, f"too much: at most {LINES_MAX:,} lines of {LINE_BYTES_MAX:,} bytes are read")
            if line.isspace():
                continue
            row = _row(path, number, line)
            seconds += _seconds(path, number, row.get("seconds"))
            read += _count(path, number, row, "input_tokens")
            said += _count(path, number, row, "output_tokens")
    if not read + said:
        fail(f"{click.format_filename(path)}: no tokens were measured; write lines such as {EXAMPLE}", EX_USAGE)
    return Throughput(read / seconds, said / seconds, seconds)


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """A line as an object; decimals stay decimals."""
    try:
        row = json.loads(line, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError):  # not UTF-8, too many digits, an exponent beyond decimals
        row = None
    if not isinstance(row, dict):
        _wrong(path, number, "not a JSON object")
    return row


def _seconds(path: Path, number: int, value: object) -> Fraction:
    """How long a stretch was."""
    # Compared before it becomes a fraction: 1E+999999 would become a number of a million digits.
    if not isinstance(value, Decimal | int) or isinstance(value, bool) or not SECONDS_MIN <= value <= COUNT_MAX:
        _wrong(path, number, "`seconds` must be a number above 0")
    return Fraction(value)


def _count(path: Path, number: int, row: dict[str, Any], name: str) -> int:
    value = row.get(name)
    if type(value) is not int or not 0 <= value <= COUNT_MAX:
        _wrong(path, number, f"`{name}` must be a whole number of at least 0")
    return value


def _wrong(path: Path, number: int, what: str) -> NoReturn:
    fail(f"{click.format_filename(path)}, line {number}: {what}; write lines such as {EXAMPLE}", EX_USAGE)


def traffic_of(data_dir: Path, since: datetime, until: datetime, deployment: str | None) -> Traffic:
    """A mean day of the ledger's traffic in [since, until): of one deployment (`provider/model`), or of all.

    Ends the program (69) when there was none. Instants are aware.
    """
    sink = ledger_sink(data_dir)
    rows: list[CostRow] = []
    if list_segments(journal_dir(data_dir)):
        catch_up(data_dir, sink)
        try:
            rows = costs(sink, ("provider", "model", "simulated"), since, until)
        except SinkMissing:
            rows = []
        except SinkFault as problem:
            refuse_index(problem)
    meant = [
        row
        for row in rows
        if not row.keys["simulated"] and deployment in (None, f"{row.keys['provider']}/{row.keys['model']}")
    ]
    read, said = _sum(meant, _INPUT), _sum(meant, _OUTPUT)
    if not read + said:
        whose = "anybody" if deployment is None else deployment
        fail(
            f"no tokens of {whose} since {since:%Y-%m-%d %H:%M} UTC in {data_dir}; look further back, check "
            "--data-dir, or say --utilization (simulated attempts don't count)",
            EX_UNAVAILABLE,
        )
    days = Fraction((until - since) // timedelta(microseconds=1), SECONDS_A_DAY * 10**6)
    attempts = sum(row.attempts for row in meant)
    share = Fraction(_sum(meant, ("cache_read_tokens",)), read) if read else Fraction(0)
    size = Fraction(read, attempts) if read else REQUEST_INPUT_TOKENS
    return Traffic(read / days, said / days, share, size)


def _sum(rows: list[CostRow], columns: tuple[str, ...]) -> int:
    return sum(row.tokens[name] for row in rows for name in columns)
