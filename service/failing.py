"""What a caller is told when nobody answered: one error for all attempts of a request.

Where on the path: the end of `pipeline.answer` that nobody wants. Pure.

Invariant: nothing of a vendor's own text is told, but for a refusal that the caller alone can mend (`context_length`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from service.domain.decision import Candidate
from service.errors import AllAttemptsFailed, CoeError, UpstreamError


def nobody_answered(failures: Sequence[tuple[Candidate, UpstreamError]]) -> CoeError:
    """The error of a request whose attempts all failed, each with its cause."""
    causes = [problem.cause for _, problem in failures]
    if causes and all(cause == "context_length" for cause in causes):
        return failures[-1][1]
    tried = "; ".join(f"{one.deployment.id}: {problem.cause}" for one, problem in failures)
    failed = AllAttemptsFailed(f"every attempt failed ({tried or 'the caller left before any'})")
    if causes and all(cause.startswith("timeout") for cause in causes):
        failed.status, failed.code = 504, "upstream_timeout"
    elif causes and all(cause == "rate_limited" for cause in causes):
        failed.status, failed.code, failed.type = 429, "upstream_rate_limited", "rate_limit_error"
        waits = [problem.retry_after_s for _, problem in failures if problem.retry_after_s is not None]
        failed.headers["retry-after"] = str(max(1, math.ceil(min(waits)))) if waits else "1"
    elif causes and all(cause == "auth_failed" for cause in causes):
        failed.code = "upstream_auth_failed"
    return failed


def too_slow(message: str, *, code: str) -> AllAttemptsFailed:
    """The error of a request whose time was over."""
    (slow := AllAttemptsFailed(message, code=code)).status = 504
    return slow
