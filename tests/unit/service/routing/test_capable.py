"""Hard filters: each kind of obstacle, what overrides what, and which constraint is named when nobody is left."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from scenery import NOW, a_catalog, a_chat, a_model

from service.domain.access import ANONYMOUS, Caller
from service.domain.catalog import Provider, Selector
from service.domain.features import features_of
from service.routing.capable import REJECTIONS, demands_of, emptied_by, obstacle

PLAIN = a_model("m", output_tokens_max=4_000)


def verdict(model, *, language="und", caller=ANONYMOUS, allow=(), deny=(), **body):
    """The obstacle for the first deployment of a model."""
    chat = a_chat(body.pop("text", "hello"), **body)
    demands = demands_of(features_of(chat), today=NOW.date(), allow=allow, deny=deny, caller=caller, language=language)
    return obstacle(model.deployments[0], model, demands)


def test_a_plain_request_meets_no_obstacle():
    """The control: the model that the other tests change can serve."""
    assert verdict(PLAIN) is None


def with_provider(**changes):
    """`PLAIN` at a changed provider."""
    return a_model("m", at=(Provider("p", "https://p.example/v1", **changes),))


TOOL = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
IMAGE = [
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
]


@pytest.mark.parametrize(
    ("model", "asked", "reason"),
    [
        (replace(PLAIN, inactive_reason="no price"), {}, "disabled: no price"),
        (with_provider(inactive_reason="set P_KEY"), {}, "inactive: set P_KEY"),
        (replace(PLAIN, retires=date(2026, 11, 21)), {}, "retired: gone since 2026-11-21"),
        (PLAIN, {"messages": IMAGE}, "modality: takes no image"),
        (PLAIN, {"tools": TOOL}, "capability: lacks tools"),
        (
            replace(with_provider(quirks={"no_forced_tool_choice": ""}), capabilities=frozenset({"tools"})),
            {"tools": TOOL, "tool_choice": "required"},
            "capability: the vendor refuses a forced tool choice",
        ),
        (replace(PLAIN, languages=frozenset({"en"})), {"language": "zh"}, "language: does not speak zh"),
        (
            replace(PLAIN, context_tokens=500),
            {"text": "word " * 1_000},
            "context: about 1,257 input and 256 output tokens do not fit into 500",
        ),
        (PLAIN, {"max_tokens": 4_001}, "output: 4,001 output tokens asked, 4,000 offered"),
        (PLAIN, {"caller": Caller("k", "k", models=frozenset({"n"}))}, "key: this key may not use the model"),
        (PLAIN, {"deny": [Selector(models=frozenset({"m"}))]}, "deny: its model"),
        (PLAIN, {"deny": [Selector(models=frozenset({"p/m"}))]}, "deny: its model"),
        (PLAIN, {"deny": [Selector(providers=frozenset({"p"}))]}, "deny: its provider"),
        (with_provider(region="cn"), {"deny": [Selector(regions=frozenset({"cn"}))]}, "deny: its region"),
        (with_provider(tags=frozenset({"cloud"})), {"deny": [Selector(tags=frozenset({"cloud"}))]}, "deny: its tag"),
        (PLAIN, {"allow": [Selector(tags=frozenset({"private"}))]}, "allow: its tag"),
        (PLAIN, {"allow": [Selector(models=frozenset({"other"}))]}, "allow: its model"),
    ],
)
def test_each_obstacle_has_its_reason(model, asked, reason):
    """One reason each, `kind: detail`."""
    assert (verdict(model, **asked) or "").startswith(reason)


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        (replace(PLAIN, retires=date(2026, 11, 22)), {}),
        (replace(PLAIN, languages=frozenset({"en"})), {"language": "other"}),
        (replace(PLAIN, languages=frozenset({"en"})), {"language": "und"}),
        (PLAIN, {"language": "zh"}),
        (PLAIN, {"max_tokens": 4_000}),
        (PLAIN, {"deny": [Selector()], "allow": [Selector()]}),
        (replace(PLAIN, tags=frozenset({"private"})), {"allow": [Selector(tags=frozenset({"private", "x"}))]}),
    ],
)
def test_just_this_side_of_an_obstacle(model, asked):
    """The day before retirement, an unknown language, exactly the cap, empty selectors, one of several tags."""
    assert verdict(model, **asked) is None


def test_every_field_of_an_allow_list_must_hold():
    """Names in one field are alternatives, fields are demands: and so are two lists (the caller's and the policy's)."""
    model = with_provider(region="cn", tags=frozenset({"private"}))
    region, tag = Selector(regions=frozenset({"cn"})), Selector(tags=frozenset({"public"}))
    assert verdict(model, allow=[region]) is None
    assert (verdict(model, allow=[region, tag]) or "").startswith("allow: its tag")
    assert (verdict(model, allow=[Selector(regions=region.regions, tags=tag.tags)]) or "").startswith("allow: its tag")


def test_a_deployment_may_offer_less_than_its_model():
    """Capabilities and windows of a host override the model's."""
    model = replace(PLAIN, capabilities=frozenset({"tools"}))
    host = replace(model.deployments[0], capabilities=frozenset(), context_tokens=100)
    poorer = replace(model, deployments=(host,))
    assert verdict(model, tools=TOOL) is None
    assert verdict(poorer, tools=TOOL) == "capability: lacks tools"
    assert (verdict(poorer) or "").startswith("context:")


def test_the_key_is_asked_before_the_capability():
    """A key learns nothing about what a model that it may not use can do."""
    caller = Caller("k", "k", models=frozenset({"n"}))
    assert (verdict(PLAIN, caller=caller, tools=TOOL) or "").startswith("key:")


def test_the_commonest_constraint_is_named_among_those_that_could_be_called():
    """Deployments without a key are not what emptied the list while others could be called."""
    catalog = a_catalog(a_model("m"))
    reasons = ["inactive: set A"] * 9 + ["capability: lacks tools", "capability: lacks tools", "deny: its region is …"]
    assert emptied_by(reasons, catalog).startswith("capability: lacks tools (2 of 3); deny: its region")


def test_a_named_model_that_is_off_tells_its_own_reason():
    """Other providers work, so `no provider is active` would send the reader to the wrong place."""
    catalog = a_catalog(a_model("m"))
    assert emptied_by(["retired: gone since 2026-01-01"], catalog) == "retired: gone since 2026-01-01 (1 of 1)"
    assert emptied_by([], catalog) == "the registry has no deployment for it"


def test_without_any_active_provider_that_is_said():
    """With what to set."""
    off = tuple(Provider(name, "https://x.example", inactive_reason=f"set {name.upper()}_KEY") for name in "abcd")
    message = emptied_by(["inactive: set A_KEY"] * 4, a_catalog(a_model("m", at=off)))
    assert message == "no provider is active (set A_KEY; set B_KEY; set C_KEY …)"


def test_every_kind_of_reason_has_its_meaning():
    """The table names what the code says, and nothing else: cases of policy tests are checked against it."""
    source = "".join(
        (Path(__file__).resolve().parents[4] / "service" / "routing" / name).read_text(encoding="utf-8")
        for name in ("capable.py", "estimate.py", "entrants.py")
    )
    assert set(re.findall(r'return f?"([a-z]+): ', source)) == set(REJECTIONS)
