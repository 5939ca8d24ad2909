"""What a caller is told when nobody answered."""

from __future__ import annotations

import pytest
from scenery import a_catalog, a_chat, a_model, decided

from service.attempting import NO_BUDGET
from service.errors import Broken, NoReply, Replied, UpstreamError
from service.failing import nobody_answered, too_slow
from service.routing.health import Rest, State

CANDIDATE = decided(a_chat(), a_catalog(a_model("m"))).chosen


def refused(cause, **more):
    return Replied("what the vendor said of secret-7", cause=cause, upstream_status=500, **more)


def told(*problems: UpstreamError):
    return nobody_answered([(CANDIDATE, problem) for problem in problems])


def test_every_attempt_is_named_with_its_cause():
    """And nothing of what vendors said."""
    error = told(refused("http_500"), Broken("cut at secret-7", cause="cut"))
    assert (error.status, error.message) == (502, "every attempt failed (p/m: http_500; p/m: cut)")
    assert told().message == "every attempt failed (the caller left before any)"


@pytest.mark.parametrize(
    ("problems", "status", "code"),
    [
        ([NoReply("", cause="timeout_total"), NoReply("", cause="timeout_connect")], 504, "upstream_timeout"),
        ([NoReply("", cause="timeout_total"), refused("http_500")], 502, None),
        ([refused("auth_failed"), refused("auth_failed")], 502, "upstream_auth_failed"),
        ([refused("auth_failed"), refused("rate_limited")], 502, None),
        ([refused("rate_limited"), refused("rate_limited")], 429, "upstream_rate_limited"),
    ],
)
def test_what_all_have_in_common_is_the_error(problems, status, code):
    """One that differs, and it is the general one."""
    error = told(*problems)
    assert error.status == status
    assert error.code == (code or told(refused("x")).code)


@pytest.mark.parametrize(
    ("waits", "wanted"),
    [((None, None), "1"), ((7.2, 3.1), "4"), ((None, 9.0), "9"), ((5.0, 0.0), "1"), ((1.0, 30.0), "30")],
)
def test_the_shortest_wait_is_told(waits, wanted):
    """In whole seconds, at least one: then somebody may answer again. What a deployment said last counts."""
    error = told(*(refused("rate_limited", retry_after_s=wait) for wait in waits))
    assert error.headers["retry-after"] == wanted


def test_a_request_that_is_too_long_for_all_is_told_as_such():
    """The caller alone can mend that, so the last vendor's refusal passes."""
    last = refused("context_length")
    assert told(refused("context_length"), last) is last
    assert told(refused("context_length"), refused("http_500")) is not last


def test_a_time_that_is_over_is_504():
    """With the words of whoever set it."""
    error = too_slow("no answer within 2 s", code="upstream_timeout")
    assert (error.status, error.code, error.message) == (504, "upstream_timeout", "no answer within 2 s")


def test_who_rests_is_named_with_why_and_for_how_long():
    """Beside who was tried; alone it is a 503 that says when to come back."""
    rests = {"q/m": Rest(State.OPEN, "http_500", 2.34), "r/m": NO_BUDGET, "s/m": Rest(State.HALF_OPEN, "cut", 0.0)}
    error = nobody_answered([(CANDIDATE, refused("http_500"))], rests)
    assert (error.status, error.code) == (502, "upstream_failed")
    assert error.message.endswith(
        "(p/m: http_500; q/m: rests after http_500, 2.3 s more; r/m: not asked, too many retries of late; "
        "s/m: rests after cut, a probe is out)"
    )
    alone = nobody_answered([], {"q/m": Rest(State.OPEN, "http_500", 2.34), "t/m": Rest(State.OPEN, "cut", 9.0)})
    assert (alone.status, alone.code, alone.headers["retry-after"]) == (503, "upstream_resting", "3")
    assert alone.message.startswith("nobody can be asked now (q/m: rests")


@pytest.mark.parametrize(
    ("causes", "status", "code", "waits"),
    [
        (["rate_limited", "rate_limited"], 429, "upstream_rate_limited", "3"),
        (["auth_failed", "auth_failed"], 502, "upstream_auth_failed", None),
        (["auth_failed", "payment_required"], 502, "upstream_failed", None),
        (["auth_failed", "http_500"], 503, "upstream_resting", "3"),
    ],
)
def test_what_those_who_rest_have_in_common_is_the_error(causes, status, code, waits):
    """A limit passes by itself, a wrong key does not."""
    rests = {f"p{place}/m": Rest(State.OPEN, cause, 2.5 + place) for place, cause in enumerate(causes)}
    error = nobody_answered([], rests)
    assert (error.status, error.code, error.headers.get("retry-after")) == (status, code, waits)


def test_a_thousand_who_rest_are_not_all_named():
    """The message stays short."""
    error = nobody_answered([], {f"p/m{number}": Rest(State.OPEN, "cut", 1.0) for number in range(1_000)})
    assert error.message.endswith("; 992 more rest)")
    assert len(error.message) < 500
