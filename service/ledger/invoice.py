"""A vendor's invoice as CSV: lines with a day, a model and an amount, whatever their columns are called. Pure.

Where on the path: beside it; `reconcile` holds these lines against the ledger.

Invariants
1. An amount is exact: decimal text in, pico-USD out, with at most one rounding, where a currency is changed.
2. A line that can't be understood is refused with its number; none is left out in silence.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

from service.domain.money import FX_SCALE, PICO, Fx, divide_half_even

LINES_MAX: Final = 1_000_000
AMOUNT_CHARACTERS_MAX: Final = 40

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "day": ("day", "date", "usagedate", "chargeperiodstart"),
    "model": ("model", "modelname", "resourcename", "deployment"),
    "amount": ("amount", "amountusd", "cost", "costusd", "billedcost"),
    "currency": ("currency", "billingcurrency"),
    "tokens": ("tokens", "totaltokens", "consumedquantity"),
}
"""What each column may be called: in any case, with any blanks, dashes and underscores. The first three must be."""

_NEEDED: Final = ("day", "model", "amount")
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


class InvoiceError(ValueError):
    """The file is no invoice that can be understood; the message has the line and what to mend."""


class InvoiceLine(NamedTuple):
    """One line: a UTC day, the model as the vendor writes it, the amount in pico-USD; `tokens` where it tells them."""

    day: str
    model: str
    pusd: int
    tokens: int | None


def read_invoice(text: str, rates: Mapping[str, Fx], currency: str = "USD") -> list[InvoiceLine]:
    """The lines of a CSV; `currency` is for files without such a column, `rates` change it to USD. Raises InvoiceError.

    A cell that a spreadsheet was told to take for text by an apostrophe is read without it.
    """
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = next(reader, [])
        places = _places(header)
        found = list(_lines(reader, places, rates, currency))
    except csv.Error as problem:
        raise InvoiceError(f"line {reader.line_num}: this is no CSV ({problem})") from problem
    if not found:
        raise InvoiceError("the invoice has no lines under its header")
    return found


def _places(header: Sequence[str]) -> Mapping[str, int]:
    """Where each column stands."""
    names = [re.sub(r"[\s_\-]", "", cell).lower() for cell in header]
    places: dict[str, int] = {}
    for column, known in COLUMNS.items():
        at = [place for place, name in enumerate(names) if name in known]
        if len(at) > 1:
            cells = ", ".join(repr(header[place][:50]) for place in at)
            raise InvoiceError(f"line 1: {cells} could each be the {column}; keep one")
        if at:
            places[column] = at[0]
        elif column in _NEEDED:
            has = ", ".join(repr(cell[:50]) for cell in header[:20]) or "nothing"
            raise InvoiceError(
                f"line 1: no column is the {column}; call it one of {', '.join(known)}. "
                f"The line has, between commas, {has}"
            )
    return places


def _lines(
    rows: Iterator[list[str]], places: Mapping[str, int], rates: Mapping[str, Fx], currency: str
) -> Iterator[InvoiceLine]:
    last = max(places.values())
    for number, row in enumerate(rows, 2):
        if not any(cell.strip() for cell in row):
            continue
        if number > LINES_MAX:
            raise InvoiceError(f"more than {LINES_MAX} lines; give it in parts")
        if len(row) <= last:
            raise InvoiceError(f"line {number}: it has {len(row)} cells, the header wants more")
        cells = {column: _cell(row[place]) for column, place in places.items()}
        day = cells["day"][:10]
        if not _DAY.fullmatch(day) or not _is_date(day):
            raise InvoiceError(f"line {number}: {cells['day'][:50]!r} is no day; write 2026-11-01")
        if not cells["model"]:
            raise InvoiceError(f"line {number}: it names no model")
        unit = cells.get("currency", "").upper() or currency
        yield InvoiceLine(
            day, cells["model"], _pusd(cells["amount"], unit, rates, number), _tokens(cells.get("tokens"), number)
        )


def _cell(text: str) -> str:
    text = text.strip()
    return text[1:] if text.startswith(("'=", "'+", "'-", "'@")) else text


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _pusd(text: str, currency: str, rates: Mapping[str, Fx], number: int) -> int:
    amount = _decimal(text, number, "amount")
    fx = Fx() if currency == "USD" else rates.get(currency)
    if fx is None:
        known = ", ".join(sorted({"USD", *rates}))
        raise InvoiceError(
            f"line {number}: the registry has no rate for {currency[:10]!r} (it has {known}); add one under "
            "currency.rates"
        )
    numerator, denominator = amount.as_integer_ratio()
    return divide_half_even(numerator * PICO * fx.nano_usd, denominator * FX_SCALE)


def _tokens(text: str | None, number: int) -> int | None:
    if not text:
        return None
    count = _decimal(text, number, "count of tokens")
    if count != count.to_integral_value() or count < 0:
        raise InvoiceError(f"line {number}: {text[:50]!r} is no count of tokens")
    return int(count)


def _decimal(text: str, number: int, what: str) -> Decimal:
    """An exact number; words, signs of currencies and commas, which mean two things, are refused."""
    try:
        found = Decimal(text) if len(text) <= AMOUNT_CHARACTERS_MAX and "_" not in text else None
    except InvalidOperation:
        found = None
    if found is None or not found.is_finite() or abs(found.adjusted()) > AMOUNT_CHARACTERS_MAX:
        raise InvoiceError(f"line {number}: {text[:50]!r} is no {what}; write it as 1234.56, without signs and commas")
    return found
