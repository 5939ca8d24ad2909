"""What each quirk does to a request body, and that nothing else is touched."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.chat_body import read_chat
from service.domain.catalog import NARROWED_QUIRKS, Deployment, Provider
from service.domain.prices import PriceBook
from service.upstream.quirks import QUIRKS, STRICT_FIELDS, body_changes

ROOT = Path(__file__).resolve().parents[4]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


@pytest.fixture
def sent(chat, deployment):
    """The parsed body that goes out for a body and a list of quirks."""

    def send(*quirks, cap=None, wire_name="wire-1", **members):
        one = chat(**members)
        return json.loads(one.raw.edited(body_changes(one, deployment(*quirks, wire_name=wire_name), cap)))

    return send


def test_without_quirks_only_the_model_changes(sent):
    """The caller's fields stay; `coe` is ours and goes."""
    body = sent(temperature=0, store=True, seed=7, top_k=3, x_unknown={"a": [1]}, coe={"explain": True})
    assert body.pop("model") == "wire-1"
    assert body.pop("messages")
    assert body == {"temperature": 0, "store": True, "seed": 7, "top_k": 3, "x_unknown": {"a": [1]}}


@pytest.mark.parametrize(
    ("quirks", "said", "expected"),
    [
        (("max_tokens",), {"max_completion_tokens": 9}, {"max_tokens": 9}),
        (("max_tokens",), {"max_tokens": 9}, {"max_tokens": 9}),
        (("max_tokens",), {"max_tokens": 5, "max_completion_tokens": 9}, {"max_tokens": 5}),
        (("max_tokens",), {"max_tokens": 9, "max_completion_tokens": 5}, {"max_tokens": 5}),
        (("max_tokens",), {"max_completion_tokens": None}, {}),
        (("max_completion_tokens",), {"max_tokens": 9}, {"max_completion_tokens": 9}),
        (("max_completion_tokens",), {"max_tokens": 5, "max_completion_tokens": 9}, {"max_completion_tokens": 5}),
        ((), {"max_tokens": 5, "max_completion_tokens": 9}, {"max_tokens": 5, "max_completion_tokens": 9}),
        ((), {"max_tokens": None}, {"max_tokens": None}),
        (("strict_fields",), {"max_tokens": 9, "max_completion_tokens": 5}, {"max_tokens": 5}),
        (("strict_fields",), {"max_completion_tokens": 5}, {"max_tokens": 5}),
    ],
)
def test_the_cap_under_the_vendors_name(sent, quirks, said, expected):
    """Renamed where the vendor knows one name; of two, the lower one binds."""
    body = sent(*quirks, **said)
    assert {name: body[name] for name in ("max_tokens", "max_completion_tokens") if name in body} == expected


@pytest.mark.parametrize("quirks", [(), ("max_tokens",), ("max_completion_tokens",)])
@pytest.mark.parametrize(
    "said", [{}, {"max_tokens": 50}, {"max_completion_tokens": 50}, {"max_tokens": 50, "max_completion_tokens": 80}]
)
@pytest.mark.parametrize("cap", [10, 60, 1000])
def test_a_bound_of_ours_never_widens_the_callers(sent, quirks, said, cap):
    """Every cap in the body is at most ours and at most the lowest one the caller gave."""
    body = sent(*quirks, cap=cap, **said)
    caps = [body[name] for name in ("max_tokens", "max_completion_tokens") if name in body]
    assert caps
    if quirks:
        assert list(filter(None, (body.get(name) for name in quirks))) == caps
    assert min(caps) == min([cap, *said.values()])
    assert max(caps) == min(caps) or caps == list(said.values())


def test_developer_becomes_system_in_place(chat, deployment):
    """Only the role's bytes change: odd numbers, escapes, blanks and unknown fields of the messages stay as they are."""
    messages = (
        b'[ {"role" :"developer", "content":"a\\u2028b", "n": 12345678901234567890123, "x": 1e5 },'
        b'{"content":[{"type":"text","text":"developer"}],"role":"user"} , {"role":"\\u0064eveloper","content":"[{\\""}]'
    )
    one = chat(b'{"model":"auto","messages":' + messages + b"}")
    body = one.raw.edited(body_changes(one, deployment("no_developer_role"), None))
    expected = messages.replace(b'"developer", ', b'"system", ').replace(b'"\\u0064eveloper"', b'"system"')
    assert body == b'{"model":"wire-1","messages":' + expected + b"}".replace(b"auto", b"")
    untouched = chat(b'{"model":"auto","messages":[{"role":"user","content":"developer"}]}')
    assert "messages" not in body_changes(untouched, deployment("no_developer_role"), None)


def test_usage_is_asked_for_in_every_stream(sent):
    """The caller's other options stay; where the vendor refuses the field it goes, asked for or not."""
    assert "stream_options" not in sent()
    assert sent(stream=True)["stream_options"] == {"include_usage": True}
    options = {"include_obfuscation": False, "include_usage": False}
    assert sent(stream=True, stream_options=options)["stream_options"] == {**options, "include_usage": True}
    assert "stream_options" not in sent("no_stream_options", stream=True, stream_options={"include_usage": True})
    assert "stream_options" not in sent("no_stream_options", stream=True)


def test_refused_fields_go(sent):
    """`store`, and the sampling fields."""
    assert "store" not in sent("no_store", store=False)
    body = sent("no_sampling", temperature=1, top_p=0.5, top_k=4, presence_penalty=1)
    assert not {"temperature", "top_p", "top_k"} & body.keys()
    assert body["presence_penalty"] == 1


@pytest.mark.parametrize(
    ("said", "expected"), [(0, 0.01), (-0.0, 0.01), (0.01, 0.01), (0.7, 0.7), (1, 1), (1.01, 1), (2, 1), (None, None)]
)
def test_temperature_is_moved_into_the_vendors_range(sent, said, expected):
    """To the nearest allowed value; not at all where it is removed anyway."""
    assert sent("temperature_positive", temperature=said)["temperature"] == expected
    assert "temperature" not in sent("temperature_positive", "no_sampling", temperature=said)


def test_tool_streams_are_asked_for(sent):
    """Only for streams with tools, and not against the caller's own word."""
    assert sent("tool_stream", stream=True, tools=TOOLS)["tool_stream"] is True
    assert sent("tool_stream", stream=True, tools=TOOLS, tool_stream=False)["tool_stream"] is False
    assert "tool_stream" not in sent("tool_stream", stream=True)
    assert "tool_stream" not in sent("tool_stream", tools=TOOLS)
    assert "tool_stream" not in sent(stream=True, tools=TOOLS)


def test_tools_without_thinking(sent):
    """With tools the effort is none, whatever was asked; without tools it is the caller's."""
    assert sent("tools_effort_none", tools=TOOLS)["reasoning_effort"] == "none"
    assert sent("tools_effort_none", tools=TOOLS, reasoning_effort="high")["reasoning_effort"] == "none"
    assert sent("tools_effort_none", functions=[{"name": "f"}])["reasoning_effort"] == "none"
    assert sent("tools_effort_none", reasoning_effort="high")["reasoning_effort"] == "high"
    assert "reasoning_effort" not in sent("tools_effort_none", tools=[])


def test_strict_vendors_get_what_they_know(sent):
    """Unknown fields go; the seed goes under its own name."""
    body = sent(
        "strict_fields", "seed_field:random_seed", "max_tokens", "no_stream_options",
        seed=7, user="u", logit_bias={}, max_completion_tokens=9, stream=True, safe_prompt=True, coe={}, parallel_tool_calls=False,
    )  # fmt: skip
    assert set(body) <= STRICT_FIELDS
    assert (body["random_seed"], body["max_tokens"], body["safe_prompt"]) == (7, 9, True)


def test_the_seed_is_renamed_byte_for_byte(chat, deployment):
    """A big number stays as it was spelled; a seed given under the vendor's name wins; null is dropped."""
    one = chat(b'{"model":"auto","messages":[{"role":"user","content":"x"}],"seed":12345678901234567890123}')
    assert body_changes(one, deployment("seed_field:random_seed"), None)["random_seed"] == b"12345678901234567890123"
    both = chat(seed=1, random_seed=2)
    assert body_changes(both, deployment("seed_field:random_seed"), None) == {"model": b'"wire-1"', "seed": None}
    assert "random_seed" not in body_changes(chat(seed=None), deployment("seed_field:random_seed"), None)


@pytest.mark.parametrize(
    ("wire_name", "kept"), [("gemini-3.8-flash", False), ("gemini-2.5-flash-lite", True), ("x-gemini-3", True)]
)
def test_a_value_narrows_to_wire_names_that_begin_so(sent, deployment, wire_name, kept):
    """`no_sampling:gemini-3` leaves other models alone; without a value it concerns all."""
    assert ("temperature" in sent("no_sampling:gemini-3", wire_name=wire_name, temperature=1)) is kept
    assert ("reasoning_effort" not in sent("tools_effort_none:gemini-3", wire_name=wire_name, tools=TOOLS)) is kept
    assert deployment("no_sampling", wire_name=wire_name).concerned_by("no_sampling")
    assert not deployment(wire_name=wire_name).concerned_by("no_sampling")


@pytest.mark.parametrize(
    ("wire_name", "kept"),
    [("gemini-3.8-flash", False), ("gemini-4-argon", False), ("gemini-2.5-pro", True), ("gemini-3|gemini-4", False)],
)
def test_several_beginnings_are_alternatives(sent, wire_name, kept):
    """`a|b` concerns the names that begin with either, and still no other."""
    assert ("temperature" in sent("no_sampling:gemini-3|gemini-4", wire_name=wire_name, temperature=1)) is kept
    effort = sent("tools_effort_none:gemini-3|gemini-4", wire_name=wire_name, tools=TOOLS).get("reasoning_effort")
    assert effort == (None if kept else "none")


def test_which_quirks_can_be_narrowed():
    """What the registry lets a value narrow is what the table says of itself."""
    assert {name for name, meaning in QUIRKS.items() if "how the wire names begin" in meaning} == NARROWED_QUIRKS


BODY_QUIRKS = [
    "max_tokens", "max_completion_tokens", "no_developer_role", "no_stream_options", "no_store", "no_sampling",
    "temperature_positive", "tool_stream", "tools_effort_none", "strict_fields", "seed_field:random_seed",
]  # fmt: skip


@given(
    st.lists(st.sampled_from(BODY_QUIRKS), unique=True),
    st.fixed_dictionaries(
        {},
        optional={
            "max_tokens": st.none() | st.integers(1, 99),
            "max_completion_tokens": st.none() | st.integers(1, 99),
            "temperature": st.none() | st.floats(0, 2),
            "stream": st.booleans(),
            "stream_options": st.none() | st.just({"include_usage": True}) | st.just({}),
            "tools": st.just(TOOLS) | st.just([]),
            "seed": st.none() | st.integers(),
            "store": st.booleans(),
            "x_unknown": st.text(),
            "coe": st.just({}),
        },
    ),
    st.none() | st.integers(1, 99),
)
def test_quirks_in_any_combination_give_a_good_body(quirks, members, cap):
    """Valid JSON with model and messages; caps never above the caller's or ours; untouched members byte for byte."""
    raw = json.dumps({"messages": [{"role": "developer", "content": "x"}], "model": "auto", **members}).encode()
    chat = read_chat(raw, {})
    provider = Provider(
        "acme", "https://acme.example", quirks={q.partition(":")[0]: q.partition(":")[2] for q in quirks}
    )
    changes = body_changes(chat, Deployment(provider, "m", "wire-1", PriceBook("acme/m")), cap)
    body = json.loads(chat.raw.edited(changes))
    assert body["model"] == "wire-1"
    assert body["messages"][0]["role"] == ("system" if "no_developer_role" in quirks else "developer")
    caps = [body[name] for name in ("max_tokens", "max_completion_tokens") if body.get(name) is not None]
    given_caps = [members[name] for name in ("max_tokens", "max_completion_tokens") if members.get(name) is not None]
    if caps and given_caps:
        assert min(caps) <= min(given_caps)
    for name in members.keys() - changes.keys():
        assert body[name] == members[name]


UNUSED: dict[str, str] = {}
"""Quirks that no provider of the shipped registry has, each with the reason why the code is kept; none now."""


def test_every_quirk_is_known_and_used():
    """providers.yaml names nothing outside the table, and nothing in the table is there for nobody."""
    text = (ROOT / "providers.yaml").read_text(encoding="utf-8")
    used = {
        quirk.strip().partition(":")[0]
        for line in re.findall(r"^    quirks: \[([^\]]*)\]", text, re.MULTILINE)
        for quirk in line.split(",")
    }
    assert used - QUIRKS.keys() == set()
    assert QUIRKS.keys() - used == UNUSED.keys()
    assert all(len(meaning) > 10 for meaning in [*QUIRKS.values(), *UNUSED.values()])
