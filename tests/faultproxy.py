"""A TCP proxy on loopback that breaks connections in every way a network can: between the router and a vendor.

Each connection draws one `Trouble` when it is accepted, from a seed and its number, and the weather of the moment says
how likely that is any trouble at all. The proxy runs on a loop in a thread of its own and needs nothing but the
standard library. What it did stands in `connections`, so that a judge may ask which ones were touched.

A byte is corrupted by turning its highest bit over. That is never UTF-8 again: such an answer can be seen to be broken,
which a digit that became another digit could not.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Self

from stage import free_port

CALL_S: Final = 10.0
CONNECT_S: Final = 5.0
PIECE: Final = 16_384
HIGHEST_BIT: Final = 0x80
RST: Final = struct.pack("ii", 1, 0)
HEAD_END: Final = b"\r\n\r\n"
LAST_CHUNK: Final = b"\r\n0\r\n\r\n"


class Kind(StrEnum):
    """What a connection has to bear. The comment says what the router sees."""

    NONE = "none"  # nothing
    SLOW = "slow"  # each piece comes late, by a delay and some jitter
    NARROW = "narrow"  # so many bytes a second
    FIN = "fin"  # the end after so many bytes of answers
    RST = "rst"  # a reset after so many bytes of answers
    CUT_ASKING = "cut_asking"  # a reset after so many bytes of requests: the vendor has half of one
    HALF_CLOSE = "half_close"  # after so many bytes no more answers, while requests are still taken
    BLACKHOLE = "blackhole"  # after so many bytes nothing comes any more, and nothing ends
    RESET_ON_ACCEPT = "reset_on_accept"  # opened, and reset at once
    SLOW_ACCEPT = "slow_accept"  # opened, and nobody there for a while
    CORRUPT = "corrupt"  # one byte of a body is another
    PAUSE = "pause"  # a pause after so many bytes, then everything as it was


SHARES: Final[Mapping[Kind, int]] = MappingProxyType(
    {
        Kind.SLOW: 4,
        Kind.NARROW: 2,
        Kind.FIN: 3,
        Kind.RST: 3,
        Kind.CUT_ASKING: 2,
        Kind.HALF_CLOSE: 2,
        Kind.BLACKHOLE: 1,
        Kind.RESET_ON_ACCEPT: 2,
        Kind.SLOW_ACCEPT: 2,
        Kind.CORRUPT: 3,
        Kind.PAUSE: 2,
    }
)
"""How often each trouble is drawn, when any is."""

AT_A_MARK: Final = frozenset({Kind.FIN, Kind.RST, Kind.HALF_CLOSE, Kind.BLACKHOLE, Kind.PAUSE, Kind.CORRUPT})
"""Those that come after so many bytes of answers."""

LIFE_BYTES: Final = (40_000, 400_000)
"""A connection without trouble ends after so many bytes, between two answers: else there would never be a new one."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What one connection bears: after `after` bytes, or by `seconds` at a time."""

    kind: Kind
    after: int = 0
    seconds: float = 0.0

    @classmethod
    def drawn(cls, chance: random.Random, likely: float) -> Trouble:
        """Any trouble with probability `likely`."""
        if chance.random() >= likely:
            return cls(Kind.NONE, after=chance.randrange(*LIFE_BYTES))
        kind = chance.choices(list(SHARES), list(SHARES.values()))[0]
        # Half of them within the first answers, where heads and first chunks are.
        after = chance.randrange(1_500) if chance.random() < 0.5 else chance.randrange(20_000)
        seconds = {
            Kind.SLOW: chance.uniform(0.005, 0.08),
            Kind.NARROW: PIECE / chance.uniform(4_000, 60_000),
            Kind.PAUSE: chance.uniform(0.1, 1.5),
            Kind.SLOW_ACCEPT: chance.uniform(0.1, 1.5),
        }.get(kind, 0.0)
        return cls(kind, after, seconds)


class _Conversation:
    """One connection, both ways."""

    def __init__(self, trouble: Trouble, chance: random.Random) -> None:
        self.trouble = trouble
        self.cut = asyncio.Event()
        self.reset = False
        self._chance = chance
        self._answered = self._asked = 0
        self._in_body = False
        self._spent = False

    async def ask(self, data: bytes, to: asyncio.StreamWriter) -> None:
        """Bytes of a request, to the vendor."""
        self._in_body = False
        kind, after = self.trouble.kind, self.trouble.after
        if kind is Kind.CUT_ASKING and self._asked + len(data) > after:
            data = data[: after - self._asked]
            self.reset = True
            self.cut.set()
        self._asked += len(data)
        to.write(data)
        await to.drain()

    async def answer(self, data: bytes, to: asyncio.StreamWriter) -> bool:
        """Bytes of an answer, to the router; whether there may be more."""
        kind, seconds = self.trouble.kind, self.trouble.seconds
        if kind is Kind.SLOW:
            await asyncio.sleep(seconds * self._chance.uniform(0.5, 1.5))
        elif kind is Kind.NARROW:
            await asyncio.sleep(seconds * len(data) / PIECE)
        left = self.trouble.after - self._answered
        if kind in AT_A_MARK and left < len(data) and not self._spent:
            return await self._at_the_mark(data, max(0, left), to)
        await self._send(data, to)
        if self.trouble.kind is Kind.NONE and self._answered > self.trouble.after and data.endswith(LAST_CHUNK):
            self.cut.set()  # between two answers: nobody misses it
        return not self.cut.is_set()

    async def _at_the_mark(self, data: bytes, left: int, to: asyncio.StreamWriter) -> bool:
        kind = self.trouble.kind
        if kind in {Kind.FIN, Kind.RST, Kind.HALF_CLOSE, Kind.BLACKHOLE}:
            await self._send(data[:left], to)
            if kind is Kind.HALF_CLOSE:
                to.write_eof()
            elif kind is not Kind.BLACKHOLE:
                self.reset = kind is Kind.RST
                self.cut.set()
            return False
        if kind is Kind.PAUSE:
            self._spent = True
            await self._send(data[:left], to)
            await asyncio.sleep(self.trouble.seconds)
            data = data[left:]
        elif kind is Kind.CORRUPT:
            data = self._corrupted(data, left)
        await self._send(data, to)
        return True

    def _corrupted(self, data: bytes, left: int) -> bytes:
        """One byte is another, when it belongs to a body; else the next piece has its turn."""
        body = 0 if self._in_body else data.find(HEAD_END) + len(HEAD_END)
        place = max(left, body)
        if (not self._in_body and body < len(HEAD_END)) or place >= len(data):
            return data
        self._spent = True
        return data[:place] + bytes([data[place] ^ HIGHEST_BIT]) + data[place + 1 :]

    async def _send(self, data: bytes, to: asyncio.StreamWriter) -> None:
        self._in_body = self._in_body or HEAD_END in data
        self._answered += len(data)
        to.write(data)
        await to.drain()

    @property
    def corrupted(self) -> bool:
        """Whether a byte was changed."""
        return self.trouble.kind is Kind.CORRUPT and self._spent


class FaultProxy:
    """Stands before the port `target`. `likely` is how likely a new connection has trouble; change it at any time."""

    def __init__(self, target: int, seed: str, *, likely: float = 0.0) -> None:
        self._target = target
        self._seed = seed
        self.port = free_port()
        self.likely = likely
        self.forced: Trouble | None = None
        """What every new connection bears, instead of a draw."""
        self.drawn: Counter[Kind] = Counter()
        self.corrupted = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result(CALL_S)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(CALL_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_S)
        self._loop.close()

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._tasks)

    def refuse(self) -> None:
        """Listen no more: connecting is refused. Connections that are open go on."""
        asyncio.run_coroutine_threadsafe(self._stop_listening(), self._loop).result(CALL_S)

    def accept(self) -> None:
        """Listen again."""
        asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result(CALL_S)

    async def _begin(self) -> None:
        due = time.monotonic() + CONNECT_S
        while True:
            try:
                self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
                break
            except OSError:  # the port is in somebody's outgoing connection for a moment
                if time.monotonic() > due:
                    raise
                await asyncio.sleep(0.05)

    async def _stop_listening(self) -> None:
        self._server.close()

    async def _end(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        number = sum(self.drawn.values())
        chance = random.Random(f"{self._seed}:{number}")  # the same troubles for the same seed
        trouble = self.forced or Trouble.drawn(chance, self.likely)
        self.drawn[trouble.kind] += 1
        talk = _Conversation(trouble, chance)
        try:
            await self._carried(talk, reader, writer)
        except asyncio.CancelledError:
            talk.reset = True  # the proxy ends; asyncio would log a task of its own that was cancelled
        finally:
            _closed(writer, reset=talk.reset)
            self.corrupted += talk.corrupted
            self._tasks.discard(task)

    async def _carried(self, talk: _Conversation, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if talk.trouble.kind is Kind.RESET_ON_ACCEPT:
            talk.reset = True
            return
        if talk.trouble.kind is Kind.SLOW_ACCEPT:
            await asyncio.sleep(talk.trouble.seconds)
        try:
            from_vendor, to_vendor = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # the vendor itself refuses: so does the connection to it
            talk.reset = True
            return
        asking = asyncio.ensure_future(_asked(talk, reader, to_vendor))
        answering = asyncio.ensure_future(_answered(talk, from_vendor, writer))
        cut = asyncio.ensure_future(talk.cut.wait())
        try:
            await asyncio.wait({asking, answering, cut}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (asking, answering, cut):
                one.cancel()
            await asyncio.gather(asking, answering, cut, return_exceptions=True)
            _closed(to_vendor, reset=talk.reset)


async def _asked(talk: _Conversation, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    """Requests, until the router leaves."""
    with contextlib.suppress(OSError):  # one side is gone: that is what is played
        while data := await reader.read(PIECE):
            await talk.ask(data, to)


async def _answered(talk: _Conversation, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    """Answers, until the vendor leaves; then, where nothing more may be said, until the router does."""
    try:
        more = True
        while more and (data := await reader.read(PIECE)):
            more = await talk.answer(data, to)
        if not more:
            await asyncio.Event().wait()
    except OSError:  # as above; a reset is handed on as one
        talk.reset = True


def _closed(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
    writer.close()
