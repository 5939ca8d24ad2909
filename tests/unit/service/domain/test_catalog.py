"""The registry's values: ids, fall-backs, retirement, secrets that don't show."""

from __future__ import annotations

import dataclasses
from datetime import date

import pytest

from service.domain.catalog import DEFAULT_QUALITY, Catalog, Deployment, Model, PolicySpec, Provider, Selector
from service.domain.prices import PriceBook

PROVIDER = Provider("p", "https://p.example.com/v1", api_keys=("sk-canary",), headers={"x-key": "sk-canary"})
DEPLOYMENT = Deployment(PROVIDER, "m", "vendor/M-1", PriceBook("p/m"))


def test_a_deployment_is_named_by_provider_and_model() -> None:
    """By the registry's name of the model, not by the vendor's."""
    assert DEPLOYMENT.id == "p/m"


def test_secrets_never_show() -> None:
    """Neither the provider nor anything that holds it prints a key or a header."""
    catalog = Catalog({"p": PROVIDER}, {"m": Model("m", (DEPLOYMENT,))}, {})
    for holder in (PROVIDER, DEPLOYMENT, catalog):
        assert "canary" not in repr(holder)


def test_everything_is_frozen() -> None:
    """A reload builds a new catalogue; nobody changes one."""
    for value, name in ((PROVIDER, "region"), (DEPLOYMENT, "model"), (Model("m", ()), "name")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, "x")


def test_a_quirk_may_be_narrowed_to_wire_names() -> None:
    """By how the vendor's names begin, not the registry's; `|` separates alternatives; no value concerns all."""
    told = {"all": "", "one": "vendor/M", "several": "other|vendor/M-1|m", "none": "other|m", "middle": "M-1"}
    deployment = dataclasses.replace(DEPLOYMENT, provider=dataclasses.replace(PROVIDER, quirks=told))
    assert [name for name in told if deployment.concerned_by(name)] == ["all", "one", "several"]
    assert not deployment.concerned_by("unheard_of")


def test_quality_falls_back() -> None:
    """The intent's own prior, the model's default, then a coin."""
    model = Model("m", (), quality={"coding": 0.9, "default": 0.7})
    assert [model.quality_for(intent) for intent in ("coding", "math")] == [0.9, 0.7]
    assert Model("m", (), quality={"coding": 0.9}).quality_for("math") == DEFAULT_QUALITY


def test_reasoning_falls_back() -> None:
    """The intent's own figure, the model's default, then none."""
    model = Model("m", (), reasoning_tokens={"math": 3000, "default": 100})
    assert [model.reasoning_for(intent) for intent in ("math", "logic")] == [3000, 100]
    assert Model("m", ()).reasoning_for("math") == 0


def test_retirement_is_the_first_day_without() -> None:
    """The day before it is there, on the day it is gone."""
    model = Model("m", (), retires=date(2027, 3, 1))
    assert not model.retired(date(2027, 2, 28))
    assert model.retired(date(2027, 3, 1))
    assert not Model("m", ()).retired(date(2999, 1, 1))


def test_activity_is_the_absence_of_a_reason() -> None:
    """A provider can be called until something is said against it."""
    assert PROVIDER.active
    assert not dataclasses.replace(PROVIDER, inactive_reason="set P_KEY to use it").active


def test_selectors() -> None:
    """Empty is no opinion; only what names something is listed, with its noun."""
    assert not Selector()
    assert list(Selector().fields()) == []
    selector = Selector(models=frozenset({"m"}), tags=frozenset({"private"}))
    assert selector
    assert list(selector.fields()) == [("model", frozenset({"m"})), ("tag", frozenset({"private"}))]


def test_deployments_in_the_order_of_the_file() -> None:
    """Models first to last, their deployments first to last."""
    other = dataclasses.replace(PROVIDER, name="q")
    models = {
        name: Model(name, tuple(Deployment(provider, name, name, PriceBook(name)) for provider in (other, PROVIDER)))
        for name in ("z", "a")
    }
    catalog = Catalog({"p": PROVIDER, "q": other}, models, {})
    assert [one.id for one in catalog.deployments()] == ["q/z", "p/z", "q/a", "p/a"]


def test_a_floor_may_differ_by_intent() -> None:
    """The highest of those that a request may be; the general one where an intent has none of its own."""
    spec = PolicySpec("x", min_quality=0.7, min_quality_for={"coding": 0.9, "chitchat": 0.2})
    assert spec.least_quality(()) == 0.7
    assert spec.least_quality(("chitchat",)) == 0.2
    assert spec.least_quality(("chitchat", "math")) == 0.7
    assert spec.least_quality(("math", "coding")) == 0.9


@pytest.mark.parametrize(
    "bounds",
    [
        {"min_quality": float("nan")},
        {"min_quality": 1.01},
        {"relative_to_best": -0.1},
        {"min_quality_for": {"coding": float("inf")}},
        {"pusd_per_quality": 0},
        {"pusd_per_quality": -5},
    ],
)
def test_a_policy_without_sense_is_refused(bounds) -> None:
    """With NaN for a floor every comparison would be false, and nobody would notice."""
    with pytest.raises(ValueError, match="policy x: "):
        PolicySpec("x", **bounds)


def test_a_floor_without_intents_of_its_own_is_the_general_one() -> None:
    """Whatever the request may be."""
    assert PolicySpec("x", min_quality=0.7).least_quality(("coding", "math")) == 0.7


def test_what_is_put_together_once_is_no_part_of_equality() -> None:
    """An id is made of provider and model, and what was prepared from a registry is nobody else's."""
    moved = dataclasses.replace(DEPLOYMENT, model="n")
    assert (moved.id, "id=" in repr(moved)) == ("p/n", False)
    catalog, same = (Catalog({"p": PROVIDER}, {"m": Model("m", (DEPLOYMENT,))}, {}) for _ in range(2))
    object.__setattr__(catalog, "prepared", "anything")
    assert catalog == same
    assert catalog.offer == same.offer
