"""Events of our own in a stream: well-formed, and passed over by clients that did not ask for them."""

from __future__ import annotations

import json

from openai.types.chat import ChatCompletionChunk

from service.errors import Broken
from service.stream_events import DONE_EVENT, error_event, resumed_event


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


def test_the_end_is_the_protocols():
    """To the byte."""
    assert DONE_EVENT == b"data: [DONE]\n\n"
