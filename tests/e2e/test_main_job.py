"""The main job: the official SDK, `model="auto"`, English and Chinese; the answer, the headers, and the exact cost."""

from __future__ import annotations

import asyncio
import json
from fractions import Fraction

import httpx
import openai
import pytest
from stage import registry, start_router

from service.simulator import Script, SimulatorThread, VendorScript, prompt_tokens, text_tokens

ENGLISH = "Write a Python function that merges two sorted lists."
CHINESE = "请把这句话翻译成英文：今天下午三点开会。"


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """Two healthy vendors, one billing in CNY; a router over them, for the whole module."""
    home = tmp_path_factory.mktemp("main-job")
    scripts = {"alpha": Script(cached_tokens=4), "beta_cny": Script(hidden_reasoning_tokens=7)}
    with SimulatorThread(scripts) as simulator:
        router = start_router(home / "data", registry(home / "providers.yaml", simulator))
        yield router, simulator
        assert router.stop() == 0


def sdk(router):
    """The official client, pointed at the router."""
    return openai.OpenAI(base_url=f"{router.url}/v1", api_key="none needed on loopback", max_retries=0)


def by_hand(usage, rates, fx=Fraction(1)):
    """Pico-USD from the vendor's numbers and the registry's list prices, in fractions: no code shared with the router."""
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    dollars = (
        (usage["prompt_tokens"] - cached) * Fraction(rates["input"])
        + cached * Fraction(rates["cache_read"])
        + usage["completion_tokens"] * Fraction(rates["output"])
    ) / 1_000_000
    return round(dollars * fx * 10**12)


ALPHA = {"input": "0.15", "cache_read": "0.015", "output": "1.20"}
BETA = {"input": "2.5", "cache_read": "0.25", "output": "22.0"}


@pytest.mark.parametrize("prompt", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_auto_answers_tells_and_books_exactly(stage, prompt):
    """Answer, headers and a ledger row whose cost equals a computation by hand to the pico-dollar."""
    router, _ = stage
    answer = sdk(router).chat.completions.with_raw_response.create(
        model="auto", messages=[{"role": "user", "content": prompt}]
    )
    headers, body = answer.headers, answer.parse()
    assert "simulat" in body.choices[0].message.content.lower() or "模拟" in body.choices[0].message.content
    assert headers["x-coe-model"] == "alpha-model"
    assert headers["x-coe-provider"] == "alpha"
    assert headers["x-coe-attempts"] == "1"
    assert headers["x-coe-policy"] == "balanced"
    assert headers["x-coe-intent"]
    assert float(headers["x-coe-overhead-ms"]) >= 0
    expected = by_hand(body.usage.model_dump(), ALPHA)
    ((opened, (end,)),) = router.attempts(headers["x-coe-decision-id"])
    assert end["cost_pusd"] == expected
    assert end["state"] == "settled"
    assert Fraction(headers["x-coe-cost-usd"]) * 10**12 == expected
    assert opened["language"] in ("en", "zh")
    assert end["usage"]["cache_read"] == 4
    assert end["baseline_pusd"] == by_hand(
        {**body.usage.model_dump()}, {"input": "10", "cache_read": "10", "output": "50"}
    )


def test_a_price_in_yuan_is_converted_once_at_the_written_rate(stage):
    """CNY list prices, one explicit rate, rounded once."""
    router, _ = stage
    answer = sdk(router).chat.completions.with_raw_response.create(
        model="beta_cny-model", messages=[{"role": "user", "content": CHINESE}]
    )
    usage = answer.parse().usage.model_dump()
    ((opened, (end,)),) = router.attempts(answer.headers["x-coe-decision-id"])
    assert end["cost_pusd"] == by_hand(usage, BETA, Fraction("0.1406"))
    assert end["usage"]["reasoning"] == 7
    assert end["price"]["currency"] == "CNY"
    assert end["price"]["usd_per_unit"] == "0.1406"
    assert opened["price_version"] == "beta_cny/beta_cny-model@2026-01-01"


def test_streaming_hides_the_usage_chunk_and_books_it(stage):
    """A caller who did not ask sees no usage chunk; the ledger has the vendor's numbers all the same."""
    router, simulator = stage
    with httpx.stream(
        "POST",
        f"{router.url}/v1/chat/completions",
        json={"model": "auto", "stream": True, "messages": [{"role": "user", "content": ENGLISH}]},
    ) as response:
        text = b"".join(response.iter_raw()).decode()
        decision = response.headers["x-coe-decision-id"]
        assert "x-coe-cost-usd" not in response.headers
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert all(chunk["choices"] for chunk in chunks)
    assert json.loads(simulator.log[-1].body)["stream_options"] == {"include_usage": True}
    ((_, (end,)),) = router.attempts(decision)
    said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert end["usage"]["output"] == text_tokens(said)
    assert end["usage_source"] == "provider"
    assert end["ttft_ms"] is not None


def test_streaming_shows_usage_to_who_asks(stage):
    """The official SDK with include_usage gets the usage chunk, and its numbers are those of the ledger."""
    router, _ = stage
    with sdk(router).chat.completions.with_streaming_response.create(
        model="auto",
        stream=True,
        stream_options={"include_usage": True},
        messages=[{"role": "user", "content": CHINESE}],
    ) as response:
        decision = response.headers["x-coe-decision-id"]
        chunks = list(response.parse())
    usage = chunks[-1].usage.model_dump()
    ((_, (end,)),) = router.attempts(decision)
    assert end["cost_pusd"] == by_hand(usage, ALPHA)


def test_async_tools_and_json_schema(stage):
    """Async client, a tool call (whole and streamed), and an answer in a schema."""
    router, _ = stage
    tools = [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            },
        }
    ]
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }

    async def scene():
        async with openai.AsyncOpenAI(base_url=f"{router.url}/v1", api_key="x", max_retries=0) as client:
            called = await client.chat.completions.create(
                model="auto", tools=tools, messages=[{"role": "user", "content": "What is the weather in Paris?"}]
            )
            streamed = await client.chat.completions.create(
                model="auto", tools=tools, stream=True, messages=[{"role": "user", "content": "巴黎天气怎么样？"}]
            )
            pieces = [chunk async for chunk in streamed]
            formed = await client.chat.completions.create(
                model="auto",
                messages=[{"role": "user", "content": "Give me a number."}],
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "one", "schema": schema, "strict": True},
                },
            )
        return called, pieces, formed

    called, pieces, formed = asyncio.run(scene())
    call = called.choices[0].message.tool_calls[0]
    assert call.function.name == "weather"
    assert "city" in json.loads(call.function.arguments)
    deltas = [c for chunk in pieces for choice in chunk.choices for c in choice.delta.tool_calls or []]
    assert json.loads("".join(delta.function.arguments or "" for delta in deltas))
    assert isinstance(json.loads(formed.choices[0].message.content)["n"], int)
    assert all(len(ends) == 1 and ends[0]["state"] == "settled" for _, ends in router.attempts()[-3:])


def test_the_body_reaches_the_vendor_byte_for_byte(stage):
    """Unknown fields, number spelling, escapes and key order survive; only `model` and `coe` differ."""
    router, simulator = stage
    body = (
        b'{ "messages":[{"content":"caf\\u00e9 \\u2028 \xe4\xbd\xa0","role":"user","x_unknown":{"a":1.50}}],\n'
        b'  "model" : "auto","seed":12345678901234567890,"coe":{"tags":["t"]},"temperature":0.70,"x_vendor":[1e-7,-0.0]}'
    )
    response = httpx.post(
        f"{router.url}/v1/chat/completions", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 200, response.text
    plain = body.replace(b'"coe":{"tags":["t"]},', b"")
    assert simulator.log[-1].body == plain.replace(b'"auto"', b'"alpha-wire"')
    httpx.post(f"{router.url}/v1/chat/completions", content=plain, headers={"content-type": "application/json"})
    assert simulator.log[-1].body == plain.replace(b'"auto"', b'"alpha-wire"')


def test_the_answer_reaches_the_caller_byte_for_byte(stage):
    """A unary body is the vendor's own; nothing is added to it."""
    router, simulator = stage
    body = {"model": "alpha-model", "messages": [{"role": "user", "content": "hello"}]}
    through = httpx.post(f"{router.url}/v1/chat/completions", json=body)
    straight = httpx.post(f"{simulator.base_url('alpha')}/chat/completions", json={**body, "model": "alpha-wire"})
    mine, theirs = through.json(), straight.json()
    for answer in (mine, theirs):
        answer.pop("id"), answer.pop("created")
    assert mine == theirs
    assert list(through.json()) == list(straight.json())
    assert mine["usage"]["prompt_tokens"] == prompt_tokens(body)


def test_decisions_models_and_dry_run(stage):
    """The record of a request with its attempts; the model list; a dry run that spends nothing."""
    router, simulator = stage
    answer = httpx.post(
        f"{router.url}/v1/chat/completions",
        json={"model": "auto:cheap", "messages": [{"role": "user", "content": CHINESE}], "coe": {"explain": True}},
    )
    told = answer.json()["coe"]
    record = httpx.get(f"{router.url}/v1/decisions/{answer.headers['x-coe-decision-id']}").json()
    assert record["policy"] == told["policy"] == "cheap"
    assert record["attempts"][0]["cost_usd"] == answer.headers["x-coe-cost-usd"]
    assert record["chosen"] == "alpha/alpha-model"
    assert CHINESE not in json.dumps(record, ensure_ascii=False)
    assert httpx.get(f"{router.url}/v1/decisions/dec_nobody").status_code == 404
    listed = httpx.get(f"{router.url}/v1/models").json()["data"]
    assert [one["id"] for one in listed] == [
        "alpha-model",
        "beta_cny-model",
        "baseline-model",
        "auto",
        "auto:balanced",
        "auto:cheap",
        "auto:best",
        "plan:single",
    ]
    assert listed[0]["x_coe"]["deployments"][0]["prices"]["input"] == "0.15"
    assert httpx.get(f"{router.url}/v1/models/alpha-model").json() == listed[0]
    before = len(simulator.log), len(router.attempts())
    dry = httpx.post(
        f"{router.url}/v1/route", json={"model": "auto", "messages": [{"role": "user", "content": ENGLISH}]}
    )
    assert dry.json()["chosen"] == "alpha/alpha-model"
    assert dry.json()["intent"]["terms"]
    assert (len(simulator.log), len(router.attempts())) == before


def test_costs_agree_with_the_journal(stage):
    """`coe costs` sums what the rows say, against the baseline, exactly."""
    router, _ = stage
    for prompt in (ENGLISH, CHINESE, ENGLISH):
        sdk(router).chat.completions.create(model="auto", messages=[{"role": "user", "content": prompt}])
    (row,) = [one for one in router.costs("--by", "model") if one["model"] == "alpha-model"]
    ends = [end for opened, (end,) in router.attempts() if opened["model"] == "alpha-model"]
    assert row["requests"] == row["attempts"] == len(ends) >= 3
    assert Fraction(row["cost_usd"]) * 10**12 == sum(end["cost_pusd"] for end in ends)
    assert Fraction(row["baseline_cost_usd"]) * 10**12 == sum(end["baseline_pusd"] for end in ends)
    assert Fraction(row["saved_usd"]) == Fraction(row["baseline_cost_usd"]) - Fraction(row["cost_usd"])
    assert {one["intent"] for one in router.costs("--by", "intent")} == {
        open_["intent"] for open_, _ in router.attempts()
    }


def test_a_vendor_without_usage_is_estimated_and_marked(routers, vendors, tmp_path):
    """No usage from the vendor: an estimate that says so, in the row and in the report."""
    from service.simulator import UsageShape

    simulator = vendors({"alpha": VendorScript(default=Script(usage=UsageShape.MISSING))})
    router = routers(registry(tmp_path / "providers.yaml", simulator))
    answer = httpx.post(
        f"{router.url}/v1/chat/completions", json={"model": "auto", "messages": [{"role": "user", "content": CHINESE}]}
    )
    ((_, (end,)),) = router.attempts(answer.headers["x-coe-decision-id"])
    assert end["state"] == "estimated"
    assert end["usage_source"] == "estimated"
    assert end["cost_pusd"] > 0
    assert router.costs()[0]["estimated_share"] not in ("0", 0, 0.0)
