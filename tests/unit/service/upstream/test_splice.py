"""The text of two streams put together is one text, or the second one breaks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.catalog import Deployment, Provider
from service.domain.prices import PriceBook
from service.errors import Broken
from service.upstream.protocols.openai_chat import OpenAIChat
from service.upstream.splice import TOLD_CHARACTERS_MAX, Splice, Told

WIRE = OpenAIChat()
DEPLOYMENT = Deployment(Provider("p", "https://p.example/v1"), "m", "m-wire", PriceBook("p/m"))


def an_event(delta=None, finish=None, **more):
    """The data of an event of one choice."""
    choices = [{"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}]
    return json.dumps({"id": "1", "choices": choices, **more}).encode()


def through(splice, *events):
    """(the deltas and finish reasons that go on, their text); raises Broken."""
    going, texts = [], []
    for data in events:
        signal = WIRE.signal(data, DEPLOYMENT, asked_for_usage=True)
        raw, text = splice.given(b"data: %b\n\n" % data, data, signal)
        texts.append(text)
        if raw:
            event = json.loads(raw.removeprefix(b"data: "))
            assert raw.endswith(b"\n\n")
            going += [(one["delta"], one["finish_reason"]) for one in event["choices"]] or [event["usage"]]
    return going, "".join(texts)


def a_splice(repeats=""):
    """A splice over the real protocol."""
    return Splice(repeats, WIRE.without_beginning)


def words(*pieces, role=False):
    """Events that say these pieces, the first with the role, where wanted."""
    deltas = [{"content": one} for one in pieces]
    if role:
        deltas[0]["role"] = "assistant"
    return [an_event(one) for one in deltas]


def test_what_goes_on_at_once_goes_on_without_a_second_role():
    """A client adds up what deltas say: `assistantassistant` is no role."""
    going, text = through(
        a_splice(),
        an_event({"role": "assistant", "content": ""}),
        *words("and ", "then", role=True),
        an_event({}, "stop"),
    )
    assert going == [({"content": "and "}, None), ({"content": "then"}, None), ({}, "stop")]
    assert text == "and then"


@given(st.text(min_size=1, max_size=30), st.text(max_size=30), st.lists(st.integers(1, 7), min_size=1))
def test_what_is_repeated_is_left_out_wherever_it_is_cut(told, rest, sizes):
    """Any split of the second stream gives exactly the rest."""
    whole, pieces, at = told + rest, [], 0
    while at < len(whole):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(whole[at : at + size])
        at += size
    going, text = through(a_splice(told), *words(*pieces), an_event({}, "stop"))
    assert text == rest
    assert "".join(delta.get("content", "") for delta, _ in going) == rest
    assert going[-1][1] == "stop"


@pytest.mark.parametrize(
    "events",
    [
        words("Hello", " where"),
        words("hello there"),
        [*words("Hello"), an_event({}, "stop")],
        [an_event({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]})],
        [an_event({"refusal": "no"})],
    ],
    ids=["other words", "other letters", "shorter", "a tool", "a refusal"],
)
def test_another_answer_breaks_the_stream(events):
    """Nothing of it goes to the caller: not a letter of two answers mixed."""
    with pytest.raises(Broken) as caught:
        through(a_splice("Hello there"), *events)
    assert caught.value.cause == "diverged"


def test_thinking_anew_is_left_out_and_usage_goes_on():
    """The caller has the thinking, or wants none; the vendor's numbers are worth having."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    thought = an_event({"reasoning_content": "hm"})
    counted = json.dumps({"id": "1", "choices": [], "usage": usage}).encode()
    going, text = through(a_splice("Hel"), thought, *words("Hel", "lo"), an_event({}, "stop"), counted)
    assert (going, text) == ([({"content": "lo"}, None), ({}, "stop"), usage], "lo")


def test_the_last_piece_may_carry_the_end():
    """Text and finish reason in one event, as some vendors send them; the finish alone when its text is known."""
    both = [*words("Hel"), an_event({"content": "lo"}, "stop")]
    assert through(a_splice("Hel"), *both) == ([({"content": "lo"}, "stop")], "lo")
    assert through(a_splice("Hello"), *both) == ([({"content": ""}, "stop")], "")


def test_numbers_and_letters_that_json_writers_stumble_over_stay():
    """Half an emoji, integers of any size: what the lenient reader takes, the writer writes."""
    data = b'{"id":"1","big":123456789012345678901234567890,"choices":[{"index":0,"delta":{"role":"a","content":"a\\ud83d"}}]}'
    read = json.loads(WIRE.without_beginning(data, 1))
    assert (read["big"], read["choices"][0]["delta"]) == (123456789012345678901234567890, {"content": "\ud83d"})


def test_what_was_told_is_noted_and_bounded():
    """Text adds up; anything but text, or too much of it, is not gone on with."""
    told = Told()
    for data in words("one ", "二"):
        signal = WIRE.signal(data, DEPLOYMENT, asked_for_usage=True)
        told.note(signal, signal.text)
    assert (told.text, told.characters, told.pieces, told.resumable) == ("one 二", 5, 2, True)
    for delta in ({"reasoning_content": "hm"}, {"tool_calls": [{"index": 0}]}, {"content": [{"text": "x"}]}):
        other = Told()
        other.note(WIRE.signal(an_event(delta), DEPLOYMENT, asked_for_usage=True), "")
        assert other.resumable is False, delta
    told.begin_at("三 fo", 7)
    assert (told.text, told.characters, told.pieces) == ("三 fo", 4, 7)
    long = words("x" * TOLD_CHARACTERS_MAX, "y")
    signals = [WIRE.signal(data, DEPLOYMENT, asked_for_usage=True) for data in long]
    much = Told()
    much.note(signals[0], signals[0].text)
    assert much.resumable
    much.note(signals[1], signals[1].text)
    much.note(signals[0], signals[0].text)
    assert not much.resumable
    assert much._texts == [], "what is not gone on with is not kept"


def test_characters_that_come_in_halves_are_put_together_and_half_ones_are_not_gone_on_with():
    """An emoji over two events is one; half of one can't be sent to anybody."""
    told = Told()
    for half in ("a\ud83d", "\ude00"):
        told.note(WIRE.signal(an_event({"content": half}), DEPLOYMENT, asked_for_usage=True), half)
    assert told.text == "a\U0001f600"
    told.note(WIRE.signal(an_event({"content": "\ud83d"}), DEPLOYMENT, asked_for_usage=True), "\ud83d")
    assert told.text is None


def test_thinking_beside_text_or_the_end_is_left_out():
    """Also where it stands in the same event."""
    both = an_event({"content": " lo", "reasoning_content": "hm", "role": "assistant"})
    going, text = through(a_splice(), both, an_event({"reasoning": "hm"}, "stop"))
    assert (going, text) == ([({"content": " lo"}, None), ({}, "stop")], " lo")


def test_usage_beside_an_empty_choice_goes_on():
    """As LiteLLM sends it."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    event = an_event({}, None, usage=usage)
    signal = WIRE.signal(event, DEPLOYMENT, asked_for_usage=True)
    assert a_splice("known").given(b"raw", event, signal) == (b"raw", "")


def test_what_can_not_be_written_again_breaks_the_stream_in_order():
    """A delta that is none, and one that is nested too deeply: no fault of ours comes of it."""
    odd = json.dumps({"choices": [{"index": 0, "delta": "x", "finish_reason": "stop"}]}).encode()
    assert json.loads(WIRE.without_beginning(odd, 1))["choices"][0]["delta"] == "x"
    deep = b'{"choices":[{"index":0,"delta":{"content":"a"}}],"x":' + b"[" * 1_500 + b"]" * 1_500 + b"}"
    with pytest.raises(Broken) as caught:
        WIRE.without_beginning(deep, 0)
    assert caught.value.cause == "malformed_answer"
