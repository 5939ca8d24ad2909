"""A simulated catalogue: what changes, what stays, and one call through it."""

from datetime import UTC, datetime

import httpx

from service.domain.catalog import Catalog, Deployment, Model, PolicySpec, Provider
from service.domain.money import Rates
from service.domain.prices import PriceBook, PriceVersion
from service.simulator.registry import KEY, NOTE, scripts_for, simulated
from service.simulator.script import UsageShape
from service.simulator.server import SimulatedVendors

PRICE = PriceVersion(start=datetime(2026, 1, 1, tzinfo=UTC), rates=Rates(input=150_000, output=600_000))

PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("keyed", "https://keyed.example/v1", api_keys=("sk-real",), headers={"X-Secret": "s"}),
        Provider("keyless", "https://keyless.example/v1", inactive_reason="set K to use it", awaits_key=True),
        Provider("off", "https://off.example/v1", inactive_reason="no public API found"),
        Provider("off-with-key", "https://off2.example/v1", api_keys=("sk-real",), inactive_reason="too dear"),
        Provider("claude", "https://claude.example", protocol="anthropic_messages", api_keys=("sk-real",)),
        Provider("deepseek", "https://d.example/v1", quirks={"cached_tokens": "prompt_cache_hit_tokens"}),
        Provider("moonshot", "https://m.example/v1", quirks={"cached_tokens": "cached_tokens", "max_tokens": ""}),
        Provider("xai", "https://x.example/v1", quirks={"reasoning_beside": ""}),
    )
}


def catalogue():
    """One model at every provider, and one that is switched off."""

    def at(provider, model):
        return Deployment(provider, model, f"{provider.name}-{model}", PriceBook(f"{provider.name}/{model}", (PRICE,)))

    big = Model("big", tuple(at(provider, "big") for provider in PROVIDERS.values()))
    gone = Model("gone", (at(PROVIDERS["keyed"], "gone"),), inactive_reason="gone")
    models = {"big": big, "gone": gone}
    return Catalog(
        providers=dict(PROVIDERS),
        models=models,
        policies={"balanced": PolicySpec("balanced")},
        version="abc",
        by_id={one.id: one for model in models.values() for one in model.deployments},
    )


def test_who_is_simulated():
    """Active ones and those that lack a key; not the disabled, not other protocols."""
    made = simulated(catalogue(), lambda name: f"http://127.0.0.1:1/{name}/v1")
    assert [name for name, provider in made.providers.items() if provider.simulated] == [
        "keyed",
        "keyless",
        "deepseek",
        "moonshot",
        "xai",
    ]
    for name in ("off", "off-with-key", "claude"):
        assert made.providers[name] == PROVIDERS[name]
    assert made.providers["keyless"].active
    assert made.providers["xai"].base_url == "http://127.0.0.1:1/xai/v1"


def test_no_secret_reaches_the_simulator():
    """Neither keys nor headers of the real account."""
    keyed = simulated(catalogue(), lambda name: name).providers["keyed"]
    assert (keyed.api_keys, keyed.headers) == ((KEY,), {})


def test_everything_else_stays():
    """Prices, wire names, reasons, quirks, version, policies; deployments and index point to the new providers."""
    before = catalogue()
    made = simulated(before, lambda name: f"http://{name}")
    assert list(made.by_id) == list(before.by_id)
    for identity, deployment in made.by_id.items():
        assert deployment.provider is made.providers[deployment.provider.name]
        assert deployment.prices is before.by_id[identity].prices
        assert deployment.wire_name == before.by_id[identity].wire_name
    assert made.models["big"].deployments[0] is made.by_id["keyed/big"]
    assert made.models["gone"].inactive_reason == "gone"
    assert made.providers["moonshot"].quirks == PROVIDERS["moonshot"].quirks
    assert (made.version, made.policies, made.notes) == (before.version, before.policies, (NOTE,))
    assert before.providers["keyed"].base_url == "https://keyed.example/v1"


def test_scripts_spell_usage_as_the_vendor_does():
    """By the quirks of the registry; each serves its own wire names."""
    scripts = scripts_for(catalogue())
    assert list(scripts) == ["keyed", "keyless", "deepseek", "moonshot", "xai"]
    assert {name: script.default.usage for name, script in scripts.items()} == {
        "keyed": UsageShape.OPENAI,
        "keyless": UsageShape.OPENAI,
        "deepseek": UsageShape.DEEPSEEK,
        "moonshot": UsageShape.TOP_LEVEL_CACHED,
        "xai": UsageShape.XAI,
    }
    assert scripts["keyed"].models == ("keyed-big", "keyed-gone")


async def test_a_call_through_the_catalogue(ask):
    """Base URL, key and wire name of a simulated deployment get an answer; a real key does not."""
    async with SimulatedVendors(scripts_for(catalogue())) as simulator, httpx.AsyncClient() as client:
        one = simulated(catalogue(), simulator.base_url).by_id["keyless/big"]
        url = f"{one.provider.base_url}/chat/completions"
        good = {"Authorization": f"Bearer {one.provider.api_keys[0]}"}
        assert (await client.post(url, json=ask(model=one.wire_name), headers=good)).status_code == 200
        assert (await client.post(url, json=ask(model="other"), headers=good)).status_code == 404
        bad = {"Authorization": "Bearer sk-real"}
        assert (await client.post(url, json=ask(model=one.wire_name), headers=bad)).status_code == 401
