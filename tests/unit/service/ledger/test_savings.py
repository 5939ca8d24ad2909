"""What was saved: signed, net, against each baseline for the requests that it is known for. Books added up by hand."""

from __future__ import annotations

import csv
import io
import json
import random
from collections import Counter
from decimal import Decimal
from functools import partial

import pytest

from service.domain.decision import EntryState
from service.ledger import reports
from service.ledger.indexer import Indexer
from service.ledger.savings import (
    FIELDS,
    NOTHING,
    SAVINGS_FORMATS,
    as_csv,
    as_json,
    as_rows,
    as_table,
    same_spend,
    savings_notes,
)
from service.ledger.sinks import open_sink
from service.ledger.sinks.port import BASELINES
from service.ledger.writer import JournalWriter

USD = 10**12
cost_report = partial(reports.cost_report, savings=True)
NAMES = ("baseline", "strongest", "cheapest", "random")


@pytest.fixture
def book(tmp_path, opening, ending):
    """Write attempts as (open changes, terminal changes) and get the sink that holds them."""

    def write(*attempts):
        writer = JournalWriter(tmp_path)
        writer.start()
        for number, (opened, ended) in enumerate(attempts):
            writer.write_open(opening(number, **opened))
            writer.write_terminal(ending(number, **ended))
        writer.close()
        sink = open_sink(tmp_path)
        with Indexer(tmp_path, sink) as indexer:
            indexer.catch_up()
        return sink

    return write


def compared(cost, **would):
    """The end of an attempt that is compared: name -> (would have cost, of that assumed)."""
    told = {"cost_pusd": cost, "baseline_pusd": None, "compared_by": 1}
    for name, (pusd, assumed) in would.items():
        told |= {f"{name}_pusd": pusd, f"{name}_assumed_pusd": assumed}
    return told


def test_each_baseline_stands_for_itself(book):
    """Dearer than the cheapest, cheaper than the strongest: one is saved, the other is lost, and neither is clipped."""
    sink = book(
        ({}, compared(3 * USD, strongest=(10 * USD, 8 * USD), cheapest=(USD, 0), random=(5 * USD, 2 * USD))),
        ({}, compared(2 * USD, strongest=(2 * USD, 0), cheapest=(USD, USD), random=(USD, USD))),
    )
    total = cost_report(sink).total
    assert {name: (one.requests, one.saved_pusd) for name, one in total.savings.items()} == {
        "strongest": (2, 7 * USD),
        "cheapest": (2, -3 * USD),
        "random": (2, USD),
    }
    assert total.savings["strongest"].saved_between == (3 * USD, 15 * USD)
    assert total.savings["cheapest"].saved_between == (-3 * USD - USD // 2, -2 * USD)


def test_failed_and_crashed_attempts_count_against_it(book):
    """Net of everything: the attempt before, and what a crash was charged."""
    sink = book(
        ({"decision_id": "d"}, {"cost_pusd": USD, "final": False, "baseline_pusd": None, "ended": "cut"}),
        ({"decision_id": "d", "attempt_number": 2}, compared(2 * USD, strongest=(5 * USD, 0))),
        ({}, {"cost_pusd": 4 * USD, "state": EntryState.UNKNOWN, "baseline_pusd": None, "final": False}),
    )
    (one,) = cost_report(sink).total.savings.values()
    assert (one.requests, one.cost_pusd, one.saved_pusd) == (1, 7 * USD, -2 * USD)


def test_rows_of_before_are_unknown_and_not_zero(book):
    """A row without these figures is not compared; where only some have an interval there is none."""
    sink = book(({}, {}), ({}, compared(USD, baseline=(3 * USD, USD), strongest=(2 * USD, 0))))
    report = cost_report(sink)
    told = {row["against"]: row for row in as_rows(report)}
    assert set(told) == {"baseline", "strongest"}
    assert (told["baseline"]["compared_requests"], told["strongest"]["compared_requests"]) == (2, 1)
    assert (told["baseline"]["saved_low_usd"], told["baseline"]["saved_high_usd"]) == (None, None)
    assert told["strongest"]["saved_low_usd"] == told["strongest"]["saved_usd"] == "1"
    assert any("strongest" in note for note in savings_notes(report))


def test_a_request_whose_cost_is_not_known_is_not_compared(book):
    """Neither as a saving nor as a loss."""
    sink = book(({}, compared(None, strongest=(2 * USD, 0))))
    assert cost_report(sink).total.savings == {}
    assert as_table(cost_report(sink)) == NOTHING + "\n"


def test_the_identity_holds_in_every_grouping(book):
    """Over random books: saved is would-have-cost less cost, in each row.

    The rows add up to the total and to a second reckoning of the same attempts.
    """
    chance, attempts, sums = random.Random(11), [], Counter()
    for number in range(300):
        cost = chance.randrange(10**13)
        would = {
            name: (pusd := chance.randrange(10**13), chance.randrange(pusd + 1))
            for name in NAMES
            if chance.random() < 0.8
        }
        model, intent, key = (chance.choice(word) for word in (("a", "b", "c"), ("x", "y"), ("k", None)))
        opened = {"model": model, "intent": intent, "key_id": key, "tags": (), "decision_id": f"d{number}"}
        attempts.append((opened, compared(cost, **would)))
        for name, (pusd, assumed) in would.items():
            for what, amount in (("cost", cost), ("would", pusd), ("assumed", assumed), ("requests", 1)):
                sums[name, what] += amount
                sums[name, what, model] += amount
    sink = book(*attempts)
    for by in ((), ("model",), ("model", "intent", "key"), ("day",)):
        report = cost_report(sink, by)
        for name in NAMES:
            rows = [row.savings[name] for row in report.rows if name in row.savings]
            figures = [(one.cost_pusd, one.would_pusd, one.assumed_pusd, one.requests) for one in rows]
            whole = tuple(sums[name, what] for what in ("cost", "would", "assumed", "requests"))
            assert tuple(map(sum, zip(*figures, strict=True))) == whole
            total = report.total.savings[name]
            assert (total.cost_pusd, total.would_pusd, total.assumed_pusd, total.requests) == whole
            assert total.saved_pusd == whole[1] - whole[0] == sum(one.saved_pusd for one in rows)
            low, high = total.saved_between
            assert low <= total.saved_pusd <= high
    for row in cost_report(sink, ("model",)).rows:
        for name, one in row.savings.items():
            assert one.saved_pusd == sums[name, "would", row.keys["model"]] - sums[name, "cost", row.keys["model"]]


def test_a_coin_that_spends_the_same(book):
    """The share at the strongest; nothing where the two are one, or not known of the same requests."""
    both = {"strongest": (10 * USD, 0), "cheapest": (2 * USD, 0)}
    report = cost_report(book(({}, compared(4 * USD, **both))))
    assert same_spend(report.total) == (2 * USD, 8 * USD)
    assert any("25.0%" in note for note in savings_notes(report))


def test_no_coin_where_both_are_one(book):
    """As when every request names its model."""
    sink = book(({}, compared(USD, strongest=(USD, 0), cheapest=(USD, 0))))
    assert same_spend(cost_report(sink).total) is None


def test_who_does_not_ask_is_not_kept_waiting(book):
    """Only the configured baseline is added up for a report on costs, and it says the same."""
    sink = book(({}, compared(3 * USD, baseline=(4 * USD, 0), strongest=(10 * USD, 8 * USD))))
    plain, whole = reports.cost_report(sink), cost_report(sink)
    assert plain.total.savings == {}
    assert plain.total.saved_pusd == whole.total.saved_pusd == whole.total.savings["baseline"].saved_pusd == USD
    ((few,), (every,)) = (sink.sums(("model",), None, None, count) for count in (1, len(BASELINES)))
    assert few.baselines == {"baseline": every.baselines["baseline"]}
    assert (few.cost_pusd, few.tokens, few.requests) == (every.cost_pusd, every.tokens, every.requests)


def test_every_format_tells_the_same(book):
    """One row for each group and baseline; the table has totals and notes."""
    sink = book(
        ({"model": "=a"}, compared(3 * USD, strongest=(10 * USD, 8 * USD), cheapest=(USD, 0))),
        ({"model": "b"}, compared(2 * USD, strongest=(2 * USD, 0), cheapest=(USD, USD))),
    )
    report = cost_report(sink, ("model", "simulated"))
    rows = json.loads(as_json(report))
    assert [tuple(row) for row in rows] == [("model", "simulated", *FIELDS)] * 4
    cells = list(csv.DictReader(io.StringIO(as_csv(report))))
    assert [row["saved_usd"] for row in cells] == [row["saved_usd"] for row in rows]
    assert {row["model"] for row in cells} == {"'=a", "b"}
    assert sum(Decimal(row["saved_usd"]) for row in rows if row["against"] == "strongest") == 7
    table = as_table(report)
    assert table.splitlines()[0].split() == ["model", "simulated", *FIELDS]
    assert sum(line.startswith("total ") for line in table.splitlines()) == 2
    assert "Note: " in table
    assert set(SAVINGS_FORMATS) == {"table", "csv", "json"}
