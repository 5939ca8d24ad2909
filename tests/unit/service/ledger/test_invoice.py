"""Invoices as vendors write them: columns by name, exact amounts, and a line number for what makes no sense."""

from __future__ import annotations

from fractions import Fraction

import pytest

from service.domain.money import Fx
from service.ledger.invoice import COLUMNS, InvoiceError, InvoiceLine, read_invoice

RATES = {"CNY": Fx("CNY", 140_600_000)}
USD = 10**12


def test_columns_are_known_by_name():
    """In any order and spelling; others are passed over."""
    text = "Invoice no,Total Tokens,Model-Name,COST_USD,Usage Date\nA1,12,small,0.5,2026-11-18\n"
    assert read_invoice(text, {}) == [InvoiceLine("2026-11-18", "small", USD // 2, 12)]
    for column, names in COLUMNS.items():
        for name in names:
            header = {"day": "day", "model": "model", "amount": "amount"} | {column: name.upper()}
            cells = {"day": "2026-11-18", "model": "m", "amount": "1", "currency": "USD", "tokens": "3"}
            line = ",".join(cells[one] for one in header)
            assert len(read_invoice(f"{','.join(header.values())}\n{line}\n", {})) == 1


@pytest.mark.parametrize("amount", ["0.1", "-3.25", "0.000000000001", "1e-7", "123456789.123456789012", "0"])
def test_amounts_are_exact(amount):
    """To the pico-dollar, credits too."""
    (line,) = read_invoice(f"day,model,amount\n2026-11-18,m,{amount}\n", {})
    assert line.pusd == Fraction(amount) * USD


def test_another_currency_is_changed_once():
    """By the column, or by what the file is said to be in; rounded once, halves to even."""
    told = "day,model,amount,currency\n2026-11-18,m,12.50,cny\n2026-11-18,m,1,\n"
    assert [line.pusd for line in read_invoice(told, RATES, "CNY")] == [17_575 * 10**8, 1406 * 10**8]
    assert [line.pusd for line in read_invoice(told, RATES)] == [17_575 * 10**8, USD]
    (tiny,) = read_invoice("day,model,amount\n2026-11-18,m,0.000000000005\n", {"X": Fx("X", 500_000_000)}, "X")
    assert tiny.pusd == 2, "2.5 pico-dollars"


def test_what_a_spreadsheet_made_of_it():
    """Instants for days, an apostrophe before a formula, empty lines, quotes."""
    text = 'ChargePeriodStart,ResourceName,BilledCost\n2026-11-18T00:00:00Z,"\'=a,b",1\n\n , ,\n'
    assert read_invoice(text, {}) == [InvoiceLine("2026-11-18", "=a,b", USD, None)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: no column is the day; call it one of day, date"),
        ("day,model\n", "no column is the amount"),
        ("日期;模型;金额\n2026-11-18;m;1\n", "chargeperiodstart. The line has, between commas, '日期;模型;金额'"),
        ("day,model,amount\n", "no lines under its header"),
        ("day,model,amount,cost\n2026-11-18,m,1,2\n", "'amount', 'cost' could each be the amount"),
        ("day,model,amount\n2026-11-18,m\n", "line 2: it has 2 cells"),
        ("day,model,amount\n18.11.2026,m,1\n", "line 2: '18.11.2026' is no day"),
        ("day,model,amount\n2026-02-30,m,1\n", "line 2: '2026-02-30' is no day"),
        ("day,model,amount\n2026-11-18,,1\n", "line 2: it names no model"),
        ('day,model,amount\n2026-11-18,m,1\n2026-11-18,m,"1,234.5"\n', "line 3: '1,234.5' is no amount"),
        ("day,model,amount\n2026-11-18,m,$1\n", "is no amount"),
        ("day,model,amount\n2026-11-18,m,\n", "is no amount"),
        ("day,model,amount\n2026-11-18,m,nan\n", "is no amount"),
        ("day,model,amount\n2026-11-18,m,1e999\n", "is no amount"),
        ("day,model,amount\n2026-11-18,m,1_0\n", "is no amount"),
        ("day,model,amount,currency\n2026-11-18,m,1,EUR\n", r"no rate for 'EUR' \(it has CNY, USD\)"),
        ("day,model,amount,tokens\n2026-11-18,m,1,1.5\n", "is no count of tokens"),
        ("day,model,amount,tokens\n2026-11-18,m,1,-1\n", "is no count of tokens"),
        ('day,model,amount\n2026-11-18,"m\n', "."),
    ],
)
def test_what_makes_no_sense_is_named(text, told):
    """With its line, and with what to write."""
    with pytest.raises(InvoiceError, match=told):
        read_invoice(text, RATES)
