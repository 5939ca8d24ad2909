"""The seam to the network over real sockets: what left this machine, what came back, what was kept."""

import asyncio
import contextlib
import ssl

import pytest

from service.domain.ports import UpstreamRequest
from service.errors import Broken, NoReply, NotSent
from service.simulator import Script, SimulatedVendors
from service.simulator.script import AfterAnswer, Fault
from service.upstream.transport_httpx import HttpxTransport

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


@pytest.fixture
async def transport():
    one = HttpxTransport()
    yield one
    await one.aclose()


@pytest.fixture
def vendor():
    """Start a vendor: gives the simulator and the address to post to."""

    @contextlib.asynccontextmanager
    async def start(script):
        async with SimulatedVendors({"v": script}) as simulator:
            yield simulator, simulator.base_url("v") + "/chat/completions"

    return start


def post(url, *headers, connect_s=2.0, body=BODY):
    return UpstreamRequest("POST", url, (("content-type", "application/json"), *headers), body, connect_s)


async def whole(transport, request):
    response = await transport.send(request)
    try:
        return response.status, b"".join([chunk async for chunk in response.chunks()])
    finally:
        await response.aclose()


async def test_a_plain_exchange(transport, vendor):
    """Status, lower-case header names, the body as it came; identity was asked for and no cookie sent."""
    async with vendor(Script(header_lines=("Set-Cookie: tenant=a; Path=/",))) as (simulator, url):
        response = await transport.send(post(url, ("accept-encoding", "identity")))
        assert (response.status, response.headers["content-type"]) == (200, "application/json")
        assert b"".join([chunk async for chunk in response.chunks()]).startswith(b"{")
        await response.aclose()
        await whole(transport, post(url))
        assert simulator.log[0].body == BODY
        assert simulator.log[0].headers["accept-encoding"] == "identity"
        assert "cookie" not in simulator.log[1].headers


async def test_connections_are_used_again(transport, vendor):
    """After a body that was read to its end; not after one that was left."""
    async with vendor(Script()) as (simulator, url):
        for _ in range(3):
            await whole(transport, post(url))
        assert {seen.connection for seen in simulator.log} == {1}
        left = await transport.send(post(url, body=BODY[:-1] + b',"stream":true}'))
        await left.aclose()
        await whole(transport, post(url))
        assert simulator.log[-1].connection == 2


@pytest.mark.parametrize(
    ("fault", "error", "cause"),
    [
        (Fault.REFUSE, NotSent, "connect_refused"),
        (Fault.RESET, NoReply, "hung_up"),
        (Fault.HANG_UP, NoReply, "hung_up"),
        (Fault.RESET_ON_ACCEPT, NoReply, "hung_up"),
    ],
)
async def test_failures_before_the_head(transport, vendor, fault, error, cause):
    """Say whether the request may have left: a connection that opened may have carried it."""
    async with vendor(Script(fault=fault)) as (_, url):
        with pytest.raises(error) as failure:
            await transport.send(post(url))
        assert failure.value.cause == cause


@pytest.mark.parametrize(
    "raw", [b"SSH-2.0-x\r\n", b"HTTP/1.1 99999 x\r\n\r\n", b"\x00" * 99, b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"]
)
async def test_garbage_is_no_reply(transport, vendor, raw):
    """The request was sent; what came is no HTTP."""
    async with vendor(Script(fault=Fault.RAW, raw=raw)) as (_, url):
        with pytest.raises(NoReply):
            await transport.send(post(url))


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.CUT_RESET])
@pytest.mark.parametrize("stream", [b"false", b"true"])
async def test_a_body_that_is_cut(transport, vendor, fault, stream):
    """Is broken, and may be billed."""
    async with vendor(Script(fault=fault)) as (_, url):
        with pytest.raises(Broken) as broken:
            await whole(transport, post(url, body=BODY[:-1] + b',"stream":' + stream + b"}"))
        assert (broken.value.cause, broken.value.billed) == ("cut", "maybe")


async def test_a_stale_connection(transport, vendor):
    """One that the vendor closed silently is not used; one that dies on reuse is an answer that never came."""
    async with vendor(Script(after=AfterAnswer.CLOSE_SILENTLY)) as (simulator, url):
        for _ in range(3):
            assert (await whole(transport, post(url)))[0] == 200
            await asyncio.sleep(0.02)
        assert [seen.connection for seen in simulator.log] == [1, 2, 3]
    async with vendor(Script(after=AfterAnswer.CLOSE_ON_REUSE)) as (_, url):
        await whole(transport, post(url))
        with pytest.raises(NoReply):
            await transport.send(post(url))
        assert (await whole(transport, post(url)))[0] == 200


async def test_redirects_are_not_followed(transport, vendor):
    """Only the given address is dialled."""
    async with (
        vendor(Script()) as (elsewhere, target),
        vendor(Script(fault=Fault.REDIRECT, location=target)) as (_, url),
    ):
        assert (await whole(transport, post(url)))[0] == 302
        assert elsewhere.log == []


async def test_proxies_of_the_environment_are_ignored(vendor, monkeypatch):
    """A proxy that nobody configured here would see every prompt."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    transport = HttpxTransport()
    async with vendor(Script()) as (simulator, url):
        assert (await whole(transport, post(url)))[0] == 200
        assert len(simulator.log) == 1
    await transport.aclose()


async def test_names_and_certificates(transport):
    """A name that does not exist, and a port that speaks no TLS: nothing was sent."""
    with pytest.raises(NotSent) as unknown:
        await transport.send(post("http://no-such-host.invalid/"))
    assert unknown.value.cause in ("dns", "timeout_connect")
    opened = []

    def greet(_, writer):
        opened.append(writer)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    with pytest.raises(NotSent) as plain:
        await transport.send(post(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
    assert plain.value.cause == "tls"
    for writer in opened:
        writer.transport.abort()
    server.close()


async def test_connecting_has_a_deadline(transport):
    """A port that accepts and never says hello: the greeting of TLS belongs to connecting."""
    opened = []
    server = await asyncio.start_server(lambda _, writer: opened.append(writer), "127.0.0.1", 0)
    context = ssl.create_default_context()
    stalled = HttpxTransport(verify=context)
    host, port = server.sockets[0].getsockname()
    try:
        with pytest.raises(NotSent) as slow:
            await stalled.send(post(f"https://{host}:{port}/", connect_s=0.1))
        assert slow.value.cause == "timeout_connect"
    finally:
        await stalled.aclose()
        for writer in opened:
            writer.transport.abort()
        server.close()


@pytest.mark.parametrize(
    ("url", "header"),
    [
        ("http://127.0.0.1:9/", ("authorization", "Bearer a\nb")),
        ("http://127.0.0.1:9/", ("authorization", "Bearer \udcff")),
        ("ftp://127.0.0.1:9/", ("x", "y")),
        ("http://127.0.0.1:99999999/", ("x", "y")),
        ("http://[::1/", ("x", "y")),
    ],
)
async def test_what_cannot_be_written_is_not_sent(transport, url, header):
    """A key with a line feed, an address that is none: said without repeating either."""
    with pytest.raises(NotSent) as refusal:
        await transport.send(post(url, header))
    assert "Bearer" not in refusal.value.message
    assert refusal.value.billed == "no"
