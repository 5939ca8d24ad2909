"""A third party's server as upstream: the LiteLLM proxy from its package, in an environment of its own.

It is not our simulator and knows nothing of us: what it calls a stream and a usage chunk is what we must read. The
environment `.venv-peer` is made by `make test`; where it can't be made, this is a named skip, and with CI a failure.
"""

from __future__ import annotations

import os
import subprocess
import time

import httpx
import openai
import pytest
from stage import ROOT, clean_environment, free_port

PEER = ROOT / ".venv-peer" / "bin" / "litellm"
WHOLE = ROOT / ".venv-peer" / ".done"
"""Written when everything is installed; a script may be there before what it imports is."""

MASTER_KEY = "sk-peer-for-a-test-0123456789abcdef0123456789abcdef"
START_S = 150
WORDS = "Paris is the capital of France. 巴黎是法国首都。"


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """The proxy on a free port, answering from `mock_response`."""
    if not WHOLE.exists():
        message = "the peer's environment .venv-peer is missing or incomplete; `make test` installs it"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    home = tmp_path_factory.mktemp("peer")
    config = home / "config.yaml"
    config.write_text(
        "model_list:\n"
        "  - model_name: echo\n"
        f"    litellm_params: {{model: openai/gpt-4o-mini, api_key: none, mock_response: {WORDS!r}}}\n"
        "litellm_settings: {telemetry: false}\n",
        encoding="utf-8",
    )
    port = free_port()
    env = clean_environment(HOME=str(home), LITELLM_MASTER_KEY=MASTER_KEY, LITELLM_LOCAL_MODEL_COST_MAP="True")
    env.pop("PYTHONPATH")
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(PEER), "--config", str(config), "--port", str(port), "--host", "127.0.0.1"],
            stdout=log,
            stderr=log,
            env=env,
            cwd=home,
        )
    due = time.monotonic() + START_S
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/health/liveliness", timeout=2).raise_for_status()
            break
        except httpx.HTTPError:
            assert process.poll() is None, (home / "log").read_text()
            assert time.monotonic() < due, "the peer did not start"
            time.sleep(0.5)
    yield f"http://127.0.0.1:{port}/v1"
    process.terminate()
    process.wait(30)


@pytest.fixture
def router(routers, peer, tmp_path):
    """A router whose only vendor is the peer."""
    path = tmp_path / "providers.yaml"
    path.write_text(
        f"""version: 1
currency: {{base: USD, rates: {{}}, as_of: 2026-11-21}}
default_policy: balanced
providers:
  peer: {{base_url: "{peer}", protocol: openai_chat, api_key: "${{env:PEER_KEY}}", region: onprem}}
models:
  echo:
    context_tokens: 8000
    quality: {{default: 0.9}}
    deployments:
      - provider: peer
        name: echo
        prices: [{{from: 2026-01-01, currency: USD, input: 3, output: 15, source: made up, checked: 2026-11-21}}]
policies:
  balanced: {{objective: min_cost, min_quality: 0.5}}
""",
        encoding="utf-8",
    )
    return routers(path, PEER_KEY=MASTER_KEY)


@pytest.mark.peer
@pytest.mark.timeout(240)
def test_a_foreign_proxy_is_a_vendor_like_any_other(router):
    """Unary, streamed without and with usage: the words arrive, and the books hold the peer's own numbers."""
    client = openai.OpenAI(base_url=f"{router.url}/v1", api_key="x", max_retries=0)
    ask = {"model": "auto", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    whole = client.chat.completions.with_raw_response.create(**ask)
    usage = whole.parse().usage
    assert whole.parse().choices[0].message.content == WORDS
    ((_, (end,)),) = router.attempts(whole.headers["x-coe-decision-id"])
    assert end["cost_pusd"] == usage.prompt_tokens * 3_000_000 + usage.completion_tokens * 15_000_000
    assert end["usage_source"] == "provider"

    quiet = list(client.chat.completions.create(**ask, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in quiet if chunk.choices) == WORDS
    assert all(chunk.usage is None for chunk in quiet), "the usage chunk was not asked for"

    told = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    counted = next(chunk.usage for chunk in reversed(told) if chunk.usage)
    ends = [ends[0] for _, ends in router.attempts()]
    assert [end["state"] for end in ends] == ["settled"] * 3
    assert ends[2]["cost_pusd"] == counted.prompt_tokens * 3_000_000 + counted.completion_tokens * 15_000_000
    assert ends[1]["cost_pusd"] == ends[2]["cost_pusd"]
