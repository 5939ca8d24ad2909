"""What the model says: words, JSON, tool calls, and where the cap cuts."""

import json

import pytest

from service.simulator.answers import text_tokens
from service.simulator.composing import BadRequest, compose, read_chat
from service.simulator.script import Fault, Script

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    for name in ("weather", "clock")
]


def one(body, script=None):
    """The only choice of the answer."""
    (choice,) = compose(read_chat(json.dumps(body).encode()), script or Script(), 1)
    return choice


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["hello"]}, "messages"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": "7"}, "max_completion_tokens"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"stream_options": "yes"}, "stream_options"),
    ],
)
def test_bad_fields_are_refused(ask, change, param):
    """As a real vendor refuses them, with the field's name."""
    with pytest.raises(BadRequest) as refused:
        read_chat(json.dumps(ask(**change)).encode())
    assert refused.value.param == param
    assert refused.value.status == 400


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_bad_bytes_are_refused(raw):
    """Also what blows up a parser's stack."""
    with pytest.raises(BadRequest):
        read_chat(raw)


def test_smaller_cap_counts(ask):
    """Both names at once."""
    assert read_chat(json.dumps(ask(max_tokens=9, max_completion_tokens=5)).encode()).cap == 5


def test_cap_cuts_text_and_says_length(ask):
    """Exactly at the cap, and `stop` when it just fits."""
    whole = one(ask())
    size = text_tokens(whole.content)
    assert whole.finish_reason == "stop"
    assert one(ask(max_tokens=size)).finish_reason == "stop"
    cut = one(ask(max_tokens=size - 3))
    assert cut.finish_reason == "length"
    assert whole.content.startswith(cut.content)
    assert text_tokens(cut.content) == size - 3


def test_cap_is_for_thinking_and_words_together(ask):
    """4 tokens of thinking leave 2 for words; 9 leave none."""
    little = one(ask(max_tokens=6), Script(reasoning="abcd" * 4))
    assert (little.reasoning_tokens, text_tokens(little.content), little.finish_reason) == (4, 2, "length")
    nothing = one(ask(max_tokens=6), Script(hidden_reasoning_tokens=9))
    assert (nothing.reasoning_tokens, nothing.content, nothing.finish_reason) == (6, "", "length")


def test_json_object_and_schema(ask):
    """Both are JSON; the schema's value has the schema's shape."""
    assert json.loads(one(ask(response_format={"type": "json_object"})).content)["simulated"] is True
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]}
    asked = ask(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    assert json.loads(one(asked).content) == {"n": 3}


def test_schema_without_value_is_a_400(ask):
    """As OpenAI refuses an invalid schema."""
    asked = ask(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": []}}})
    with pytest.raises(BadRequest, match="Invalid schema"):
        one(asked)
    with pytest.raises(BadRequest, match="missing"):
        one(ask(response_format={"type": "json_schema"}))


def test_tools_are_called_with_arguments_from_their_schema(ask):
    """One call by default, several when the script says so, ids all different."""
    choice = one(ask(tools=TOOLS))
    assert [call.name for call in choice.calls] == ["weather"]
    assert json.loads(choice.calls[0].arguments) == {"city": "simulated city"}
    assert (choice.content, choice.finish_reason) == (None, "tool_calls")
    three = one(ask(tools=TOOLS), Script(tool_calls=3))
    assert [call.name for call in three.calls] == ["weather", "clock", "weather"]
    assert len({call.id for call in three.calls}) == 3


def test_tool_choice_is_obeyed(ask):
    """none, required, a name, no parallel calls, and words after a result."""
    named = {"type": "function", "function": {"name": "clock"}}
    result = [{"role": "user", "content": "hi"}, {"role": "tool", "tool_call_id": "1", "content": "12:00"}]
    assert one(ask(tools=TOOLS, tool_choice="none")).calls == ()
    assert len(one(ask(tools=TOOLS, tool_choice="required"), Script(tool_calls=0)).calls) == 1
    assert [call.name for call in one(ask(tools=TOOLS, tool_choice=named), Script(tool_calls=3)).calls] == ["clock"]
    assert len(one(ask(tools=TOOLS, parallel_tool_calls=False), Script(tool_calls=3)).calls) == 1
    assert one(ask(tools=TOOLS, messages=result)).calls == ()
    assert len(one(ask(tools=TOOLS, messages=result, tool_choice="required")).calls) == 1
    with pytest.raises(BadRequest, match="nobody"):
        one(ask(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "nobody"}}))


def test_cap_cuts_tool_arguments(ask):
    """Name (2 tokens) and three of the arguments' tokens fit into 5; the rest is cut and says so."""
    choice = one(ask(tools=TOOLS, max_tokens=5))
    assert choice.finish_reason == "length"
    assert choice.calls[0].arguments == '{"city": "si'
    assert one(ask(tools=TOOLS, max_tokens=1)).calls == ()


def test_script_has_the_last_word(ask):
    """Fixed answer, refusal, finish reason, a giant text."""
    assert one(ask(tools=TOOLS), Script(answer="no")).content == "no"
    refused = one(ask(), Script(refusal="I can't."))
    assert (refused.content, refused.refusal) == (None, "I can't.")
    assert one(ask(), Script(finish_reason="content_filter")).finish_reason == "content_filter"
    assert len(one(ask(max_tokens=1), Script(fault=Fault.GIANT_LINE, giant_bytes=5000)).content) == 5000


def test_n_choices_differ(ask):
    """Three choices, three seeds."""
    choices = compose(read_chat(json.dumps(ask(n=3)).encode()), Script(), 1)
    assert len(choices) == 3
