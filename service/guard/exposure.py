"""Which addresses may be opened without keys, and which requests a keyless router on loopback still refuses. Pure.

Where on the path: `refuse_exposure` at start, before the socket is opened; `check_host_header` and `check_origin` on
every request while no key exists.

Invariants
1. Without keys only loopback is served. Whatever can't be shown to be loopback (a name, an odd spelling) is not.
2. Without keys a web page in the user's browser can't spend money: not by a name that it points at 127.0.0.1 (DNS
   rebinding, caught by the Host header), not by a request across sites (caught by the Origin header).
3. Nothing the client sent is repeated in a message.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from service.domain.hosts import is_loopback
from service.errors import Forbidden

AUTHORITY_CHARACTERS_MAX = 255 + len(":65535")
"""The longest DNS name with a port; a longer Host is nobody's we know."""

_AUTHORITY = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+)(?::(?P<port>[0-9]{1,5}))?")


def refuse_exposure(host: str, keys_exist: bool) -> str | None:  # noqa: FBT001  # the two facts that decide, in one call
    """Why the router may not listen on `host`, with what to do; `None` when it may.

    `keys_exist` is `KeyStore.keys_exist()`: revoked keys count, they still close the door.
    """
    if keys_exist or is_loopback(host):
        return None
    where = host or "every address"
    return (
        f"Refusing to listen on {where} without API keys: anybody who reaches it could spend your money. Create a key "
        "first with `coe keys create --name NAME`, or listen on 127.0.0.1."
    )


def check_host_header(host_header: str | None, bound_port: int) -> None:
    """Refuse a request to a keyless router whose Host is not a name of this machine: `Forbidden`, code `foreign_host`.

    The port may differ from the bound one, because tunnels and container port maps change it; the name is what a
    rebinding page can't choose.
    """
    if not _names_loopback(host_header or ""):
        raise Forbidden(
            "This router runs without API keys and answers only to its own machine: use "
            f"http://127.0.0.1:{bound_port}, or create a key with `coe keys create --name NAME`.",
            code="foreign_host",
        )


def check_origin(origin: str | None) -> None:
    """Refuse a browser's cross-site request to a keyless router: `Forbidden`, code `foreign_origin`.

    No Origin header is no browser request that could change anything: browsers send it with every cross-site POST.
    Pages served from this machine may call; `null` (sandboxed frames, files) is foreign.
    """
    if origin is None:
        return
    try:
        parts = urlsplit(origin)
    except ValueError:
        parts = None
    if parts is not None and parts.scheme in {"http", "https"} and _names_loopback(parts.netloc):
        return
    raise Forbidden(
        "This router runs without API keys and takes no requests from web pages of other sites: create a key with "
        "`coe keys create --name NAME` and let the page's own server send it.",
        code="foreign_origin",
    )


def _names_loopback(authority: str) -> bool:
    """Whether `host[:port]` of a Host header or an origin is loopback."""
    if len(authority) > AUTHORITY_CHARACTERS_MAX:
        return False
    match = _AUTHORITY.fullmatch(authority)
    if match is None or int(match["port"] or 0) > 65535:
        return False
    return is_loopback(match["name"])
