"""The routes on real sockets: who gets in, which bodies are read, whose decision is shown."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
import pytest
from scenery import eventually

from service.api.chat_body import read_chat
from service.simulator import Script

BODY = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def app(serving):
    """The app over one healthy vendor, without keys."""
    return serving({"alpha": Script()})[0]


def with_key(app, **limits):
    """A key's headers."""
    made = app.house.keys.create("k", **limits)
    return {"authorization": f"Bearer {made.secret}"}


def raw(app, head: bytes, body: bytes = b"", wait_s: float = 5.0) -> bytes:
    """What the server answers to these bytes, until it hangs up or is silent."""
    with socket.create_connection(("127.0.0.1", app.books.port)) as wire:
        wire.settimeout(wait_s)
        wire.sendall(head + body)
        got = b""
        try:
            while chunk := wire.recv(65_536):
                got += chunk
                if b"\r\n\r\n" in got and b'"error"' in got:
                    break
        except TimeoutError:
            pass
        return got


def post(app, content, **headers):
    """POST raw bytes as a chat."""
    given = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return httpx.post(f"{app.url}/v1/chat/completions", content=content, headers=given, timeout=10, trust_env=False)


def test_without_keys_this_machine_gets_in_and_web_pages_do_not(app):
    """A page that the user visits can reach loopback: its Origin or its Host gives it away."""
    assert app.chat().status_code == 200
    assert app.chat(headers={"authorization": "Bearer whatever-an-sdk-insists-on"}).status_code == 200
    foreign = app.chat(headers={"origin": "https://evil.example"})
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "foreign_origin")
    rebound = app.chat(headers={"host": "evil.example"})
    assert (rebound.status_code, rebound.json()["error"]["code"]) == (403, "foreign_host")


def test_with_keys_everybody_needs_one(app):
    """Missing, wrong, malformed and double: 401 with its code, nothing echoed; the right one gets in."""
    key = with_key(app)
    missing = app.chat()
    assert (missing.status_code, missing.json()["error"]["code"]) == (401, "missing_api_key")
    for wrong in ("Bearer coe-wrong-canary", "Basic canary", "Bearer", "canary"):
        reply = app.chat(headers={"authorization": wrong})
        assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")
        assert "canary" not in reply.text
        assert reply.headers["www-authenticate"] == "Bearer"
        assert reply.headers["x-should-retry"] == "false"
    assert app.chat(headers=key).status_code == 200


def test_a_revoked_key_gets_nothing(app):
    """Soon after `revoke`, on every route that asks."""
    made = app.house.keys.create("k")
    key = {"authorization": f"Bearer {made.secret}"}
    assert app.get("/v1/models", **key).status_code == 200
    app.house.keys.revoke(made.id)
    eventually(lambda: app.get("/v1/models", **key).status_code == 401, 3)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/alpha-model", "/v1/decisions/dec_1"])
def test_reading_needs_a_key_too(app, path):
    """No route beside health answers strangers once keys exist."""
    with_key(app)
    assert app.get(path).status_code == 401
    assert app.get("/healthz").status_code == 200


def test_a_decision_is_shown_only_to_the_key_that_owns_it(app):
    """404 for another key, and for nobody's, from memory and from the index alike."""
    mine, other = with_key(app), with_key(app)
    path = f"/v1/decisions/{app.chat(headers=mine).headers['x-coe-decision-id']}"
    assert app.get(path, **mine).json()["cost_usd"]
    for _ in range(2):
        reply = app.get(path, **other)
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "decision_not_found")
        app.house.pipeline._decisions.clear()
        eventually(lambda: app.get(path, **mine).status_code == 200)


def test_a_decision_is_told_in_one_form(app):
    """Dry run, answer and record: the same fields, with the same change that would let the same one win."""
    dry = httpx.post(f"{app.url}/v1/route", json=BODY, trust_env=False).json()
    answer = app.chat(coe={"explain": True})
    path = f"/v1/decisions/{answer.headers['x-coe-decision-id']}"
    told, remembered = answer.json()["coe"], app.get(path).json()
    app.house.pipeline._decisions.clear()
    eventually(lambda: app.get(path).status_code == 200)
    stored = app.get(path).json()
    assert set(dry) - {"dry_run", "budgets"} == set(told) - {"attempts"}
    (second,) = [one for one in dry["what_if"]["alternatives"] if "runner_up" in one["as"]]
    assert second["deployment"] == dry["runner_up"]
    assert "expected_cost_usd" in {one["lever"] for one in second["wins_if"]}
    for record in (told, remembered, stored):
        assert record["chosen"] == dry["chosen"]
        assert [one["deployment"] for one in record["what_if"]["alternatives"]] == [
            one["deployment"] for one in dry["what_if"]["alternatives"]
        ]
    assert set(stored) == set(remembered)
    assert set(stored) - set(told) == {"figures", "request_id", "key_id", "cost_usd"}


def test_a_key_is_held_to_its_models(app):
    """403 for a model that it may not name, which its model list does not offer either."""
    key = with_key(app, models=["baseline-model"])
    reply = app.chat(model="alpha-model", headers=key)
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "model_not_allowed")
    assert app.chat(headers=key).headers["x-coe-model"] == "baseline-model"
    assert "alpha-model" not in [one["id"] for one in app.get("/v1/models", **key).json()["data"]]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_encoding": "gzip"}, 415),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-ndjson"}, 415),
        ({"content_type": "application/json; charset=utf-8"}, 200),
        ({"content_type": "application/vnd.api+json"}, 200),
        ({"content_encoding": "identity"}, 200),
    ],
)
def test_only_plain_json_is_read(app, headers, status):
    """415 says what to send."""
    assert post(app, json.dumps(BODY).encode(), **headers).status_code == status


def test_a_body_over_the_limit_is_refused_before_it_is_read(serving):
    """By its announced length, with not a byte of it sent; and by what arrives when no length was announced."""
    app, simulator = serving({"alpha": Script()}, body_bytes_max=2_048)
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"content-length: 9000000\r\n\r\n"
    )
    answer = raw(app, head)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()
    assert b"request_too_large" in answer
    chunked = httpx.post(
        f"{app.url}/v1/chat/completions",
        content=iter([b" " * 1_500, b" " * 1_500]),
        headers={"content-type": "application/json"},
        trust_env=False,
    )
    assert chunked.status_code == 413
    assert simulator.log == []


def test_a_body_that_does_not_come_is_not_waited_for_for_ever(app, monkeypatch):
    """408 and the connection is closed."""
    monkeypatch.setattr("service.api.incoming.BODY_S", 0.2)
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"content-length: 100\r\n\r\n{"
    )
    answer = raw(app, head)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"body_timeout" in answer


def test_a_caller_that_leaves_in_the_body_leaves_no_trace(serving):
    """No row, no upstream call."""
    app, simulator = serving({"alpha": Script()})
    with socket.create_connection(("127.0.0.1", app.books.port)) as wire:
        wire.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            b"content-length: 100\r\n\r\n{"
        )
    time.sleep(0.2)
    assert simulator.log == []
    assert app.books.attempts() == []


def test_bad_json_is_a_400_with_our_shape(app):
    """Shape of the error, final, with a request id and without a decision: none was made."""
    reply = post(app, b'{"model": "auto"')
    assert reply.status_code == 400
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert reply.headers["x-should-retry"] == "false"
    assert reply.headers["x-request-id"].startswith("req_")
    assert "x-coe-decision-id" not in reply.headers


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("POST", "/v1/chat/completions/", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/no-such-model", 404, "model_not_found"),
        ("GET", "/", 404, "unknown_url"),
    ],
)
def test_wrong_urls_and_methods_in_openai_shape(app, method, path, status, code):
    """No redirect, no HTML, `Allow` where a method is wrong."""
    reply = httpx.request(method, app.url + path, trust_env=False)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert reply.headers["x-request-id"]
    assert ("allow" in reply.headers) == (status == 405)


def test_the_dry_run_spends_nothing_and_tells_everything(serving):
    """The full decision with its evidence; no row, no call; the same errors as the real thing."""
    app, simulator = serving({"alpha": Script(), "beta": Script()})
    reply = httpx.post(
        f"{app.url}/v1/route", json={**BODY, "messages": [{"role": "user", "content": "translate me"}]}, trust_env=False
    )
    told = reply.json()
    assert (told["dry_run"], told["budgets"]) == (True, None)
    assert told["chosen"] == "alpha/alpha-model"
    assert told["intent"]["terms"] == [{"term": "translate", "weight": 1.5}, {"term": "me", "weight": 1.5}]
    assert [one["deployment"] for one in told["candidates"]][:2] == ["alpha/alpha-model", "beta/beta-model"]
    wrong = httpx.post(f"{app.url}/v1/route", json={**BODY, "model": "alhpa-model"}, trust_env=False)
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (404, "model")
    assert "alpha-model" in wrong.json()["error"]["message"]
    assert (simulator.log, app.books.rows()[1:]) == ([], [])


def test_unknown_names_are_404_with_suggestions(app):
    """Models and policies, in the body and in headers."""
    assert "alpha-model" in app.chat(model="alpha-modle").json()["error"]["message"]
    reply = app.chat(headers={"x-coe-policy": "balancde"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (404, "coe.policy")
    assert "balanced" in reply.json()["error"]["message"]


def test_nobody_capable_is_422_with_the_constraint(app):
    """Named, final, and nothing was written for it."""
    reply = app.chat(coe={"deny": {"regions": ["eu"]}})
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "no_capable_model")
    assert "deny: its region" in reply.json()["error"]["message"]
    assert reply.headers["x-should-retry"] == "false"
    assert app.books.attempts() == []


def test_a_large_body_is_read_in_a_thread_with_the_same_result(app, monkeypatch):
    """Past the bound the loop is not held; the answer does not differ."""
    monkeypatch.setattr("service.api.chat.PARSE_IN_LOOP_BYTES_MAX", 10)
    assert app.chat().status_code == 200
    assert post(app, b"[]" + b" " * 20).status_code == 400


@pytest.mark.parametrize(("size", "in_loop"), [(32 * 1024, True), (32 * 1024 + 1, False)])
def test_where_a_body_is_read_goes_by_its_size(app, monkeypatch, size, in_loop):
    """Up to 32 KiB in the loop, where a thread would cost more than it saves."""
    threads = []

    def noted(data, headers):
        threads.append(threading.current_thread() is app.thread)
        return read_chat(data, headers)

    monkeypatch.setattr("service.api.chat.read_chat", noted)
    body = json.dumps(BODY).encode()
    assert post(app, body + b" " * (size - len(body))).status_code == 200
    assert threads == [in_loop]


def test_large_bodies_are_read_one_at_a_time(app, monkeypatch):
    """Several threads at once would keep the interpreter from the loop for as long as all of them take."""
    monkeypatch.setattr("service.api.chat.PARSE_IN_LOOP_BYTES_MAX", 10)
    busy = threading.Lock()
    met = []

    def alone(data, headers):
        met.append(busy.acquire(blocking=False))
        time.sleep(0.02)
        try:
            return read_chat(data, headers)
        finally:
            if met[-1]:
                busy.release()

    monkeypatch.setattr("service.api.chat.read_chat", alone)
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda _: app.chat().status_code, range(8)))
    assert (statuses, met) == ([200] * 8, [True] * 8)


def test_the_callers_request_id_is_kept(app):
    """So that logs on both sides meet; it is in the ledger too."""
    reply = app.chat(headers={"x-request-id": "caller-id.0001"})
    assert reply.headers["x-request-id"] == "caller-id.0001"
    assert app.books.attempts()[0][0]["request_id"] == "caller-id.0001"
    assert abs(app.books.attempts()[0][0]["at_ms"] / 1000 - datetime.now(UTC).timestamp()) < 60
