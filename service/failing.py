"""What a caller is told when nobody answered: one error for all attempts of a request.

Where on the path: the end of `pipeline.answer` that nobody wants. Pure.

Invariant: nothing of a vendor's own text is told, but for a refusal that the caller alone can mend (`context_length`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from service.domain.decision import Candidate
from service.errors import AllAttemptsFailed, CoeError, UpstreamError
from service.routing.blame import ACCOUNT_CAUSES
from service.routing.health import Rest, State

NAMED_MAX: Final = 8
"""Deployments that are named beside those who were tried; of the others only the number is told."""


def nobody_answered(
    failures: Sequence[tuple[Candidate, UpstreamError]], passed_over: Mapping[str, Rest] = MappingProxyType({})
) -> CoeError:
    """The error of a request whose attempts all failed, each with its cause, and who was passed over, with why."""
    causes = [problem.cause for _, problem in failures]
    if causes and all(cause == "context_length" for cause in causes):
        return failures[-1][1]
    told = [f"{one.deployment.id}: {problem.cause}" for one, problem in failures]
    told += [f"{name}: {_resting(rest)}" for name, rest in list(passed_over.items())[:NAMED_MAX]]
    if len(passed_over) > NAMED_MAX:
        told.append(f"{len(passed_over) - NAMED_MAX} more rest")
    what = "every attempt failed" if causes or not passed_over else "nobody can be asked now"
    failed = AllAttemptsFailed(f"{what} ({'; '.join(told) or 'the caller left before any'})")
    return _classed(failed, failures, [rest for rest in passed_over.values() if rest.state is not State.CLOSED])


def _classed(
    failed: AllAttemptsFailed, failures: Sequence[tuple[Candidate, UpstreamError]], rests: Sequence[Rest]
) -> AllAttemptsFailed:
    """Status, code and Retry-After by what all have in common: those who failed, else those who rest."""
    causes = [problem.cause for _, problem in failures] or [rest.cause for rest in rests]
    wait_s = min([rest.for_s for rest in rests] + _waits(failures), default=1.0)
    if not causes:
        return failed
    if failures and all(cause.startswith("timeout") for cause in causes):
        failed.status, failed.code = 504, "upstream_timeout"
    elif all(cause == "rate_limited" for cause in causes):
        failed.status, failed.code, failed.type = 429, "upstream_rate_limited", "rate_limit_error"
        failed.headers["retry-after"] = str(max(1, math.ceil(wait_s)))
    elif all(cause == "auth_failed" for cause in causes):
        failed.code = "upstream_auth_failed"
    elif not failures and not all(cause in ACCOUNT_CAUSES for cause in causes):
        failed.status, failed.code = 503, "upstream_resting"
        failed.headers["retry-after"] = str(max(1, math.ceil(wait_s)))
    return failed


def _waits(failures: Sequence[tuple[Candidate, UpstreamError]]) -> list[float]:
    """What each deployment said last about when to come back."""
    last = {candidate.deployment.id: problem.retry_after_s for candidate, problem in failures}
    return [wait for wait in last.values() if wait is not None]


def _resting(rest: Rest) -> str:
    """Why somebody was passed over, in words."""
    if rest.state is State.CLOSED:
        return "not asked, too many retries of late"
    if rest.state is State.HALF_OPEN:
        return f"rests after {rest.cause}, a probe is out"
    return f"rests after {rest.cause}, {rest.for_s:.1f} s more"


def too_slow(message: str, *, code: str) -> AllAttemptsFailed:
    """The error of a request whose time was over."""
    (slow := AllAttemptsFailed(message, code=code)).status = 504
    return slow
