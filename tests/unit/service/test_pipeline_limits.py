"""The path under budgets and limits, on the real app: what is refused is not sent, what ended holds nothing.

Rules are in test_limits.py; that any number of replicas keep them is in tests/faults/test_budgets.py.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import openai
import pytest
from scenery import NOW, WordClassifier, a_catalog, a_chat, a_model, eventually

from service import telemetry
from service.domain.access import Caller
from service.domain.limits import Limits, day_of
from service.errors import BudgetExhausted, LedgerUnavailable, NotSent, RateLimited, Replied
from service.guard.counters import LocalCounters
from service.guard.counting import MONEY, SLOTS
from service.guard.limits import Limiter
from service.pipeline import Pipeline
from service.routing.health import FAILURES_IN_A_ROW, REST_S
from service.simulator import Fault, Script, http_error
from service.upstream.client import UpstreamClient
from service.upstream.protocols import PROTOCOLS
from service.work import Arrival

BUDGETS = """budgets:
- {name: nothing, tag: nothing, usd_per_day: 0.0000001}
- {name: single, tag: single, concurrency: 1}
- {name: sixty, tag: sixty, requests_per_minute: 60, tokens_per_minute: 100000}
- {name: two, tag: two, requests_per_minute: 2}
- {name: dime, tag: dime, usd_per_day: 0.01}
- {name: rich, tag: rich, usd_per_day: 1000, usd_per_month: 1000}
- {name: mild, tag: mild, usd_per_day: 0.0000001, soft: true}"""


@pytest.fixture
def limited(serving):
    """`limited(scripts)` gives the app with these budgets, and the simulator."""
    return lambda scripts, **more: serving(scripts, extra=BUDGETS, **more)


def ask(app, tag, **body):
    """A chat under the budget of a tag."""
    return app.chat(coe={"tags": [tag], **body.pop("coe", {})}, **body)


def held(app):
    """Everything that is held, by counter."""
    found = app.house.pipeline.limiter.counters.holdings._own
    return {name: own.held for name, own in dict(found).items() if own.held and own.counter.kind in {MONEY, SLOTS}}


def settled(app, name):
    """What was spent in a counter, in pico-USD."""
    own = app.house.pipeline.limiter.counters.holdings._own.get(name)
    return 0 if own is None else own.settled


def booked(app):
    """What the ledger has, in pico-USD."""
    return sum(end["cost_pusd"] or 0 for _, ends in app.books.attempts() for end in ends)


# refused


def test_a_budget_that_is_gone_refuses_before_anything_is_sent(limited):
    """429 that no retry helps; the decision is written down, an attempt is not; others are served."""
    app, simulator = limited({"alpha": Script(), "beta": Script()})
    reply = ask(app, "nothing")
    error = reply.json()["error"]
    assert (reply.status_code, error["type"], error["code"]) == (429, "insufficient_quota", "insufficient_quota")
    assert "the budget 'nothing'" in error["message"]
    assert (reply.headers["x-should-retry"], reply.headers["x-coe-attempts"]) == ("false", "0")
    assert (len(simulator.log), app.books.attempts(), held(app)) == (0, [], {})
    decision = app.get(f"/v1/decisions/{reply.headers['x-coe-decision-id']}").json()
    assert decision["attempts"] == []
    assert app.chat().status_code == 200


def test_a_refusal_leaves_a_trace(limited, capfd):
    """In the log by key and code, in the metrics by code, and what went over a soft budget beside it."""
    app, _ = limited({"alpha": Script()})
    telemetry.configure("INFO")
    capfd.readouterr()
    for tag in ("nothing", "mild", "mild", "rich"):
        ask(app, tag, model="alpha-model")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    told = [(one["status"], one["key_id"], one["code"]) for one in lines if one["event"] == telemetry.REQUEST]
    assert told == [(429, None, "insufficient_quota"), *[(200, None, None)] * 3]
    over = [(one["budget"], one["kind"]) for one in lines if one["event"] == telemetry.BUDGET_EXCEEDED]
    assert over == [("mild", "day")]
    page = app.get("/metrics").text
    assert 'coe_budget_refusals_total{code="insufficient_quota"} 1\n' in page
    assert "coe_budget_soft_exceeded_total 2\n" in page


def test_a_stream_is_refused_as_a_whole_answer_is(limited):
    """An error with its status, and no stream."""
    app, simulator = limited({"alpha": Script()})
    reply = ask(app, "nothing", stream=True)
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "insufficient_quota")
    assert len(simulator.log) == 0


def test_over_a_rate_one_is_told_when_to_come_back(limited):
    """Another caller is not touched."""
    app, simulator = limited({"alpha": Script()})
    for left in ("1", "0"):
        reply = ask(app, "two", model="alpha-model")
        assert (reply.status_code, reply.headers["x-ratelimit-remaining-requests"]) == (200, left)
    reply = ask(app, "two", model="alpha-model")
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 25 < int(reply.headers["retry-after"]) <= 30
    assert "x-should-retry" not in reply.headers
    assert app.chat(model="alpha-model").status_code == 200
    assert len(simulator.log) == 3


def test_a_fallback_is_no_second_request_and_holds_its_own_money(limited):
    """Its first attempt failed: rates count once, the books have both, nothing stays held."""
    app, _ = limited({"alpha": http_error(500), "beta": Script()})
    reply = ask(app, "two")
    assert (reply.headers["x-coe-provider"], reply.headers["x-ratelimit-remaining-requests"]) == ("beta", "1")
    assert int(reply.headers["x-coe-attempts"]) > 1
    assert ask(app, "rich").status_code == 200
    assert (held(app), settled(app, f"m:a:{today()}")) == ({}, booked(app))


def today():
    """The UTC day."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def test_over_a_soft_budget_one_is_served_and_told(limited):
    """`budget` among what was given up."""
    app, _ = limited({"alpha": Script()})
    reply = ask(app, "mild", model="alpha-model")
    assert (reply.status_code, reply.headers["x-coe-degraded"]) == (200, "budget")
    assert "x-coe-degraded" not in app.chat(model="alpha-model").headers


# headers, caps


@pytest.mark.parametrize("stream", [False, True])
def test_rates_are_told_with_an_answer(limited, stream):
    """Of whatever kind; who is under none is told none."""
    app, _ = limited({"alpha": Script()})
    headers = ask(app, "sixty", model="alpha-model", stream=stream).headers
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("60", "59")
    assert headers["x-ratelimit-reset-requests"] == "1.000s"
    assert headers["x-ratelimit-limit-tokens"] == "100000"
    assert 90_000 < int(headers["x-ratelimit-remaining-tokens"]) < 100_000
    assert not [name for name in app.chat(model="alpha-model").headers if name.startswith("x-ratelimit")]


def caps(simulator):
    """The caps that a vendor was sent, `None` where there was none."""
    bodies = [json.loads(one.body) for one in simulator.log]
    return [body.get("max_tokens", body.get("max_completion_tokens")) for body in bodies]


def test_an_answer_is_capped_only_where_the_budget_has_no_room_for_the_longest(limited):
    """Nine of ten answers stay under that cap, and it is what was reserved."""
    app, simulator = limited({"alpha": Script()})
    assert [ask(app, tag, model="alpha-model").status_code for tag in ("rich", "dime")] == [200, 200]
    none, cap = caps(simulator)
    assert none is None
    assert 100 < cap < 8_000
    (whole, _), (short, _) = app.books.attempts()
    assert (whole.get("output_tokens_cap"), short["output_tokens_cap"]) == (None, cap)
    assert whole["reserved_pusd"] > 10**10 > short["reserved_pusd"]


def test_a_callers_own_cap_is_what_is_reserved(limited):
    """And sent as it is."""
    app, simulator = limited({"alpha": Script()})
    assert ask(app, "dime", model="alpha-model", max_tokens=77).status_code == 200
    assert caps(simulator) == [77]
    ((row, _),) = app.books.attempts()
    assert 77 * 1_200_000 <= row["reserved_pusd"] < 10**9


def test_without_a_budget_nothing_is_capped(limited):
    """Nobody has to be held to anything; a crash is charged at what nine of ten answers stay under, as ever."""
    app, simulator = limited({"alpha": Script()})
    assert app.chat(model="alpha-model").status_code == 200
    assert caps(simulator) == [None]
    ((row, _),) = app.books.attempts()
    assert row["reserved_pusd"] < 10**10


# what ended holds nothing


SLOW = Script(header_delay_s=0.4)


def test_requests_at_once_are_counted(limited):
    """The second is refused while the first runs."""
    app, simulator = limited({"alpha": SLOW})
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, app, "single", model="alpha-model")
        eventually(lambda: len(simulator.log) == 1)
        second = ask(app, "single", model="alpha-model")
        assert (second.status_code, second.json()["error"]["code"]) == (429, "concurrency_limit_exceeded")
        assert second.headers["retry-after"] == "1"
        assert first.result().status_code == 200
    assert ask(app, "single", model="alpha-model").status_code == 200


def test_an_official_client_waits_and_asks_again(limited):
    """It is told when; for money it is told not to."""
    app, simulator = limited({"alpha": SLOW})
    client = openai.OpenAI(base_url=f"{app.url}/v1", api_key="x", max_retries=2)

    def ask_by(tag):
        messages = [{"role": "user", "content": "hello"}]
        return client.chat.completions.create(
            model="alpha-model", messages=messages, extra_body={"coe": {"tags": [tag]}}
        )

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask_by, "single")
        eventually(lambda: len(simulator.log) == 1)
        begun = time.monotonic()
        assert ask_by("single").choices
        assert time.monotonic() - begun >= 1
        assert first.result().choices
    begun = time.monotonic()
    with pytest.raises(openai.RateLimitError, match="may cost up to"):
        ask_by("nothing")
    assert time.monotonic() - begun < 0.4, "a first repeat comes after half a second"


@pytest.mark.parametrize(
    ("script", "body", "status"),
    [
        (Script(), {}, 200),
        (Script(), {"stream": True}, 200),
        (http_error(400, error_type="invalid_request_error", error_code="bad"), {}, 400),
        (http_error(500), {}, 502),
        (Script(fault=Fault.HANG_UP), {"stream": True}, 502),
        (Script(fault=Fault.SILENCE), {"coe": {"max_latency_ms": 100}}, 504),
        (Script(fault=Fault.CUT, fault_after=2), {"stream": True}, 200),
    ],
    ids=["whole", "stream", "refused by the vendor", "broken vendor", "hangs up", "too slow", "cut in the middle"],
)
def test_slots_and_money_come_back_however_a_request_ends(limited, script, body, status):
    """The next one finds room, and the counters have what the ledger has."""
    app, _ = limited({"alpha": script})
    for _ in range(2):
        steering = {"tags": ["single", "rich"], **body.get("coe", {})}
        assert app.chat(model="alpha-model", **{**body, "coe": steering}).status_code in {status, 502}
        eventually(lambda: held(app) == {})
    eventually(lambda: settled(app, f"m:t:rich:{today()}") == booked(app))


@pytest.mark.parametrize("content", [False, True], ids=["before the first content", "in the middle"])
def test_who_leaves_holds_nothing(limited, content):
    """Before anything came, and in the middle of a stream."""
    script = Script(chunks=200, chunk_delay_s=0.02) if content else Script(header_delay_s=2.0)
    app, simulator = limited({"alpha": script})
    body = {"model": "alpha-model", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    body["coe"] = {"tags": ["single", "rich"]}
    raw = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", app.books.port)) as caller:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(raw)}\r\n"
        caller.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + raw)
        eventually(lambda: len(simulator.log) == 1)
        assert held(app)["c:t:single"] == 1
        if content:
            assert b"data:" in caller.recv(65_536) + caller.recv(65_536)
    eventually(lambda: held(app) == {})
    eventually(lambda: booked(app) > 0)
    assert settled(app, f"m:t:rich:{today()}") == booked(app)


def test_whoever_is_refused_all_day_uses_up_no_probe(limited):
    """A vendor that is back is found at once by those who may ask it."""
    app, simulator = limited({"alpha": http_error(500)})
    for _ in range(FAILURES_IN_A_ROW):
        app.chat(model="alpha-model")
    simulator.set_script("alpha", Script())
    eventually(
        lambda: [one["state"] for one in app.get("/readyz").json()["degraded"]["breakers"]] == ["half_open"], 5 * REST_S
    )
    assert [ask(app, "nothing", model="alpha-model").status_code for _ in range(3)] == [429] * 3
    assert app.chat(model="alpha-model").status_code == 200


# in one process, where the moment can be chosen


class Clock:
    """Time that stands still."""

    def utc(self):
        return NOW

    def monotonic(self):
        return 100.0


class Stage:
    """A ledger and a transport; `gate` holds what is opened up, `fails` are what they raise in turn."""

    def __init__(self, *fails, problem=None):
        self.fails, self.problem, self.opened, self.sent = list(fails), problem, [], 0
        self.gate = asyncio.Event()
        self.gate.set()

    def hold_decision(self, _record):
        return b""

    def no_attempt(self):
        pass

    async def append_open(self, entry):
        self.opened.append(entry)
        await self.gate.wait()
        if self.problem:
            raise self.problem

    async def append_terminal(self, _entry):
        pass

    def terminal_at_once(self, _entry):
        return True

    async def send(self, _request):
        self.sent += 1
        raise self.fails.pop(0) if self.fails else NotSent("no", cause="connect_refused")


def a_pipeline(stage, *models, **limits):
    """(pipeline, what arrives at it): a key with these limits."""
    clock = Clock()
    limiter = Limiter(LocalCounters(lambda: int(NOW.timestamp() * 1000)))
    pipeline = Pipeline(
        catalog=a_catalog(*models or (a_model("m", at=("a", "b"), output_tokens_max=1_000),)),
        classifier=WordClassifier(),
        client=UpstreamClient(stage, PROTOCOLS, clock),
        ledger=stage,
        clock=clock,
        attempts_max=3,
        deadline_s=600,
        limiter=limiter,
    )
    return pipeline, Arrival("req_1", Caller("key_1", "k", limits=Limits(**limits)), 100.0)


def holds(pipeline):
    """(money held today, slots held)."""
    own = pipeline.limiter.counters.holdings._own
    name = f"m:k:key_1:{day_of(NOW)}"
    return (own[name].held if name in own else 0, own["c:k:key_1"].held if "c:k:key_1" in own else 0)


async def test_who_is_cancelled_before_its_attempt_was_opened_holds_nothing():
    """The row waits for its disk."""
    stage = Stage()
    stage.gate.clear()
    pipeline, arrival = a_pipeline(stage, day_pusd=10**12, concurrency=1)
    arrival.cut_by = "client_left"
    asking = asyncio.create_task(pipeline.answer(a_chat(), arrival))
    while not stage.opened:
        await asyncio.sleep(0)
    assert holds(pipeline)[0] > 0
    assert holds(pipeline)[1] == 1
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (holds(pipeline), stage.sent) == ((0, 0), 0)


@pytest.mark.parametrize("problem", [LedgerUnavailable("full"), ValueError("a row of 2 MB")])
async def test_what_can_not_be_written_down_holds_nothing(problem):
    """Nor is it sent."""
    stage = Stage(problem=problem)
    pipeline, arrival = a_pipeline(stage, day_pusd=10**12, concurrency=1)
    with pytest.raises(Exception, match=r"full|2 MB"):
        await pipeline.answer(a_chat(), arrival)
    assert (holds(pipeline), stage.sent) == ((0, 0), 0)


async def test_when_all_attempts_failed_nothing_is_held():
    """Each reserved for itself; what none was billed for is not spent."""
    stage = Stage()
    pipeline, arrival = a_pipeline(stage, day_pusd=10**12, concurrency=1, requests_per_minute=5)
    with pytest.raises(Exception, match="connect_refused") as caught:
        await pipeline.answer(a_chat(), arrival)
    assert (holds(pipeline), stage.sent) == ((0, 0), 3)
    assert caught.value.headers["x-ratelimit-remaining-requests"] == "4"


async def test_a_fallback_that_does_not_fit_any_more_is_refused_for_its_money():
    """The first attempt may be billed, and took what there was: nothing more is sent."""
    stage = Stage(Replied("no", cause="http_500", upstream_status=500), *[NotSent("no", cause="x")] * 5)
    models = (
        a_model("cheap", (1, 2), at=("a",), output_tokens_max=1_000, quality=0.9),
        a_model("dear", (100, 200), at=("b",), output_tokens_max=1_000, quality=0.9),
    )
    pipeline, arrival = a_pipeline(stage, *models, day_pusd=10**10, concurrency=1)
    with pytest.raises(BudgetExhausted) as caught:
        await pipeline.answer(a_chat(), arrival)
    assert {one.provider for one in stage.opened} == {"a"}
    assert caught.value.headers["x-coe-attempts"] == str(stage.sent)
    assert holds(pipeline) == (0, 0)


async def test_a_fallback_that_is_too_dear_gives_way_to_the_next_that_fits():
    """The budget refuses what does not fit, not the request: nothing of it was sent to the dear one."""
    stage = Stage(*[NotSent("no", cause="connect_refused")] * 5)
    models = (
        a_model("good", (1, 2), at=("a",), output_tokens_max=1_000, quality=0.99),
        a_model("dear", (100, 200), at=("b",), output_tokens_max=1_000, quality=0.95),
        a_model("plain", (1, 2), at=("c",), output_tokens_max=1_000, quality=0.90),
    )
    pipeline, arrival = a_pipeline(stage, *models, day_pusd=10**10, concurrency=1)
    with pytest.raises(Exception, match="connect_refused") as caught:
        await pipeline.answer(a_chat(model="auto:best"), arrival)
    assert {one.provider for one in stage.opened} == {"a", "c"}
    assert stage.opened[0].provider == "a"
    assert caught.value.status == 502, "those who were asked failed: that is the reason, not money"
    assert holds(pipeline) == (0, 0)


async def test_the_first_that_is_too_dear_is_refused_whoever_else_would_fit():
    """A budget refuses; it does not steer."""
    stage = Stage()
    models = (
        a_model("dear", (100, 200), at=("b",), output_tokens_max=1_000, quality=0.95),
        a_model("plain", (1, 2), at=("c",), output_tokens_max=1_000, quality=0.90),
    )
    pipeline, arrival = a_pipeline(stage, *models, day_pusd=10**10)
    with pytest.raises(BudgetExhausted):
        await pipeline.answer(a_chat(model="auto:best"), arrival)
    assert stage.opened == []


async def test_who_is_refused_for_a_rate_holds_nothing_and_writes_no_row():
    """And the key's next request is judged by its limits of then."""
    stage = Stage()
    pipeline, arrival = a_pipeline(stage, concurrency=0)
    with pytest.raises(RateLimited):
        await pipeline.answer(a_chat(), arrival)
    assert (stage.opened, holds(pipeline)) == ([], (0, 0))
    arrival.caller = replace(arrival.caller, limits=Limits())
    with pytest.raises(Exception, match="connect_refused"):
        await pipeline.answer(a_chat(), arrival)
