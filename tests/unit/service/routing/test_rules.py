"""Which rules apply: routes that bind, selectors that must mean something, limits that only add up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenery import a_catalog, a_chat, a_model, an_intent

from service.domain.access import ANONYMOUS, Caller
from service.domain.catalog import PolicySpec, RouteCondition, RouteSpec, Selector
from service.errors import InvalidRequest
from service.routing.rules import known, rules_for

PUBLIC, PRIVATE = a_model("public", at=("cloud",)), a_model("own", at=("house",))
CATALOG = a_catalog(PUBLIC, PRIVATE)
LOCKED = PolicySpec("locked", allow=Selector(providers=frozenset({"house"})), max_cost_pusd=7)
HR = Caller("key_1", "hr", tags=frozenset({"hr"}))


def ruled(catalog, caller=HR, **asked):
    """The rules of a request in a registry whose `locked` policy stays in the house."""
    catalog = replace(catalog, policies={**catalog.policies, "locked": LOCKED})
    return rules_for(a_chat(**asked), an_intent(), catalog, caller)


@pytest.mark.parametrize(
    "asked", [{}, {"model": "public"}, {"model": "auto:cheap"}, {"coe": {"policy": "cheap"}}, {"model": "cloud/public"}]
)
def test_a_route_for_a_key_binds_whatever_is_named(asked):
    """The operator's allow list and ceiling hold for `auto`, for a named model and for a named policy."""
    catalog = replace(CATALOG, routes=(RouteSpec("hr", RouteCondition(key_tags=frozenset({"hr"})), policy="locked"),))
    rules = ruled(catalog, **asked)
    assert LOCKED.allow in rules.allow
    assert rules.ceiling_pusd == 7
    assert rules.route is not None
    assert LOCKED.allow not in ruled(catalog, ANONYMOUS, **asked).allow


def test_a_route_for_a_model_binds_who_names_it():
    """`when.model` matches registry models, too."""
    catalog = replace(
        CATALOG, routes=(RouteSpec("own", RouteCondition(models=frozenset({"public"})), policy="locked"),)
    )
    assert LOCKED.allow in ruled(catalog, model="public").allow
    assert ruled(catalog, model="own").route is None


def test_other_routes_leave_what_is_named_alone():
    """A route by intent or language decides only what the caller left open."""
    catalog = replace(CATALOG, routes=(RouteSpec("en", RouteCondition(languages=frozenset({"en"})), policy="locked"),))
    assert ruled(catalog).spec.name == "locked"
    assert ruled(catalog, model="public").route is None


@pytest.mark.parametrize(
    "deny",
    [
        ["tencnt"],
        ["provider:cloudd"],
        {"providers": ["cloudd"]},
        {"models": ["pubic"]},
        {"regions": ["mars"]},
        ["tag:x"],
    ],
)
@pytest.mark.parametrize("field", ["deny", "allow"])
def test_a_name_that_nobody_has_is_an_error(deny, field):
    """A misspelt deny would let in whom it was to keep out."""
    with pytest.raises(InvalidRequest) as caught:
        ruled(CATALOG, coe={field: deny})
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, f"coe.{field}", "unknown_name")


@pytest.mark.parametrize("item", ["cloud", "provider:cloud", "public", "model:public", "cloud/public"])
def test_a_flat_list_means_any_kind_of_name(item):
    """A bare name is a model, a deployment, a provider, a region or a tag: whichever the registry has."""
    (only,) = PUBLIC.deployments
    assert known(Selector(any_of=frozenset({item})), CATALOG, "coe.deny") == Selector(models=frozenset({only.id}))


def test_a_flat_list_is_alternatives():
    """Names of two kinds allow the union."""
    both = known(Selector(any_of=frozenset({"provider:cloud", "own"})), CATALOG, "coe.allow")
    assert both.models == {"cloud/public", "house/own"}


def test_an_object_keeps_its_fields():
    """Every field that names something must hold."""
    selector = Selector(providers=frozenset({"cloud"}), models=frozenset({"own"}))
    assert known(selector, CATALOG, "coe.allow") == selector
    assert known(Selector(), CATALOG, "coe.allow") == Selector()


def test_a_route_that_binds_raises_the_floors():
    """Each to the higher of the two; a lower one of the route takes nothing away."""
    bound = PolicySpec("locked", min_quality=0.9, relative_to_best=0.5, min_quality_for={"coding": 0.95, "math": 0.1})
    catalog = replace(
        CATALOG,
        routes=(RouteSpec("hr", RouteCondition(key_tags=frozenset({"hr"})), policy="locked"),),
        policies={"locked": bound, "own": PolicySpec("own", min_quality=0.6, relative_to_best=0.97)},
    )
    spec = rules_for(a_chat(model="auto:own"), an_intent(), catalog, HR).spec
    assert (spec.name, spec.min_quality, spec.relative_to_best) == ("own", 0.9, 0.97)
    assert [spec.least_quality((one,)) for one in ("coding", "math", "logic")] == [0.95, 0.6, 0.9]
    assert rules_for(a_chat(model="auto:own"), an_intent(), catalog, ANONYMOUS).spec.min_quality == 0.6


@pytest.mark.parametrize(
    ("own", "bound", "expected"), [(None, 150, 150), (90, 150, 90), (900, 150, 150), (900, None, 900)]
)
def test_a_route_that_binds_brings_its_latency_limit(own, bound, expected):
    """The tighter of the two holds."""
    catalog = replace(
        CATALOG,
        routes=(RouteSpec("hr", RouteCondition(key_tags=frozenset({"hr"})), policy="locked"),),
        policies={
            "locked": PolicySpec("locked", max_latency_ms=bound),
            "own": PolicySpec("own", max_latency_ms=own),
        },
    )
    assert rules_for(a_chat(model="auto:own"), an_intent(), catalog, HR).spec.max_latency_ms == expected
