"""What the door says to requests that never reach the application.

Where on the path: `api.door` refuses with these, before a task is made; `api.errors` renders them as any other error.
"""

from __future__ import annotations

import httptools

from service.api.errors import log_unexpected, render
from service.errors import CoeError, InvalidRequest, Overloaded

HEADER_BYTES_MAX = 16 * 1024
"""Of one request: target, header fields and trailers. Official SDKs send about 1 KiB."""

RETRY_AFTER_S = 1
"""What a caller is told when there are too many connections or too many requests on one."""


def malformed(problem: httptools.HttpParserError) -> CoeError:
    """What the parser could not read; a fault of ours inside one of its callbacks is told as such."""
    cause = problem.__context__
    if isinstance(problem, httptools.HttpParserCallbackError) and not isinstance(cause, httptools.HttpParserError):
        log_unexpected(cause if isinstance(cause, Exception) else problem, "-")
        return CoeError("the router failed while reading this request; its log has the details", code="internal_error")
    return InvalidRequest("this is not a valid HTTP/1.1 request; TLS and HTTP/2 are not spoken on this port")


def header_too_large() -> CoeError:
    """431: the limit is on all of it, the target included."""
    return with_status(431, f"the request's header is over the limit of {HEADER_BYTES_MAX} bytes")


def with_status(status: int, message: str) -> CoeError:
    """The caller's fault, with a status that no class of its own has."""
    problem = InvalidRequest(message)
    problem.status = status
    return problem


def overloaded(message: str) -> Overloaded:
    """503, and when to come again."""
    return Overloaded(f"{message}; try again in {RETRY_AFTER_S} s", headers={"retry-after": str(RETRY_AFTER_S)})


_NO_ID = "req_" + 24 * "-"
_SHED = render(overloaded("there are too many requests"), _NO_ID)
_SHED_LINES = (
    b"".join(name + b": " + value + b"\r\n" for name, value in _SHED.raw_headers) + b"\r\n" + bytes(_SHED.body)
)
_BEFORE_ID, _AFTER_ID = _SHED_LINES.split(_NO_ID.encode())


def last_words(problem: CoeError, request_id: str) -> bytes:
    """The last response of a connection, behind the status line and the server's own header fields."""
    response = render(problem, request_id)
    fields = [*response.raw_headers, (b"connection", b"close")]
    return b"".join((*(name + b": " + value + b"\r\n" for name, value in fields), b"\r\n", bytes(response.body)))


def shed(request_id: str) -> bytes:
    """`overloaded` for one request more than can be begun, behind the status line and the server's own header fields.

    Made once: in a flood there are thousands of it a second, and each takes its time from somebody who is answered.
    """
    return b"".join((_BEFORE_ID, request_id.encode(), _AFTER_ID))
