"""The shipped providers.yaml: it loads, it is complete, its prices are what a hand computes, and it routes sensibly.

Prices are checked in pico-units of their own currency: 0.15 per 1M tokens is 150,000 a token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from service.catalog.load import load
from service.domain.catalog import NARROWED_QUIRKS, Catalog, Deployment, Model
from service.domain.decision import INTENTS
from service.domain.features import SERVICE_TIERS
from service.domain.money import PriceQuote, Rates, Usage, price
from service.routing.prefixes import MARKED_WRITES
from service.upstream.quirks import QUIRKS

REGISTRY = Path(__file__).resolve().parents[2] / "providers.yaml"
TODAY = date(2026, 11, 21)
SATURDAY = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)
MONDAY_PEAK = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
MONDAY_NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NATIONAL_DAY = datetime(2026, 10, 1, 2, 0, tzinfo=UTC)

FOUNDING = {
    "baidu", "bytedance", "tencent", "alibaba", "huawei", "zhipu", "moonshot", "minimax",
    "baichuan", "01ai", "sensetime", "iflytek", "tal", "deepseek", "modelbest", "qihoo360",
}  # fmt: skip
LOCAL = {"ollama", "vllm", "llamacpp", "lmstudio", "tgi"}
EVERYDAY = INTENTS[: INTENTS.index("coding")]
HARD = ("coding", "math", "logic", "domain_expert", "tool_use")


@pytest.fixture(scope="module")
def bare() -> Catalog:
    """The registry on a machine without a single key."""
    return load(REGISTRY, {}, now=SATURDAY, known_quirks=QUIRKS)


@pytest.fixture(scope="module")
def full() -> Catalog:
    """The registry with every key that it asks for."""
    names = re.findall(r"\$\{env:(\w+)\}", REGISTRY.read_text(encoding="utf-8"))
    return load(REGISTRY, dict.fromkeys(names, "k" * 40), now=SATURDAY, known_quirks=QUIRKS)


def offered(catalog: Catalog) -> Iterator[tuple[Model, Deployment]]:
    """Every deployment that a request could be sent to on the day of the file."""
    for model in catalog.models.values():
        if model.inactive_reason is None and not model.retired(TODAY):
            for deployment in model.deployments:
                if deployment.inactive_reason is None and deployment.provider.active:
                    yield model, deployment


def quote(catalog: Catalog, name: str, at: datetime = MONDAY_NOON) -> PriceQuote:
    """The price of `provider/model` at an instant."""
    found = catalog.by_id[name].prices.quote(at)
    assert found is not None, f"{name} has no price at {at.isoformat()}"
    return found


def test_nothing_but_loopback_works_without_keys(bare: Catalog) -> None:
    """Every vendor says which variable to set; engines on loopback need none."""
    active = {name for name, provider in bare.providers.items() if provider.active}
    assert active == LOCAL - {"tgi"}
    assert "DEEPSEEK_API_KEY" in (bare.providers["deepseek"].inactive_reason or "")


def test_every_key_wakes_its_provider(full: Catalog) -> None:
    """With all keys only those stay away that the file switches off, each with its reason."""
    asleep = {name: provider.inactive_reason for name, provider in full.providers.items() if not provider.active}
    assert set(asleep) == {"01ai", "tal", "modelbest", "qihoo360", "bedrock", "azure", "tgi"}
    assert all(reason and len(reason) > 20 for reason in asleep.values())


def test_counts(full: Catalog) -> None:
    """35 providers with the sixteen founding ones, at least 110 models and 116 deployments."""
    assert len(full.providers) == 35
    assert {name for name, provider in full.providers.items() if "founding" in provider.tags} == FOUNDING
    assert len(full.models) >= 110
    assert len(full.by_id) >= 116
    assert all(model.deployments for model in full.models.values())


def test_engines_of_ones_own_are_private(full: Catalog) -> None:
    """They stay on loopback, carry the tag of the policy `private`, and nothing else carries it."""
    private = {name for name, provider in full.providers.items() if "private" in provider.tags}
    assert private == LOCAL
    for name in LOCAL:
        provider = full.providers[name]
        assert provider.base_url.startswith("http://127.0.0.1:")
        assert provider.region == "onprem"
        assert not any(deployment.provider.name == name for deployment in full.deployments())
    assert full.policies["private"].allow.tags == {"private"}


def test_names_are_vendor_free(full: Catalog) -> None:
    """Small letters, digits, dots and dashes: no vendor prefix, no snapshot with slashes."""
    assert [name for name in full.models if not re.fullmatch(r"[a-z0-9]+(?:[.-][a-z0-9]+)*", name)] == []


def test_same_weights_are_one_model(full: Catalog) -> None:
    """Several hosts of the same weights are deployments of one model."""
    hosts = {name: {d.provider.name for d in full.models[name].deployments} for name in full.models}
    assert hosts["gpt-oss-120b"] == {"bedrock", "groq", "together", "cerebras", "openrouter"}
    assert hosts["glm-5.3"] == {"zhipu", "huawei"}
    assert hosts["glm-5.3-flash"] == {"zhipu", "together", "fireworks", "openrouter"}
    assert hosts["claude-haiku-5-5"] == {"anthropic", "bedrock"}
    assert full.by_id["deepseek/deepseek-flash"].wire_name == "deepseek-flash"


def test_every_price_has_a_source_and_a_day(full: Catalog) -> None:
    """A price without its origin can't be checked by anybody."""
    for deployment in full.deployments():
        for version in deployment.prices.versions:
            assert version.source, deployment.id
            assert version.checked is not None, deployment.id
            assert version.checked <= TODAY, deployment.id
            assert version.currency in {"USD", "CNY"}, deployment.id


def test_what_is_offered_is_priced(full: Catalog) -> None:
    """Nobody is sent to a deployment whose price nobody knows."""
    unpriced = [d.id for _, d in offered(full) if (found := d.prices.quote(SATURDAY)) is None or not found.known]
    assert unpriced == []


def test_free_says_so(full: Catalog) -> None:
    """A price of 0 is a statement: free, not unknown."""
    free = [d for d in full.deployments() for v in d.prices.versions if v.rates.input == 0]
    assert {d.model for d in free} == {"glm-4.7-flash", "glm-4.5-flash", "sensenova-6.8-flash-lite", "spark-lite"}
    assert all("not unknown" in v.source for d in free for v in d.prices.versions)
    assert full.by_id["cohere/command-a-plus"].prices.quote(SATURDAY) is None


def test_what_is_switched_off_says_why(full: Catalog) -> None:
    """A model that can't be had names the reason and a way out."""
    off = {name: model.inactive_reason for name, model in full.models.items() if model.inactive_reason}
    assert {"mathgpt", "hy-mt2-pro", "claude-opus-5", "command-a-plus"} <= set(off)
    assert all(reason and len(reason) > 30 for reason in off.values())


def test_nothing_retired_is_offered(full: Catalog) -> None:
    """What the vendors have shut down is not here; what goes soon has its day."""
    gone = r"deepseek-(chat|reasoner)|moonshot-v1|kimi-k2\.5|o[134]-|gpt-4\.1-nano"
    assert [d.id for d in full.deployments() if re.match(gone, d.wire_name)] == []
    assert [name for name, model in full.models.items() if model.retired(TODAY)] == []
    assert full.models["claude-sonnet-4-5"].retires == date(2026, 11, 30)
    assert full.models["gpt-5"].retires == date(2026, 12, 11)
    assert full.models["gpt-4o"].retires == date(2027, 1, 14)
    assert full.models["gpt-5.4-nano"].retires == date(2027, 4, 1)


def test_the_baseline_and_policies(full: Catalog) -> None:
    """Savings are counted against a model with a price; the four policies are those of the contract."""
    assert full.baseline == "gpt-6.1-sol"
    assert full.default_policy == "balanced"
    balanced, cheap, best = (full.policies[name] for name in ("balanced", "cheap", "best"))
    assert (balanced.objective, balanced.min_quality, balanced.relative_to_best) == ("min_cost", 0.80, 0.97)
    assert (cheap.objective, cheap.min_quality) == ("min_cost", 0.60)
    assert (best.objective, best.max_cost_pusd) == ("max_quality", 500_000_000_000)


INPUT_OUTPUT = [
    ("baidu/ernie-5.1", 0, 4_000_000, 18_000_000),
    ("baidu/ernie-5.1", 32_000, 4_000_000, 18_000_000),
    ("baidu/ernie-5.1", 32_001, 6_000_000, 22_000_000),
    ("bytedance/doubao-seed-2.1-pro", 0, 6_000_000, 30_000_000),
    ("bytedance/doubao-seed-2.0-mini", 128_001, 800_000, 8_000_000),
    ("tencent/hy3", 16_000, 1_200_000, 4_000_000),
    ("tencent/hy3", 16_001, 1_600_000, 6_400_000),
    ("tencent/hy3", 32_001, 2_000_000, 8_000_000),
    ("alibaba/qwen3.7-plus", 256_000, 400_000, 1_600_000),
    ("alibaba/qwen3.7-plus", 256_001, 1_200_000, 4_800_000),
    ("alibaba/qwen3-coder-plus", 256_001, 6_000_000, 60_000_000),
    ("huawei/openpangu-2.0-flash", 0, 120_000, 240_000),
    ("zhipu/glm-5.3", 0, 8_000_000, 28_000_000),
    ("zhipu/glm-4.7-flash", 0, 0, 0),
    ("moonshot/kimi-k3", 0, 20_000_000, 100_000_000),
    ("minimax/minimax-m3", 512_000, 300_000, 1_200_000),
    ("minimax/minimax-m3", 512_001, 600_000, 2_400_000),
    ("baichuan/baichuan4-air", 0, 980_000, 980_000),
    ("deepseek/deepseek-flash", 0, 150_000, 600_000),
    ("deepseek/deepseek-v4-pro", 0, 660_000, 1_980_000),
    ("openai/gpt-6.1-sol", 272_000, 2_000_000, 10_000_000),
    ("openai/gpt-6.1-sol", 272_001, 4_000_000, 15_000_000),
    ("anthropic/claude-haiku-5-5", 100_000, 100_000, 500_000),
    ("anthropic/claude-haiku-5-5", 100_001, 500_000, 2_500_000),
    ("google/gemini-3.8-flash", 0, 750_000, 3_750_000),
    ("mistral/mistral-large-4", 0, 1_360_000, 4_180_000),
    ("xai/grok-4.7", 199_999, 2_000_000, 6_000_000),
    ("xai/grok-4.7", 200_000, 4_000_000, 12_000_000),
    ("cohere/command-r7b", 0, 37_500, 150_000),
    ("bedrock/nova-micro", 0, 35_000, 140_000),
    ("azure/gpt-6-luna-eu", 272_000, 120_000, 600_000),
    ("azure/gpt-6-luna-eu", 272_001, 240_000, 900_000),
    ("groq/gpt-oss-20b", 0, 75_000, 300_000),
    ("together/gpt-oss-120b", 0, 150_000, 600_000),
    ("fireworks/deepseek-v4.1-flash-spot", 0, 210_000, 840_000),
    ("cerebras/gpt-oss-120b", 0, 350_000, 750_000),
    ("openrouter/doubao-seed-2.0-mini", 128_001, 200_000, 800_000),
    ("siliconflow/qwen3-8b", 0, 60_000, 60_000),
]


@pytest.mark.parametrize(("name", "size", "input_rate", "output_rate"), INPUT_OUTPUT)
def test_prices_by_hand(full: Catalog, name: str, size: int, input_rate: int, output_rate: int) -> None:
    """Pico-units per token at a given prompt size, on both sides of the tiers."""
    rates = quote(full, name).rates_for(size)
    assert (rates.input, rates.output) == (input_rate, output_rate)


def test_cache_and_audio_rates(full: Catalog) -> None:
    """Cache reads, writes of both kinds and audio, in pico-units per token."""
    assert quote(full, "deepseek/deepseek-flash").rates.cache_read == 3_000
    assert quote(full, "zhipu/glm-5.3").rates.cache_read == 2_000_000
    assert quote(full, "openai/gpt-6.1-sol").rates.cache_write_5m == 2_500_000
    haiku = quote(full, "anthropic/claude-haiku-5-5")
    assert haiku.rates.cache_write_5m == 125_000
    assert haiku.rates.cache_write_1h == 200_000
    assert haiku.rates_for(100_001).cache_write_1h == 1_000_000
    assert quote(full, "bytedance/doubao-seed-2.1-lite").rates.audio_in == 12_000_000
    assert quote(full, "google/gemini-2.5-flash-lite").rates.audio_in == 300_000
    assert quote(full, "groq/gpt-oss-20b").rates.cache_read == 37_500


def test_a_tier_never_forgets_a_rate(full: Catalog) -> None:
    """A rate that the base price has and a tier lacks would fall back to the full input price."""
    for deployment in full.deployments():
        for version in deployment.prices.versions:
            for tier in version.tiers:
                for rate in ("cache_read", "cache_write_5m", "cache_write_1h"):
                    known = getattr(version.rates, rate) is not None
                    assert (getattr(tier.rates, rate) is not None) == known, f"{deployment.id}: {rate}"


def test_deepseek_doubles_at_peak(full: Catalog) -> None:
    """Working hours in China cost twice; weekends and holidays do not."""
    usage = Usage(input=1_000, cache_read=200, output=500)
    off_peak = 1_000 * 150_000 + 200 * 3_000 + 500 * 600_000
    cost = {
        at: price(usage, quote(full, "deepseek/deepseek-flash", at)).pusd
        for at in (SATURDAY, MONDAY_NOON, MONDAY_PEAK, NATIONAL_DAY)
    }
    assert cost == {
        SATURDAY: off_peak, MONDAY_NOON: off_peak, MONDAY_PEAK: 2 * off_peak, NATIONAL_DAY: off_peak
    }  # fmt: skip


def test_whole_costs_by_hand(full: Catalog) -> None:
    """Yuan at 0.1406, service tiers, and the tier that a long prompt moves everything to."""
    doubao = price(Usage(input=1_000, output=500), quote(full, "bytedance/doubao-seed-2.1-pro"))
    assert doubao.pusd == 2_952_600_000
    sol = quote(full, "openai/gpt-6.1-sol")
    by_tier = {None: 6_620_000_000, "flex": 3_310_000_000, "priority": 13_240_000_000}
    for tier, cost in by_tier.items():
        assert price(Usage(input=800, cache_read=200, output=500, service_tier=tier), sol).pusd == cost
    assert price(Usage(input=300_000, output=1_000), sol).pusd == 1_215_000_000_000
    assert quote(full, "xai/grok-4.3").service_tiers["batch"].as_text() == "4/5"


def test_service_tiers_are_those_that_a_request_is_read_for(full: Catalog) -> None:
    """What has a price here is reserved for when somebody asks for it."""
    named = {tier for d in full.deployments() for version in d.prices.versions for tier in version.service_tiers}
    assert named <= SERVICE_TIERS


def test_priors_are_complete_and_sourced(full: Catalog) -> None:
    """Every model says how good it is at anything, and where that comes from."""
    for name, model in full.models.items():
        assert "default" in model.quality, name
        assert model.quality_source, name
        assert all(0.0 <= value <= 0.97 for value in model.quality.values()), name


def test_specialists_are_not_general_models(full: Catalog) -> None:
    """Translators translate, intent classifiers do not chat."""
    for name, model in full.models.items():
        if "translator" in model.tags:
            assert model.quality_for("translation") >= 0.85, name
            assert model.quality_for("chitchat") <= 0.10, name
        if "classifier" in model.tags:
            assert max(model.quality_for(intent) for intent in INTENTS) <= 0.05, name


def chosen(catalog: Catalog, intent: str, providers: frozenset[str] = frozenset()) -> tuple[int, Model]:
    """The cheapest good enough one by `balanced`, for 1,000 tokens in and 500 visible out: (pUSD, model)."""
    policy = catalog.policies["balanced"]
    candidates = []
    for model, deployment in offered(catalog):
        if not providers or deployment.provider.name in providers:
            usage = Usage(input=1_000, output=500, reasoning=model.reasoning_for(intent))
            cost = price(usage, quote(catalog, deployment.id, SATURDAY)).pusd
            assert cost is not None
            candidates.append((model.quality_for(intent), cost, deployment.id, model))
    best = max(quality for quality, *_ in candidates)
    floor = max(policy.min_quality, policy.relative_to_best * best)
    cost, _, model = min((c, name, model) for quality, c, name, model in candidates if quality >= floor)
    return cost, model


@pytest.mark.parametrize("providers", [frozenset(), frozenset({"openai", "anthropic", "deepseek", "alibaba", "zhipu"})])
def test_everyday_is_cheap_and_hard_is_strong(full: Catalog, providers: frozenset[str]) -> None:
    """Small talk costs a tenth of the baseline; what it goes to would not be trusted with logic or law."""
    baseline = price(Usage(input=1_000, output=500), quote(full, "openai/gpt-6.1-sol")).pusd
    assert baseline is not None
    everyday = {intent: chosen(full, intent, providers) for intent in EVERYDAY}
    assert [intent for intent, (cost, _) in everyday.items() if cost * 10 > baseline] == []
    _, talker = everyday["chitchat"]
    for intent in HARD:
        _, expert = chosen(full, intent, providers)
        assert expert.quality_for(intent) >= 0.92, (intent, expert.name)
        assert talker.quality_for(intent) < expert.quality_for(intent) - 0.03, (intent, talker.name)


def test_small_models_are_close_in_talk_and_far_in_logic(full: Catalog) -> None:
    """The scale keeps good small models near the best in chat, old and tiny ones away from it, and spreads logic."""
    models = {model.name: model for model, _ in offered(full)}
    best = {intent: max(model.quality_for(intent) for model in models.values()) for intent in INTENTS}
    for name in ("gpt-6-luna", "glm-5.3-flash", "qwen3.8-flash", "deepseek-flash", "minimax-m3.1-flash"):
        assert all(models[name].quality_for(intent) >= 0.97 * best[intent] for intent in EVERYDAY), name
    for name in ("gpt-oss-120b", "qianfan-8b", "command-r7b", "ministral-8b", "gemini-2.5-flash-lite"):
        assert all(models[name].quality_for(intent) < 0.97 * best[intent] for intent in INTENTS), name
    assert models["ernie-5.1"].quality_for("chitchat") > 0.97 * best["chitchat"]
    assert models["ernie-5.1"].quality_for("logic") < 0.75 * best["logic"]


REFUSE_TOOLS = {"gpt-6.1-sol", "gpt-6-astra"}
"""Have no effort at which chat completions takes tools."""


def test_capabilities_are_those_of_the_wire(full: Catalog) -> None:
    """What a vendor offers only on a wire that we do not call it on is not promised."""
    for model, deployment in offered(full):
        provider, able = deployment.provider, deployment.capabilities or model.capabilities
        if provider.name == "openai" and provider.protocol == "openai_chat":
            assert ("tools" in able) is (model.name not in REFUSE_TOOLS), deployment.id
        if provider.name == "anthropic" and provider.protocol == "openai_chat":
            assert not able & {"json_object", "json_schema", "prompt_cache", "n", "logprobs"}, deployment.id
            assert "file" not in model.modalities, deployment.id


NARROWED = {
    ("openai", "tools_effort_none"): {"gpt-5.6-luna", "gpt-5.6-sol", "gpt-5.6-terra", "gpt-6-luna", "gpt-6.1-terra"},
    ("azure", "tools_effort_none"): {"gpt-5.6-luna", "gpt-6-luna", "gpt-6-luna-eu"},
    ("anthropic", "no_forced_tool_choice"): {"claude-sonnet-5-5"},
    ("anthropic", "no_sampling"): {"claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5", "claude-fable-5-1"},
    ("google", "no_sampling"): {"gemini-3.5-flash-lite", "gemini-3.8-flash", "gemini-4-argon"},
}


def test_narrowed_quirks_concern_exactly_their_models(full: Catalog) -> None:
    """A beginning that fits no name does nothing, one that is too short does too much: both show here."""
    told = {
        (provider.name, quirk): {
            d.model for d in full.deployments() if d.provider is provider and d.concerned_by(quirk)
        }
        for provider in full.providers.values()
        for quirk in sorted(NARROWED_QUIRKS)
        if provider.quirks.get(quirk)
    }
    assert told == NARROWED


def test_writes_are_expected_where_they_are_billed_unasked(full: Catalog) -> None:
    """Of those that ask more for what they write to the cache: OpenAI's models always do, others for what is marked."""
    dearer: set[str] = set()
    for one in full.deployments():
        quote = one.prices.quote(SATURDAY)
        if quote is not None and (quote.rates.cache_write_5m or 0) > (quote.rates.input or 0):
            dearer.add(one.provider.name)
    asked = {name for name in dearer if not MARKED_WRITES.isdisjoint(full.providers[name].quirks)}
    assert asked == {"alibaba", "anthropic", "bedrock", "minimax"}
    assert dearer - asked == {"openai", "azure"}


def test_mistral_and_zhipu_get_what_they_want(full: Catalog) -> None:
    """One refuses unknown fields and has its own word for the seed, the other streams tool calls only when asked."""
    assert {"strict_fields", "seed_field", "no_stream_options"} <= full.providers["mistral"].quirks.keys()
    assert full.providers["mistral"].quirks["seed_field"] == "random_seed"
    assert "tool_stream" in full.providers["zhipu"].quirks


def test_the_eu_data_zone_has_its_own_name(full: Catalog) -> None:
    """Its price is not that of the global deployment, whose price is unknown."""
    zone = full.models["gpt-6-luna-eu"]
    assert "eu-data-zone" in zone.tags
    assert zone.inactive_reason
    assert [d.id for d in zone.deployments] == ["azure/gpt-6-luna-eu"]
    assert quote(full, "azure/gpt-6-luna-eu").rates.cache_read == 12_000
    assert zone.quality == full.models["gpt-6-luna"].quality
    assert full.by_id["azure/gpt-6-luna"].prices.quote(SATURDAY) is None


def test_long_documents_find_a_window(full: Catalog) -> None:
    """A million tokens fit somewhere good; the file never promises more answer than window."""
    wide = [m for m, d in offered(full) if (d.context_tokens or m.context_tokens or 0) >= 1_000_000]
    assert len({model.name for model in wide if model.quality_for("summarization") >= 0.93}) >= 10
    for deployment in full.deployments():
        model = full.models[deployment.model]
        window = deployment.context_tokens or model.context_tokens or 0
        answer = deployment.output_tokens_max or model.output_tokens_max or 0
        assert 0 < answer <= window, deployment.id


def test_rates_are_never_negative_or_absurd(full: Catalog) -> None:
    """Output is at least as dear as input, cache reads never dearer: a swapped pair shows here."""

    def sane(rates: Rates) -> bool:
        fresh, answer, read = rates.input or 0, rates.output or 0, rates.cache_read or 0
        return fresh <= answer and read <= fresh

    swapped = [
        deployment.id
        for deployment in full.deployments()
        for version in deployment.prices.versions
        if not all(sane(rates) for rates in (version.rates, *(tier.rates for tier in version.tiers)))
    ]
    assert swapped == []


def test_the_file_is_readable_by_people() -> None:
    """No tabs, lines of at most 120 characters, and no key in sight."""
    text = REGISTRY.read_text(encoding="utf-8")
    assert "\t" not in text
    assert [number for number, line in enumerate(text.splitlines(), 1) if len(line) > 120] == []
    assert re.findall(r"api_key: (?!\$\{env:[A-Z0-9_]+\}$).*", text, re.MULTILINE) == []
