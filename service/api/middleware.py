"""Pure ASGI around every route: the request id, and the last net under a fault of ours.

Where on the path: the outermost layer. The caller's `x-request-id` is kept when it is a plain short token, so that logs
on both sides meet; anything else gets a fresh one.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import log_unexpected, unexpected
from service.api.incoming import request_id_of


class RequestId:
    """Puts `scope["state"]["request_id"]` in place and turns what escapes into a 500 without internals."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(next((value for name, value in scope["headers"] if name == b"x-request-id"), b""))
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                named = any(name == b"x-request-id" for name, _ in message.get("headers", ()))
                if not named:  # the pages that anybody may read don't care for it
                    message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode("ascii"))]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as problem:
            if started:
                log_unexpected(problem, request_id)
                raise  # half an answer is out: the server closes the connection, which is the honest signal
            await unexpected(problem, request_id)(scope, receive, send)
