"""Both sides in one table: nothing is lost between them, and what differs is said to the pico-dollar."""

from __future__ import annotations

import random

from service.ledger.invoice import InvoiceLine
from service.ledger.reconcile import (
    DIFFERS,
    EQUAL,
    INVOICE_ONLY,
    LEDGER_ONLY,
    WITHIN,
    reconcile,
    vendor_names,
)
from service.ledger.reports import CostRow

CENT = 10**10


def row(day, model, pusd, provider="p", tokens=7, *, simulated=False):
    """One row of a report by day, provider, model and simulated."""
    keys = {"day": day, "provider": provider, "model": model, "simulated": simulated}
    return CostRow(keys, 1, 1, {"input_tokens": tokens}, pusd, None, None, 0.0, 0, 0, 0)


def found(rows, lines, provider=None, tolerance=CENT, named=lambda name: name):
    """(day, model) -> (difference, verdict)."""
    told = reconcile(rows, lines, named, provider, tolerance)
    assert [(one.day, one.model) for one in told] == sorted({(one.day, one.model) for one in told})
    return {(one.day, one.model): (one.difference_pusd, one.verdict) for one in told}


def test_every_verdict():
    """Equal, within and over the tolerance, and missing on either side."""
    rows = [row("d1", name, 5 * CENT) for name in ("equal", "near", "far", "ledger")] + [row("d1", "dust", 3)]
    lines = [
        InvoiceLine("d1", name, pusd, None)
        for name, pusd in (("equal", 5 * CENT), ("near", 6 * CENT), ("far", 6 * CENT + 1), ("invoice", 2 * CENT))
    ]
    assert found(rows, lines) == {
        ("d1", "equal"): (0, EQUAL),
        ("d1", "near"): (-CENT, WITHIN),
        ("d1", "far"): (-CENT - 1, DIFFERS),
        ("d1", "ledger"): (5 * CENT, LEDGER_ONLY),
        ("d1", "invoice"): (-2 * CENT, INVOICE_ONLY),
        ("d1", "dust"): (3, WITHIN),
    }


def test_lines_of_a_day_are_added_up_and_simulated_ones_left_out():
    """Credits too; tokens only where every line has them; another provider's spend is on another invoice."""
    rows = [row("d", "m", 3), row("d", "m", 4, "q"), row("d", "m", 9, simulated=True)]
    lines = [InvoiceLine("d", "m", 8, 5), InvoiceLine("d", "m", -1, 2)]
    (both,) = reconcile(rows, lines, str, None, 0)
    assert (both.ledger_pusd, both.invoice_pusd, both.ledger_tokens, both.invoice_tokens) == (7, 7, 14, 7)
    (one,) = reconcile(rows, [*lines, InvoiceLine("d", "m", 0, None)], str, "p", 0)
    assert (one.ledger_pusd, one.difference_pusd, one.invoice_tokens, one.verdict) == (3, -4, None, DIFFERS)


def test_the_differences_add_up():
    """Over random books: their sum is that of the ledger less that of the invoice, whatever is missing where."""
    chance = random.Random(3)
    for _ in range(200):
        rows = [row(f"d{chance.randrange(4)}", f"m{chance.randrange(4)}", chance.randrange(9**9)) for _ in range(12)]
        lines = [
            InvoiceLine(f"d{chance.randrange(4)}", f"m{chance.randrange(4)}", chance.randrange(-99, 9**9), None)
            for _ in range(12)
        ]
        told = found(rows, lines)
        assert sum(difference for difference, _ in told.values()) == sum(one.cost_pusd for one in rows) - sum(
            one.pusd for one in lines
        )


def test_a_vendor_s_names():
    """On the wire, of the registry, with the provider; what could be two models is none without a provider."""
    deployments = [("p", "wire-1", "small"), ("q", "wire-1", "large"), ("q", "only", "small")]
    every = vendor_names(deployments, None)
    assert every == {
        "p/small": "small",
        "small": "small",
        "p/wire-1": "small",
        "q/large": "large",
        "large": "large",
        "q/wire-1": "large",
        "q/small": "small",
        "only": "small",
        "q/only": "small",
    }
    assert vendor_names(deployments, "q")["wire-1"] == "large"
    assert vendor_names(deployments, "p")["wire-1"] == "small"
