"""One attempt against real simulated vendors: every fault, every deadline, whole and streamed."""

import asyncio
import contextlib
import itertools
import json
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from service.domain.catalog import Timeouts
from service.domain.money import Usage, UsageSource
from service.errors import Broken, NoReply, NotSent, Replied
from service.simulator import Script, SimulatedVendors
from service.simulator.request_log import Outcome
from service.simulator.script import AfterAnswer, ErrorShape, Fault, LineEnding, UsagePlace, UsageShape
from service.upstream import client as client_module
from service.upstream import stream as stream_module
from service.upstream.client import UpstreamClient
from service.upstream.protocols import PROTOCOLS
from service.upstream.tally import Tally
from service.upstream.transport_httpx import HttpxTransport
from service.upstream.transport_native import NativeTransport

QUICK = Timeouts(connect_s=1.0, first_token_s=0.4, idle_s=0.4, total_s=3.0)
NOT_ANSWERED = {"first_token_s": 0.4, "total_s": 0.4}
ERROR = Script(fault=Fault.HTTP_ERROR, status=503)


class Clock:
    """The machine's clocks."""

    def utc(self):
        return datetime.now(UTC)

    def monotonic(self):
        return time.monotonic()


@dataclass(frozen=True)
class Way:
    """How bytes come and go: over which transport, and whether the caller takes the next piece at once, turn by turn."""

    transport: type
    takes: tuple[bool, ...]


WAYS = {
    "chunks": Way(HttpxTransport, (False,)),
    "pours": Way(NativeTransport, (True, True, False)),
}


@pytest.fixture(params=WAYS)
def way(request):
    """Every test goes every way."""
    return WAYS[request.param]


class Stage:
    """A vendor and a client that calls it."""

    def __init__(self, simulator, client, candidate, chat, way):
        self.simulator, self.client, self.candidate, self.chat, self.way = simulator, client, candidate, chat, way
        self.tally = None
        self.pieces = []

    async def ask(self, stream, **members):
        """The bytes that reach the caller; `tally` and `pieces` hold what is known when it fails."""
        self.tally, self.pieces = Tally(time.monotonic()), []
        if not stream:
            return (await self.client.call(self.chat(**members), self.candidate, self.tally)).body
        opened = await self.client.open_stream(self.chat(stream=True, **members), self.candidate, self.tally)
        turns = itertools.cycle(self.way.takes)

        def put(piece):
            if next(turns):
                self.pieces.append(piece)
                return True
            return False

        try:
            while (piece := await opened.forward(put)) is not None:
                self.pieces.append(piece)
        finally:
            await opened.aclose()
        return b"".join(self.pieces)

    async def closed(self):
        """Wait until the vendor has no open connection of ours."""
        async with asyncio.timeout(1):
            while self.simulator.connections:
                await asyncio.sleep(0.005)


@pytest.fixture
def stage(candidate, chat, way):
    """Start a vendor with a script, and a client that calls it."""

    @contextlib.asynccontextmanager
    async def start(script, *quirks, timeouts=QUICK, cap=0):
        transport = way.transport()
        try:
            async with SimulatedVendors({"v": script}) as simulator:
                one = candidate(*quirks, base_url=simulator.base_url("v"), timeouts=timeouts, cap=cap)
                yield Stage(simulator, UpstreamClient(transport, PROTOCOLS, Clock()), one, chat, way)
        finally:
            await transport.aclose()

    return start


def events(stream):
    """The parsed events of what reached the caller."""
    return [json.loads(line[6:]) for line in stream.decode().split("\n") if line.startswith("data: ")]


def text(stream):
    return "".join(one["choices"][0]["delta"].get("content") or "" for one in events(stream) if one["choices"])


@contextlib.asynccontextmanager
async def playing(steps, head=b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"):
    """A server that sends bytes and sleeps seconds, as `steps` say, then keeps the connection open. Gives its base URL."""
    serving = []

    async def serve(reader, writer):
        serving.append((asyncio.current_task(), writer))
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            for step in steps:
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                else:
                    await asyncio.sleep(step)
            await reader.read()
            await asyncio.sleep(60)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        for task, writer in serving:
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*(task for task, _ in serving), return_exceptions=True)
        server.close()
        await server.wait_closed()


# fault -> (class, cause) of a whole answer, and of a stream that fails before its first content.
EARLY = {
    Fault.REFUSE: ((NotSent, "connect_refused"),) * 2,
    Fault.RESET_ON_ACCEPT: ((NoReply, "hung_up"),) * 2,
    Fault.RESET: ((NoReply, "hung_up"),) * 2,
    Fault.HANG_UP: ((NoReply, "hung_up"),) * 2,
    Fault.SILENCE: ((NoReply, "timeout_total"), (NoReply, "timeout_first_token")),
    Fault.SILENCE_AFTER_HEADERS: ((NoReply, "timeout_total"), (NoReply, "timeout_first_token")),
    Fault.ONLY_COMMENTS: ((NoReply, "timeout_total"), (NoReply, "timeout_first_token")),
    Fault.HTTP_ERROR: ((Replied, "http_500"),) * 2,
    Fault.HTML: ((Broken, "malformed_answer"), (Broken, "not_a_stream")),
    Fault.EMPTY: ((Broken, "malformed_answer"), (Broken, "not_a_stream")),
    Fault.REDIRECT: ((Replied, "http_302"),) * 2,
    Fault.RAW: ((NoReply, "hung_up"),) * 2,
    Fault.NO_CHOICES: ((Broken, "no_choices"), (Broken, "empty_stream")),
    Fault.CUT: ((Broken, "cut"),) * 2,
    Fault.CUT_RESET: ((Broken, "cut"),) * 2,
    Fault.END_EARLY: ((Broken, "cut"), (Broken, "empty_stream")),
    Fault.ERROR_EVENT: ((Replied, "error_in_200"),) * 2,
    Fault.BROKEN_JSON: ((Broken, "malformed_answer"),) * 2,
    Fault.STALL: ((NoReply, "timeout_total"), (NoReply, "timeout_first_token")),
    Fault.ENDLESS: ((Broken, "answer_too_large"), None),
    Fault.GIANT_LINE: (None, None),
}
BILLED = {NotSent: "no", NoReply: "maybe", Replied: "no", Broken: "maybe"}


def test_every_fault_is_in_the_table():
    """A new way to misbehave needs a line here."""
    assert set(EARLY) == set(Fault)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", [fault for fault in Fault if any(EARLY[fault])])
async def test_faults_before_the_first_content(stage, fault, stream, monkeypatch):
    """The right error, what may be billed, nothing for the caller; and the connection is closed (kept after a refusal)."""
    if EARLY[fault][stream] is None:
        return
    error, cause = EARLY[fault][stream]
    monkeypatch.setattr(client_module, "RESPONSE_BYTES_MAX", 200_000)
    total = 30.0 if cause == "answer_too_large" else 0.4
    script = Script(fault=fault, fault_after=0, raw=b"nonsense\r\n\r\n")
    async with stage(script, timeouts=Timeouts(1.0, 0.4, 0.4, total)) as one:
        with pytest.raises(error) as failure:
            await one.ask(stream)
        assert failure.value.cause == cause
        assert failure.value.billed == BILLED[error]
        assert type(failure.value) is error
        assert one.pieces == []
        assert one.tally.sent is (error is not NotSent)
        if error is not Replied and fault not in (
            Fault.HTML,
            Fault.EMPTY,
            Fault.NO_CHOICES,
            Fault.BROKEN_JSON,
            Fault.END_EARLY,
        ):
            await one.closed()


LATE = {
    Fault.CUT: "cut",
    Fault.CUT_RESET: "cut",
    Fault.END_EARLY: "cut",
    Fault.ERROR_EVENT: "error_in_200",
    Fault.BROKEN_JSON: "malformed_answer",
    Fault.STALL: "timeout_idle",
}


@pytest.mark.parametrize("fault", LATE)
@pytest.mark.parametrize("write_bytes", [None, 7])
async def test_faults_after_the_first_content(stage, fault, write_bytes):
    """All that arrived is handed on, then the error: broken, maybe billed, and an estimate from what was seen."""
    script = Script(fault=fault, fault_after=3, chunks=9, answer="abcdefgh 巴黎" * 9, write_bytes=write_bytes)
    async with stage(script) as one:
        with pytest.raises(Broken) as failure:
            await one.ask(stream=True)
        assert (failure.value.cause, failure.value.billed) == (LATE[fault], "maybe")
        assert text(b"".join(one.pieces)) == "abcdefgh 巴黎" * 3
        assert not one.tally.complete
        usage = one.tally.usage_or_estimate(12)
        assert usage.source is UsageSource.ESTIMATED
        assert one.tally.output_characters == 33
        assert one.tally.cjk_characters == 6
        if fault is Fault.STALL:
            await one.closed()
            assert one.simulator.log[0].outcome is Outcome.CLIENT_LEFT


@pytest.mark.parametrize("shape", [shape for shape in ErrorShape if shape is not ErrorShape.TEXT])
@pytest.mark.parametrize("after", [0, 2])
async def test_error_events_in_every_spelling(stage, shape, after):
    """Before content the vendor refused; after it the answer is broken."""
    async with stage(Script(fault=Fault.ERROR_EVENT, error_shape=shape, fault_after=after, chunks=5)) as one:
        with pytest.raises((Replied, Broken)) as failure:
            await one.ask(stream=True)
        assert isinstance(failure.value, Broken) is (after > 0)
        assert one.simulator.log[0].outcome is Outcome.FAILED


async def test_content_before_an_error_in_one_chunk_reaches_the_caller(stage, candidate):
    """Once the stream is committed, what came with the error in one read is not lost; before, it may have been billed."""
    piece = b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
    error = b'data: {"error":{"message":"m"}}\n\n'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    async with stage(Script(fault=Fault.RAW, raw=head + piece % b"a" + error)) as one:
        with pytest.raises(Broken) as failure:
            await one.ask(stream=True)
        assert (failure.value.billed, one.pieces) == ("maybe", [])

    async with stage(Script()) as one, playing([piece % b"a", 0.05, piece % b"b" + piece % b"c" + error]) as url:
        one.candidate = candidate(base_url=url, timeouts=QUICK)
        with pytest.raises(Broken):
            await one.ask(stream=True)
        assert text(b"".join(one.pieces)) == "abc"


@pytest.mark.parametrize("eol", list(LineEnding))
@pytest.mark.parametrize("write_bytes", [None, 1])
async def test_a_stream_passes_through(stage, eol, write_bytes):
    """Whatever its line ends, comments, byte order mark and cuts: the text arrives, [DONE] does not, usage is read."""
    script = Script(
        line_ending=eol,
        write_bytes=write_bytes,
        comments=True,
        byte_order_mark=True,
        multi_line_data=True,
        answer="a\u2028b 巴黎" * 5,
    )
    async with stage(script) as one:
        stream = await one.ask(stream=True)
        from openai._streaming import SSEDecoder

        seen = [
            json.loads(event.data) for event in SSEDecoder().iter_bytes(iter([stream.removeprefix(b"\xef\xbb\xbf")]))
        ]
        assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in seen) == "a\u2028b 巴黎" * 5
        assert b"[DONE]" not in stream
        assert stream.startswith(b"\xef\xbb\xbf")
        assert one.tally.usage == one.simulator.log[0].billed
        assert one.tally.complete
        assert (one.tally.model, one.tally.upstream_id, one.tally.status) == ("wire-1", "chatcmpl-sim-1", 200)
        assert one.tally.first_content >= one.tally.started


async def test_a_whole_answer(stage):
    """The vendor's bytes, its usage, its names."""
    async with stage(Script(cached_tokens=5, hidden_reasoning_tokens=9)) as one:
        body = await one.ask(stream=False)
        assert json.loads(body)["id"] == "chatcmpl-sim-1"
        assert one.tally.usage == one.simulator.log[0].billed
        assert one.tally.usage.reasoning == 9
        assert one.tally.waited_s > 0


async def test_the_first_content_commits(stage):
    """`open_stream` returns when it is there, long before the end; the caller may wait with reading."""
    async with stage(Script(first_content_delay_s=0.05, chunk_delay_s=0.05, chunks=4)) as one:
        tally = Tally(time.monotonic())
        opened = await one.client.open_stream(one.chat(stream=True), one.candidate, tally)
        assert one.simulator.log[0].outcome is Outcome.OPEN
        assert tally.first_content is not None
        assert not tally.complete
        await opened.aclose()
        await one.closed()
        assert one.simulator.log[0].outcome is Outcome.CLIENT_LEFT


@pytest.mark.parametrize("giant", [2**20, 2 * 2**20])
async def test_a_giant_event_is_an_event(stage, giant):
    """A first content of megabytes is content, not a vendor that says nothing; one over the limit is refused."""
    async with stage(Script(fault=Fault.GIANT_LINE, giant_bytes=giant), timeouts=Timeouts(1, 10, 10, 20)) as one:
        assert len(text(await one.ask(stream=True))) == giant
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.upstream.sse.EVENT_BYTES_MAX", giant - 1)
        async with stage(Script(fault=Fault.GIANT_LINE, giant_bytes=giant), timeouts=Timeouts(1, 10, 10, 20)) as one:
            with pytest.raises(Broken) as failure:
                await one.ask(stream=True)
            assert failure.value.cause == "event_too_large"


async def test_an_endless_stream_ends_with_the_total_deadline(stage):
    """And the vendor sees us leave."""
    async with stage(Script(fault=Fault.ENDLESS, chunk_delay_s=0.01), timeouts=Timeouts(1, 0.4, 0.4, 0.5)) as one:
        with pytest.raises(Broken) as failure:
            await one.ask(stream=True)
        assert failure.value.cause == "timeout_total"
        await one.closed()


async def test_a_head_without_end_is_cut(stage, monkeypatch):
    """Comments and roles are not content, however many come."""
    monkeypatch.setattr(stream_module, "HEAD_BYTES_MAX", 50)
    async with stage(Script(fault=Fault.ONLY_COMMENTS, chunk_delay_s=0.001)) as one:
        with pytest.raises(Broken) as failure:
            await one.ask(stream=True)
        assert failure.value.cause == "no_content"
        await one.closed()


async def test_a_finish_reason_without_done_is_complete(stage):
    """Many vendors send no [DONE]; the connection is used again."""
    async with stage(Script(done=False)) as one:
        await one.ask(stream=True)
        assert one.tally.complete
        await one.ask(stream=True)
        assert [seen.connection for seen in one.simulator.log] == [1, 1]


def chunk(index, finish=None, content="x"):
    body = {"choices": [{"index": index, "delta": {"content": content}, "finish_reason": finish}]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


@pytest.fixture
def play(candidate, chat, way):
    """Run a stream against `playing` steps: (what reached the caller, the tally)."""

    async def run(steps, **members):
        transport = way.transport()
        async with playing(steps) as url:
            try:
                client = UpstreamClient(transport, PROTOCOLS, Clock())
                one = Stage(None, client, candidate(base_url=url, timeouts=QUICK), chat, way)
                return await one.ask(stream=True, **members), one.tally
            finally:
                await transport.aclose()

    return run


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'


async def test_usage_may_lag_behind_the_finish(play, monkeypatch):
    """Within the grace it is read; a vendor that then says nothing more does not hold the caller."""
    monkeypatch.setattr(stream_module, "AFTER_FINISH_S", 0.3)
    _, tally = await play([chunk(0, "stop"), 0.05, USAGE, 60.0])
    assert tally.usage == Usage(input=7, output=2)
    _, tally = await play([chunk(0, "stop"), 60.0])
    assert tally.usage is None
    assert tally.complete


async def test_comments_after_the_finish_do_not_stretch_the_grace(play, monkeypatch):
    """The grace is one span, not one for each chunk."""
    monkeypatch.setattr(stream_module, "AFTER_FINISH_S", 0.2)
    stream, _ = await play([chunk(0, "stop"), *[b": ping\n\n", 0.05] * 100])
    assert stream.count(b"ping") < 20


async def test_choices_one_after_the_other(play, monkeypatch):
    """With `n` the first finish reason is not the last: a slow second choice is waited for, and its loss is an error."""
    monkeypatch.setattr(stream_module, "AFTER_FINISH_S", 0.05)
    steps = [chunk(0, "stop", "a"), 0.2, chunk(1, "stop", "b"), b"data: [DONE]\n\n"]
    stream, tally = await play(steps, n=2)
    assert text(stream) == "ab"
    assert tally.finished == {0, 1}
    with pytest.raises(Broken) as failure:
        await play([chunk(0, "stop", "a"), 60.0], n=2)
    assert failure.value.cause == "timeout_idle"
    stream, _ = await play([chunk(0, "stop", "a"), b"data: [DONE]\n\n"], n=2)
    assert text(stream) == "a"  # the vendor ended it: it makes one choice whatever was asked


async def test_an_unfinished_choice_is_a_cut(play):
    """[DONE] does not make it complete."""
    with pytest.raises(Broken) as failure:
        await play([chunk(0, "stop", "a"), chunk(1), b"data: [DONE]\n\n"], n=2)
    assert failure.value.cause == "cut"
    with pytest.raises(Broken) as failure:
        await play([chunk(0), b"data: [DONE]\n\n"])
    assert failure.value.cause == "cut"
    with pytest.raises(Broken) as failure:
        await play([b"data: [DONE]\n\n"])
    assert failure.value.cause == "empty_stream"


async def test_connections_after_complete_streams_are_reused(stage):
    """Five streams and five whole answers on one connection; a client of a broken stream gets a new one."""
    async with stage(Script()) as one:
        for _ in range(5):
            await one.ask(stream=True)
            await one.ask(stream=False)
        assert {seen.connection for seen in one.simulator.log} == {1}
        one.simulator.push("v", Script(fault=Fault.STALL))
        with pytest.raises(Broken):
            await one.ask(stream=True)
        await one.ask(stream=True)
        assert one.simulator.log[-1].connection == 2


async def test_a_refusal_keeps_the_connection(stage):
    """Its short body is read."""
    async with stage(ERROR) as one:
        for stream in (False, True):
            with pytest.raises(Replied):
                await one.ask(stream)
        assert {seen.connection for seen in one.simulator.log} == {1}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_whose_body_never_ends(candidate, chat, stream, way, monkeypatch):
    """The status is the answer: 429 stays 429, and nothing was billed."""
    monkeypatch.setattr(client_module, "REFUSAL_S", 0.05)

    head = b"HTTP/1.1 429 Slow down\r\ncontent-length: 99\r\nretry-after: 7\r\n\r\n{"
    transport = way.transport()
    async with playing([], head) as url:
        client = UpstreamClient(transport, PROTOCOLS, Clock())
        one = Stage(None, client, candidate(base_url=url, timeouts=QUICK), chat, way)
        with pytest.raises(Replied) as refusal:
            await one.ask(stream)
        assert (refusal.value.cause, refusal.value.retry_after_s) == ("rate_limited", 7)
        await transport.aclose()


@pytest.mark.parametrize("after", [AfterAnswer.CLOSE, AfterAnswer.CLOSE_SILENTLY])
async def test_vendors_that_close(stage, after):
    """Every answer on a new connection, none lost."""
    async with stage(Script(after=after)) as one:
        for _ in range(3):
            await one.ask(stream=True)
            await asyncio.sleep(0.02)
        assert len({seen.connection for seen in one.simulator.log}) == 3


SHAPES = [
    (UsageShape.OPENAI, ()), (UsageShape.PLAIN, ()), (UsageShape.DEEPSEEK, ("cached_tokens:prompt_cache_hit_tokens",)),
    (UsageShape.TOP_LEVEL_CACHED, ("cached_tokens:cached_tokens",)), (UsageShape.XAI, ("reasoning_beside",)),
    (UsageShape.OPENROUTER, ("usage_cost", "no_stream_options")),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("shape", "quirks"), SHAPES)
async def test_usage_in_every_shape(stage, shape, quirks, stream):
    """What is booked is what the vendor bills, wherever in the stream it stands."""
    detailed = shape is not UsageShape.PLAIN
    places = list(UsagePlace) if stream and "no_stream_options" not in quirks else [UsagePlace.ALWAYS]
    for place in places:
        script = Script(
            usage=shape,
            usage_place=place,
            cached_tokens=4 if detailed else 0,
            hidden_reasoning_tokens=6 if detailed and shape is not UsageShape.TOP_LEVEL_CACHED else 0,
            vendor_cost_usd="0.0012" if shape is UsageShape.OPENROUTER else None,
        )
        async with stage(script, *quirks) as one:
            seen = await one.ask(stream)
            assert one.tally.usage == one.simulator.log[0].billed, place
            if stream and place in (UsagePlace.AS_ASKED, UsagePlace.ALWAYS, UsagePlace.TWICE):
                assert all(event["choices"] for event in events(seen)), "the extra chunk was not asked for"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("shape", [UsageShape.MISSING, UsageShape.NEGATIVE, UsageShape.ABSURD, UsageShape.NOT_INTEGER])
async def test_usage_that_lies_is_estimated(stage, shape, stream):
    """The answer passes; the estimate is marked and says why."""
    async with stage(Script(usage=shape, answer="abcd" * 20)) as one:
        await one.ask(stream)
        usage = one.tally.usage_or_estimate(12)
        assert (usage.source, usage.input, usage.output) == (UsageSource.ESTIMATED, 12, 20)
        assert usage.flags
        assert (usage.flags == ("usage_missing",)) is (shape is UsageShape.MISSING)


async def test_asked_usage_is_passed_on(stage):
    """A caller who asked gets the chunk."""
    async with stage(Script()) as one:
        stream = await one.ask(stream=True, stream_options={"include_usage": True})
        assert events(stream)[-1]["usage"]["prompt_tokens"] > 0


async def test_keys_take_turns_and_our_cap_is_sent(stage, candidate):
    """Each call uses the next key of the account."""
    async with stage(Script(), "max_tokens", cap=33) as one:
        one.candidate = candidate(
            "max_tokens", base_url=one.simulator.base_url("v"), timeouts=QUICK, cap=33, keys=("k1", "k2")
        )
        for _ in range(4):
            await one.ask(stream=False)
        used = [seen.headers["authorization"] for seen in one.simulator.log]
        assert sorted(used) == ["Bearer k1"] * 2 + ["Bearer k2"] * 2
        assert used[0] != used[1]
        assert json.loads(one.simulator.log[0].body)["max_tokens"] == 33


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_who_leaves(stage, stream):
    """Cancelling closes the connection at once; the request counts as sent."""
    async with stage(Script(first_content_delay_s=30)) as one:
        asking = asyncio.create_task(one.ask(stream))
        async with asyncio.timeout(1):
            while not one.simulator.log:
                await asyncio.sleep(0.005)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert one.tally.sent
        await one.closed()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_connection_fails_before_its_attempt_does(candidate, chat, way, stream):
    """A registry that gives it as much time as the attempt: what was never sent is not called maybe billed."""
    transport = way.transport()
    try:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # connects by itself, and never answers a TLS hello
            times = Timeouts(connect_s=5.0, first_token_s=1.5, idle_s=2.0, total_s=1.5)
            one = candidate(base_url=f"https://127.0.0.1:{silent.getsockname()[1]}/v1", timeouts=times)
            asked = Stage(None, UpstreamClient(transport, PROTOCOLS, Clock()), one, chat, way)
            with pytest.raises(NotSent) as caught:
                await asked.ask(stream)
        assert caught.value.cause == "timeout_connect"
        assert not asked.tally.sent
    finally:
        await transport.aclose()
