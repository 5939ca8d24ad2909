"""A cost report as text: an aligned table for people, CSV for spreadsheets, JSON for programs. Pure functions.

Where on the path: beside it; the command line prints what comes out, the admin API serves it.

Invariants
1. CSV and JSON hold the groups only, so that adding up a column gives what it says. The table has a total line.
2. A name that a caller chose can't steer a terminal or a spreadsheet: control characters are escaped, and a CSV text
   that a spreadsheet would take for a formula gets an apostrophe in front.
3. Columns of the table are aligned as a terminal shows them: Chinese characters are two cells wide.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence

import orjson

from service.ledger.cells import clipped_cell, csv_cell, width
from service.ledger.focus import as_focus
from service.ledger.reports import CostReport, CostRow
from service.ledger.sinks.port import TOKEN_COLUMNS

NOTHING = "No attempts in this range."

_NONE = "(none)"
_ALWAYS = ("requests", "attempts", "input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens")
_AT_NEED = ("cache_write_5m_tokens", "cache_write_1h_tokens", "audio_in_tokens", "audio_out_tokens", "image_tokens")
_AT_NEED_LAST = ("unpriced_attempts", "open_attempts", "simulated_attempts")


def as_json(report: CostReport) -> str:
    """An array of objects, one for each group; `[]` for none."""
    return orjson.dumps([row.as_dict() for row in report.rows], option=orjson.OPT_INDENT_2).decode("utf-8") + "\n"


def as_csv(report: CostReport) -> str:
    """A header and one line for each group; an unknown figure is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(column_names(report.by))
    for row in report.rows:
        shown = row.as_dict()
        writer.writerow([csv_cell(shown[name], is_text=name in report.by) for name in column_names(report.by)])
    return out.getvalue()


def as_table(report: CostReport) -> str:
    """Aligned columns, a total line and the notes; columns of rare buckets only where there is something in them."""
    if report.total is None:
        return NOTHING + "\n"
    total = report.total.as_dict()
    figures = [
        *(name for name in (*_ALWAYS, *_AT_NEED) if name in _ALWAYS or total[name]),
        "cost_usd",
        "baseline_cost_usd",
        "saved_usd",
        "estimated_share",
        *(name for name in _AT_NEED_LAST if total[name]),
    ]
    header = [*report.by, *(name.removesuffix("_tokens") for name in figures)]
    lines = [_table_line(row, report.by, figures) for row in report.rows]
    lines.append([*_total_label(report.by), *(_figure(name, total[name]) for name in figures)])
    widths = [max(width(line[place]) for line in [header, *lines]) for place in range(len(header))]
    keys = len(report.by)
    drawn = [_draw(line, widths, keys) for line in [header, *lines]]
    rule = "  ".join("-" * cells for cells in widths)
    text = [drawn[0], rule, *drawn[1:-1], rule, drawn[-1]]
    if report.notes:
        text += ["", *(f"Note: {note}" for note in report.notes)]
    return "\n".join(line.rstrip() for line in text) + "\n"


FORMATS: Mapping[str, Callable[[CostReport], str]] = {
    "table": as_table,
    "csv": as_csv,
    "json": as_json,
    "focus": as_focus,
}
"""What `--format` chooses from. `focus` wants a report by its own groupings, as `question` makes it."""


def column_names(by: Sequence[str]) -> list[str]:
    """The columns of CSV and JSON, in order."""
    money = ("cost_usd", "baseline_cost_usd", "saved_usd")
    return [*by, "requests", "attempts", *TOKEN_COLUMNS, *money, "estimated_share", *_AT_NEED_LAST]


def _total_label(by: Sequence[str]) -> list[str]:
    return [] if not by else ["total", *("" for _ in by[1:])]


def _table_line(row: CostRow, by: Sequence[str], figures: Sequence[str]) -> list[str]:
    shown = row.as_dict()
    return [*(clipped_cell(_key(row.keys[name])) for name in by), *(_figure(name, shown[name]) for name in figures)]


def _key(value: object) -> str:
    if value is None:
        return _NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _figure(name: str, value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if name == "estimated_share" and isinstance(value, float) else str(value)


def _draw(line: Sequence[str], widths: Sequence[int], keys: int) -> str:
    """One line: names to the left, figures to the right."""
    cells = []
    for place, (text, cells_wide) in enumerate(zip(line, widths, strict=True)):
        gap = " " * (cells_wide - width(text))
        cells.append(text + gap if place < keys else gap + text)
    return "  ".join(cells)
