"""Holds a transport to a row of tests/behaviours.py: what its caller sees, what the server saw, and what comes after.

Whatever a row says, these hold: at most one connection and one whole request per call; nothing of a request on the wire
when it is called not sent; nothing but `UpstreamError` is raised, and none repeats a secret; a connection that is of no
use is closed; header names are in lower case; no cookie goes out; the next request is answered by its own answer.
"""

from __future__ import annotations

import asyncio
import socket
import traceback
from dataclasses import dataclass, field

from behaviours import BODY, SECRET, Outcome
from hostile import AFTER, HostileServer, certificates

from service.domain.ports import UpstreamRequest
from service.errors import NotSent, UpstreamError

HANG_S = 0.3
"""So long nothing has to happen before it counts as a hang."""

ASK_S = 10.0
"""So long something that must happen may take, on a machine that is busy."""

CLOSE_S = 3.0
"""So long a connection that is of no use may stay open."""

SETTLE_S = 0.03
"""After a request: what a play does to an idle connection has happened by then."""

HELD_MAX = 8 * 1024 * 1024
"""What a transport and two kernels may hold of what nobody reads."""

UNTRUSTED = ("expired", "other_name", "self_signed", "asks_back")


@dataclass
class Seen:
    """What one request came to."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: UpstreamError | None = None
    hung: bool = False

    def __str__(self) -> str:
        """In short: bodies may be long."""
        said = f"{type(self.error).__name__} {self.error.cause}" if self.error else "hung" if self.hung else "whole"
        return f"{said}, status {self.status}, {len(self.body)} bytes {self.body[:20]!r}"

    def meets(self, wanted: Outcome) -> bool:
        """Whether it is this outcome."""
        if self.hung or wanted.hangs or wanted.error is None:
            return (self.hung, self.error, self.status, self.body) == (wanted.hangs, None, wanted.status, wanted.body)
        right = type(self.error) is wanted.error and self.error.cause in wanted.causes
        return right and self.status == wanted.status and wanted.body.startswith(self.body)


async def take(transport, request, manner, server, seen):
    """One request, and its answer as a caller of this manner takes it."""
    response = await transport.send(request)
    parts = []
    try:
        seen.status, seen.headers = response.status, dict(response.headers.items())
        assert "canary" not in repr(response), "the answer shows a secret"
        if manner == "leaves":
            return
        async for chunk in response.chunks():
            parts.append(chunk)
            if manner == "taste":
                parts.clear()
                return
            if manner == "pauses" and len(parts) == 1:
                await held_back(server.peers[0], len(chunk))
    finally:
        seen.body = b"".join(parts)
        await response.aclose()


async def held_back(peer, handed_out):
    """Return when a server can say no more; fails when it could say too much to a caller who does not listen."""
    before = -1
    while before != peer.sent:
        before = peer.sent
        await asyncio.sleep(0.1)
        assert peer.sent - handed_out < HELD_MAX, f"{peer.sent - handed_out} bytes were taken for nobody"


async def ask(transport, request, server, manner="reads", within_s=ASK_S, status=None):
    """What one request comes to.

    A caller without patience cancels it after `within_s`, once the `status` is there that is expected before a hang.
    """
    seen = Seen()
    task = asyncio.create_task(take(transport, request, manner, server, seen))
    for _ in range(round(ASK_S / within_s)):
        done, _ = await asyncio.wait({task}, timeout=within_s)
        if done or not status or seen.status:
            break
    if not done:
        seen.hung = True
        task.cancel()
        await asyncio.wait({task}, timeout=CLOSE_S)
        assert task.cancelled(), f"{task} should have been cancelled"
        return seen
    try:
        task.result()
    except UpstreamError as problem:
        seen.error = problem
        said = "".join([repr(problem), problem.message, *traceback.format_exception(problem)])
        assert "canary" not in said, "the error repeats a secret"
    except AssertionError:
        raise
    except Exception as problem:
        raise AssertionError(f"{problem!r} is no UpstreamError") from problem
    return seen


async def settle():
    """Let a play do what it does to an idle connection, and the event loop notice."""
    await asyncio.sleep(SETTLE_S)
    for _ in range(3):
        await asyncio.sleep(0)


async def all_gone(server):
    """Fails when a client keeps a connection that is of no use."""
    for peer in server.peers:
        peer.released.set()
        try:
            await asyncio.wait_for(peer.gone.wait(), CLOSE_S)
        except TimeoutError:
            raise AssertionError(f"connection {peer.number} was left open") from None


async def check(row, name, make):
    """Hold a transport to a row; raises AssertionError."""
    shown = certificates()
    tls = getattr(shown, row.tls) if row.tls else None
    transport = make(verify=shown.trusting)
    try:
        with socket.socket() as unheard:
            unheard.bind(("127.0.0.1", 0))
            async with HostileServer(row.play, tls) as server:
                await converse(row, row.wanted(name), transport, server, unheard.getsockname()[1])
                await transport.aclose()
                await all_gone(server)
    finally:
        await transport.aclose()


async def converse(row, wanted, transport, server, closed):
    """The requests of a row, and a polite one in the end."""
    home = f"{'https://localhost' if row.tls else 'http://127.0.0.1'}:{server.port}/v1/chat"
    url = row.url.format(port=server.port, closed=closed) or home
    secret = ("authorization", SECRET)
    reused = False
    for number, wants in enumerate(wanted, 1):
        known = len(server.peers)
        alternatives = wants if isinstance(wants, tuple) else (wants,)
        request = UpstreamRequest("POST", url, (secret, *row.headers), row.body, row.connect_s)
        patience = HANG_S if any(one.hangs for one in alternatives) else ASK_S
        status = next((one.status for one in alternatives if one.hangs), None)
        seen = await ask(transport, request, server, row.manner, patience, status)
        outcome = next((one for one in alternatives if seen.meets(one)), None)
        assert outcome, f"request {number}: {seen}; wanted {alternatives}"[:600]
        await settle()
        if number == 1:
            assert row.has.items() <= seen.headers.items(), f"{seen.headers} without {row.has}"
            assert all(one == one.lower() for one in seen.headers), f"not in lower case: {[*seen.headers]}"
            assert row.server_name in (None, *(peer.server_name for peer in server.peers)), "no server name"
        opened = len(server.peers) - known
        assert opened <= 1, "more connections than requests"
        assert outcome.error is NotSent or reused is None or opened == (0 if reused else 1), f"reused: {not reused}"
        assert all(one.endswith(row.body) for one in server.requests), "not the body that was given"
        assert len(server.requests) <= number, "a request was sent twice"
        if outcome.error is NotSent:
            said = b"".join(bytes(peer.received) for peer in server.peers)
            assert b"canary" not in said, "it was sent"
            assert b"HTTP/1" not in said, "its head was sent"
        if outcome.error or outcome.hangs or row.manner in ("leaves", "taste"):
            await all_gone(server)
        if outcome.error:
            assert all(peer.sent < HELD_MAX for peer in server.peers), "it was listened to for too long"
        reused = outcome.reused
    if row.tls not in UNTRUSTED:
        known = len(server.peers)
        seen = await ask(transport, UpstreamRequest("POST", home, (secret,), BODY, ASK_S), server)
        assert seen.meets(Outcome(200, AFTER)), f"the request after: {seen}"
        assert reused is None or len(server.peers) - known == (0 if reused else 1), f"reused: {not reused}"
        assert not any(b"\r\ncookie:" in bytes(peer.received).lower() for peer in server.peers), "a cookie was kept"
