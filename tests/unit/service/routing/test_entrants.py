"""Who can serve, at which figures; what is told later is made of the same."""

from __future__ import annotations

from dataclasses import replace

from scenery import NOW, a_catalog, a_chat, a_model, an_intent, decided

from service.domain.access import ANONYMOUS
from service.domain.decision import QUALITY_STEPS
from service.domain.experience import NOTHING, Experience
from service.domain.features import features_of
from service.routing.capable import demands_of
from service.routing.entrants import Measure, enter
from service.routing.estimate import candidate, forecast
from service.routing.quality import judged
from service.routing.shortlist import Shortlist

GOOD = a_model("good", (1, 2), quality=0.9, at=("p", "q"), rates={"cache_read": 100_000})
POOR = a_model("poor", (0.1, 0.2), quality=0.5)
DEAR = a_model("dear", (900, 900), quality=0.95)
UNPRICED = a_model("unpriced", None, quality=0.9)
SMALL = a_model("small", context_tokens=10)
CATALOG = a_catalog(GOOD, POOR, DEAR, UNPRICED, SMALL)


def entered(*, ceiling=None, known=NOTHING, budgeted=False, unmeasured=0, **body):
    """The entrants of a request among all of the registry."""
    asked, intent = features_of(a_chat(**body)), an_intent()
    asked = replace(asked, sizes=replace(asked.sizes, unmeasured=unmeasured))
    demands = demands_of(asked, today=NOW.date(), allow=(), deny=(), caller=ANONYMOUS, language="en")
    measure = Measure(asked, demands, forecast(asked, intent), NOW, ceiling, known, budgeted)
    return enter(Shortlist(tuple(CATALOG.deployments()), CATALOG.models, demands.kind), measure)


def test_everybody_is_able_or_out_in_the_order_of_the_file():
    """Without limits only who can't hold the request is out."""
    entrants = entered()
    assert [one.id for one, _ in entrants.able] == ["p/good", "q/good", "p/poor", "p/dear", "p/unpriced"]
    assert [(one.id, reason.partition(":")[0], measured) for one, _, reason, measured in entrants.out] == [
        ("p/small", "context", False)
    ]


def test_the_figures_are_those_of_the_candidates():
    """With and without a ceiling: what was ranked is what is told."""
    for ceiling in (None, 10**10):
        entrants = entered(ceiling=ceiling)
        figures = entrants.figures()
        built = [entrants.candidate(place, below=None, reason="r") for place in range(len(entrants.able))]
        assert [round(one.quality * QUALITY_STEPS) for one in built] == list(figures.qualities)
        assert [one.expected_cost_pusd for one in built] == list(figures.costs)
        assert all(one.rejected is None and one.reason == "r" for one in built)
        for place, (deployment, model) in enumerate(entrants.able):
            alone = candidate(deployment, model, entrants.measure.expected, NOW)
            assert (alone.quality, alone.expected_cost_pusd) == (built[place].quality, built[place].expected_cost_pusd)
            assert judged(model, entrants.measure.expected.by, NOTHING) == figures.qualities[place]
        assert ceiling is None or all(one.reserved_pusd <= ceiling for one in built)


def test_figures_and_candidates_agree_on_warm_prompts_and_qualities():
    """What is ranked is what is told, also where a vendor holds the prompt or an artefact has judged the text."""
    known = Experience({"good": 4_321}, warm_tokens={"q/good": 3_000, "p/poor": 3_000})
    entrants = entered(known=known, text="word " * 4_000)
    figures = entrants.figures()
    built = [entrants.candidate(place, below=None, reason="r") for place in range(len(entrants.able))]
    assert [one.expected_cost_pusd for one in built] == list(figures.costs)
    assert [round(one.quality * QUALITY_STEPS) for one in built] == list(figures.qualities)
    by_id = {one.deployment.id: one for one in built}
    assert by_id["p/good"].expected_cost_pusd > by_id["q/good"].expected_cost_pusd
    assert (by_id["q/good"].cached_tokens, by_id["p/poor"].cached_tokens) == (2_048, 0)
    assert by_id["p/good"].learned_quality == by_id["p/good"].quality == 0.4321


def test_limits_put_out_with_a_cost_to_tell():
    """Too dear, unknown price, under the caller's floor; in the order in which they are looked for."""
    entrants = entered(ceiling=10**10, coe={"min_quality": 0.6})
    assert [(one.deployment.id, (one.rejected or "").partition(":")[0]) for one in entrants.rejected()] == [
        ("p/poor", "quality"),
        ("p/dear", "cost"),
        ("p/unpriced", "price"),
        ("p/small", "context"),
    ]
    poor, dear, unpriced, small = entrants.rejected()
    assert poor.rejected == "quality: 0.50 is under the 0.60 asked for"
    assert dear.expected_cost_pusd is not None
    assert unpriced.expected_cost_pusd is None
    assert (small.quote, small.quality) == (None, 0.9)
    assert list(entrants.rejected().reasons) == [(one.deployment.id, one.rejected) for one in entrants.rejected()]


def test_the_callers_floor_is_never_lowered():
    """Not by a step; and what is told of the rest is exactly at least what was asked."""
    catalog = a_catalog(a_model("a", quality=0.7999), a_model("b", quality=0.8), a_model("c", quality=0.80004))
    ranked = decided(a_chat(coe={"min_quality": 0.8}), catalog).ranked
    assert {one.deployment.model for one in ranked} == {"b", "c"}
    assert all(one.quality >= 0.8 for one in ranked)
    assert len(decided(a_chat(coe={"min_quality": 0.8001}), a_catalog(a_model("d", quality=0.8001))).ranked) == 1


def test_a_request_that_no_limit_touches_shares_what_is_out():
    """The same tuple of reasons for every request of a kind: whoever tells them may tell them once."""
    first, second = entered(), entered(text="another one")
    kind = first.measure.demands.kind._replace(models=frozenset({"good"}))
    shortlist = Shortlist(tuple(CATALOG.deployments()), CATALOG.models, kind)
    told = [enter(shortlist, one.measure).rejected().reasons for one in (first, second)]
    assert told[0] is told[1] is shortlist.reasons
    assert [name for name, _ in told[0]] == ["p/poor", "p/dear", "p/unpriced", "p/small"]


def test_a_budget_puts_out_who_has_no_price():
    """The others keep their figures, and nobody gets a cap: how much is left is for others to say."""
    free, held = entered(), entered(budgeted=True)
    assert [one.id for one, _ in held.able] == ["p/good", "q/good", "p/poor", "p/dear"]
    assert (list(held.qualities), list(held.costs)) == (list(free.qualities)[:4], list(free.costs)[:4])
    assert dict(held.rejected().reasons)["p/unpriced"] == "price: unknown, and there is a budget"
    assert held.candidate(3, below=None, reason="r") == free.candidate(3, below=None, reason="r")


def test_a_cost_limit_speaks_before_a_budget():
    """Its reasons are the caller's own."""
    reasons = dict(entered(budgeted=True, ceiling=10**10).rejected().reasons)
    assert reasons["p/unpriced"] == "price: unknown, and there is a cost limit"
    assert reasons["p/dear"].startswith("cost: ")


def test_under_a_budget_nobody_serves_what_has_no_known_size():
    """As under a cost limit."""
    held = entered(budgeted=True, unmeasured=1)
    assert not held.able
    kinds = {one: reason.partition(":")[0] for one, reason in held.rejected().reasons}
    assert kinds == {
        "p/good": "size", "q/good": "size", "p/poor": "size", "p/dear": "size", "p/unpriced": "price", "p/small": "context",
    }  # fmt: skip
