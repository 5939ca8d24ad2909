"""A stream that is stopped where what was reserved for it is used up, on the real app and with the official client."""

from __future__ import annotations

import json
import time

import openai
import pytest
from scenery import eventually

from service.simulator import Script

BUDGETS = """budgets:
- {name: held, tag: held, usd_per_day: 0.001, stop: true}
- {name: plain, tag: plain, usd_per_day: 0.001}
- {name: mild, tag: mild, usd_per_day: 0.0000001, soft: true, stop: true}"""
PRICE_PUSD = 1_200_000
"""Of an output token of alpha."""

ENDLESS = Script(answer="word " * 4_000, chunks=400, chunk_delay_s=0.002, ignores_cap=True)
"""A vendor that does not care for `max_tokens`."""


@pytest.fixture
def endless(serving):
    """The app over such a vendor."""
    return serving({"alpha": ENDLESS}, extra=BUDGETS)


def events(text):
    """What the data of a stream says, and whether it ended in order."""
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(one) for one in data if one != "[DONE]"], data[-1] == "[DONE]"


def said(told):
    """The text of a stream."""
    return "".join(one["choices"][0]["delta"].get("content") or "" for one in told if one["choices"])


def stream(app, **body):
    """A stream of alpha's with a cap that it ignores."""
    reply = app.chat(model="alpha-model", stream=True, max_tokens=200, **body)
    assert reply.status_code == 200, reply.text
    return events(reply.text)


@pytest.mark.parametrize(
    "coe", [{"tags": ["held"]}, {"tags": ["plain"], "stop_at_budget": True}], ids=["budget", "caller"]
)
def test_a_vendor_that_ignores_its_cap_is_stopped_where_the_reservation_ends(endless, coe):
    """The answer is cut for its length, in order; what was said is booked, and never more than was held."""
    app, simulator = endless
    told, done = stream(app, coe=coe)
    assert done
    assert [one["choices"][0]["finish_reason"] for one in told if one["choices"]][-1] == "length"
    assert told[-1]["coe"] == {"stopped": "budget"}
    assert not [one for one in told if one.get("usage")], "nobody asked for it"
    ((opened, (end,)),) = app.books.attempts()
    assert (end["ended"], end["state"], end["usage"]["output"] > 150) == ("stopped_at_budget", "estimated", True)
    assert 150 * PRICE_PUSD < end["cost_pusd"] <= opened["reserved_pusd"]
    assert 4 * 150 < len(said(told)) < 5 * 400
    eventually(lambda: [one.outcome for one in simulator.log] == ["client_left"])


def test_without_the_wish_it_goes_on_to_its_end(endless):
    """As ever: a budget holds by caps, which most vendors keep."""
    app, _ = endless
    told, done = stream(app, coe={"tags": ["plain"]})
    assert (done, told[-1]["choices"][0]["finish_reason"]) == (True, "stop")
    ((opened, (end,)),) = app.books.attempts()
    assert (end["ended"], end["cost_pusd"] > opened["reserved_pusd"]) == ("complete", True)


def test_a_cost_limit_of_the_request_is_an_end_too(endless):
    """Without any budget."""
    app, _ = endless
    told, done = stream(app, coe={"max_cost_usd": 0.0003, "stop_at_budget": True})
    assert (done, told[-1]["choices"][0]["finish_reason"]) == (True, "length")
    ((_, (end,)),) = app.books.attempts()
    assert (end["ended"], 200_000_000 < end["cost_pusd"] <= 300_000_000) == ("stopped_at_budget", True)


def test_usage_and_explanation_come_before_the_end_where_they_were_asked_for(endless):
    """Usage is what was booked."""
    app, _ = endless
    told, done = stream(app, coe={"tags": ["held"], "explain": True}, stream_options={"include_usage": True})
    finish, usage, explained = told[-3:]
    assert (done, finish["choices"][0]["finish_reason"]) == (True, "length")
    ((_, (end,)),) = app.books.attempts()
    booked = end["usage"]
    assert usage["usage"] == {
        "prompt_tokens": booked["input"],
        "completion_tokens": booked["output"],
        "total_tokens": booked["input"] + booked["output"],
    }
    assert explained["coe"]["attempts"][-1]["ended"] == "stopped_at_budget"


def test_the_official_client_sees_an_answer_that_was_cut(endless):
    """No error, and every choice has its end."""
    app, _ = endless
    client = openai.OpenAI(base_url=f"{app.url}/v1", api_key="x", max_retries=0)
    with client.chat.completions.stream(
        model="alpha-model",
        messages=[{"role": "user", "content": "hello"}],
        n=2,
        extra_body={"max_tokens": 200, "coe": {"tags": ["held"]}},
    ) as streamed:
        for _ in streamed:
            pass
        final = streamed.current_completion_snapshot
    assert [one.finish_reason for one in final.choices] == ["length", "length"]
    ((opened, (end,)),) = app.books.attempts()
    assert end["usage"]["output"] > 2 * 150
    assert end["cost_pusd"] <= opened["reserved_pusd"]


def test_nobody_is_stopped_without_a_limit_that_could_end_it(endless):
    """Neither a budget that refuses nor a cost limit: the wish alone means nothing, and neither does a soft budget."""
    app, _ = endless
    for coe in ({"stop_at_budget": True}, {"tags": ["mild"]}):
        told, done = stream(app, coe=coe)
        assert (done, told[-1]["choices"][0]["finish_reason"]) == (True, "stop")


def test_an_answer_that_fits_is_passed_on_as_it_came(serving):
    """Byte for byte what it is without the wish."""
    app, _ = serving({"alpha": Script(chunks=20)}, extra=BUDGETS)
    texts = []
    for tags in (["held"], []):
        reply = app.chat(model="alpha-model", stream=True, max_tokens=500, coe={"tags": tags})
        texts.append([{**one, "id": "", "created": 0} for one in events(reply.text)[0]])
    assert texts[0] == texts[1]
    assert [end["ended"] for _, (end,) in app.books.attempts()] == ["complete", "complete"]


def test_whole_answers_are_not_stopped(endless):
    """There is nothing to stop: they come at once."""
    app, _ = endless
    begun = time.monotonic()
    reply = app.chat(model="alpha-model", max_tokens=200, coe={"tags": ["held"]})
    assert (reply.status_code, reply.json()["choices"][0]["finish_reason"]) == (200, "stop")
    assert time.monotonic() - begun < 30
