"""Every entry of `POLICIES`: deterministic, never loses a candidate, monotone in price."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import a_model

from service.domain.catalog import PolicySpec
from service.domain.decision import Candidate
from service.routing.policies import POLICIES

FIGURES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.3, 0.5, 0.79, 0.8, 0.9, 1.0]), st.none() | st.integers(0, 20)),
    min_size=1,
    max_size=8,
)
BOUNDS = st.builds(
    PolicySpec,
    st.just("x"),
    min_quality=st.sampled_from([0.0, 0.5, 0.8, 0.95, 1.0]),
    relative_to_best=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
)


def candidates(figures):
    """Candidates by (quality, cost)."""
    return [
        Candidate(
            deployment=a_model(f"m{number}").deployments[0],
            quality=quality,
            expected_cost_pusd=cost,
            reserved_pusd=cost,
            input_tokens=1,
            output_tokens=1,
            reasoning_tokens=0,
            quote=None,
        )
        for number, (quality, cost) in enumerate(figures)
    ]


def order(policy, found, spec):
    """The ids in the order of a ranking."""
    return [one.deployment.id for one in policy(found, spec).ranked]


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=150, deadline=None)
@given(figures=FIGURES, spec=BOUNDS)
def test_nobody_is_lost_and_nothing_is_random(name, figures, spec):
    """The same candidates come out, each once, the eligible ones first; a second run gives the same."""
    found = candidates(figures)
    first, second = POLICIES[name](found, spec), POLICIES[name](list(found), spec)
    assert first == second
    assert sorted(one.deployment.id for one in first.ranked) == sorted(one.deployment.id for one in found)
    eligible = [one.eligible for one in first.ranked]
    assert eligible == sorted(eligible, reverse=True)
    assert all(one.reason for one in first.ranked)
    assert first.margin


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=300, deadline=None)
@given(figures=FIGURES, spec=BOUNDS, who=st.integers(0, 7), lower=st.integers(0, 20))
def test_who_gets_cheaper_never_falls_behind(name, figures, spec, who, lower):
    """Whoever it was ahead of, it is still ahead of."""
    found = candidates(figures)
    who %= len(found)
    cost = found[who].expected_cost_pusd
    cheaper = lower if cost is None else min(lower, cost)
    changed = [replace(one, expected_cost_pusd=cheaper) if i == who else one for i, one in enumerate(found)]
    before, after = order(POLICIES[name], found, spec), order(POLICIES[name], changed, spec)
    mine = found[who].deployment.id
    assert set(before[before.index(mine) + 1 :]) <= set(after[after.index(mine) + 1 :])


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=150, deadline=None)
@given(figures=FIGURES, spec=BOUNDS)
def test_the_choice_keeps_the_floor_when_anybody_can(name, figures, spec):
    """While one candidate reaches `min_quality`, no choice is under it."""
    found = candidates(figures)
    best = max(one.quality for one in found)
    chosen = POLICIES[name](found, spec).ranked[0]
    assert chosen.quality >= (spec.min_quality if best >= spec.min_quality else 0.97 * best)
    assert chosen.quality >= spec.relative_to_best * best
