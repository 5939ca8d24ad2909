"""Every entry of `TRANSPORTS`: one contract for what a vendor may do on the wire, row by row of tests/behaviours.py."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys

import pytest
import transport_contract
from behaviours import BODY, GROUPS, ROWS
from hostile import AFTER, HostileServer, certificates
from plays import silence
from transport_contract import all_gone, ask, check

from service.domain.ports import UpstreamRequest
from service.errors import Broken, NoReply, NotSent
from service.upstream.transport_httpx import HttpxTransport
from service.upstream.transport_native import NativeTransport

TRANSPORTS = {"httpx": HttpxTransport, "native": NativeTransport}
"""Each is made with `verify`, and has `send` and `aclose`."""

LOOPS = {"asyncio": asyncio.new_event_loop}
if sys.platform != "win32":
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", TRANSPORTS)
def test_a_behaviour(name, loop, row):
    """What the caller sees, what the server saw, and that the next request goes well."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(check(row, name, TRANSPORTS[name]))


@pytest.mark.parametrize("name", TRANSPORTS)
async def test_one_that_is_slow_holds_nobody_up(name):
    """Requests at the same time have connections of their own."""
    transport = TRANSPORTS[name](verify=certificates().trusting)
    async with HostileServer(silence) as server:
        request = UpstreamRequest("POST", f"http://127.0.0.1:{server.port}/", (), BODY)
        slow = asyncio.create_task(ask(transport, request, server))
        while not server.peers:
            await asyncio.sleep(0.001)
        seen = await asyncio.gather(*(ask(transport, request, server) for _ in range(9)))
        assert [one.body for one in seen] == [AFTER] * 9
        assert len(server.peers) == 10
        server.peers[0].released.set()
        assert (await slow).body == AFTER
        await transport.aclose()
        await all_gone(server)


def test_the_table_says_what_it_seems_to_say():
    """No two rows of one name; exceptions are of transports that exist, and say why."""
    assert len(ROWS) == sum(map(len, GROUPS)) >= 55
    for one in ROWS.values():
        assert one.but.keys() <= TRANSPORTS.keys()
        assert all(len(why) > 20 for _, why in one.but.values())


class HangUpIsNotSent(HttpxTransport):
    """Books what may be billed as free."""

    async def send(self, request):
        try:
            return await super().send(request)
        except NoReply as problem:
            raise NotSent("connecting took too long", cause="timeout_connect") from problem


class NotSentIsNoReply(HttpxTransport):
    """Books what was never sent as what may be billed."""

    async def send(self, request):
        try:
            return await super().send(request)
        except NotSent as problem:
            raise NoReply("something went wrong", cause="hung_up") from problem


class AsksAgain(HttpxTransport):
    """Has a request carried out twice."""

    async def send(self, request):
        try:
            return await super().send(request)
        except NoReply:
            return await super().send(request)


class WithOtherBodies(HttpxTransport):
    """For those that treat bodies wrongly: the answer in a wrapping."""

    class Answer:
        """The wrapping: what is left undone goes to the real answer."""

        def __init__(self, real):
            self.real, self.status, self.headers = real, real.status, real.headers

        async def chunks(self):
            async for chunk in self.real.chunks():
                yield chunk

        async def aclose(self):
            await self.real.aclose()

    async def send(self, request):
        return self.Answer(await super().send(request))


class CutIsWhole(WithOtherBodies):
    """Takes half an answer for one."""

    class Answer(WithOtherBodies.Answer):
        """Ends where it was cut."""

        async def chunks(self):
            with contextlib.suppress(Broken):
                async for chunk in self.real.chunks():
                    yield chunk


class ReadsAhead(WithOtherBodies):
    """Reads as fast as a vendor sends, whoever listens."""

    class Answer(WithOtherBodies.Answer):
        """Is in memory before its first chunk is handed out."""

        async def chunks(self):
            for chunk in [chunk async for chunk in self.real.chunks()]:
                yield chunk


class ReadsToTheEnd(WithOtherBodies):
    """Reads what its caller left, to keep a connection."""

    class Answer(WithOtherBodies.Answer):
        """Is read by whoever is there."""

        def __init__(self, real):
            super().__init__(real)
            self.rest = real.chunks()

        async def chunks(self):
            async for chunk in self.rest:
                yield chunk

        async def aclose(self):
            async for _ in self.rest:
                pass
            await self.real.aclose()


class ForgetsToClose(WithOtherBodies):
    """Keeps what its caller is done with."""

    class Answer(WithOtherBodies.Answer):
        """Is never closed."""

        async def aclose(self):
            pass


class CannotBeCancelled(HttpxTransport):
    """Goes on when its caller has gone."""

    async def send(self, request):
        return await asyncio.shield(asyncio.ensure_future(super().send(request)))


class LetsErrorsThrough(HttpxTransport):
    """Raises what its library raises."""

    async def send(self, request):
        try:
            return await super().send(request)
        except NoReply:
            raise ConnectionResetError from None


class QuotesTheKey(HttpxTransport):
    """Says too much in its errors."""

    async def send(self, request):
        try:
            return await super().send(request)
        except NoReply as problem:
            raise NoReply(f"no answer to {request.headers}", cause=problem.cause) from None


class GoesElsewhere(HttpxTransport):
    """Follows wherever it is sent."""

    async def send(self, request):
        answer = await super().send(request)
        if "location" not in answer.headers:
            return answer
        await answer.aclose()
        return await super().send(request)


class KeepsCookies(HttpxTransport):
    """Gives one tenant's cookie to another."""

    kept = ""

    async def send(self, request):
        fields = (*request.headers, ("cookie", self.kept))
        answer = await super().send(dataclasses.replace(request, headers=fields) if self.kept else request)
        self.kept = answer.headers.get("set-cookie", "")
        return answer


class TrustsAnybody(HttpxTransport):
    """Checks no certificate."""

    def __init__(self, **_):
        super().__init__(verify=False)


class ConnectsAnew(HttpxTransport):
    """Never uses a connection twice."""

    async def send(self, request):
        fields = (*request.headers, ("connection", "close"))
        return await super().send(dataclasses.replace(request, headers=fields))


WRONG = {
    (HangUpIsNotSent, "reset_after_request"): "NotSent timeout_connect",
    (HangUpIsNotSent, "end_on_reuse"): "NotSent timeout_connect",
    (NotSentIsNoReply, "refused"): "NoReply hung_up",
    (AsksAgain, "close_after_request"): "status 200",
    (AsksAgain, "close_on_reuse"): "status 200",
    (CutIsWhole, "short_of_length"): "whole, status 200",
    (CutIsWhole, "chunk_reset"): "whole, status 200",
    (ReadsAhead, "stalls_in_body"): "hung",
    (ReadsAhead, "held_back"): "taken for nobody",
    (ReadsToTheEnd, "left_while_it_comes"): "left open",
    (ForgetsToClose, "left_unread"): "left open",
    (CannotBeCancelled, "silence"): "left open",
    (CannotBeCancelled, "deafness"): "left open",
    (LetsErrorsThrough, "nuls"): "no UpstreamError",
    (QuotesTheKey, "close_after_head"): "repeats a secret",
    (GoesElsewhere, "redirect"): "b'after'; wanted",
    (KeepsCookies, "cookie"): "a cookie was kept",
    (TrustsAnybody, "tls_self_signed"): "whole, status 200",
    (TrustsAnybody, "tls_other_name"): "whole, status 200",
    (ConnectsAnew, "plain"): "reused",
}
"""Transports that are wrong in one way each, a row that finds it, and what is said of it."""


@pytest.mark.parametrize(("wrong", "name"), WRONG)
async def test_what_is_wrong_is_found(wrong, name, monkeypatch):
    """The contract can fail."""
    monkeypatch.setattr(transport_contract, "CLOSE_S", 0.3)
    with pytest.raises(AssertionError, match=WRONG[wrong, name]):
        await check(ROWS[name], "a wrong one", wrong)
