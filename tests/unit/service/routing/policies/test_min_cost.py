"""`min_cost`: the cheapest whose quality suffices, and what is said of it."""

from __future__ import annotations

from scenery import a_catalog, a_chat, a_model, decided

from service.domain.catalog import PolicySpec
from service.domain.decision import ReasonCode


def ranked(*figures, **bounds):
    """(the decision, the models in their order) of (name, quality, list price) under a policy."""
    models = [a_model(name, listed, quality=quality) for name, quality, listed in figures]
    catalog = a_catalog(*models, policies={"balanced": PolicySpec("balanced", "min_cost", **bounds)})
    decision = decided(a_chat(), catalog)
    return decision, [one.deployment.model for one in decision.ranked]


def test_the_cheapest_that_suffices_comes_first():
    """Eligible ones by cost, then the others by quality: the fallback order."""
    decision, names = ranked(
        ("best", 0.95, (5, 9)),
        ("good", 0.85, (1, 2)),
        ("poor", 0.3, (0.1, 0.2)),
        ("poorer", 0.2, (0.1, 0.1)),
        min_quality=0.8,
    )
    assert names == ["good", "best", "poor", "poorer"]
    assert decision.reason_code is ReasonCode.CHEAPEST_CAPABLE
    assert decision.margin.endswith("USD cheaper than p/best (quality 0.85 against 0.95)")
    assert decision.chosen.reason == "cheapest of 2 with quality of at least 0.80"
    assert decision.ranked[2].reason == "quality 0.30 is under the floor 0.80"
    assert [one.eligible for one in decision.ranked] == [True, True, False, False]


def test_ties_go_to_quality_then_to_the_order_of_the_file():
    """Never to a name, and never to what is behind the fourth decimal."""
    assert ranked(("z", 0.9, (1, 2)), ("a", 0.9, (1, 2)))[1] == ["z", "a"]
    assert ranked(("z", 0.9, (1, 2)), ("a", 0.95, (1, 2)))[1] == ["a", "z"]
    assert ranked(("z", 0.9, (1, 2)), ("a", 0.9 + 1e-12, (1, 2)))[1] == ["z", "a"]


def test_an_unknown_price_comes_after_every_known_one():
    """It may still serve, but nobody says that it is cheap."""
    decision, names = ranked(("free?", 0.9, None), ("dear", 0.9, (500, 900)))
    assert names == ["dear", "free?"]
    assert decision.margin == "the price of p/free? is unknown"
    assert decision.ranked[1].reason == "its price is unknown"


def test_a_floor_nobody_reaches_is_said():
    """The cheapest near the best, with its own reason code."""
    decision, names = ranked(("a", 0.5, (1, 2)), ("b", 0.49, (0.5, 1)), ("c", 0.2, (0.1, 0.1)), min_quality=0.9)
    assert names == ["b", "a", "c"]
    assert decision.reason_code is ReasonCode.FLOOR_UNREACHABLE
    assert decision.chosen.reason == "nobody reaches quality 0.90; cheapest of the 2 near the best (0.485)"


def test_an_only_candidate_is_said():
    """No runner-up to compare with."""
    decision, _ = ranked(("a", 0.9, (1, 2)), ("b", 0.1, (1, 2)), min_quality=0.8)
    assert decision.reason_code is ReasonCode.ONLY_CANDIDATE
    assert decision.margin == "no other candidate was eligible"
