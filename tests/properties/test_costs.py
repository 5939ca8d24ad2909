"""Made-up bills against a reference of their own: no bucket and no pico-dollar differs. `tests/costs.py` plays 50,000."""

from __future__ import annotations

from dataclasses import replace

import pytest
from costs import SHAPES, played

from service.catalog import price_book
from service.domain import money, prices
from service.domain.money import Multiplier
from service.upstream import usage

SEED = 20261122
CASES = 2_500
KINDS = ("above a tier", "in a window", "in a region", "in another currency", "in a service tier", "with cache writes",
         "without a price")  # fmt: skip


def test_every_bill_is_what_the_reference_has():
    """All manners of telling usage, and enough of everything that makes a price."""
    compared, wrong = played(SEED, CASES)
    assert wrong == []
    assert sum(compared[shape] for shape in SHAPES) == CASES
    assert all(compared[shape] for shape in SHAPES)
    assert all(compared[kind] > 20 for kind in KINDS), compared


def _in_dollars(quote_of):
    def quote(self, version):
        found = quote_of(self, version)
        return None if found is None else replace(found, fx=money.Fx())

    return quote


def _weekdays_only(self, day, *_):
    return day.isoweekday() in self.weekdays


BREAKS = {
    "cached tokens stay in the prompt": (usage._Parts, "cached", property(lambda self: self.write_5m + self.write_1h)),
    "reasoning is billed twice": (usage, "_reading", lambda *asked: usage._Reading(0, asked[2].reasoning)),
    "thinking in the total is not seen": (usage, "_reading", lambda *asked: READING(asked[0], 0, *asked[2:])),
    "an hour as five minutes": (usage, "_cache_writes", lambda *asked: (sum(WRITES(*asked)), 0)),
    "a missing cache price is free": (money, "_FALLBACK", {**money._FALLBACK, "cache_read": "requests"}),
    "the price of the first tier": (money.PriceQuote, "rates_for", lambda self, *_: self.rates),
    "a tier forgets what it leaves out": (price_book, "_at_least", lambda *rates: rates[1]),
    "the tier that was asked for": (
        money,
        "_tier_factor",
        lambda *asked: (asked[1].get(asked[2], money.ONE), None, ()),
    ),
    "yuan for dollars": (prices.PriceBook, "_quote_of", _in_dollars(prices.PriceBook._quote_of)),
    "no region": (price_book, "_uplift", lambda *_: money.ONE),
    "no window": (prices.Window, "holds", lambda *_: False),
    "a holiday like any day": (prices.Window, "_on", _weekdays_only),
    "rounded down": (money, "divide_half_even", lambda over, under: over // under),
}
"""One mistake each, most of which somebody has made with real money."""

READING, WRITES = usage._reading, usage._cache_writes


@pytest.mark.parametrize("name", BREAKS)
def test_each_mistake_is_found(monkeypatch, name):
    """The reference finds every one of them."""
    monkeypatch.setattr(*BREAKS[name])
    _, wrong = played(SEED, CASES // 2)
    assert wrong, name


def test_a_factor_that_is_off_by_a_millionth_is_found(monkeypatch):
    """Not only what is wrong by half."""
    times = Multiplier.times
    nearly = Multiplier(1_000_001, 1_000_000)
    monkeypatch.setattr(Multiplier, "times", lambda self, other: times(times(self, other), nearly))
    assert played(SEED, CASES // 2)[1]
