"""The view over a chat request: sizes, turns, and how tokens are estimated."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.chat_body import read_chat
from service.domain.chat import TURNS_READ, Sizes, count_characters, estimate_tokens, texts


def view(*messages, **members):
    return read_chat(json.dumps({"model": "auto", "messages": list(messages), **members}).encode(), {})


def said(role, content="x", **more):
    return {"role": role, "content": content, **more}


@pytest.mark.parametrize(
    ("text", "cjk"),
    [("", 0), ("abc", 0), ("中文", 2), ("a中b", 1), ("é", 0), ("éé", 1), ("😀", 1), ("。！", 2), ("\ud800", 1)],
)
def test_characters(text, cjk):
    """Three bytes of UTF-8 count as CJK; a surrogate on its own does no harm."""
    assert count_characters(text) == (len(text), cjk)


@given(st.text(), st.text())
def test_counts_are_bounded(one, two):
    """CJK is a part of the whole; a longer text is never fewer tokens."""
    characters, cjk = count_characters(one)
    assert 0 <= cjk <= 2 * characters
    more, more_cjk = count_characters(one + two)
    assert more == len(one) + len(two)
    assert more_cjk >= cjk


@pytest.mark.parametrize(
    ("characters", "cjk", "tokens"),
    [(0, 0, 0), (1, 0, 1), (4, 0, 1), (5, 0, 2), (400, 0, 100), (10, 10, 7), (110, 10, 32)],
)
def test_the_estimate(characters, cjk, tokens):
    """A quarter a character, 0.7 a CJK one, rounded up."""
    assert estimate_tokens(characters, cjk) == tokens


def test_prompt_tokens_are_a_sum():
    """Text, tools, messages, images."""
    assert Sizes(characters=400, messages=2).input_tokens == 100 + 8 + 3
    assert Sizes(characters=400, tool_characters=40, messages=1, images=2).input_tokens == 110 + 4 + 2000 + 3
    assert Sizes(last_user_characters=9, last_user_cjk_characters=9).last_user_tokens == 7


def test_turns_are_what_people_and_models_said():
    """Oldest first; system prompts, tool dumps and messages without text are left out; parts are joined."""
    chat = view(
        said("system", "s"), said("user", "1"), said("assistant", None, tool_calls=[{"id": "a"}]),
        said("tool", "dump"), said("assistant", "2"), said("developer", "d"), said("function", "f"),
        said("user", [{"type": "text", "text": "3"}, {"type": "image_url", "image_url": {"url": "https://e.org/a.png"}},
                      {"type": "text", "text": "4"}]),
    )  # fmt: skip
    assert chat.turns() == [("user", "1"), ("assistant", "2"), ("user", "3\n4")]


def test_turns_are_the_newest():
    """At most `TURNS_READ` of them."""
    chat = view(*[said("user", str(number)) for number in range(100)])
    assert chat.turns() == [("user", str(number)) for number in range(100 - TURNS_READ, 100)]


@pytest.mark.parametrize(
    ("role", "looping"), [("tool", True), ("function", True), ("user", False), ("assistant", False)]
)
def test_a_tool_loop_ends_in_a_tools_result(role, looping):
    """The newest message decides."""
    assert view(said("user"), said(role)).in_tool_loop is looping


@pytest.mark.parametrize(
    ("content", "found"),
    [("a", ["a"]), (None, []), (7, []), ([7, "x", {}], []), ([{"type": "text", "text": 7}], []),
     ([{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "no"}, {"type": "input_text", "text": "b"}], ["a", "no", "b"]),
     ([{"type": "file", "text": "hidden"}], [])],
)  # fmt: skip
def test_texts_of_a_content(content, found):
    """Text parts and refusals, in order; anything else has none."""
    assert list(texts(content)) == found
