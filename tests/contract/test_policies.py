"""Every entry of `POLICIES`: deterministic, complete, monotone in price and in quality, ties only by the registry."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.catalog import PolicySpec
from service.domain.decision import INTENTS, QUALITY_STEPS, ReasonCode, floor_steps
from service.domain.ports import Figures, Standing
from service.routing.policies import POLICIES
from service.routing.policies.bounds import UNPRICED, rank, rank_columns
from service.routing.policies.wording import margin, reason

STEPS = st.sampled_from([0, 1, 3_000, 5_000, 7_900, 7_999, 8_000, 9_000, 9_001, 9_999, QUALITY_STEPS])
COSTS = st.none() | st.integers(0, 20) | st.integers(0, 10**12)
PAIRS = st.lists(st.tuples(STEPS, COSTS), min_size=1, max_size=9)
SHARES = st.sampled_from([0.0, 0.5, 0.8, 0.95, 0.97, 1.0])
SPECS = st.builds(
    PolicySpec,
    st.just("x"),
    min_quality=SHARES,
    relative_to_best=SHARES,
    min_quality_for=st.dictionaries(st.sampled_from(INTENTS), SHARES, max_size=2),
    pusd_per_quality=st.sampled_from([1, 20, 10**6, 10**11, 10**16]),
)
ASKED = st.lists(st.sampled_from(INTENTS), max_size=3)
EVERY = pytest.mark.parametrize("name", POLICIES)


def ranking(name, pairs, spec, intents=()):
    """The ranking of (quality, cost) pairs in the order of a registry."""
    return rank(POLICIES[name], Figures([q for q, _ in pairs], [c for _, c in pairs]), spec, intents)


def changed(pairs, who, pair):
    """The pairs with one of them replaced."""
    return [pair if place == who else old for place, old in enumerate(pairs)]


def behind(name, pairs, spec, who):
    """Whom one is ahead of."""
    order = list(ranking(name, pairs, spec).order)
    return set(order[order.index(who) + 1 :])


@EVERY
@settings(max_examples=150)
@given(pairs=PAIRS, spec=SPECS, intents=ASKED)
def test_nobody_is_lost_and_nothing_is_random(name, pairs, spec, intents):
    """Every candidate once, the eligible ones first; a second run over copies gives the same."""
    first, second = ranking(name, pairs, spec, intents), ranking(name, list(pairs), spec, list(intents))
    assert first == second
    assert sorted(first.order) == list(range(len(pairs)))
    meets = [pairs[place][0] >= first.floor for place in first.order]
    assert meets == [True] * first.eligible + [False] * (len(pairs) - first.eligible)
    assert first.eligible >= 1


@EVERY
@settings(max_examples=150)
@given(pairs=PAIRS, spec=SPECS, seed=st.integers(0, 10**6))
def test_the_order_of_arrival_decides_only_ties(name, pairs, spec, seed):
    """Shuffled candidates come out with the same figures in the same order; equals stay in the order of the file."""
    shuffled = random.Random(seed).sample(pairs, len(pairs))
    told = [pairs[place] for place in ranking(name, pairs, spec).order]
    assert told == [shuffled[place] for place in ranking(name, shuffled, spec).order]
    order = list(ranking(name, pairs, spec).order)
    for pair in set(pairs):
        equals = [place for place in order if pairs[place] == pair]
        assert equals == sorted(equals)


@EVERY
@settings(max_examples=300)
@given(pairs=PAIRS, spec=SPECS, who=st.integers(0, 8), lower=COSTS)
def test_who_gets_cheaper_never_falls_behind(name, pairs, spec, who, lower):
    """Whoever it was ahead of, it is still ahead of; a price that becomes known is cheaper than an unknown one."""
    who %= len(pairs)
    quality, cost = pairs[who]
    cheaper = cost if lower is None else lower if cost is None else min(lower, cost)
    assert behind(name, pairs, spec, who) <= behind(name, changed(pairs, who, (quality, cheaper)), spec, who)


@EVERY
@settings(max_examples=300)
@given(pairs=PAIRS, spec=SPECS, who=st.integers(0, 8), higher=STEPS)
def test_who_gets_better_never_falls_behind(name, pairs, spec, who, higher):
    """Nor does one that becomes better, although it may raise the bar for all others."""
    who %= len(pairs)
    quality, cost = pairs[who]
    assert behind(name, pairs, spec, who) <= behind(name, changed(pairs, who, (max(quality, higher), cost)), spec, who)


@EVERY
@settings(max_examples=200)
@given(pairs=PAIRS, spec=SPECS, intents=ASKED)
def test_the_choice_keeps_the_floors_when_anybody_can(name, pairs, spec, intents):
    """While one candidate reaches the absolute floor, no choice is under it; the relative one always holds."""
    best = max(quality for quality, _ in pairs)
    found = ranking(name, pairs, spec, intents)
    chosen = pairs[found.order[0]][0]
    asked = max([floor_steps(spec.min_quality_for.get(one, spec.min_quality)) for one in intents or ("",)])
    assert chosen >= (asked if best >= asked else best * 97 // 100)
    assert chosen >= spec.relative_to_best * best - 1
    assert (found.reason_code is ReasonCode.FLOOR_UNREACHABLE) == (best < asked)


@EVERY
@settings(max_examples=100)
@given(pairs=PAIRS, spec=SPECS)
def test_everybody_is_told_why(name, pairs, spec):
    """Every place has a reason, every choice a margin, and none of them is empty."""
    policy, found = POLICIES[name], ranking(name, pairs, spec)
    told = [Standing(f"p/m{place}", *pairs[place]) for place in found.order]
    assert all(reason(policy, found, place, one, told[0], spec) for place, one in enumerate(told))
    assert margin(policy, told[0], told[1] if found.eligible > 1 else None, spec)


@EVERY
@settings(max_examples=150)
@given(pairs=PAIRS, spec=SPECS)
def test_a_known_price_goes_before_an_unknown_one_of_the_same_quality(name, pairs, spec):
    """Nobody says that an unknown price is low."""
    order = list(ranking(name, pairs, spec).order)
    for quality in {quality for quality, _ in pairs}:
        unknown = [pairs[place][1] is None for place in order if pairs[place][0] == quality]
        assert unknown == sorted(unknown)


FITTING = st.none() | st.integers(0, 20) | st.integers(0, UNPRICED // 2 - 1)


@EVERY
@settings(max_examples=300)
@given(
    pairs=st.lists(st.tuples(STEPS, FITTING), min_size=1, max_size=40),
    spec=SPECS,
    intents=ASKED,
    worth=st.none() | st.integers(1, 2**60),
)
def test_a_ranking_in_columns_is_the_same(name, pairs, spec, intents, worth):
    """The key of every policy is as well one of whole columns; what might not fit is refused."""
    spec = spec if worth is None else replace(spec, pusd_per_quality=worth)
    qualities = np.array([quality for quality, _ in pairs])
    costs = np.array([UNPRICED if cost is None else cost for _, cost in pairs])
    found = rank_columns(POLICIES[name], qualities, costs, spec, intents)
    assert (found is None) == (spec.pusd_per_quality >= UNPRICED // 2)
    if found is not None:
        assert found == ranking(name, pairs, spec, intents)
        assert {type(place) for place in found.order} == {int}
