"""Why each candidate stands where it stands, in words."""

from __future__ import annotations

from service.domain.catalog import PolicySpec
from service.domain.decision import ReasonCode
from service.domain.ports import Ranking, Standing
from service.routing.policies import POLICIES
from service.routing.policies.wording import below, compared, margin, reason, shown

SPEC = PolicySpec("x")
FIRST = Standing("p/first", 9_000, 100)


def test_a_quality_has_as_many_digits_as_it_needs():
    """Two, or up to four: a quality and the floor that it misses never look alike."""
    assert [shown(steps) for steps in (0, 6_000, 9_210, 9_215, 10_000)] == ["0.00", "0.60", "0.921", "0.9215", "1.00"]


def test_what_one_lost_by_where_cost_decides():
    """By price, by a tie, by an unknown price; against a free one every price is more."""
    assert compared(Standing("p/x", 9_000, 250), FIRST) == "costs 2.50 times as much"
    assert compared(Standing("p/x", 9_000, 100), FIRST).startswith("costs the same; the tie went to higher quality")
    assert compared(Standing("p/x", 9_000, None), FIRST) == "its price is unknown"
    assert compared(Standing("p/x", 9_000, 5), Standing("p/f", 9_000, 0)) == "costs more"


def test_the_floor_is_the_reason_of_who_misses_it():
    """Whatever the objective would say."""
    ranking = Ranking((0, 1, 2), 2, 8_000, 8_000, ReasonCode.CHEAPEST_CAPABLE)
    poor = Standing("p/poor", 7_999, 1)
    policy = POLICIES["min_cost"]
    assert below(ranking, 1, FIRST) is None
    assert below(ranking, 2, poor) == "quality 0.7999 is under the floor 0.80"
    assert reason(policy, ranking, 2, poor, FIRST, SPEC) == below(ranking, 2, poor)
    assert reason(policy, ranking, 0, FIRST, FIRST, SPEC).startswith("cheapest of 2")
    assert reason(policy, ranking, 1, Standing("p/b", 9_000, 200), FIRST, SPEC) == "costs 2.00 times as much"


def test_without_a_second_there_is_no_margin():
    """No other one met the floor."""
    assert margin(POLICIES["min_cost"], FIRST, None, SPEC) == "no other candidate was eligible"
