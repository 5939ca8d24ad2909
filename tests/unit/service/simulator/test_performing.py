"""Each misbehaviour, seen from below HTTP: the bytes that came, how the connection ended, what the log says of it."""

import asyncio
import json
import time

import httpx
import openai
import pytest

from service.simulator.answers import prompt_tokens, text_tokens
from service.simulator.connection import Connection
from service.simulator.request_log import Outcome
from service.simulator.script import (
    AfterAnswer,
    ErrorShape,
    Fault,
    LineEnding,
    Script,
    UsagePlace,
    UsageShape,
    VendorScript,
    http_error,
)
from service.simulator.server import SimulatedVendors

WORDS = "one two three four five six"


@pytest.fixture
def play(ask, post, exchange):
    """Run one scripted request on a raw socket; returns what was seen and the log's entry."""

    async def run(script, *, stream, wait_s=5.0, **changes):
        async with SimulatedVendors({"a": script}) as simulator:
            url = simulator.base_url("a")
            # Connection: close, so that a healthy end can be told from a connection kept open.
            request = post(url, ask(stream=stream, **changes), headers=["Connection: close"])
            seen = await exchange(url, request, wait_s=wait_s)
            while simulator.log and simulator.log[-1].outcome is Outcome.OPEN and seen.ended != "open":
                await asyncio.sleep(0.005)
            return seen, (simulator.log or [None])[-1]

    return run


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "ended"),
    [(Fault.RESET, "rst"), (Fault.HANG_UP, "fin"), (Fault.SILENCE, "open"), (Fault.RESET_ON_ACCEPT, "rst")],
)
async def test_no_reply(play, fault, ended, stream):
    """Not one byte; reset, closed or silent; not billed."""
    seen, entry = await play(Script(fault=fault), stream=stream, wait_s=0.3)
    assert (seen.data, seen.ended) == (b"", ended)
    assert entry.fault is fault
    assert entry.billed is None
    assert entry.outcome is (Outcome.OPEN if ended == "open" else Outcome.FAILED)


async def test_refused(ask, post, exchange):
    """Nobody listens, and the log is empty."""
    async with SimulatedVendors({"a": Script(fault=Fault.REFUSE)}) as simulator:
        with pytest.raises(ConnectionRefusedError):
            await exchange(simulator.base_url("a"), post(simulator.base_url("a"), ask()))
        assert simulator.log == []
        assert simulator.accepted == 0


async def test_reset_on_accept_then_healthy(ask, post, exchange):
    """The first connection dies without being read, the second is served."""
    script = VendorScript(queue=(Script(fault=Fault.RESET_ON_ACCEPT),))
    async with SimulatedVendors({"a": script}) as simulator:
        url = simulator.base_url("a")
        request = post(url, ask(), headers=["Connection: close"])
        assert (await exchange(url, request)).ended == "rst"
        assert (await exchange(url, request)).status == 200
        assert [(seen.path, seen.fault) for seen in simulator.log] == [
            ("", Fault.RESET_ON_ACCEPT),
            ("/v1/chat/completions", None),
        ]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 422, 429, 500, 502, 503, 529])
async def test_statuses(play, status, stream):
    """Any status, OpenAI's shape, Retry-After as given, in JSON also when a stream was asked for."""
    seen, entry = await play(http_error(status, error_code="c", retry_after="99999999"), stream=stream)
    assert seen.status == status
    assert b"\r\nRetry-After: 99999999\r\n" in seen.data
    assert set(json.loads(seen.body)["error"]) == {"message", "type", "param", "code"}
    assert (entry.status, entry.outcome, entry.billed) == (status, Outcome.FAILED, None)


@pytest.mark.parametrize(
    ("script", "body"),
    [
        (http_error(200), b'{"error":{'),
        (http_error(200, shape=ErrorShape.CODE_MSG, error_code="rpm_rate_limit_exceeded"), b'{"code":"rpm_rate'),
        (http_error(200, shape=ErrorShape.BASE_RESP), b'{"base_resp":{"status_code":1002'),
        (http_error(503, shape=ErrorShape.TEXT, error_message="busy"), b"busy"),
        (Script(fault=Fault.HTML), b"<!DOCTYPE html>"),
        (Script(fault=Fault.HTML, status=502), b"<!DOCTYPE html>"),
        (Script(fault=Fault.EMPTY), b""),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_bodies_that_are_no_answer(play, script, body, stream):
    """Complete HTTP answers with the wrong thing inside."""
    seen, entry = await play(script, stream=stream)
    assert seen.status == (script.status or 200)
    assert seen.body.startswith(body)
    assert (b"Content-Length: 0" in seen.head) is (body == b"")
    assert seen.ended == "fin"
    assert entry.billed is None


async def test_redirect_and_raw_bytes(play):
    """302 with its Location; no HTTP at all; header lines with line feeds inside."""
    seen, _ = await play(Script(fault=Fault.REDIRECT, location="http://192.0.2.1/x"), stream=False)
    assert seen.status == 302
    assert b"\r\nLocation: http://192.0.2.1/x\r\n" in seen.data
    seen, _ = await play(Script(fault=Fault.RAW, raw=b"SSH-2.0-nonsense\r\n"), stream=False)
    assert (seen.data, seen.ended) == (b"SSH-2.0-nonsense\r\n", "fin")
    seen, _ = await play(Script(header_lines=("X-Bad: a\r\nX-Injected: b",)), stream=False)
    assert b"\r\nX-Injected: b\r\n" in seen.data


async def test_no_choices(play):
    """Well-formed and empty, in both forms."""
    seen, entry = await play(Script(fault=Fault.NO_CHOICES), stream=False)
    assert json.loads(seen.body)["choices"] == []
    assert entry.billed is None
    seen, entry = await play(Script(fault=Fault.NO_CHOICES), stream=True)
    assert [json.loads(event)["choices"] for event in seen.events[:-1]] == [[]]
    assert seen.events[-1] == "[DONE]"
    assert entry.billed is None


@pytest.mark.parametrize(
    ("fault", "ended", "last_chunk"),
    [
        (Fault.CUT, "fin", False),
        (Fault.CUT_RESET, "rst", False),
        (Fault.END_EARLY, "fin", True),
        (Fault.ERROR_EVENT, "fin", True),
        (Fault.BROKEN_JSON, "fin", True),
        (Fault.STALL, "open", False),
    ],
)
@pytest.mark.parametrize("after", [0, 3])
async def test_mid_stream(play, fault, ended, last_chunk, after):
    """The words up to the fault came; how the body ended; billed for exactly these words."""
    script = Script(fault=fault, fault_after=after, answer=WORDS, chunk_delay_s=0.005)
    seen, entry = await play(script, stream=True, wait_s=0.5)
    if fault is not Fault.CUT_RESET:  # a reset may overtake bytes that were sent
        intact = [event for event in seen.events if fault is not Fault.BROKEN_JSON or event != seen.events[-1]]
        chunks = [json.loads(event) for event in intact if "error" not in event]
        text = "".join(choice["delta"].get("content") or "" for one in chunks for choice in one["choices"])
        assert text == " ".join(WORDS.split()[:after])
        assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert seen.ended == ended
    assert seen.data.endswith(b"\r\n0\r\n\r\n") is last_chunk
    if after:
        assert entry.billed is None if ended == "open" else entry.billed.output == text_tokens("one two three")
    else:
        assert entry.billed is None


async def test_error_event_and_broken_json_in_detail(play):
    """What stands in the last event."""
    seen, _ = await play(Script(fault=Fault.ERROR_EVENT, error_message="overloaded"), stream=True)
    assert json.loads(seen.events[-1])["error"]["message"] == "overloaded"
    seen, _ = await play(Script(fault=Fault.ERROR_EVENT, error_shape=ErrorShape.CHUNK), stream=True)
    assert json.loads(seen.events[-1])["choices"][0]["finish_reason"] == "error"
    seen, _ = await play(Script(fault=Fault.BROKEN_JSON), stream=True)
    with pytest.raises(ValueError, match=r"Unterminated|Expecting|delimiter"):
        json.loads(seen.events[-1])


@pytest.mark.parametrize(
    ("fault", "ended"),
    [(Fault.CUT, "fin"), (Fault.CUT_RESET, "rst"), (Fault.STALL, "open"), (Fault.BROKEN_JSON, "fin")],
)
async def test_cut_unary(play, fault, ended):
    """Fewer bytes than promised, or all of them and no JSON."""
    seen, _ = await play(Script(fault=fault), stream=False, wait_s=0.3)
    assert seen.ended == ended
    if fault is not Fault.CUT_RESET:
        promised = int(seen.head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        assert (len(seen.body) < promised) is (fault is not Fault.BROKEN_JSON)
        with pytest.raises(ValueError, match=r"Unterminated|Expecting|delimiter"):
            json.loads(seen.body)


async def test_sdk_sees_the_cut(ask):
    """The official client raises on a cut stream and on an error event: that is what the router must not hide."""
    scripts = {
        "cut": Script(fault=Fault.CUT),
        "error": Script(fault=Fault.ERROR_EVENT),
        "early": Script(fault=Fault.END_EARLY),
    }
    async with SimulatedVendors(scripts) as simulator:
        for name, error in (("cut", httpx.RemoteProtocolError), ("error", openai.APIError)):
            async with openai.AsyncOpenAI(api_key="k", base_url=simulator.base_url(name), max_retries=0) as client:
                stream = await client.chat.completions.create(**ask(stream=True))
                with pytest.raises((error, openai.APIError)):
                    async for _ in stream:
                        pass
        async with openai.AsyncOpenAI(api_key="k", base_url=simulator.base_url("early"), max_retries=0) as client:
            # The treacherous one: no client notices a polite early end, only the missing finish reason tells.
            chunks = [chunk async for chunk in await client.chat.completions.create(**ask(stream=True))]
            assert all(chunk.choices[0].finish_reason is None for chunk in chunks)


@pytest.mark.parametrize("stream", [False, True])
async def test_endless(ask, post, exchange, stream):
    """More than any answer has, and no end in sight."""
    async with SimulatedVendors({"a": Script(fault=Fault.ENDLESS)}) as simulator:
        url = simulator.base_url("a")
        seen = await exchange(url, post(url, ask(stream=stream)), close_after=300_000)
    assert len(seen.data) >= 300_000
    assert seen.ended == "open"


async def test_giant_line(play):
    """One event of two megabytes, complete; the bill counts it."""
    seen, entry = await play(Script(fault=Fault.GIANT_LINE, giant_bytes=2_000_000), stream=True)
    assert max(len(event) for event in seen.events) > 2_000_000
    assert len(seen.text) == 2_000_000
    assert seen.events[-1] == "[DONE]"
    assert entry.billed.output == 500_000


async def test_silence_after_headers_and_comments(play):
    """Headers alone; then comments alone."""
    seen, _ = await play(Script(fault=Fault.SILENCE_AFTER_HEADERS), stream=True, wait_s=0.3)
    assert (seen.status, seen.body, seen.ended) == (200, b"", "open")
    seen, _ = await play(Script(fault=Fault.ONLY_COMMENTS), stream=True, wait_s=0.3)
    assert seen.ended == "open"
    assert set(seen.body.split(b"\n\n")) == {b": keep-alive", b""}


@pytest.mark.parametrize("ending", list(LineEnding))
async def test_line_endings(play, ending):
    """Every line ends so, and only so; the words are whole when read by that rule."""
    seen, _ = await play(Script(line_ending=ending, comments=True, answer=WORDS), stream=True)
    lines = seen.body.decode().split(ending.value)
    assert all("\r" not in line and "\n" not in line for line in lines)
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks) == WORDS
    assert lines.count(": keep-alive") == len(chunks)


async def test_byte_order_mark_and_multi_line_data(play):
    """Data lines joined by line feeds are the JSON; the mark comes first."""
    seen, _ = await play(Script(byte_order_mark=True, multi_line_data=True, answer=WORDS), stream=True)
    assert seen.body.startswith(b"\xef\xbb\xbfdata: {\ndata: ")
    blocks = seen.body.decode("utf-8-sig").split("\n\n")
    joined = ["\n".join(line[6:] for line in block.split("\n")) for block in blocks if block]
    texts = [json.loads(one)["choices"][0]["delta"].get("content") or "" for one in joined if one != "[DONE]"]
    assert "".join(texts) == WORDS


async def test_one_byte_writes(ask):
    """The client needs many reads, and gets the same words."""
    async with (
        SimulatedVendors({"a": Script(write_bytes=1, answer=WORDS, chunks=2)}) as simulator,
        openai.AsyncOpenAI(api_key="k", base_url=simulator.base_url("a"), max_retries=0) as client,
    ):
        stream = await client.chat.completions.create(**ask(stream=True))
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == WORDS


async def test_writes_are_really_split(ask, post):
    """On a socket that is read as fast as it is written, pieces arrive apart."""
    async with SimulatedVendors({"a": Script(write_bytes=1, answer="x")}) as simulator:
        url = httpx.URL(simulator.base_url("a"))
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(post(str(url), ask(), headers=["Connection: close"]))
        sizes = []
        while piece := await reader.read(65536):
            sizes.append(len(piece))
        writer.close()
        await writer.wait_closed()
    assert len(sizes) > sum(sizes) / 4


async def test_done_can_be_missing(play):
    """A finish reason and no [DONE] is a complete answer."""
    seen, entry = await play(Script(done=False, answer=WORDS), stream=True)
    assert "[DONE]" not in seen.events
    assert json.loads(seen.events[-1])["choices"][0]["finish_reason"] == "stop"
    assert entry.outcome is Outcome.ANSWERED


@pytest.mark.parametrize(
    "place", [UsagePlace.ALWAYS, UsagePlace.LAST_CONTENT, UsagePlace.EVERY_CHUNK, UsagePlace.TWICE]
)
async def test_usage_not_asked_for(play, place):
    """On the wire where the script wants it; the last one is the bill."""
    seen, entry = await play(Script(usage_place=place), stream=True)
    usages = [usage for event in seen.events[:-1] if (usage := json.loads(event).get("usage"))]
    assert usages
    assert usages[-1]["completion_tokens"] == entry.billed.output


@pytest.mark.parametrize("shape", [UsageShape.MISSING, UsageShape.NEGATIVE, UsageShape.ABSURD, UsageShape.NOT_INTEGER])
@pytest.mark.parametrize("stream", [False, True])
async def test_lies_are_on_the_wire_only(play, ask, shape, stream):
    """The log keeps the truth."""
    script = Script(usage=shape, usage_place=UsagePlace.ALWAYS, answer=WORDS)
    seen, entry = await play(script, stream=stream)
    assert (entry.billed.input, entry.billed.output) == (prompt_tokens(ask()), text_tokens(WORDS))
    objects = [json.loads(one) for one in seen.events[:-1]] if stream else [json.loads(seen.body)]
    usages = [one["usage"] for one in objects if one.get("usage")]
    assert len(usages) == (0 if shape is UsageShape.MISSING else 1)
    assert all(usage["completion_tokens"] != text_tokens(WORDS) for usage in usages)


@pytest.mark.parametrize("stream", [False, True])
async def test_entry_is_final_before_the_last_bytes_leave(ask, monkeypatch, stream):
    """Open during every write but the last: whoever has read a whole answer can't find its entry open."""
    outcomes = []
    async with SimulatedVendors(["a"]) as simulator, httpx.AsyncClient() as client:
        send = Connection.send

        async def watched(self, data):
            outcomes.append(simulator.log[-1].outcome)
            await send(self, data)

        monkeypatch.setattr(Connection, "send", watched)
        await client.post(f"{simulator.base_url('a')}/chat/completions", json=ask(stream=stream))
    assert outcomes == [Outcome.OPEN] * (len(outcomes) - 1) + [Outcome.ANSWERED]


async def test_delays_are_where_they_belong(ask):
    """At least the scripted time before the head, before the first words, and between words."""
    script = Script(header_delay_s=0.05, first_content_delay_s=0.06, chunk_delay_s=0.03, answer=WORDS, chunks=3)
    async with SimulatedVendors({"a": script}) as simulator, httpx.AsyncClient() as client:
        started = time.monotonic()
        url = f"{simulator.base_url('a')}/chat/completions"
        async with client.stream("POST", url, json=ask(stream=True)) as response:
            at_head = time.monotonic() - started
            contents = [
                time.monotonic() - started
                async for line in response.aiter_lines()
                if '"content":"' in line and '"role"' not in line
            ]
    assert at_head >= 0.05
    assert contents[0] >= 0.11
    assert contents[2] - contents[0] >= 0.05


@pytest.mark.parametrize("after", list(AfterAnswer))
async def test_connection_after_the_answer(ask, post, exchange, after):
    """Kept, closed with and without saying so, or dead as soon as it is used again."""
    queue = (Script(answer="first", after=after), Script(answer="second"))
    async with SimulatedVendors({"a": VendorScript(queue=queue)}) as simulator:
        url = simulator.base_url("a")
        one = post(url, ask())
        alone = await exchange(url, one, wait_s=0.2)
        assert b'"first"' in alone.data
        assert alone.ended == ("open" if after in (AfterAnswer.KEEP, AfterAnswer.CLOSE_ON_REUSE) else "fin")
        assert (b"Connection: close" in alone.head) is (after is AfterAnswer.CLOSE)
        simulator.set_script("a", VendorScript(queue=queue))
        twice = await exchange(url, one + one, wait_s=0.2)
        assert (b'"second"' in twice.data) is (after is AfterAnswer.KEEP)
        if after is AfterAnswer.CLOSE_ON_REUSE:
            assert twice.ended == "rst"
            assert len(simulator.log) == 2


async def test_no_prompt_can_make_a_vendor_fail(ask, post, exchange):
    """Words that name faults are words."""
    async with SimulatedVendors(["a"]) as simulator:
        url = simulator.base_url("a")
        for word in [*Fault, "http_error 500", '{"fault": "cut"}', "x-simulate: 429"]:
            body = ask(messages=[{"role": "user", "content": str(word)}], metadata={"fault": str(word)})
            seen = await exchange(url, post(url, body, headers=[f"X-Fault: {word}", "Connection: close"]))
            assert seen.status == 200
        assert {entry.outcome for entry in simulator.log} == {Outcome.ANSWERED}
