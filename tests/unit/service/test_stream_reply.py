"""A stream to its end, on the real app over real sockets: whole, broken, explained."""

from __future__ import annotations

import json

import httpx
import openai
import pytest

from service.simulator import Fault, Script

BODY = {"model": "auto", "messages": [{"role": "user", "content": "explain umbrella mergers"}]}


def test_a_stream_that_breaks_ends_with_an_error_event(serving):
    """I8: the official SDK raises; no [DONE]; the row says how it ended."""
    app, _ = serving({"alpha": Script(fault=Fault.CUT), "beta": Script()})
    with httpx.stream(
        "POST", f"{app.url}/v1/chat/completions", json={**BODY, "stream": True}, trust_env=False
    ) as reply:
        decision = reply.headers["x-coe-decision-id"]
        text = b"".join(reply.iter_raw()).decode()
    assert "[DONE]" not in text
    last = [line for line in text.splitlines() if line.startswith("data: ")][-1]
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["type"] == "upstream_error"
    assert error["code"].startswith("stream_")
    ((_, (end,)),) = app.books.attempts(decision)
    assert (end["state"], end["ended"]) == ("estimated", error["code"].removeprefix("stream_"))
    client = openai.OpenAI(base_url=f"{app.url}/v1", api_key="x", max_retries=0)
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(**BODY, stream=True))


def test_stream_explanation_comes_before_done(serving):
    """A chunk without choices that strict clients skip, only when it was asked for."""
    app, _ = serving({"alpha": Script()})
    text = app.chat(stream=True, coe={"explain": True}).text
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunk = json.loads(events[-2])
    assert chunk["choices"] == []
    assert chunk["coe"]["attempts"][0]["state"] == "settled"
    assert '"coe"' not in app.chat(stream=True).text
