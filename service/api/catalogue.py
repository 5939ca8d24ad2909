"""GET /v1/models: what may be named as `model`, with windows and prices in an `x_coe` object. Pure.

Only what can be called now is listed: a model is offered when one of its deployments is active and it is not retired.
"""

from __future__ import annotations

from datetime import datetime

from service.domain.access import Caller
from service.domain.catalog import Catalog, Deployment, Model
from service.domain.money import PICO_PER_TOKEN, PriceQuote
from service.errors import NotFound
from service.routing.addressing import PLANS_AVAILABLE, resolve

OWNER = "coe-router"


def model_list(catalog: Catalog, caller: Caller, at: datetime) -> dict[str, object]:
    """The answer of GET /v1/models for a caller."""
    return {"object": "list", "data": _entries(catalog, caller, at)}


def _entries(catalog: Catalog, caller: Caller, at: datetime) -> list[dict[str, object]]:
    """The list, in the order of the contract: registry models, `auto`, `auto:<policy>`, `plan:<name>`."""
    data = [
        _model(model, at) for model in catalog.models.values() if _offered(model, at) and caller.may_use(model.name)
    ]
    data.append(_entry("auto", {"policy": catalog.default_policy}))
    data.extend(
        _entry(f"auto:{name}", {"policy": name, "objective": policy.objective})
        for name, policy in catalog.policies.items()
        if caller.may_follow(name)
    )
    data.extend(_entry(f"plan:{name}", {"plan": name}) for name in sorted(PLANS_AVAILABLE))
    return data


def model_object(model_id: str, catalog: Catalog, caller: Caller, at: datetime) -> dict[str, object]:
    """One entry; raises NotFound for what is not offered to this caller."""
    for entry in _entries(catalog, caller, at):
        if entry["id"] == model_id:
            return entry
    address = resolve(model_id, catalog)
    for deployment in address.deployments or ():
        model = catalog.models[deployment.model]
        if _offered(model, at) and caller.may_use(model.name) and _callable(deployment):
            return _model(model, at, only=deployment)
    raise NotFound(f"the model {model_id!r} is in the registry but can't be called now", code="model_not_found")


def _offered(model: Model, at: datetime) -> bool:
    if model.inactive_reason is not None or model.retired(at.date()):
        return False
    return any(_callable(deployment) for deployment in model.deployments)


def _callable(deployment: Deployment) -> bool:
    return deployment.inactive_reason is None and deployment.provider.active


def _entry(name: str, x_coe: dict[str, object]) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER, "x_coe": x_coe}


def _model(model: Model, at: datetime, only: Deployment | None = None) -> dict[str, object]:
    deployments = [only] if only else [one for one in model.deployments if _callable(one)]
    return _entry(
        only.id if only else model.name,
        {
            "context_tokens": model.context_tokens,
            "output_tokens_max": model.output_tokens_max,
            "modalities": sorted(model.modalities),
            "capabilities": sorted(model.capabilities),
            "languages": sorted(model.languages),
            "retires": model.retires.isoformat() if model.retires else None,
            "deployments": [
                {
                    "provider": one.provider.name,
                    "region": one.provider.region,
                    "simulated": one.provider.simulated,
                    "prices": _prices(one.prices.quote(at)),
                }
                for one in deployments
            ],
        },
    )


def _prices(quote: PriceQuote | None) -> dict[str, object] | None:
    """List prices per 1M tokens in the vendor's currency, as exact decimal strings; `None` when unknown."""
    if quote is None:
        return None
    shown: dict[str, object] = {
        "currency": quote.fx.currency,
        "per": "1M tokens",
        "version": quote.version,
        "multiplied_by": quote.multiplier.as_text(),
    }
    for bucket, rate in quote.rates.as_dict().items():
        if bucket != "requests":
            shown[bucket] = _decimal(rate)
    if quote.tiers:
        shown["tiers"] = [
            {"above_input_tokens": tier.above_input_tokens}
            | {bucket: _decimal(rate) for bucket, rate in tier.rates.as_dict().items() if bucket != "requests"}
            for tier in quote.tiers
        ]
    return shown


def _decimal(rate: int) -> str:
    whole, fraction = divmod(rate, PICO_PER_TOKEN)
    return f"{whole}.{fraction:06d}".rstrip("0").rstrip(".")
