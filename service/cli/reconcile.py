"""`coe costs --reconcile invoice.csv`: the ledger against what a vendor bills, by day and model.

Where on the path: beside it; a part of `costs`.

Invariant: the exit code is 0 when every day of every model holds, 65 when one does not.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

import click
import orjson

from service.cli.exits import EX_DATAERR
from service.cli.settings import fail
from service.domain.catalog import Catalog
from service.domain.money import Fx, pusd_from_usd, usd_text
from service.ledger.cells import aligned, clipped_cell, csv_cell
from service.ledger.invoice import InvoiceError, InvoiceLine, read_invoice
from service.ledger.reconcile import FIELDS, Reconciled, reconcile, vendor_names
from service.ledger.reports import CostReport

INVOICE_BYTES_MAX: Final = 256 << 20
TOLERANCE_USD: Final = "0.01"
"""A cent: vendors round what they bill."""

TOLERANCE_USD_MAX: Final = 10**6


def read_tolerance(text: str) -> int:
    """Pico-USD of `--tolerance`; raises a usage error."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("nan")
    if not amount.is_finite() or not 0 <= amount <= TOLERANCE_USD_MAX:
        raise click.UsageError(f"--tolerance: {text[:50]!r} is no amount in USD from 0 to {TOLERANCE_USD_MAX}.")
    return pusd_from_usd(amount)


def read_lines(invoice: Path, catalog: Catalog, currency: str) -> list[InvoiceLine]:
    """The lines of the file; ends with 65 for what is no invoice."""
    if invoice.stat().st_size > INVOICE_BYTES_MAX:
        fail(f"{invoice} is larger than {INVOICE_BYTES_MAX >> 20} MiB: give it in parts", EX_DATAERR)
    try:
        return read_invoice(invoice.read_text(encoding="utf-8-sig"), _rates(catalog), currency.upper())
    except InvoiceError as problem:
        fail(f"{invoice}: {problem}", EX_DATAERR)


def span_of(lines: Sequence[InvoiceLine]) -> tuple[datetime, datetime]:
    """The days that an invoice is about, [since, until)."""
    days = [line.day for line in lines]
    first, last = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (min(days), max(days)))
    return first, last + timedelta(days=1)


def whole_days(since: datetime, until: datetime) -> tuple[datetime, datetime]:
    """The days that a range touches: an invoice knows nothing shorter."""
    first = since.replace(hour=0, minute=0, second=0, microsecond=0)
    end = until.replace(hour=0, minute=0, second=0, microsecond=0)
    return first, end if end == until else end + timedelta(days=1)


def compare(
    report: CostReport, lines: Sequence[InvoiceLine], catalog: Catalog, provider: str | None, tolerance_pusd: int
) -> list[Reconciled]:
    """Both sides. What the invoice calls by a name that the registry does not know stands under that name."""
    deployments = [(one.provider.name, one.wire_name, one.model) for one in catalog.deployments()]
    names = vendor_names(deployments, provider)
    return reconcile(report.rows, lines, lambda name: names.get(name, name), provider, tolerance_pusd)


def tell(found: Sequence[Reconciled], shape: str) -> int:
    """Print the comparison; the exit code."""
    click.echo(_SHAPES[shape](found), nl=False)
    wrong = [one for one in found if not one.holds]
    if shape != "table":
        click.echo(_summary(found), err=True)
    return EX_DATAERR if wrong else 0


def _as_json(found: Sequence[Reconciled]) -> str:
    return orjson.dumps([one.as_dict() for one in found], option=orjson.OPT_INDENT_2).decode() + "\n"


def _as_csv(found: Sequence[Reconciled]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FIELDS)
    for one in found:
        writer.writerow([csv_cell(value, is_text=name == "model") for name, value in one.as_dict().items()])
    return out.getvalue()


def _as_table(found: Sequence[Reconciled]) -> str:
    """Aligned, with both sums below."""
    lines = [list(_TABLE), *([_shown(one.as_dict()[name]) for name in _TABLE] for one in found)]
    return f"{aligned(lines, left=3)}\n{_summary(found)}\n"


_TABLE: Final = ("day", "model", "verdict", *(name for name in FIELDS if name not in ("day", "model", "verdict")))
"""The columns of the table: words before figures."""


_SHAPES: Final[Mapping[str, Callable[[Sequence[Reconciled]], str]]] = {
    "table": _as_table,
    "csv": _as_csv,
    "json": _as_json,
}


def _shown(value: object) -> str:
    return "-" if value is None else clipped_cell(str(value))


def _summary(found: Sequence[Reconciled]) -> str:
    """Both sums, their difference, and how many days of models do not hold."""
    booked = sum(one.ledger_pusd or 0 for one in found)
    billed = sum(one.invoice_pusd or 0 for one in found)
    wrong = sum(not one.holds for one in found)
    verdict = "everything holds" if not wrong else f"{wrong} of {len(found)} rows differ"
    return (
        f"Ledger {usd_text(booked)} USD, invoice {usd_text(billed)} USD, difference {usd_text(booked - billed)} USD: "
        f"{verdict}."
    )


def _rates(catalog: Catalog) -> Mapping[str, Fx]:
    """The registry's rates, by currency: every price book has those of the file."""
    return {name: fx for one in catalog.deployments() for name, fx in one.prices.fx.items()}
