"""The one owner of attempts, on the real app and simulated vendors: who is called how often, and what callers get."""

from __future__ import annotations

import dataclasses
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest
from scenery import eventually

from service.routing import health
from service.routing.health import FAILURES_IN_A_ROW, REST_S, REST_S_MAX, SPREAD
from service.simulator import Fault, Script, VendorScript, http_error

MANY = 60


def calls(simulator, vendor):
    """How many requests a vendor has seen."""
    return sum(1 for one in simulator.log if one.vendor == vendor)


def resting(app):
    """What readiness says about breakers."""
    return app.get("/readyz").json()["degraded"].get("breakers", [])


@pytest.mark.parametrize(
    ("fault", "each"), [(http_error(500), 2), (Script(fault=Fault.HANG_UP), 1)], ids=["500", "hang up"]
)
def test_a_dead_vendor_is_asked_until_its_breaker_opens_and_then_by_probes_only(serving, fault, each):
    """Every caller is answered by the other one; the dead one sees a handful of calls, not one per request."""
    app, simulator = serving({"alpha": fault, "beta": Script()})
    begun = time.monotonic()
    replies = [app.chat() for _ in range(MANY)]
    probes = (time.monotonic() - begun) / REST_S
    assert {reply.status_code for reply in replies} == {200}
    assert FAILURES_IN_A_ROW * each <= calls(simulator, "alpha") <= FAILURES_IN_A_ROW * each + probes
    passed_over = [reply for reply in replies if reply.headers["x-coe-attempts"] == "1"]
    assert len(passed_over) >= MANY - calls(simulator, "alpha")
    assert "resting" in passed_over[0].headers["x-coe-degraded"]


def test_a_breaker_closes_by_itself_when_the_vendor_is_back(serving, monkeypatch):
    """The first probe after its rest is an ordinary request, which it answers."""
    monkeypatch.setattr(health, "_Breaker", partial(health._Breaker, rest_s=4.0))  # time to look on a busy machine
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
    replies = [app.chat() for _ in range(2 * MANY)]
    assert {reply.status_code for reply in replies} <= {502, 503}
    refused = [reply for reply in replies if reply.json()["error"]["code"] == "upstream_resting"]
    assert len(refused) >= MANY
    for reply in refused:
        assert 1 <= int(reply.headers["retry-after"]) <= 1 + REST_S_MAX * (1 + SPREAD)
        assert reply.headers["x-coe-attempts"] == "0"
        assert app.books.attempts(reply.headers["x-coe-decision-id"]) == []
    assert len(simulator.log) <= 1.2 * 2 * MANY


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
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "upstream_rate_limited")
    assert 50 <= int(reply.headers["retry-after"]) <= 73
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
    budget = app.house.pipeline.attempting.budget
    while budget.can_pay:
        budget.pay()
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


@pytest.mark.parametrize(
    "fault",
    [http_error(401), http_error(429, retry_after="5"), http_error(500), Script(fault=Fault.HANG_UP)],
    ids=["401", "429", "500", "hang up"],
)
def test_whoever_may_be_called_is_however_many_rest_before_it(serving, fault):
    """The second and the third rest; the fourth answers at once."""
    wrong_key = http_error(401)
    app, simulator = serving({"alpha": fault, "beta": wrong_key, "gamma": wrong_key, "delta": Script()})
    for name in ("beta-model", "gamma-model"):
        assert app.chat(model=name).status_code == 502
    begun = time.monotonic()
    assert app.chat().headers["x-coe-provider"] == "delta"
    assert time.monotonic() - begun < 2
    assert (calls(simulator, "beta"), calls(simulator, "gamma")) == (1, 1)


def test_a_larger_context_is_found_behind_those_that_are_no_larger(serving):
    """Too long for the first; the next two are as small."""
    full = http_error(400, error_type="invalid_request_error", error_code="context_length_exceeded")
    names = ("alpha", "beta", "gamma", "delta")
    app, simulator = serving(dict.fromkeys(names[:3], full) | {"delta": Script()})
    models = app.house.pipeline.catalog.models
    larger = dataclasses.replace(models["delta-model"], context_tokens=1_000_000)
    catalog = dataclasses.replace(app.house.pipeline.catalog, models={**models, "delta-model": larger})
    app.house.pipeline.catalog = catalog
    reply = app.chat()
    assert (reply.status_code, reply.headers.get("x-coe-provider")) == (200, "delta")
    assert [one.vendor for one in simulator.log] == ["alpha", "delta"]


def test_one_request_takes_nobody_from_others(serving):
    """Its text makes every vendor speak of keys, credit or names: innocent requests are answered all the same."""
    for status, words in ((400, "Invalid schema for function 'rotate_api_key'"), (402, "credit"), (403, "flagged")):
        app, simulator = serving({"alpha": Script(), "beta": Script(), "gamma": Script()})
        bad = http_error(status, error_message=words)
        for name in ("alpha", "beta", "gamma"):
            simulator.push(name, bad, bad)
        app.chat()
        assert resting(app) == []
        simulator.clear_log()
        assert all(app.chat(model=f"{name}-model").status_code in {200, 502} for name in ("alpha", "beta", "gamma"))


def test_one_bad_key_of_several_is_passed_over(serving):
    """Every caller is answered, by the other keys; the deployment rests only when all of its keys are refused."""
    app, simulator = serving({"alpha": Script()})
    give_keys(app, "alpha", ("key-good-1", "key-bad", "key-good-2"))
    simulator.set_script("alpha", VendorScript(api_keys=("key-good-1", "key-good-2")))
    replies = [app.chat(model="alpha-model") for _ in range(12)]
    assert {reply.status_code for reply in replies} == {200}
    used = [one.headers["authorization"] for one in simulator.log]
    assert used.count("Bearer key-bad") == 1
    assert sorted(reply.headers["x-coe-attempts"] for reply in replies) == ["1"] * 11 + ["2"]
    simulator.set_script("alpha", VendorScript(api_keys=("another",)))
    assert app.chat(model="alpha-model").status_code == 502
    assert [one["cause"] for one in resting(app)] == ["auth_failed"]
    assert "key-" not in app.chat(model="alpha-model").text


def give_keys(app, provider, keys):
    """The same registry, with keys for a provider."""
    catalog = app.house.pipeline.catalog

    def keyed(model):
        hosts = [
            dataclasses.replace(one, provider=dataclasses.replace(one.provider, api_keys=keys))
            if one.provider.name == provider
            else one
            for one in model.deployments
        ]
        return dataclasses.replace(model, deployments=tuple(hosts))

    models = {name: keyed(model) for name, model in catalog.models.items()}
    app.house.pipeline.catalog = dataclasses.replace(catalog, models=models)


def test_silence_until_the_routers_own_deadline_counts(serving):
    """The operator set it: who does not answer within fails, and the next callers are spared."""
    app, _ = serving({"alpha": Script(fault=Fault.SILENCE), "beta": Script()}, deadline_s=1)
    statuses = [app.chat().status_code for _ in range(FAILURES_IN_A_ROW + 2)]
    assert statuses == [504] * FAILURES_IN_A_ROW + [200, 200]


def test_silence_until_a_callers_own_limit_does_not(serving):
    """Whoever is in a hurry takes nobody's vendor away."""
    app, _ = serving({"alpha": Script(header_delay_s=0.3), "beta": Script()})
    for _ in range(FAILURES_IN_A_ROW + 1):
        assert app.chat(coe={"max_latency_ms": 60}).status_code == 504
    assert resting(app) == []
    assert app.chat().headers["x-coe-provider"] == "alpha"


def test_a_fault_with_a_retry_after_is_left_alone(serving):
    """503 with Retry-After 30: one call, and nobody calls it meanwhile."""
    app, simulator = serving({"alpha": http_error(503, retry_after="30"), "beta": Script()})
    assert [app.chat().headers["x-coe-attempts"] for _ in range(3)] == ["2", "1", "1"]
    assert calls(simulator, "alpha") == 1


def test_who_comes_during_a_short_rest_waits_for_it(serving):
    """A limit of a second or two of the only vendor is a wait, not an error."""
    app, simulator = serving({"alpha": Script(), "beta": Script()})
    simulator.push("beta", http_error(429, retry_after="1"))
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(app.chat, model="beta-model")
        eventually(lambda: bool(resting(app)))
        rest = [pool.submit(app.chat, model="beta-model") for _ in range(3)]
        assert [one.result().status_code for one in (first, *rest)] == [200] * 4
    assert calls(simulator, "beta") == 5


def test_a_wrong_key_is_told_as_such_also_while_it_rests(serving):
    """502 each time, and no SDK is told to come back: somebody has to mend it first."""
    app, simulator = serving({"alpha": Script(), "beta": http_error(401)})
    for _ in range(2):
        reply = app.chat(model="beta-model")
        assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_auth_failed")
        assert reply.headers["x-should-retry"] == "false"
        assert "retry-after" not in reply.headers
    assert calls(simulator, "beta") == 1


def test_a_content_refusal_under_a_200_is_the_callers(serving):
    """Its words are passed on, it is not asked twice, and nobody rests for it."""
    refusal = Script(
        fault=Fault.HTTP_ERROR, status=200, error_code="data_inspection_failed", error_message="Input is inappropriate."
    )
    app, simulator = serving({"alpha": refusal, "beta": Script()})
    for _ in range(FAILURES_IN_A_ROW):
        reply = app.chat()
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "data_inspection_failed")
        assert reply.json()["error"]["message"] == "Input is inappropriate."
    assert calls(simulator, "alpha") == FAILURES_IN_A_ROW
    assert resting(app) == []


def poisoned(app, simulator, key, number, **body):
    """So many requests of a caller on which every vendor fails; all of them are well again afterwards."""
    for vendor in ("alpha", "beta", "gamma"):
        simulator.set_script(vendor, http_error(500))
    replies = [app.chat(headers=bearer(key), **body) for _ in range(number)]
    for vendor in ("alpha", "beta", "gamma"):
        simulator.set_script(vendor, Script())
    assert {reply.status_code for reply in replies} <= {502, 503}
    return replies


def bearer(key):
    """The header of a caller."""
    return {"authorization": f"Bearer {key.secret}"}


@pytest.mark.parametrize("pinned", [False, True], ids=["to anybody", "to one after the other"])
def test_poisonous_requests_of_one_caller_take_no_vendor_from_others(serving, capsys, pinned):
    """Thirty requests on which every vendor answers 500: only who sent them is kept away, and the log says whom."""
    app, simulator = serving({"alpha": Script(), "beta": Script(), "gamma": Script()})
    bad, good = app.house.keys.create("bad"), app.house.keys.create("good")
    bodies = [{"model": f"{name}-model"} for name in ("alpha", "beta", "gamma")] if pinned else [{}]
    for body in bodies:
        replies = poisoned(app, simulator, bad, 30 // len(bodies), **body)
        assert "upstream_resting" in {reply.json()["error"]["code"] for reply in replies}
    assert {(one["state"], one["callers"]) for one in resting(app)} <= {("open", 1), ("half_open", 1)}
    assert len(resting(app)) >= 3
    simulator.clear_log()
    for name in ("alpha", "beta", "gamma"):
        reply = app.chat(headers=bearer(good), model=f"{name}-model")
        assert (reply.status_code, reply.headers["x-coe-attempts"]) == (200, "1")
        assert "x-coe-degraded" not in reply.headers
    assert app.chat(headers=bearer(good)).headers["x-coe-provider"] == "alpha"
    opened = [line for line in "".join(capsys.readouterr()).splitlines() if "breaker_opened" in line]
    assert opened
    assert all(bad.id in line for line in opened)


def test_poison_among_good_requests_keeps_nobody_away(serving):
    """As many of one caller fail everywhere as are answered: that is half, and no breaker opens."""
    app, simulator = serving({"alpha": Script(), "beta": Script()})
    for _ in range(12):
        simulator.push("alpha", http_error(500), http_error(500))
        simulator.push("beta", http_error(500))
        assert app.chat().status_code == 502
        assert app.chat().status_code == 200
        assert app.chat(model="beta-model").status_code == 200
    assert resting(app) == []


@pytest.mark.parametrize("callers", [1, 2, 7])
def test_in_a_total_outage_breakers_open_however_many_ask(serving, callers):
    """I9 with keys: each finds out by itself, or together they do."""
    app, simulator = serving({"alpha": http_error(500), "beta": http_error(503)})
    keys = [app.house.keys.create(f"k{number}") for number in range(callers)]
    replies = [app.chat(headers=bearer(keys[number % callers])) for number in range(2 * MANY)]
    assert {reply.status_code for reply in replies} <= {502, 503}
    assert sum(reply.json()["error"]["code"] == "upstream_resting" for reply in replies) >= MANY
    assert len(simulator.log) <= 1.2 * 2 * MANY


def test_two_dead_vendors_rest_for_everybody_while_a_third_answers(serving):
    """The third shows that nothing is wrong with the requests."""
    app, _ = serving({"alpha": http_error(500), "beta": Script(fault=Fault.HANG_UP), "gamma": Script()})
    key = app.house.keys.create("k")
    for _ in range(FAILURES_IN_A_ROW + 1):
        assert app.chat(headers=bearer(key)).headers["x-coe-provider"] == "gamma"
    assert [(one["deployment"], "callers" in one) for one in resting(app)] == [
        ("alpha/alpha-model", False),
        ("beta/beta-model", False),
    ]
