"""Every entry of `PROTOCOLS`: the least that any wire protocol must do, whatever a caller or a vendor sends."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import a_chat, a_model

from service.domain.catalog import Provider
from service.domain.chat import count_characters
from service.domain.ports import Answer, StreamSignal
from service.errors import Broken, Replied, UpstreamError
from service.upstream.protocols import PROTOCOLS

KEY = "key-canary-0123456789"
PROVIDER = Provider("v", "https://v.example/base/", api_keys=(KEY,), headers={"x-team": "t"})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**13), 10**13) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "usage",
                    "error",
                    "code",
                    "delta",
                    "message",
                    "index",
                    "finish_reason",
                    "content",
                    "id",
                    "model",
                    "prompt_tokens",
                    "completion_tokens",
                    "cost",
                    "tool_calls",
                    "function",
                    "arguments",
                    "base_resp",
                    "status_code",
                    "type",
                    "text",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
BYTES = st.binary(max_size=60) | JSON.map(orjson.dumps)
pytestmark = pytest.mark.parametrize("name", PROTOCOLS)


def deployment(name):
    """A deployment at a vendor that speaks a protocol."""
    return a_model("m", at=(replace(PROVIDER, protocol=name),)).deployments[0]


def sent(name, *, cap=None, **body):
    """The upstream request for a chat."""
    return PROTOCOLS[name].request(a_chat(**body), deployment(name), api_key=KEY, output_tokens_cap=cap)


def test_it_is_listed_under_its_own_name(name):
    """The registry names it by this."""
    assert PROTOCOLS[name].name == name


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_goes_to_its_provider_and_nowhere_else(name, stream):
    """Its base URL, its headers, the wire name; undecoded answers; what is ours stays here."""
    request = sent(name, stream=stream, coe={"tags": ["canary-tag"]})
    headers = dict(request.headers)
    assert request.method == "POST"
    assert request.url.startswith("https://v.example/base/")
    assert "//" not in request.url.removeprefix("https://")
    assert headers["x-team"] == "t"
    assert headers["accept-encoding"] == "identity"
    assert b"m-wire" in request.body + request.url.encode()
    assert b"canary-tag" not in request.body


def test_the_key_stands_in_a_header_alone(name):
    """Neither in the URL nor in the body, which are logged by proxies, nor in `repr`."""
    request = sent(name)
    assert any(KEY in value for _, value in request.headers)
    assert KEY not in request.url
    assert KEY.encode() not in request.body
    assert KEY not in repr(request)
    without = PROTOCOLS[name].request(a_chat(), deployment(name), api_key=None, output_tokens_cap=None)
    assert not any(KEY in value for _, value in without.headers)


def numbers(value):
    """Every integer in a JSON value."""
    if isinstance(value, dict):
        return [found for one in value.values() for found in numbers(one)]
    if isinstance(value, list):
        return [found for one in value for found in numbers(one)]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else []


@pytest.mark.parametrize(
    ("given", "cap", "expected"), [(777, None, 777), (None, 333, 333), (777, 333, 333), (333, 777, 333)]
)
def test_the_lower_cap_goes_out(name, given, cap, expected):
    """A caller's cap is never widened, and ours is never dropped."""
    body = {} if given is None else {"max_tokens": given}
    found = numbers(orjson.loads(sent(name, cap=cap, **body).body))
    assert expected in found
    assert not {777, 333} & set(found) - {expected}


@settings(max_examples=200, deadline=None)
@given(data=BYTES)
def test_any_answer_is_read_or_refused(name, data):
    """No vendor makes us fail in a way that is not an `UpstreamError`."""
    try:
        answer = PROTOCOLS[name].answer(data, deployment(name))
    except UpstreamError:
        return
    assert isinstance(answer, Answer)
    assert answer.output_characters >= answer.cjk_characters >= 0


@settings(max_examples=200, deadline=None)
@given(data=BYTES, asked=st.booleans())
def test_any_event_is_read_or_refused(name, data, asked):
    """The same for streams."""
    try:
        signal = PROTOCOLS[name].signal(data, deployment(name), asked_for_usage=asked)
    except UpstreamError:
        return
    assert isinstance(signal, StreamSignal)
    assert set(signal.finished_choices) <= set(signal.seen_choices)


@settings(max_examples=200, deadline=None)
@given(data=BYTES, status=st.integers(100, 599), wait=st.text(max_size=6) | st.just("1e99") | st.just("-1"))
def test_any_refusal_is_an_error_fit_for_its_reader(name, data, status, wait):
    """A vendor's words only where the caller is at fault; waits are bounded; nothing of a success status."""
    problem = PROTOCOLS[name].refusal(status, {"retry-after": wait}, data, deployment(name))
    assert isinstance(problem, Replied)
    assert problem.upstream_status == status
    assert problem.cause
    assert problem.retry_after_s is None or 0 <= problem.retry_after_s <= 86_400
    if problem.passthrough:
        assert 400 <= problem.status < 500
        assert problem.status not in (401, 403, 404, 429)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_no_refusal_repeats_our_key_and_no_401_its_text(name, status):
    """Vendors quote the key they refuse."""
    text = f"Incorrect API key provided: {KEY}. canary-words"
    body = orjson.dumps({"error": {"message": text, "type": "x", "param": None, "code": "y"}})
    problem = PROTOCOLS[name].refusal(status, {}, body, deployment(name))
    assert KEY not in problem.message
    if status in (401, 403):
        assert "canary-words" not in problem.message
        assert problem.cause == "auth_failed"


@pytest.mark.parametrize("data", [b"", b"<html>no</html>", b"[]", b"null", b"{}", b'{"choices":[]}'])
def test_what_is_no_answer_is_broken(name, data):
    """An empty 200 is not a success."""
    with pytest.raises((Broken, Replied)):
        PROTOCOLS[name].answer(data, deployment(name))


TEXT_EVENTS = JSON.flatmap(
    lambda extra: st.builds(
        lambda text, index, more: orjson.dumps(
            {"id": "c", "choices": [{"index": index, "delta": {"content": text}, "finish_reason": None}], **more}
        ),
        st.text(min_size=1, max_size=4),
        st.integers(0, 3),
        st.sampled_from(
            [{}, {"obfuscation": "aB"}, {"obfuscation": extra}, {"model": "m", "created": 7}, {"x": extra}]
        ),
    )
)


@settings(max_examples=200, deadline=None)
@given(data=TEXT_EVENTS | BYTES, text=st.text(min_size=1, max_size=6), padding=st.sampled_from(["a", "zZ0 ,:{}"]))
def test_with_another_text_an_event_says_the_same(name, data, text, padding):
    """What a frame promises: whatever stands in its gaps, all but the text is as in the event that it was taken from."""
    wire, at = PROTOCOLS[name], deployment(name)
    frame = wire.text_frame(data, at)
    if frame is None:
        return
    inside = orjson.dumps(text)[1:-1]
    other = frame.before + inside + frame.after + (padding.encode() + frame.end if frame.end else b"")
    before = wire.signal(data, at, asked_for_usage=False)
    after = wire.signal(other, at, asked_for_usage=False)
    characters, cjk = count_characters(text)
    assert before.content
    assert not any((before.hide, before.done, before.error, before.finished_choices, before.usage))
    assert after == before._replace(output_characters=characters, cjk_characters=cjk, text="" if after.thinks else text)
