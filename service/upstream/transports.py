"""Which transport speaks to the vendors. `TRANSPORTS` lists them; tests/contract/test_transports.py holds them all.

Where on the path: `app` opens one at start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import urlsplit

from service.domain.hosts import is_this_machine, plain
from service.domain.ports import Transport, UpstreamRequest, UpstreamResponse
from service.errors import ConfigurationError
from service.upstream.transport_httpx import HttpxTransport
from service.upstream.transport_native import NativeTransport


class OpenTransport(Transport, Protocol):
    """A transport that somebody closes in the end."""

    async def aclose(self) -> None:
        """Close every connection."""
        ...


TRANSPORTS: Final[Mapping[str, type[HttpxTransport | NativeTransport]]] = {
    "native": NativeTransport,
    "httpx": HttpxTransport,
}


class Proxied:
    """Vendors through a forward proxy, what runs on this machine directly: a proxy could not reach it."""

    def __init__(self, proxy: str) -> None:
        self._through = HttpxTransport(proxy=proxy)
        self._direct = NativeTransport()

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """See `Transport.send`."""
        try:
            host = urlsplit(request.url).hostname or ""
        except ValueError:
            host = ""
        return await (self._direct if is_this_machine(plain(host)) else self._through).send(request)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._direct.aclose()
        await self._through.aclose()


def open_transport(name: str, proxy: str | None = None) -> OpenTransport:
    """The transport of this name; through a forward proxy it is httpx. Raises ConfigurationError for a wrong proxy."""
    if proxy is None:
        return TRANSPORTS[name]()
    if not _is_proxy(proxy):
        # The address is not repeated: it may hold a password.
        raise ConfigurationError(
            "COE_UPSTREAM_PROXY is not the address of a proxy; write http://host:port, or http://user:password@host:port"
        )
    return Proxied(proxy)


def _is_proxy(address: str) -> bool:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    bare = parts.path in ("", "/") and not parts.query and not parts.fragment
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and bare
