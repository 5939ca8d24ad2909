"""The chat wire: what goes out, what an answer and an event say."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.catalog import Deployment, Provider
from service.domain.money import Usage
from service.domain.prices import PriceBook
from service.errors import Broken, Replied
from service.upstream.protocols import PROTOCOLS, openai_chat
from service.upstream.protocols.openai_chat import OpenAIChat

WIRE = OpenAIChat()
KEY = "sk-vendor-secret-0123456789"


def event(*choices, **more):
    return json.dumps({"id": "c1", "model": "served", "choices": list(choices), **more}).encode()


def delta(finish=None, index=0, **fields):
    return {"index": index, "delta": fields, "finish_reason": finish}


@pytest.fixture
def read(deployment):
    """The signal of an event's data."""

    def signal(data, *quirks, asked=False):
        return WIRE.signal(data, deployment(*quirks), asked_for_usage=asked)

    return signal


def test_it_is_in_the_table():
    """Under the name that providers.yaml uses."""
    assert isinstance(PROTOCOLS["openai_chat"], OpenAIChat)
    assert WIRE.name == "openai_chat"


def test_the_request(chat, deployment):
    """Where it goes, with which headers; the body is the caller's bytes but for the model."""
    raw = b'{ "messages" : [{"role":"user","content":"\\u4e2d\\u2028 1"}], "x":1.50e3,"model":"auto", "big":12345678901234567890 }'
    request = WIRE.request(chat(raw), deployment(headers={"x-org": "o1"}), api_key=KEY, output_tokens_cap=None)
    assert (request.method, request.url) == ("POST", "https://acme.example/v1/chat/completions")
    assert request.body == raw.replace(b'"auto"', b'"wire-1"')
    headers = dict(request.headers)
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["accept-encoding"] == "identity"
    assert headers["accept"] == "application/json"
    assert headers["x-org"] == "o1"
    assert KEY not in repr(request)
    assert "\\u4e2d" not in repr(request)


def test_a_stream_is_asked_for(chat, deployment):
    """With usage; without a key there is no authorization; our cap is sent where the caller gave none."""
    request = WIRE.request(chat(stream=True), deployment("max_tokens"), api_key=None, output_tokens_cap=77)
    headers = dict(request.headers)
    assert headers["accept"] == "text/event-stream"
    assert "authorization" not in headers
    body = json.loads(request.body)
    assert (body["stream_options"], body["max_tokens"]) == ({"include_usage": True}, 77)


def test_an_answer(deployment):
    """Usage, names, how much was written, whether it ended."""
    message = {"role": "assistant", "content": "巴黎 is it", "reasoning_content": "hmm", "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]}  # fmt: skip
    body = {"id": "c1", "model": "m-2", "service_tier": "flex", "choices": [{"message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 6}}  # fmt: skip
    answer = WIRE.answer(json.dumps(body).encode(), deployment())
    assert answer.usage == Usage(input=5, output=6, service_tier="flex")
    assert (answer.id, answer.model, answer.finished) == ("c1", "m-2", True)
    assert (answer.output_characters, answer.cjk_characters) == (8 + 3 + 1 + 7, 2)
    body["choices"].append({"message": {"content": None}, "finish_reason": None})
    assert not WIRE.answer(json.dumps(body).encode(), deployment()).finished


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "malformed_answer"), (b"<html>", "malformed_answer"), (b"[]", "malformed_answer"), (b"null", "malformed_answer"),
        (b'{"choices":[{"message":{"content":"x', "malformed_answer"), (b"{}", "no_choices"), (b'{"choices":[]}', "no_choices"),
        (b'{"choices":{}}', "no_choices"), (b'{"choices":[1]}', "no_choices"), (b'{"choices":[{"message":"x"}]}', "no_choices"),
        (b"[" * 5000, "malformed_answer"),
    ],
)  # fmt: skip
def test_what_is_no_answer(deployment, body, cause):
    """A 200 that makes no sense is broken, and may be billed."""
    with pytest.raises(Broken) as broken:
        WIRE.answer(body, deployment())
    assert (broken.value.cause, broken.value.billed) == (cause, "maybe")


def test_an_error_in_a_200(deployment):
    """Is the vendor's refusal."""
    with pytest.raises(Replied) as error:
        WIRE.answer(b'{"code":336501,"msg":"slow"}', deployment())
    assert error.value.cause == "rate_limited"


@pytest.mark.parametrize("usage", [None, [], "x", 7, {"prompt_tokens": -1, "completion_tokens": 2}])
def test_usage_that_cannot_be_read(deployment, usage):
    """The answer stands; the usage is missing, with a flag where there was one."""
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage}
    answer = WIRE.answer(json.dumps(body).encode(), deployment())
    assert answer.usage is None
    assert answer.usage_flags == (("prompt_tokens_negative",) if isinstance(usage, dict) else ())


CONTENT = [
    ({"content": "hi"}, 2), ({"reasoning_content": "hm"}, 2), ({"reasoning": "hm"}, 2), ({"refusal": "no"}, 2),
    ({"reasoning": "hm", "reasoning_content": "hm"}, 2), ({"content": " "}, 1),
    ({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "f", "arguments": ""}}]}, 1),
    ({"tool_calls": [{"index": 0, "function": {"arguments": '{"'}}]}, 2),
    ({"function_call": {"name": "f", "arguments": "{}"}}, 3), ({"audio": {"id": "a"}}, 0),
    ({"content": [{"type": "text", "text": "hi"}]}, 2), ({"images": [{"image_url": {"url": "data:"}}]}, 0),
    ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}, 2),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "characters"), CONTENT)
def test_content_is_seen(read, fields, characters):
    """Anything of an answer commits the stream: text, thinking, refusal, part of a call."""
    signal = read(event(delta(role="assistant", **fields)))
    assert signal.content
    assert signal.output_characters == characters
    assert (signal.seen_choices, signal.finished_choices) == ((0,), ())


@pytest.mark.parametrize(
    "fields",
    [{}, {"role": "assistant"}, {"role": "assistant", "content": ""}, {"content": None, "refusal": None, "tool_calls": []},
     {"content": 7}, {"content": []}, {"content": [7]}, {"tool_calls": None}],
)  # fmt: skip
def test_no_content_is_no_content(read, fields):
    """Roles, empty strings and nulls commit nothing."""
    assert not read(event(delta(**fields))).content


@pytest.mark.parametrize(("reason", "ended"), [("stop", True), ("length", True), ("tool_calls", True), ("content_filter", True),
                                               (None, False), ("", False), ("null", False)])  # fmt: skip
def test_only_a_reason_finishes(read, reason, ended):
    """Some vendors send an empty reason with every chunk."""
    assert read(event(delta(reason, content="x"))).finished_choices == ((0,) if ended else ())


def test_choices_are_told_apart(read):
    """By index; a missing or odd index is 0."""
    signal = read(event(delta(index=1, content="a"), delta("stop", index=2), {"delta": {}}, {"index": "x"}))
    assert (signal.seen_choices, signal.finished_choices) == ((1, 2, 0, 0), (2,))


def test_the_usage_chunk_is_hidden_from_who_did_not_ask(read):
    """Only the extra one without choices; usage on a content chunk is the vendor's own way."""
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    extra = event(usage=usage)
    assert read(extra).hide
    assert not read(extra, asked=True).hide
    assert read(extra).usage == Usage(input=3, output=4)
    assert not read(event(delta(content="x"), usage=usage)).hide
    assert read(event({"index": 0, "delta": {}}, usage=usage)).hide, "LiteLLM's usage chunk"
    assert not read(event({"index": 0, "delta": {"role": "assistant"}}, usage=usage)).hide
    assert not read(event({"index": 0, "delta": {}, "finish_reason": "stop"}, usage=usage)).hide
    assert not read(event(usage=None)).hide
    assert not read(event(prompt_filter_results=[])).hide
    assert read(event(usage={"prompt_tokens": 1, "completion_tokens": -1})).usage_flags == (
        "completion_tokens_negative",
    )


@pytest.mark.parametrize("data", [b"[DONE]", b" [DONE] ", b"[DONE]\n"])
def test_the_end_event(read, data):
    """With or without blanks."""
    assert read(data).done


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'"x"', b"DONE", b'{"choices":[1]}', b"[" * 5000])
def test_malformed_events(read, data):
    """Are broken, not ignored: something of the answer is missing."""
    with pytest.raises(Broken) as broken:
        read(data)
    assert broken.value.cause == "malformed_answer"


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b'{"error":{"message":"m","type":"server_error","code":null}}', "error_in_200"),
        (b'{"code":"rate_limit_exceeded","msg":"m"}', "rate_limited"),
        (b'{"base_resp":{"status_code":1002,"status_msg":"m"}}', "rate_limited"),
        (event(delta("error"), error={"code": 502, "message": "m"}), "http_502"),
        (event(delta("error")), "error_in_200"),
    ],
)
def test_error_events(read, data, cause):
    """In every vendor's spelling."""
    signal = read(data)
    assert signal.error.cause == cause
    assert not signal.content


def test_names_are_bounded(read):
    """They go into the ledger."""
    signal = read(json.dumps({"id": "i" * 5000, "model": 7, "choices": []}).encode())
    assert (len(signal.id), signal.model) == (200, None)


def test_refusals(deployment):
    """Are read by `openai_errors`."""
    assert WIRE.refusal(429, {"retry-after": "3"}, b"", deployment()).retry_after_s == 3


def _deployment(*quirks):
    """As the fixture makes it, for a test that runs many times."""
    provider = Provider("acme", "https://acme.example/v1/", quirks=dict.fromkeys(quirks, ""))
    return Deployment(provider, "model-1", "wire-1", PriceBook("acme/model-1"))


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "index": st.sampled_from([0, 1, "0", None, True]),
                "finish_reason": st.sampled_from([None, "", "stop", "error"]),
            },
            optional={
                "delta": st.one_of(
                    st.none(),
                    st.fixed_dictionaries(
                        {},
                        optional={
                            "content": st.sampled_from([None, "", "hi", "中文", ["x"], 7]),
                            "role": st.just("assistant"),
                            "reasoning": st.sampled_from(["", "hm"]),
                        },
                    ),
                ),
                "error": st.sampled_from([None, {"code": 500}]),
                "logprobs": st.none(),
            },
        ),
        max_size=2,
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "usage": st.sampled_from([None, {}, {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}]),
            "error": st.sampled_from([None, {"message": "no"}]),
            "base_resp": st.sampled_from([{"status_code": 0}, {"status_code": 1002}]),
            "model": st.sampled_from([None, "", "m", 5]),
        },
    ),
    st.sampled_from([(), ("error_in_200",)]),
    st.booleans(),
)
def test_the_short_way_says_what_the_long_way_says(choices, more, quirks, asked):
    """Plain content is told without looking for anything else; whatever looks otherwise takes the long way."""
    data = json.dumps({"id": "c1", "choices": choices, **more}).encode()

    def told():
        try:
            found = WIRE.signal(data, _deployment(*quirks), asked_for_usage=asked)
        except Broken as problem:
            return problem.cause
        return found._replace(error=None if found.error is None else found.error.cause)

    short = told()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(openai_chat, "_plain_content", lambda _parsed: None)
        assert told() == short


def test_the_short_way_is_taken():
    """By what nearly every event is; else it would be no use."""
    assert openai_chat._plain_content(json.loads(event(delta(content="hi")))) is not None
    assert openai_chat._plain_content(json.loads(event(delta(content="hi", role="assistant")))) is None


def frame_of(data, deployment, *quirks):
    """The frame of an event's data."""
    return WIRE.text_frame(data, deployment(*quirks))


@pytest.mark.parametrize("name", ["content", "reasoning_content", "reasoning"])
@pytest.mark.parametrize("separators", [None, (",", ":")])
def test_what_stands_around_a_text(deployment, name, separators):
    """Up to its quotes, in either spelling; a text with quotes of its own is one text."""
    data = json.dumps(json.loads(event(delta(**{name: 'say "no", \\'}))), separators=separators).encode()
    frame = frame_of(data, deployment)
    assert data == frame.before + rb"say \"no\", \\" + frame.after
    assert frame.end == b""


def test_what_hides_the_length_of_a_text_is_a_gap_too(deployment):
    """OpenAI writes something new into every event; nobody reads it."""
    data = event(delta(content="Hi"), obfuscation="aB3")
    frame = frame_of(data, deployment)
    assert data == frame.before + b"Hi" + frame.after + b"aB3" + frame.end
    assert frame_of(event(delta(content="Hi"), x={"obfuscation": "aB3"}), deployment) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[DONE]",
        b'"content":"a"',
        b'["content":"a"]',
        event(),
        event(delta(content="")),
        event(delta(content=None)),
        event(delta(content=["a"])),
        event(delta(role="assistant", content="a")),
        event(delta(content="a", finish="stop")),
        event(delta(content="a"), delta(content="b", index=1)),
        event(delta(content="a"), usage={}),
        event(delta(content="a"), error="no"),
        event(delta(content="a", index=None)),
        event(delta(tool_calls=[{"function": {"content": "a"}}])),
        event(delta(refusal="a")),
        event(delta(content="a", index=0), content="b").replace(b'"id": "c1", ', b'"content": "c", '),
        event(delta(content="a")).replace(b'"content": "a"', b'"content": "a", "content": "b"'),
        event(delta(content="a")).replace(b'"index": 0', b'"index": NaN'),
        event(delta(content="a text that no vendor sends")),
        event(delta(content="\ud83d")),
    ],
)
def test_what_has_no_frame(deployment, data):
    """Other events, and those in which another text decides, or several do."""
    assert frame_of(data, deployment) is None


def test_a_vendor_that_hides_errors_has_no_frames(deployment):
    """With the quirk every event is looked at."""
    data = event(delta(content="a"))
    assert frame_of(data, deployment) is not None
    assert frame_of(data, deployment, "error_in_200") is None
