"""A catalogue whose vendors are simulated: same models, same prices, other end of the wire.

Where on the path: the composition root, for `--simulate`, between loading the registry and building the router.

    simulator = SimulatedVendors(scripts_for(catalog))
    await simulator.start()
    catalog = simulated(catalog, simulator.base_url)

Invariants
1. A provider is simulated when it speaks `openai_chat` and is active or lacks nothing but its key. One that the
   registry disables stays as it is, with its reason, and so does one of another protocol.
2. No secret reaches a simulator: keys and headers of the real account are replaced.
3. Prices, quirks and capabilities stay: costs are computed as they would be, and marked as simulated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from service.domain.catalog import Catalog, Deployment, Model, Provider
from service.simulator.script import Script, UsageShape, VendorScript

PROTOCOL = "openai_chat"
"""The one protocol the simulator speaks."""

KEY = "simulated"
"""What the router sends as its key to a simulated vendor."""

NOTE = "Providers are simulated: answers are made up, nothing is paid, ledger rows are marked."
"""Goes into `Catalog.notes`, which start-up and `coe check` show."""

SHAPE_OF_CACHE_FIELD = {
    "prompt_cache_hit_tokens": UsageShape.DEEPSEEK,
    "cached_tokens": UsageShape.TOP_LEVEL_CACHED,
}
"""How a vendor spells usage, by the value of its `cached_tokens` quirk."""


def can_be_simulated(provider: Provider) -> bool:
    """Invariant 1."""
    return provider.protocol == PROTOCOL and (provider.active or provider.awaits_key)


def scripts_for(catalog: Catalog) -> dict[str, VendorScript]:
    """A healthy script for each provider that can be simulated: its wire names, its way to spell usage."""
    names: dict[str, list[str]] = {}
    for deployment in catalog.deployments():
        names.setdefault(deployment.provider.name, []).append(deployment.wire_name)
    return {
        provider.name: VendorScript(
            default=Script(usage=_shape(provider)),
            models=tuple(dict.fromkeys(names.get(provider.name, ()))),
            api_keys=(KEY,),
            owned_by="simulator",
        )
        for provider in catalog.providers.values()
        if can_be_simulated(provider)
    }


def _shape(provider: Provider) -> UsageShape:
    if "reasoning_beside" in provider.quirks:
        return UsageShape.XAI
    return SHAPE_OF_CACHE_FIELD.get(provider.quirks.get("cached_tokens", ""), UsageShape.OPENAI)


def simulated(catalog: Catalog, base_url_of: Callable[[str], str]) -> Catalog:
    """A copy of the catalogue that calls the simulator. `base_url_of` gives the base URL of a provider by name."""
    providers = {
        name: _provider(provider, base_url_of(name)) if can_be_simulated(provider) else provider
        for name, provider in catalog.providers.items()
    }

    def moved(deployment: Deployment) -> Deployment:
        return replace(deployment, provider=providers.get(deployment.provider.name, deployment.provider))

    def with_moved(model: Model) -> Model:
        return replace(model, deployments=tuple(moved(deployment) for deployment in model.deployments))

    models = {name: with_moved(model) for name, model in catalog.models.items()}
    return replace(
        catalog,
        providers=providers,
        models=models,
        by_id={one.id: one for model in models.values() for one in model.deployments},
        notes=(*catalog.notes, NOTE),
    )


def _provider(provider: Provider, base_url: str) -> Provider:
    return replace(
        provider,
        base_url=base_url,
        api_keys=(KEY,),
        headers={},
        inactive_reason=None,
        awaits_key=False,
        simulated=True,
    )
