"""Whom a decision is compared with: the best, the cheapest, one by lot, the configured one; all among the able."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from scenery import NOW, a_catalog, a_chat, a_model, an_intent, decided

from service.domain.access import ANONYMOUS
from service.domain.catalog import Provider
from service.domain.experience import Experience
from service.domain.features import features_of
from service.domain.prices import PriceBook, SelfHosted
from service.routing.rivals import cheapest, drawn, priced_places, strongest
from service.routing.router import decide
from service.routing.weighing import Circumstances

EU = Provider("eu", "https://eu.example/v1", region="eu")
CHEAP = a_model("cheap", (0.1, 0.2), quality=0.86)
MID = a_model("mid", (1, 2), quality=0.9, at=("p", EU))
BEST = a_model("best", (10, 30), quality=0.95)
RETIRED = a_model("gone", (0.01, 0.01), quality=0.99, retires=NOW.date().replace(year=2020))
CATALOG = a_catalog(CHEAP, MID, BEST, RETIRED, baseline="mid")


def named(decision):
    """Name of the baseline -> deployment."""
    return {one.name: one.deployment for one in decision.rivals()}


def test_the_four_of_them():
    """Of those who can serve; who can't is nobody's rival, however good or cheap."""
    found = named(decided(a_chat(), CATALOG))
    assert found.pop("random") in {"p/cheap", "p/mid", "eu/mid", "p/best"}
    assert found == {"baseline": "p/mid", "strongest": "p/best", "cheapest": "p/cheap"}


def test_a_floor_of_the_policy_does_not_count_and_one_of_the_caller_does():
    """Whoever always took the cheapest would have no policy; what the caller asks for binds everybody."""
    assert named(decided(a_chat(model="auto:best"), CATALOG))["cheapest"] == "p/cheap"
    assert named(decided(a_chat(coe={"min_quality": 0.88}), CATALOG))["cheapest"] in {"p/mid", "eu/mid"}
    assert named(decided(a_chat(coe={"deny": ["best"]}), CATALOG))["strongest"] in {"p/mid", "eu/mid"}


def test_a_model_that_was_named_has_itself_for_a_rival():
    """Nothing is saved by doing as one is told; the configured baseline counts all the same."""
    found = named(decided(a_chat(model="cheap"), CATALOG))
    assert found == {"baseline": "p/mid", "strongest": "p/cheap", "cheapest": "p/cheap", "random": "p/cheap"}


def test_of_equals_the_strongest_is_the_cheapest():
    """The one that flatters least."""
    places = range(4)
    assert strongest(places, [5, 9, 9, 9], [1, 7, 3, 3]) == 2
    assert cheapest(places, [4, 2, 2, 9]) == 1


def test_who_has_no_price_is_no_rival():
    """Unknown is not cheap."""
    assert list(priced_places([3, None, 0])) == [0, 2]
    free = a_model("free", None, quality=0.99)
    found = named(decided(a_chat(), a_catalog(free, BEST)))
    assert set(found.values()) == {"p/best"}
    assert decided(a_chat(), a_catalog(free)).rivals() == ()
    unpriced = a_catalog(CHEAP, free, baseline="free")
    assert "baseline" not in named(decided(a_chat(), unpriced))


def test_an_engine_of_ones_own_is_compared_by_what_is_booked():
    """Idle it is ranked first, and booked at its amortised price all the same: it is not the cheapest then."""
    engine = SelfHosted(1, 2_000_000_000_000, 1_000, 100, concurrency=8)
    mine = a_model("mine", at=("here",))
    book = PriceBook("here/mine", self_hosted=engine)
    mine = replace(mine, deployments=tuple(replace(one, prices=book) for one in mine.deployments))
    catalog = a_catalog(mine, a_model("api", ("0.3", "0.3"), at=("vendor",)), baseline="api")
    for busy in (None, {}, {"here/mine": 7}):
        around = Circumstances("dec_1", NOW, ANONYMOUS, Experience(busy=busy))
        decision = decide(features_of(a_chat()), an_intent(), catalog, around)
        assert (decision.chosen.deployment.id == "here/mine") == (busy == {})
        found = named(decision)
        assert (found["cheapest"], found["strongest"]) == ("vendor/api", "vendor/api"), busy


def test_a_lot_is_fair_and_can_be_drawn_again():
    """The same for the same decision; each place as often as any other."""
    places = [3, 5, 8]
    assert drawn(places, "dec_1") == drawn(places, "dec_1")
    drawn_by = Counter(drawn(places, f"dec_{number}") for number in range(30_000))
    assert set(drawn_by) == set(places)
    assert max(abs(count - 10_000) for count in drawn_by.values()) < 400, "four standard deviations are 327"


def test_each_brings_its_price_and_the_length_that_is_expected_of_it():
    """Of the instant of the decision, over all choices."""
    thinks = replace(BEST, reasoning_tokens={"default": 900}, capabilities=frozenset({"n"}))
    catalog = a_catalog(replace(CHEAP, capabilities=frozenset({"n"})), thinks)
    decision = decide(features_of(a_chat(n=2)), an_intent(), catalog, Circumstances("dec_1", NOW, ANONYMOUS))
    best = next(one for one in decision.rivals() if one.name == "strongest")
    plain = next(one for one in decision.rivals() if one.name == "cheapest")
    assert best.quote == thinks.deployments[0].prices.quote(NOW)
    assert (best.reasoning, plain.reasoning) == (1_800, 0)
    assert best.visible == plain.visible == decision.chosen.output_tokens


@pytest.mark.parametrize(("count", "best"), [(5, "p/m2"), (60, "p/m14")])
def test_few_and_many_alike(count, best):
    """Row by row and in columns."""
    models = [a_model(f"m{number}", (1 + number % 7, 2), quality=0.8 + number % 3 / 100) for number in range(count)]
    found = named(decided(a_chat(), a_catalog(*models)))
    assert (found["strongest"], found["cheapest"]) == (best, "p/m0")
