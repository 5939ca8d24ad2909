"""The one owner of attempts, on the real app and simulated vendors: who is called how often, and what callers get."""

from __future__ import annotations

import socket
import time

import httpx
import pytest
from scenery import eventually

from service.routing.health import FAILURES_IN_A_ROW, REST_S
from service.simulator import Fault, Script, http_error

MANY = 60


def calls(simulator, vendor):
    """How many requests a vendor has seen."""
    return sum(1 for one in simulator.log if one.vendor == vendor)


def resting(app):
    """What readiness says about breakers."""
    return app.get("/readyz").json()["degraded"].get("breakers", [])


@pytest.mark.parametrize("fault", [http_error(500), Script(fault=Fault.HANG_UP)], ids=["500", "hang up"])
def test_a_dead_vendor_is_asked_until_its_breaker_opens_and_then_by_probes_only(serving, fault):
    """Every caller is answered by the other one; the dead one sees a handful of calls, not one per request."""
    app, simulator = serving({"alpha": fault, "beta": Script()})
    begun = time.monotonic()
    replies = [app.chat() for _ in range(MANY)]
    probes = (time.monotonic() - begun) / REST_S
    assert {reply.status_code for reply in replies} == {200}
    assert FAILURES_IN_A_ROW <= calls(simulator, "alpha") <= FAILURES_IN_A_ROW + probes
    passed_over = [reply for reply in replies if reply.headers["x-coe-attempts"] == "1"]
    assert len(passed_over) >= MANY - calls(simulator, "alpha")
    assert "resting" in passed_over[0].headers["x-coe-degraded"]


def test_a_breaker_closes_by_itself_when_the_vendor_is_back(serving):
    """The first probe after its rest is an ordinary request, which it answers."""
    app, simulator = serving({"alpha": http_error(500), "beta": Script()})
    for _ in range(FAILURES_IN_A_ROW):
        app.chat()
    assert [(one["state"], one["cause"]) for one in resting(app)] == [("open", "http_500")]
    (rested,) = resting(app)
    assert rested["deployment"] == "alpha/alpha-model"
    assert f'coe_deployment_resting{{deployment="{rested["deployment"]}"}} 1\n' in app.get("/metrics").text
    simulator.set_script("alpha", Script())
    assert app.chat().headers["x-coe-provider"] == "beta", "it rests"
    eventually(lambda: [one["state"] for one in resting(app)] == ["half_open"])
    assert app.chat().headers["x-coe-provider"] == "alpha"
    assert resting(app) == []


def test_in_a_total_outage_hardly_anything_is_called(serving):
    """I9: upstream calls at most 1.2 per request; who can't be served is told so at once, and when to come back."""
    app, simulator = serving({"alpha": http_error(500), "beta": http_error(503)})
    begun = time.monotonic()
    replies = [app.chat() for _ in range(MANY)]
    seconds = time.monotonic() - begun
    assert {reply.status_code for reply in replies} <= {502, 503}
    refused = [reply for reply in replies if reply.json()["error"]["code"] == "upstream_resting"]
    assert len(refused) >= MANY / 2
    for reply in refused:
        assert 1 <= int(reply.headers["retry-after"]) <= 30
        assert reply.headers["x-coe-attempts"] == "0"
        assert app.books.attempts(reply.headers["x-coe-decision-id"]) == []
    # three models at two vendors, each with a breaker; then a probe for each rest that ended
    assert len(simulator.log) <= 3 * (FAILURES_IN_A_ROW + 1) + 3 * seconds / REST_S
    assert len(simulator.log) <= 1.2 * MANY


def test_refusals_of_a_callers_own_requests_open_nothing(serving):
    """A caller who sends nonsense all day takes nobody's vendor away."""
    wrong = http_error(400, error_type="invalid_request_error", error_code="bad_seed", error_message="too large")
    app, simulator = serving({"alpha": wrong, "beta": Script()})
    assert {app.chat().status_code for _ in range(3 * FAILURES_IN_A_ROW)} == {400}
    assert calls(simulator, "alpha") == 3 * FAILURES_IN_A_ROW
    assert resting(app) == []


def test_one_who_leaves_opens_nothing(serving):
    """Callers that hang up before the first content are not the vendor's fault."""
    app, simulator = serving({"alpha": Script(header_delay_s=0.4), "beta": Script()})
    body = b'{"model":"auto","messages":[{"role":"user","content":"hello"}],"stream":true}'
    for count in range(FAILURES_IN_A_ROW + 1):
        with socket.create_connection(("127.0.0.1", app.books.port)) as caller:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n"
            caller.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
            eventually(lambda count=count: calls(simulator, "alpha") > count)
    eventually(lambda: len([1 for _, ends in app.books.attempts() if ends]) == FAILURES_IN_A_ROW + 1)
    assert resting(app) == []


def test_a_limit_is_waited_for_when_nobody_else_can_answer(serving):
    """429 with Retry-After 1 at the only deployment of a named model: one answer, two attempts, a second between."""
    app, simulator = serving({"alpha": Script(), "beta": Script()})
    simulator.push("beta", http_error(429, retry_after="1"))
    begun = time.monotonic()
    reply = app.chat(model="beta-model")
    assert (reply.status_code, reply.headers["x-coe-attempts"]) == (200, "2")
    assert time.monotonic() - begun >= 1
    assert float(reply.headers["x-coe-overhead-ms"]) < 500, "waiting is no work of ours"
    assert resting(app) == []


def test_a_limit_moves_when_somebody_else_can(serving):
    """And whoever was limited is left alone until the time it named."""
    app, simulator = serving({"alpha": Script(), "beta": Script()})
    simulator.push("alpha", http_error(429, retry_after="30"))
    assert [app.chat().headers["x-coe-provider"] for _ in range(3)] == ["beta"] * 3
    assert calls(simulator, "alpha") == 1
    (rest,) = resting(app)
    assert (rest["state"], rest["cause"]) == ("open", "rate_limited")
    assert 25 < rest["for_s"] <= 36


def test_a_wait_that_is_too_long_is_left_to_the_caller(serving):
    """Retry-After 99999999 keeps nobody: 429 at once, and a limit of a minute."""
    app, simulator = serving({"alpha": Script(), "beta": http_error(429, retry_after="99999999")})
    begun = time.monotonic()
    reply = app.chat(model="beta-model")
    assert (reply.status_code, reply.headers["x-coe-attempts"]) == (429, "1")
    assert time.monotonic() - begun < 5
    reply = app.chat(model="beta-model")
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "upstream_resting")
    assert int(reply.headers["retry-after"]) <= 73
    assert calls(simulator, "beta") == 1


def test_our_own_key_that_is_refused_is_not_tried_again(serving, capsys):
    """One 401: the others answer, the log says whose key it is, and nothing of it."""
    app, simulator = serving({"alpha": http_error(401, error_message="bad key sk-canary"), "beta": Script()})
    assert [app.chat().headers["x-coe-provider"] for _ in range(5)] == ["beta"] * 5
    assert calls(simulator, "alpha") == 1
    told = "".join(capsys.readouterr())
    assert told.count("breaker_opened") == 1
    assert "auth_failed" in told
    assert "sk-canary" not in told


def test_no_fallback_means_nobody_else_also_while_the_choice_rests(serving):
    """The caller said so: 503, although beta could answer."""
    app, simulator = serving({"alpha": http_error(500), "beta": Script()})
    for _ in range(FAILURES_IN_A_ROW):
        assert app.chat(coe={"no_fallback": True}).status_code == 502
    reply = app.chat(coe={"no_fallback": True})
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "upstream_resting")
    assert "alpha/alpha-model: rests after http_500" in reply.json()["error"]["message"]
    assert calls(simulator, "beta") == 0


def test_a_stream_that_breaks_counts(serving):
    """After its first content nobody else answers, but the next ones are spared."""
    app, simulator = serving({"alpha": Script(fault=Fault.CUT, fault_after=3, chunk_delay_s=0.01), "beta": Script()})
    body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    broken = 0
    while not resting(app):
        with httpx.stream("POST", f"{app.url}/v1/chat/completions", json=body, trust_env=False) as reply:
            assert b'"error"' in b"".join(reply.iter_raw())
        broken += 1
        assert broken <= 10
    assert calls(simulator, "alpha") == broken >= FAILURES_IN_A_ROW
    assert app.chat().headers["x-coe-provider"] == "beta"


def test_without_budget_only_those_are_asked_that_nothing_speaks_against(serving):
    """A first attempt is always made, a healthy fallback always asked; what failed last is passed over."""
    app, simulator = serving({"alpha": Script(), "beta": Script()})
    while app.house.pipeline.attempting.budget.pay():
        pass
    simulator.push("alpha", http_error(500))
    reply = app.chat()
    assert (reply.headers["x-coe-provider"], reply.headers["x-coe-attempts"]) == ("beta", "2")
    simulator.push("beta", http_error(500))
    assert app.chat(model="beta-model").status_code == 502
    simulator.push("alpha", http_error(500), http_error(500), http_error(500))
    reply = app.chat()
    assert reply.status_code == 502
    assert "beta/beta-model: not asked, too many retries of late" in reply.json()["error"]["message"]


def test_a_reload_lets_everybody_try_again(serving):
    """Whoever mended a key need not wait."""
    app, simulator = serving({"alpha": http_error(401), "beta": Script()})
    app.chat()
    assert resting(app)
    simulator.set_script("alpha", Script())
    app.server.servers[0].get_loop().call_soon_threadsafe(
        lambda: app.server.servers[0].get_loop().create_task(app.house.reload())
    )
    eventually(lambda: not resting(app))
    assert app.chat().headers["x-coe-provider"] == "alpha"
