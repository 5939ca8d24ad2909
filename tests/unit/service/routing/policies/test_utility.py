"""`utility`: quality less cost at a stated exchange, in whole numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenery import a_catalog, a_chat, a_model, decided

from service.domain.catalog import PolicySpec
from service.domain.decision import QUALITY_STEPS, ReasonCode
from service.domain.ports import Figures
from service.routing.policies import POLICIES
from service.routing.policies.bounds import rank

CENT = 10**10
UTILITY = POLICIES["utility"]


def order(pairs, worth, **bounds):
    """The places of (quality in steps, cost in pUSD) when a point of quality is worth so many pUSD."""
    figures = Figures([quality for quality, _ in pairs], [cost for _, cost in pairs])
    return list(rank(UTILITY, figures, PolicySpec("x", "utility", pusd_per_quality=worth, **bounds)).order)


def ranked(*figures, usd, **bounds):
    """(the decision, the models in their order) of (name, quality, list price)."""
    models = [a_model(name, listed, quality=quality) for name, quality, listed in figures]
    spec = PolicySpec("balanced", "utility", pusd_per_quality=round(usd * 10**12), **bounds)
    decision = decided(a_chat(), a_catalog(*models, policies={"balanced": spec}))
    return decision, [one.deployment.model for one in decision.ranked]


def test_a_hundredth_of_quality_buys_a_hundredth_of_its_worth():
    """At 0.10 USD a point, 0.01 better may cost 0.001 USD more and not a pico-dollar beyond; a tie goes to the cheaper."""
    base, better = (9_000, CENT), 9_100
    assert order([base, (better, CENT + CENT // 10 - 1)], 10 * CENT) == [1, 0]
    assert order([base, (better, CENT + CENT // 10)], 10 * CENT) == [0, 1]
    assert order([(better, CENT + CENT // 10), base], 10 * CENT) == [1, 0]
    assert order([base, (better, CENT + CENT // 10 + 1)], 10 * CENT) == [0, 1]


def test_the_exchange_moves_the_choice_from_cheap_to_best():
    """Little worth chooses by price, much worth by quality."""
    figures = (("cheap", 0.70, (0.1, 0.1)), ("mid", 0.90, (1, 1)), ("best", 0.95, (30, 30)))
    assert ranked(*figures, usd=0.0000001)[1][0] == "cheap"
    assert ranked(*figures, usd=0.10)[1][0] == "mid"
    assert ranked(*figures, usd=100)[1][0] == "best"


def test_floors_and_unknown_prices_hold_as_for_the_others():
    """Who misses the floor comes last, an unknown price after every known one."""
    decision, names = ranked(
        ("poor", 0.4, (0, 0)), ("unknown", 0.95, None), ("dear", 0.7, (900, 900)), usd=0.0001, min_quality=0.6
    )
    assert names == ["dear", "unknown", "poor"]
    assert decision.ranked[2].below == "quality 0.40 is under the floor 0.60"
    assert decision.margin == "the price of p/unknown is unknown"


def test_what_is_said_of_it():
    """The exchange, the worth gained, and both parts of what the others lost by."""
    decision, _ = ranked(("a", 0.90, (1, 1)), ("b", 0.95, (40, 40)), ("c", 0.90, (2, 2)), usd=0.10)
    assert decision.reason_code is ReasonCode.BEST_VALUE
    assert decision.chosen.reason == "best value of 3, a point of quality being worth 0.1 USD"
    assert "USD more than p/c (quality 0.90 against 0.90)" in decision.margin
    told = {one.deployment.model: one.reason for one in decision.ranked}
    assert told["b"] == "quality 0.95 against 0.90; costs 40.00 times as much"
    assert told["c"] == "costs 2.00 times as much"


def test_the_worth_gained_is_exact():
    """0.05 of quality at 0.10 USD less 0.001 USD of cost."""
    first, second = (9_500, CENT), (9_000, CENT - CENT // 10)
    assert order([second, first], 10 * CENT) == [1, 0]
    from service.domain.ports import Standing

    spec = PolicySpec("x", "utility", pusd_per_quality=10 * CENT)
    text = UTILITY.margin(Standing("p/a", *first), Standing("p/b", *second), spec)
    assert text == "worth 0.004 USD more than p/b (quality 0.95 against 0.90)"


def test_what_a_float_would_lose_still_counts():
    """At a millionth of a cent a point, a step of quality is behind the precision of a float beside 10 USD of cost."""
    assert order([(5_000, 10**13), (5_001, 10**13)], 1) == [1, 0]


@given(
    pairs=st.lists(st.tuples(st.integers(0, QUALITY_STEPS), st.integers(0, 10**13)), min_size=2, max_size=6),
    worth=st.integers(1, 10**16),
)
def test_the_order_is_that_of_exact_fractions(pairs, worth):
    """By p - cost / worth in exact arithmetic, ties by cost, then by place."""
    from fractions import Fraction

    def key(place):
        quality, cost = pairs[place]
        return (-(Fraction(quality, QUALITY_STEPS) - Fraction(cost, worth)), cost, place)

    assert order(pairs, worth) == sorted(range(len(pairs)), key=key)


def test_a_policy_without_its_exchange_is_a_fault_that_says_so():
    """The loader refuses the file; a policy made by hand fails with what to set."""
    with pytest.raises(ValueError, match="needs pusd_per_quality"):
        rank(UTILITY, Figures([1], [1]), PolicySpec("x", "utility"))
