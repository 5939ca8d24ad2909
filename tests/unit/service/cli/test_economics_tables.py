"""The report as table, CSV and JSON: the worked example as it is shown, and the same figures in all three."""

from __future__ import annotations

import csv
import io
import json
import re
from decimal import Decimal
from fractions import Fraction

import pytest
from scenery import NOW, a_catalog, a_model

from service.cli.economics_tables import COLUMNS, FORMATS, Report, as_csv, as_json, as_table, verdict
from service.domain.comparison import Unpriced, offers
from service.domain.economics import Account, Engine

ENGINE = Engine(8, 3_490_000_000_000, Fraction(3_000), Fraction(300))
CATALOG = a_catalog(
    a_model("dear", (3, 9)), a_model("cheap", (0.15, 0.6)), a_model("free", (0, 0)), a_model("open", None)
)


def a_report(load=Fraction(1), *, catalog=CATALOG, name=None, **more):
    """The worked example beside three APIs."""
    account = Account(ENGINE, ENGINE.traffic_at(load))
    found, unpriced = offers(catalog, account, NOW)
    return Report(name, account, "throughput as given", "at its load", found, unpriced, **more)


def test_the_worked_example_is_shown_to_the_digit():
    """Each figure as the specification has it."""
    lines = as_table(a_report(price=2_800_000)).splitlines()
    told = {
        line[:21].strip(): line[21:].split()[0]
        for line in lines
        if re.match(r"(?!traffic)[a-z][a-zA-Z -]+ {2,}\d", line)
    }
    assert told == {
        "cost": "670.08",
        "tokens": "285,120,000",
        "break-even price": "2.350168",
        "revenue": "798.34",
        "profit": "128.26",
        "margin": "16.07",
        "break-even load": "83.93",
        "break-even GPU hour": "4.158000",
    }
    sale = json.loads(as_json(a_report(price=2_800_000)))["sale"]
    assert (sale["revenue_usd_per_day"], sale["profit_usd_per_day"]) == ("798.336", "128.256")
    assert (sale["margin"], sale["break_even_load"]) == ("0.160654", "0.839346")


def test_all_three_tell_the_same():
    """Deployments, amounts, verdicts, in one order."""
    report = a_report(Fraction(3, 5), price=2_800_000, name="own/m")
    rows = list(csv.DictReader(io.StringIO(as_csv(report))))
    apis = json.loads(as_json(report))["apis"]
    assert (rows[0]["kind"], rows[0]["deployment"], rows[0]["usd_per_day"]) == ("own", "own/m", "670.08")
    assert [{name: one[name] or "" for name in one if name != "quality"} for one in apis] == [
        {name: row[name] for name in row if name not in ("kind", "quality")} for row in rows[1:]
    ]
    shown = [line.split() for line in as_table(report).splitlines() if line.startswith("p/")]
    for cells, one in zip(shown, apis, strict=True):
        assert cells[0] == one["deployment"]
        assert cells[2] == f"{Decimal(one['usd_per_day']):,.2f}"
        assert cells[3] == one["usd_per_million"]
        assert cells[5].lower() == one["cheaper"]
    assert [one["cheaper"] for one in apis] == ["api", "api", "api"]
    assert {*rows[0]} == {*COLUMNS}


def test_who_wins_at_which_load():
    """The dear API is the dearer one at full load, never at 60 %: they meet at 66.29 %. The free one always wins."""
    shown = {line.split()[0]: line.split()[5:] for line in as_table(a_report()).splitlines() if line.startswith("p/")}
    assert shown == {"p/free": ["API", "never"], "p/cheap": ["API", "never"], "p/dear": ["own", "66.29", "%", "load"]}
    part = {
        line.split()[0]: line.split()[5:]
        for line in as_table(a_report(Fraction(3, 5))).splitlines()
        if line[:2] == "p/"
    }
    assert part["p/dear"] == ["API", "66.29", "%", "load"]


def test_the_verdict_in_a_sentence():
    """Some are cheaper, none is, there is none."""
    assert verdict(a_report(name="own/m")) == (
        "own/m costs 670.08 USD a day; 2 of 3 priced API deployments would be cheaper for the same traffic, "
        "first p/free at 0.00 USD a day."
    )
    assert verdict(a_report(catalog=a_catalog(a_model("dear", (3, 9))))) == (
        "The engine costs 670.08 USD a day; of 1 priced API deployment none is cheaper for the same traffic. The cheapest "
        "is p/dear at 1,010.88 USD a day."
    )
    assert "known price" in verdict(a_report(catalog=a_catalog(a_model("open", None))))


def test_the_same_cost_is_told_so():
    """Neither is cheaper."""
    report = a_report(catalog=a_catalog(a_model("even", (1, 1))))
    even = report.offers[0]._replace(beside=report.account.beside(Fraction(ENGINE.pusd_per_day)))
    twin = Report(None, report.account, "", "", (even,))
    assert json.loads(as_json(twin))["apis"][0]["cheaper"] == "same"
    assert "same" in as_table(twin)


def test_what_is_not_known_is_not_a_number():
    """No price: no sale. Nothing earned: no margin. No ratio: no price of input and output apart."""
    told = json.loads(as_json(a_report()))
    assert told["sale"] is None
    assert told["own"]["input_usd_per_million"] is None
    nothing = json.loads(as_json(a_report(price=0)))["sale"]
    assert (nothing["margin"], nothing["break_even_load"], nothing["profit_usd_per_day"]) == (None, None, "-670.08")
    table = as_table(a_report(price=0))
    assert re.search(r"margin +- ", table)
    assert "more than the engine can do" in table
    apart = json.loads(as_json(a_report(ratio=Fraction(4))))["own"]
    assert (apart["input_usd_per_million"], apart["output_usd_per_million"]) == ("1.846561", "7.386243")
    assert "an output token worth 4 input tokens" in as_table(a_report(ratio=Fraction(4)))


def test_money_is_never_a_float():
    """Only a quality is a JSON number beside counts."""
    report = a_report(Fraction(1, 3), price=2_800_000, ratio=Fraction(7, 2))

    def numbers(value, name=""):
        if isinstance(value, dict):
            return [one for key, inner in value.items() for one in numbers(inner, key)]
        if isinstance(value, list):
            return [one for inner in value for one in numbers(inner, name)]
        return [name] if isinstance(value, int | float) else []

    assert set(numbers(json.loads(as_json(report)))) == {"gpus", "quality"}


@pytest.mark.parametrize("shape", FORMATS)
def test_nothing_to_compare_with(shape):
    """A registry without APIs leaves the engine's own figures."""
    report = a_report(catalog=a_catalog(a_model("open", None)), notes=("one more thing",))
    told = FORMATS[shape](report)
    assert "670.08" in told
    assert told.endswith("\n")
    assert report.unpriced == (Unpriced(report.unpriced[0].deployment, "price unknown"),)
