"""Recorded decisions taken again: ten thousand of them through the real journal, bit for bit; and what is noticed."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import orjson
import pytest
from scenery import NOW, a_catalog, a_chat, a_model, an_intent, decided

from service.domain.access import ANONYMOUS, Caller
from service.domain.catalog import PolicySpec, Provider, RouteCondition, RouteSpec, Selector
from service.domain.decision import INTENTS, NOT_CLASSIFIED, Intent
from service.domain.experience import NOTHING, Experience
from service.domain.features import features_of
from service.domain.money import Fx, Multiplier, Rates, Tier
from service.domain.prices import PriceBook, PriceVersion, SelfHosted, Window
from service.errors import CallerError, CoeError
from service.ledger.decisions import recorded
from service.ledger.journal import Journal
from service.routing.explain import record
from service.routing.exploring import DRAWS
from service.routing.lengths import Length, Lengths
from service.routing.replay import NotReplayable, differences, replay
from service.routing.router import decide, needs_intent
from service.routing.weighing import Circumstances

DECISIONS = 10_000
PEAK = Window(UTC, ((time(1), time(4)), (time(6), time(10))), frozenset({1, 2, 3, 4, 5}), Multiplier(2))
HOSTS = (
    Provider("ice", "https://ice.example/v1", region="eu", tags=frozenset({"private", "cold"})),
    Provider("sun", "https://sun.example/v1", region="us", tags=frozenset({"public"})),
    Provider(
        "sea", "https://sea.example/v1", region="cn", tags=frozenset({"public"}), quirks={"no_forced_tool_choice": "m1"}
    ),
    Provider("off", "https://off.example/v1", inactive_reason="set OFF_KEY to use it"),
)
MANY = frozenset({"tools", "json_object", "json_schema", "reasoning", "logprobs", "n"})


def a_book(draw):
    """A price history: unknown, self-hosted, dated, with peak hours, tiers, cache rates, in dollars or yuan."""
    kind = draw.random()
    if kind < 0.08:
        return PriceBook("b")
    if kind < 0.16:
        return PriceBook("b", self_hosted=SelfHosted(8, 3_490_000_000_000, 3_000, 300, 600_000, draw.choice([None, 4])))

    def rates():
        put = draw.randrange(0, 5_000_000)
        cache = draw.choice([None, put // 10])
        return Rates(
            put, draw.randrange(0, 20_000_000), cache_read=cache, cache_write_5m=draw.choice([None, put * 5 // 4])
        )

    versions = []
    for start in sorted(draw.sample(range(1, 28), draw.randint(1, 3))):
        tiers = (Tier(draw.choice([200, 2_000]), rates()),) if draw.random() < 0.3 else ()
        windows = (PEAK,) if draw.random() < 0.4 else ()
        currency = draw.choice(["USD", "CNY"])
        versions.append(PriceVersion(datetime(2026, 11, start, tzinfo=UTC), rates(), currency, tiers, windows))
    return PriceBook("b", tuple(versions), {"CNY": Fx("CNY", 140_600_000, date(2026, 11, 21))})


def a_registry(draw, number):
    """A registry of three to six models at some of the hosts, with policies and routes of every kind."""
    models = []
    for name in (f"m{place}" for place in range(draw.randint(3, 6))):
        names = draw.sample(("default", *INTENTS), draw.randint(0, 6))
        model = a_model(
            name,
            at=tuple(draw.sample(HOSTS, draw.randint(1, 2))),
            quality={one: round(draw.uniform(0.3, 1), draw.choice([2, 4])) for one in names},
            capabilities=draw.choice([MANY, MANY, frozenset({"tools"})]),
            modalities=draw.choice([frozenset({"text"}), frozenset({"text", "image"})]),
            languages=draw.choice([frozenset(), frozenset({"en", "zh"}), frozenset({"en"})]),
            reasoning_tokens=draw.choice([{}, {"default": draw.randrange(2_000)}]),
            output_tokens_max=draw.choice([None, 512, 65_536]),
            retires=draw.choice([None, None, date(2026, 11, 15)]),
            tags=draw.choice([frozenset(), frozenset({"preview"})]),
        )
        models.append(replace(model, deployments=tuple(replace(one, prices=a_book(draw)) for one in model.deployments)))
    ceiling = draw.choice([None, 10**10, 10**12])
    policies = {
        "balanced": PolicySpec("balanced", min_quality=0.8, relative_to_best=draw.choice([0.9, 0.97])),
        "best": PolicySpec("best", "max_quality", max_cost_pusd=ceiling, explore=0.2 if ceiling else 0.0),
        "value": PolicySpec("value", "utility", 0.5, pusd_per_quality=draw.choice([10**9, 10**11])),
        "private": PolicySpec("private", allow=Selector(tags=frozenset({"private"})), on_unavailable="any"),
        "careful": PolicySpec("careful", min_quality=0.7, min_quality_for={"coding": 0.93, "math": 0.9}),
    }
    routes = (
        RouteSpec("hr", RouteCondition(key_tags=frozenset({"hr"})), policy="private"),
        RouteSpec("zh", RouteCondition(languages=frozenset({"zh"}), intents=frozenset({"coding"})), model="m0"),
        RouteSpec("long", RouteCondition(intents=frozenset({"writing"})), plan="draft_polish"),
    )
    catalog = a_catalog(
        *models, policies=policies, routes=draw.choice([(), routes]), baseline=draw.choice([None, "m1"])
    )
    return replace(catalog, version=f"v{number}")


def a_request(draw, catalog):
    """A chat request of any kind, read as the API reads it."""
    text = draw.choice(["word ", "翻译这段话，", "def f(x): return x\n"]) * draw.choice([1, 3, 40, 400])
    content = text
    body: dict[str, object] = {}
    if draw.random() < 0.1:
        content = [
            {"type": "text", "text": text},
            {"type": "image_url", "image_url": {"url": "https://x.example/y.png"}},
        ]
    if draw.random() < 0.2:
        body["tools"] = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
        body["tool_choice"] = draw.choice(["auto", "required"])
    if draw.random() < 0.3:
        body["max_tokens"] = draw.choice([1, 100, 5_000])
    if draw.random() < 0.1:
        body["n"] = draw.randint(2, 4)
    if draw.random() < 0.2:
        body["reasoning_effort"] = draw.choice(["low", "high", "colossal"])
    coe: dict[str, object] = {}
    if draw.random() < 0.3:
        coe["policy"] = draw.choice(list(catalog.policies))
    if draw.random() < 0.3:
        coe["max_cost_usd"] = draw.choice([0.0001, 0.01, 1, round(draw.uniform(0, 0.1), 7)])
    if draw.random() < 0.2:
        coe["min_quality"] = draw.choice([0.5, 0.57, 0.9, draw.random()])
    if draw.random() < 0.3:
        coe[draw.choice(["allow", "deny"])] = draw.choice([["m1", "region:eu"], {"providers": ["sun"]}, ["tag:public"]])
    model = draw.choice(["auto"] * 6 + ["auto:best", "m1", draw.choice(list(catalog.by_id))])
    messages = [{"role": "user", "content": content}] * draw.choice([1, 1, 3])
    return a_chat(model=model, messages=messages, stream=draw.random() < 0.5, coe=coe, **body)


def a_reading(draw):
    """What a classifier may say: any posterior, sure or not, with its difficulty, flags and parts."""
    masses = [draw.random() ** draw.choice([1, 8]) for _ in INTENTS]
    posterior = dict(zip(INTENTS, (one / sum(masses) for one in masses), strict=True))
    label = max(posterior, key=lambda name: posterior[name])
    return Intent(
        label,
        posterior[label],
        posterior,
        draw.choice(["en", "zh", "other", "und"]),
        draw.random() < 0.3,
        terms=(("word", 1.5),),
        artefact="intent-x@1",
        difficulty=draw.choice([None, draw.uniform(1, 5)]),
        flags=tuple(draw.sample(["code", "math", "personal"], draw.randint(0, 2))),
        parts=tuple(draw.sample(INTENTS, 2)) if label == "compound" else (),
    )


def surroundings(draw, number, catalog, lengths):
    """Who asks, when, and what is known beside the request."""
    caller = Caller(
        "key_1",
        "somebody",
        tags=frozenset(draw.sample(["hr", "dev", "lab"], draw.randint(0, 2))),
        models=frozenset(draw.sample(list(catalog.models), 2)) if draw.random() < 0.2 else frozenset(),
        policies=frozenset({"balanced", "value"}) if draw.random() < 0.1 else frozenset(),
    )
    models, ids = list(catalog.models), list(catalog.by_id)
    known = Experience(
        qualities={name: draw.randint(0, 10_000) for name in models} if draw.random() < 0.5 else {},
        unknown_ground=draw.random() < 0.2,
        warm_tokens={name: draw.randrange(4_000) for name in draw.sample(ids, 1)},
        marked=draw.random() < 0.2,
        busy=draw.choice([None, {}, dict.fromkeys(ids, draw.randrange(9))]),
    )
    at = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(microseconds=draw.randrange(27 * 86_400 * 10**6))
    return Circumstances(
        f"dec_{number}",
        at,
        draw.choice([ANONYMOUS, caller]),
        draw.choice([NOTHING, known]),
        draw.choice([None, lengths]),
        draw.random() < 0.3,
        draw.choice([None, draw.randrange(DRAWS // 4)]),
    )


LENGTHS = Lengths(
    {
        ("m0", None, None): Length(500, 700, 300, 900, 40),
        ("m0", "coding", None): Length(1_500, 1_700, 800, 2_000, 30),
        ("m2", "coding", "high"): Length(2_500, 2_700, None, None, 21),
    }
)


def figures_of(decision):
    """Every candidate with everything that was worked out for it, in order."""
    return tuple(
        (
            one.deployment.id, one.quality, one.expected_cost_pusd, one.reserved_pusd, one.input_tokens, one.output_tokens,
            one.reasoning_tokens, one.rejected, one.below, one.reason, one.output_tokens_cap, one.cached_tokens,
            one.cache_write_tokens, one.learned_quality, one.quote and (one.quote.version, one.quote.multiplier),
        )
        for one in (*decision.ranked, *decision.rejected)
    )  # fmt: skip


def taken(draw, number, catalogs):
    """One decision that could be taken, with the registry that it was taken in."""
    while True:
        catalog = draw.choice(catalogs)
        chat = a_request(draw, catalog)
        intent = a_reading(draw) if needs_intent(chat, catalog) else NOT_CLASSIFIED
        around = surroundings(draw, number, catalog, LENGTHS)
        try:
            return decide(features_of(chat), intent, catalog, around), catalog
        except CallerError:
            continue


async def test_ten_thousand_decisions_come_out_the_same(tmp_path):
    """Decided, written to the journal, read back after it was closed, taken again: not one bit differs."""
    draw = random.Random(20261121)
    catalogs = [a_registry(draw, number) for number in range(60)]
    journal = Journal(tmp_path)
    await journal.start()
    expected = {}
    kinds: dict[str, set[object]] = {
        "budgeted": set(),
        "policy": set(),
        "reason": set(),
        "route": set(),
        "degraded": set(),
        "rejected": set(),
    }
    for number in range(DECISIONS):
        decision, catalog = taken(draw, number, catalogs)
        around_lengths = LENGTHS if "lengths" in decision.versions else None
        expected[decision.id] = (
            catalog,
            around_lengths,
            hash(figures_of(decision)),
            decision.reason_code,
            decision.margin,
        )
        journal.hold_decision({**record(decision), "request_id": "req_1", "key_id": decision.caller.key_id})
        kinds["budgeted"].update(reason for _, reason in decision.rejected.reasons if decision.budgeted)
        kinds["policy"].add(decision.policy)
        kinds["reason"].add(decision.reason_code)
        kinds["route"].add(decision.route)
        kinds["degraded"].update(decision.degraded)
        kinds["rejected"].update(reason.partition(":")[0] for _, reason in decision.rejected.reasons)
    await journal.close()
    read = list(recorded(tmp_path))
    assert len(read) == DECISIONS
    for told in read:
        catalog, lengths, figures, code, margin = expected[told["id"]]
        again = replay(told, catalog, lengths)
        assert differences(told, again) == ()
        assert (hash(figures_of(again)), again.reason_code, again.margin) == (figures, code, margin)
    # They were varied: nothing of what decides was left out.
    assert len(kinds["policy"]) == 6
    assert len(kinds["reason"]) == 7
    assert {None, "hr", "zh", "long"} <= kinds["route"]
    assert kinds["degraded"] == {"quality_floor", "allow", "plan"}
    assert len(kinds["rejected"]) >= 10
    assert "price: unknown, and there is a budget" in kinds["budgeted"]


CATALOG = a_catalog(
    a_model("small", (1, 2), quality=0.82),
    a_model("large", (4, 8), quality={"default": 0.9, "coding": 0.95}),
    baseline="large",
)


def told(catalog=CATALOG, *, at=NOW, intent=None, lengths=None, **body):
    """A record of a decision, as a reader of the journal gets it."""
    around = Circumstances("dec_1", at, ANONYMOUS, lengths=lengths)
    decision = decide(features_of(a_chat(**body)), intent or an_intent(), catalog, around)
    return orjson.loads(orjson.dumps(record(decision)))


def dearer(catalog=CATALOG):
    """The same registry with one price a millionth of a cent higher."""
    small = catalog.models["small"]
    version = small.deployments[0].prices.versions[0]
    rates = replace(version.rates, output=version.rates.output + 1)
    host = replace(small.deployments[0], prices=PriceBook("b", (replace(version, rates=rates),)))
    models = {**catalog.models, "small": replace(small, deployments=(host,))}
    return replace(catalog, models=models, by_id={**catalog.by_id, host.id: host})


def as_if_from(record, catalog):
    """The record, claiming that it was decided with another registry."""
    return {**record, "versions": {**record["versions"], "offer": catalog.offer, "registry": catalog.version}}


def test_a_changed_price_is_noticed():
    """By the version of what is on offer; and if that lied, by the figures."""
    found = told()
    assert differences(found, replay(found, CATALOG)) == ()
    with pytest.raises(NotReplayable, match=r"offer was \w{12}, is \w{12}") as caught:
        replay(found, dearer())
    assert caught.value.differing == ("offer",)
    lying = as_if_from(found, dearer())
    assert {"figures", "candidates"} <= set(differences(lying, replay(lying, dearer())))


def test_a_changed_digit_of_the_posterior_is_noticed():
    """The last one that a float has: enough to be another record, and said so."""
    found = told(intent=an_intent("coding", 0.5, abstained=True))
    first = found["intent"]["posterior"]["coding"]
    found["intent"]["posterior"]["coding"] = 0.5000000000000001
    again = replay(found, CATALOG)
    assert again.intent.posterior["coding"] != first
    assert differences(told(intent=an_intent("coding", 0.5, abstained=True)), again) == ("intent",)


def test_why_it_was_unsure_is_recorded():
    """And a record from before it was told is still reproduced."""
    found = told(intent=replace(an_intent("coding", 0.5, abstained=True), doubt="fits_nothing"))
    assert found["intent"]["doubt"] == "fits_nothing"
    assert differences(found, replay(found, CATALOG)) == ()
    del found["intent"]["doubt"]
    assert differences(found, replay(found, CATALOG)) == ()


def test_that_a_budget_applied_is_recorded():
    """Whose it was is not: a replay has neither the key nor the tags. Without the word another one is chosen."""
    catalog = a_catalog(a_model("free", None, quality=0.95), a_model("large", (4, 8), quality=0.9))
    around = Circumstances("dec_1", NOW, ANONYMOUS, budgeted=True)
    asked = features_of(a_chat(model="auto:best"))
    found = orjson.loads(orjson.dumps(record(decide(asked, an_intent(), catalog, around))))
    assert (found["budgeted"], found["chosen"]) == (True, "p/large")
    assert differences(found, replay(found, catalog)) == ()
    del found["budgeted"]
    assert {"budgeted", "chosen", "rejected"} - set(differences(found, replay(found, catalog))) == {"budgeted"}
    assert "budgeted" not in told()
    assert differences(told() | {"budgeted": True}, replay(told() | {"budgeted": True}, CATALOG)) == ()
    assert "budgeted" in differences(told() | {"budgeted": False}, replay(told() | {"budgeted": True}, CATALOG))


def test_the_parts_and_the_difficulty_of_a_request_are_recorded():
    """Both change what is expected of a model."""
    compound = an_intent("compound", parts=("coding", "math"), difficulty=4.25, flags=("code",))
    found = told(intent=compound)
    again = replay(found, CATALOG)
    assert differences(found, again) == ()
    assert again.intent == compound
    found["intent"]["parts"] = ["chitchat"]
    assert "figures" in differences(found, replay(found, CATALOG))


def test_a_changed_instant_across_a_price_window_is_noticed():
    """A microsecond before the peak ends is another price than at its end."""
    model = a_model("small")
    peak = replace(model.deployments[0].prices.versions[0], windows=(PEAK,))
    catalog = a_catalog(replace(model, deployments=(replace(model.deployments[0], prices=PriceBook("b", (peak,))),)))
    inside = datetime(2026, 11, 20, 9, 59, 59, 999_999, tzinfo=UTC)
    found = told(catalog, at=inside)
    assert found["at"] == "2026-11-20T09:59:59.999999+00:00"
    assert differences(found, replay(found, catalog)) == ()
    found["at"] = (inside + timedelta(microseconds=1)).isoformat()
    assert {"figures", "candidates"} <= set(differences(found, replay(found, catalog)))


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("features", "n"), 2, "figures"),
        (("features", "characters"), 4_000, "candidates"),
        (("features", "limits"), {"min_quality": 0.85}, "chosen"),
        (("features", "limits"), {"max_cost_pusd": 10**10}, "ceiling_usd"),
        (("intent", "label"), "chitchat", "judged_by"),
        (("intent", "difficulty"), 4.0, "margin"),
        (("caller",), {"models": ["large"]}, "chosen"),
        (("experience",), {"qualities": {"small": 100, "large": 9_000}}, "chosen"),
        (("figures", "order"), [1, 0], "figures"),
        (("chosen",), "p/large", "chosen"),
        (("propensity",), 0.5, "propensity"),
        (("rejected",), {"deny": ["p/large"]}, "rejected"),
    ],
)
def test_whatever_is_changed_in_a_record_is_noticed(path, value, field):
    """What it was decided upon changes what comes out; what came out is compared."""
    found = told()
    place = found
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    try:
        assert field in differences(found, replay(found, CATALOG))
    except CoeError:
        pytest.fail("it must be decided, only otherwise")


@pytest.mark.parametrize("name", ["registry", "offer", "router", "record"])
def test_a_record_of_another_version_is_refused_by_name(name):
    """What came of another registry or another router proves nothing."""
    found = told()
    found["versions"][name] = "another"
    with pytest.raises(NotReplayable, match=f"{name} was another, is") as caught:
        replay(found, CATALOG)
    assert caught.value.differing == (name,)


def test_a_record_of_other_lengths_is_refused():
    """With a table, with another one, without."""
    found = told(lengths=LENGTHS)
    assert differences(found, replay(found, CATALOG, LENGTHS)) == ()
    with pytest.raises(NotReplayable, match=r"lengths was lengths@\w+, is none"):
        replay(found, CATALOG)
    with pytest.raises(NotReplayable, match="lengths was none"):
        replay(told(), CATALOG, LENGTHS)


def test_a_policy_of_another_content_is_another_offer():
    """The name of a policy says nothing; its bounds do."""
    other = replace(CATALOG, policies={**CATALOG.policies, "cheap": PolicySpec("cheap", min_quality=0.51)})
    with pytest.raises(NotReplayable, match="offer was"):
        replay(told(), other)
    assert told()["versions"]["policy"] != told(model="auto:cheap")["versions"]["policy"]


def test_an_old_record_is_refused_and_not_misread():
    """Records of the first form hold no version of theirs and too little to decide again."""
    old = {
        "id": "dec_1",
        "created_ms": 1,
        "versions": {"registry": "v1", "classifier": "x"},
        "features": {"characters": 1},
    }
    with pytest.raises(NotReplayable, match="record was none, is 3"):
        replay(old, CATALOG)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("features", "n"), 1.0),
        (("features", "n"), True),
        (("features",), None),
        (("features", "needs"), "tools"),
        (("features", "limits"), {"min_quality": "0.5"}),
        (("intent", "posterior"), [["coding", 1]]),
        (("intent", "confidence"), "0.9"),
        (("at",), "yesterday"),
        (("at",), "2026-11-21T12:00:00"),
        (("at",), "2026-11-21T12:00:00+08:00"),
        (("caller",), {"tags": "hr"}),
        (("budgeted",), 1),
        (("budgeted",), None),
        (("experience",), {"warm": 1}),
    ],
)
def test_a_damaged_record_is_refused(path, value):
    """By the field, without its value; nothing is converted."""
    found = told()
    place = found
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(NotReplayable, match="the record is damaged") as caught:
        replay(found, CATALOG)
    assert caught.value.differing == ()


@pytest.mark.parametrize("name", ["features", "intent", "at", "caller", "experience", "id"])
def test_a_record_without_a_part_is_refused(name):
    """Each of them is needed."""
    found = told()
    del found[name]
    with pytest.raises(NotReplayable, match=f"no `{name}`"):
        replay(found, CATALOG)


def test_what_others_add_is_not_compared():
    """Who asked, what came of it; all else is."""
    found = told() | {"request_id": "r", "key_id": None, "attempts": [], "cost_usd": "0"}
    assert differences(found, replay(found, CATALOG)) == ()
    assert differences(found | {"more": 1}, replay(found, CATALOG)) == ("more",)


def test_a_record_stays_small():
    """Ninety-five deployments that can all serve, long names, a full posterior: under 6 KB."""
    models = [a_model(f"vendor-model-{number}-flash", (number + 1, number + 2)) for number in range(95)]
    decision = decided(
        a_chat("hello " * 200, coe={"max_cost_usd": 0.5}), a_catalog(*models, baseline="vendor-model-9-flash")
    )
    assert len(decision.ranked) == 95
    assert len(orjson.dumps(record(decision))) < 6_000
