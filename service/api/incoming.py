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
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from starlette.types import Receive

from service.domain.access import Caller
from service.domain.hosts import is_loopback
from service.domain.ids import new_id
from service.errors import BodyTooLarge, CoeError, Forbidden, InvalidRequest, Unauthenticated, UnsupportedMedia
from service.guard.exposure import check_host_header, check_origin
from service.house import House

BODY_S = 30.0
"""How long a body may take to arrive: a caller that sends a byte a minute would hold its place for ever."""

_PLAIN_ID = re.compile(rb"[A-Za-z0-9_.\-]{8,64}")
_SINGLE = frozenset({b"content-type", b"content-length", b"content-encoding", b"origin", b"x-request-id"})
"""Besides the `x-coe-*` fields, what may stand once; two servers could choose differently from two."""

_LENGTH_DIGITS = 18
"""More of them, but for leading zeros, are more than any machine has."""

_JSON = frozenset({"application/json", "text/json"})


class CallerLeft(Exception):
    """The caller hung up before there was anything to answer."""


@dataclass(slots=True)
class Head:
    """The header fields that routes look at. `steering` holds the `x-coe-*` fields by lower-case name.

    `repeated` is one that stood twice although it may stand once.
    """

    authorization: list[bytes] = field(default_factory=list)
    hosts: list[bytes] = field(default_factory=list)
    origin: bytes | None = None
    content_type: bytes | None = None
    content_encoding: bytes = b"identity"
    content_length: bytes = b""
    given_id: bytes = b""
    steering: dict[str, str] = field(default_factory=dict)
    repeated: str | None = None

    @property
    def request_id(self) -> str:
        """See `request_id_of`."""
        return request_id_of(self.given_id)


def request_id_of(given: bytes) -> str:
    """The caller's own id when it is a plain short token, so that logs on both sides meet; else a fresh one."""
    return given.decode("ascii") if _PLAIN_ID.fullmatch(given) else new_id("req_")


def read_head(fields: Iterable[tuple[bytes, bytes]]) -> Head:
    """Read the fields of an ASGI scope: names are lower-case bytes."""
    head = Head()
    seen: set[bytes] = set()
    for name, value in fields:
        if name == b"authorization":
            head.authorization.append(value)
            continue
        if name == b"host":
            head.hosts.append(value)
            continue
        steers = name.startswith(b"x-coe-")
        if name not in _SINGLE and not steers:
            continue
        if name in seen:
            head.repeated = name.decode("latin-1")
        seen.add(name)
        if steers:
            head.steering[name.decode("latin-1")] = value.decode("latin-1")
        elif name == b"content-type":
            head.content_type = value
        elif name == b"content-length":
            head.content_length = value
        elif name == b"content-encoding":
            head.content_encoding = value
        elif name == b"origin":
            head.origin = value
        else:
            head.given_id = value
    return head


def _check_single(head: Head) -> None:
    if head.repeated is not None:
        raise InvalidRequest(f"the header `{head.repeated[:50]}` was sent more than once; send it once")


def admit(head: Head, house: House) -> Caller:
    """Who is calling; raises Unauthenticated or Forbidden.

    Without keys, which only a loopback listener may be, this machine's own programs get in and web pages don't: a page
    in a browser can reach loopback too, so a foreign Host or Origin is refused.
    """
    _check_single(head)
    caller = house.keys.authenticate(
        _bearer(head.authorization),
        now_ms=int(house.clock.utc().timestamp() * 1000),
        allow_anonymous=is_loopback(house.settings.host),
    )
    if caller.anonymous:
        _check_page(head, house)
    return caller


def admit_operator(head: Head, house: House) -> None:
    """Let in who holds the admin key; without one, on a loopback listener, this machine's own programs.

    Raises Unauthenticated, or Forbidden for a caller's good key and for web pages.
    """
    _check_single(head)
    key = house.settings.admin_key
    if key is not None:
        secret = _bearer(head.authorization) or ""
        if hmac.compare_digest(key.get_secret_value().encode("utf-8", "surrogatepass"), secret.encode("latin-1")):
            return
    if key is not None or not is_loopback(house.settings.host):
        _refuse_operator(head, house)
    _check_page(head, house)


def admit_reader(head: Head, house: House) -> None:
    """Let in who may read the schema: this machine's own programs on a loopback listener, else the operator."""
    if not is_loopback(house.settings.host):
        admit_operator(head, house)
        return
    _check_single(head)
    _check_page(head, house)


def _check_page(head: Head, house: House) -> None:
    """Refuse what a web page of another site sends to a loopback listener."""
    check_host_header(head.hosts[0].decode("latin-1") if len(head.hosts) == 1 else None, house.settings.port)
    check_origin(None if head.origin is None else head.origin.decode("latin-1"))


def _refuse_operator(head: Head, house: House) -> NoReturn:
    """Raise for who is not the operator: Forbidden when a good key says who it is, else Unauthenticated."""
    admits = "`Authorization: Bearer <COE_ADMIN_KEY>`"
    try:
        house.keys.authenticate(_bearer(head.authorization), now_ms=int(house.clock.utc().timestamp() * 1000))
    except CoeError:
        raise Unauthenticated(f"this page is the operator's: send {admits}") from None
    raise Forbidden(f"this page is the operator's, and no caller's key opens it: send {admits}")


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
    if head.content_type is not None and head.content_type != b"application/json":
        kind = head.content_type.decode("latin-1").partition(";")[0].strip().lower()
        if kind not in _JSON and not kind.endswith("+json"):
            raise UnsupportedMedia("the body must be JSON; send `content-type: application/json`")
    told = head.content_length.decode("latin-1")
    length = int(told[-_LENGTH_DIGITS:]) if told.isdigit() else None
    if length is not None and told[:-_LENGTH_DIGITS].strip("0"):
        raise _too_large(limit)
    if length is not None and length > limit:
        raise _too_large(limit)
    try:
        if getattr(getattr(receive, "__self__", None), "more_body", True):
            async with asyncio.timeout(BODY_S):
                body = await _received(receive, limit)
        else:
            body = await _received(receive, limit)  # the server has all of it, so there is nothing to wait for
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
