"""Healthy vendors over real sockets, as the official SDK and httpx see them; ports, limits, start and stop."""

import asyncio
import gc
import json
import socket
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from pydantic import BaseModel

from service.simulator import connection, server
from service.simulator.answers import prompt_tokens, text_tokens
from service.simulator.request_log import Outcome
from service.simulator.script import AfterAnswer, Fault, Script, UsageShape, VendorScript
from service.simulator.server import SimulatedVendors

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Trip(BaseModel):
    """What a caller wants back."""

    city: str
    days: int


def sdk(base_url, key="any"):
    """The official client, without retries of its own."""
    return openai.AsyncOpenAI(api_key=key, base_url=base_url, max_retries=0, timeout=5)


async def test_sdk_unary(ask):
    """Text, usage and the truth log agree."""
    async with SimulatedVendors(["a"]) as simulator, sdk(simulator.base_url("a")) as client:
        answer = await client.chat.completions.create(**ask())
        (seen,) = simulator.log
    assert answer.choices[0].message.content.startswith("[simulated answer by m1]")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == prompt_tokens(ask()) == seen.billed.input
    assert answer.usage.completion_tokens == text_tokens(answer.choices[0].message.content) == seen.billed.output
    assert (seen.vendor, seen.model, seen.status, seen.outcome) == ("a", "m1", 200, Outcome.ANSWERED)
    assert json.loads(seen.body)["messages"] == ask()["messages"]
    assert seen.headers["authorization"] == "Bearer any"


async def test_sdk_stream(ask):
    """The same words as unary, usage in the last chunk when asked for."""
    async with SimulatedVendors(["a"]) as simulator, sdk(simulator.base_url("a")) as client:
        unary = await client.chat.completions.create(**ask())
        stream = await client.chat.completions.create(**ask(stream=True, stream_options={"include_usage": True}))
        chunks = [chunk async for chunk in stream]
        seen = simulator.log[1]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == unary.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == unary.usage.completion_tokens == seen.billed.output
    assert (seen.stream, seen.outcome) == (True, Outcome.ANSWERED)


async def test_sdk_tools_and_parsing(ask):
    """An agent's round trip in both forms, and a pydantic class filled from a schema."""
    async with SimulatedVendors({"a": Script(tool_calls=2)}) as simulator, sdk(simulator.base_url("a")) as client:
        answer = await client.chat.completions.create(**ask(tools=[TOOL]))
        calls = answer.choices[0].message.tool_calls
        assert [json.loads(call.function.arguments) for call in calls] == [{"city": "simulated city"}] * 2
        assert answer.choices[0].finish_reason == "tool_calls"
        async with client.chat.completions.stream(**ask(tools=[TOOL])) as stream:
            final = await stream.get_final_completion()
        assert [call.function.arguments for call in final.choices[0].message.tool_calls] == [
            call.function.arguments for call in calls
        ]
        results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in calls]
        history = [*ask()["messages"], answer.choices[0].message.model_dump(exclude_none=True), *results]
        words = await client.chat.completions.create(**ask(tools=[TOOL], messages=history))
        assert words.choices[0].finish_reason == "stop"
        parsed = await client.chat.completions.parse(**ask(), response_format=Trip)
        assert parsed.choices[0].message.parsed == Trip(city="simulated city", days=1)


async def test_sdk_reasoning_refusal_logprobs(ask):
    """Vendor extras come through the SDK's models."""
    scripts = {
        "thinks": Script(reasoning="step by step", usage=UsageShape.DEEPSEEK, cached_tokens=3),
        "refuses": Script(refusal="I can't help with that."),
    }
    async with SimulatedVendors(scripts) as simulator:
        async with sdk(simulator.base_url("thinks")) as client:
            answer = await client.chat.completions.create(**ask(logprobs=True, top_logprobs=1, n=2))
        async with sdk(simulator.base_url("refuses")) as client:
            refused = await client.chat.completions.create(**ask())
    assert answer.choices[0].message.model_extra["reasoning_content"] == "step by step"
    assert answer.usage.model_extra["prompt_cache_hit_tokens"] == 3
    assert answer.usage.completion_tokens_details.reasoning_tokens == 2 * text_tokens("step by step")
    assert len(answer.choices) == 2
    assert answer.choices[1].logprobs.content[0].token
    assert refused.choices[0].message.refusal == "I can't help with that."


async def test_refusals_of_the_vendors_own(ask):
    """Keys, models, routes, methods, bad bodies: OpenAI's classes, and no script is used up by them."""
    scripts = {"a": VendorScript(models=("m1",), api_keys=("good",), queue=(Script(answer="first"),))}
    async with SimulatedVendors(scripts) as simulator:
        url = simulator.base_url("a")
        async with sdk(url, "bad") as client:
            with pytest.raises(openai.AuthenticationError):
                await client.chat.completions.create(**ask())
        async with sdk(url, "good") as client:
            with pytest.raises(openai.NotFoundError, match="m2"):
                await client.chat.completions.create(**ask(model="m2"))
            with pytest.raises(openai.BadRequestError) as refused:
                await client.chat.completions.create(**ask(messages=[]))
            assert refused.value.param == "messages"
            assert (await client.chat.completions.create(**ask())).choices[0].message.content == "first"
        async with httpx.AsyncClient(headers={"Authorization": "Bearer good"}) as client:
            assert (await client.get(f"{url}/chat/completions")).status_code == 405
            assert (await client.post(f"{url}/models")).status_code == 405
            assert (await client.get(f"{url}/elsewhere")).status_code == 404
            assert (await client.post(f"{url}/chat/completions", content=b"{")).status_code == 400
        log = simulator.log
    assert [seen.outcome for seen in log].count(Outcome.REJECTED) == 7
    assert [seen.billed is not None for seen in log].count(True) == 1


async def test_model_list(ask):
    """As the SDK reads it, with an engine's own members."""
    script = VendorScript(models=("m1", "m2"), owned_by="vllm", model_fields={"m1": {"max_model_len": 4096}})
    async with SimulatedVendors({"a": script}) as simulator, sdk(simulator.base_url("a")) as client:
        listed = [model async for model in client.models.list()]
        assert (await client.models.retrieve("m2")).id == "m2"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("m3")
    assert [(model.id, model.owned_by) for model in listed] == [("m1", "vllm"), ("m2", "vllm")]
    assert listed[0].model_extra["max_model_len"] == 4096


async def test_shared_port_serves_every_vendor_under_its_name(ask):
    """One socket, prefixes; an unknown vendor is a 404."""
    async with SimulatedVendors({"a": Script(answer="A"), "b": Script(answer="B")}, port=0) as simulator:
        ports = {urlsplit(simulator.base_url(name)).port for name in "ab"}
        assert len(ports) == 1
        assert urlsplit(simulator.base_url("b")).path == "/b/v1"
        async with httpx.AsyncClient() as client:
            for name in "ab":
                answer = await client.post(f"{simulator.base_url(name)}/chat/completions", json=ask())
                assert answer.json()["choices"][0]["message"]["content"] == name.upper()
            assert (await client.get(f"http://127.0.0.1:{ports.pop()}/c/v1/models")).status_code == 404
        assert [seen.vendor for seen in simulator.log] == ["a", "b", "c"]
    with pytest.raises(KeyError, match="no simulated vendor 'c'"):
        simulator.base_url("c")


async def test_ports_and_hosts_are_checked():
    """Loopback only; what needs a port of its own says so; a taken port is an OSError."""
    with pytest.raises(ValueError, match="loopback"):
        SimulatedVendors(["a"], host="0.0.0.0")  # noqa: S104 - the refusal is the test
    with pytest.raises(ValueError, match="own port"):
        SimulatedVendors({"a": Script(fault=Fault.RESET_ON_ACCEPT)}, port=0)
    async with SimulatedVendors(["a"], port=0) as simulator:
        with pytest.raises(ValueError, match="own port"):
            simulator.push("a", Script(fault=Fault.RESET_ON_ACCEPT))
        taken = SimulatedVendors(["a"], port=urlsplit(simulator.base_url("a")).port)
        with pytest.raises(OSError, match="in use"):
            await taken.start()


async def test_keep_alive_and_pipelining(ask, post, exchange):
    """Two requests in one write get two answers on one connection, in order."""
    async with SimulatedVendors({"a": VendorScript(queue=(Script(answer="1"), Script(answer="2")))}) as simulator:
        url = simulator.base_url("a")
        seen = await exchange(url, post(url, ask()) + post(url, ask(), headers=["Connection: close"]))
        log = simulator.log
        assert simulator.accepted == 1
    assert seen.ended == "fin"
    assert seen.data.count(b"HTTP/1.1 200 OK") == 2
    assert seen.data.index(b'"content":"1"') < seen.data.index(b'"content":"2"')
    assert log[0].connection == log[1].connection


async def test_scripts_change_while_it_runs(ask):
    """push, set_script, clear_log."""
    async with SimulatedVendors(["a"]) as simulator, httpx.AsyncClient() as client:
        url = f"{simulator.base_url('a')}/chat/completions"

        async def answer():
            return (await client.post(url, json=ask())).json()["choices"][0]["message"]["content"]

        simulator.push("a", Script(answer="once"))
        assert await answer() == "once"
        simulator.set_script("a", Script(answer="always"))
        assert await answer() == await answer() == "always"
        simulator.clear_log()
        assert simulator.log == []
        with pytest.raises(ValueError, match="refuse"):
            simulator.set_script("a", Script(fault=Fault.REFUSE))


async def test_port_closes_and_opens_again(ask, post, exchange):
    """`refuse` kills open connections and the port; `accept` brings back the same port."""
    async with SimulatedVendors(["a"]) as simulator:
        url = simulator.base_url("a")
        waiting = asyncio.create_task(exchange(url, post(url, ask())))
        while not simulator.log:
            await asyncio.sleep(0.005)
        await simulator.refuse("a")
        assert (await waiting).ended == "rst"
        with pytest.raises(ConnectionRefusedError):
            await exchange(url, post(url, ask()))
        with pytest.raises(ValueError, match="no open port"):
            await simulator.refuse("a")
        await simulator.accept("a")
        assert simulator.base_url("a") == url
        assert (await exchange(url, post(url, ask(), headers=["Connection: close"]))).status == 200


async def test_http_limits_over_the_socket(ask, post, exchange):
    """Garbage, a huge head and a huge body are answered, logged and closed; the body's sender can read why."""
    async with SimulatedVendors(["a"]) as simulator:
        url = simulator.base_url("a")
        garbage = await exchange(url, b"\x16\x03\x01\x02\x00\r\n\r\n")
        long = await exchange(url, b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000)
        large = await exchange(url, b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 3_000_000)
        log = simulator.log
    assert (garbage.status, long.status, large.status) == (400, 431, 413)
    assert [seen.ended for seen in (garbage, long, large)] == ["fin"] * 3
    assert [seen.outcome for seen in log] == [Outcome.REJECTED] * 3


async def test_connections_are_limited(monkeypatch, ask, post, exchange):
    """One more than allowed is reset; a place that becomes free is used."""
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 1)
    async with SimulatedVendors({"a": Script(fault=Fault.SILENCE)}) as simulator:
        url = simulator.base_url("a")
        first = asyncio.create_task(exchange(url, post(url, ask())))
        while simulator.connections == 0:
            await asyncio.sleep(0.005)
        assert (await exchange(url, post(url, ask()))).ended == "rst"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        while simulator.connections:
            await asyncio.sleep(0.005)
        simulator.set_script("a", Script())
        assert (await exchange(url, post(url, ask(), headers=["Connection: close"]))).status == 200


async def test_idle_and_slow_connections_are_closed(monkeypatch, ask, post, exchange):
    """No request, and half a request: both end by themselves."""
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 0.05)
    monkeypatch.setattr(server, "REQUEST_S", 0.05)
    async with SimulatedVendors(["a"]) as simulator:
        url = simulator.base_url("a")
        assert (await exchange(url, b"")).ended == "fin"
        assert (await exchange(url, post(url, ask())[:-5])).ended == "fin"
        assert simulator.log == []


@pytest.mark.parametrize(
    "script",
    [
        Script(fault=Fault.SILENCE),
        Script(header_delay_s=60),
        Script(first_content_delay_s=60),
        Script(chunk_delay_s=60),
        Script(fault=Fault.ENDLESS),
        Script(fault=Fault.ONLY_COMMENTS),
        Script(fault=Fault.STALL),
        Script(fault=Fault.GIANT_LINE, giant_bytes=32 * 1024 * 1024),
        Script(after=AfterAnswer.CLOSE_ON_REUSE),
    ],
)
async def test_stop_in_the_middle_leaves_nothing(ask, post, exchange, script):
    """Whatever is being played: no task, no connection, no open entry, no unclosed socket."""
    before = asyncio.all_tasks()
    simulator = SimulatedVendors({"a": script})
    await simulator.start()
    url = simulator.base_url("a")
    reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
    writer.write(post(url, ask(stream=True)))
    while not simulator.log:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)
    async with asyncio.timeout(2):
        await simulator.stop()
    assert simulator.connections == 0
    assert asyncio.all_tasks() == before
    answered = script.after is AfterAnswer.CLOSE_ON_REUSE
    assert simulator.log[0].outcome is (Outcome.ANSWERED if answered else Outcome.STOPPED)
    assert simulator.log[0].ended_monotonic is not None
    writer.transport.abort()
    del reader, writer
    gc.collect()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "script",
    [
        Script(header_delay_s=60),
        Script(fault=Fault.SILENCE),
        Script(fault=Fault.ENDLESS),
        Script(fault=Fault.STALL),
        Script(fault=Fault.GIANT_LINE, giant_bytes=32 * 1024 * 1024),
    ],
)
async def test_clients_that_vanish(ask, post, eventually, script, stream):
    """By FIN and by RST: their task ends at once, the entry says so, the next client is served."""
    async with SimulatedVendors({"a": script}) as simulator:
        url = simulator.base_url("a")
        for goodbye in ("close", "abort"):
            _, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
            writer.write(post(url, ask(stream=stream)))
            await eventually(lambda: simulator.connections == 1 and simulator.log)
            await asyncio.sleep(0.02)
            getattr(writer.transport, goodbye)()
            await eventually(lambda: simulator.connections == 0)
        assert [seen.outcome for seen in simulator.log] == [Outcome.CLIENT_LEFT] * 2
        simulator.set_script("a", Script(answer="still here"))
        async with httpx.AsyncClient() as client:
            assert "still here" in (await client.post(f"{url}/chat/completions", json=ask())).text


async def test_client_gone_in_the_middle_of_its_request(ask, post, eventually):
    """Half a body is no request: nothing is logged, nothing is billed."""
    async with SimulatedVendors(["a"]) as simulator:
        url = simulator.base_url("a")
        _, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
        writer.write(post(url, ask())[:-10])
        await eventually(lambda: simulator.connections == 1)
        writer.transport.abort()
        await eventually(lambda: simulator.connections == 0)
        assert simulator.log == []


async def test_slow_reader_is_not_buffered_without_bound(ask, post, eventually):
    """An endless stream to a client that does not read: the simulator waits instead of filling its memory."""
    async with SimulatedVendors({"a": Script(fault=Fault.ENDLESS, answer="x", chunks=1)}) as simulator:
        url = simulator.base_url("a")
        with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port)) as client:
            client.setblocking(False)
            client.sendall(post(url, ask(stream=True)))
            await eventually(lambda: bool(simulator._connections))
            (held,) = simulator._connections
            await eventually(lambda: not held._writable.is_set())
            for _ in range(2_000):
                # Room for thousands of chunks, if nothing held them back.
                await asyncio.sleep(0)
            assert held.transport.get_write_buffer_size() < 4 * connection.WRITE_BYTES


async def test_many_at_once(ask):
    """100 requests, 25 at a time, half of them streams: every one answered and billed once, ids all different."""
    async with SimulatedVendors(["a", "b"]) as simulator, httpx.AsyncClient() as client:
        gate = asyncio.Semaphore(25)

        async def call(number):
            async with gate:
                url = f"{simulator.base_url('ab'[number % 2])}/chat/completions"
                return await client.post(url, json=ask(stream=number % 4 < 2, seed=number))

        answers = await asyncio.gather(*(call(number) for number in range(100)))
        log = simulator.log
    assert {answer.status_code for answer in answers} == {200}
    assert len(log) == 100
    assert {seen.outcome for seen in log} == {Outcome.ANSWERED}
    assert all(seen.billed is not None for seen in log)
    assert len({seen.number for seen in log}) == 100
