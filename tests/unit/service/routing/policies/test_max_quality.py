"""`max_quality`: the best candidate within the limits; among equals the cheaper."""

from __future__ import annotations

from scenery import a_catalog, a_chat, a_model, decided

from service.domain.catalog import PolicySpec
from service.domain.decision import ReasonCode


def ranked(*figures, **bounds):
    """(the decision, the models in their order) of (name, quality, list price) under a policy."""
    models = [a_model(name, listed, quality=quality) for name, quality, listed in figures]
    catalog = a_catalog(*models, policies={"balanced": PolicySpec("balanced", "max_quality", **bounds)})
    decision = decided(a_chat(), catalog)
    return decision, [one.deployment.model for one in decision.ranked]


def test_the_best_comes_first_whatever_it_costs():
    """Cost limits were applied before; here only quality counts, and equals go by cost."""
    decision, names = ranked(
        ("cheap", 0.8, (0.1, 0.1)), ("dear", 0.95, (90, 90)), ("same", 0.95, (5, 5)), ("mid", 0.9, (1, 1))
    )
    assert names == ["same", "dear", "mid", "cheap"]
    assert decision.reason_code is ReasonCode.BEST_WITHIN_COST
    assert decision.chosen.reason == "best of 4 within the limits"
    assert decision.ranked[1].reason == "costs 18.00 times as much"
    assert decision.ranked[3].reason == "quality 0.80 against 0.95"
    assert decision.margin == "quality 0.95 against 0.95 of p/dear"


def test_noise_is_no_quality():
    """What is behind the fourth decimal does not buy the dearer one."""
    assert ranked(("dear", 0.95 + 1e-12, (9, 9)), ("cheap", 0.95, (1, 1)))[1] == ["cheap", "dear"]
    assert ranked(("dear", 0.9501, (9, 9)), ("cheap", 0.95, (1, 1)))[1] == ["dear", "cheap"]


def test_the_floor_holds_here_too():
    """Who misses it comes last, and the rest counts as eligible."""
    decision, names = ranked(("poor", 0.3, (0, 0)), ("good", 0.9, (1, 1)), min_quality=0.5)
    assert names == ["good", "poor"]
    assert decision.reason_code is ReasonCode.ONLY_CANDIDATE
    assert decision.ranked[1].below is not None


def test_a_floor_nobody_reaches_is_said():
    """As with `min_cost`."""
    decision, _ = ranked(("a", 0.5, (1, 1)), ("b", 0.2, (1, 1)), min_quality=0.9)
    assert decision.reason_code is ReasonCode.FLOOR_UNREACHABLE
