"""What a decision may know of a request: read from the chat, told and read back exactly, without content."""

from __future__ import annotations

from dataclasses import fields

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenery import a_chat

from service.domain.catalog import Selector
from service.domain.chat import Sizes, Steering
from service.domain.features import EFFORTS, SERVICE_TIERS, RequestFeatures, features_of, from_plain
from service.domain.plain import PlainError

NAMES = st.text(max_size=8)
COUNTS = st.integers(0, 2**53)
SELECTORS = st.builds(Selector, **{one.name: st.frozensets(NAMES, max_size=3) for one in fields(Selector)})
LIMITS = st.builds(
    Steering,
    policy=st.none() | NAMES,
    min_quality=st.none() | st.floats(0, 1),
    max_cost_pusd=st.none() | st.integers(0, 10**18),
    max_latency_ms=st.none() | COUNTS,
    allow=SELECTORS,
    deny=SELECTORS,
    plan=st.none() | NAMES,
)
FEATURES = st.builds(
    RequestFeatures,
    model=NAMES,
    needs=st.frozensets(NAMES, max_size=3),
    modalities=st.frozensets(NAMES, max_size=3),
    sizes=st.builds(Sizes, **{one.name: COUNTS for one in fields(Sizes)}),
    n=COUNTS,
    output_tokens_max=st.none() | COUNTS,
    stream=st.booleans(),
    in_tool_loop=st.booleans(),
    forced_tool=st.booleans(),
    effort=st.sampled_from(sorted(EFFORTS)),
    service_tier=st.none() | st.sampled_from(sorted(SERVICE_TIERS)),
    steering=LIMITS,
)


@given(FEATURES)
def test_told_and_read_back_they_are_the_same(features):
    """Through JSON as the journal writes it; every digit of a float, every bit of a whole number."""
    assert from_plain(orjson.loads(orjson.dumps(features.plain()))) == features


def test_every_field_is_told():
    """A field that was forgotten would come back as its default, and the property above might not see it."""
    told = RequestFeatures("auto").plain()
    expected = {one.name for one in fields(RequestFeatures)} - {"sizes", "steering"}
    assert set(told) == expected | {one.name for one in fields(Sizes)} | {"limits", "input_tokens"}
    assert RequestFeatures("auto", sizes=Sizes(characters=400)).plain()["input_tokens"] == 103


@pytest.mark.parametrize(
    ("said", "tier"),
    [(None, None), ("priority", "priority"), ("default", None), ("auto", None), ("mine", None), (3, None)],
)
def test_the_service_tier_that_is_asked_for(said, tier):
    """Those that vendors have a price for; an older record knows none."""
    features = features_of(a_chat(**({} if said is None else {"service_tier": said})))
    assert features.service_tier == tier
    assert from_plain(features.plain()) == features
    older = {name: value for name, value in features.plain().items() if name != "service_tier"}
    assert from_plain(older).service_tier is None


def test_what_is_read_from_a_chat():
    """The fields of its view, and the limits; what is not a limit is left out."""
    chat = a_chat(
        "说 hello",
        max_tokens=9,
        n=2,
        stream=True,
        tools=[{"type": "function", "function": {"name": "f"}}],
        tool_choice="required",
        coe={"min_quality": 0.57, "deny": ["x"], "session": "s", "tags": ["t"], "explain": True, "no_fallback": True},
    )
    found = features_of(chat)
    assert (found.model, found.needs, found.modalities, found.sizes) == (
        "auto",
        chat.needs,
        chat.modalities,
        chat.sizes,
    )
    assert (found.n, found.output_tokens_max, found.stream, found.in_tool_loop) == (2, 9, True, False)
    assert found.steering == Steering(min_quality=0.57, deny=Selector(any_of=frozenset({"x"})))


@pytest.mark.parametrize(
    ("choice", "forced"),
    [
        (None, False),
        ("auto", False),
        ("none", False),
        ("required", True),
        ({"type": "function", "function": {"name": "f"}}, True),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}, False),
    ],
)
def test_a_forced_tool(choice, forced):
    """Whether an answer must call one."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert features_of(a_chat(tools=tools, **({"tool_choice": choice} if choice else {}))).forced_tool is forced


@pytest.mark.parametrize(
    ("body", "effort"),
    [
        ({}, "default"),
        ({"reasoning_effort": "high"}, "high"),
        ({"reasoning": {"effort": "low"}}, "low"),
        ({"reasoning": {"effort": None}}, "default"),
        ({"reasoning_effort": "my secret"}, "other"),
        ({"reasoning_effort": 3}, "other"),
    ],
)
def test_effort(body, effort):
    """Under either name; a word that vendors don't know is nobody's business."""
    assert features_of(a_chat(**body)).effort == effort


def test_there_is_no_content():
    """Not of the prompt, the user, a tool; nor any hash of them: two prompts of one size have the same features."""
    tools = [{"type": "function", "function": {"name": "canary_tool", "description": "canary"}}]
    told = orjson.dumps(
        features_of(a_chat("canary prompt", user="canary", tools=tools, coe={"tags": ["canary"]})).plain()
    )
    assert b"canary" not in told
    assert features_of(a_chat("one secret")) == features_of(a_chat("other text"[:10]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 1.0),
        ("n", True),
        ("model", None),
        ("needs", "tools"),
        ("stream", 1),
        ("limits", []),
        ("limits", {"min_quality": "1"}),
        ("limits", {"allow": {"models": [1]}}),
        ("output_tokens_max", "9"),
    ],
)
def test_anything_else_is_refused(name, value):
    """By field, without the value; nothing is converted."""
    told = {**RequestFeatures("auto").plain(), name: value}
    with pytest.raises(PlainError) as caught:
        from_plain(told)
    assert str(caught.value).startswith("`")
    del told[name]
    with pytest.raises(PlainError, match=f"has no `{name}`"):
        from_plain(told)


def test_of_steering_only_what_limits_the_choice_is_kept():
    """The same object where nothing else was said: most requests say nothing at all."""
    bare = a_chat()
    assert features_of(bare).steering is bare.steering
    limited = a_chat(coe={"policy": "best", "max_cost_usd": 1})
    assert features_of(limited).steering is limited.steering
    for more in ({"session": "s"}, {"tags": ["t"]}, {"explain": True}, {"no_fallback": True}):
        said = a_chat(coe={"policy": "best", "max_cost_usd": 1, **more})
        assert said.steering != limited.steering
        assert features_of(said).steering == limited.steering
