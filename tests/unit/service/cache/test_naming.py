"""What makes two requests the same, and what keeps them apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenery import POLICIES, a_catalog, a_chat, a_model, decided

from service.api.chat_body import read_chat
from service.cache.naming import NAME_BYTES, name_of
from service.domain.catalog import PolicySpec, RouteCondition, RouteSpec

SECRET = b"s" * 32
CAN = frozenset({"n", "tools", "json_object"})
MODELS = [a_model(one, capabilities=CAN, tags=frozenset({"tagged"}) if one == "o" else frozenset()) for one in "mno"]
CATALOG = a_catalog(*MODELS)
ZEALOUS = a_catalog(*MODELS, policies={**POLICIES, "balanced": PolicySpec("balanced")})
ROUTED = a_catalog(*MODELS, routes=(RouteSpec("all", RouteCondition(), policy="balanced"),))


def name(chat, key_id="key_1", secret=SECRET, catalog=CATALOG):
    return name_of(secret, key_id, chat, decided(chat, catalog), catalog.offer)


def test_the_same_is_the_same():
    """In every process: nothing but the arguments counts. The order of members and blanks around them do not."""
    one = read_chat(b'{"model":"auto","messages":[{"role":"user","content":"x"}],"temperature":0}', {})
    two = read_chat(b'{ "temperature" : 0, "messages":[{"role":"user","content":"x"}] , "model": "auto"}', {})
    assert name(one) == name(two)
    assert len(name(one)) == NAME_BYTES


def test_who_asks_counts():
    """Every key is a tenant; who has none is another one than a key of any name."""
    names = [name(a_chat(), key) for key in ("key_1", "key_2", "anonymous", "", "nonymous", None)]
    assert len(set(names)) == len(names)


def test_the_secret_counts():
    """Another pepper, other names."""
    assert name(a_chat()) != name(a_chat(), secret=b"t" * 32)


@pytest.mark.parametrize(
    "change",
    [
        {"text": "hello "},
        {"model": "m"},
        {"stream": True},
        {"stream": False},
        {"stream_options": {"include_usage": True}},
        {"temperature": 0},
        {"temperature": 0.0},
        {"seed": 1},
        {"n": 2},
        {"max_tokens": 7},
        {"user": "anna"},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"nobody_knows": None},
        {"coe": {"policy": "cheap"}},
        {"coe": {"min_quality": 0.5}},
        {"coe": {"max_cost_usd": 0.5}},
        {"coe": {"allow": ["m"]}},
        {"coe": {"deny": ["m"]}},
        {"coe": {"allow": {"tags": ["tagged"]}}},
        {"coe": {"plan": "single"}},
        {"coe": {"session": "s"}},
        {"coe": {"tags": ["t"]}},
        {"headers": {"x-coe-tags": "t,u"}},
    ],
    ids=lambda one: str(one)[:40],
)
def test_whatever_may_change_the_answer_counts(change):
    """Also what the router does not know."""
    assert name(a_chat(**change)) != name(a_chat())


@pytest.mark.parametrize(
    "said",
    [{"explain": True}, {"max_latency_ms": 5_000}, {"no_fallback": True}, {"resume": True}, {"cache": True}, {}],
    ids=str,
)
def test_how_it_is_told_and_how_soon_does_not(said):
    """None of these leads to another answer."""
    assert name(a_chat(coe=said)) == name(a_chat())
    assert name(a_chat(headers={"x-coe-explain": "true"})) == name(a_chat())


def test_numbers_that_a_parser_takes_for_the_same_are_two():
    """A seed beyond 64 bits is a float to most parsers, and to them it is its neighbour."""
    head = b'{"model":"auto","messages":[{"role":"user","content":"x"}],"seed":'
    one, two = (read_chat(head + digits + b"}", {}) for digits in (b"36893488147419103232", b"36893488147419103233"))
    assert one.body["seed"] == two.body["seed"]
    assert name(one) != name(two)


def test_the_rules_that_apply_count():
    """Another policy of the same name, a route, another registry: whatever was decided by them is not given."""
    names = [name(a_chat(), catalog=one) for one in (CATALOG, ZEALOUS, ROUTED)]
    assert len(set(names)) == len(names)


def test_sets_have_one_spelling():
    """The order of tags and lists is nobody's."""
    for field in ("tags", "allow", "deny"):
        one, two = (a_chat(coe={field: words}) for words in (["m", "n"], ["n", "m"]))
        assert name(one) == name(two)


def test_no_part_runs_into_the_next():
    """Put together without their lengths these would be the same bytes."""
    assert name(a_chat(x=1, x2=3)) != name(a_chat(x1x2=3))
    assert name(a_chat(x=12)) != name(a_chat(x1=2))


@given(st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=4))
def test_another_body_has_another_name(members):
    """Whatever its members are."""
    extra = {f"x{key}": value for key, value in members.items()}
    assert (name(a_chat(**extra)) == name(a_chat())) == (not extra)
