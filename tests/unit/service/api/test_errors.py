"""Errors in OpenAI's shape, final where a retry can't help, without anything internal."""

from __future__ import annotations

import json

import pytest

from service import telemetry
from service.api.errors import from_framework, log_unexpected, plain, render, unexpected
from service.errors import (
    AllAttemptsFailed,
    BudgetExhausted,
    BudgetStoreUnavailable,
    CoeError,
    Forbidden,
    InvalidRequest,
    LedgerUnavailable,
    NoCandidate,
    Overloaded,
    RateLimited,
    Replied,
    Stopping,
    Unauthenticated,
)


def timed_out(problem):
    """As when every vendor was silent."""
    problem.status = 504
    return problem


def limited(problem):
    """As when every vendor limits the rate."""
    problem.status = 429
    return problem


PASSED_ON = Replied("no", cause="caller_error", upstream_status=422, code="bad", passthrough=True, param="seed")


@pytest.mark.parametrize(
    ("problem", "status", "final"),
    [
        (InvalidRequest("x", param="n"), 400, True),
        (Unauthenticated("x"), 401, True),
        (Forbidden("x"), 403, True),
        (NoCandidate("x"), 422, True),
        (PASSED_ON, 422, True),
        (AllAttemptsFailed("x"), 502, True),
        (timed_out(AllAttemptsFailed("x")), 504, True),
        (limited(AllAttemptsFailed("x")), 429, False),
        (RateLimited("x"), 429, False),
        (RateLimited("x", headers={"x-should-retry": "false"}), 429, True),
        (BudgetExhausted("x"), 429, True),
        (BudgetStoreUnavailable("x"), 503, False),
        (LedgerUnavailable("x"), 503, False),
        (Overloaded("x", headers={"retry-after": "9"}), 503, False),
        (Stopping("x"), 503, False),
        (CoeError("x"), 500, False),
    ],
)
def test_status_shape_and_whether_a_retry_helps(problem, status, final):
    """`x-should-retry: false` where the caller must mend it or we have tried; every 503 says when to come back."""
    reply = render(problem, "req_1")
    assert reply.status_code == status
    assert set(json.loads(reply.body)["error"]) == {"message", "type", "param", "code"}
    assert (reply.headers.get("x-should-retry") == "false") is final
    assert reply.headers["x-request-id"] == "req_1"
    assert ("www-authenticate" in reply.headers) == (status == 401)
    assert ("retry-after" in reply.headers) == (status == 503)
    assert problem.headers.get("retry-after", "1") == reply.headers.get("retry-after", "1")


def test_headers_of_an_error_are_fit_for_http():
    """A model name may hold anything; a header may not."""
    problem = NoCandidate("x", headers={"x-coe-model": "模型\r\nset-cookie: a=b"})
    assert render(problem, "r").headers["x-coe-model"] == "????set-cookie: a=b"
    assert plain({"a": "ok ~"}) == {"a": "ok ~"}


def test_a_fault_of_ours_tells_its_place_to_the_log_only(capsys):
    """Neither the answer nor the log repeats the exception's text, which may quote a prompt."""
    telemetry.configure("INFO")
    try:
        raise KeyError("secret prompt")
    except KeyError as problem:
        reply = unexpected(problem, "req_1")
        log_unexpected(problem, "req_2")
    assert reply.status_code == 500
    assert json.loads(reply.body)["error"]["code"] == "internal_error"
    written = capsys.readouterr().err
    assert "secret" not in written + reply.body.decode()
    first = json.loads(written.splitlines()[0])
    assert (first["event"], first["error"], first["request_id"]) == (telemetry.INTERNAL_ERROR, "KeyError", "req_1")
    assert first["where"].startswith("test_errors.py:")
    assert json.loads(written.splitlines()[1])["request_id"] == "req_2"


def test_what_the_framework_refuses():
    """Unknown paths, wrong methods with what is allowed, and whatever else it may say; long paths are cut."""
    assert from_framework(404, "/x", "GET").code == "unknown_url"
    wrong = from_framework(405, "/x", "PUT", {"allow": "GET"})
    assert (wrong.code, wrong.headers) == ("method_not_allowed", {"allow": "GET"})
    other = from_framework(418, "/x", "GET")
    assert (other.status, "418" in other.message) == (418, True)
    assert len(from_framework(404, "/" + "x" * 10_000, "GET").message) < 400
