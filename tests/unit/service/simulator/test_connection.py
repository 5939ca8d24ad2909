"""One socket: bounded reading, and noticing a client that leaves."""

import asyncio
import sys

import pytest

from service.simulator.connection import BUFFER_BYTES_MAX, ClientLeft, Connection


@pytest.fixture
async def pair():
    """A connection and the client at its other end."""
    made = asyncio.Queue()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(made.put_nowait), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
    connection = await made.get()
    yield connection, reader, writer
    writer.transport.abort()
    connection.transport.abort()
    listening.close()
    await connection.closed.wait()
    await listening.wait_closed()


async def test_reading_across_pieces(pair):
    """An end mark that arrives in halves is found; what follows stays."""
    connection, _, writer = pair
    writer.write(b"head\r\n\r")
    waiting = asyncio.create_task(connection.read_until(b"\r\n\r\n", 100))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    writer.write(b"\nbody+")
    assert await waiting == b"head\r\n\r\n"
    assert await connection.read_exactly(4) == b"body"
    assert await connection.read_exactly(1) == b"+"


async def test_reading_stops_at_the_limit(pair):
    """Whether the end mark comes later or never."""
    connection, _, writer = pair
    writer.write(b"x" * 50 + b"END")
    assert await connection.read_until(b"END", 40) is None


async def test_unread_bytes_are_bounded(pair):
    """A client that sends without being read is held back, and all of it arrives once it is."""
    connection, _, writer = pair
    size = 64 * BUFFER_BYTES_MAX
    writer.write(b"x" * size)
    await asyncio.sleep(0.1)
    held = len(connection._buffer)
    assert held <= 2 * BUFFER_BYTES_MAX
    assert len(await connection.read_exactly(size)) == size


@pytest.mark.parametrize("goodbye", ["close", "abort"])
@pytest.mark.parametrize("wait", ["pause", "hold", "wait_for_data", "read_exactly"])
async def test_every_wait_ends_when_the_client_leaves(pair, goodbye, wait):
    """By FIN or RST, long before any time is over."""
    connection, _, writer = pair
    waits = {
        "pause": lambda: connection.pause(60),
        "hold": connection.hold,
        "wait_for_data": connection.wait_for_data,
        "read_exactly": lambda: connection.read_exactly(10),
    }
    waiting = asyncio.create_task(waits[wait]())
    await asyncio.sleep(0)
    getattr(writer.transport, goodbye)()
    async with asyncio.timeout(2):
        with pytest.raises(ClientLeft):
            await waiting


async def test_sending_ends_when_the_client_leaves(pair):
    """Also while the send is held back by a client that does not read."""
    connection, _, writer = pair
    writer.transport.pause_reading()
    sending = asyncio.create_task(connection.send(b"x" * 50_000_000))
    await asyncio.sleep(0.05)
    assert not sending.done()
    writer.transport.abort()
    async with asyncio.timeout(2):
        with pytest.raises(ClientLeft):
            await sending


async def test_sending_yields(pair):
    """A busy sender leaves room for others: a counter beside it gets on."""
    connection, reader, _ = pair
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    reading = asyncio.create_task(reader.readexactly(1000))
    for _ in range(1000):
        await connection.send(b"x")
    await reading
    counting.cancel()
    assert turns >= 900


async def test_reset_on_any_event_loop():
    """The client sees a reset, not an end, also under uvloop."""
    program = """
import asyncio, sys
from service.simulator import Fault, Script, SimulatedVendors
async def main():
    async with SimulatedVendors({"a": Script(fault=Fault.RESET)}) as simulator:
        host, port = simulator.base_url("a").split("/")[2].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/chat/completions HTTP/1.1\\r\\nContent-Length: 48\\r\\n\\r\\n"
                     b'{"model":"m","messages":[{"role":"user"}]}      ')
        try:
            print("end" if await reader.read() == b"" else "data")
        except ConnectionResetError:
            print("reset")
        writer.transport.abort()
if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""
    loops = ["asyncio"] if sys.platform == "win32" else ["asyncio", "uvloop"]
    for loop in loops:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, loop, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        out, _ = await process.communicate()
        assert out.decode().strip() == "reset", loop
