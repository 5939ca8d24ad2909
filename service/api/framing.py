"""What of a request's head may be read in two ways, and is therefore refused: its Host, its coding, its target.

Pure. Where on the path: `api.door` asks when a header is whole.
"""

from __future__ import annotations

import re

from service.errors import InvalidRequest

_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)


def the_host(headers: list[tuple[bytes, bytes]], version: str) -> bytes | None:
    """The one valid Host of a request; `None` when HTTP/1.0 sent none. Raises InvalidRequest."""
    hosts = [value for name, value in headers if name == b"host"]
    if not hosts and version == "1.0":
        return None
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise InvalidRequest("send exactly one `Host` header: a name or an address, and a port if need be")
    return hosts[0]


def check_coding(headers: list[tuple[bytes, bytes]], version: str) -> None:
    """Raise InvalidRequest for a transfer coding other than `chunked`, and for any in HTTP/1.0.

    The parser refuses Content-Length beside Transfer-Encoding and more than one of either; it lets `gzip, chunked` and
    HTTP/1.0 pass, which proxies on the way may frame in another way (RFC 9112, 6.1).
    """
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if codings and (codings != [b"chunked"] or version != "1.1"):
        raise InvalidRequest("the only transfer coding that is taken is `chunked`, in HTTP/1.1")


def origin_form(target: bytes, host: bytes | None) -> bytes:
    """The target as path and query. An absolute target must name the same authority as Host; raises InvalidRequest."""
    if target.startswith(b"/"):
        return target
    absolute = _ABSOLUTE.match(target)
    if absolute is None or host is None or absolute[1].lower() != host.lower():
        raise InvalidRequest("the request target must be a path, or a URL with the same authority as `Host`")
    return absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
