"""The error tree -> responses in OpenAI's shape. Nothing internal ever reaches a body.

Where on the path: every route renders what it catches; what the framework itself raises (404, 405), and what nobody
caught, is rendered here too.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.responses import Response

from service import telemetry
from service.errors import (
    AllAttemptsFailed,
    CallerError,
    CoeError,
    MethodNotAllowed,
    NotFound,
    RateLimited,
    Replied,
    RouterError,
)

RETRY_AFTER_S = 1
"""What a 503 tells when its cause does not know better: a restart, or a disk that has room again."""


def render(problem: CoeError, request_id: str) -> Response:
    """The response for an error; what a retry can't mend says so to the official SDKs, a 503 when to come back."""
    headers = {"x-request-id": request_id, **plain(problem.headers)}
    if _final(problem):
        headers["x-should-retry"] = "false"
    if problem.status == 503:
        headers.setdefault("retry-after", str(RETRY_AFTER_S))
    if isinstance(problem, RouterError) and problem.part is not None:
        given_up = [headers["x-coe-degraded"]] if "x-coe-degraded" in headers else []
        headers["x-coe-degraded"] = ",".join((*given_up, problem.part))
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(orjson.dumps(problem.body()), problem.status, headers, "application/json")


def _final(problem: CoeError) -> bool:
    """Whether the same request again is of no use, or not the client's to send.

    When every attempt failed, the router has done the retrying: an SDK that does it again, twice by default, would
    treble the calls of an outage. A rate limit passes by itself, and so does a rest: their answers say when. A limit
    that no wait helps with brings the header itself.
    """
    if isinstance(problem, AllAttemptsFailed):
        return problem.status not in (429, 503)
    if isinstance(problem, RateLimited):
        return False
    return isinstance(problem, CallerError) or (isinstance(problem, Replied) and problem.passthrough)


def plain(headers: Mapping[str, str]) -> dict[str, str]:
    """Header values as HTTP allows them: model names of local engines may hold anything."""
    return {name: plain_value(value) for name, value in headers.items()}


def plain_value(value: str) -> str:
    """One header value as HTTP allows it."""
    if value.isascii() and value.isprintable():
        return value
    return "".join(character if " " <= character <= "~" else "?" for character in value)


def unexpected(problem: Exception, request_id: str) -> Response:
    """A fault of ours: logged with its place, told without it."""
    log_unexpected(problem, request_id)
    broken = CoeError("the router failed while handling this request; its log has the details", code="internal_error")
    return render(broken, request_id)


def log_unexpected(problem: BaseException, request_id: str | None) -> None:
    """The type of a fault and its place. Not its text, which may quote what the caller sent, or the registry."""
    where = telemetry.place_of(problem)
    telemetry.logger().error(telemetry.INTERNAL_ERROR, request_id=request_id, error=type(problem).__name__, where=where)


def from_framework(status: int, path: str, method: str, headers: Mapping[str, str] | None = None) -> CoeError:
    """What the framework refuses by itself: unknown paths and methods."""
    if status == 405:
        return MethodNotAllowed(f"{method} is not possible on {path[:200]}", headers=headers)
    if status == 404:
        return NotFound(f"there is no {path[:200]} here; GET /v1/models is a good start", code="unknown_url")
    problem = CoeError(f"the request was refused with status {status}")
    problem.status = status
    return problem
