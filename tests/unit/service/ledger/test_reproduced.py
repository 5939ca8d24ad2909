"""Rows computed again from themselves: what they come to, and what is said of one that does not."""

from __future__ import annotations

import pytest

from service.ledger.reproduced import NotReproducible, difference, reproduced

OPENED = {"attempt_id": "att_1", "reserved_pusd": 77}
PRICE = {
    "version": "p/m@2026-01-01",
    "currency": "CNY",
    "rates": {"input": 800_000, "cache_read": 160_000, "output": 2_000_000, "requests": 0},
    "multiply": "1/2",
    "usd_per_unit": "0.1406",
}
USAGE = {"input": 100, "cache_read": 900, "output": 40, "reasoning": 10, "requests": 1}


def ended(**changes):
    """A terminal row: (100 x 0.8 + 900 x 0.16 + 50 x 2) / 2 = 162 millionths of a yuan, 22.7772 of a dollar."""
    return {"state": "settled", "usage": USAGE, "price": PRICE, "cost_pusd": 22_777_200, **changes}


def test_a_row_says_all_it_was_computed_from():
    """Tokens, rates with their fall-backs, the factor and the exchange rate."""
    assert reproduced(OPENED, ended()) == 22_777_200
    assert difference(OPENED, ended()) is None
    assert difference(OPENED, ended(cost_pusd=22_777_201)) == "booked 22777201, computed again 22777200"
    assert difference(OPENED, ended(cost_pusd=None)) == "booked None, computed again 22777200"


@pytest.mark.parametrize(
    "change",
    [
        {"usage": {**USAGE, "input": 101}},
        {"usage": {**USAGE, "cache_read": 901}},
        {"price": {**PRICE, "multiply": "1"}},
        {"price": {**PRICE, "usd_per_unit": "0.1407"}},
        {"price": {**PRICE, "rates": {**PRICE["rates"], "cache_read": 160_001}}},
        {"price": {**PRICE, "rates": {**PRICE["rates"], "reasoning": 1}}},
        {"price": {**PRICE, "rates": {**PRICE["rates"], "requests": 1_000_000}}},
    ],
)
def test_any_number_that_changes_shows(change):
    """No part of the sum can be another without the figure being another."""
    assert difference(OPENED, ended(**change)) is not None


def test_rounding_is_half_to_even():
    """Once, at the end, as it was booked."""
    for tokens, pusd in ((1, 0), (3, 2), (5, 2)):
        row = ended(usage={"input": tokens}, price={"rates": {"input": 1}, "multiply": "1/2"}, cost_pusd=pusd)
        assert difference(OPENED, row) is None


def test_ends_that_have_no_sum():
    """Refused costs nothing, a crash what was reserved, a vendor's figure is its figure, an unknown price is unknown."""
    assert reproduced(OPENED, {"state": "refused"}) == 0
    assert reproduced(OPENED, {"state": "unknown", "price": {"version": "v"}}) == 77
    assert reproduced({}, {"state": "unknown"}) is None
    own = ended(price={**PRICE, "from_vendor": True, "vendor_pusd": 5})
    assert reproduced(OPENED, own) == 5
    assert reproduced(OPENED, ended(price={"rates": {"output": 1}, "unpriced": ["input"]})) is None
    assert difference(OPENED, ended(usage_flags=["cost_out_of_range"], cost_pusd=None)) is None


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (ended(price={}), "no price"),
        (ended(price={"version": "v"}), "no price"),
        (ended(usage={"thoughts": 3}), "'thoughts'"),
        (ended(price={**PRICE, "multiply": "1/0"}), "no number"),
        (ended(price={**PRICE, "usd_per_unit": "many"}), "no number"),
        (ended(price={**PRICE, "from_vendor": True, "vendor_pusd": "5"}), "vendor_pusd is '5'"),
    ],
)
def test_what_can_not_be_computed_says_why(row, said):
    """It is a difference too: nobody can check such a row."""
    with pytest.raises(NotReproducible, match=said):
        reproduced(OPENED, row)
    assert said in difference(OPENED, row)
