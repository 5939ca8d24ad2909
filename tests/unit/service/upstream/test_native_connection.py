"""One connection over real sockets: what it takes, what it refuses, and when it may serve again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import weakref

import httptools
import pytest
import uvloop
from hostile import AFTER, HostileServer, certificates
from plays import OK, WELL, closes, courtesy, dribbles, idle, says, silence

from service.errors import Broken, NoReply, UpstreamError
from service.upstream.native_connection import HEAD_BYTES_MAX, HEADERS_MAX, PENDING_MAX, Connection, header_map

ASK = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n"
TWO = b"content-length: 2\r\n\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
READ_MAX = 256 * 1024
"""What an event loop hands over at once."""

SOON_S = 10.0


@contextlib.asynccontextmanager
async def opened(play):
    """A server that plays this, and a connection to it."""
    async with HostileServer(play) as server:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", server.port)
        try:
            yield connection, server
        finally:
            connection.abort()


async def answered(connection):
    """Ask, and return the pieces of the body."""
    connection.begin(ASK)
    await asyncio.wait_for(connection.head(), SOON_S)
    return [chunk async for chunk in connection.chunks()]


async def until(holds, within_s=SOON_S):
    """Return when this holds."""
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.001)


async def test_one_exchange_after_another():
    """Nothing of an answer is left when the next one comes."""

    async def play(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 429 x\r\nx-first: 1\r\n" + TWO + b"no")
        await peer.request()
        await peer.send(OK + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-first: 2\r\n\r\n")

    async with opened(play) as (connection, server):
        assert await answered(connection) == [b"no"]
        assert (connection.status, header_map(connection.fields)) == (429, {"x-first": "1", "content-length": "2"})
        assert connection.reusable
        assert await answered(connection) == [b"ok"]
        assert (connection.status, header_map(connection.fields)) == (200, {"transfer-encoding": "chunked"})
        assert await answered(connection) == [AFTER]
        assert bytes(server.peers[0].received) == 3 * ASK


async def test_an_answer_that_was_not_read():
    """Forbids the next request, whole or not: its bytes would be taken for the next answer's."""
    async with opened(says(WELL)) as (connection, _):
        connection.begin(ASK)
        assert not connection.reusable
        await connection.head()
        await until(lambda: connection._complete)
        assert not connection.reusable
        assert [chunk async for chunk in connection.chunks()] == [b"ok"]
        assert connection.reusable
        assert not connection.is_stale()


async def test_whoever_still_reads_an_old_answer():
    """Sees nothing of the next one, which is somebody else's."""
    async with opened(courtesy) as (connection, _):
        connection.begin(ASK)
        await connection.head()
        begun, late = connection.chunks(), connection.chunks()
        assert await anext(begun) == AFTER
        connection.begin(ASK)
        await connection.head()
        await until(lambda: connection._complete)
        for old in (begun, late):
            with pytest.raises(RuntimeError, match="closed"):
                await anext(old)
        assert [chunk async for chunk in connection.chunks()] == [AFTER]


async def test_what_the_loop_has_not_seen_yet():
    """Words and a hang-up that came this very moment are seen before a reuse."""
    for say in (lambda end: end.send(b"x"), lambda end: end.shutdown(socket.SHUT_WR), lambda end: end.close()):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            where = listener.getsockname()
            _, connection = await asyncio.get_running_loop().create_connection(Connection, *where)
            vendor, _ = listener.accept()
            with vendor:
                vendor.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                assert not connection.is_stale()
                say(vendor)  # the event loop has had no turn since
                assert connection.reusable
                assert connection.is_stale()
            connection.abort()


async def test_a_vendor_that_reads_no_more():
    """Is not sent another request behind one that is not written to its end."""

    async def play(peer):
        await peer.head()
        await peer.send(WELL)
        await peer.released.wait()
        peer.requests.append(await peer.request())

    async with opened(play) as (connection, server):
        connection.begin(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 20000000\r\n\r\n" + bytes(20_000_000))
        await connection.head()
        assert [chunk async for chunk in connection.chunks()] == [b"ok"]
        assert not connection.reusable
        server.peers[0].released.set()
        await until(lambda: connection.reusable)


def head_of(size, end=b""):
    """The start of a head, of this many bytes with its end."""
    start = OK + b"content-length: 2\r\n"
    fields = (b"x-%05d: %s\r\n" % (n, b"y" * 2_000) for n in range(HEADERS_MAX))
    while len(start) + 2_020 + len(end) < size:
        start += next(fields)
    return start + b"z: " + b"y" * (size - len(start) - 3 - len(end)) + end


@pytest.mark.parametrize("piece", [1_000, READ_MAX])
async def test_a_head_as_long_as_may_be(piece):
    """Is taken, however it comes."""
    said = head_of(HEAD_BYTES_MAX, b"\r\n\r\n")
    assert len(said) == HEAD_BYTES_MAX
    async with opened(dribbles(said + b"ok", piece)) as (connection, _):
        assert await answered(connection) == [b"ok"]


async def test_a_head_that_does_not_end():
    """Is waited for up to the limit, and given up with the next byte, though the vendor hangs on."""
    said = head_of(HEAD_BYTES_MAX)
    assert len(said) == HEAD_BYTES_MAX

    async def play(peer):
        await peer.request()
        await peer.send(said)
        await peer.released.wait()
        await peer.send(b"y")
        await peer.listen()

    async with opened(play) as (connection, server):
        connection.begin(ASK)
        head = asyncio.create_task(connection.head())
        await until(lambda: connection._framing_bytes == HEAD_BYTES_MAX)
        await asyncio.sleep(0.01)
        assert not head.done()
        server.peers[0].released.set()
        with pytest.raises(NoReply):
            await asyncio.wait_for(head, SOON_S)
        await asyncio.wait_for(server.peers[0].gone.wait(), SOON_S)


async def test_interim_answers_count_as_part_of_the_head():
    """Or a vendor could keep us reading hints for ever, in small pieces."""
    hint = b"HTTP/1.1 103 Early Hints\r\nlink: " + b"y" * 1_000 + b"\r\n\r\n"
    few, many = HEAD_BYTES_MAX // len(hint) - 1, (HEAD_BYTES_MAX + READ_MAX) // len(hint) + 1
    async with opened(dribbles(hint * few + WELL, 900)) as (connection, _):
        assert await answered(connection) == [b"ok"]
        assert [name for name, _ in connection.fields] == [b"content-length"]
    async with opened(dribbles(hint * many + WELL, 900)) as (connection, _):
        with pytest.raises(NoReply):
            await answered(connection)


async def test_an_interim_answer_does_not_frame_the_one_after_it():
    """A length that a hint names is not the answer's."""
    said = b"HTTP/1.1 103 x\r\ncontent-length: 7\r\nx: y\r\n\r\n" + OK + b"x: z\r\n\r\nto the end"
    async with opened(says(said, "fin")) as (connection, _):
        assert b"".join(await answered(connection)) == b"to the end"
        assert header_map(connection.fields) == {"x": "z"}


@pytest.mark.parametrize(("fields", "taken"), [(HEADERS_MAX, True), (HEADERS_MAX + 1, False)])
async def test_the_number_of_fields(fields, taken):
    """Has a limit, and that many are taken."""
    said = OK + b"".join(b"x: %d\r\n" % n for n in range(fields - 1)) + TWO + b"ok"
    async with opened(says(said)) as (connection, _):
        if taken:
            assert await answered(connection) == [b"ok"]
            assert header_map(connection.fields)["x"] == ", ".join(map(str, range(fields - 1)))
        else:
            with pytest.raises(NoReply):
                await answered(connection)


@pytest.mark.parametrize(("size", "taken"), [(HEAD_BYTES_MAX // 2, True), (HEAD_BYTES_MAX * 2, False)])
async def test_framing_between_two_chunks(size, taken):
    """Has the same limit as a head, and bytes of the body do not count towards it."""
    said = CHUNKED + b"40000\r\n" + bytes(0x40000) + b"\r\n2;" + b"y" * size + b"\r\nok\r\n0\r\n\r\n"
    async with opened(dribbles(said, 1_000)) as (connection, _):
        if taken:
            assert b"".join(await answered(connection)) == bytes(0x40000) + b"ok"
            return
        connection.begin(ASK)
        await connection.head()
        seen = bytearray()

        async def taken_in():
            async for chunk in connection.chunks():
                seen.extend(chunk)

        with pytest.raises(Broken):
            await taken_in()
        assert seen == bytes(0x40000)


def test_repeated_fields_are_joined():
    """In their order, by lower-case name, byte for character."""
    assert header_map([(b"a", b"1"), (b"b", b""), (b"a", b"\xff"), (b"a", b"")]) == {"a": "1, \xff, ", "b": ""}
    assert header_map([]) == {}


async def test_small_pieces_are_joined():
    """What came at once goes on at once; what came alone is not waited with."""

    async def play(peer):
        await peer.request()
        await peer.send(CHUNKED + b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n")
        await peer.released.wait()
        await peer.send(b"1\r\nd\r\n0\r\n\r\n")

    async with opened(play) as (connection, server):
        connection.begin(ASK)
        await connection.head()
        chunks = connection.chunks()
        assert await asyncio.wait_for(anext(chunks), SOON_S) == b"abc"
        server.peers[0].released.set()
        assert await asyncio.wait_for(anext(chunks), SOON_S) == b"d"
        assert [chunk async for chunk in chunks] == []


async def test_who_pours_has_each_piece_where_it_arrives():
    """Before any task has run, all of one read as one piece; the task is woken for the end alone."""

    async def play(peer):
        await peer.request()
        await peer.send(CHUNKED)
        await peer.listen()

    async with opened(play) as (connection, _):
        connection.begin(ASK)
        await connection.head()
        seen = []
        pouring = asyncio.create_task(connection.pour(lambda piece: seen.append(piece) or True))
        await asyncio.sleep(0)
        connection.data_received(b"1\r\na\r\n1\r\nb\r\n1")
        assert seen == [b"ab"]
        connection.data_received(b"\r\n")
        connection.data_received(b"c\r\n")
        assert seen == [b"ab", b"c"]
        await asyncio.sleep(0.01)
        assert not pouring.done()
        connection.data_received(b"0\r\n\r\n")
        assert await asyncio.wait_for(pouring, SOON_S) is True
        assert connection.reusable


async def test_who_pours_and_wants_no_more():
    """Has what comes next when it asks again, and is told whether there is any."""

    async def play(peer):
        await peer.request()
        await peer.send(CHUNKED)
        await peer.listen()

    async with opened(play) as (connection, _):
        connection.begin(ASK)
        await connection.head()
        seen = []
        pouring = asyncio.create_task(connection.pour(seen.append))
        await asyncio.sleep(0)
        connection.data_received(b"1\r\na\r\n")
        connection.data_received(b"1\r\nb\r\n")
        assert await pouring is False
        assert seen == [b"a"]
        assert await connection.pour(seen.append) is False
        assert seen == [b"a", b"b"]
        pouring = asyncio.create_task(connection.pour(seen.append))
        await asyncio.sleep(0)
        connection.data_received(b"1\r\nc\r\n")
        connection.data_received(b"1\r\nd\r\n0\r\n\r\n")
        assert await pouring is False
        assert seen == [b"a", b"b", b"c"]
        assert await connection.pour(seen.append) is True
        assert seen == [b"a", b"b", b"c", b"d"]
        assert await connection.pour(seen.append) is True


async def test_what_a_pourer_raises_is_raised_in_its_task():
    """Not in the event loop; the connection is whole, and the next piece waits."""

    async def play(peer):
        await peer.request()
        await peer.send(CHUNKED)
        await peer.listen()

    async with opened(play) as (connection, _):
        connection.begin(ASK)
        await connection.head()
        pouring = asyncio.create_task(connection.pour({}.__getitem__))
        await asyncio.sleep(0)
        connection.data_received(b"1\r\na\r\n")
        connection.data_received(b"1\r\nb\r\n")
        with pytest.raises(KeyError):
            await pouring
        seen = []
        await connection.pour(seen.append)
        assert seen == [b"b"]


async def test_who_was_cancelled_is_given_nothing_more():
    """Though its task has not had a turn since: what arrives then is for whoever asks next."""

    async def play(peer):
        await peer.request()
        await peer.send(CHUNKED)
        await peer.listen()

    async with opened(play) as (connection, _):
        connection.begin(ASK)
        await connection.head()
        seen, late = [], []
        pouring = asyncio.create_task(connection.pour(lambda piece: seen.append(piece) or True))
        await asyncio.sleep(0)
        pouring.cancel()
        connection.data_received(b"1\r\na\r\n")
        with pytest.raises(asyncio.CancelledError):
            await pouring
        assert seen == []
        await connection.pour(late.append)
        assert late == [b"a"]


async def test_a_body_that_came_with_its_head():
    """Is handed out at once, whole; while some is missing, or it was taken, nothing is."""
    async with opened(says(WELL)) as (connection, _):
        connection.begin(ASK)
        await connection.head()
        await until(lambda: connection._complete)
        assert connection.arrived() == b"ok"
        assert connection.arrived() == b""
        assert connection.reusable
    async with opened(says(OK + b"content-length: 3\r\n\r\nok")) as (connection, _):
        connection.begin(ASK)
        await connection.head()
        await until(lambda: connection._pending)
        assert connection.arrived() is None


async def test_a_reader_who_pauses():
    """Is given no more than `PENDING_MAX` and one read to hold, and everything in its order when it reads on."""
    size = 24 * PENDING_MAX
    said = b"".join(b"%015d\n" % n for n in range(size // 16))

    async def play(peer):
        peer.small_buffer()
        await peer.request()
        await peer.send(OK + b"content-length: %d\r\n\r\n" % size + said)

    async with opened(play) as (connection, _):
        connection.begin(ASK)
        await connection.head()
        chunks, seen, pauses = connection.chunks(), bytearray(), 0
        while len(seen) < size:
            if size - len(seen) > 4 * PENDING_MAX:
                await until(lambda: connection._paused)
                pauses += 1
                held = connection._pending_bytes
                assert PENDING_MAX < held <= PENDING_MAX + READ_MAX
                await asyncio.sleep(0.01)
                assert connection._pending_bytes == held
            seen += await asyncio.wait_for(anext(chunks), SOON_S)
        assert seen == said
        assert pauses > 5
        assert [chunk async for chunk in chunks] == []
        assert connection.reusable


async def test_an_answer_that_breaks_while_its_reader_pauses():
    """What had arrived is handed on, then it is said that the rest is missing."""

    async def play(peer):
        await peer.request()
        await peer.send(OK + b"content-length: 99\r\n\r\npart")
        peer.fin()

    async with opened(play) as (connection, _):
        connection.begin(ASK)
        await connection.head()
        await until(lambda: connection._lost)
        chunks = connection.chunks()
        assert await anext(chunks) == b"part"
        with pytest.raises(Broken):
            await anext(chunks)


async def test_closing_ends_the_wait():
    """Whoever still waits for an answer on a connection that is closed is told, before and after the head."""
    async with opened(silence) as (connection, server):
        connection.begin(ASK)
        head = asyncio.create_task(connection.head())
        await until(lambda: server.peers and server.peers[0].received)
        connection.abort()
        connection.abort()
        assert not connection.reusable
        with pytest.raises(NoReply):
            await asyncio.wait_for(head, SOON_S)
    async with opened(says(OK + b"content-length: 3\r\n\r\n")) as (connection, _):
        connection.begin(ASK)
        await connection.head()
        body = asyncio.ensure_future(anext(connection.chunks()))
        await asyncio.sleep(0)
        connection.abort()
        with pytest.raises(Broken):
            await asyncio.wait_for(body, SOON_S)


@pytest.mark.parametrize("asked", [False, True])
async def test_words_that_nobody_asked_for(asked):
    """Close the connection at once, as the first words and after an answer: they would be taken for the next answer."""

    async def play(peer):
        if asked:
            await peer.request()
            await peer.send(WELL)
            await peer.released.wait()
        await peer.send(WELL)
        await peer.listen()

    async with opened(play) as (connection, server):
        if asked:
            assert await answered(connection) == [b"ok"]
            server.peers[0].released.set()
        await until(lambda: server.peers)
        await asyncio.wait_for(server.peers[0].gone.wait(), SOON_S)
        assert connection.is_stale()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (OK + TWO + b"ok", True),
        (OK + b"connection: keep-alive\r\n" + TWO + b"ok", True),
        (OK + b"connection: close\r\n" + TWO + b"ok", False),
        (b"HTTP/1.0 200 OK\r\n" + TWO + b"ok", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n" + TWO + b"ok", True),
        (OK + TWO + b"ok!", False),
        (OK + TWO + b"ok" + WELL, False),
    ],
)
async def test_whether_it_serves_again(said, kept):
    """Only after an answer that allows it, and that nothing came after."""
    async with opened(says(said)) as (connection, _):
        assert await answered(connection) == [b"ok"]
        assert connection.is_stale() is not kept


def test_the_parser_is_strict():
    """What others let pass, and smugglers use, is refused by the one that was installed."""
    for said in (b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok", OK + b"x: a\r\n b\r\n" + TWO, OK + b"x : y\r\n" + TWO):
        with pytest.raises(httptools.HttpParserError):
            httptools.HttpResponseParser(object()).feed_data(said)


async def left_behind(play, tls):
    """Whether anything of a connection is there when its socket is gone and everybody has let go of it."""

    async def used():
        secure = {"ssl": certificates().trusting, "server_hostname": "localhost"} if tls else {}
        _, connection = await asyncio.get_running_loop().create_connection(
            Connection, "127.0.0.1", server.port, **secure
        )
        with contextlib.suppress(UpstreamError, TimeoutError):
            connection.begin(ASK)
            async with asyncio.timeout(0.1):
                await connection.head()
                async for _ in connection.chunks():
                    pass
        if play is not GOODBYE:
            connection.abort()
        return weakref.ref(connection)

    async with HostileServer(play, certificates().good if tls else None) as server:
        known = await used()
        with contextlib.suppress(TimeoutError):
            await until(lambda: known() is None, 2.0)
        return known() is not None


GOODBYE = idle("fin")
PLAYS = {
    "we close": says(WELL),
    "it closes": GOODBYE,
    "cut": says(OK + b"content-length: 9\r\n\r\nok", "fin"),
    "reset": closes("rst", "request"),
    "nonsense": says(b"\x16\x03\x01 go away\r\n\r\n"),
    "silence": silence,
}


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("name", PLAYS)
def test_what_is_gone_is_freed_without_a_collector(factory, tls, name):
    """However it came to its end: thousands of them would be some ten MiB until the collector comes by."""
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            assert not runner.run(left_behind(PLAYS[name], tls))
    finally:
        gc.enable()


async def test_a_ring_is_noticed(monkeypatch):
    """Positive control: a parser that is kept keeps its connection."""
    lost = Connection.connection_lost

    def keeping(connection, problem):
        parser = connection._parser
        lost(connection, problem)
        connection._parser = parser

    monkeypatch.setattr(Connection, "connection_lost", keeping)
    gc.disable()
    try:
        assert await left_behind(says(WELL), tls=False)
    finally:
        gc.enable()
