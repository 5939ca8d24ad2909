"""Entries and environment to the catalogue: keys, reasons, policies, routes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest

from service.domain.catalog import (
    CacheSpec,
    Catalog,
    PolicySpec,
    Provider,
    ProviderLimits,
    RouteCondition,
    RouteSpec,
    Selector,
    Timeouts,
)
from service.domain.limits import Budget, Limits

LoadText = Callable[..., Catalog]

CANARY = "sk-canary-7f3a"


def provider(load_text: LoadText, fields: str, environ: dict[str, str]) -> Provider:
    """A provider with these fields (flow style) in this environment."""
    text = f"version: 1\nproviders: {{p: {{base_url: 'https://p.example.com/v1/', {fields}}}}}\n"
    return load_text(text, environ).providers["p"]


def test_a_provider_comes_out_whole(load_text: LoadText, example: str) -> None:
    """Every field of the file is where the domain keeps it."""
    found = load_text(example, {"DEEPSEEK_API_KEY": CANARY}).providers["deepseek"]
    assert found == Provider(
        name="deepseek",
        base_url="https://api.deepseek.com/v1",
        protocol="openai_chat",
        api_keys=(CANARY,),
        region="cn",
        tags=frozenset({"public-cloud"}),
        timeouts=Timeouts(4.0, 20.0, 25.0, 500.0),
        limits=ProviderLimits(200, 3000, 2_000_000),
        quirks={"cached_tokens": "prompt_cache_hit_tokens", "max_tokens": ""},
        headers={"x-team": "router"},
    )
    assert found.active


@pytest.mark.parametrize(
    ("api_key", "environ", "keys", "reason"),
    [
        ("'${env:A}'", {}, (), "set A to use it"),
        ("'${env:A}'", {"A": ""}, (), "set A to use it"),
        ("'${env:A}'", {"A": "  \n"}, (), "set A to use it"),
        ("'${env:A}'", {"A": f" {CANARY}\n"}, (CANARY,), None),
        (
            "'${env:A}'",
            {"A": f"{CANARY}\nx: y"},
            (),
            "the value of A holds characters that no header can carry; set it again",
        ),
        (
            "'${env:A}'",
            {"A": f"{CANARY}é"},
            (),
            "the value of A holds characters that no header can carry; set it again",
        ),
        ("['${env:A}', '${env:B}']", {}, (), "set A or B to use it"),
        ("['${env:A}', '${env:B}']", {"B": "b"}, ("b",), None),
        ("['${env:A}', '${env:B}']", {"A": "a", "B": "b"}, ("a", "b"), None),
        ("['${env:A}', '${env:B}']", {"A": "a", "B": "a"}, ("a",), None),
    ],
)
def test_keys_come_from_the_environment(
    load_text: LoadText, api_key: str, environ: dict[str, str], keys: tuple[str, ...], reason: str | None
) -> None:
    """An unset key makes the provider inactive and names what to set; it is no error, and no key shows anywhere."""
    found = provider(load_text, f"api_key: {api_key}", environ)
    assert found.api_keys == keys
    assert found.inactive_reason == reason
    assert found.active == (reason is None)
    assert found.awaits_key == (reason is not None)
    assert CANARY not in repr(found)


def test_a_provider_without_api_key_needs_none(load_text: LoadText) -> None:
    """Loopback or not: no field, no key."""
    found = provider(load_text, "region: eu", {})
    assert found.active
    assert found.api_keys == ()
    assert found.base_url == "https://p.example.com/v1"


def test_headers_from_the_environment(load_text: LoadText) -> None:
    """A header may come from the environment; unset, the provider is inactive; its value never shows."""
    fields = "headers: {api-key: '${env:A}', x-version: '2026-01-01'}"
    found = provider(load_text, fields, {"A": CANARY})
    assert found.headers == {"api-key": CANARY, "x-version": "2026-01-01"}
    assert CANARY not in repr(found)
    missing = provider(load_text, fields, {})
    assert missing.inactive_reason == "set A to use it"
    assert missing.headers == {"x-version": "2026-01-01"}


def test_disabled_wins_over_a_missing_key(load_text: LoadText) -> None:
    """What the file switches off keeps its reason, and doesn't wait for a key."""
    found = provider(load_text, "api_key: '${env:A}', enabled: false, disabled_reason: closed", {})
    assert found.inactive_reason == "closed"
    assert not found.awaits_key


def test_models_and_deployments(load_text: LoadText, example: str) -> None:
    """Numbers, sets, priors; a host's own capabilities; a disabled model disables its deployments with its reason."""
    catalog = load_text(example)
    flash = catalog.models["deepseek-flash"]
    assert (flash.context_tokens, flash.output_tokens_max) == (1_000_000, 65_536)
    assert flash.capabilities == {"tools", "json_object", "json_schema", "reasoning"}
    assert flash.quality == {"default": 0.78, "coding": 0.8, "translation": 0.86}
    assert flash.reasoning_tokens == {"default": 200, "math": 3000}
    assert flash.retires == date(2027, 3, 1)
    assert [one.id for one in flash.deployments] == ["deepseek/deepseek-flash", "bailian/deepseek-flash"]
    assert flash.deployments[0].capabilities is None
    assert flash.deployments[1].capabilities == frozenset({"tools"})
    assert flash.deployments[1].wire_name == "deepseek-v4-flash"
    assert catalog.by_id["bailian/deepseek-flash"] is flash.deployments[1]
    secret = catalog.models["secret-lab"]
    assert secret.inactive_reason == "no public API"
    assert secret.deployments[0].inactive_reason == "no public API"


def test_policies_and_the_built_in_ones(load_text: LoadText, example: str) -> None:
    """`auto:cheap` and `auto:best` always exist; what the file writes under a built-in name counts."""
    policies = load_text(example).policies
    assert set(policies) == {"balanced", "cheap", "best", "private", "careful"}
    assert policies["balanced"] == PolicySpec("balanced", min_quality=0.7, relative_to_best=0.97)
    assert policies["cheap"] == PolicySpec("cheap", min_quality=0.6)
    assert policies["best"] == PolicySpec("best", "max_quality", max_cost_pusd=500_000_000_000)
    assert policies["private"].allow == Selector(tags=frozenset({"private"}))
    assert policies["careful"] == PolicySpec(
        "careful",
        "max_quality",
        max_cost_pusd=500_000_000_000,
        max_latency_ms=9_000,
        deny=Selector(regions=frozenset({"cn"})),
    )


def test_routes_in_order(load_text: LoadText, example: str) -> None:
    """One text or a list, the order of the file."""
    assert load_text(example).routes == (
        RouteSpec("hr", RouteCondition(key_tags=frozenset({"hr"})), policy="private"),
        RouteSpec(
            "contracts",
            RouteCondition(intents=frozenset({"translation"}), languages=frozenset({"zh", "en"})),
            plan="draft_polish",
        ),
        RouteSpec("pinned", RouteCondition(models=frozenset({"auto:private"})), model="local/qwen-onprem"),
    )


def test_the_same_file_gives_an_equal_catalogue(load_text: LoadText, example: str) -> None:
    """Reload of an unchanged file changes nothing; one more byte is another version."""
    assert load_text(example) == load_text(example)
    assert load_text(example).version != load_text(example + "#").version


def test_notes_tell_what_is_odd(load_text: LoadText, example: str) -> None:
    """Plain http with a key, names that nothing carries, tiers without a cache price: said, not refused."""
    text = example.replace("https://dashscope.example.com", "http://dashscope.example.com")
    text = text.replace("allow: {tags: [private]}", "allow: {tags: [certified], regions: [mars]}")
    assert load_text(text).notes == (
        "policies.private.allow.regions: no provider or model carries the region 'mars'",
        "policies.private.allow.tags: no provider or model carries the tag 'certified'",
        "providers.bailian: the key travels over plain http; use https outside your own network",
        (
            "deepseek/deepseek-flash from 2026-07-24: a tier states no cache_read; "
            "cached input counts at the tier's input price"
        ),
    )


def test_a_policy_of_worth_and_floors_by_intent(load_text: LoadText, example: str) -> None:
    """USD become pico-USD, exactly."""
    line = "  worth: {objective: utility, usd_per_quality: 0.000000000007, min_quality_for: {coding: 0.9}}\n"
    policies = load_text(example.replace("policies:\n", "policies:\n" + line)).policies
    assert policies["worth"] == PolicySpec("worth", "utility", min_quality_for={"coding": 0.9}, pusd_per_quality=7)


def test_budgets_in_order(load_text: LoadText, example: str) -> None:
    """Amounts to the last digit, as pico-USD; without a tag they are everybody's."""
    assert load_text(example).budgets == (
        Budget("whole-router", Limits(month_pusd=5000 * 10**12)),
        Budget("interns", Limits(20_500_000_000_000, None, 60, 200_000, 8, soft=True), tag="interns"),
    )
    odd = "budgets: [{name: a, usd_per_day: 3999999.999999999999}, {name: b, usd_per_month: 0.3, concurrency: 0, stop: true}]\n"
    assert load_text("version: 1\n" + odd).budgets == (
        Budget("a", Limits(day_pusd=4_000_000 * 10**12 - 1)),
        Budget("b", Limits(month_pusd=300_000_000_000, concurrency=0), stop=True),
    )
    assert load_text("version: 1\n").budgets == ()


def test_a_cache_is_off_unless_it_is_written(load_text: LoadText) -> None:
    """Of it only how long must be said; it changes nothing that is decided."""
    bare = load_text("version: 1\n")
    assert bare.cache is None
    assert load_text("version: 1\ncache: {ttl_s: 60}\n").cache == CacheSpec(60, 262_144, 67_108_864, sampled=False)
    every = load_text("version: 1\ncache: {ttl_s: 1, answer_bytes_max: 1024, memory_bytes: 2048, sampled: true}\n")
    assert every.cache == CacheSpec(1, 1_024, 2_048, sampled=True)
    assert every.offer == bare.offer


def test_a_budget_is_no_other_offer(load_text: LoadText, example: str) -> None:
    """It changes who is let through, and nothing about models and prices; the file is another all the same."""
    without = load_text(example.partition("budgets:")[0])
    assert without.offer == load_text(example).offer
    assert without.version != load_text(example).version
    assert load_text(example.replace("min_quality: 0.70", "min_quality: 0.71")).offer != without.offer
