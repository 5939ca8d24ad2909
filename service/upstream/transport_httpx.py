"""The seam to the network, on httpx. One method; a faster one may stand beside it (docs/adr/0002-transport-seam.md).

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
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from service.domain.ports import UpstreamRequest, UpstreamResponse
from service.errors import Broken, NoReply, NotSent

CONNECTIONS_MAX = 2_000
KEEPALIVE_MAX = 200
KEEPALIVE_S = 30.0  # shorter than the 60 s at which most vendors' load balancers hang up


class HttpxTransport:
    """A pool of connections to every vendor."""

    def __init__(self, *, verify: ssl.SSLContext | bool = True) -> None:
        self._client = httpx.AsyncClient(
            verify=verify,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(None),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            limits=httpx.Limits(
                max_connections=CONNECTIONS_MAX,
                max_keepalive_connections=KEEPALIVE_MAX,
                keepalive_expiry=KEEPALIVE_S,
            ),
        )

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """See `Transport.send`."""
        try:
            message = self._client.build_request(
                request.method,
                request.url,
                headers=list(request.headers),
                content=request.body,
                timeout=httpx.Timeout(None, connect=request.connect_s, pool=request.connect_s),
            )
            response = await self._client.send(message, stream=True)
        except (httpx.ConnectTimeout, httpx.PoolTimeout):
            raise NotSent("connecting to the vendor took too long", cause="timeout_connect") from None
        except (httpx.ConnectError, httpx.UnsupportedProtocol, httpx.InvalidURL) as problem:
            raise NotSent("the vendor could not be reached", cause=_connect_cause(problem)) from None
        except (httpx.LocalProtocolError, UnicodeError, ExceptionGroup):
            # The group holds what the event loop thinks of an impossible port; connecting is all that groups tasks.
            raise NotSent("the request could not be written as HTTP", cause="invalid_request") from None
        except httpx.HTTPError:
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
        try:
            async for chunk in self._response.aiter_raw():
                yield chunk
        except httpx.HTTPError:
            raise Broken("the vendor's answer was cut", cause="cut") from None

    async def aclose(self) -> None:
        await self._response.aclose()


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
        seen = seen.__cause__ or seen.__context__
    return "connect_failed"
