"""Floors, the fallback order and ties, that every objective shares."""

from __future__ import annotations

import pytest

from service.domain.catalog import PolicySpec
from service.domain.decision import QUALITY_STEPS, ReasonCode
from service.domain.ports import Figures
from service.routing.policies import POLICIES
from service.routing.policies.bounds import quality_floor, rank

CHEAPEST = POLICIES["min_cost"]


def ranked(*pairs, intents=(), **bounds):
    """The ranking by cost of (quality in steps, cost)."""
    figures = Figures([quality for quality, _ in pairs], [cost for _, cost in pairs])
    return rank(CHEAPEST, figures, PolicySpec("x", **bounds), intents)


def test_the_floor_is_the_larger_of_the_two():
    """The absolute one, or the share of the best, whichever asks for more."""
    assert quality_floor(9_000, 7_000, 0.9) == 8_100
    assert quality_floor(9_000, 8_500, 0.9) == 8_500
    assert quality_floor(9_000, 0, 0.0) == 0
    assert quality_floor(0, 0, 1.0) == 0


def test_an_unreachable_floor_becomes_near_the_best():
    """The best there is beats no answer; a higher relative floor stays."""
    assert quality_floor(5_000, 9_000, 0.0) == 4_850
    assert quality_floor(5_000, 9_000, 0.99) == 4_950
    assert quality_floor(5_000, QUALITY_STEPS, 1.0) == 5_000


@pytest.mark.parametrize("best", [0, 1, 33, 4_999, 9_333, QUALITY_STEPS])
@pytest.mark.parametrize("asked", [0, 1, 9_000, QUALITY_STEPS])
@pytest.mark.parametrize("relative", [0.0, 0.97, 0.99995, 1.0])
def test_no_floor_is_above_the_best(best, asked, relative):
    """So somebody always meets it: no policy can empty the list."""
    assert 0 <= quality_floor(best, asked, relative) <= best


def test_a_floor_of_one_and_of_none():
    """1 takes only the perfect; 0 takes everybody, also one of no quality at all."""
    pairs = ((QUALITY_STEPS, 9), (QUALITY_STEPS - 1, 1), (0, 0))
    assert ranked(*pairs, min_quality=1.0).eligible == 1
    assert list(ranked(*pairs, min_quality=0.0).order) == [2, 1, 0]


def test_a_share_of_the_best_is_not_lost_to_binary_fractions():
    """0.97 of 0.96 is 0.9312, whatever the float says."""
    assert 0.97 * 0.96 != 0.9312
    assert ranked((9_600, 9), (9_312, 1), (9_311, 0), relative_to_best=0.97).eligible == 2


def test_an_intent_may_have_a_floor_of_its_own():
    """It counts for that intent; a request that may be several needs the highest of theirs."""
    bounds = {"min_quality": 0.5, "min_quality_for": {"coding": 0.9, "chitchat": 0.2}}
    pairs = ((9_500, 9), (6_000, 5), (3_000, 1))
    assert ranked(*pairs, **bounds).order[0] == 1
    assert ranked(*pairs, intents=("coding",), **bounds).order[0] == 0
    assert ranked(*pairs, intents=("chitchat",), **bounds).order[0] == 2
    assert ranked(*pairs, intents=("chitchat", "math"), **bounds).order[0] == 1
    assert ranked(*pairs, intents=("chitchat", "math", "coding"), **bounds).order[0] == 0


def test_who_misses_the_floor_comes_last_by_quality_then_cost_then_file():
    """A fallback order: an answer at all is worth more than its price."""
    found = ranked((3_000, 1), (9_000, 9), (4_000, 7), (4_000, None), (4_000, 2), (4_000, 2), min_quality=0.8)
    assert list(found.order) == [1, 4, 5, 2, 3, 0]
    assert (found.eligible, found.floor, found.asked, found.kept) == (1, 8_000, 8_000, True)
    assert found.reason_code is ReasonCode.ONLY_CANDIDATE


def test_a_floor_nobody_reaches_has_its_own_reason():
    """Also when only one is near the best."""
    found = ranked((5_000, 1), (4_900, 2), min_quality=0.9)
    assert (found.reason_code, found.kept, found.eligible) == (ReasonCode.FLOOR_UNREACHABLE, False, 2)
    assert ranked((5_000, 1), min_quality=0.9).reason_code is ReasonCode.FLOOR_UNREACHABLE
