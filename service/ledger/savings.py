"""What was saved, against each baseline side by side: rows of a report, and how they are shown. Pure functions.

Where on the path: beside it; `coe costs --savings` prints it, `/admin/costs?savings=true` serves it.

Invariants
1. Signed, never clipped, and net: what compared requests cost is all their attempts, and what crashed attempts were
   charged.
2. A baseline counts for the requests that it is known for, and for no other: how many these are stands beside it.
3. Where the length of an answer was assumed, an interval says what that may make.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from typing import Final

import orjson

from service.domain.money import usd_text
from service.domain.rivals import CHEAPEST, STRONGEST
from service.ledger.cells import aligned, clipped_cell, csv_cell
from service.ledger.reports import CostReport, CostRow, Saving

FIELDS: Final = (
    "against",
    "compared_requests",
    "cost_usd",
    "would_have_cost_usd",
    "saved_usd",
    "saved_low_usd",
    "saved_high_usd",
)
"""The columns behind those of the grouping."""

NOTHING: Final = "No request in this range can be compared."


def as_rows(report: CostReport) -> list[dict[str, object]]:
    """A row for each group and baseline that it has; amounts are exact decimals as text."""
    return [told for row in report.rows for told in _of(row)]


def as_json(report: CostReport) -> str:
    """An array of objects."""
    return orjson.dumps(as_rows(report), option=orjson.OPT_INDENT_2).decode() + "\n"


def as_csv(report: CostReport) -> str:
    """A header and a line for each."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = (*report.by, *FIELDS)
    writer.writerow(names)
    for row in as_rows(report):
        writer.writerow([csv_cell(row[name], is_text=name in report.by) for name in names])
    return out.getvalue()


def as_table(report: CostReport) -> str:
    """Aligned, with the total of each baseline, and what a reader should know."""
    if report.total is None or not report.total.savings:
        return NOTHING + "\n"
    names = (*report.by, *FIELDS)
    total = [{**dict.fromkeys(report.by, ""), **row} for row in _of(report.total)]
    if report.by:
        total = [{**row, report.by[0]: "total"} for row in total]
    lines = [[_shown(row[name]) for name in names] for row in [*as_rows(report), *total]]
    text = aligned([list(names), *lines], left=len(report.by) + 1)
    told = [*savings_notes(report), *report.notes]
    return text + "".join(f"{'' if number else chr(10)}Note: {note}\n" for number, note in enumerate(told))


SAVINGS_FORMATS: Final[Mapping[str, Callable[[CostReport], str]]] = {
    "table": as_table,
    "csv": as_csv,
    "json": as_json,
}
"""The formats of `--savings`."""


def savings_notes(report: CostReport) -> tuple[str, ...]:
    """What else a reader should know: a router by chance that spends the same, and what is not compared."""
    total = report.total
    if total is None:
        return ()
    notes = []
    share = same_spend(total)
    if share is not None:
        notes.append(
            "A coin that sends each request to the strongest or to the cheapest would have spent the same with "
            f"{share[0] / share[1]:.1%} of them at the strongest."
        )
    missing = [name for name, one in total.savings.items() if one.requests < total.requests]
    if missing:
        notes.append(f"Not every request is compared with {', '.join(missing)}: of the others it is not known.")
    return tuple(notes)


def same_spend(row: CostRow) -> tuple[int, int] | None:
    """The share of requests at the strongest with which chance would have spent the same, as (part, whole).

    It may be under 0 or over 1: then no such coin spends as little, or as much. `None` where it means nothing.
    """
    strongest, cheapest = row.savings.get(STRONGEST), row.savings.get(CHEAPEST)
    if strongest is None or cheapest is None or strongest.requests != cheapest.requests:
        return None
    whole = strongest.would_pusd - cheapest.would_pusd
    return (strongest.cost_pusd - cheapest.would_pusd, whole) if whole > 0 else None


def _of(row: CostRow) -> list[dict[str, object]]:
    return [{**row.keys, **_told(name, one)} for name, one in row.savings.items()]


def _told(name: str, one: Saving) -> dict[str, object]:
    low, high = one.saved_between
    figures = (one.cost_pusd, one.would_pusd, one.saved_pusd, low, high)
    shown = [None if pusd is None else usd_text(pusd) for pusd in figures]
    return dict(zip(FIELDS, (name, one.requests, *shown), strict=True))


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return clipped_cell(("yes" if value else "no") if isinstance(value, bool) else str(value))
