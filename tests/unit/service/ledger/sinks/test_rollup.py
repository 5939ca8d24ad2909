"""What the attempts of a request add to the rollups, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ledger.sinks.port import BASELINES, TOKEN_COLUMNS
from service.ledger.sinks.rollup import COUNTS, DIMENSIONS, HOUR_MS, LEVELS, MONEY, TOKENS_MAX, Row, added, pieces

NAMES = (*COUNTS, *MONEY)


def row(attempt="a1", model="small", provider="p", **changes):
    values = {
        "id": 1,
        "attempt_id": attempt,
        "at_ms": 5 * HOUR_MS,
        "writer": 3,
        "state": "settled",
        "usage_source": "provider",
        "kind": "answer",
        "final": 1,
        "attempt_number": 1,
        "cost_pusd": 7,
        "baselines": (20,) * len(BASELINES),
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
    assert figures([row()], *COUNTS[:5]) == [(1, 1, 1, 1, 1)]
    assert figures([row()], "cost", "baseline", "baseline_compared", "baseline_requests") == [(7, 20, 7, 1)]


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, (1, 0)),
        ({"usage_source": "estimated"}, (1, 1)),
        ({"state": "refused"}, (0, 0)),
        ({"kind": "cache"}, (0, 0)),
    ],
)
def test_what_may_stand_on_an_invoice(changes, counts):
    """No answer from the cache: a share of what is estimated would look the smaller for each."""
    assert figures([row(**changes)], "attempts", "billable", "guessed") == [(1, *counts)]


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
    assert figures(rows, "baseline", "baseline_compared", "baseline_requests") == [(0, 7, 0), (20, 7, 1), (0, 7, 0)]


def test_an_attempt_without_a_price_leaves_its_request_uncompared():
    """A cost that nobody knows is none that could be saved; a crash counts against the savings all the same."""
    rows = [row("a1", cost_pusd=None), row("a2"), row("a3", state="unknown", final=0)]
    assert figures(rows, "unpriced", "baseline", "baseline_compared") == [(1, 0, 0), (0, 0, 0), (0, 0, 7)]
    assert figures([row(cost_pusd=None)], "unpriced", "cost", "baseline", "baseline_compared") == [(1, 0, 0, 0)]


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


HOURS = st.integers(0, 5_000)


@given(HOURS, HOURS, st.integers(0, 5_000), st.booleans())
def test_pieces_are_each_hour_once(first, more, newest, by_day):
    """Nothing is left out and nothing counts twice, and no coarser period is asked that is not over."""
    folded = {level.table: newest // level.hours for level in LEVELS[1:]}
    found = []
    for piece in pieces(first, first + more, folded, by_day=by_day):
        assert piece.level is LEVELS[0] or piece.stop <= folded[piece.level.table]
        assert not by_day or piece.level.hours <= 24
        found += range(piece.start * piece.level.hours, piece.stop * piece.level.hours)
    assert sorted(found) == list(range(first, first + more))


def test_a_year_is_a_few_dozen_pieces_of_the_coarsest():
    """What makes a report on everything quick: blocks, and days and hours only at the ends."""
    folded = {level.table: 10**9 for level in LEVELS[1:]}
    asked = [(piece.level.hours, piece.stop - piece.start) for piece in pieces(5, 5 + 8_760, folded, by_day=False)]
    assert dict(asked)[768] == 10
    assert sum(count for _, count in asked) < 100
