"""Engines on this machine: find the OpenAI-compatible ones on loopback, and add what they serve to the catalogue.

Where on the path: the composition root, at start-up, after the registry is loaded and before the router is built.

An engine is known by what its model list says (`owned_by`), not by its port alone: a stranger on a usual port may be a
gateway to paid models, and must not be taken for a private engine that costs nothing. Its answers are bounded and
nothing but GET /v1/models is asked.

Invariants
1. Only loopback addresses are asked, each once, for at most `PROBE_S`, and at most `BODY_BYTES_MAX` bytes are read.
2. coe-router is never taken for an engine, also not another instance of it.
3. What the registry declares stays as it is: its providers, its models, their order. Found models come after them.
4. Names that an engine forwards elsewhere (Ollama's `-cloud`) are left out: `private` must mean private.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from service.domain.catalog import Catalog, Deployment, Model, Provider, Timeouts
from service.domain.hosts import is_loopback
from service.domain.money import Rates
from service.domain.prices import PriceBook, PriceVersion

PROBE_S = 1.0
"""For one whole probe. A local engine answers its model list in a few milliseconds, also while it generates."""

MODELS_MAX = 200
"""Models taken from one engine."""

BODY_BYTES_MAX = 1024 * 1024
"""Of a model list; 200 models take about 60 KB."""

NAME_CHARACTERS_MAX = 200
"""Of a model's wire name; longer ones are left out."""

PORTS = (11434, 8000, 8001, 8080, 1234)
"""Where engines usually listen: Ollama, vLLM, vLLM moved away from our own port, llama.cpp, LM Studio."""

OWNERS: Mapping[str, str] = {
    "library": "ollama",
    "vllm": "vllm",
    "llamacpp": "llamacpp",
    "organization_owner": "lmstudio",
}
"""The engine, by what it writes into `owned_by`."""

TITLES: Mapping[str, str] = {"ollama": "Ollama", "vllm": "vLLM", "llamacpp": "llama.cpp", "lmstudio": "LM Studio"}

CAPABILITIES: Mapping[str, frozenset[str]] = {
    "ollama": frozenset({"json_object", "json_schema"}),
    "vllm": frozenset({"json_object", "json_schema"}),
    "llamacpp": frozenset({"json_object", "json_schema"}),
    "lmstudio": frozenset({"json_schema"}),  # it answers 400 to json_object
}
"""What the engine itself gives to any model, by constrained decoding. Tools depend on model and flags: declare them."""

OLLAMA_CONTEXT_TOKENS = 4096
"""Ollama's smallest default window. It cuts a longer prompt without a word, so only what surely fits may be sent."""

OWN_MARK = "x_coe"
"""The member that coe-router's own model list carries."""

FREE_SOURCE = "own hardware: electricity not counted"
"""An explicit zero, because an unknown price would bar these models under every budget, and no invoice will come for
them. Who wants to count the hardware declares the model in providers.yaml with `self_hosted`."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""The zero price has always applied."""

ENGINE_TIMEOUTS = Timeouts(connect_s=1.0, first_token_s=120.0, idle_s=60.0, total_s=600.0)
"""Connecting is instant on loopback; the first token may have to wait until the weights are loaded from disk."""

QUALITY_BY_BILLIONS: Sequence[tuple[float, float]] = (
    (2, 0.40),
    (5, 0.50),
    (10, 0.60),
    (20, 0.65),
    (40, 0.70),
    (80, 0.75),
)
"""A guess at P(acceptable): the first line whose size (in billions of parameters, exclusive) is above the model's."""

QUALITY_LARGEST = 0.78
"""Beyond the last line of `QUALITY_BY_BILLIONS`."""

QUALITY_UNKNOWN = 0.60
"""When the name tells no size. Under the 0.80 that the default policy wants: a guess must not win by itself."""

NOT_FOR_CHAT = ("embed", "rerank", "whisper", "tts", "bge-", "clip")
"""Parts of names of models that answer no chat."""

SIZE = re.compile(r"(?<![a-z0-9.])(?:(\d{1,3})x)?(\d{1,4}(?:\.\d+)?)b(?![a-z0-9])")
CLOUD = re.compile(r"[-:]cloud$")

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody. Loopback needs no TLS, and reading the system's certificates takes longer than a whole probe may."""

Get = Callable[[str], Awaitable[bytes | None]]
"""GET a URL: the body of a 200, or `None` for anything else. Bounded in time and size by who provides it."""


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that an engine serves. `context_tokens` is `None` when the engine doesn't say."""

    wire_name: str
    context_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class FoundEngine:
    """An engine: its kind (a key of `TITLES`), where it is, what it serves. `left_out` counts models not taken."""

    engine: str
    base_url: str
    models: tuple[FoundModel, ...]
    left_out: int = 0


def candidates(own_port: int | None) -> tuple[str, ...]:
    """Base URLs worth asking: the usual ports but our own."""
    return tuple(f"http://127.0.0.1:{port}/v1" for port in PORTS if port != own_port)


async def loopback_get(url: str) -> bytes | None:
    """A `Get` over the network: no proxies, no redirects, limits of this module. Silence and refusal give `None`."""
    try:
        async with (
            asyncio.timeout(PROBE_S),
            httpx.AsyncClient(trust_env=False, follow_redirects=False, verify=NO_TLS) as client,
            client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.status_code != httpx.codes.OK:
                return None
            body = bytearray()
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > BODY_BYTES_MAX:
                    return None
            return bytes(body)
    except (httpx.HTTPError, TimeoutError):
        # Nobody there, or nobody who speaks HTTP in time: the usual case, and no news.
        return None


async def discover(client_get: Get, base_urls: Iterable[str]) -> tuple[FoundEngine, ...]:
    """The engines among these base URLs, all asked at once, in the order given. Raises ValueError off loopback."""
    asked = tuple(dict.fromkeys(base_urls))
    for base_url in asked:
        if not is_loopback(urlsplit(base_url).hostname or ""):
            raise ValueError(
                f"local engines are looked for on loopback only, got {base_url}; use http://127.0.0.1:<port>/v1"
            )
    bodies = await asyncio.gather(*(client_get(f"{base_url}/models") for base_url in asked))
    found = (identify(base_url, body) for base_url, body in zip(asked, bodies, strict=True) if body is not None)
    return tuple(engine for engine in found if engine is not None)


def identify(base_url: str, body: bytes) -> FoundEngine | None:
    """The engine that gave this model list, or `None` when it is none that we know by its shape."""
    try:
        listed = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(listed, dict) or OWN_MARK in listed or not isinstance(listed.get("data"), list):
        return None
    entries = [entry for entry in listed["data"] if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    if any(entry.get("owned_by") == "coe-router" or OWN_MARK in entry for entry in entries):
        return None
    kinds = {OWNERS[owner] for entry in entries if isinstance(owner := entry.get("owned_by"), str) and owner in OWNERS}
    if len(kinds) != 1:
        return None
    engine = kinds.pop()
    usable = [entry for entry in entries if _usable(engine, entry)]
    models = tuple(FoundModel(entry["id"], _context(engine, entry)) for entry in usable[:MODELS_MAX])
    return FoundEngine(engine, base_url, models, left_out=len(entries) - len(models)) if models else None


def _usable(engine: str, entry: Mapping[str, Any]) -> bool:
    """Whether the engine itself answers chats with this model. Ollama's owner is the account that made a model."""
    name: str = entry["id"].lower()
    if not 0 < len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
        return False
    if engine == "ollama":
        if CLOUD.search(name):
            return False
    elif OWNERS.get(str(entry.get("owned_by"))) != engine:
        return False
    return not any(part in name for part in NOT_FOR_CHAT)


def _context(engine: str, entry: Mapping[str, Any]) -> int | None:
    if engine == "ollama":
        return OLLAMA_CONTEXT_TOKENS
    meta = entry.get("meta")
    said = entry.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None)
    return said if isinstance(said, int) and not isinstance(said, bool) and said > 0 else None


def guessed_quality(wire_name: str) -> tuple[float, str]:
    """A prior from the parameter count in a model's name, and in words where it comes from."""
    sizes = [float(billions) * int(experts or 1) for experts, billions in SIZE.findall(wire_name.lower())]
    if not sizes:
        return QUALITY_UNKNOWN, "guess: the name tells no size"
    size = max(sizes)  # a name may hold a draft or teacher beside the model; the active part (`a3b`) is no match at all
    quality = next((quality for bound, quality in QUALITY_BY_BILLIONS if size < bound), QUALITY_LARGEST)
    return quality, f"guess from {size:g} billion parameters in the name"


def with_local_engines(catalog: Catalog, found: Iterable[FoundEngine]) -> Catalog:
    """The catalogue with the found engines and models added; itself when there is nothing to add.

    An engine whose address a declared provider has belongs to that provider; if the registry disables it, it stays
    disabled and gets no models. Found models whose wire name is declared there are left as declared.
    """
    providers = dict(catalog.providers)
    models = dict(catalog.models)
    declared = {(one.provider.name, one.wire_name) for one in catalog.deployments()}
    notes: list[str] = []
    for engine in found:
        provider = _provider_of(engine, providers)
        if not provider.active:
            continue
        new = [model for model in engine.models if (provider.name, model.wire_name) not in declared]
        if not new:
            continue
        providers.setdefault(provider.name, provider)
        for one in new:
            made = _model(engine.engine, one, provider, models)
            models[made.name] = made
            declared.add((provider.name, one.wire_name))
        left_out = f", {engine.left_out} left out" if engine.left_out else ""
        notes.append(f"local engine {TITLES[engine.engine]} at {engine.base_url}: {len(new)} models added{left_out}")
    if not notes:
        return catalog
    return replace(
        catalog,
        providers=providers,
        models=models,
        by_id={one.id: one for model in models.values() for one in model.deployments},
        version=f"{catalog.version}+local.{_digest(models, catalog)}",
        notes=(*catalog.notes, *notes),
    )


def _provider_of(engine: FoundEngine, providers: Mapping[str, Provider]) -> Provider:
    """The declared provider at this address, else a new one named after the engine (and its port, when taken)."""
    address = _address(engine.base_url)
    for provider in providers.values():
        if _address(provider.base_url) == address:
            return provider
    name = engine.engine if engine.engine not in providers else f"{engine.engine}-{address[1]}"
    return Provider(
        name=name,
        base_url=engine.base_url,
        region="onprem",
        tags=frozenset({"private"}),
        timeouts=ENGINE_TIMEOUTS,
        title=f"{TITLES[engine.engine]} on this machine",
    )


def _address(base_url: str) -> tuple[str, int | None]:
    """Host and port; all loopback names are one host, because they are one machine."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if is_loopback(host):
        host = "loopback"
    return host, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _model(engine: str, found: FoundModel, provider: Provider, models: Mapping[str, Model]) -> Model:
    name = _free_name(found.wire_name, provider.name, models)
    quality, source = guessed_quality(found.wire_name)
    price = PriceVersion(start=EPOCH, rates=Rates(input=0, output=0), source=FREE_SOURCE)
    deployment = Deployment(
        provider=provider,
        model=name,
        wire_name=found.wire_name,
        prices=PriceBook(f"{provider.name}/{name}", (price,)),
    )
    return Model(
        name=name,
        deployments=(deployment,),
        context_tokens=found.context_tokens,
        capabilities=CAPABILITIES[engine],
        quality={"default": quality},
        quality_source=source,
        tags=frozenset({"local"}),
    )


def _free_name(wire_name: str, provider: str, models: Mapping[str, Model]) -> str:
    """A registry name: lower case, letters, digits, '.' and '-'. A taken one gets the provider's name, then a number.

    A declared model of the same name is not extended: local weights are mostly quantised, its quality is not theirs.
    """
    path = wire_name.lower().replace("\\", "/").rstrip("/")
    last = path.rpartition("/")[2].removesuffix(".gguf")
    plain = re.sub(r"[^a-z0-9.]+", "-", last).strip("-.") or "model"
    if plain not in models:
        return plain
    name = wanted = f"{plain}-{provider}"
    number = 2
    while name in models:
        name = f"{wanted}-{number}"
        number += 1
    return name


def _digest(models: Mapping[str, Model], catalog: Catalog) -> str:
    """Eight characters that change with what was found, so that a decision's catalogue version can be told apart."""
    added = [
        f"{one.id} {one.wire_name}"
        for name, model in models.items()
        if name not in catalog.models
        for one in model.deployments
    ]
    return hashlib.sha256("\n".join(added).encode()).hexdigest()[:8]
