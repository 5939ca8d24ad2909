"""A request at the door, read once: the header fields that matter, who sends it, and its body.

Where on the path: first thing every route does. Works on plain ASGI, so that a chat needs no framework around it.

Invariants
1. A field that may stand once and stands twice is refused, never chosen from.
2. A body is refused before it is read when it is too large or no plain JSON, and while it is read when it grows over
   the limit, is late, or ends early.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from starlette.types import Receive

from service.domain.access import Caller
from service.domain.hosts import is_loopback
from service.errors import BodyTooLarge, CoeError, InvalidRequest, Unauthenticated, UnsupportedMedia
from service.guard.exposure import check_host_header, check_origin
from service.house import House

BODY_S = 30.0
"""How long a body may take to arrive: a caller that sends a byte a minute would hold its place for ever."""

_PLAIN_ID = re.compile(rb"[A-Za-z0-9_.\-]{8,64}")
_JSON = frozenset({"application/json", "text/json"})


class CallerLeft(Exception):  # an end, not an error
    """The caller hung up before there was anything to answer."""


@dataclass(slots=True)
class Head:
    """The header fields that routes look at. `steering` holds the `x-coe-*` fields by lower-case name."""

    authorization: list[bytes] = field(default_factory=list)
    hosts: list[bytes] = field(default_factory=list)
    origin: bytes | None = None
    content_type: bytes | None = None
    content_encoding: bytes = b"identity"
    content_length: bytes = b""
    given_id: bytes = b""
    steering: dict[str, str] = field(default_factory=dict)

    @property
    def request_id(self) -> str:
        """The caller's own id when it is a plain short token, so that logs on both sides meet; else a fresh one."""
        if _PLAIN_ID.fullmatch(self.given_id):
            return self.given_id.decode("ascii")
        return f"req_{secrets.token_hex(12)}"


def read_head(fields: Iterable[tuple[bytes, bytes]]) -> Head:
    """Read the fields of an ASGI scope: names are lower-case bytes."""
    head = Head()
    for name, value in fields:
        if name == b"authorization":
            head.authorization.append(value)
        elif name == b"host":
            head.hosts.append(value)
        elif name == b"content-type":
            head.content_type = value if head.content_type is None else head.content_type
        elif name == b"content-length":
            head.content_length = value
        elif name == b"content-encoding":
            head.content_encoding = value
        elif name == b"origin":
            head.origin = value
        elif name == b"x-request-id":
            head.given_id = head.given_id or value
        elif name.startswith(b"x-coe-"):
            head.steering[name.decode("latin-1")] = value.decode("latin-1")
    return head


def admit(head: Head, house: House) -> Caller:
    """Who is calling; raises Unauthenticated or Forbidden.

    Without keys, which only a loopback listener may be, this machine's own programs get in and web pages don't: a page
    in a browser can reach loopback too, so a foreign Host or Origin is refused.
    """
    caller = house.keys.authenticate(
        _bearer(head.authorization),
        now_ms=int(house.clock.utc().timestamp() * 1000),
        allow_anonymous=is_loopback(house.settings.host),
    )
    if caller.anonymous:
        check_host_header(head.hosts[0].decode("latin-1") if len(head.hosts) == 1 else None, house.settings.port)
        check_origin(None if head.origin is None else head.origin.decode("latin-1"))
    return caller


def admit_operator(head: Head, house: House) -> None:
    """Let in who holds the admin key and, on a loopback listener, this machine's own programs; raises Unauthenticated.

    Web pages are kept out of the latter as `admit` does it.
    """
    secret, key = _bearer(head.authorization), house.settings.admin_key
    if key is not None and secret is not None:
        known = hmac.compare_digest(key.get_secret_value().encode(), secret.encode("utf-8", "surrogatepass"))
        if known:
            return
    if not is_loopback(house.settings.host):
        raise Unauthenticated("this page is the operator's: send `Authorization: Bearer <COE_ADMIN_KEY>`")
    check_host_header(head.hosts[0].decode("latin-1") if len(head.hosts) == 1 else None, house.settings.port)
    check_origin(None if head.origin is None else head.origin.decode("latin-1"))


def _bearer(values: list[bytes]) -> str | None:
    """The secret of `Authorization: Bearer …`; `None` when there is none."""
    if not values:
        return None
    scheme, _, secret = values[0].decode("latin-1").partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not secret.strip():
        raise Unauthenticated("send one header `Authorization: Bearer <key>`", code="invalid_api_key")
    return secret.strip()


async def read_body(head: Head, receive: Receive, limit: int) -> bytes:
    """The request body; raises a CoeError, or CallerLeft when it never ended."""
    if head.content_encoding.lower() != b"identity":
        raise UnsupportedMedia("compressed bodies are not accepted; send plain JSON")
    if head.content_type is not None:
        kind = head.content_type.decode("latin-1").partition(";")[0].strip().lower()
        if kind not in _JSON and not kind.endswith("+json"):
            raise UnsupportedMedia("the body must be JSON; send `content-type: application/json`")
    told = head.content_length.decode("latin-1")
    length = int(told) if told.isdigit() else None
    if length is not None and length > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(BODY_S):
            body = await _received(receive, limit)
    except TimeoutError:
        late = InvalidRequest(f"the body did not arrive within {BODY_S:g} s", code="body_timeout")
        late.status, late.headers = 408, {"connection": "close"}
        raise late from None
    if length is not None and len(body) != length:
        raise InvalidRequest("the body is shorter than its content-length", code="incomplete_body")
    return body


async def _received(receive: Receive, limit: int) -> bytes:
    first = b""
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerLeft
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        if not pieces and not first:
            first = piece
        else:
            pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join((first, *pieces)) if pieces else first


def _too_large(limit: int) -> CoeError:
    # The rest of the body is not read: the connection can't be used again.
    return BodyTooLarge(f"the body is over the limit of {limit} bytes", headers={"connection": "close"})
