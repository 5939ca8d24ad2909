"""Engines on loopback: who is found, who is not taken for one, and what the catalogue becomes."""

import asyncio
import json
import time
from datetime import UTC, datetime

import pytest

from service.domain.catalog import Catalog, Deployment, Model, PolicySpec, Provider
from service.domain.money import Usage, price
from service.domain.prices import PriceBook
from service.simulator import ErrorShape, Fault, Script, SimulatedVendors, VendorScript, http_error
from service.upstream import local_engines
from service.upstream.local_engines import (
    BODY_BYTES_MAX,
    FREE_SOURCE,
    MODELS_MAX,
    OLLAMA_CONTEXT_TOKENS,
    FoundEngine,
    FoundModel,
    candidates,
    discover,
    guessed_quality,
    identify,
    loopback_get,
    with_local_engines,
)

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def engine(owner, *models, **more):
    """A simulated engine."""
    return VendorScript(models=models, owned_by=owner, **more)


def listing(*entries, **more):
    """The bytes of a model list; an entry is (id, owner) or a whole object."""
    data = [entry if isinstance(entry, dict) else {"id": entry[0], "owned_by": entry[1]} for entry in entries]
    return json.dumps({"object": "list", "data": data, **more}).encode()


def catalogue(*providers, models=()):
    """A registry with these providers and models."""
    return Catalog(
        providers={provider.name: provider for provider in providers},
        models={model.name: model for model in models},
        policies={"balanced": PolicySpec("balanced")},
        version="abc",
        by_id={one.id: one for model in models for one in model.deployments},
    )


@pytest.fixture
def patient(monkeypatch):
    """A deadline that a busy test machine keeps; for engines that do answer."""
    monkeypatch.setattr(local_engines, "PROBE_S", 10.0)


async def test_engines_on_real_sockets(patient):
    """The four engines by what their lists say, in the order asked, with the context they report."""
    engines = {
        "o": engine("library", "qwen3:32b"),
        "v": engine("vllm", "Qwen/Qwen3-8B", model_fields={"Qwen/Qwen3-8B": {"max_model_len": 32768}}),
        "l": engine("llamacpp", "a.gguf", model_fields={"a.gguf": {"meta": {"n_ctx": 8192, "n_ctx_train": 131072}}}),
        "s": engine("organization_owner", "gemma-4-31b"),
    }
    async with SimulatedVendors(engines) as simulator:
        urls = [simulator.base_url(name) for name in engines]
        found = await discover(loopback_get, [*urls, urls[0]])
        seen = [(request.method, request.path) for request in simulator.log]
    assert [one.engine for one in found] == ["ollama", "vllm", "llamacpp", "lmstudio"]
    assert [one.base_url for one in found] == urls
    assert [one.models[0].context_tokens for one in found] == [OLLAMA_CONTEXT_TOKENS, 32768, 8192, None]
    assert seen == [("GET", "/v1/models")] * 4


async def test_silence_costs_one_probe_and_no_more():
    """Candidates that never answer, drip, refuse or redirect: together they take less than the silent ones in turn."""
    bad = [
        Script(fault=Fault.SILENCE),
        Script(fault=Fault.SILENCE_AFTER_HEADERS),
        Script(fault=Fault.ONLY_COMMENTS),
        Script(header_delay_s=60),
        Script(fault=Fault.REDIRECT, location="http://127.0.0.1:1/v1/models"),
        http_error(500),
        Script(fault=Fault.RESET),
        Script(fault=Fault.RAW, raw=b"SSH-2.0-x\r\n"),
    ]
    silent = [Script(fault=Fault.SILENCE)] * 8
    engines = {f"e{number}": engine("vllm", "m", model_list=script) for number, script in enumerate(silent + bad)}
    engines["refuses"] = Script(fault=Fault.REFUSE)
    async with SimulatedVendors(engines) as simulator:
        started = time.monotonic()
        found = await discover(loopback_get, [simulator.base_url(name) for name in engines])
        took = time.monotonic() - started
    assert found == ()
    assert took < len(silent) * local_engines.PROBE_S


@pytest.mark.parametrize(
    "script",
    [
        Script(fault=Fault.HTML),
        Script(fault=Fault.EMPTY),
        Script(fault=Fault.GIANT_LINE, giant_bytes=BODY_BYTES_MAX),
        http_error(200, shape=ErrorShape.CODE_MSG),
    ],
)
async def test_answers_that_are_no_list(patient, script):
    """A 200 is not enough, and a huge one is not read."""
    async with SimulatedVendors({"e": engine("vllm", "m", model_list=script)}) as simulator:
        assert await discover(loopback_get, [simulator.base_url("e")]) == ()


async def test_strangers_and_ourselves_are_no_engines(patient):
    """A gateway on a usual port costs money; another coe-router is no engine."""
    marked = {"m": {"owned_by": "vllm", "x_coe": {"context_tokens": 1}}}
    engines = {
        "gateway": engine("openai", "gpt-6"),
        "self": engine("coe-router", "auto"),
        "marked": engine("vllm", "m", model_fields=marked),
        "mixed": engine("vllm", "m", "n", model_fields={"n": {"owned_by": "library"}}),
        "empty": engine("vllm"),
    }
    async with SimulatedVendors(engines) as simulator:
        assert await discover(loopback_get, [simulator.base_url(name) for name in engines]) == ()


async def test_only_loopback_is_asked():
    """Checked before anything is sent, for every address."""
    asked = []

    async def get(url):
        asked.append(url)

    for base_url in ("http://192.0.2.1:11434/v1", "http://ollama.example/v1", "http://169.254.169.254/v1"):
        with pytest.raises(ValueError, match="loopback"):
            await discover(get, ["http://127.0.0.1:11434/v1", base_url])
    assert asked == []
    await discover(get, ["http://localhost:1/v1", "http://[::1]:1/v1"])
    assert asked == ["http://localhost:1/v1/models", "http://[::1]:1/v1/models"]


async def test_probes_run_at_once():
    """Every GET is under way before the first one ends."""
    started = []
    everybody = asyncio.Event()

    async def get(url):
        started.append(url)
        if len(started) == 4:
            everybody.set()
        async with asyncio.timeout(2):
            await everybody.wait()

    await discover(get, [f"http://127.0.0.1:{port}/v1" for port in range(1, 5)])
    assert len(started) == 4


def test_candidates_leave_out_our_own_port():
    """Else a router would ask itself while it starts."""
    assert "http://127.0.0.1:8000/v1" in candidates(None)
    assert "http://127.0.0.1:8000/v1" not in candidates(8000)
    assert "http://127.0.0.1:11434/v1" in candidates(8000)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'{"data": {}}', b'{"data": [1, {"id": 2}]}', b"[" * 50_000, b"\xff"]
)
def test_garbage_is_no_engine(body):
    """Whatever listens there."""
    assert identify("http://127.0.0.1:1/v1", body) is None


def test_models_that_are_not_taken():
    """Forwarded to a cloud, not for chat, foreign owners, absurd names: left out and counted; the rest is taken."""
    ollama = identify(
        "u",
        listing(
            ("qwen3:32b", "library"),
            ("someone/tuned:7b", "someone"),
            ("gpt-oss:120b-cloud", "library"),
            ("glm-5:cloud", "library"),
            ("nomic-embed-text:latest", "library"),
            ("bad\nname", "library"),
            ("x" * 201, "library"),
        ),
    )
    assert [model.wire_name for model in ollama.models] == ["qwen3:32b", "someone/tuned:7b"]
    assert ollama.left_out == 5
    vllm = identify("u", listing(("a", "vllm"), ("b", "somebody")))
    assert [model.wire_name for model in vllm.models] == ["a"]
    assert identify("u", listing(("a", "vllm"), x_coe={})) is None
    assert identify("u", listing(("nomic-embed-text", "library"))) is None


def test_number_of_models_is_bounded():
    """The first ones count."""
    many = identify("u", listing(*((f"m{number}", "vllm") for number in range(MODELS_MAX + 7))))
    assert (len(many.models), many.left_out) == (MODELS_MAX, 7)


@pytest.mark.parametrize("said", ["4096", -1, 0, True, 1.5, None])
def test_odd_context_is_no_context(said):
    """An engine may say anything."""
    (model,) = identify("u", listing({"id": "m", "owned_by": "vllm", "max_model_len": said})).models
    assert model.context_tokens is None


@pytest.mark.parametrize(
    ("name", "quality"),
    [
        ("qwen3:0.6b", 0.40),
        ("gemma3:4b", 0.50),
        ("llama3.1:8b-instruct-q4_K_M", 0.60),
        ("Qwen/Qwen3-8B", 0.60),
        ("gpt-oss:20b", 0.70),
        ("qwen3-30b-a3b", 0.70),
        ("qwen3:32b", 0.70),
        ("llama3.3:70b", 0.75),
        ("mixtral:8x7b", 0.75),
        ("gpt-oss:120b", 0.78),
        ("llama-70b-draft-1b", 0.75),
        ("mistral-small", 0.60),
        ("web2b4c", 0.60),
    ],
)
def test_quality_guess(name, quality):
    """By the larger parameter count in the name; never at the default policy's 0.80."""
    guess, source = guessed_quality(name)
    assert guess == quality
    assert source.startswith("guess")


OLLAMA = FoundEngine("ollama", "http://127.0.0.1:11434/v1", (FoundModel("qwen3:32b", 4096), FoundModel("x/y:7B")))


def test_found_models_become_usable_deployments():
    """A private provider without a key, and an explicit zero price: cost 0, not unknown."""
    made = with_local_engines(catalogue(), [OLLAMA])
    provider = made.providers["ollama"]
    assert (provider.base_url, provider.region, provider.tags) == (OLLAMA.base_url, "onprem", frozenset({"private"}))
    assert provider.active
    assert provider.api_keys == ()
    one = made.by_id["ollama/qwen3-32b"]
    assert (one.wire_name, one.provider) == ("qwen3:32b", provider)
    quote = one.prices.quote(NOW)
    assert quote.known
    assert price(Usage(input=10**6, cache_read=5, output=10**6, reasoning=7), quote).pusd == 0
    assert one.prices.versions[0].source == FREE_SOURCE
    model = made.models["qwen3-32b"]
    assert (model.quality, model.context_tokens) == ({"default": 0.70}, 4096)
    assert "tools" not in model.capabilities
    assert "y-7b" in made.models
    assert made.notes == ("local engine Ollama at http://127.0.0.1:11434/v1: 2 models added",)


def test_nothing_found_changes_nothing():
    """Not even the version: decisions stay reproducible."""
    before = catalogue()
    assert with_local_engines(before, []) is before


def test_version_tells_what_was_found():
    """Other models, other version; the file's hash stays readable in it."""
    versions = {
        with_local_engines(catalogue(), [FoundEngine("vllm", "http://127.0.0.1:8001/v1", (FoundModel(name),))]).version
        for name in ("a", "b")
    }
    assert len(versions) == 2
    assert all(version.startswith("abc+local.") for version in versions)


def test_declared_entries_stay_as_they_are():
    """The provider at that address, by any loopback name; its declared model; a foreign model of the same name."""
    declared = Provider("own", "http://localhost:11434/v1", title="Mine", region="eu")
    elsewhere = Provider("cloud", "https://cloud.example/v1")
    mine = Model("big-one", (Deployment(declared, "big-one", "qwen3:32b", PriceBook("own/big-one")),))
    other = Model("y-7b", (Deployment(elsewhere, "y-7b", "y", PriceBook("cloud/y-7b")),))
    before = catalogue(declared, elsewhere, models=(mine, other))
    made = with_local_engines(before, [OLLAMA])
    assert dict(made.providers) == dict(before.providers)
    assert made.models["big-one"] is mine
    assert made.models["y-7b"] is other
    assert list(made.models) == ["big-one", "y-7b", "y-7b-own"]
    assert made.by_id["own/y-7b-own"].provider is declared


def test_a_taken_provider_name_gets_the_port():
    """Declared at 8000 and found at 8001: two providers, the declared one untouched."""
    declared = Provider("vllm", "http://localhost:8000/v1")
    found = FoundEngine("vllm", "http://127.0.0.1:8001/v1", (FoundModel("m"),))
    made = with_local_engines(catalogue(declared), [found])
    assert made.providers["vllm"] is declared
    assert made.providers["vllm-8001"].base_url == found.base_url


def test_a_disabled_provider_gets_no_models():
    """Who switched it off meant it."""
    declared = Provider("ollama", "http://127.0.0.1:11434/v1", inactive_reason="not here")
    before = catalogue(declared)
    assert with_local_engines(before, [OLLAMA]) is before


def test_equal_names_within_an_engine_stay_apart():
    """Two tags that become one registry name."""
    found = FoundEngine(
        "ollama", OLLAMA.base_url, (FoundModel("a:1"), FoundModel("a-1"), FoundModel("A_1"), FoundModel("///"))
    )
    made = with_local_engines(catalogue(), [found])
    assert list(made.models) == ["a-1", "a-1-ollama", "a-1-ollama-2", "model"]
    assert [one.wire_name for one in made.by_id.values()] == ["a:1", "a-1", "A_1", "///"]
