"""The ledger against a vendor's invoice: what differs, by day and model, exactly. Pure functions.

Where on the path: beside it; behind `coe costs --reconcile`.

Invariants
1. Every line of the invoice and every row of the ledger is in exactly one row here: the differences add up to the
   difference of the two sums.
2. A difference is the ledger's amount less the invoice's: negative where the vendor bills more than was booked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from service.domain.money import usd_text
from service.ledger.invoice import InvoiceLine
from service.ledger.reports import CostRow

GROUPING: Final = ("day", "provider", "model", "simulated")
"""How the ledger is asked: what was simulated is on no invoice."""

EQUAL, WITHIN, DIFFERS = "equal", "within tolerance", "differs"
LEDGER_ONLY, INVOICE_ONLY = "not on the invoice", "not in the ledger"

FIELDS: Final = (
    "day",
    "model",
    "ledger_usd",
    "invoice_usd",
    "difference_usd",
    "ledger_tokens",
    "invoice_tokens",
    "verdict",
)
"""The columns, in order."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """A day of a model on both sides, in pico-USD and tokens; `None` is a side without it, or that does not tell it."""

    day: str
    model: str
    ledger_pusd: int | None
    invoice_pusd: int | None
    ledger_tokens: int | None
    invoice_tokens: int | None
    tolerance_pusd: int

    @property
    def difference_pusd(self) -> int:
        """Ledger less invoice."""
        return (self.ledger_pusd or 0) - (self.invoice_pusd or 0)

    @property
    def verdict(self) -> str:
        """What is to be thought of it."""
        if abs(self.difference_pusd) > self.tolerance_pusd:
            if self.ledger_pusd is None:
                return INVOICE_ONLY
            return LEDGER_ONLY if self.invoice_pusd is None else DIFFERS
        return WITHIN if self.difference_pusd else EQUAL

    @property
    def holds(self) -> bool:
        """Whether both sides say the same, as far as that is asked for."""
        return self.verdict in (EQUAL, WITHIN)

    def as_dict(self) -> dict[str, object]:
        """As every format shows it, in the order of `FIELDS`."""
        return {
            "day": self.day,
            "model": self.model,
            "ledger_usd": _usd(self.ledger_pusd),
            "invoice_usd": _usd(self.invoice_pusd),
            "difference_usd": usd_text(self.difference_pusd),
            "ledger_tokens": self.ledger_tokens,
            "invoice_tokens": self.invoice_tokens,
            "verdict": self.verdict,
        }


def reconcile(
    rows: Iterable[CostRow],
    lines: Iterable[InvoiceLine],
    named: Callable[[str], str],
    provider: str | None,
    tolerance_pusd: int,
) -> list[Reconciled]:
    """Both sides by day and model, in that order.

    `rows` are by `GROUPING`; of those of `provider`, or of all. `named` gives the registry's model for a vendor's name.
    """
    ledger: dict[tuple[str, str], tuple[int, int]] = {}
    invoice: dict[tuple[str, str], tuple[int, int | None]] = {}
    for row in rows:
        if row.keys["simulated"] or provider not in (None, row.keys["provider"]):
            continue
        place = str(row.keys["day"]), str(row.keys["model"] or "")
        pusd, tokens = ledger.get(place, (0, 0))
        ledger[place] = pusd + row.cost_pusd, tokens + sum(row.tokens.values())
    for line in lines:
        place = line.day, named(line.model)
        billed, counted = invoice.get(place, (0, 0))
        both = None if counted is None or line.tokens is None else counted + line.tokens
        invoice[place] = billed + line.pusd, both
    return [
        Reconciled(*place, *_sides(ledger.get(place), invoice.get(place)), tolerance_pusd)
        for place in sorted({*ledger, *invoice})
    ]


def vendor_names(deployments: Iterable[tuple[str, str, str]], provider: str | None) -> Mapping[str, str]:
    """A vendor's name for a model -> the registry's, of (provider, name on the wire, model).

    A name that several models have is in it only where `provider` decides; `provider/model` always is.
    """
    found: dict[str, set[str]] = {}
    for who, wire, model in deployments:
        names = [f"{who}/{model}", model]
        if provider in (None, who):
            names += [wire, f"{who}/{wire}"]
        for name in names:
            found.setdefault(name, set()).add(model)
    return {name: next(iter(models)) for name, models in found.items() if len(models) == 1}


def _sides(
    ledger: tuple[int, int] | None, invoice: tuple[int, int | None] | None
) -> tuple[int | None, int | None, int | None, int | None]:
    (pusd, tokens), (billed, counted) = ledger or (None, None), invoice or (None, None)
    return pusd, billed, tokens, counted


def _usd(pusd: int | None) -> str | None:
    return None if pusd is None else usd_text(pusd)
