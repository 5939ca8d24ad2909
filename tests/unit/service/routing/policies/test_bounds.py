"""Floors and reasons that every objective shares."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenery import a_catalog, a_chat, a_model, decided

from service.domain.catalog import PolicySpec
from service.routing.policies.bounds import NO_COST, bounded, cost_key, quality_floor, with_reasons


def some(*figures):
    """Candidates by (quality, list price): what `decide` hands to a policy."""
    models = [a_model(f"m{i}", listed, quality=quality) for i, (quality, listed) in enumerate(figures)]
    by_name = {one.deployment.model: one for one in decided(a_chat(), a_catalog(*models)).ranked}
    return [replace(by_name[model.name], below=None) for model in models]


def test_the_floor_is_the_larger_of_the_two():
    """`min_quality`, or the share of the best, whichever asks for more."""
    found = some((0.9, (1, 2)), (0.8, (1, 2)))
    assert quality_floor(found, PolicySpec("x", min_quality=0.7, relative_to_best=0.9)) == (pytest.approx(0.81), True)
    assert quality_floor(found, PolicySpec("x", min_quality=0.85, relative_to_best=0.9)) == (0.85, True)


def test_an_unreachable_floor_becomes_near_the_best():
    """The best there is beats no answer; the second value says that the floor was not kept."""
    floor, kept = quality_floor(some((0.5, (1, 2)), (0.4, (1, 2))), PolicySpec("x", min_quality=0.9))
    assert (floor, kept) == (pytest.approx(0.485), False)


def test_who_misses_the_floor_is_marked_not_lost():
    """`below` is set, the order stays."""
    found = some((0.9, (1, 2)), (0.6, (1, 2)))
    marked = bounded(found, 0.8)
    assert [one.deployment.model for one in marked] == ["m0", "m1"]
    assert [one.eligible for one in marked] == [True, False]
    assert marked[1].below == "quality 0.60 is under the floor 0.80"


def test_an_unknown_cost_sorts_behind_every_known_one():
    """No known price is so high that nobody's would be better."""
    known, unknown = some((0.9, (1_000, 10_000)), (0.9, None))
    assert cost_key(known) < cost_key(unknown) == NO_COST


def test_each_reason_says_what_was_lost_by():
    """By cost, by a tie, by an unknown price, by the floor."""
    found = bounded(some((0.9, (1, 2)), (0.9, (2, 4)), (0.9, (1, 2)), (0.9, None), (0.1, (1, 2))), 0.5)
    first, dearer, tied, unknown, poor = with_reasons(found, "why")
    assert first.reason == "why"
    assert dearer.reason == "costs 2.00 times as much"
    assert tied.reason.startswith("costs the same")
    assert unknown.reason == "its price is unknown"
    assert poor.reason == "quality 0.10 is under the floor 0.50"


def test_a_loser_by_quality_is_told_so():
    """Where quality comes first, price is not the reason, whichever is cheaper."""
    first, second = with_reasons(some((0.9, (2, 4)), (0.8, (5, 9))), "why", quality_first=True)
    assert first.reason == "why"
    assert second.reason == "quality 0.800 against 0.900"


def test_free_against_free_is_a_tie():
    """Two free models tie; against a free one every price is more."""
    found = some((0.9, (0, 0)), (0.9, (0, 0)), (0.9, (1, 1)))
    _, tied, dearer = with_reasons(found, "why")
    assert tied.reason.startswith("costs the same")
    assert dearer.reason == "costs more"
    assert with_reasons([], "why") == ()
