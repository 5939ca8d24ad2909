"""The error tree -> responses in OpenAI's shape. Nothing internal ever reaches a body.

Where on the path: every route runs inside `guarded`; what the framework itself raises (404, 405) is rendered here too.
"""

from __future__ import annotations

import orjson
from starlette.responses import Response

from service import telemetry
from service.errors import CallerError, CoeError, MethodNotAllowed, NotFound, Replied


def render(problem: CoeError, request_id: str) -> Response:
    """The response for an error; refusals that a retry can't mend say so to the official SDKs."""
    headers = {"x-request-id": request_id, **problem.headers}
    final = isinstance(problem, CallerError) or (isinstance(problem, Replied) and problem.passthrough)
    if final:
        headers["x-should-retry"] = "false"
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(orjson.dumps(problem.body()), problem.status, headers, "application/json")


def unexpected(problem: Exception, request_id: str) -> Response:
    """A fault of ours: logged with its place, told without it."""
    where = problem.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f"{where.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{where.tb_lineno}" if where else "unknown"
    telemetry.logger().error(
        telemetry.INTERNAL_ERROR, request_id=request_id, error=type(problem).__name__, where=place
    )
    broken = CoeError("the router failed while handling this request; its log has the details", code="internal_error")
    return render(broken, request_id)


def from_framework(status: int, path: str, method: str) -> CoeError:
    """What the framework refuses by itself: unknown paths and methods."""
    if status == 405:
        return MethodNotAllowed(f"{method} is not possible on {path[:200]}")
    if status == 404:
        return NotFound(f"there is no {path[:200]} here; GET /v1/models is a good start", code="unknown_url")
    problem = CoeError(f"the request was refused with status {status}")
    problem.status = status
    return problem
