"""What must be known before the first part is built, and whether this process may serve at all.

That is: the registry to serve, whether the simulator stands in, what was found on loopback, who owns the data.

Where on the path: `cli.serve` and `app.build` call it once, in the order written here.

Invariants
1. The simulator never stands in unasked: without `simulate` a router with nobody to call refuses to start.
2. One instance at a time owns a data directory.
"""

from __future__ import annotations

import fcntl
import os
import re
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from service.cache.answer_cache import AnswerCache
from service.cache.memory import MemoryStore
from service.cache.redis_store import SETTING, RedisStore
from service.cache.stores import Store
from service.catalog.check import check
from service.catalog.load import load
from service.config import Settings, environ
from service.domain.catalog import CacheSpec, Catalog, Deployment
from service.domain.ports import Clock
from service.errors import ConfigurationError
from service.guard.keys import KEYS_FILE, KeyStore
from service.guard.pepper import load_pepper
from service.ledger.sinks import open_sink
from service.ledger.sinks.port import Sink
from service.redis_client import check_url
from service.simulator import SimulatorThread, scripts_for, simulated
from service.upstream.local_engines import candidates, discover, loopback_get, with_local_engines
from service.upstream.protocols import PROTOCOLS
from service.upstream.quirks import QUIRKS

PACKAGED_REGISTRY = Path(__file__).parent / "catalog" / "providers.yaml"
SOURCE_REGISTRY = Path(__file__).parent.parent / "providers.yaml"

NOBODY_TO_CALL = (
    "no usable provider: none of the providers in the registry has its API key in the environment, and no local engine "
    "was found. Set one of: {variables}. Or try the router without any key: `coe serve --simulate`."
)


VARIABLES_SHOWN = 6

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{2,}")


class InstanceRunning(ConfigurationError):
    """Another router owns the data directory."""


def registry_path(settings: Settings) -> Path:
    """The registry file: `COE_PROVIDERS`, else ./providers.yaml, else the one that ships with the package."""
    if settings.providers is not None:
        return settings.providers
    here = Path("providers.yaml")
    if here.exists():
        return here
    return SOURCE_REGISTRY if SOURCE_REGISTRY.exists() else PACKAGED_REGISTRY


def read_registry(settings: Settings, now: datetime) -> Catalog:
    """The registry as written, with the keys of this environment; raises RegistryError."""
    return only_spoken(load(registry_path(settings), environ(), now=now, known_quirks=QUIRKS))


def only_spoken(catalog: Catalog) -> Catalog:
    """The registry with every provider inactive whose wire protocol this version does not speak."""
    mute = {
        name: replace(one, inactive_reason=f"this version does not speak {one.protocol}", awaits_key=False)
        for name, one in catalog.providers.items()
        if one.protocol not in PROTOCOLS
    }
    if not mute:
        return catalog

    def muted(deployment: Deployment) -> Deployment:
        return replace(deployment, provider=mute.get(deployment.provider.name, deployment.provider))

    models = {
        name: replace(model, deployments=tuple(muted(one) for one in model.deployments))
        for name, model in catalog.models.items()
    }
    return replace(
        catalog,
        providers={**catalog.providers, **mute},
        models=models,
        by_id={one.id: one for model in models.values() for one in model.deployments},
    )


async def find_local(catalog: Catalog, settings: Settings, port: int) -> Catalog:
    """The registry with what was found on loopback; unchanged when nothing was, or when that is switched off."""
    if not settings.local_engines:
        return catalog
    found = await discover(loopback_get, candidates(port))
    return with_local_engines(catalog, found) if found else catalog


@dataclass(frozen=True, slots=True)
class Served:
    """The registry to serve. `simulator` is running when it is not `None`."""

    catalog: Catalog
    simulator: SimulatorThread | None = None


def choose(catalog: Catalog, *, simulate: bool, simulate_if_empty: bool, now: datetime) -> Served:
    """The registry to serve, simulated when asked; raises ConfigurationError when nobody can be called."""
    if simulate or (simulate_if_empty and not check(catalog, now=now).usable):
        scripts = scripts_for(catalog)
        if not scripts:
            raise ConfigurationError(
                "the registry has no provider that can be simulated: add one that speaks openai_chat"
            )
        simulator = SimulatorThread(scripts, keep_bodies=False)
        simulator.start()
        return Served(simulated(catalog, simulator.base_url), simulator)
    refuse_unusable(catalog, now)
    return Served(catalog)


def refuse_unusable(catalog: Catalog, now: datetime) -> None:
    """Raise ConfigurationError, with what to set, when no deployment of the registry can be called."""
    if check(catalog, now=now).usable:
        return
    waiting = [one.inactive_reason or "" for one in catalog.providers.values() if one.awaits_key]
    named = [found.group(0) for reason in waiting if (found := _VARIABLE.search(reason)) is not None]
    shown = ", ".join(named[:VARIABLES_SHOWN]) + (", …" if len(named) > VARIABLES_SHOWN else "")
    raise ConfigurationError(NOBODY_TO_CALL.format(variables=shown or "an API key"))


def open_keys(settings: Settings) -> KeyStore:
    """The key store of the data directory; raises ConfigurationError for a weak pepper or a damaged file."""
    pepper = settings.key_pepper.get_secret_value() if settings.key_pepper is not None else None
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return KeyStore(settings.data_dir / KEYS_FILE, load_pepper(settings.data_dir, pepper))


def check_cache(settings: Settings) -> None:
    """Raise ConfigurationError where `COE_CACHE_URL` can't be meant, before a worker finds out."""
    if settings.cache_url is not None:
        check_url(settings.cache_url.get_secret_value(), SETTING)


def open_cache(settings: Settings, keys: KeyStore, clock: Clock, spec: CacheSpec | None) -> AnswerCache:
    """The cache of a process, as large as the registry says; raises ConfigurationError for a URL that can't be used."""
    url = settings.cache_url
    store: Store = MemoryStore(clock.monotonic)
    if url is not None:
        store = RedisStore(url.get_secret_value(), settings.redis_prefix, clock.monotonic)
    cache = AnswerCache(store, keys.derived(b"answers"), clock)
    cache.fit(spec)
    return cache


def own_instance(data_dir: Path) -> int:
    """Take the data directory for this instance; the descriptor to keep. Raises InstanceRunning or OSError."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(data_dir / "instance.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InstanceRunning(
            f"another router uses {data_dir}: stop it, or give this one its own COE_DATA_DIR"
        ) from None
    return descriptor


def open_ledger(settings: Settings) -> Sink:
    """The index that reports are asked of; raises ConfigurationError for a URL that can't be used."""
    url = settings.ledger_url
    return open_sink(settings.data_dir, None if url is None else url.get_secret_value())
