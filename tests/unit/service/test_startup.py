"""Before the first part is built: which registry, whether anybody can be called, who owns the data directory."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from scenery import NOW, a_catalog, a_model
from stage import ROOT, clean_environment, registry

from service.cache.memory import MemoryStore
from service.cache.redis_store import RedisStore
from service.config import Settings
from service.domain.catalog import CacheSpec, Provider
from service.errors import ConfigurationError, RegistryError
from service.house import SystemClock
from service.simulator import Script
from service.startup import (
    PACKAGED_REGISTRY,
    SOURCE_REGISTRY,
    InstanceRunning,
    check_cache,
    choose,
    find_local,
    only_spoken,
    open_cache,
    open_keys,
    open_ledger,
    own_instance,
    read_registry,
    refuse_unusable,
    registry_path,
)

WAITING = Provider("v", "https://v.example/v1", inactive_reason="set V_API_KEY", awaits_key=True)
KEYLESS = a_catalog(a_model("m", at=(WAITING,)))


def test_the_registry_file_in_order(tmp_path, monkeypatch):
    """The setting, then ./providers.yaml, then the one that ships."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COE_PROVIDERS", raising=False)
    assert registry_path(Settings()) == SOURCE_REGISTRY == ROOT / "providers.yaml"
    with monkeypatch.context() as installed:
        installed.setattr("service.startup.SOURCE_REGISTRY", tmp_path / "none.yaml")
        assert registry_path(Settings()) == PACKAGED_REGISTRY
    Path("providers.yaml").write_text("version: 1\n", encoding="utf-8")
    assert registry_path(Settings()) == Path("providers.yaml")
    assert registry_path(Settings(providers=Path("/elsewhere.yaml"))) == Path("/elsewhere.yaml")


def test_the_registry_ships_where_it_is_looked_for():
    """The wheel carries the file to the very path that an installed router reads."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    carried = build["targets"]["wheel"]["force-include"]
    assert carried == {"providers.yaml": str(PACKAGED_REGISTRY.relative_to(ROOT))}


def test_a_missing_or_wrong_file_is_a_registry_error(tmp_path):
    """With its name."""
    for content in (None, "version: 1\nproviderz: {}\n"):
        file = tmp_path / "providers.yaml"
        if content is not None:
            file.write_text(content, encoding="utf-8")
        with pytest.raises(RegistryError, match=r"providers\.yaml"):
            read_registry(Settings(providers=file), NOW)


def test_a_protocol_that_this_version_does_not_speak_is_inactive(vendors, tmp_path):
    """With its reason, and everywhere: a deployment that could be chosen would fail at its first request."""
    file = registry(tmp_path / "r.yaml", vendors({"alpha": Script(), "beta": Script()}))
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("protocol: openai_chat", "protocol: anthropic_messages", 1), encoding="utf-8")
    catalog = read_registry(Settings(providers=file), NOW)
    assert catalog.providers["alpha"].inactive_reason == "this version does not speak anthropic_messages"
    assert not catalog.by_id["alpha/alpha-model"].provider.active
    assert not catalog.models["alpha-model"].deployments[0].provider.active
    assert catalog.providers["beta"].active
    assert only_spoken(KEYLESS) is KEYLESS


def test_nobody_to_call_says_what_to_set():
    """The names of the variables, and the way out without any key."""
    with pytest.raises(ConfigurationError, match=r"V_API_KEY.*coe serve --simulate"):
        choose(KEYLESS, simulate=False, simulate_if_empty=False, now=NOW)
    many = a_catalog(
        *(a_model(f"m{n}", at=(replace(WAITING, name=f"v{n}", inactive_reason=f"set V{n}_KEY"),)) for n in range(9))
    )
    with pytest.raises(ConfigurationError, match=r"V5_KEY, …\."):
        refuse_unusable(many, NOW)


def test_the_simulator_stands_in_only_when_asked():
    """With `--simulate` always, with `--simulate-if-empty` only while nobody else can be called."""
    usable = a_catalog(a_model("m"))
    assert choose(usable, simulate=False, simulate_if_empty=True, now=NOW).simulator is None
    for catalog, flags in (
        (KEYLESS, {"simulate_if_empty": True, "simulate": False}),
        (usable, {"simulate": True, "simulate_if_empty": False}),
    ):
        served = choose(catalog, now=NOW, **flags)
        try:
            assert all(one.simulated and one.active for one in served.catalog.providers.values())
            assert all(one.base_url.startswith("http://127.0.0.1:") for one in served.catalog.providers.values())
        finally:
            served.simulator.stop()


def test_a_registry_that_can_not_be_simulated_says_so():
    """Rather than a simulator without vendors."""
    mute = replace(WAITING, protocol="gemini")
    with pytest.raises(ConfigurationError, match="no provider that can be simulated"):
        choose(a_catalog(a_model("m", at=(mute,))), simulate=True, simulate_if_empty=False, now=NOW)


async def test_local_engines_are_looked_for_only_when_wanted():
    """Switched off, the registry is returned as it is."""
    assert await find_local(KEYLESS, Settings(local_engines=False), 1) is KEYLESS


def test_one_instance_owns_a_data_directory(tmp_path):
    """Another process is refused with what to do; the lock ends with its holder."""
    directory = tmp_path / "data"
    held = own_instance(directory)
    script = (
        f"from pathlib import Path; from service.startup import own_instance; own_instance(Path({str(directory)!r}))"
    )
    second = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=clean_environment(), cwd=ROOT, check=False
    )
    assert second.returncode != 0
    assert "another router uses" in second.stderr
    with pytest.raises(InstanceRunning, match="COE_DATA_DIR"):
        own_instance(directory)
    os.close(held)
    os.close(own_instance(directory))
    assert directory.stat().st_mode & 0o777 == 0o700


def test_keys_open_with_a_pepper_of_their_own_or_the_given_one(tmp_path):
    """A weak one is refused; a key made under one pepper is unknown under another."""
    store = open_keys(Settings(data_dir=tmp_path / "a"))
    assert not store.keys_exist()
    with pytest.raises(ConfigurationError):
        open_keys(Settings(data_dir=tmp_path / "b", key_pepper="short"))


async def test_a_cache_lies_where_it_is_told_and_holds_what_the_registry_allows(tmp_path):
    """In memory, or in Redis; a URL that can't be meant stops the start."""
    spec = CacheSpec(ttl_s=60, memory_bytes=5_000)
    plain = Settings(data_dir=tmp_path)
    keys = open_keys(plain)
    cache = open_cache(plain, keys, SystemClock(), spec)
    assert isinstance(cache._store, MemoryStore)
    assert cache._store._limit_bytes == 5_000
    assert open_cache(plain, keys, SystemClock(), None)._store._limit_bytes == 0
    shared = Settings(data_dir=tmp_path, cache_url="redis://127.0.0.1:9")
    assert isinstance(open_cache(shared, keys, SystemClock(), spec)._store, RedisStore)
    check_cache(plain)
    check_cache(shared)
    with pytest.raises(ConfigurationError, match="COE_CACHE_URL"):
        check_cache(Settings(data_dir=tmp_path, cache_url="http://canary"))


def test_the_ledger_is_indexed_where_the_settings_say(tmp_path):
    """In the data directory unless a URL says otherwise; one that nobody knows is refused, and not repeated."""
    assert open_ledger(Settings(data_dir=tmp_path)).path == tmp_path / "ledger.sqlite"
    elsewhere = open_ledger(Settings(data_dir=tmp_path, ledger_url=f"sqlite:///{tmp_path}/other"))
    assert elsewhere.path == tmp_path / "other"
    with pytest.raises(ConfigurationError, match="postgresql://") as refused:
        open_ledger(Settings(data_dir=tmp_path, ledger_url="oracle://me:geheim@db"))
    assert "geheim" not in str(refused.value)
