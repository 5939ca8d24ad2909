"""What is remembered of a registry changes no decision, has limits, keeps no prompt, and goes with the registry."""

from __future__ import annotations

import gc
import random
import weakref
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import pytest
from scenery import NOW, a_catalog, a_chat, a_model, an_intent

from service.domain.access import ANONYMOUS, Caller
from service.domain.catalog import PolicySpec, Provider, RouteCondition, RouteSpec, Selector
from service.domain.decision import INTENTS, NOT_CLASSIFIED
from service.domain.experience import NOTHING, Experience
from service.domain.features import features_of
from service.domain.money import Multiplier, Rates
from service.domain.prices import PriceBook, PriceVersion, Window
from service.errors import CoeError
from service.routing.explain import record
from service.routing.prepared import SHORTLISTS_MAX, keep, prepared
from service.routing.router import decide, needs_intent
from service.routing.weighing import Circumstances

PEAK = Window(UTC, ((time(11), time(13)),), frozenset(range(1, 8)), Multiplier(3))
HOSTS = (Provider("ice", "https://ice.example/v1", region="eu"), Provider("sun", "https://sun.example/v1", region="us"))


def a_registry(count, *, cheaper=0):
    """A registry with peak hours, a price that changes, a model that retires, routes and policies."""
    models = []
    for number in range(count):
        rates = Rates(1_000_000 + 70_000 * number - cheaper, 4_000_000 + 99_000 * number, cache_read=50_000)
        later = replace(PriceVersion(NOW + timedelta(minutes=3), rates), rates=replace(rates, output=9_000_000))
        windows = (PEAK,) if number % 3 == 0 else ()
        book = PriceBook("b", (PriceVersion(datetime(2026, 1, 1, tzinfo=UTC), rates, windows=windows), later))
        model = a_model(
            f"m{number}",
            at=HOSTS[: 1 + number % 2],
            quality={"default": 0.6 + 0.3 * number / count, "coding": 0.5 + 0.4 * (number * 7 % count) / count},
            context_tokens=600 if number % 5 == 0 else 100_000,
            capabilities=frozenset({"tools"}) if number % 2 else frozenset(),
            reasoning_tokens={"default": 200} if number % 4 == 0 else {},
            retires=date(2026, 11, 22) if number % 6 == 0 else None,
        )
        models.append(replace(model, deployments=tuple(replace(one, prices=book) for one in model.deployments)))
    policies = {
        "balanced": PolicySpec("balanced", min_quality=0.7, relative_to_best=0.9),
        "home": PolicySpec("home", allow=Selector(regions=frozenset({"eu"})), max_cost_pusd=10**10),
        "nobody": PolicySpec("nobody", allow=Selector(tags=frozenset({"none"})), on_unavailable="any"),
    }
    routes = (
        RouteSpec("hr", RouteCondition(key_tags=frozenset({"hr"})), policy="home"),
        RouteSpec("code", RouteCondition(intents=frozenset({"coding"})), model="m1"),
    )
    return a_catalog(*models, policies=policies, routes=routes, baseline="m2")


def a_case(draw, catalog):
    """Arguments of `decide` but for the registry."""
    body = {"text": draw.choice(["word ", "做"]) * draw.choice([1, 40, 900, 3_000])}
    coe = {}
    if draw.random() < 0.3:
        coe["policy"] = draw.choice([*catalog.policies, "wrong"])
    if draw.random() < 0.3:
        coe["max_cost_usd"] = draw.choice([0.0001, 0.004, 1])
    if draw.random() < 0.3:
        coe["min_quality"] = draw.random()
    if draw.random() < 0.3:
        coe[draw.choice(["allow", "deny"])] = draw.choice([["m1", "m2"], ["region:us"], {"providers": ["ice"]}])
    if draw.random() < 0.2:
        body["tools"] = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    model = draw.choice(["auto", "auto", "auto", "auto:home", "m1", "ice/m2", "sun/m1-wire", "missing"])
    chat = a_chat(model=model, coe=coe, **body)
    intent = an_intent(
        draw.choice(INTENTS), draw.choice([0.4, 0.9]), abstained=draw.random() < 0.2, difficulty=draw.uniform(1, 5)
    )
    caller = Caller(
        "key_1",
        "k",
        tags=frozenset(draw.sample(["hr", "lab"], draw.randint(0, 2))),
        models=draw.choice([frozenset(), frozenset({"m1", "m2", "m3"})]),
        policies=draw.choice([frozenset(), frozenset(), frozenset({"balanced"})]),
    )
    warm = Experience(warm_tokens={"ice/m1": 2_048}, marked=draw.random() < 0.5)
    at = NOW + timedelta(seconds=draw.choice([0, 0, 59, 170, 181, 3_600, 86_400]))
    around = Circumstances("dec_1", at, draw.choice([ANONYMOUS, caller]), draw.choice([NOTHING, warm]))
    return chat, intent, around


def taken(case, catalog):
    """The decision in full, or the error."""
    chat, intent, around = case
    try:
        read = intent if needs_intent(chat, catalog) else NOT_CLASSIFIED
        return record(decide(features_of(chat), read, catalog, around), full=True)
    except CoeError as problem:
        return type(problem).__name__, problem.message, problem.code


@pytest.mark.parametrize("count", [5, 45])
def test_what_was_decided_before_changes_nothing(count):
    """Nothing remembered, in order, shuffled, in a registry that was loaded again: one and the same decision each."""
    draw = random.Random(count)
    catalog, other = a_registry(count), a_registry(count, cheaper=7)
    cases = [a_case(draw, catalog) for _ in range(150)]
    cold = [taken(case, replace(catalog)) for case in cases]
    assert [taken(case, catalog) for case in cases] == cold
    shuffled = draw.sample(range(len(cases)), len(cases))
    again = {place: taken(cases[place], catalog) for place in shuffled}
    assert [again[place] for place in range(len(cases))] == cold
    reloaded = a_registry(count)
    assert [taken(cases[place], reloaded) for place in shuffled] == [cold[place] for place in shuffled]
    assert [taken(case, other) for case in cases] == [taken(case, replace(other)) for case in cases] != cold
    kinds = [one["chosen"] for one in cold if isinstance(one, dict)]
    assert len(set(kinds)) > 5 < len(cases) - len(kinds)


def test_it_is_bounded():
    """Whatever requests ask for; and who came last is still there."""
    catalog = a_registry(9)
    for number in range(SHORTLISTS_MAX + 40):
        language = f"l{number}"
        decide(features_of(a_chat()), an_intent(language=language), catalog, Circumstances("d", NOW, ANONYMOUS))
    held = prepared(catalog).shortlists
    assert len(held) == SHORTLISTS_MAX
    assert [kind.language for _, kind in held][-1] == f"l{SHORTLISTS_MAX + 39}"


def test_what_is_used_is_kept():
    """The longest unused goes first."""
    catalog = a_registry(9)

    def ask(language):
        decide(features_of(a_chat()), an_intent(language=language), catalog, Circumstances("d", NOW, ANONYMOUS))

    ask("en")
    first = next(iter(prepared(catalog).shortlists.values()))
    for number in range(SHORTLISTS_MAX - 1):
        ask(f"l{number}")
    ask("en")
    ask("one more")
    assert first in prepared(catalog).shortlists.values()


def test_the_first_goes_when_there_are_too_many():
    """And the new one is there."""
    held = {"a": 1, "b": 2}
    assert keep(held, "c", 3, 2) == 3
    assert held == {"b": 2, "c": 3}


def test_a_wrong_name_is_not_remembered():
    """Only what means something: others have no end."""
    catalog = a_registry(5)
    for number in range(50):
        assert taken((a_chat(model=f"wrong {number}"), None, None), catalog)[0] == "NotFound"
    assert prepared(catalog).addresses == {}


def test_it_goes_with_the_registry():
    """Nothing else holds it."""
    catalog = a_registry(45)
    decide(features_of(a_chat()), an_intent(), catalog, Circumstances("d", NOW, ANONYMOUS))
    shortlist = weakref.ref(next(iter(prepared(catalog).shortlists.values())))
    assert shortlist() is not None
    del catalog
    gc.collect()
    assert shortlist() is None


def test_it_is_no_part_of_the_registry():
    """Equality, the name of what is on offer and `repr` don't see it; a copy begins afresh."""
    catalog, untouched = a_registry(5), a_registry(5)
    decide(features_of(a_chat()), an_intent(), catalog, Circumstances("d", NOW, ANONYMOUS))
    assert catalog == untouched
    assert catalog.offer == untouched.offer
    assert "prepared" not in repr(catalog)
    assert replace(catalog).prepared is None


def test_no_prompt_is_kept():
    """Not a word of it is reachable from what is remembered."""
    catalog, secret = a_registry(45), "canary-in-the-prompt"
    chat = a_chat(f"{secret} word " * 300, coe={"deny": ["m1"]})
    decide(features_of(chat), an_intent(), catalog, Circumstances("d", NOW, Caller("key_canary", "k")))
    seen: set[int] = set()
    stack: list[object] = [prepared(catalog)]
    while stack:
        one = stack.pop()
        if id(one) in seen or isinstance(one, type) or type(one).__name__ in ("module", "function"):
            continue
        seen.add(id(one))
        assert not (isinstance(one, str) and "canary" in one)
        assert one is not chat
        stack.extend(gc.get_referents(one))
    assert len(seen) > 500
