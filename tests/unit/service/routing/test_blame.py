"""Whose fault a failure is."""

from __future__ import annotations

import pytest

from service.errors import Broken, NoReply, NotSent, Replied
from service.routing.blame import Blame, blame, may_be_the_requests


def replied(cause, status=500, *, after=None, passthrough=False):
    """A vendor's refusal."""
    return Replied("no", cause=cause, upstream_status=status, retry_after_s=after, passthrough=passthrough)


FAULT = replied("http_500")


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (FAULT, Blame.DEPLOYMENT),
        (replied("overloaded", 529), Blame.DEPLOYMENT),
        (replied("overloaded", 529, after=2.0), Blame.LIMIT),
        (replied("http_503", 503, after=2.0), Blame.LIMIT),
        (replied("http_404", 404, after=2.0), Blame.DEPLOYMENT),
        (replied("rate_limited", 429), Blame.LIMIT),
        (replied("auth_failed", 401), Blame.ACCOUNT),
        (replied("payment_required", 402), Blame.ACCOUNT),
        (replied("model_not_found", 404), Blame.ACCOUNT),
        (replied("caller_error", 400, passthrough=True), Blame.NOBODY),
        (replied("context_length", 400, passthrough=True), Blame.NOBODY),
        (replied("context_length", 200), Blame.NOBODY),
        (NotSent("no", cause="connect_refused"), Blame.DEPLOYMENT),
        (NotSent("no", cause="invalid_request"), Blame.NOBODY),
        (NoReply("no", cause="timeout_first_token"), Blame.DEPLOYMENT),
        (Broken("no", cause="cut"), Blame.DEPLOYMENT),
    ],
)
def test_whose_fault(problem, expected):
    """By what happened and by what the vendor said."""
    assert blame(problem) is expected


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (FAULT, True),
        (replied("overloaded", 529), True),
        (NoReply("no", cause="hung_up"), True),
        (Broken("no", cause="cut"), True),
        (Broken("no", cause="malformed_answer"), True),
        (replied("error_in_200", 200), True),
        (replied("http_503", 503, after=2.0), False),
        (replied("rate_limited", 429), False),
        (replied("auth_failed", 401), False),
        (replied("http_302", 302), False),
        (replied("caller_error", 400, passthrough=True), False),
        (NotSent("no", cause="connect_refused"), False),
        (NoReply("no", cause="timeout_first_token"), False),
        (Broken("no", cause="timeout_idle"), False),
        (Broken("no", cause="diverged"), False),
    ],
)
def test_what_a_request_may_have_brought_about(problem, expected):
    """It arrived, and what came back is broken: no limit, no silence, nothing about our account."""
    assert may_be_the_requests(problem) is expected
