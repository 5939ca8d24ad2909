"""`min_cost`: the cheapest whose quality suffices, and what comes after it."""

from __future__ import annotations

from scenery import a_catalog, a_chat, a_model, decided

from service.domain.catalog import PolicySpec
from service.domain.decision import ReasonCode
from service.routing.policies.min_cost import min_cost


def ranked(*figures, **bounds):
    """The ranking of (name, quality, list price) under a policy."""
    models = [a_model(name, listed, quality=quality) for name, quality, listed in figures]
    able = decided(a_chat(), a_catalog(*models)).ranked
    by_name = {one.deployment.model: one for one in able}
    ranking = min_cost([by_name[model.name] for model in models], PolicySpec("x", **bounds))
    return ranking, [one.deployment.model for one in ranking.ranked]


def test_the_cheapest_that_suffices_comes_first():
    """Eligible ones by cost, then the others by quality: the fallback order."""
    ranking, names = ranked(
        ("best", 0.95, (5, 9)),
        ("good", 0.85, (1, 2)),
        ("poor", 0.3, (0.1, 0.2)),
        ("poorer", 0.2, (0.1, 0.1)),
        min_quality=0.8,
    )
    assert names == ["good", "best", "poor", "poorer"]
    assert ranking.reason_code is ReasonCode.CHEAPEST_CAPABLE
    assert "cheaper than p/best" in ranking.margin
    assert "cheapest of 2" in ranking.ranked[0].reason


def test_ties_go_to_quality_then_to_the_order_of_the_file():
    """Never to a name."""
    assert ranked(("z", 0.9, (1, 2)), ("a", 0.9, (1, 2)))[1] == ["z", "a"]
    assert ranked(("z", 0.9, (1, 2)), ("a", 0.95, (1, 2)))[1] == ["a", "z"]


def test_an_unknown_price_comes_after_every_known_one():
    """It may still serve, but nobody says that it is cheap."""
    ranking, names = ranked(("free?", 0.9, None), ("dear", 0.9, (500, 900)))
    assert names == ["dear", "free?"]
    assert ranking.margin == "the price of p/free? is unknown"


def test_a_floor_nobody_reaches_is_said():
    """The cheapest near the best, with its own reason code."""
    ranking, names = ranked(("a", 0.5, (1, 2)), ("b", 0.49, (0.5, 1)), ("c", 0.2, (0.1, 0.1)), min_quality=0.9)
    assert names == ["b", "a", "c"]
    assert ranking.reason_code is ReasonCode.FLOOR_UNREACHABLE
    assert "nobody reaches quality 0.90" in ranking.ranked[0].reason


def test_an_only_candidate_is_said():
    """No runner-up to compare with."""
    ranking, _ = ranked(("a", 0.9, (1, 2)), ("b", 0.1, (1, 2)), min_quality=0.8)
    assert ranking.reason_code is ReasonCode.ONLY_CANDIDATE
    assert ranking.margin == "no other candidate was eligible"
