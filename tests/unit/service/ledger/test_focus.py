"""FOCUS rows: the columns of the specification, and costs that add up to the ledger to the pico-dollar."""

from __future__ import annotations

import csv
import io
import json
import random
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from service.ledger.focus import COLUMNS, FOCUS_GROUPING, OWN_COLUMNS
from service.ledger.indexer import Indexer
from service.ledger.render import FORMATS
from service.ledger.reports import cost_report
from service.ledger.sinks import open_sink
from service.ledger.sinks.port import TOKEN_COLUMNS
from service.ledger.writer import JournalWriter

MANDATORY = """BilledCost BillingAccountId BillingAccountName BillingCurrency BillingPeriodEnd BillingPeriodStart
ChargeCategory ChargeClass ChargeDescription ChargePeriodEnd ChargePeriodStart ContractedCost EffectiveCost
InvoiceIssuerName ListCost PricingQuantity PricingUnit ProviderName PublisherName ServiceCategory ServiceName"""
"""What FOCUS 1.2 wants of every data set, written down a second time."""

DAY_MS = 86_400_000
AT_MS = 1_795_000_000_000  # 2026-11-18T11:06:40Z
FIRST = datetime(2026, 11, 18, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path, opening, ending):
    """Three days of attempts of two models with odd costs; returns (sink, what they cost together in pico-USD)."""
    chance, total = random.Random(6), 0
    writer = JournalWriter(tmp_path)
    writer.start()
    for number in range(60):
        model, day = chance.choice(("small", "=large")), number % 3
        cost = chance.choice((1, 999_999_999_999, chance.randrange(10**13)))
        opened = {"model": model, "at_ms": AT_MS + day * DAY_MS, "tags": ("a", "b"), "simulated": number % 20 == 0}
        writer.write_open(opening(number, **opened))
        writer.write_terminal(ending(number, at_ms=AT_MS + day * DAY_MS, cost_pusd=cost))
        total += cost
    writer.close()
    sink = open_sink(tmp_path)
    with Indexer(tmp_path, sink) as indexer:
        indexer.catch_up()
    return sink, total


def lines(sink, by=FOCUS_GROUPING, since=None, until=None):
    """The rows as a spreadsheet reads them."""
    text = FORMATS["focus"](cost_report(sink, by, since, until))
    return list(csv.DictReader(io.StringIO(text)))


def test_every_column_of_the_specification_and_others_are_marked():
    """Each once; what is ours begins with `x_`."""
    assert set(MANDATORY.split()) <= set(COLUMNS)
    assert len(COLUMNS) == len(set(COLUMNS))
    assert all(name.startswith("x_") for name in OWN_COLUMNS)
    assert len(OWN_COLUMNS) == len(TOKEN_COLUMNS) + 5


def test_the_costs_add_up_to_the_ledger(ledger):
    """All four of them, exactly, whatever else they are grouped by."""
    sink, total = ledger
    for by in (FOCUS_GROUPING, (*FOCUS_GROUPING, "key", "intent")):
        rows = lines(sink, by)
        for name in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"):
            assert sum(Decimal(row[name]) for row in rows) * 10**12 == total
    assert sum(int(row["x_Attempts"]) for row in rows) == 60


def test_a_split_by_tags_would_not_add_up(ledger):
    """Positive control of the line above: why tags are refused."""
    sink, total = ledger
    rows = lines(sink, (*FOCUS_GROUPING, "tag"))
    assert sum(Decimal(row["BilledCost"]) for row in rows) * 10**12 == 2 * total


def test_a_row_is_a_day_of_a_model(ledger):
    """Periods are half open and in UTC; the month is the billing period; empty is null."""
    sink, _ = ledger
    first = lines(sink)[0]
    period = ("ChargePeriodStart", "ChargePeriodEnd", "BillingPeriodStart", "BillingPeriodEnd")
    assert [first[name] for name in period] == [
        "2026-11-18T00:00:00Z",
        "2026-11-19T00:00:00Z",
        "2026-11-01T00:00:00Z",
        "2026-12-01T00:00:00Z",
    ]
    assert (first["ChargeCategory"], first["ChargeClass"], first["BillingCurrency"]) == ("Usage", "", "USD")
    assert (first["ConsumedUnit"], first["ServiceCategory"]) == ("Tokens", "AI and Machine Learning")
    tokens = [name for name in OWN_COLUMNS if name.endswith("Tokens")]
    assert int(first["ConsumedQuantity"]) == sum(int(first[name]) for name in tokens) > 0


def test_a_range_that_cuts_a_day_says_so(ledger):
    """The row holds a part of the day, and its period is that part."""
    sink, _ = ledger
    rows = lines(sink, since=FIRST.replace(hour=8), until=FIRST.replace(hour=20))
    assert {(row["ChargePeriodStart"], row["ChargePeriodEnd"]) for row in rows} == {
        ("2026-11-18T08:00:00Z", "2026-11-18T20:00:00Z")
    }


def test_tags_are_json_and_names_are_no_formulas(ledger):
    """Other groupings, and whether it was simulated: as key and value."""
    sink, _ = ledger
    rows = lines(sink, (*FOCUS_GROUPING, "intent"))
    told = {row["Tags"] for row in rows}
    assert all(isinstance(json.loads(tags), dict) for tags in told)
    assert any('"coe/simulated":"true"' in tags for tags in told)
    assert all("coe/intent" in tags for tags in told)
    assert "'=large" in {row["ResourceName"] for row in rows}


def test_nothing_spent_is_a_header(ledger):
    """A file that every reader takes."""
    sink, _ = ledger
    assert lines(sink, since=datetime(2030, 1, 1, tzinfo=UTC)) == []
