"""`max_quality`: the best candidate within the limits; among equals the cheaper."""

from __future__ import annotations

from scenery import a_catalog, a_chat, a_model, decided

from service.domain.catalog import PolicySpec
from service.domain.decision import ReasonCode
from service.routing.policies.max_quality import max_quality


def ranked(*figures, **bounds):
    """The ranking of (name, quality, list price) under a policy."""
    models = [a_model(name, listed, quality=quality) for name, quality, listed in figures]
    by_name = {one.deployment.model: one for one in decided(a_chat(), a_catalog(*models)).ranked}
    ranking = max_quality([by_name[model.name] for model in models], PolicySpec("x", "max_quality", **bounds))
    return ranking, [one.deployment.model for one in ranking.ranked]


def test_the_best_comes_first_whatever_it_costs():
    """Cost limits were applied before; here only quality counts, and equals go by cost."""
    ranking, names = ranked(
        ("cheap", 0.8, (0.1, 0.1)), ("dear", 0.95, (90, 90)), ("same", 0.95, (5, 5)), ("mid", 0.9, (1, 1))
    )
    assert names == ["same", "dear", "mid", "cheap"]
    assert ranking.reason_code is ReasonCode.BEST_WITHIN_COST
    assert ranking.ranked[0].reason == "best of 4 within the limits"
    assert ranking.ranked[3].reason == "quality 0.800 against 0.950"
    assert ranking.margin == "quality 0.950 against 0.950 of p/dear"


def test_the_floor_holds_here_too():
    """Who misses it comes last, and the rest counts as eligible."""
    ranking, names = ranked(("poor", 0.3, (0, 0)), ("good", 0.9, (1, 1)), min_quality=0.5)
    assert names == ["good", "poor"]
    assert ranking.reason_code is ReasonCode.ONLY_CANDIDATE
    assert ranking.ranked[1].below is not None


def test_a_floor_nobody_reaches_is_said():
    """As with `min_cost`."""
    assert ranked(("a", 0.5, (1, 1)), ("b", 0.2, (1, 1)), min_quality=0.9)[0].reason_code is (
        ReasonCode.FLOOR_UNREACHABLE
    )
