"""Which transport is opened, and what a wrong proxy is told."""

import asyncio

import pytest

from service.config import TransportName
from service.domain.ports import UpstreamRequest
from service.errors import ConfigurationError, NotSent
from service.upstream.transports import TRANSPORTS, open_transport


async def test_every_name_opens_its_transport():
    """The setting and the table have the same names."""
    assert set(TRANSPORTS) == {name.value for name in TransportName}
    for name, made in TRANSPORTS.items():
        transport = open_transport(name)
        assert type(transport) is made
        await transport.aclose()


async def _proxy(answer):
    """A server that notes what it is asked, and the address to reach it."""
    asked = []

    async def serve(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, asked, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("name", TRANSPORTS)
async def test_through_a_proxy_everything_goes_to_the_proxy(name):
    """Whatever transport was asked for: the vendor itself is never dialled, and the proxy hears who comes."""
    server, asked, address = await _proxy(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
    transport = open_transport(name, f"http://user:secret@{address}")
    response = await transport.send(UpstreamRequest("POST", "http://vendor.invalid/v1", (("x", "y"),), b"{}", 2.0))
    assert b"".join([chunk async for chunk in response.chunks()]) == b"hi"
    await response.aclose()
    await transport.aclose()
    server.close()
    assert asked[0].startswith(b"POST http://vendor.invalid/v1 HTTP/1.1\r\n")
    assert b"proxy-authorization: basic " in asked[0].lower()


async def test_what_runs_here_does_not_go_through_it():
    """A proxy elsewhere could not reach it, and would see what was meant to stay."""
    server, asked, address = await _proxy(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno")
    engine, heard, here = await _proxy(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
    transport = open_transport("native", f"http://{address}")
    response = await transport.send(UpstreamRequest("POST", f"http://{here}/v1", (), b"{}", 2.0))
    assert b"".join([chunk async for chunk in response.chunks()]) == b"hi"
    await response.aclose()
    await transport.aclose()
    server.close()
    engine.close()
    assert (asked, len(heard)) == ([], 1)


async def test_a_proxy_that_refuses_has_sent_nothing():
    """The tunnel to the vendor was never there; its secret is not in the error."""
    server, asked, address = await _proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
    transport = open_transport("native", f"http://user:secret@{address}")
    with pytest.raises(NotSent) as refusal:
        await transport.send(UpstreamRequest("POST", "https://vendor.invalid/v1", (), b"{}", 2.0))
    await transport.aclose()
    server.close()
    assert asked[0].startswith(b"CONNECT vendor.invalid:443 HTTP/1.1\r\n")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "proxy",
    [
        "ftp://user:secret@127.0.0.1:9",
        "socks5://user:secret@127.0.0.1:9",
        "http://user:secret@127.0.0.1:port",
        "http://user:secret@127.0.0.1:99999",
        "http://user:secret@127.0.0.1:9/path",
        "http://user:secret@127.0.0.1:9?secret",
        "http://",
        "secret",
        "",
    ],
)
def test_what_is_no_proxy_is_refused(proxy):
    """At start, without repeating it."""
    with pytest.raises(ConfigurationError, match="COE_UPSTREAM_PROXY") as refusal:
        open_transport("native", proxy)
    assert "secret" not in str(refusal.value)
