"""What would have to change: each change is applied and decided again; with one step less of it, it does not do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import NOW, a_catalog, a_chat, a_model, an_intent, decided

from service.domain.access import ANONYMOUS, Caller
from service.domain.catalog import Model, PolicySpec
from service.domain.chat import Sizes, Steering
from service.domain.decision import QUALITY_STEPS, Intent
from service.domain.features import RequestFeatures
from service.domain.money import Rates
from service.domain.prices import PriceBook, PriceVersion
from service.errors import NoCandidate
from service.routing.router import decide
from service.routing.weighing import Circumstances

SURE = Intent("coding", 1.0, {"coding": 1.0}, "en", artefact="test-1")
START = datetime(2026, 1, 1, tzinfo=UTC)


def book(rates):
    """A price that applies now, or none."""
    return PriceBook("b") if rates is None else PriceBook("b", (PriceVersion(START, rates),))


def priced(model, rates):
    """A model with a price for each of its hosts."""
    hosts = [replace(one, prices=book(each)) for one, each in zip(model.deployments, rates, strict=True)]
    return replace(model, deployments=tuple(hosts))


def registry(models, spec):
    """A registry of models under one policy, and another one."""
    policies = {"p": spec, "other": PolicySpec("other", objective="max_quality")}
    return a_catalog(*models, policies=policies, default_policy="p", baseline=models[-1].name)


def again(asked, catalog):
    """The id of the choice, `None` when nobody can serve."""
    try:
        return decide(asked, SURE, catalog, Circumstances("dec_1", NOW, ANONYMOUS)).chosen.deployment.id
    except NoCandidate:
        return None


STEPS = st.sampled_from([0, 1, 4_000, 5_000, 7_000, 7_001, 7_300, 9_000, 10_000]) | st.integers(0, QUALITY_STEPS)
FEES = st.sampled_from([0, 1, 5, 6, 10**9]) | st.integers(0, 10**10)
RATES = st.none() | st.builds(
    lambda fee, put, out: Rates(put, out, requests=fee), FEES, st.integers(0, 10**6), st.integers(0, 10**7)
)
SHARES = st.just(0.0) | STEPS.map(lambda steps: steps / QUALITY_STEPS)
MODELS = st.lists(st.tuples(STEPS, st.lists(RATES, min_size=1, max_size=2)), min_size=2, max_size=6)
SPECS = st.builds(
    lambda objective, floor, share: PolicySpec(
        "p", objective, floor, share, pusd_per_quality=10**9 if objective == "utility" else None
    ),
    st.sampled_from(["min_cost", "max_quality", "utility"]),
    SHARES,
    st.just(0.0) | st.sampled_from([0.9, 0.97, 1.0]) | SHARES,
)
LIMITS = st.tuples(st.none() | st.integers(10**6, 10**11), st.none() | SHARES)


def scene(models, spec, limits):
    """(request, registry) of generated parts."""
    made = [
        priced(a_model(f"m{number}", quality=steps / QUALITY_STEPS, at=("p", "q")[: len(rates)]), rates)
        for number, (steps, rates) in enumerate(models)
    ]
    ceiling, least = limits
    return RequestFeatures(
        "auto", sizes=Sizes(characters=40, messages=1), steering=Steering(max_cost_pusd=ceiling, min_quality=least)
    ), registry(made, spec)


def model_of(catalog, deployment):
    """The model of a deployment id."""
    return catalog.models[catalog.by_id[deployment].model]


def with_model(catalog, model: Model):
    """The registry with one model replaced."""
    models = {**catalog.models, model.name: model}
    return replace(catalog, models=models, by_id={one.id: one for each in models.values() for one in each.deployments})


def applied(asked, catalog, deployment, lever, value):
    """The choice once a lever is at a value (steps, or pico-USD)."""
    spec, steering, share = catalog.policies["p"], asked.steering, value / QUALITY_STEPS
    model = model_of(catalog, deployment)
    if lever == "min_quality":
        spec = replace(spec, min_quality=share, min_quality_for={})
    elif lever == "relative_to_best":
        spec = replace(spec, relative_to_best=share)
    elif lever == "coe.min_quality":
        steering = replace(steering, min_quality=share)
    elif lever == "max_cost_usd":
        steering = replace(steering, max_cost_pusd=value)
    elif lever == "quality":
        catalog = with_model(catalog, replace(model, quality={"default": share}))
    elif lever == "expected_cost_usd":
        hosts = [
            replace(one, prices=book(Rates(0, 0, requests=value))) if one.id == deployment else one
            for one in model.deployments
        ]
        catalog = with_model(catalog, replace(model, deployments=tuple(hosts)))
    else:
        raise AssertionError(lever)
    policies = {**catalog.policies, "p": spec}
    return again(replace(asked, steering=steering), replace(catalog, policies=policies))


MONEY = {"max_cost_usd", "expected_cost_usd"}


def whole(lever, value):
    """A bound in steps or in pico-USD."""
    return value if lever in MONEY else round(value * QUALITY_STEPS)


@settings(max_examples=250)
@given(models=MODELS, spec=SPECS, limits=LIMITS)
def test_each_change_does_it_and_one_step_less_does_not(models, spec, limits):
    """For the runner-up, the baseline and a cheaper one; at both ends where a change has two."""
    asked, catalog = scene(models, spec, limits)
    try:
        decision = decide(asked, SURE, catalog, Circumstances("dec_1", NOW, ANONYMOUS))
    except NoCandidate:
        return
    found = decision.what_if()
    for one in found.alternatives:
        assert one.deployment != decision.chosen.deployment.id
        for change in one.changes:
            lever = change.lever
            top = None if lever in MONEY else QUALITY_STEPS
            if change.at_most is not None:
                most = whole(lever, change.at_most)
                assert applied(asked, catalog, one.deployment, lever, most) == one.deployment, change
                if most != top:
                    assert applied(asked, catalog, one.deployment, lever, most + 1) != one.deployment, change
            if change.at_least is not None:
                least = whole(lever, change.at_least)
                assert applied(asked, catalog, one.deployment, lever, least) == one.deployment, change
                if least:
                    assert applied(asked, catalog, one.deployment, lever, least - 1) != one.deployment, change


@settings(max_examples=80)
@given(models=MODELS, spec=SPECS, limits=LIMITS)
def test_where_nothing_is_told_nothing_does_it(models, spec, limits):
    """No floor, no price, no quality and no cost limit that a change does not name lets an able one win."""
    asked, catalog = scene(models, spec, limits)
    try:
        decision = decide(asked, SURE, catalog, Circumstances("dec_1", NOW, ANONYMOUS))
    except NoCandidate:
        return
    qualities = {whole("quality", one.quality) for one in decision.ranked}
    floors = {0, QUALITY_STEPS, *qualities, *(one + 1 for one in qualities if one < QUALITY_STEPS)}
    tries = {
        "min_quality": floors,
        "relative_to_best": {*range(0, QUALITY_STEPS, 2_500), QUALITY_STEPS},
        "expected_cost_usd": {0},
        "quality": {QUALITY_STEPS},
    }
    for one in decision.what_if().alternatives:
        told = {change.lever for change in one.changes}
        for lever, values in tries.items():
            if lever not in told and one.obstacle is None:
                winners = {applied(asked, catalog, one.deployment, lever, value) for value in values}
                assert one.deployment not in winners, lever


@settings(max_examples=50)
@given(models=MODELS, spec=SPECS, limits=LIMITS)
def test_another_policy_chooses_whom_it_is_said_to(models, spec, limits):
    """Asked for by name, it does."""
    asked, catalog = scene(models, spec, limits)
    try:
        decision = decide(asked, SURE, catalog, Circumstances("dec_1", NOW, ANONYMOUS))
    except NoCandidate:
        return
    said = decision.what_if().policies
    other = replace(asked, steering=replace(asked.steering, policy="other"))
    assert said.get("other") == again(other, catalog)
    assert "p" not in said


CHEAP = a_model("cheap", (1, 1), quality=0.78)
GOOD = a_model("good", (2, 2), quality=0.85)
BEST = a_model("best", (20, 20), quality=0.95)
POLICIES = {
    "p": PolicySpec("p", min_quality=0.8),
    "cheap": PolicySpec("cheap"),
    "dear": PolicySpec("dear", "max_quality"),
}
CATALOG = a_catalog(CHEAP, GOOD, BEST, policies=POLICIES, default_policy="p", baseline="best")


def alternatives(catalog=CATALOG, **more):
    """The alternatives of a plain request by deployment."""
    return {one.deployment: one for one in decided(a_chat(**more), catalog, intent=SURE).what_if().alternatives}


def test_who_is_looked_at():
    """The runner-up, the baseline, the best of those that are cheaper; each once, and never the choice."""
    found = alternatives()
    assert {name: one.told_as for name, one in found.items()} == {
        "p/best": ("runner_up", "baseline"),
        "p/cheap": ("cheaper",),
    }
    levers = {change.lever: change for change in found["p/cheap"].changes}
    assert (levers["min_quality"].now, levers["min_quality"].at_most) == (0.8, 0.78)
    assert levers["quality"].at_least == 0.8
    raised = next(change for change in found["p/best"].changes if change.lever == "min_quality")
    assert (raised.at_least, raised.at_most) == (0.8501, None)


def test_each_other_policy():
    """By name; not those that the key may not follow, and none when a model is named."""
    assert decided(a_chat(), CATALOG, intent=SURE).what_if().policies == {"cheap": "p/cheap", "dear": "p/best"}
    bound = Caller("k", "k", policies=frozenset({"p", "dear"}))
    assert decided(a_chat(), CATALOG, intent=SURE, caller=bound).what_if().policies == {"dear": "p/best"}
    assert decided(a_chat(model="good"), CATALOG, intent=SURE).what_if().policies == {}


@pytest.mark.parametrize(
    ("coe", "lever", "kind"),
    [
        ({"max_cost_usd": 0.02}, "max_cost_usd", "cost"),
        ({"deny": ["best"]}, None, "deny"),
        ({"allow": ["cheap", "good"]}, None, "allow"),
    ],
)
def test_a_baseline_that_can_not_serve(coe, lever, kind):
    """Its reason is told; a limit only if lifting it would do."""
    catalog = replace(CATALOG, policies={**POLICIES, "p": PolicySpec("p", "max_quality")})
    one = alternatives(catalog, coe=coe)["p/best"]
    assert one.obstacle.startswith(kind)
    assert [change.lever for change in one.changes] == ([lever] if lever else [])


def test_the_callers_own_floor():
    """Told as the caller's, since no policy can lower it."""
    catalog = replace(CATALOG, baseline="cheap", policies={"p": PolicySpec("p")}, default_policy="p")
    one = alternatives(catalog, coe={"min_quality": 0.9})["p/cheap"]
    assert [(change.lever, change.now, change.at_most) for change in one.changes] == [("coe.min_quality", 0.9, 0.78)]
    assert applied(RequestFeatures("auto"), catalog, "p/cheap", "coe.min_quality", 7_800) == "p/cheap"


def test_alone_there_is_nothing_to_compare():
    """One candidate, one policy: no alternative."""
    found = decided(a_chat(), a_catalog(a_model("m"), policies={"p": PolicySpec("p")}, default_policy="p")).what_if()
    assert (found.alternatives, found.policies) == ((), {})


def test_a_decision_that_nobody_asks_works_out_nothing(monkeypatch):
    """It is asked for by full explanations alone."""
    asked = []
    monkeypatch.setattr("service.routing.what_if._policies", lambda weighed: asked.append(weighed) or {})
    decision = decided(a_chat(), CATALOG, intent=an_intent())
    assert asked == []
    decision.what_if()
    assert len(asked) == 1


def test_under_a_budget_a_baseline_without_a_price_has_an_obstacle_and_no_lever():
    """No limit that would have to give: what is missing is its price. And the other policies are under the budget, too."""
    models = (
        a_model("free", None, quality=0.95),
        a_model("good", (1, 2), quality=0.9),
        a_model("poor", (0, 1), quality=0.6),
    )
    around = Circumstances("dec_1", NOW, ANONYMOUS, budgeted=True)
    found = decide(RequestFeatures("auto"), SURE, a_catalog(*models, baseline="free"), around).what_if()
    (baseline,) = [one for one in found.alternatives if "baseline" in one.told_as]
    assert (baseline.deployment, baseline.changes) == ("p/free", ())
    assert baseline.obstacle == "price: unknown, and there is a budget"
    assert found.policies["best"] == "p/good"
