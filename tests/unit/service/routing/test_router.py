"""`decide`: whose rules apply, that limits are hard, and what is said when nobody is left."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import NOW, POLICIES, a_catalog, a_chat, a_model, an_intent, decided

from service import __version__
from service.domain.access import ANONYMOUS, Caller
from service.domain.catalog import PolicySpec, Provider, RouteCondition, RouteSpec, Selector
from service.domain.decision import NOT_CLASSIFIED, ReasonCode
from service.domain.experience import Experience
from service.domain.features import features_of
from service.errors import Forbidden, NoCandidate, NotFound
from service.routing.router import RECORD_VERSION, attempt_order, baseline_quote, decide, needs_intent
from service.routing.weighing import Circumstances

CN = Provider("cn", "https://cn.example/v1", region="cn", tags=frozenset({"public"}))
EU = Provider("eu", "https://eu.example/v1", region="eu", tags=frozenset({"private"}))

MANY = frozenset({"n"})
CHEAP = a_model("cheap", (0.1, 0.2), quality={"default": 0.86, "coding": 0.3}, at=(CN,), capabilities=MANY)
MID = a_model("mid", (1, 2), quality=0.87, at=(EU,), capabilities=MANY)
BEST = a_model("best", (10, 30), quality=0.95, at=(EU,), capabilities=MANY)
CATALOG = a_catalog(CHEAP, MID, BEST, baseline="best")


def chosen(catalog=CATALOG, *, intent=None, caller=None, **body):
    """The id of the chosen deployment."""
    more = {"caller": caller} if caller else {}
    return decided(a_chat(**body), catalog, intent=intent, **more).chosen.deployment.id


def test_the_cheapest_capable_one_answers():
    """The same request about something that the cheap model is bad at goes elsewhere."""
    assert chosen() == "cn/cheap"
    assert chosen(intent=an_intent("coding")) == "eu/mid"


def test_abstention_needs_good_at_every_plausible_intent():
    """An unsure classifier may not send possible code to the model that can't code, whatever the likeliest label is."""
    posterior = {"factual_qa": 0.97, "coding": 0.03}
    assert chosen(intent=an_intent("factual_qa", posterior=posterior)) == "cn/cheap"
    posterior = {"factual_qa": 0.7, "coding": 0.2, "math": 0.1}
    assert chosen(intent=an_intent("factual_qa", posterior=posterior, abstained=True)) == "eu/mid"


def test_same_arguments_same_decision():
    """Bit for bit: no clock, no randomness."""
    assert decided(a_chat("x" * 100), CATALOG) == decided(a_chat("x" * 100), CATALOG)


def test_every_deployment_is_ranked_or_rejected():
    """Nobody is forgotten, and each rejected one has its reason."""
    decision = decided(a_chat(coe={"deny": ["mid"]}), CATALOG)
    assert [one.deployment.id for one in decision.ranked] == ["cn/cheap", "eu/best"]
    assert [(one.deployment.id, one.rejected) for one in decision.rejected] == [
        ("eu/mid", "deny: its model is on the deny list")
    ]


@pytest.mark.parametrize(
    ("coe", "expected"),
    [
        ({"deny": ["cheap"]}, "eu/mid"),
        ({"deny": {"regions": ["cn"]}}, "eu/mid"),
        ({"allow": {"models": ["best"]}}, "eu/best"),
        ({"allow": ["tag:private"]}, "eu/mid"),
        ({"min_quality": 0.9}, "eu/best"),
        ({"policy": "best"}, "eu/best"),
    ],
)
def test_the_callers_limits_choose(coe, expected):
    """Each of them alone moves the choice."""
    assert chosen(coe=coe) == expected


def test_a_deny_list_holds_when_a_model_is_pinned():
    """Naming a model is no way around one's own limits, nor around the operator's."""
    with pytest.raises(NoCandidate, match=r"deny: its region"):
        chosen(model="cheap", coe={"deny": {"regions": ["cn"]}})
    policies = {**POLICIES, "safe": PolicySpec("safe", deny=Selector(regions=frozenset({"cn"})))}
    with pytest.raises(NoCandidate, match=r"deny: its region"):
        chosen(replace(CATALOG, policies=policies), model="cheap", coe={"policy": "safe"})


def test_minimum_quality_holds_when_a_model_is_pinned():
    """Every limit of the caller's, not only the lists."""
    with pytest.raises(NoCandidate, match=r"quality: 0\.86 is under the 0\.90 asked for"):
        chosen(model="cheap", coe={"min_quality": 0.9})


@settings(max_examples=200, deadline=None)
@given(
    usd=st.decimals("0.0000001", "0.2", places=7),
    n=st.integers(1, 4),
    cap=st.none() | st.integers(1, 100_000),
    size=st.integers(1, 3_000),
    label=st.sampled_from(["coding", "chitchat", "translation"]),
    model=st.sampled_from(["auto", "auto:best", "best", "cheap"]),
)
def test_no_reservation_is_over_the_ceiling(usd, n, cap, size, label, model):
    """Whatever is asked and whatever the classifier said: ranked means that the worst case fits under the limit."""
    body = {"n": n, "coe": {"max_cost_usd": float(usd)}, "model": model, **({"max_tokens": cap} if cap else {})}
    chat = a_chat("word " * size, **body)
    try:
        decision = decided(chat, CATALOG, intent=an_intent(label))
    except NoCandidate as problem:
        refused = problem.message
    else:
        refused = None
    if refused is not None:
        assert "cost:" in refused or "context:" in refused
        return
    ceiling = chat.steering.max_cost_pusd
    assert decision.ceiling_pusd == ceiling
    for one in decision.ranked:
        assert one.reserved_pusd <= ceiling
        upstream_cap = one.output_tokens_cap or cap
        assert upstream_cap is not None
        assert cap is None or upstream_cap <= cap


def test_the_tighter_ceiling_applies():
    """The policy's and the caller's: neither widens the other."""
    policies = {**POLICIES, "balanced": replace(POLICIES["balanced"], max_cost_pusd=10**10)}
    catalog = replace(CATALOG, policies=policies)
    assert decided(a_chat(), catalog).ceiling_pusd == 10**10
    assert decided(a_chat(coe={"max_cost_usd": 0.001}), catalog).ceiling_pusd == 10**9
    assert decided(a_chat(coe={"max_cost_usd": 1}), catalog).ceiling_pusd == 10**10


def test_an_unknown_price_is_not_eligible_under_a_budget():
    """And is under none: it may cost anything."""
    catalog = a_catalog(a_model("m", None))
    assert chosen(catalog) == "p/m"
    with pytest.raises(NoCandidate, match="price: unknown"):
        chosen(catalog, coe={"max_cost_usd": 1})


def budgeted(catalog, **body):
    """The decision while a hard budget applies."""
    return decide(features_of(a_chat(**body)), an_intent(), catalog, Circumstances("d", NOW, ANONYMOUS, budgeted=True))


@pytest.mark.parametrize("count", [3, 60])
def test_under_a_hard_budget_nobody_without_a_price_is_ranked(count):
    """Of a few and of many, which are reckoned in columns; who is left stands as before."""
    models = [a_model(f"m{number}", None if number % 3 == 1 else (number + 1, 2)) for number in range(count)]
    catalog = a_catalog(*models)
    free, held = decided(a_chat(), catalog), budgeted(catalog)
    assert (free.budgeted, held.budgeted) == (False, True)
    assert [one.deployment.id for one in free.ranked if one.quote is not None] == [
        one.deployment.id for one in held.ranked
    ]
    assert {reason for _, reason in held.rejected.reasons} == {"price: unknown, and there is a budget"}
    assert len(held.rejected) == count // 3


def test_when_a_budget_leaves_nobody_the_error_says_so():
    """For `auto` and for a named model, for want of a price and for a size that nobody knows."""
    catalog = a_catalog(a_model("m", None), a_model("n", None), a_model("o", modalities=frozenset({"text", "file"})))
    with pytest.raises(NoCandidate, match=r"price: unknown, and there is a budget \(1 of 1\)"):
        budgeted(catalog, model="m")
    file = [{"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]}]
    with pytest.raises(NoCandidate, match=r"size: an attachment by reference has no known size, and there is a budget"):
        budgeted(catalog, messages=file, model="o")
    assert budgeted(catalog).chosen.deployment.id == "p/o"


def test_retired_is_not_offered():
    """From its date on; the message says since when."""
    gone = replace(MID, retires=date(2026, 11, 20))
    catalog = a_catalog(gone, BEST)
    assert chosen(catalog) == "eu/best"
    with pytest.raises(NoCandidate, match="retired: gone since 2026-11-20"):
        chosen(catalog, model="mid")


def test_nobody_names_the_constraint():
    """422 with what emptied the list, and no retry helps."""
    with pytest.raises(NoCandidate) as caught:
        chosen(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.y/z"}}]}])
    assert (caught.value.status, caught.value.code) == (422, "no_capable_model")
    assert "modality: takes no image (3 of 3)" in caught.value.message


def test_a_policy_without_candidates_rejects_or_opens():
    """`reject` refuses; `any` gives up its own allow list, says so, and keeps every deny list and the caller's limits."""
    closed = PolicySpec("private", allow=Selector(tags=frozenset({"gpu"})), deny=Selector(regions=frozenset({"cn"})))
    catalog = replace(CATALOG, policies={**POLICIES, "private": closed})
    with pytest.raises(NoCandidate, match="allow: its tag"):
        chosen(catalog, model="auto:private")
    catalog = replace(CATALOG, policies={**POLICIES, "private": replace(closed, on_unavailable="any")})
    decision = decided(a_chat(model="auto:private"), catalog)
    assert decision.chosen.deployment.id == "eu/mid"
    assert decision.degraded == ("allow",)
    assert "private had nobody" in decision.notes[0]
    with pytest.raises(NoCandidate):
        chosen(catalog, model="auto:private", coe={"allow": {"regions": ["cn"]}})


def test_a_floor_that_nobody_reaches_is_degraded():
    """The best there is answers, and the decision says what was given up."""
    decision = decided(a_chat(), a_catalog(a_model("m", quality=0.4)))
    assert decision.degraded == ("quality_floor",)
    assert decision.reason_code is ReasonCode.FLOOR_UNREACHABLE
    assert decided(a_chat(model="m"), a_catalog(a_model("m", quality=0.4))).degraded == ()


HR = RouteSpec("hr", RouteCondition(key_tags=frozenset({"hr"})), policy="best")
ZH = RouteSpec("zh", RouteCondition(languages=frozenset({"zh"})), model="mid")
CODE = RouteSpec("code", RouteCondition(intents=frozenset({"coding"})), policy="best")
PLANNED = RouteSpec("planned", RouteCondition(models=frozenset({"auto"})), plan="draft_polish")
ROUTED = replace(CATALOG, routes=(HR, ZH, CODE, PLANNED))


@pytest.mark.parametrize(
    ("asked", "route", "expected"),
    [
        ({"caller": Caller("k", "k", tags=frozenset({"hr"}))}, "hr", "eu/best"),
        ({"caller": Caller("k", "k", tags=frozenset({"hr"})), "intent": an_intent(language="zh")}, "hr", "eu/best"),
        ({"intent": an_intent(language="zh")}, "zh", "eu/mid"),
        ({"intent": an_intent("coding")}, "code", "eu/best"),
        ({"intent": an_intent("coding", abstained=True)}, "planned", "eu/mid"),
        ({}, "planned", "cn/cheap"),
    ],
)
def test_the_first_route_that_matches_wins(asked, route, expected):
    """In the order of the file; a guess of an unsure classifier matches no intent."""
    intent, caller = asked.get("intent", an_intent()), asked.get("caller")
    decision = decided(a_chat(), ROUTED, intent=intent, **({"caller": caller} if caller else {}))
    assert (decision.route, decision.chosen.deployment.id) == (route, expected)


@pytest.mark.parametrize("asked", [{"model": "cheap"}, {"model": "auto:cheap"}, {"coe": {"policy": "cheap"}}])
def test_what_the_caller_names_goes_before_routes(asked):
    """Routes decide only what the caller left open."""
    decision = decided(a_chat(**asked), ROUTED, intent=an_intent(language="zh"))
    assert decision.route is None
    assert decision.chosen.deployment.id == "cn/cheap"


def test_a_plan_that_can_not_run_is_said():
    """A route's plan falls back to one model and says so; a caller's own is a 404."""
    decision = decided(a_chat(), ROUTED)
    assert decision.degraded == ("plan",)
    with pytest.raises(NotFound) as caught:
        decided(a_chat(coe={"plan": "draft_polsh"}), CATALOG)
    assert (caught.value.code, caught.value.param) == ("plan_not_found", "coe.plan")


def test_an_unknown_policy_is_a_404_with_suggestions():
    """On the field where it stood."""
    with pytest.raises(NotFound, match="did you mean cheap") as caught:
        chosen(coe={"policy": "chepa"})
    assert (caught.value.code, caught.value.param) == ("policy_not_found", "coe.policy")


def test_a_key_is_bound_to_its_models():
    """With `auto` by rejection, with a pinned model by 403, through a route too."""
    caller = Caller("k", "k", models=frozenset({"mid"}))
    assert chosen(caller=caller) == "eu/mid"
    for model in ("best", "eu/best"):
        with pytest.raises(Forbidden) as caught:
            chosen(model=model, caller=caller)
        assert (caught.value.status, caught.value.code, caught.value.param) == (403, "model_not_allowed", "model")
    route = RouteSpec("all", RouteCondition(), model="best")
    with pytest.raises(NoCandidate, match="key: this key may not use the model"):
        chosen(replace(CATALOG, routes=(route,)), caller=caller)


def test_a_key_is_bound_to_its_policies():
    """Also when it names a model: a cheap-only key does not get around its policy's limits by pinning."""
    policies = {**POLICIES, "eu": PolicySpec("eu", allow=Selector(regions=frozenset({"eu"})))}
    catalog = replace(CATALOG, policies=policies)
    caller = Caller("k", "k", policies=frozenset({"eu"}))
    assert decided(a_chat(), catalog, caller=caller).policy == "eu"
    with pytest.raises(NoCandidate, match="allow: its region"):
        chosen(catalog, model="cheap", caller=caller)
    for asked in ({"model": "auto:best"}, {"coe": {"policy": "best"}}):
        with pytest.raises(Forbidden) as caught:
            chosen(catalog, caller=caller, **asked)
        assert caught.value.code == "policy_not_allowed"


def test_a_key_with_several_policies_takes_the_default_then_the_order_of_the_file():
    """Never the alphabet; and a key whose policies are gone gets nothing rather than everything."""
    assert decided(a_chat(), CATALOG, caller=Caller("k", "k", policies=frozenset({"best", "balanced"}))).policy == (
        "balanced"
    )
    assert decided(a_chat(), CATALOG, caller=Caller("k", "k", policies=frozenset({"best", "cheap"}))).policy == "cheap"
    with pytest.raises(Forbidden, match="no longer has any policy"):
        decided(a_chat(), CATALOG, caller=Caller("k", "k", policies=frozenset({"gone"})))


def test_a_route_to_a_policy_that_the_key_may_not_use_is_refused():
    """The operator's route is a rule, not an offer: the key is not let around it, and the message names it."""
    caller = Caller("k", "k", tags=frozenset({"hr"}), policies=frozenset({"cheap"}))
    with pytest.raises(Forbidden, match="which route 'hr' demands"):
        decided(a_chat(), ROUTED, caller=caller)


def test_a_pinned_model_is_not_classified_and_goes_to_its_cheapest_host():
    """Its quality is the caller's choice; among its hosts the price decides."""
    two = a_model("m", (5, 9), at=("dear",), quality=0.1)
    cheaper = replace(a_model("m", (1, 2), at=("near",)).deployments[0])
    catalog = a_catalog(replace(two, deployments=(*two.deployments, cheaper)))
    chat = a_chat(model="m")
    assert not needs_intent(chat, catalog)
    assert needs_intent(a_chat(model="auto:best"), catalog)
    decision = decided(chat, catalog, intent=NOT_CLASSIFIED)
    assert (decision.chosen.deployment.id, decision.reason_code, decision.policy) == (
        "near/m",
        ReasonCode.PINNED,
        "pinned",
    )


def test_fallback_prefers_another_provider():
    """A vendor that is down is down for all of its models; nobody is tried twice or left out."""
    catalog = a_catalog(
        a_model("a1", (1, 1), at=("a",)),
        a_model("a2", (1, 2), at=("a",)),
        a_model("b1", (1, 3), at=("b",)),
        a_model("b2", (1, 4), at=("b",)),
    )
    decision = decided(a_chat(), catalog)
    order = [decision.ranked[rank].deployment.id for rank in attempt_order(decision)]
    assert order == ["a/a1", "b/b1", "a/a2", "b/b2"]


@pytest.mark.parametrize("warm", [0, 4_500])
def test_the_baseline_is_as_warm_as_the_choice(warm):
    """Or the saving would count what any cache saves; and it writes its cache where that is billed."""
    rates = {"cache_read": 100_000, "cache_write_5m": 2_000_000}
    catalog = a_catalog(a_model("same", (1, 2), rates=rates), baseline="same")
    known = Experience(warm_tokens={"p/same": warm} if warm else {})
    around = Circumstances("dec_1", NOW, ANONYMOUS, experience=known)
    decision = decide(features_of(a_chat("word " * 4_000)), an_intent(), catalog, around)
    assert decision.baseline_pusd == decision.chosen.expected_cost_pusd
    assert decision.chosen.cached_tokens == (4_096 if warm else 0)


def test_the_baseline_is_priced_for_the_same_request():
    """By its first deployment with a price, active or not; every choice counted."""
    off = replace(BEST, deployments=tuple(replace(one, inactive_reason="off") for one in BEST.deployments))
    decision = decided(a_chat(n=2), a_catalog(MID, off, baseline="best"))
    expected = decision.chosen
    by_hand = (expected.input_tokens * 10 + expected.output_tokens * 30) * 10**6
    assert (decision.baseline_model, decision.baseline_pusd) == ("best", by_hand)
    assert baseline_quote(a_catalog(MID), NOW) is None
    assert baseline_quote(a_catalog(a_model("x", None), baseline="x"), NOW) is None


def test_a_decision_holds_what_it_was_decided_upon_and_no_content():
    """Features, instant, caller; the versions of what they were held against; not a word of the prompt."""
    chat = a_chat("my secret prompt", coe={"deny": ["mid"], "min_quality": 0.5}, user="someone")
    decision = decided(chat, CATALOG)
    assert (decision.features, decision.at, decision.caller) == (features_of(chat), NOW, ANONYMOUS)
    assert decision.versions == {
        "registry": "v1",
        "offer": CATALOG.offer,
        "policy": CATALOG.policies["balanced"].version,
        "classifier": "test-1",
        "router": __version__,
        "record": RECORD_VERSION,
    }
    assert (decision.propensity, decision.draw) == (1.0, None)
    assert "secret" not in repr(decision)
    assert "someone" not in repr(decision)


def test_a_request_in_a_language_goes_to_who_speaks_it():
    """A hard need, as the design has it; a registry that says nothing about languages is not asked."""
    catalog = a_catalog(replace(CHEAP, languages=frozenset({"en"})), replace(MID, languages=frozenset({"zh", "en"})))
    assert chosen(catalog, intent=an_intent(language="zh")) == "eu/mid"
    assert chosen(catalog, intent=an_intent(language="en")) == "cn/cheap"
