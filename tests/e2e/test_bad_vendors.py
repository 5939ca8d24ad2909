"""The catalogue of what vendors get wrong, through a real router: what the caller is told, and what is written down."""

from __future__ import annotations

import json
from dataclasses import dataclass

import httpx
import pytest
from stage import registry, start_router

from service.simulator import Fault, Script, SimulatorThread, http_error
from service.simulator.script import UsagePlace, UsageShape

KEY = "sk-canaryVendorKey7f3a"
DONE = b"data: [DONE]"


@dataclass(frozen=True)
class Case:
    """A vendor, and what comes of it: (status, how the attempt ended, how its row was settled), whole and streamed."""

    script: Script
    whole: tuple[int, str, str]
    stream: tuple[int, str, str]


def fails(script, whole, stream=None, row="estimated"):
    """A vendor of which nothing can be used."""
    return Case(script, (502, whole, row), (502, stream or whole, row))


def answers(script, row="estimated"):
    """A vendor whose answer is one, whatever else it says."""
    return Case(script, (200, "complete", row), (200, "complete", row))


CASES = {
    "a web page": fails(Script(fault=Fault.HTML), "malformed_answer", "not_a_stream"),
    "an empty answer": fails(Script(fault=Fault.EMPTY), "malformed_answer", "not_a_stream"),
    "no choices": fails(Script(fault=Fault.NO_CHOICES), "no_choices", "empty_stream"),
    "no usage": answers(Script(usage=UsageShape.MISSING)),
    "negative usage": answers(Script(usage=UsageShape.NEGATIVE)),
    "a trillion tokens": answers(Script(usage=UsageShape.ABSURD)),
    "usage that is no number": answers(Script(usage=UsageShape.NOT_INTEGER)),
    "usage twice": answers(Script(usage_place=UsagePlace.TWICE), "settled"),
    "no end event": answers(Script(done=False), "settled"),
    "an error in the stream": Case(
        Script(fault=Fault.ERROR_EVENT, fault_after=1, chunks=8, chunk_delay_s=0.5, error_message=KEY),
        (502, "error_in_200", "refused"),
        (200, "error_in_200", "estimated"),
    ),
    "a line that is no JSON": Case(
        Script(fault=Fault.BROKEN_JSON, fault_after=1, chunks=8, chunk_delay_s=0.5),  # not in the same breath
        (502, "malformed_answer", "estimated"),
        (200, "malformed_answer", "estimated"),
    ),
    "a redirect": fails(Script(fault=Fault.REDIRECT), "http_302", row="refused"),
    "line breaks in its header": fails(Script(header_lines=("x-a: b\r\n\tx: y", "x-coe-model: evil\r\n z")), "hung_up"),
    "a wait of three years": Case(
        http_error(429, retry_after="99999999"), (429, "rate_limited", "refused"), (429, "rate_limited", "refused")
    ),
    "it refuses our key": fails(http_error(401, error_message=f"bad key {KEY}"), "auth_failed", row="refused"),
}


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    """A vendor for each case and kind, so that no breaker comes between."""
    home = tmp_path_factory.mktemp("bad-vendors")
    names = {f"{kind}{number}": case.script for kind in "ws" for number, case in enumerate(CASES.values())}
    with SimulatorThread(names) as simulator:
        router = start_router(home / "data", registry(home / "providers.yaml", simulator))
        yield router
        log = router.log.read_text()
        assert "internal_error" not in log
        assert "Traceback" not in log
        assert KEY not in log
        assert router.stop() == 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", CASES)
def test_what_a_vendor_gets_wrong_has_its_stated_end(router, name, stream):
    """An answer or an error of ours in the protocol's shape, never the vendor's text; each attempt with its one end."""
    case, vendor = CASES[name], f"{'s' if stream else 'w'}{list(CASES).index(name)}"
    status, ended, state = case.stream if stream else case.whole
    body = {"model": f"{vendor}-model", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    reply = httpx.post(f"{router.url}/v1/chat/completions", json=body, timeout=30, trust_env=False)
    assert reply.status_code == status, reply.text
    assert KEY not in reply.text
    assert reply.headers["x-coe-model"] == f"{vendor}-model"
    attempts = router.attempts(reply.headers["x-coe-decision-id"])
    assert {len(ends) for _, ends in attempts} == {1}
    assert [(one["ended"], one["state"]) for _, (one,) in attempts] == [(ended, state)] * len(attempts)
    assert len(attempts) <= 2
    if status == 200:
        whole = ended == "complete"
        assert (DONE in reply.content) == (stream and whole)
        assert (b'"error":' in reply.content) != whole
    else:
        error = json.loads(reply.content)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["type"] in {"upstream_error", "rate_limit_error"}
        assert 1 <= int(reply.headers.get("retry-after", 1)) <= 3_600
    if name == "it refuses our key":
        assert error["code"] == "upstream_auth_failed"
