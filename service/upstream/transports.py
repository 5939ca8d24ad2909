"""Which transport speaks to the vendors. `TRANSPORTS` lists them; tests/contract/test_transports.py holds them all.

Where on the path: `app` opens one at start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import httpx

from service.domain.ports import Transport
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


def open_transport(name: str, proxy: str | None = None) -> OpenTransport:
    """The transport of this name; through a forward proxy it is httpx. Raises ConfigurationError for a wrong proxy."""
    if proxy is None:
        return TRANSPORTS[name]()
    try:
        return HttpxTransport(proxy=proxy)
    except (ValueError, httpx.InvalidURL):
        # Not chained: its text quotes the address, which may hold a password.
        raise ConfigurationError(
            "COE_UPSTREAM_PROXY is not the address of a proxy; write http://host:port, or http://user:password@host:port"
        ) from None
