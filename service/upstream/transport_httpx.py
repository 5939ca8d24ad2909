"""The seam to the network, on httpx: for forward proxies. `transport_native` is the faster one beside it.

Where on the path: `upstream.client` calls `send`. Deadlines other than the connect one are the client's business.

Invariants
1. Only the URL it is given is dialled: no redirects, no proxies from the environment, TLS verified.
2. The error says whether the request left this machine: `NotSent` or `NoReply`. Billing depends on it.
3. The body is handed on as it arrives, undecoded: `accept-encoding: identity` was asked for.
4. No cookie is kept: what one tenant's answer sets never goes out with another's request.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from service.domain.ports import UpstreamRequest, UpstreamResponse
from service.errors import Broken, NoReply, NotSent
from service.upstream.tls import tls_context

CONNECTIONS_MAX = 2_000
KEEPALIVE_MAX = 200
PORT_MAX = 65_535
"""uvloop dials a larger one modulo its size: some other port of the same host."""

KEEPALIVE_S = 30.0  # shorter than the 60 s at which most vendors' load balancers hang up


class HttpxTransport:
    """A pool of connections to every vendor."""

    def __init__(self, *, verify: ssl.SSLContext | bool = True, proxy: str | None = None) -> None:
        """`verify` is a context, or whether certificates are checked; `proxy` is the address of a forward proxy."""
        tls = verify if isinstance(verify, ssl.SSLContext) else tls_context(verify=verify)
        through = None
        if proxy is not None:
            through = httpx.Proxy(proxy, ssl_context=tls_context() if proxy.startswith("https:") else None)
        # The transport of httpx without its client, which keeps cookies and reads where redirects lead.
        self._client = httpx.AsyncHTTPTransport(
            verify=tls,
            trust_env=False,
            proxy=through,
            limits=httpx.Limits(
                max_connections=CONNECTIONS_MAX,
                max_keepalive_connections=KEEPALIVE_MAX,
                keepalive_expiry=KEEPALIVE_S,
            ),
        )

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """See `Transport.send`."""
        try:
            message = httpx.Request(
                request.method,
                request.url,
                headers=list(request.headers),
                content=request.body,
                extensions={"timeout": {"connect": request.connect_s, "pool": request.connect_s}},
            )
            if (message.url.port or 0) > PORT_MAX:
                raise httpx.InvalidURL("no such port")
            response = await self._client.handle_async_request(message)
        except (httpx.ConnectTimeout, httpx.PoolTimeout):
            raise NotSent("connecting to the vendor took too long", cause="timeout_connect") from None
        except (httpx.ConnectError, httpx.ProxyError, httpx.UnsupportedProtocol, httpx.InvalidURL) as problem:
            raise NotSent("the vendor could not be reached", cause=_connect_cause(problem)) from None
        except (httpx.LocalProtocolError, UnicodeError, ExceptionGroup):
            # The group holds what the event loop thinks of an impossible port; connecting is all that groups tasks.
            raise NotSent("the request could not be written as HTTP", cause="invalid_request") from None
        except (httpx.HTTPError, ssl.SSLError):  # what TLS says after its greeting comes through as it is
            raise NoReply("the vendor hung up before it answered", cause="hung_up") from None
        return _HttpxResponse(response)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()


class _HttpxResponse:
    """An answer whose head has arrived."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        response = self._response
        try:
            async for chunk in response.aiter_raw():
                yield chunk
        except (httpx.HTTPError, ssl.SSLError):
            raise Broken("the vendor's answer was cut", cause="cut") from None
        if _said_more(response):
            await response.extensions["network_stream"].aclose()  # the pool does not reuse what is closed
        if _ends_with_connection(response) and _without_goodbye(response):
            raise Broken("the vendor's answer was cut", cause="cut")

    async def aclose(self) -> None:
        await self._response.aclose()


def _said_more(response: httpx.Response) -> bool:
    """Whether bytes lie behind an answer that was read: httpcore would take them for the answer to the next request.

    There is no public way to ask. Where the layout is not what we know, the connection is lost and nothing else.
    """
    held: Any = response.stream
    for name in ("_httpcore_stream", "_stream", "_connection", "_h11_state"):
        held = getattr(held, name, None)
    return held is None or bool(held.trailing_data[0])


def _ends_with_connection(response: httpx.Response) -> bool:
    """Whether the body has no length and no chunks, so that only the end of the connection says that it is whole."""
    framed = "content-length" in response.headers or "transfer-encoding" in response.headers
    return not framed and response.status_code not in (204, 304)


def _without_goodbye(response: httpx.Response) -> bool:
    """Whether a connection over TLS ended without the goodbye of TLS, which httpcore does not ask for."""
    tls = response.extensions["network_stream"].get_extra_info("ssl_object")
    try:
        return tls is not None and bool(tls.read(1))
    except ssl.SSLZeroReturnError:
        return False
    except ssl.SSLError:
        return True


def _connect_cause(problem: Exception) -> str:
    """A short stable word for why no connection came about."""
    seen: BaseException | None = problem
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return "tls"
        if isinstance(seen, ConnectionRefusedError):
            return "connect_refused"
        if isinstance(seen, OSError) and type(seen).__name__ == "gaierror":
            return "dns"
        if isinstance(seen, BaseExceptionGroup):  # a name with several addresses: the first speaks for all
            seen = seen.exceptions[0]
            continue
        seen = seen.__cause__ or seen.__context__
    return "connect_failed"
