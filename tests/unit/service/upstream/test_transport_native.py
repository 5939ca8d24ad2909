"""The pool over real sockets: who gets which connection, how many there are, and the bytes that leave."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import time
import traceback
from dataclasses import replace

import pytest
import uvloop
from behaviours import ROWS
from hostile import AFTER, HostileServer, certificates
from plays import OK, WELL, closes, courtesy, deafness, says, silence

from service.domain.ports import UpstreamRequest
from service.errors import Broken, NoReply, NotSent, UpstreamError
from service.upstream import patience, transport_native
from service.upstream.native_connection import Connection
from service.upstream.transport_native import NativeTransport, _address, _written

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
SOON_S = 10.0
SECRET = "Bearer key-canary-0123456789"


@pytest.fixture
async def transport():
    one = NativeTransport(verify=certificates().trusting)
    yield one
    await one.aclose()


@pytest.fixture
def few(monkeypatch):
    """`few(n)` makes a transport that may have n connections."""
    made = []

    def make(connections):
        monkeypatch.setattr(transport_native, "CONNECTIONS_MAX", connections)
        made.append(NativeTransport(verify=certificates().trusting))
        return made[-1]

    return make


def post(server, body=b"x", *, host="127.0.0.1", scheme="http", connect_s=SOON_S):
    return UpstreamRequest("POST", f"{scheme}://{host}:{server.port}/", (), body, connect_s)


async def read(response):
    try:
        return b"".join([chunk async for chunk in response.chunks()])
    finally:
        await response.aclose()


async def whole(transport, request):
    async with asyncio.timeout(SOON_S):
        return await read(await transport.send(request))


async def turns(count=20):
    """Let everybody do what needs no network."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(holds):
    async with asyncio.timeout(SOON_S):
        while not holds():
            await asyncio.sleep(0.001)


async def gone(peer):
    await asyncio.wait_for(peer.gone.wait(), SOON_S)


def counts(transport):
    """(open, idle, used): the second is kept in two places, which must agree."""
    idle = sum(map(len, transport._idle.values()))
    assert idle == transport._idle_count
    return transport._open, idle, transport_native.CONNECTIONS_MAX - transport._slots._value


def shows_more(problem):
    """Whether an error quotes a secret, or leads whoever prints it to one that holds it."""
    quoted = "canary" in "".join([repr(problem), *traceback.format_exception(problem)])
    return quoted or problem.__cause__ is not None or not problem.__suppress_context__


# Idle connections.


async def test_the_one_used_last_is_used_next(transport):
    """So that those nobody needs grow old."""
    async with HostileServer(courtesy) as server:
        answers = [await transport.send(post(server)) for _ in range(3)]
        for number in (0, 2, 1):
            assert await read(answers[number]) == AFTER
        for _ in range(2):
            assert await whole(transport, post(server)) == AFTER
        assert [len(peer.requests) for peer in server.peers] == [1, 3, 1]
        assert counts(transport) == (3, 3, 0)


async def test_no_more_are_kept_than_said(transport, monkeypatch):
    """The rest is closed."""
    monkeypatch.setattr(transport_native, "KEEPALIVE_MAX", 2)
    async with HostileServer(courtesy) as server, HostileServer(courtesy) as other:
        answers = [await transport.send(post(one)) for one in (server, server, other, other)]
        for answer in answers:
            await read(answer)
        assert counts(transport) == (2, 2, 0)
        await gone(other.peers[0])
        await gone(other.peers[1])
        assert not any(peer.gone.is_set() for peer in server.peers)


async def test_nothing_is_idle_for_long(transport, monkeypatch):
    """A connection that nobody asked for is closed, and then nothing ticks."""
    monkeypatch.setattr(transport_native, "KEEPALIVE_S", 0.05)
    async with HostileServer(courtesy) as server:
        await whole(transport, post(server))
        assert counts(transport) == (1, 1, 0)
        assert transport._sweep is not None
        await gone(server.peers[0])
        assert counts(transport) == (0, 0, 0)
        assert transport._idle == {}
        assert transport._sweep is None
        assert await whole(transport, post(server)) == AFTER
        assert transport._sweep is not None


async def test_what_is_young_stays(transport):
    """The sweep takes the old and those that the vendor closed, and comes again for the rest."""
    async with HostileServer(courtesy) as server, HostileServer(courtesy) as other:
        answers = [await transport.send(post(one)) for one in (server, server, other)]
        for answer in answers:
            await read(answer)
        first, second = transport._idle[False, "127.0.0.1", server.port]
        first.idle_since -= transport_native.KEEPALIVE_S
        transport._sweep.cancel()
        transport._swept()
        await gone(server.peers[0])
        assert list(transport._idle[False, "127.0.0.1", server.port]) == [second]
        assert counts(transport) == (2, 2, 0)
        assert transport._sweep is not None
        other.peers[0].close()
        await until(lambda: not transport._idle[False, "127.0.0.1", other.port][0].reusable)
        transport._sweep.cancel()
        transport._swept()
        assert [*transport._idle] == [(False, "127.0.0.1", server.port)]
        assert counts(transport) == (1, 1, 0)


async def test_a_sweep_after_everything_was_taken(transport):
    """Does not come again by itself; the next connection that becomes idle brings it back."""
    async with HostileServer(courtesy) as server:
        await whole(transport, post(server))
        used = await transport.send(post(server))
        transport._sweep.cancel()
        transport._swept()
        assert transport._sweep is None
        await read(used)
        assert transport._sweep is not None


async def test_closing(transport):
    """Closes what is idle at once, what is in use when it is given back, and stops the clock."""
    async with HostileServer(courtesy) as server:
        used = await transport.send(post(server))
        await whole(transport, post(server))
        await transport.aclose()
        await gone(server.peers[1])
        assert transport._sweep.cancelled()
        assert counts(transport) == (1, 0, 1)
        assert not server.peers[0].gone.is_set()
        assert await read(used) == AFTER
        await gone(server.peers[0])
        assert counts(transport) == (0, 0, 0)
        await used.aclose()
        assert counts(transport) == (0, 0, 0)
        with pytest.raises(RuntimeError, match="closed"):
            used.chunks()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_request_that_is_still_being_written(loop):
    """Over TLS as without: a vendor that answers and reads no more gets no second request on that connection."""

    async def deaf(peer):
        await peer.head()
        await peer.send(WELL)
        await peer.released.wait()

    async def scene():
        for tls in (None, certificates().good):
            transport = NativeTransport(verify=certificates().trusting)
            async with HostileServer(deaf, tls) as server:
                home = {"host": "localhost", "scheme": "https" if tls else "http"}
                assert await whole(transport, post(server, bytes(30_000_000), **home)) == b"ok"
                assert counts(transport) == (0, 0, 0)
                server.peers[0].released.set()
                await gone(server.peers[0])
                assert await whole(transport, post(server, **home)) == AFTER
                assert len(server.peers) == 2
            await transport.aclose()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(scene())


@pytest.mark.parametrize("loop_name", LOOPS)
@pytest.mark.parametrize("grace", [True, False])
def test_a_connection_that_came_about_while_we_stood_still_counts(loop_name, grace, monkeypatch):
    """The process stops for longer than a connection may take. Positive control: without the grace it is too late."""
    if not grace:
        monkeypatch.setattr(patience, "LATE_S", 60)

    async def go():
        one = NativeTransport(verify=certificates().trusting)
        async with HostileServer(courtesy) as server:
            asyncio.get_running_loop().call_soon(time.sleep, 0.6)
            try:
                return await whole(one, post(server, connect_s=0.1))
            except NotSent as problem:
                return problem.cause
            finally:
                await one.aclose()

    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        assert runner.run(go()) == (AFTER if grace else "timeout_connect")


async def test_nothing_is_shared_between_origins(transport):
    """Another scheme, name or port is another vendor; another spelling of the same is not."""
    async with HostileServer(courtesy, certificates().good) as server, HostileServer(courtesy) as other:
        secure = {"host": "localhost", "scheme": "https"}
        assert await whole(transport, post(server, **secure)) == AFTER
        plain = asyncio.create_task(transport.send(post(server, host="localhost")))
        await until(lambda: len(server.peers) == 2)  # what a server that speaks TLS makes of it is its own business
        plain.cancel()
        assert [len(peer.requests) for peer in server.peers] == [1, 0]
        assert await whole(transport, post(server, scheme="https")) == AFTER
        assert [len(peer.requests) for peer in server.peers] == [1, 0, 1]
        assert await whole(transport, post(other)) == AFTER
        assert [len(peer.requests) for peer in other.peers] == [1]
        assert await whole(transport, post(server, host="LOCALHOST", scheme="HTTPS")) == AFTER
        assert [len(peer.requests) for peer in server.peers] == [2, 0, 1]


# As many as may be.


async def test_a_line_is_kept_to(few):
    """Who came first is served first; who comes at the very moment at which one becomes free is no exception."""
    transport = few(1)
    async with HostileServer(courtesy) as server:
        held = await transport.send(post(server, b"held"))
        waiting = []
        for number in range(5):
            waiting.append(asyncio.create_task(whole(transport, post(server, b"%d" % number))))
            await turns()
        assert await read(held) == AFTER
        waiting.append(asyncio.create_task(whole(transport, post(server, b"late"))))
        pushing = await whole(transport, post(server, b"last"))
        assert [*await asyncio.gather(*waiting), pushing] == [AFTER] * 7
        bodies = [request.rpartition(b"\r\n\r\n")[2] for request in server.requests]
        assert bodies[:6] == [b"held", b"0", b"1", b"2", b"3", b"4"]
        assert len(server.peers) == 1
        assert counts(transport) == (1, 1, 0)
        await transport.aclose()


async def test_waiting_takes_no_longer_than_connecting(few):
    """Then nothing was sent, and the place in line is free again."""
    transport = few(1)
    async with HostileServer(silence) as server:
        holding = asyncio.create_task(transport.send(post(server)))
        await until(lambda: server.peers and server.peers[0].received)
        with pytest.raises(NotSent) as late:
            await transport.send(post(server, connect_s=0.05))
        assert (late.value.cause, len(server.peers)) == ("timeout_connect", 1)
        assert counts(transport) == (1, 0, 1)
        holding.cancel()
        await asyncio.wait({holding})
        assert counts(transport) == (0, 0, 0)
        server.peers[0].released.set()
        assert await whole(transport, post(server)) == AFTER
        await transport.aclose()


@pytest.mark.parametrize("woken", [False, True])
async def test_who_gives_up_waiting_keeps_nobody_waiting(few, woken):
    """Neither one who leaves the line, nor one who leaves when it has just been called."""
    transport = few(1)
    async with HostileServer(courtesy) as server:
        held = await transport.send(post(server))
        first = asyncio.create_task(whole(transport, post(server, b"first")))
        await turns()
        second = asyncio.create_task(whole(transport, post(server, b"second")))
        await turns()
        if woken:
            assert await read(held) == AFTER
            first.cancel()
        else:
            first.cancel()
            await turns()
            assert await read(held) == AFTER
        assert await second == AFTER
        assert first.cancelled()
        assert not any(request.endswith(b"first") for request in server.requests)
        assert counts(transport) == (1, 1, 0)
        await transport.aclose()


async def test_room_is_made_for_another_vendor(few):
    """An idle connection is worth less than a request, whether it was idle before or becomes so."""
    transport = few(1)
    async with HostileServer(courtesy) as server, HostileServer(courtesy) as other:
        assert await whole(transport, post(server)) == AFTER
        assert await whole(transport, post(other)) == AFTER
        await gone(server.peers[0])
        assert counts(transport) == (1, 1, 0)
        held = await transport.send(post(server))
        await gone(other.peers[0])
        waiting = asyncio.create_task(whole(transport, post(other)))
        await turns()
        assert len(other.peers) == 1
        assert await read(held) == AFTER
        assert await waiting == AFTER
        await gone(server.peers[1])
        assert counts(transport) == (1, 1, 0)
        await transport.aclose()


async def test_never_more_than_may_be(few):
    """Whoever asks whom."""
    transport, draw, most = few(3), random.Random(5), 0
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(HostileServer(courtesy)) for _ in range(4)]

        async def asks():
            nonlocal most
            for _ in range(5):
                assert await whole(transport, post(draw.choice(servers))) == AFTER
                most = max(most, transport._open)

        await asyncio.gather(*(asks() for _ in range(12)))
        assert most == 3
        assert sum(len(server.requests) for server in servers) == 60
        await transport.aclose()


async def test_a_failure_makes_room(few):
    """Before a connection came about, before the head, and in the body."""
    transport = few(1)
    for play, body, problem in (
        (closes("close", "request"), b"x", NoReply),
        (says(OK + b"content-length: 3\r\n\r\nok", "fin"), b"x", Broken),
        (deafness, bytes(30_000_000), None),
    ):
        async with HostileServer(play) as server:
            closed = post(server)
            first = asyncio.create_task(whole(transport, post(server, body)))
            await turns()
            second = asyncio.create_task(whole(transport, post(server)))
            if problem is None:
                await until(lambda server=server: server.peers)
                await turns()
                first.cancel()
                await asyncio.wait({first})
                server.peers[0].released.set()
            else:
                with pytest.raises(problem):
                    await first
            assert await second == AFTER
    refused = asyncio.create_task(whole(transport, closed))
    async with HostileServer(courtesy) as server:
        second = asyncio.create_task(whole(transport, post(server)))
        with pytest.raises(NotSent):
            await refused
        assert await second == AFTER
        await transport.aclose()
        assert counts(transport) == (0, 0, 0)


@pytest.mark.parametrize("let_go", [True, False], ids=["as it is", "control"])
@pytest.mark.parametrize("loop", LOOPS)
def test_who_leaves_while_a_connection_comes_about_leaves_nothing_behind(loop, let_go, monkeypatch):
    """At whatever turn of the loop. Positive control, where the loop says nothing to what it closes: it stays in a ring."""
    if not let_go:
        monkeypatch.setattr(Connection, "let_go", lambda _: None)

    async def scene():
        transport = NativeTransport(verify=certificates().trusting)
        async with HostileServer(silence) as server:
            for turns in range(30):
                asked = asyncio.create_task(transport.send(post(server)))
                for _ in range(turns):
                    await asyncio.sleep(0)
                asked.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await (await asked).aclose()
                del asked
            await transport.aclose()
            assert counts(transport) == (0, 0, 0)
            await asyncio.sleep(0.05)
        return sum(isinstance(one, Connection) for one in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            left = runner.run(scene())
    finally:
        gc.enable()
    assert (left == 0) is let_go


QUICK = [one for one in ROWS.values() if not one.tls and not one.url and one.manner != "pauses" and len(one.body) < 99]
"""Rows of the contract that need nothing but the server's port."""

SLOW = ("held_back", "endless", "deaf", "stalls", "line_too_long", "too_many", "left_while")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("seed", range(3))
def test_the_counts_are_right_after_anything(few, loop, seed):
    """Good answers, failures, hangs and callers who leave, all at the same time and with too few connections."""
    draw = random.Random(seed)
    rows = [one for one in QUICK if not one.name.startswith(SLOW)]
    assert len(rows) > 80

    async def ask(transport, request, patience):
        with contextlib.suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(patience):
                answer = await transport.send(request)
                try:
                    if draw.random() < 0.8:
                        async for _ in answer.chunks():
                            assert transport._open <= transport_native.CONNECTIONS_MAX
                finally:
                    await answer.aclose()

    async def scene():
        transport = few(5)
        async with contextlib.AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(HostileServer(row.play)) for row in draw.sample(rows, 30)]
            asked = []
            for server in servers * 3:
                patience = draw.choice((0.0, 0.002, 0.02, 0.2))
                request = post(server, b"x" * draw.choice((0, 9, 99_999)), connect_s=draw.choice((0.01, 0.1, 9.0)))
                asked.append(asyncio.create_task(ask(transport, request, patience)))
                if draw.random() < 0.3:
                    await asyncio.sleep(0.001)
                if draw.random() < 0.2:
                    draw.choice(asked).cancel()
            await asyncio.wait(asked)
            failures = [task.exception() for task in asked if not task.cancelled() and task.exception()]
            assert failures == []
            opened, idle, used = counts(transport)
            assert (opened, used) == (idle, 0)
            assert sum(len(server.requests) for server in servers) > 10
            await transport.aclose()
            assert counts(transport) == (0, 0, 0)
            for peer in [peer for server in servers for peer in server.peers]:
                peer.released.set()
                await gone(peer)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(scene())


@pytest.mark.parametrize("said", [b"", OK + b"content-length: 9\r\n\r\npart"])
async def test_who_leaves_closes(transport, said):
    """A caller that is cancelled before the head, or in the body: the vendor sees it, and can stop working."""

    async def play(peer):
        await peer.request()
        await peer.send(said)
        await peer.listen()

    async with HostileServer(play) as server:
        asking = asyncio.create_task(whole(transport, post(server)))
        await until(lambda: server.requests)
        await asyncio.sleep(0.02)
        asking.cancel()
        await gone(server.peers[0])
        assert asking.cancelled()
        assert counts(transport) == (0, 0, 0)


# What leaves this machine.


async def test_the_bytes_that_leave(transport):
    """Exactly these, twice on one connection."""
    async with HostileServer(courtesy) as server:
        headers = (("Authorization", " Bearer k\t"), ("x-empty", ""), ("x-latin", "\xe4\xff"), ("x-tab", "a\tb"))
        request = UpstreamRequest("POST", f"http://127.0.0.1:{server.port}/v1/chat?a=1&b=%20#part", headers, b'{"a":1}')
        wanted = (
            b"POST /v1/chat?a=1&b=%%20 HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nAuthorization: Bearer k\r\nx-empty: \r\n"
            b"x-latin: \xe4\xff\r\nx-tab: a\tb\r\ncontent-length: 7\r\n\r\n" + b'{"a":1}'
        ) % server.port
        await whole(transport, request)
        await whole(transport, request)
        assert bytes(server.peers[0].received) == 2 * wanted


@pytest.mark.parametrize(
    ("method", "body", "end"),
    [
        ("GET", b"", b"host: h\r\n\r\n"),
        ("GET", b"x", b"host: h\r\ncontent-length: 1\r\n\r\nx"),
        ("POST", b"", b"host: h\r\ncontent-length: 0\r\n\r\n"),
        ("POST", b"\0\r\n\xff", b"host: h\r\ncontent-length: 4\r\n\r\n\0\r\n\xff"),
        ("DELETE", b"", b"host: h\r\ncontent-length: 0\r\n\r\n"),
    ],
)
def test_the_framing_of_a_body(method, body, end):
    """A length where there is a body or a vendor may wait for one."""
    _, message = _written(UpstreamRequest(method, "http://h/", (), body))
    assert message == method.encode() + b" / HTTP/1.1\r\n" + end


@pytest.mark.parametrize(
    ("url", "origin", "authority", "target"),
    [
        ("http://h", (False, "h", 80), "h", "/"),
        ("https://h:443/", (True, "h", 443), "h", "/"),
        ("http://h:443/", (False, "h", 443), "h:443", "/"),
        ("https://h:80/", (True, "h", 80), "h:80", "/"),
        ("https://H.Example/V1", (True, "h.example", 443), "h.example", "/V1"),
        ("http://h?q=/#f", (False, "h", 80), "h", "/?q=/"),
        ("http://h//a/../b;c=d?e", (False, "h", 80), "h", "//a/../b;c=d?e"),
        ("http://h/%2F%0a", (False, "h", 80), "h", "/%2F%0a"),
        ("http://[::1]:8/x", (False, "::1", 8), "[::1]:8", "/x"),
        ("https://[2001:DB8::1]", (True, "2001:db8::1", 443), "[2001:db8::1]", "/"),
        ("https://b\xfccher.example:8/", (True, "xn--bcher-kva.example", 8), "xn--bcher-kva.example:8", "/"),
        ("http://127.0.0.1:0/", (False, "127.0.0.1", 0), "127.0.0.1:0", "/"),
    ],
)
def test_the_parts_of_an_address(url, origin, authority, target):
    """What is dialled, what is named, what is asked for."""
    address, message = _written(UpstreamRequest("GET", url, (), b""))
    assert (address.origin, address.authority, address.target) == (origin, authority, target)
    assert message == f"GET {target} HTTP/1.1\r\nhost: {authority}\r\n\r\n".encode()


@pytest.mark.parametrize(
    "url",
    [
        *("http:///x", "//h/", "h", "", "ftp://h/", "file:///etc/passwd", "http://:80/", "http://[::1/", "http://h]/"),
        *("http://user@h/", "http://user:key-canary@h/", "http://@h/", "http://:@h/", "http://h\\@e/"),
        *("http://h:65536/", "http://h:-1/", "http://h:x/", "http://h:8_0/", "http://h:\uff18/"),
        *(f"http://h/key-canary{one}x" for one in " \t\r\n\0\x7f\x85\xa0\u2028\xe4\u4e2d\udcff"),
        *(f"http://h{one}x/" for one in " \t\r\n\0\x7f"),
        *(
            " http://h/",
            "http://h/ ",
            "\thttp://h/",
            "http://h/\n",
            "http://h/?a b",
            "http://h/?a\nb",
            "http://h/#a\nb",
        ),
        *("http://\u2100.example/", "http://\xfc" + "x" * 70 + ".example/", "http://\xfc..x/"),
    ],
)
async def test_an_address_that_is_none(transport, url):
    """Is not dialled, nor put right: what would be dialled is not what somebody read and allowed."""
    with pytest.raises(NotSent) as refused:
        await transport.send(UpstreamRequest("POST", url, (("authorization", SECRET),), b"x"))
    assert refused.value.cause == "invalid_request"
    assert not shows_more(refused.value)
    assert counts(transport) == (0, 0, 0)


async def test_port_nought(transport):
    """Is not another word for the usual one."""
    with pytest.raises(NotSent) as refused:
        await transport.send(UpstreamRequest("POST", "http://127.0.0.1:0/", (), b"x"))
    assert refused.value.cause in ("connect_failed", "connect_refused")


NAMES = ("", " ", "x key", "x:", "x\r\ny", "x\0", "x\x7f", "x\xe4", "\u4e2d", "x\t", "(x)", "x\n")
VALUES = ("\r", "\n", "\r\n", "\0", "\x01", "\x0b", "\x1f", "\x7f", "\u4e2d", "\u2028", "\udcff")


@pytest.mark.parametrize("field", [*((name, SECRET) for name in NAMES), *(("x", SECRET + end) for end in VALUES)])
async def test_a_header_that_cannot_be_written(transport, field):
    """Is not sent in parts, nor mended, nor quoted, wherever in the value it is."""
    async with HostileServer(courtesy) as server:
        request = UpstreamRequest("POST", f"http://127.0.0.1:{server.port}/", (("a", "b"), field), b"x")
        for one in (request, replace(request, headers=((field[0], field[1] + SECRET),))):
            with pytest.raises(NotSent) as refused:
                await transport.send(one)
            assert refused.value.cause == "invalid_request"
            assert not shows_more(refused.value)
        await turns()
        assert server.peers == []
        assert counts(transport) == (0, 0, 0)


async def test_nothing_shows_a_secret(transport):
    """What a log might print of a transport, a request, an answer, or where it was sent."""
    async with HostileServer(says(OK + b"x: key-canary\r\ncontent-length: 2\r\n\r\nok")) as server:
        request = UpstreamRequest("POST", f"http://127.0.0.1:{server.port}/", (("authorization", SECRET),), b"canary")
        answer = await transport.send(request)
        shown = [request, answer, answer._connection, answer.chunks(), transport, _address(request.url)]
        assert "canary" not in "".join([f"{one}{one!r}" for one in shown])
        assert await read(answer) == b"ok"
