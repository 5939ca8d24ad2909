"""What a caller is told when nobody answered: one error for all attempts of a request.

Where on the path: the end of `pipeline.answer` that nobody wants. Pure.

Invariant: nothing of a vendor's own text is told, but for a refusal that the caller alone can mend (`context_length`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from service.domain.decision import Candidate
from service.errors import AllAttemptsFailed, CoeError, Replied, UpstreamError
from service.routing.health import Rest


def passes(problem: UpstreamError) -> bool:
    """Whether a refusal is passed on at once: the caller's own fault, which no other deployment would forgive."""
    return isinstance(problem, Replied) and problem.passthrough and problem.cause != "context_length"


def nobody_answered(
    failures: Sequence[tuple[Candidate, UpstreamError]], passed_over: Mapping[str, Rest] = MappingProxyType({})
) -> CoeError:
    """The error of a request whose attempts all failed, each with its cause, and who was passed over, with why."""
    causes = [problem.cause for _, problem in failures]
    if causes and all(cause == "context_length" for cause in causes):
        return failures[-1][1]
    told = [f"{one.deployment.id}: {problem.cause}" for one, problem in failures]
    told += [f"{name}: {_resting(rest)}" for name, rest in passed_over.items()]
    if not causes and passed_over:
        failed = AllAttemptsFailed(f"nobody can be asked now ({'; '.join(told)})", code="upstream_resting")
        failed.status = 503
        failed.headers["retry-after"] = str(max(1, math.ceil(min(rest.for_s for rest in passed_over.values()))))
        return failed
    failed = AllAttemptsFailed(f"every attempt failed ({'; '.join(told) or 'the caller left before any'})")
    if causes and all(cause.startswith("timeout") for cause in causes):
        failed.status, failed.code = 504, "upstream_timeout"
    elif causes and all(cause == "rate_limited" for cause in causes):
        failed.status, failed.code, failed.type = 429, "upstream_rate_limited", "rate_limit_error"
        waits = [problem.retry_after_s for _, problem in failures if problem.retry_after_s is not None]
        failed.headers["retry-after"] = str(max(1, math.ceil(min(waits)))) if waits else "1"
    elif causes and all(cause == "auth_failed" for cause in causes):
        failed.code = "upstream_auth_failed"
    return failed


def _resting(rest: Rest) -> str:
    """Why somebody was passed over, in words."""
    if rest.cause == "retry_budget":
        return "not asked, too many retries of late"
    return f"rests after {rest.cause}" + (f", {rest.for_s:.1f} s more" if rest.for_s else ", a probe is out")


def too_slow(message: str, *, code: str) -> AllAttemptsFailed:
    """The error of a request whose time was over."""
    (slow := AllAttemptsFailed(message, code=code)).status = 504
    return slow
