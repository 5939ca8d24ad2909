"""Which answers are whole."""

from __future__ import annotations

import orjson
import pytest

from service.cache.finished import stream_is_finished, whole_is_finished


def whole(*reasons, **more):
    choices = [
        {"index": place, "message": {"role": "assistant", "content": "x"}, "finish_reason": reason}
        for place, reason in enumerate(reasons)
    ]
    return orjson.dumps({"choices": choices, **more})


def events(*chunks, end="\n\n"):
    return "".join(
        f"data: {one if isinstance(one, str) else orjson.dumps(one).decode()}{end}" for one in chunks
    ).encode()


def delta(content="x", reason=None, index=0, **more):
    return {"choices": [{"index": index, "delta": {"content": content, **more}, "finish_reason": reason}]}


def test_a_whole_answer_has_every_choice_at_its_own_end():
    assert whole_is_finished(whole("stop"), 1)
    assert whole_is_finished(whole("stop", "stop"), 2)
    assert not whole_is_finished(whole("stop"), 2)
    assert not whole_is_finished(whole("stop", "stop"), 1)


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls", "function_call", "error", "", None, 1])
def test_any_other_end_is_none(reason):
    assert not whole_is_finished(whole("stop", reason), 2)
    assert not stream_is_finished(events(delta(), delta(reason=reason)), 1)


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"<html>", b'{"choices":null}', b'{"choices":[1]}', b'{"choices":[]}', whole("stop")[:-3]],
)
def test_what_is_no_completion_is_not_whole(body):
    assert not whole_is_finished(body, 1)


def test_an_error_beside_choices_is_an_error():
    assert not whole_is_finished(whole("stop", error={"message": "x"}), 1)
    assert not stream_is_finished(events(delta(), delta(reason="stop"), {"error": {"message": "x"}}), 1)


def test_tool_calls_are_not_whole_whatever_the_reason_says():
    """Some vendors end them with `stop`."""
    called = {"choices": [{"message": {"tool_calls": [{"id": "1"}]}, "finish_reason": "stop"}]}
    assert not whole_is_finished(orjson.dumps(called), 1)
    assert not stream_is_finished(events(delta(tool_calls=[{"index": 0}]), delta(reason="stop")), 1)
    assert not stream_is_finished(events(delta(function_call={"name": "f"}), delta(reason="stop")), 1)


def test_a_stream_is_whole_when_each_choice_has_ended():
    assert stream_is_finished(events(delta(), delta(reason="stop")), 1)
    assert stream_is_finished(events(delta(), delta("", "stop"), {"choices": [], "usage": {}}), 1)
    assert stream_is_finished(events(delta(index=1), delta(), delta("", "stop"), delta("", "stop", index=1)), 2)
    assert stream_is_finished(events(delta(), delta(reason="stop"), end="\r\n\r\n"), 1)
    assert stream_is_finished(b": comment\n\n" + events(delta(reason="stop")), 1)


def test_a_stream_that_lacks_something_is_not():
    assert not stream_is_finished(events(delta()), 1)
    assert not stream_is_finished(events(delta(reason="stop"), delta(index=1)), 2)
    assert not stream_is_finished(events(delta(reason="stop")), 2)
    assert not stream_is_finished(b"", 1)
    assert not stream_is_finished(events(delta(reason="stop"))[:-1], 1), "its last event has no end"
    assert not stream_is_finished(events(delta(), "{half", delta(reason="stop")), 1)
    assert not stream_is_finished(events(delta(reason="stop"), {"choices": [1]}), 1)
    assert not stream_is_finished(events(delta(reason="stop"), {"choices": "x"}), 1)
