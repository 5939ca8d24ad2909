"""A small registry of our own, and short ways to load a text and to see what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import pytest

from service.catalog.load import load_bytes
from service.domain.catalog import Catalog
from service.errors import RegistryError

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

EXAMPLE = """\
version: 1
currency: {base: USD, rates: {CNY: 0.1406}, as_of: 2026-11-20}
baseline: deepseek-flash
default_policy: balanced
providers:
  deepseek:
    base_url: https://api.deepseek.com/v1
    protocol: openai_chat
    api_key: ${env:DEEPSEEK_API_KEY}
    region: cn
    tags: [public-cloud]
    timeouts: {connect_s: 4, first_token_s: 20, idle_s: 25, total_s: 500}
    limits: {concurrency: 200, requests_per_minute: 3000, tokens_per_minute: 2000000}
    quirks: [cached_tokens:prompt_cache_hit_tokens, max_tokens]
    headers: {x-team: router}
  bailian:
    base_url: https://dashscope.example.com/compatible-mode/v1/
    api_key: ["${env:BAILIAN_KEY_A}", "${env:BAILIAN_KEY_B}"]
    region: cn
  local:
    base_url: http://127.0.0.1:11434/v1
    region: onprem
    tags: [private]
models:
  deepseek-flash:
    context_tokens: 1000000
    output_tokens_max: 65536
    modalities: [text]
    capabilities: [tools, json_object, json_schema, reasoning]
    languages: [zh, en]
    quality: {default: 0.78, coding: 0.80, translation: 0.86}
    quality_source: our own judgement
    reasoning_tokens: {default: 200, math: 3000}
    retires: 2027-03-01
    deployments:
      - provider: deepseek
        name: deepseek-flash
        prices:
          - from: 2026-07-24
            currency: USD
            input: 0.15
            cache_read: 0.015
            output: 0.60
            windows: [{utc: ["01:00-04:00", "06:00-10:00"], days: mon-fri, except: cn-holidays, multiply: 2}]
            tiers: [{above_input_tokens: 128000, input: 0.30, output: 1.20}]
            service_tiers: {batch: 0.5}
            source: the vendor's price page
            checked: 2026-11-15
      - provider: bailian
        name: deepseek-v4-flash
        capabilities: [tools]
        prices:
          - {from: 2026-09-01, currency: CNY, input: 1.2, output: 4.8, request: 0.001}
          - {from: 2026-01-01, until: 2026-09-01, currency: CNY, input: 2, output: 8}
  qwen-onprem:
    context_tokens: 131072
    quality: {default: 0.9}
    deployments:
      - provider: local
        name: qwen3:32b
        self_hosted:
          {gpus: 8, usd_per_gpu_hour: 3.49, input_tokens_per_s: 3000, output_tokens_per_s: 300, utilization: 0.6}
  secret-lab:
    enabled: false
    disabled_reason: no public API
    deployments:
      - {provider: bailian, name: secret, prices: null}
policies:
  balanced: {objective: min_cost, min_quality: 0.70, relative_to_best: 0.97}
  private: {objective: min_cost, allow: {tags: [private]}, on_unavailable: reject}
  careful: {objective: max_quality, max_cost_usd: 0.5, max_latency_ms: 9000, deny: {regions: [cn]}}
routes:
  - {name: hr, when: {key_tag: hr}, policy: private}
  - {name: contracts, when: {intent: translation, languages: [zh, en]}, plan: draft_polish}
  - {name: pinned, when: {model: "auto:private"}, model: local/qwen-onprem}
budgets:
  - {name: whole-router, usd_per_month: 5000}
  - name: interns
    tag: interns
    usd_per_day: 20.50
    requests_per_minute: 60
    tokens_per_minute: 200000
    concurrency: 8
    soft: true
"""

LoadText = Callable[..., Catalog]
Wrong = Callable[..., list[str]]


@pytest.fixture
def now() -> datetime:
    """The instant at which every registry of these tests is read: a Saturday, off every peak."""
    return NOW


@pytest.fixture
def example() -> str:
    """A registry that uses every part of the schema."""
    return EXAMPLE


@pytest.fixture(scope="session")
def example_text() -> str:
    """The same, for property tests, which take only what lives for the whole session."""
    return EXAMPLE


@pytest.fixture
def load_text() -> LoadText:
    """Load a registry from text, with an environment and quirks if given."""

    def load(
        text: str | bytes, environ: Mapping[str, str] | None = None, known_quirks: Mapping[str, str] | None = None
    ) -> Catalog:
        data = text if isinstance(text, bytes) else text.encode()
        return load_bytes(data, "providers.yaml", environ or {}, now=NOW, known_quirks=known_quirks)

    return load


@pytest.fixture
def wrong(load_text: LoadText) -> Wrong:
    """The problems of a text that must not load, in order."""

    def problems(text: str | bytes, known_quirks: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(RegistryError) as caught:
            load_text(text, known_quirks=known_quirks)
        assert str(caught.value) == "\n".join(caught.value.problems)
        return list(caught.value.problems)

    return problems
