"""Events of our own in a stream: well-formed, and passed over by clients that did not ask for them."""

from __future__ import annotations

import json
from types import SimpleNamespace

from openai.types.chat import ChatCompletionChunk

from service.errors import Broken
from service.stream_events import DONE_EVENT, error_event, resumed_event, stopped_events
from service.upstream.tally import Tally


def data_of(event):
    """The object in an event."""
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    return json.loads(event.removeprefix(b"data: "))


def test_an_error_has_the_shape_that_sdks_raise_on():
    """With a code that names the cause."""
    told = data_of(error_event(Broken("the vendor stopped sending", cause="timeout_idle")))
    assert told == {
        "error": {
            "message": "the vendor stopped sending",
            "type": "upstream_error",
            "param": None,
            "code": "stream_timeout_idle",
        }
    }


def test_going_on_is_a_chunk_without_choices():
    """The official SDK reads it as one that says nothing; what we tell is in `coe`."""
    told = data_of(resumed_event({"manner": "continue", "characters": 7}))
    chunk = ChatCompletionChunk.model_construct(**told)
    assert chunk.choices == []
    assert told["coe"] == {"resumed": {"manner": "continue", "characters": 7}}


def test_a_stream_that_is_stopped_ends_each_choice_that_is_open():
    """Those that have an end keep it; one that said nothing yet has one too."""
    tally = Tally(started=0.0, seen={0, 1, 2}, finished={1}, upstream_id="id-1", model="m")
    entry = SimpleNamespace(attempt_id="att_1", attempt_number=1, at_ms=1_700_000_000_000, wire_name="wire")
    row = SimpleNamespace(usage={"input": 7, "cache_read": 2, "output": 5, "reasoning": 1, "requests": 1})
    attempt = SimpleNamespace(tally=tally, entry=entry)
    for include_usage in (False, True):
        work = SimpleNamespace(attempts=[SimpleNamespace(row=row)], chat=SimpleNamespace(include_usage=include_usage))
        first, *rest = [one + b"\n\n" for one in stopped_events(work, attempt).split(b"\n\n")[:-1]]
        chunk = ChatCompletionChunk.model_validate(data_of(first))
        assert [(one.index, one.finish_reason) for one in chunk.choices] == [(0, "length"), (2, "length")]
        assert (chunk.id, chunk.model, data_of(first)["coe"]) == ("id-1", "m", {"stopped": "budget"})
        counts = [data_of(one)["usage"] for one in rest]
        assert counts == [{"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}] * include_usage
    silent = SimpleNamespace(tally=Tally(started=0.0), entry=entry)
    told = data_of(stopped_events(work, silent).split(b"\n\n")[0] + b"\n\n")
    assert (told["id"], told["model"], [one["index"] for one in told["choices"]]) == ("att_1", "wire", [0])


def test_the_end_is_the_protocols():
    """To the byte."""
    assert DONE_EVENT == b"data: [DONE]\n\n"
