"""A decision told: complete for the caller, without content for the journal, exact and small."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenery import NOW, a_catalog, a_chat, a_model, an_intent, decided

from service.domain.access import ANONYMOUS, Caller
from service.domain.catalog import Provider
from service.domain.experience import Experience
from service.domain.features import features_of
from service.domain.money import Fx, Multiplier, PriceQuote, Rates, Tier
from service.routing.explain import FIGURES_KEPT, RANKED_KEPT, cost_split, reasoned, record
from service.routing.router import decide
from service.routing.weighing import Circumstances

MODELS = [a_model(f"m{number:02}", (number + 1, number + 2), quality=0.9 - number / 100) for number in range(12)]
OFF = a_model("off", at=(Provider("q", "https://q.example", inactive_reason="set Q_KEY"),))
CATALOG = a_catalog(*MODELS, OFF, baseline="m11")
PROMPT = "confidential merger with Umbrella"
SURE = an_intent("coding", terms=(("confidential", 2.123456), ("Umbrella", -1.0)))


def test_the_stored_record_holds_no_content():
    """No term, no word of the prompt: it goes to the journal for ever."""
    told = record(decided(a_chat(PROMPT, user="u-1"), CATALOG, intent=SURE))
    text = orjson.dumps(told).decode()
    for word in ("confidential", "merger", "Umbrella", "u-1", "terms"):
        assert word not in text


def test_the_full_record_adds_the_evidence_and_everybody():
    """Terms with weights, every candidate, every rejected one with its own reason, what would have to change."""
    decision = decided(a_chat(PROMPT), CATALOG, intent=SURE)
    told, stored = record(decision, full=True), record(decision)
    assert told["intent"]["terms"] == [{"term": "confidential", "weight": 2.123}, {"term": "Umbrella", "weight": -1.0}]
    assert len(told["candidates"]) == 12
    assert len(stored["candidates"]) == RANKED_KEPT
    assert told["rejected"][0]["reason"] == "inactive: set Q_KEY"
    assert stored["rejected"] == {"inactive": ["q/off"]}
    assert set(told) - set(stored) == {"what_if"}
    assert set(stored) - set(told) == {"figures"}


def test_both_tell_the_same_of_what_both_tell():
    """One structure: the stored one leaves out and never says otherwise."""
    decision = decided(a_chat(PROMPT), CATALOG, intent=SURE)
    told, stored = record(decision, full=True), record(decision)
    del told["intent"]["terms"]
    for name in set(told) & set(stored) - {"candidates", "rejected"}:
        assert told[name] == stored[name], name
    for full, kept in zip(told["candidates"], stored["candidates"], strict=False):
        assert {name: full[name] for name in kept} == kept


def test_what_a_record_says():
    """Chosen, runner-up, margin, versions, limits: what a reader and a replay need."""
    caller = Caller("key_1", "somebody", tags=frozenset({"hr", "dev"}), policies=frozenset({"balanced"}))
    decision = decided(a_chat("hi", coe={"max_cost_usd": 0.5}), CATALOG, caller=caller)
    told = record(decision)
    assert (told["chosen"], told["runner_up"]) == ("p/m00", "p/m01")
    assert told["versions"] == dict(decision.versions)
    assert told["caller"] == {"tags": ["dev", "hr"], "policies": ["balanced"]}
    assert told["features"] == features_of(a_chat("hi", coe={"max_cost_usd": 0.5})).plain()
    assert (told["ceiling_usd"], told["degraded"], told["judged_by"]) == ("0.5", [], ["factual_qa"])
    assert (told["propensity"], told["seed"]) == (1.0, None)
    assert (told["at"], told["created_ms"]) == (NOW.isoformat(), int(NOW.timestamp() * 1000))
    assert told["baseline"]["model"] == "m11"
    first = told["candidates"][0]
    assert first["price_version"] == "p/m00@2026-01-01"
    assert first["expected_cost_usd"].startswith("0.000")
    assert first["reason"]
    assert orjson.loads(orjson.dumps(told)) == told
    assert "somebody" not in orjson.dumps(told).decode()


def test_the_figures_of_all_are_kept():
    """In the order of the registry, with the order that they gave: whom the first five leave out is not lost."""
    decision = decided(a_chat(), CATALOG)
    figures = record(decision)["figures"]
    assert sorted(figures["order"]) == list(range(12))
    for place, one in zip(figures["order"], decision.ranked, strict=True):
        assert figures["expected_cost_pusd"][place] == one.expected_cost_pusd
        assert figures["quality_steps"][place] == round(one.quality * 10_000)
    assert figures["eligible"] == sum(one.eligible for one in decision.ranked)
    other = decided(a_chat(), a_catalog(*MODELS, replace(OFF, inactive_reason="another reason"), baseline="m11"))
    assert record(other)["figures"]["reasons"] != figures["reasons"]


def test_the_figures_of_many_are_told_as_a_digest():
    """So that a line does not grow with the registry; another figure of anybody gives another digest."""
    many = [a_model(f"m{number:03}", (number + 1, number + 2)) for number in range(FIGURES_KEPT + 1)]
    told = record(decided(a_chat(), a_catalog(*many)))["figures"]
    assert (told["able"], set(told)) == (FIGURES_KEPT + 1, {"able", "digest", "eligible", "reasons"})
    dearer = [*many[:-1], a_model("m064", (65, 67))]
    assert record(decided(a_chat(), a_catalog(*dearer)))["figures"]["digest"] != told["digest"]
    assert set(record(decided(a_chat(), a_catalog(*many[:-1])))["figures"]) >= {"order", "quality_steps"}
    absurd = [*many[:-1], a_model("m064", (10**16, 10**16))]  # a cost beyond 64 bits is a figure like others
    assert record(decided(a_chat(), a_catalog(*absurd)))["figures"]["digest"] != told["digest"]


def test_telling_builds_only_the_choice():
    """A request waits for its record."""
    decision = decided(a_chat(), CATALOG)
    record(decision)
    assert [one is not None for one in decision.ranked._built] == [True] + [False] * 11  # laziness has no other face
    assert all(one is None for one in decision.rejected._built)  # as above


def test_reasons_are_worked_out_for_who_asks():
    """The first few with all they are told with, which is more than the record holds and never something else."""
    decision = decided(a_chat(), CATALOG)
    stored, found = record(decision), reasoned(decision)
    assert len(found["candidates"]) == RANKED_KEPT
    assert all(one["reason"] for one in found["candidates"])
    for kept, told in zip(stored["candidates"], found["candidates"], strict=True):
        assert {name: told[name] for name in kept} == kept
    assert found["what_if"] == record(decision, full=True)["what_if"]


def test_the_posterior_is_told_with_every_digit():
    """Rounded, it could not be decided upon again."""
    posterior = {"coding": 1 / 3, "math": 2 / 3}
    told = record(decided(a_chat(), CATALOG, intent=an_intent("coding", posterior=posterior)))
    assert orjson.loads(orjson.dumps(told))["intent"]["posterior"] == posterior


def test_one_candidate_has_no_runner_up():
    """`None`, not itself."""
    assert record(decided(a_chat(), a_catalog(a_model("m"))))["runner_up"] is None


def test_what_would_have_to_change_is_told_in_the_units_of_the_contract():
    """Money as exact decimals, shares as numbers, open ends left out."""
    told = record(decided(a_chat(), CATALOG), full=True)["what_if"]
    second = next(one for one in told["alternatives"] if "runner_up" in one["as"])
    assert second["deployment"] == "p/m01"
    price = next(one for one in second["wins_if"] if one["lever"] == "expected_cost_usd")
    assert Fraction(price["at_most"]) < Fraction(price["now"])
    assert "at_least" not in price
    assert set(told["policies"]) == {"cheap", "best"}


COUNTS = st.integers(0, 10**6)
RATES = st.builds(Rates, COUNTS, COUNTS, cache_read=st.none() | COUNTS, reasoning=st.none() | COUNTS, requests=COUNTS)


@given(
    rates=RATES,
    higher=RATES,
    multiplier=st.sampled_from([Multiplier(), Multiplier(2), Multiplier(1, 3)]),
    fx=st.sampled_from([Fx(), Fx("CNY", 140_600_000)]),
    tokens=st.tuples(st.integers(1, 5_000), COUNTS, COUNTS),
    choices=st.integers(1, 4),
    share=st.floats(0, 1),
)
def test_a_cost_split_adds_up(rates, higher, multiplier, fx, tokens, choices, share):
    """To the expected cost, to the pico-USD; each part is its count at its rate but for what rounding leaves."""
    quote = PriceQuote("v", rates, fx, multiplier, (Tier(2_000, higher),))
    put, out, hidden = tokens
    cached = int(put * share)
    applied = quote.rates_for(put)
    factor = Fraction(multiplier.numerator * fx.nano_usd, multiplier.denominator * 10**9)
    at = {
        "cached": cached * (applied.input if applied.cache_read is None else applied.cache_read),
        "output": out * applied.output,
        "reasoning": hidden * choices * (applied.output if applied.reasoning is None else applied.reasoning),
        "input": (put - cached) * applied.input + applied.requests,
    }
    one = replace(
        decided(a_chat(), CATALOG).chosen,
        quote=quote,
        input_tokens=put,
        output_tokens=out,
        reasoning_tokens=hidden,
        cached_tokens=cached,
        expected_cost_pusd=round(sum(at.values()) * factor),
    )
    split = cost_split(one, choices)
    assert sum(split.values()) == one.expected_cost_pusd
    for name, raw in at.items():
        assert abs(split[name] - raw * factor) <= 3, name
    assert cost_split(replace(one, expected_cost_pusd=None), choices) is None


def test_a_warm_prefix_is_told():
    """What is read from a cache, in tokens and in money, and what was known to be warm."""
    model = a_model("m", (10, 20), rates={"cache_read": 10**6})
    asked = features_of(a_chat("word " * 4_000))
    known = Experience(warm_tokens={"p/m": 4_096})
    around = Circumstances("dec_1", NOW, ANONYMOUS, experience=known)
    told = record(decide(asked, an_intent(), a_catalog(model), around), full=True)
    first = told["candidates"][0]
    assert first["cached_tokens"] == 4_096
    assert first["cost_split_usd"]["cached"] == "0.004096"
    assert told["experience"] == {"warm_tokens": {"p/m": 4_096}}


@pytest.mark.parametrize("price", [(1, 2), None])
def test_an_unknown_price_stays_unknown(price):
    """Never 0."""
    told = record(decided(a_chat(), a_catalog(a_model("m", price))), full=True)["candidates"][0]
    assert (told["expected_cost_usd"] is None) == (price is None)
    assert (told["cost_split_usd"] is None) == (price is None)
