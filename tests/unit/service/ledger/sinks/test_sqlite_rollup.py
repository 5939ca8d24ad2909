"""What the attempts of a request add to the rollups, by hand."""

from __future__ import annotations

import pytest

from service.ledger.sinks.port import TOKEN_COLUMNS
from service.ledger.sinks.sqlite_rollup import COUNTS, DIMENSIONS, HOUR_MS, MONEY, TOKENS_MAX, Row, added

NAMES = (*COUNTS, *MONEY)


def row(attempt="a1", model="small", provider="p", **changes):
    values = {
        "id": 1,
        "attempt_id": attempt,
        "at_ms": 5 * HOUR_MS,
        "writer": 3,
        "state": "settled",
        "usage_source": "provider",
        "final": 1,
        "attempt_number": 1,
        "cost_pusd": 7,
        "baseline_pusd": 20,
        "dimensions": (model, provider, *("same",) * (len(DIMENSIONS) - 2)),
        "tokens": (1,) * len(TOKEN_COLUMNS),
    }
    return Row(**(values | changes))


def figures(rows, *names):
    found = added(rows)
    assert found is not None
    return [tuple(dict(zip(NAMES, one.values, strict=True))[name] for name in names) for one in found]


def test_one_attempt_is_a_request():
    """It counts everywhere once, in its hour, under its writer."""
    (one,) = added([row(at_ms=6 * HOUR_MS - 1)])
    assert (one.hour, one.writer, one.dimensions[:2]) == (5, 3, ("small", "p"))
    assert figures([row()], *COUNTS[:6]) == [(1, 1, 1, 1, 1, 1)]
    assert figures([row()], "cost", "baseline", "compared", "compared_requests") == [(7, 20, 7, 1)]


def test_of_several_attempts_each_counts_for_what_it_is_first_at():
    """Whatever costs are grouped by, a request counts once in each group that it is in."""
    rows = [row("a1"), row("a2"), row("a3", "large"), row("a4", "large", "q")]
    assert figures(rows, "requests", "requests_by_model", "requests_by_provider", "requests_by_both") == [
        (1, 1, 1, 1),
        (0, 0, 0, 0),
        (0, 1, 0, 1),
        (0, 0, 1, 1),
    ]


def test_the_last_final_attempt_has_the_baseline():
    """By its number, then by its id; what the others cost is compared with it, too."""
    rows = [row("a1", attempt_number=2), row("a2", attempt_number=10), row("a3", final=0, attempt_number=11)]
    assert figures(rows, "baseline", "compared", "compared_requests") == [(0, 7, 0), (20, 7, 1), (0, 7, 0)]


def test_an_attempt_without_a_price_leaves_its_request_uncompared():
    """A cost that nobody knows is none that could be saved; a crash counts against the savings all the same."""
    rows = [row("a1", cost_pusd=None), row("a2"), row("a3", state="unknown", final=0)]
    assert figures(rows, "unpriced", "baseline", "compared") == [(1, 0, 0), (0, 0, 0), (0, 0, 7)]
    assert figures([row(cost_pusd=None)], "unpriced", "cost", "baseline", "compared") == [(1, 0, 0, 0)]


@pytest.mark.parametrize(
    ("changes", "billable", "guessed"),
    [
        ({}, 1, 0),
        ({"usage_source": None}, 1, 1),
        ({"usage_source": "counted"}, 1, 1),
        ({"state": "refused"}, 0, 0),
        ({"state": "refused", "usage_source": None}, 0, 0),
    ],
)
def test_what_may_be_on_an_invoice(changes, billable, guessed):
    """All that was not refused; guessed is what the vendor did not count."""
    assert figures([row(**changes)], "billable", "guessed") == [(billable, guessed)]


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "open"},
        {"at_ms": -1},
        {"cost_pusd": -1},
        {"tokens": ("many", *(0,) * (len(TOKEN_COLUMNS) - 1))},
        {"tokens": (0.5, *(0,) * (len(TOKEN_COLUMNS) - 1))},
        {"tokens": (-1, *(2,) * (len(TOKEN_COLUMNS) - 1))},
        {"tokens": (TOKENS_MAX, *(0,) * (len(TOKEN_COLUMNS) - 1))},
        {"tokens": (None, *(0,) * (len(TOKEN_COLUMNS) - 1))},
    ],
)
def test_what_is_not_ordinary_stands_apart(changes):
    """Running, or with figures that could make a sum overflow; with it the whole request."""
    assert added([row(**changes)]) is None
    assert added([row("a1"), row("a2", **changes)]) is None


def test_a_request_of_two_hours_or_two_keys_stands_apart():
    """Its attempts are added up one by one; a model and a provider may differ."""
    assert added([row("a1"), row("a2", at_ms=6 * HOUR_MS)]) is None
    assert added([row("a1"), row("a2", dimensions=("small", "p", *("other",) * (len(DIMENSIONS) - 2)))]) is None
    assert added([row("a1"), row("a2", "large", "q", at_ms=6 * HOUR_MS - 1)]) is not None
