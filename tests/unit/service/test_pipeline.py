"""The path, on the real app over real sockets: order of writing, fallback, limits, errors, streams, disconnects."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import time
from dataclasses import replace

import httpx
import openai
import pytest
from scenery import NOW, WordClassifier, a_catalog, a_chat, a_model, eventually

from service import telemetry
from service.domain.access import ANONYMOUS, Caller
from service.domain.catalog import PolicySpec
from service.domain.chat import ChatRequest
from service.domain.decision import INTENTS
from service.domain.limits import NO_LIMITS, Budget, Limits
from service.domain.rawjson import TOKENS_MAX
from service.errors import LedgerUnavailable, NotSent
from service.pipeline import Pipeline
from service.reading import read_intent
from service.routing.replay import differences, replay
from service.routing.screen import screen
from service.simulator import Fault, Script, http_error
from service.upstream.client import UpstreamClient
from service.upstream.protocols import PROTOCOLS
from service.work import Arrival

LIMITED = http_error(429, retry_after="7", error_code="rate_limit_exceeded")
PROMPT = "explain confidential umbrella merger"


class FakeClock:
    """Time that moves when it is read, so that durations are never zero."""

    def __init__(self):
        self.now = 100.0

    def utc(self):
        return NOW

    def monotonic(self):
        self.now += 0.001
        return self.now


class Recording:
    """A ledger and a transport that note in which order they are called; either can be told to fail."""

    def __init__(self, *, fails=()):
        self.calls, self.fails, self.rows = [], set(fails), []

    def _note(self, what):
        self.calls.append(what)
        if what in self.fails:
            raise LedgerUnavailable("the disk is full")

    def hold_decision(self, _record):
        self._note("decision")
        return b""

    def no_attempt(self):
        self._note("no attempt")

    async def append_open(self, _entry):
        self._note("open")

    async def append_terminal(self, entry):
        self.rows.append(entry)
        self._note("terminal")

    def terminal_at_once(self, _entry):
        return False

    async def send(self, _request):
        self.calls.append("send")
        if "bug" in self.fails:
            raise KeyError("a fault of ours")
        raise NotSent("no", cause="connect_refused")


def a_pipeline(recording, **changes):
    """A pipeline over two hosts whose neighbours are the recording."""
    clock = FakeClock()
    catalog = a_catalog(a_model("m", at=("a", "b")))
    more = {"attempts_max": 3, "deadline_s": 600, **changes}
    return Pipeline(
        catalog=catalog,
        classifier=WordClassifier(),
        client=UpstreamClient(recording, PROTOCOLS, clock),
        ledger=recording,
        clock=clock,
        **more,
    )


def answer(pipeline, chat=None):
    """Run one request to its error, and its rows to the ledger."""

    async def scene():
        with pytest.raises(Exception) as caught:
            await pipeline.answer(chat or a_chat(), Arrival("req_1", ANONYMOUS, 100.0))
        await pipeline.settler.settled()
        return caught.value

    return asyncio.run(scene())


def test_nothing_is_sent_before_its_open_row():
    """I14: decision, then for each attempt open, send, terminal."""
    recording = Recording()
    problem = answer(a_pipeline(recording))
    assert recording.calls == ["decision", *["open", "send", "terminal"] * 3]
    assert [row.state.value for row in recording.rows] == ["refused"] * 3
    assert "a/m: connect_refused; b/m: connect_refused; b/m: connect_refused" in problem.message


@pytest.mark.parametrize("failing", ["decision", "open"])
def test_a_ledger_that_can_not_write_means_nothing_is_sent(failing):
    """503 `ledger_unavailable`, with what was decided in its headers."""
    recording = Recording(fails=[failing])
    pipeline = a_pipeline(recording)
    problem = answer(pipeline)
    assert "send" not in recording.calls
    assert pipeline.decision_record(problem.headers["x-coe-decision-id"]) is None, "it is not in the journal either"
    assert (problem.status, problem.code) == (503, "ledger_unavailable")
    assert problem.headers["x-coe-decision-id"].startswith("dec_")


def test_a_terminal_row_that_can_not_be_written_keeps_the_answer():
    """The fallback goes on, and the trouble is in the log."""
    recording = Recording(fails=["terminal"])
    answer(a_pipeline(recording))
    assert recording.calls.count("send") == 3


@pytest.mark.parametrize(("body", "sent"), [({}, 3), ({"coe": {"no_fallback": True}}, 1)])
def test_attempts_are_bounded(body, sent):
    """By the setting and by the caller."""
    recording = Recording()
    answer(a_pipeline(recording), a_chat(**body))
    assert recording.calls.count("send") == sent
    recording = Recording()
    answer(a_pipeline(recording, attempts_max=1), a_chat(**body))
    assert recording.calls.count("send") == 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_fault_of_ours_in_an_attempt_is_not_blamed_on_the_caller(stream, capsys):
    """Its row says `internal_error`, estimated, since the vendor may bill it; so does the log."""
    telemetry.configure("INFO")
    recording = Recording(fails=["bug"])
    assert isinstance(answer(a_pipeline(recording), a_chat(stream=stream)), KeyError)
    assert [(row.ended, row.state.value) for row in recording.rows] == [("internal_error", "estimated")]
    assert requests_told(capsys.readouterr().err) == [500]


def requests_told(log):
    """The statuses of the requests in a log."""
    events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [one["status"] for one in events if one["event"] == telemetry.REQUEST]


def test_a_caller_that_is_gone_costs_no_further_attempt():
    """`gone` before the first attempt: decided, nothing tried."""
    recording = Recording()
    pipeline = a_pipeline(recording)

    async def scene():
        with pytest.raises(Exception, match="the caller left before any"):
            await pipeline.answer(a_chat(), Arrival("req_1", ANONYMOUS, 100.0, gone=True))

    asyncio.run(scene())
    assert recording.calls == ["decision", "no attempt"]


def test_evidence_is_read_only_when_somebody_is_to_see_it():
    """Terms are dear, and fragments of the prompt."""
    classifier = WordClassifier()
    assert read_intent(classifier, a_chat(PROMPT), explained=False).terms == ()
    assert classifier.explained == 0
    assert read_intent(classifier, a_chat(PROMPT), explained=True).terms[0] == ("explain", 1.5)


def test_a_dead_vendor_is_invisible_and_both_attempts_are_booked(serving):
    """I7 and I1 in one: 200 from the second, one terminal row each, the cost is the sum."""
    app, _ = serving({"alpha": http_error(404), "beta": Script()})
    reply = app.chat()
    assert reply.status_code == 200
    assert reply.headers["x-coe-provider"] == "beta"
    assert reply.headers["x-coe-attempts"] == "2"
    (_, (first,)), (_, (second,)) = app.books.attempts(reply.headers["x-coe-decision-id"])
    assert (first["state"], first["cost_pusd"], first["final"]) == ("refused", 0, False)
    assert (second["state"], second["final"]) == ("settled", True)


def test_a_vendors_400_is_passed_on_and_no_retry_helps(serving):
    """The vendor's words, its status, our headers, `x-should-retry: false`, one attempt."""
    bad = http_error(400, error_type="invalid_request_error", error_code="bad_seed", error_message="seed is too large")
    app, simulator = serving({"alpha": bad, "beta": Script()})
    reply = app.chat()
    assert reply.status_code == 400
    assert reply.json()["error"]["message"] == "seed is too large"
    assert reply.json()["error"]["code"] == "bad_seed"
    assert reply.headers["x-should-retry"] == "false"
    assert reply.headers["x-coe-provider"] == "alpha"
    assert reply.headers["x-coe-attempts"] == "1"
    assert [one.vendor for one in simulator.log] == ["alpha"]


def test_a_vendors_401_is_never_shown(serving, capfd):
    """502 `upstream_auth_failed`; its text is neither in the answer nor in the log."""
    wrong = http_error(401, error_message="bad key sk-canary-0123456789")
    app, _ = serving({"alpha": wrong})
    reply = app.chat(model="alpha-model")
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_auth_failed")
    assert "canary" not in reply.text + str(reply.headers) + capfd.readouterr().err
    assert reply.headers["x-should-retry"] == "false"


def test_when_all_are_rate_limited_the_caller_is_told_when(serving):
    """429 with the shortest Retry-After, retryable."""
    app, _ = serving({"alpha": LIMITED, "beta": http_error(429, retry_after="3")})
    reply = app.chat()
    assert (reply.status_code, reply.json()["error"]["type"]) == (429, "rate_limit_error")
    assert reply.headers["retry-after"] == "3"
    assert "x-should-retry" not in reply.headers
    assert reply.headers["x-coe-attempts"] == "3"


def test_a_mixed_outage_is_502_with_every_cause(serving):
    """One limited, one broken: a retry may help, and the message lists who failed by what."""
    app, _ = serving({"alpha": LIMITED, "beta": http_error(503)})
    reply = app.chat()
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_failed")
    message = reply.json()["error"]["message"]
    assert "alpha/alpha-model: rate_limited" in message
    assert "beta/beta-model: http_503" in message


def test_a_client_that_retries_by_default_costs_no_more_attempts(serving):
    """I9: the router has tried them all, and the official SDK takes its word for it."""
    app, simulator = serving({"alpha": http_error(500), "beta": http_error(503)})
    assert app.chat().status_code == 502
    once = len(simulator.log)
    client = openai.OpenAI(base_url=f"{app.url}/v1", api_key="x")
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(**a_body())
    assert len(simulator.log) == 2 * once


def test_max_latency_is_a_504_and_the_attempt_is_settled(serving):
    """The caller's limit, not the vendor's: said so, booked as an estimate that ended by the deadline."""
    app, _ = serving({"alpha": Script(fault=Fault.SILENCE)})
    before = time.monotonic()
    reply = app.chat(coe={"max_latency_ms": 200})
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "max_latency_exceeded")
    assert time.monotonic() - before < 0.9, "the vendor's own deadline ended it"
    assert reply.headers["x-coe-attempts"] == "1"
    ((_, (end,)),) = app.books.attempts(reply.headers["x-coe-decision-id"])
    assert (end["ended"], end["state"]) == ("deadline", "estimated")


def test_a_policys_latency_limit_holds_too(serving):
    """And the tighter of the two wins."""
    app, _ = serving({"alpha": Script(fault=Fault.SILENCE)}, extra="  fast: {objective: min_cost, max_latency_ms: 150}")
    reply = app.chat(model="auto:fast", coe={"max_latency_ms": 60_000})
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "max_latency_exceeded")


def test_a_route_that_binds_brings_its_latency_limit(serving):
    """Whoever names the model, or another policy, is under it as well; other models are not."""
    extra = """  fast: {objective: min_cost, max_latency_ms: 150}
  slow: {objective: min_cost, max_latency_ms: 600000}
routes:
  - {name: quick, when: {model: alpha-model}, policy: fast}"""
    app, _ = serving({"alpha": Script(fault=Fault.SILENCE), "beta": Script(first_content_delay_s=0.3)}, extra=extra)
    for steering in ({}, {"policy": "slow"}):
        reply = app.chat(model="alpha-model", coe=steering)
        assert (reply.status_code, reply.json()["error"]["code"]) == (504, "max_latency_exceeded")
    assert app.chat(model="beta-model").status_code == 200


def test_one_deadline_spans_all_attempts(serving):
    """Silent vendors one after the other do not add up past `COE_DEADLINE_S`."""
    silent = Script(fault=Fault.SILENCE)
    app, _ = serving({"alpha": silent, "beta": silent, "gamma": silent}, deadline_s=1)
    reply = app.chat(stream=True)
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "upstream_timeout")
    assert all(len(ends) == 1 for _, ends in app.books.attempts())


def test_silence_of_all_is_a_504(serving):
    """By the vendors' own deadlines."""
    app, _ = serving({"alpha": Script(fault=Fault.SILENCE)})
    reply = app.chat(model="alpha-model", stream=True)
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "upstream_timeout")


def test_too_long_for_one_goes_only_to_a_larger_context(serving):
    """The same window is not asked again; when nobody has a larger one, the vendor's 400 is the answer."""
    long = http_error(400, error_code="context_length_exceeded", error_message="too long")
    app, simulator = serving({"alpha": long, "beta": Script()})
    reply = app.chat()
    assert reply.status_code == 400
    assert [one.vendor for one in simulator.log] == ["alpha"]
    assert reply.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(("usd", "asked"), [(0.003, ["alpha", "beta"]), (0.0017, ["alpha", "alpha"])])
def test_the_ceiling_holds_over_all_attempts(serving, usd, asked):
    """What a failed attempt may have cost is gone: the second is capped by what is left, or goes where that suffices."""
    app, simulator = serving({"alpha": Script(fault=Fault.HANG_UP), "beta": Script()})
    reply = app.chat("word " * 2_000, coe={"max_cost_usd": usd})
    assert reply.status_code == (200 if "beta" in asked else 502)
    ends = [end for _, (end,) in app.books.attempts(reply.headers["x-coe-decision-id"])]
    assert [one.vendor for one in simulator.log] == asked
    assert ends[0]["cost_pusd"] > 0
    assert sum(end["cost_pusd"] for end in ends) <= usd * 10**12
    caps = [json.loads(one.body)["max_completion_tokens"] for one in simulator.log]
    assert len(caps) == len(ends)
    assert caps == sorted(caps, reverse=True)


def a_body():
    """A chat request."""
    return {"model": "auto", "messages": [{"role": "user", "content": PROMPT}]}


def leave_a_stream(app, **body):
    """Read the first bytes of a stream and hang up."""
    raw = json.dumps({**a_body(), "stream": True, **body}).encode()
    with socket.create_connection(("127.0.0.1", app.books.port)) as wire:
        wire.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            + f"content-length: {len(raw)}\r\n\r\n".encode()
            + raw
        )
        assert b"200" in wire.recv(4_096)


SLOW = Script(answer="one two three four five six seven eight " * 4, chunks=16, chunk_delay_s=0.06)


def test_a_caller_that_leaves_a_stream_is_settled_once(serving, capfd):
    """`close`: the upstream is closed at once, one row, estimated, `client_left`; no second one is even tried."""
    app, simulator = serving({"alpha": SLOW})
    leave_a_stream(app)
    eventually(lambda: [ends for _, ends in app.books.attempts()] and all(ends for _, ends in app.books.attempts()))
    eventually(lambda: simulator.log[0].outcome is not None and simulator.log[0].outcome.value != "complete")
    ((_, ends),) = app.books.attempts()
    assert [(end["ended"], end["state"]) for end in ends] == [("client_left", "estimated")]
    app.stop()
    told = capfd.readouterr()
    assert "settle_failed" not in told.out + told.err


def test_a_drained_stream_is_settled_exactly(serving, capfd):
    """`drain`: the upstream is read to its end, one row, the vendor's own numbers; the log says that its caller left."""
    telemetry.configure("INFO")
    app, _ = serving({"alpha": SLOW}, on_disconnect="drain")
    leave_a_stream(app)
    eventually(lambda: [ends for _, ends in app.books.attempts()] and all(ends for _, ends in app.books.attempts()))
    ((_, ends),) = app.books.attempts()
    assert [(end["ended"], end["state"]) for end in ends] == [("complete", "settled")]
    app.stop()
    assert requests_told(capfd.readouterr().err) == [499]


def test_a_caller_that_leaves_before_the_first_content_is_settled_once(serving, capfd):
    """Nothing was committed yet: the attempt is cancelled and booked, told as 499, and nobody else is tried."""
    telemetry.configure("INFO")
    app, simulator = serving({"alpha": Script(fault=Fault.SILENCE), "beta": Script()})
    raw = json.dumps({**a_body(), "stream": True}).encode()
    with socket.create_connection(("127.0.0.1", app.books.port)) as wire:
        wire.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            + f"content-length: {len(raw)}\r\n\r\n".encode()
            + raw
        )
        eventually(lambda: simulator.log)
    eventually(lambda: all(ends for _, ends in app.books.attempts()))
    time.sleep(0.3)
    ((_, ends),) = app.books.attempts()
    assert [end["ended"] for end in ends] == ["client_left"]
    assert requests_told(capfd.readouterr().err) == [499]


def test_a_caller_that_leaves_a_whole_answer_stops_the_fallback(serving):
    """The running attempt goes on to its end, since it is billed anyway; no second one is made."""
    app, simulator = serving(
        {"alpha": Script(fault=Fault.HTTP_ERROR, status=500, header_delay_s=0.5), "beta": Script()}
    )
    raw = json.dumps(a_body()).encode()
    with socket.create_connection(("127.0.0.1", app.books.port)) as wire:
        wire.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            + f"content-length: {len(raw)}\r\n\r\n".encode()
            + raw
        )
        eventually(lambda: simulator.log)
    eventually(lambda: app.books.attempts() and all(ends for _, ends in app.books.attempts()))
    time.sleep(0.3)
    assert len(app.books.attempts()) == 1
    assert [one.vendor for one in simulator.log] == ["alpha"]


def test_a_caller_that_left_a_whole_answer_is_told_as_499(serving, capfd):
    """The answer came to its end and is paid, but nobody was there to get it."""
    telemetry.configure("INFO")
    app, simulator = serving({"alpha": Script(header_delay_s=0.4)})
    raw = json.dumps(a_body()).encode()
    with socket.create_connection(("127.0.0.1", app.books.port)) as wire:
        wire.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            + f"content-length: {len(raw)}\r\n\r\n".encode()
            + raw
        )
        eventually(lambda: simulator.log)
    eventually(lambda: app.books.attempts() and all(ends for _, ends in app.books.attempts()))
    app.stop()
    ((_, ends),) = app.books.attempts()
    assert [(end["ended"], end["state"]) for end in ends] == [("complete", "settled")]
    assert requests_told(capfd.readouterr().err) == [499]


ODD = {
    "duplicate": b'{"a":1,"a":2}',
    "deep": b"[" * 70 + b"]" * 70,
    "many": b"[" + b"[]," * (TOKENS_MAX // 2) + b"0]",
}


@pytest.mark.parametrize("kind", ODD)
def test_an_answer_that_can_not_take_an_explanation_is_passed_on_without(serving, kind):
    """It is paid: the vendor's bytes, and a header that says what was given up."""
    body = (
        b'{"id":"c1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",'
        b'"message":{"role":"assistant","content":"hi"}}],"usage":{"prompt_tokens":3,"completion_tokens":1,'
        b'"total_tokens":4},"extra":' + ODD[kind] + b"}"
    )
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    app, _ = serving({"alpha": Script(fault=Fault.RAW, raw=head.encode() + body)})
    reply = app.chat(coe={"explain": True})
    assert reply.status_code == 200
    assert reply.content == body
    assert reply.headers["x-coe-degraded"] == "explain"
    assert reply.headers["x-coe-cost-usd"]
    ((_, (end,)),) = app.books.attempts()
    assert (end["ended"], end["state"]) == ("complete", "settled")


def test_the_journal_never_holds_the_prompt(serving):
    """Not even with `explain`, which shows terms to the caller."""
    app, _ = serving({"alpha": Script()})
    reply = app.chat(PROMPT, coe={"explain": True})
    assert reply.json()["coe"]["intent"]["terms"][1]["term"] == "confidential"
    plain = app.chat(PROMPT)
    assert "coe" not in plain.json()
    for word in ("confidential", "umbrella"):
        assert word not in json.dumps(app.books.rows())
        assert word not in app.get(f"/v1/decisions/{reply.headers['x-coe-decision-id']}").text
    assert app.classifier.explained == 1


def test_memory_and_index_tell_a_decision_alike(serving):
    """The same names and the same values, whichever answers `GET /v1/decisions/{id}`."""
    app, _ = serving({"alpha": http_error(500), "beta": Script(cached_tokens=3)})
    reply = app.chat(coe={"tags": ["t"]})
    path = f"/v1/decisions/{reply.headers['x-coe-decision-id']}"
    remembered = app.get(path).json()
    app.house.pipeline._decisions.clear()

    def indexed():
        found = app.get(path)
        return found.status_code == 200 and all(one["ended"] for one in found.json()["attempts"])

    eventually(indexed)
    stored = app.get(path).json()
    assert remembered["cost_usd"] == reply.headers["x-coe-cost-usd"]
    assert stored == remembered


def test_what_is_remembered_is_bounded(serving, monkeypatch):
    """The oldest decision goes first."""
    monkeypatch.setattr("service.pipeline.DECISIONS_KEPT", 2)
    app, _ = serving({"alpha": Script()})
    ids = [app.chat().headers["x-coe-decision-id"] for _ in range(3)]
    assert [app.house.pipeline.decision_record(one) is not None for one in ids] == [False, True, True]


MANUAL = {"role": "system", "content": "the manual says " * 1_500}
FIRST = {"role": "user", "content": "first question"}
SECOND = [
    MANUAL,
    FIRST,
    {"role": "assistant", "content": "first answer"},
    {"role": "user", "content": "second question"},
]


def test_the_second_turn_prefers_who_is_warm_when_that_is_cheaper(serving):
    """A long conversation that began at the dearer vendor stays there, and the reason says why; another one does not."""
    app, _ = serving({"alpha": Script(), "beta": Script(cached_tokens=5_000)})
    first = app.chat(messages=[MANUAL, FIRST], model="beta-model", max_tokens=50)
    assert first.headers["x-coe-provider"] == "beta"
    dry = httpx.post(
        f"{app.url}/v1/route", json={"model": "auto", "messages": SECOND, "max_tokens": 50}, trust_env=False
    )
    told = dry.json()["candidates"][0]
    assert told["deployment"] == "beta/beta-model"
    assert "input tokens are warm there" in told["reason"]
    cheaper = app.chat(messages=[{**MANUAL, "content": "another " * 3_000}, FIRST], max_tokens=50)
    assert cheaper.headers["x-coe-provider"] == "alpha"
    second = app.chat(messages=SECOND, max_tokens=50, coe={"explain": True})
    assert second.headers["x-coe-provider"] == "beta"
    decision = second.json()["coe"]
    assert decision["experience"]["warm_tokens"]["beta/beta-model"] > 5_000
    (_, (row,)) = app.books.attempts(second.headers["x-coe-decision-id"])[0]
    assert row["usage"]["cache_read"] == 5_000


def test_a_vendor_that_was_cold_is_not_preferred_again(serving):
    """Expected warm, reported cold: the third turn goes by the price of fresh input."""
    app, _ = serving({"alpha": Script(), "beta": Script()})
    app.chat(messages=[MANUAL, FIRST], model="beta-model", max_tokens=50)
    assert app.chat(messages=SECOND, max_tokens=50).headers["x-coe-provider"] == "beta"
    third = [*SECOND, {"role": "assistant", "content": "second answer"}, FIRST]
    assert app.chat(messages=third, max_tokens=50).headers["x-coe-provider"] == "alpha"


def test_a_stream_makes_its_vendor_warm_as_well(serving):
    """Its usage comes last, and counts as much."""
    app, _ = serving({"alpha": Script(), "beta": Script()})
    app.chat(messages=[MANUAL, FIRST], model="beta-model", max_tokens=50, stream=True)
    assert app.chat(messages=SECOND, max_tokens=50).headers["x-coe-provider"] == "beta"


@pytest.mark.parametrize(
    ("script", "body", "status"),
    [
        (Script(), {}, 200),
        (Script(fault=Fault.HANG_UP), {}, 502),
        (Script(fault=Fault.CUT), {}, 502),
        (Script(fault=Fault.CUT), {"stream": True}, 200),
    ],
)
def test_what_a_request_leaves_behind_goes_at_once(serving, script, body, status):
    """Without the cyclic collector: a ring would keep the prompt, some megabytes of it, until it comes round."""
    app, _ = serving({"alpha": script})
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            assert app.chat(**body).status_code == status
        eventually(lambda: not [one for one in gc.get_objects() if isinstance(one, ChatRequest)])
    finally:
        gc.enable()


def test_a_classifier_that_fails_costs_a_dearer_model_and_nothing_else(serving, capfd):
    """What could not be read may be anything; told in the header, counted, logged without a word of the prompt."""
    telemetry.configure("INFO")
    app, _ = serving({"alpha": Script(), "beta": Script()})
    pipeline = app.house.pipeline
    good, narrow = dict.fromkeys(INTENTS, 0.9), {**dict.fromkeys(INTENTS, 0.9), "math": 0.2}
    catalog = pipeline.catalog
    models = dict(catalog.models)
    for name, quality in (("alpha-model", narrow), ("beta-model", good)):
        models[name] = replace(models[name], quality=quality)
    pipeline.catalog = replace(catalog, models=models)
    assert app.chat().headers["x-coe-model"] == "alpha-model"

    def fail(_turns):
        raise RuntimeError(PROMPT)

    app.classifier.predict = fail
    reply = app.chat(PROMPT, coe={"explain": True})
    assert (reply.status_code, reply.headers["x-coe-model"]) == (200, "beta-model")
    assert (reply.headers["x-coe-degraded"], reply.headers["x-coe-intent"]) == ("classifier", "unclassified")
    assert reply.json()["coe"]["degraded"] == ["classifier"]
    assert app.chat(model="alpha-model").headers.get("x-coe-degraded") is None
    logged = capfd.readouterr().err
    assert '"event":"reading_failed"' in logged
    assert '"error":"RuntimeError","where":"test_pipeline.py:' in logged
    assert PROMPT not in logged
    assert "coe_readings_failed_total 1\n" in app.get("/metrics").text
    told = pipeline.decision_record(reply.headers["x-coe-decision-id"])
    again = replay(told, pipeline.catalog, None)
    assert not differences(told, again)
    assert "unsure (the classifier failed)" in screen(again)


HARD = Limits(day_pusd=10**12)


@pytest.mark.parametrize(
    ("limits", "budgets", "said", "budgeted"),
    [
        (NO_LIMITS, (), (), False),
        (HARD, (), (), True),
        (replace(HARD, soft=True), (), (), False),
        (NO_LIMITS, (Budget("hr", HARD, tag="hr"), Budget("lab", HARD, tag="lab")), (), True),
        (NO_LIMITS, (Budget("lab", HARD, tag="lab"),), (), False),
        (NO_LIMITS, (Budget("lab", HARD, tag="lab"),), ("lab",), True),
        (NO_LIMITS, (Budget("all", replace(HARD, soft=True)), Budget("rates", Limits(concurrency=0))), ("lab",), False),
    ],
)
def test_a_hard_budget_of_the_key_or_the_registry_is_decided_under(limits, budgets, said, budgeted):
    """That of the registry which is asked, by the tags of the key and those of the request."""
    pipeline = a_pipeline(Recording())
    catalog = replace(a_catalog(a_model("dear", (9, 9)), a_model("free", None)), budgets=budgets)
    caller = Caller("key_1", "a", tags=frozenset({"hr"}), limits=limits)
    decision = pipeline.decide(a_chat(coe={"tags": list(said)}), caller, catalog)
    assert decision.budgeted is budgeted
    assert [one.deployment.id for one in decision.rejected] == (["p/free"] if budgeted else [])


def test_only_a_request_that_is_answered_is_left_to_a_draw():
    """Where its policy explores: not a dry run, which shows the policy's own choice, and not a session, which stays."""
    own = PolicySpec("balanced", max_cost_pusd=10**10, explore=0.2)
    catalog = a_catalog(a_model("m"), a_model("n"), policies={"balanced": own})
    pipeline = a_pipeline(Recording())
    drawn = [pipeline.decide(a_chat(), ANONYMOUS, catalog).draw for _ in range(100)]
    assert len({one.seed for one in drawn if one is not None}) == 100
    assert {one.place for one in drawn if one is not None} == {0, 1}
    assert pipeline.decide(a_chat(), ANONYMOUS, catalog, explained=True).draw is None
    assert pipeline.decide(a_chat(coe={"session": "s"}), ANONYMOUS, catalog).draw is None
