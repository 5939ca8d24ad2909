"""OpenAI's objects and chunks."""

import json

import pytest

from service.simulator.answers import prompt_tokens, text_tokens
from service.simulator.completion import chunks, unary
from service.simulator.composing import compose, read_chat
from service.simulator.script import Script, UsagePlace

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"properties": {"a": {"type": "string"}}}}}


def made(body, script=None):
    """The unary object, its bill, and the events of the same request's stream."""
    script = script or Script()
    asked = read_chat(json.dumps(body).encode())
    choices = compose(asked, script, 1)
    answer, usage = unary(asked, script, choices, 1, 1_000)
    return answer, usage, list(chunks(asked, script, choices, 1, 1_000))


def put_together(events, index):
    """What a client assembles for one choice: content, thinking, refusal, calls by position, finish reason."""
    content, thinking, refusal, calls, finish = "", "", "", {}, None
    for event in events:
        for choice in event.payload["choices"]:
            if choice["index"] != index:
                continue
            delta = choice["delta"]
            content += delta.get("content") or ""
            thinking += delta.get("reasoning_content") or ""
            refusal += delta.get("refusal") or ""
            for part in delta.get("tool_calls", []):
                call = calls.setdefault(part["index"], {"arguments": ""})
                call.update({key: part[key] for key in ("id", "type") if key in part})
                call["name"] = part["function"].get("name", call.get("name"))
                call["arguments"] += part["function"]["arguments"]
            finish = choice["finish_reason"] or finish
    return content, thinking, refusal, calls, finish


@pytest.mark.parametrize(
    ("change", "script"),
    [
        ({}, Script()),
        ({"n": 3}, Script(chunks=2)),
        ({"tools": [TOOL]}, Script(tool_calls=3)),
        ({"n": 2, "tools": [TOOL]}, Script()),
        ({}, Script(reasoning="first this, then that")),
        ({}, Script(refusal="I can't help with that.")),
        ({"max_tokens": 7}, Script(reasoning="abcd" * 3)),
        ({"messages": [{"role": "user", "content": "请写一首诗"}]}, Script()),
    ],
)
def test_stream_joined_is_the_unary_answer(ask, change, script):
    """Same texts, same calls, same finish reasons, same bill."""
    answer, usage, events = made(ask(**change), script)
    for index, choice in enumerate(answer["choices"]):
        message = choice["message"]
        content, thinking, refusal, calls, finish = put_together(events, index)
        assert content == (message["content"] or "")
        assert thinking == message.get("reasoning_content", "")
        assert refusal == (message["refusal"] or "")
        assert [(call["id"], call["name"], call["arguments"]) for call in calls.values()] == [
            (call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls", [])
        ]
        assert finish == choice["finish_reason"]
    assert events[-1].usage == usage


def test_bill_by_hand(ask):
    """Prompt by the rule, completion the words, thinking apart."""
    body = ask()
    answer, usage, _ = made(body, Script(answer="abcde", hidden_reasoning_tokens=6, cached_tokens=2))
    assert usage.input == prompt_tokens(body) - 2
    assert (usage.cache_read, usage.output, usage.reasoning) == (2, 2, 6)
    assert answer["usage"]["completion_tokens"] == 8


def test_bill_grows_with_each_chunk(ask):
    """None before content, then the whole prompt and the words so far."""
    _, _, events = made(ask(), Script(answer="abcdefgh", chunks=2))
    bills = [event.usage for event in events]
    assert bills[0] is None
    assert [bill.output for bill in bills[1:]] == [1, 2, 2]
    assert bills[1].input == prompt_tokens(ask())


def test_role_first_finish_last_usage_after(ask):
    """The order that clients rely on, for every choice."""
    _, _, events = made(ask(n=2, stream_options={"include_usage": True}))
    kinds = [
        "usage"
        if not event.payload["choices"]
        else "role"
        if "role" in event.payload["choices"][0]["delta"]
        else "finish"
        if event.payload["choices"][0]["finish_reason"]
        else "content"
        for event in events
    ]
    assert kinds[:2] == ["role", "role"]
    assert kinds[-3:] == ["finish", "finish", "usage"]
    assert set(kinds[2:-3]) == {"content"}
    assert [event.content for event in events] == [kind == "content" for kind in kinds]


def usages(body, place):
    """The `usage` of each payload that has one, and how many have `choices: []`."""
    _, _, events = made(body, Script(answer="abcdefgh", chunks=2, usage_place=place))
    found = [event.payload["usage"] for event in events if event.payload.get("usage")]
    return found, sum(1 for event in events if not event.payload["choices"])


def test_usage_places(ask):
    """Each place, asked for and not."""
    asked = ask(stream_options={"include_usage": True})
    assert usages(ask(), UsagePlace.AS_ASKED) == ([], 0)
    found, extra = usages(asked, UsagePlace.AS_ASKED)
    assert (len(found), extra) == (1, 1)
    assert found[0]["completion_tokens"] == text_tokens("abcdefgh")
    assert [len(usages(ask(), place)[0]) for place in (UsagePlace.ALWAYS, UsagePlace.TWICE)] == [1, 2]
    assert [usages(ask(), place)[1] for place in (UsagePlace.ALWAYS, UsagePlace.TWICE)] == [1, 2]
    assert [len(found) for found in (usages(ask(), UsagePlace.LAST_CONTENT)[0],)] == [1]
    assert usages(ask(), UsagePlace.LAST_CONTENT)[1] == 0
    cumulative, _ = usages(ask(), UsagePlace.EVERY_CHUNK)
    assert [one["completion_tokens"] for one in cumulative] == [1, 2, 2]


def test_asked_usage_is_null_on_other_chunks(ask):
    """As OpenAI documents it."""
    _, _, events = made(ask(stream_options={"include_usage": True}))
    assert all(event.payload["usage"] is None for event in events[:-1])
    _, _, events = made(ask())
    assert all("usage" not in event.payload for event in events)


def test_logprobs(ask):
    """One entry per piece, in both forms, with the alternatives asked for."""
    answer, _, events = made(ask(logprobs=True, top_logprobs=2), Script(answer="one two"))
    entries = answer["choices"][0]["logprobs"]["content"]
    assert [entry["token"] for entry in entries] == ["one", " two"]
    assert [len(entry["top_logprobs"]) for entry in entries] == [2, 2]
    streamed = [
        entry["token"]
        for event in events
        if event.content
        for entry in event.payload["choices"][0]["logprobs"]["content"]
    ]
    assert streamed == ["one", " two"]
    assert made(ask())[0]["choices"][0]["logprobs"] is None


def test_envelope(ask):
    """What the script changes of it."""
    answer, usage, _ = made(ask(), Script(served_model="m1-0915", service_tier="flex"))
    assert (answer["model"], answer["service_tier"], usage.service_tier) == ("m1-0915", "flex", "flex")
    assert made(ask())[0]["model"] == "m1"
