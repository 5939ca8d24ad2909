"""Whose fault a failed attempt is: the deployment's, our account's, a limit, nobody's; perhaps the request's.

Pure. Where on the path: `health` counts by it, `retrying` chooses by it, `verdicts` weighs it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from service.errors import NotSent, Replied, UpstreamError

FAULTS_FROM: Final = 500
"""Statuses from here on are a vendor's own faults."""

UNDER_A_200: Final = 200
"""Some vendors say their errors under this status."""


class Blame(StrEnum):
    """Whose fault a failure is, and so what it means for the next request."""

    NOBODY = "nobody"
    DEPLOYMENT = "deployment"
    LIMIT = "limit"
    ACCOUNT = "account"


NOBODYS_CAUSES: Final = frozenset({"context_length", "diverged"})
"""A text too long, and an answer that was to be the same as before: a model may say another thing each time."""

ACCOUNT_CAUSES: Final = frozenset({"auth_failed", "payment_required", "model_not_found"})


def blame(problem: UpstreamError) -> Blame:
    """Whose fault it was that an attempt failed."""
    if isinstance(problem, Replied):
        if problem.passthrough or problem.of_key:
            return Blame.NOBODY
        told = problem.retry_after_s is not None
        if problem.cause == "rate_limited" or (told and problem.upstream_status and is_fault(problem)):
            return Blame.LIMIT
    if problem.cause in NOBODYS_CAUSES or (isinstance(problem, NotSent) and problem.cause == "invalid_request"):
        return Blame.NOBODY  # the latter could not be written as HTTP
    return Blame.ACCOUNT if problem.cause in ACCOUNT_CAUSES else Blame.DEPLOYMENT


def may_be_the_requests(problem: UpstreamError) -> bool:
    """Whether a request may have brought a failure about: it arrived, and what came back is broken, and no silence."""
    if isinstance(problem, NotSent) or problem.cause.startswith("timeout"):
        return False
    broken = not isinstance(problem, Replied) or is_fault(problem) or problem.upstream_status == UNDER_A_200
    return broken and blame(problem) is Blame.DEPLOYMENT


def is_fault(problem: UpstreamError) -> bool:
    """Whether a vendor answered that something is wrong with itself."""
    return isinstance(problem, Replied) and (problem.upstream_status or 0) >= FAULTS_FROM
