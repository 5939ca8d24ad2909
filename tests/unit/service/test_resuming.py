"""A stream that broke and goes on, for callers who asked: one text, said so, within every limit."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import httpx
import openai
import pytest
from scenery import a_chat, eventually

from service.api import rendering
from service.domain.catalog import Deployment, Provider
from service.domain.prices import PriceBook
from service.resuming import Manner, Resuming, may_be_resumed
from service.routing.retrying import BUDGET_FIRST, BUDGET_REQUESTS
from service.simulator import Fault, Script, VendorScript, http_error

TEXT = "one two three four five six seven eight nine ten"
PROMPT = "count"
BREAKS = Script(answer=TEXT, fault=Fault.CUT, fault_after=3, chunks=10)
PREFIX = {"beta": "[prefill:prefix]"}


def streamed(app, **body):
    """(the text of all deltas, the events of ours, the last data line) of one stream."""
    whole = {"model": "auto", "messages": [{"role": "user", "content": PROMPT}], "stream": True, **body}
    whole.setdefault("coe", {"resume": True})
    reply = httpx.post(f"{app.url}/v1/chat/completions", json=whole, timeout=20, trust_env=False)
    assert reply.status_code == 200, reply.text
    lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: ")]
    events = [json.loads(line) for line in lines if line != "[DONE]"]
    deltas = [one["delta"] for event in events for one in event.get("choices", ())]
    assert sum("role" in one for one in deltas) <= body.get("n", 1)
    ours = [event["coe"]["resumed"] for event in events if "resumed" in event.get("coe", {})]
    return "".join(one.get("content") or "" for one in deltas), ours, lines[-1]


def ends_of(app):
    """(provider, how it ended, state) of every attempt; each has one end."""
    books = app.books.attempts()
    assert all(len(ends) == 1 for _, ends in books)
    return [(opened["provider"], ends[0]["ended"], ends[0]["state"]) for opened, ends in books]


def test_whoever_takes_the_beginning_of_an_answer_goes_on_with_it(serving):
    """What was told is sent along, marked; the caller gets one text, is told who went on, and both are booked."""
    app, simulator = serving({"alpha": BREAKS, "beta": Script(answer=" and so on")}, quirks=PREFIX)
    text, ours, last = streamed(app, max_tokens=200)
    said = text.removesuffix(" and so on")
    assert TEXT.startswith(said)
    assert 0 < len(said) < len(TEXT)
    assert last == "[DONE]"
    assert ours == [
        {
            "manner": "continue",
            "cause": "cut",
            "from": "alpha/alpha-model",
            "to": "beta/beta-model",
            "characters": len(said),
            "attempt": 2,
        }
    ]
    first, second = (json.loads(one.body) for one in simulator.log)
    assert second["messages"] == [*first["messages"], {"role": "assistant", "content": said, "prefix": True}]
    assert 0 < second["max_tokens"] < first["max_tokens"] == 200
    assert ends_of(app) == [("alpha", "cut", "estimated"), ("beta", "complete", "settled")]


def test_the_official_sdk_puts_it_together(serving):
    """Its helper adds up deltas: one role, one text, a finish reason, and no error."""
    app, _ = serving({"alpha": BREAKS, "beta": Script(answer=" and so on")}, quirks=PREFIX)
    client = openai.OpenAI(base_url=f"{app.url}/v1", api_key="x", max_retries=0)
    with client.chat.completions.stream(
        model="auto", messages=[{"role": "user", "content": PROMPT}], extra_body={"coe": {"resume": True}}
    ) as stream:
        final = stream.get_final_completion()
    (choice,) = final.choices
    assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
    assert choice.message.content.endswith(" and so on")


@pytest.mark.parametrize("answer", [TEXT, "one two 3"], ids=["the same", "another"])
def test_an_echo_is_left_out_and_another_answer_breaks(serving, answer):
    """Some repeat the beginning: when it is the same to the last letter it goes on, else the stream ends as it broke."""
    app, _ = serving({"alpha": BREAKS, "beta": Script(answer=answer)}, quirks={"beta": "[prefill:prefix_echoed]"})
    text, ours, last = streamed(app)
    if answer == TEXT:
        assert (text, len(ours), last) == (TEXT, 1, "[DONE]")
    else:
        assert TEXT.startswith(text)
        assert json.loads(last)["error"]["code"] in {"stream_cut", "stream_diverged"}  # in its first breath, or later
        assert ends_of(app)[-1] == ("beta", "diverged", "estimated")


def test_the_same_model_repeats_what_it_said_at_temperature_0(serving):
    """The same deployment when there is no other; without `temperature: 0` nobody pays for a second answer."""
    scripts = VendorScript(queue=(BREAKS, Script(answer=TEXT), BREAKS))
    app, simulator = serving({"alpha": scripts, "beta": Script(answer="no")})
    text, ours, last = streamed(app, temperature=0)
    assert (text, last, [one["manner"] for one in ours]) == (TEXT, "[DONE]", ["repeat"])
    assert json.loads(simulator.log[0].body) == json.loads(simulator.log[1].body)
    _, ours, last = streamed(app)
    assert (ours, json.loads(last)["error"]["code"], len(simulator.log)) == ([], "stream_cut", 3)


@pytest.mark.parametrize(
    ("body", "script"),
    [
        ({"coe": {"resume": False}}, BREAKS),
        ({"coe": {}}, BREAKS),
        ({"coe": {"resume": True, "no_fallback": True}}, BREAKS),
        ({"coe": {"resume": True, "max_cost_usd": 0.0000001}, "max_tokens": 1}, BREAKS),
        ({"max_tokens": 1}, BREAKS),
        ({"n": 2}, BREAKS),
        ({"response_format": {"type": "json_object"}}, BREAKS),
        ({"logprobs": True}, BREAKS),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            Script(fault=Fault.CUT, fault_after=3, chunks=10),
        ),
        ({}, Script(reasoning="thinking hard", answer=TEXT, fault=Fault.CUT, fault_after=8, chunks=10)),
    ],
    ids=["no", "not said", "no fallback", "no money", "no tokens", "n", "json", "logprobs", "tools", "thinking"],
)
def test_nobody_goes_on_unasked_or_where_it_would_not_be_one_text(serving, body, script):
    """An error event as without it, and no second call."""
    app, simulator = serving({"alpha": script, "beta": Script()}, quirks=PREFIX)
    if body.get("coe", {}).get("max_cost_usd"):
        reply = httpx.post(f"{app.url}/v1/chat/completions", json={**asked(), **body}, timeout=20, trust_env=False)
        assert reply.status_code == 422
        return
    _, ours, last = streamed(app, **body)
    assert (ours, len(simulator.log)) == ([], 1)
    assert "error" in json.loads(last)


def asked():
    """A streaming request."""
    return {"model": "auto", "messages": [{"role": "user", "content": PROMPT}], "stream": True}


def test_who_can_not_go_on_leaves_the_error_as_it_was(serving):
    """A refusal of the second one is not the caller's concern; all attempts together are bounded."""
    app, simulator = serving({"alpha": BREAKS, "beta": http_error(500)}, quirks=PREFIX)
    _, ours, last = streamed(app)
    assert (ours, json.loads(last)["error"]["code"]) == ([], "stream_cut")
    assert len(simulator.log) <= 3
    assert ends_of(app)[0] == ("alpha", "cut", "estimated")


def test_it_goes_on_as_often_as_attempts_are_left(serving):
    """Twice broken, twice gone on with, each time said so; a third break ends it."""
    scripts = {
        "alpha": BREAKS,
        "beta": Script(answer=" b1 b2 b3 b4 b5 b6", fault=Fault.CUT, fault_after=2, chunks=6),
        "gamma": Script(answer=" c"),
    }
    app, _ = serving(scripts, quirks={"beta": "[prefill:prefix]", "gamma": "[prefill:partial]"})
    text, ours, last = streamed(app)
    assert (last, [one["to"].partition("/")[0] for one in ours]) == ("[DONE]", ["beta", "gamma"])
    assert text.endswith(" c")
    assert " b1" in text
    app, _ = serving({**scripts, "gamma": BREAKS}, quirks={"beta": "[prefill:prefix]", "gamma": "[prefill:partial]"})
    _, ours, last = streamed(app)
    assert (len(ours), json.loads(last)["error"]["code"]) == (2, "stream_cut")
    assert len(ends_of(app)) == 3


def test_what_was_read_and_never_handed_on_is_not_gone_on_with(serving):
    """A vendor that failed with its first words in the same breath has told the caller nothing."""
    said = 'data: {"id":"1","choices":[{"index":0,"delta":{"content":"never told "}}]}\n\ndata: {broken\n\n'
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(said)}\r\n\r\n"
    scripts = {
        "alpha": Script(fault=Fault.RAW, raw=(head + said).encode()),
        "beta": BREAKS,
        "gamma": Script(answer=" and so on"),
    }
    app, simulator = serving(scripts, quirks={"gamma": "[prefill:partial]"})
    text, ours, last = streamed(app)
    begun = text.removesuffix(" and so on")
    assert (last, len(ours), TEXT.startswith(begun)) == ("[DONE]", 1, True)
    sent = json.loads(simulator.log[-1].body)["messages"][-1]
    assert sent == {"role": "assistant", "content": begun, "partial": True}


@pytest.mark.parametrize("answer", ["one two", "one two thrIX and more words"], ids=["shorter", "other"])
def test_an_answer_that_diverges_late_is_never_complete(serving, answer):
    """Its end, or its last words, come long after its first ones: no [DONE], no finish reason, booked as what it is."""
    other = Script(answer=answer, chunks=4, chunk_delay_s=0.1)
    app, _ = serving({"alpha": VendorScript(queue=(BREAKS, other)), "beta": Script()})
    text, ours, last = streamed(app, temperature=0)
    assert (len(ours), json.loads(last)["error"]["code"]) == (1, "stream_diverged")
    assert TEXT.startswith(text)
    assert ends_of(app) == [("alpha", "cut", "estimated"), ("alpha", "diverged", "estimated")]
    assert app.house.pipeline.attempting.health.told(0.0) == {}, "another answer is nobody's failure"


def test_a_reload_in_the_middle_changes_nothing(serving, tmp_path):
    """A request goes on with the registry that it began with, also when the models in it are gone."""
    slow = Script(answer=TEXT, fault=Fault.CUT, fault_after=5, chunks=10, chunk_delay_s=0.1)
    app, _ = serving({"alpha": slow, "beta": Script(answer=" and so on")}, quirks=PREFIX)
    found = []
    body = {"resume": True, "max_cost_usd": 1}
    asking = threading.Thread(target=lambda: found.append(streamed(app, coe=body, max_tokens=100)))
    asking.start()
    eventually(app.books.attempts)
    catalog = app.house.pipeline.catalog
    left = {name: model for name, model in catalog.models.items() if name != "beta-model"}
    app.house.pipeline.catalog = replace(catalog, models=left)
    asking.join(20)
    ((text, ours, last),) = found
    assert (text.endswith(" and so on"), len(ours), last) == (True, 1, "[DONE]")


def test_after_the_deadline_nobody_is_called(serving):
    """The time of the request is over, however long the first part took."""
    slow = Script(answer=TEXT, fault=Fault.CUT, fault_after=6, chunks=10, chunk_delay_s=0.3)
    app, simulator = serving({"alpha": slow, "beta": Script(answer=" and so on")}, quirks=PREFIX, deadline_s=1)
    _, ours, last = streamed(app)
    assert (ours, json.loads(last)["error"]["code"], len(simulator.log)) == ([], "stream_cut", 1)
    assert ends_of(app) == [("alpha", "cut", "estimated")]


def test_going_on_is_paid_for_as_retries_are(serving):
    """I9: where every stream breaks, calls stay near a fifth above the requests, and a breaker counts each request once."""
    app, simulator = serving({"alpha": BREAKS, "beta": Script()}, quirks={"alpha": "[prefill:prefix]"})
    health = app.house.pipeline.attempting.health
    for number in range(1, 5):
        streamed(app, model="alpha-model")
        assert len(simulator.log) <= 2 * number, "twice at most"
        assert not health.rests
    steady = VendorScript(cycle=(Script(answer=TEXT), BREAKS, Script(answer=TEXT), BREAKS, Script(answer=TEXT)))
    app, simulator = serving({"alpha": steady, "beta": Script()}, quirks={"alpha": "[prefill:prefix]"})
    for _ in range(60):
        streamed(app, model="alpha-model")
    assert len(simulator.log) <= 60 + BUDGET_FIRST + 60 / BUDGET_REQUESTS + 1


def test_who_was_silent_is_not_called_again(serving):
    """It had its time."""
    silent = Script(answer=TEXT, fault=Fault.STALL, fault_after=3, chunks=10)
    app, simulator = serving({"alpha": silent, "beta": Script()}, quirks={"alpha": "[prefill:prefix]"})
    _, ours, last = streamed(app, model="alpha-model")
    assert (ours, len(simulator.log)) == ([], 1)
    assert json.loads(last)["error"]["code"] == "stream_timeout_idle"


def test_half_a_character_at_the_seam_is_an_ordinary_break(serving):
    """Nobody could be sent it: an error event, no fault of ours."""
    said = b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"a\\ud83d"}}]}\n\n'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % (len(said) + 9)
    app, simulator = serving({"alpha": Script(fault=Fault.RAW, raw=head + said), "beta": Script()}, quirks=PREFIX)
    _, ours, last = streamed(app)
    assert (ours, len(simulator.log)) == ([], 1)
    assert json.loads(last)["error"]["code"].startswith("stream_")
    assert ends_of(app)[0][2] == "estimated"


def test_the_ceiling_holds_over_both_parts(serving):
    """What the first part may have cost is taken off before a second one is asked."""
    app, _ = serving({"alpha": BREAKS, "beta": Script(answer=" and so on")}, quirks=PREFIX)
    usd = 0.004
    streamed(app, coe={"resume": True, "max_cost_usd": usd}, max_tokens=2_000)
    spent = [ends[0]["cost_pusd"] for _, ends in app.books.attempts()]
    assert sum(spent) <= usd * 10**12


def test_what_may_be_resumed():
    """Asked for, streamed, one choice, plain text."""
    coe = {"coe": {"resume": True}}
    assert may_be_resumed(a_chat(stream=True, **coe))
    assert not may_be_resumed(a_chat(stream=False, **coe))
    assert not may_be_resumed(a_chat(stream=True))
    assert not may_be_resumed(a_chat(stream=True, n=2, **coe))
    assert may_be_resumed(a_chat(stream=True, headers={"x-coe-resume": "true"}))
    own = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "prefix": True}]
    assert not may_be_resumed(a_chat(stream=True, messages=own, **coe))


def test_a_caller_without_room_is_told_as_well(serving, monkeypatch):
    """Where nothing can be sent at once, every piece is waited for, and so is the event that says who goes on."""
    monkeypatch.setattr(rendering, "_putter", lambda _send: lambda _piece: False)
    app, _ = serving({"alpha": BREAKS, "beta": Script(answer=" and so on")}, quirks=PREFIX)
    text, ours, last = streamed(app)
    assert (text.endswith(" and so on"), len(ours), last) == (True, 1, "[DONE]")


def test_the_second_part_is_measured_with_the_first_before_it():
    """Its prompt is longer by a message, and its output cap lower by what was told: at least a token for each event."""
    chat = a_chat("count", stream=True, max_tokens=100)
    provider = Provider("b", "https://b.example/v1", quirks={"prefill": "prefix"})
    deployment = Deployment(provider, "m", "m-wire", PriceBook("b/m"))
    resuming = Resuming(chat, "one 二", 90, None, {}, frozenset({"other"}), frozenset())
    longer = resuming.chat_for(deployment)
    assert (longer.prefill, longer.output_tokens_max) == ("one 二", 10)
    assert longer.sizes.characters - chat.sizes.characters == 5
    assert longer.sizes.cjk_characters - chat.sizes.cjk_characters == 1
    assert longer.sizes.messages - chat.sizes.messages == 1
    assert replace(resuming, pieces=100).manner(deployment) is None, "nothing is left of the cap"
    assert replace(resuming, barred=frozenset({deployment.id})).manner(deployment) is None
    assert replace(resuming, text=" \n").manner(deployment) is None, "blanks are no beginning"


def test_only_a_text_of_one_model_is_repeated_by_it():
    """What another has continued the first one can't say again."""
    chat = a_chat("count", stream=True, temperature=0)
    deployment = Deployment(Provider("b", "https://b.example/v1"), "m", "m-wire", PriceBook("b/m"))
    resuming = Resuming(chat, "one", 1, None, {}, frozenset({"m"}), frozenset())
    assert resuming.manner(deployment) is Manner.REPEAT
    assert replace(resuming, authors=frozenset({"m", "n"})).manner(deployment) is None
