"""The catalogue of bad input: each line gets its stated error in the protocol's own shape; never a 5xx, never a row."""

from __future__ import annotations

import json
import socket

import httpx
import pytest
from stage import registry, start_router

from service.simulator import Script, SimulatorThread

MESSAGES = '"messages":[{"role":"user","content":"hi"}]'
CANARY = "canary-7f3a"


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    """One router for the module; at the end it must have sent nothing for any of the bad requests."""
    home = tmp_path_factory.mktemp("bad-input")
    with SimulatorThread({"alpha": Script()}) as simulator:
        router = start_router(home / "data", registry(home / "providers.yaml", simulator), COE_BODY_BYTES_MAX="65536")
        yield router
        log = router.log.read_text()
        assert "Traceback" not in log
        assert "internal_error" not in log
        assert CANARY not in log
        assert CANARY not in json.dumps(router.rows())
        assert router.stop() == 0


def nested(depth):
    """A message with a tool schema nested `depth` deep."""
    schema = '{"properties":' * depth + "{}" + "}" * depth
    return (
        f'{{"model":"auto",{MESSAGES},"tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}]}}'
    )


BODIES = {
    "empty": ("", None),
    "blank": ("  \n", None),
    "truncated": ('{"model":"auto","messages":[{"role":"us', None),
    "null": ("null", None),
    "array": ("[]", None),
    "string": ('"auto"', None),
    "invalid_utf8": (b'{"model":"auto","messages":[{"role":"user","content":"\xff\xfe"}]}', None),
    "lone_surrogate": ('{"model":"auto","messages":[{"role":"user","content":"\\ud800"}]}', None),
    "nan": (f'{{"model":"auto",{MESSAGES},"temperature":NaN}}', None),
    "infinity": (f'{{"model":"auto",{MESSAGES},"temperature":Infinity}}', None),
    "1e400": (f'{{"model":"auto",{MESSAGES},"temperature":1e400}}', None),
    "long_integer": (f'{{"model":"auto",{MESSAGES},"seed":{"9" * 5000}}}', None),
    "deep": ("[" * 20000, None),
    "deep_object": (f'{{"model":"auto",{MESSAGES},"x":{"[" * 100}{"]" * 100}}}', None),
    "duplicate_key": (f'{{"model":"auto",{MESSAGES},"model":"best"}}', None),
    "duplicate_key_escaped": (f'{{"model":"auto",{MESSAGES},"\\u006dodel":"best"}}', None),
    "trailing_garbage": (f'{{"model":"auto",{MESSAGES}}} x', None),
    "model_missing": (f"{{{MESSAGES}}}", "model"),
    "model_number": (f'{{"model":5,{MESSAGES}}}', "model"),
    "model_empty": (f'{{"model":"",{MESSAGES}}}', "model"),
    "model_long": (f'{{"model":"{"m" * 60000}",{MESSAGES}}}', "model"),
    "model_crlf": (f'{{"model":"a\\r\\nx-evil: 1",{MESSAGES}}}', "model"),
    "messages_missing": ('{"model":"auto"}', "messages"),
    "messages_null": ('{"model":"auto","messages":null}', "messages"),
    "messages_string": ('{"model":"auto","messages":"hi"}', "messages"),
    "messages_empty": ('{"model":"auto","messages":[]}', "messages"),
    "messages_many": (
        '{"model":"auto","messages":[' + ",".join(['{"role":"user","content":""}'] * 2100) + "]}",
        "messages",
    ),
    "message_no_object": ('{"model":"auto","messages":["hi"]}', "messages[0]"),
    "role_wrong": ('{"model":"auto","messages":[{"role":"wizard","content":"x"}]}', "messages[0].role"),
    "role_number": ('{"model":"auto","messages":[{"role":1,"content":"x"}]}', "messages[0].role"),
    "content_number": (f'{{"model":"auto","messages":[{{"role":"user","content":{5}}}]}}', "messages[0].content"),
    "content_missing": ('{"model":"auto","messages":[{"role":"user"}]}', "messages[0].content"),
    "part_no_type": (
        '{"model":"auto","messages":[{"role":"user","content":[{"text":"x"}]}]}',
        "messages[0].content[0]",
    ),
    "part_text_number": (
        '{"model":"auto","messages":[{"role":"user","content":[{"type":"text","text":1}]}]}',
        "messages[0].content[0].text",
    ),
    "image_file": (
        '{"model":"auto","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]}]}',
        "messages[0].content[0].image_url.url",
    ),
    "image_metadata": (
        '{"model":"auto","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://169.254.169.254/x"}}]}]}',
        "messages[0].content[0].image_url.url",
    ),
    "n_zero": (f'{{"model":"auto",{MESSAGES},"n":0}}', "n"),
    "n_float": (f'{{"model":"auto",{MESSAGES},"n":1.5}}', "n"),
    "max_tokens_negative": (f'{{"model":"auto",{MESSAGES},"max_tokens":-1}}', "max_tokens"),
    "max_tokens_huge": (f'{{"model":"auto",{MESSAGES},"max_tokens":99999999999}}', "max_tokens"),
    "temperature_high": (f'{{"model":"auto",{MESSAGES},"temperature":9}}', "temperature"),
    "temperature_text": (f'{{"model":"auto",{MESSAGES},"temperature":"hot"}}', "temperature"),
    "stream_text": (f'{{"model":"auto",{MESSAGES},"stream":"yes"}}', "stream"),
    "tools_object": (f'{{"model":"auto",{MESSAGES},"tools":{{}}}}', "tools"),
    "tools_deep": (nested(80), None),
    "coe_unknown": (f'{{"model":"auto",{MESSAGES},"coe":{{"polcy":"cheap"}}}}', "coe"),
    "coe_cost_negative": (f'{{"model":"auto",{MESSAGES},"coe":{{"max_cost_usd":-1}}}}', "coe.max_cost_usd"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_a_400_that_names_the_field(name, router):
    """400, OpenAI's error object, the field in `param`, and the official SDKs are told not to retry."""
    body, param = BODIES[name]
    data = body if isinstance(body, bytes) else body.encode()
    rows = len(router.rows())
    answer = httpx.post(f"{router.url}/v1/chat/completions", content=data, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert param is None or error["param"] == param
    assert answer.headers["x-should-retry"] == "false"
    assert len(router.rows()) == rows


def test_what_only_looks_odd_is_answered(router):
    """NUL and U+2028 in content, null where the SDK sends null, a BOM-free empty content: all fine."""
    body = {
        "model": "auto",
        "temperature": None,
        "tools": None,
        "messages": [
            {"role": "developer", "content": ""},
            {"role": "user", "content": "a\x00b\u2028c \U0001f600"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "1", "content": "ok"},
        ],
    }
    assert httpx.post(f"{router.url}/v1/chat/completions", json=body).status_code == 200


def test_unknown_names_are_404_with_a_suggestion(router):
    """A model that is merely unknown; an unknown policy; an unknown path; a wrong method."""
    ask = {"messages": [{"role": "user", "content": CANARY}]}
    answer = httpx.post(f"{router.url}/v1/chat/completions", json={"model": "alpha-modle", **ask})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert "alpha-model" in answer.json()["error"]["message"]
    policy = httpx.post(f"{router.url}/v1/chat/completions", json={"model": "auto", "coe": {"policy": "chep"}, **ask})
    assert (policy.status_code, policy.json()["error"]["param"]) == (404, "coe.policy")
    nowhere = httpx.get(f"{router.url}/v1/nothing")
    assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (404, "unknown_url")
    method = httpx.get(f"{router.url}/v1/chat/completions")
    assert (method.status_code, method.json()["error"]["code"]) == (405, "method_not_allowed")


def test_nothing_can_serve_is_422_naming_the_constraint(router):
    """The caller's own limits empty the list: the message says which."""
    ask = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
    for coe, word in (
        ({"deny": {"providers": ["alpha"]}}, "deny"),
        (
            {
                "allow": {"regions": ["eu"], "tags": ["test"], "models": ["baseline-model"]},
                "deny": {"models": ["baseline-model"]},
            },
            "deny",
        ),
        ({"max_cost_usd": 0.000000000001}, "cost"),
        ({"min_quality": 1}, "quality"),
    ):
        answer = httpx.post(f"{router.url}/v1/chat/completions", json={**ask, "coe": coe})
        assert answer.status_code == 422, answer.text
        assert word in answer.json()["error"]["message"]
    long = httpx.post(f"{router.url}/v1/route", json={**ask, "max_tokens": 50_000})
    assert (long.status_code, long.json()["error"]["code"]) == (422, "no_capable_model")


def test_sizes_and_kinds_of_bodies(router):
    """413 before the body is read, 415 for what is no plain JSON."""
    big = httpx.post(
        f"{router.url}/v1/chat/completions",
        content=b"{" + b" " * 70000 + b"}",
        headers={"content-type": "application/json"},
    )
    assert (big.status_code, big.json()["error"]["code"]) == (413, "request_too_large")
    with socket.create_connection(("127.0.0.1", router.port), timeout=5) as raw:
        raw.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: 999999999\r\n\r\n"
        )
        assert b" 413 " in raw.recv(4096).split(b"\r\n")[0] + b" "
    gzip = httpx.post(f"{router.url}/v1/chat/completions", content=b"x", headers={"content-encoding": "gzip"})
    assert gzip.status_code == 415
    form = httpx.post(f"{router.url}/v1/chat/completions", data={"model": "auto"})
    assert form.status_code == 415


def test_a_caller_gone_in_the_middle_of_its_body_costs_nothing(router):
    """No row, no upstream call, no noise."""
    rows = len(router.rows())
    with socket.create_connection(("127.0.0.1", router.port), timeout=5) as raw:
        raw.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b'Content-Length: 500\r\n\r\n{"model":"auto"'
        )
    assert httpx.get(f"{router.url}/healthz").status_code == 200
    assert len(router.rows()) == rows


def test_a_web_page_can_not_spend_money_on_a_keyless_router(router):
    """A foreign Host (DNS rebinding) and a foreign Origin are refused while no key exists."""
    ask = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}):
        assert httpx.post(f"{router.url}/v1/chat/completions", json=ask, headers=headers).status_code == 403
