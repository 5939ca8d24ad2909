"""One request held against one registry: what comes out is what `decide` tells, and nobody is lost on the way."""

from __future__ import annotations

import pytest
from scenery import NOW, a_catalog, a_chat, a_model, an_intent, decided

from service.domain.access import ANONYMOUS
from service.domain.features import features_of
from service.errors import NoCandidate
from service.routing.weighing import Circumstances, weigh

CATALOG = a_catalog(
    a_model("small", (1, 2), quality=0.82),
    a_model("large", (4, 8)),
    a_model("tiny", context_tokens=10),
    baseline="large",
)
AROUND = Circumstances("dec_1", NOW, ANONYMOUS)


def test_everybody_who_was_meant_is_able_or_out():
    """In the order of the registry; the order of a decision is the ranking's."""
    asked = features_of(a_chat())
    weighed = weigh(asked, an_intent(), CATALOG, AROUND)
    assert [one.id for one in weighed.meant] == ["p/small", "p/large", "p/tiny"]
    entrants = weighed.entrants
    assert [one.id for one, _ in entrants.able] + [one.id for one, *_ in entrants.out] == [
        "p/small",
        "p/large",
        "p/tiny",
    ]
    decision = decided(a_chat(), CATALOG)
    ranked = [weighed.standing(rank) for rank in range(len(entrants.able))]
    assert [one.id for one in ranked] == [one.deployment.id for one in decision.ranked]
    assert [one.cost for one in ranked] == [one.expected_cost_pusd for one in decision.ranked]
    assert list(decision.ranked.order) == list(weighed.ranking.order)
    assert weighed.policy.code == decision.reason_code


def test_a_named_model_means_its_hosts_alone():
    """Nobody else is looked at."""
    assert [one.id for one in weigh(features_of(a_chat(model="large")), an_intent(), CATALOG, AROUND).meant] == [
        "p/large"
    ]


def test_nobody_is_an_error_with_the_reason():
    """As `decide` raises it."""
    with pytest.raises(NoCandidate, match="context"):
        weigh(features_of(a_chat(model="tiny")), an_intent(), CATALOG, AROUND)


def test_the_least_limit_that_lets_one_serve():
    """At it, it can; one pico-USD under it, it can't; without a price there is none."""
    catalog = a_catalog(a_model("a", (3, 7)), a_model("b", None))
    entrants = weigh(features_of(a_chat()), an_intent(), catalog, AROUND).entrants
    needed = entrants.needed_pusd(0)
    assert needed is not None
    assert entrants.needed_pusd(1) is None
    at = decided(a_chat(coe={"max_cost_usd": needed / 10**12}), catalog)
    assert [one.deployment.id for one in at.ranked] == ["p/a"]
    with pytest.raises(NoCandidate, match="cost"):
        decided(a_chat(coe={"max_cost_usd": (needed - 1) / 10**12}), catalog)
