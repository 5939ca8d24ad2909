"""Which rules apply to one request: its model, the first matching route, the policy, and every limit. Pure.

Where on the path: first step of `router.decide`, before anybody is looked at.

Invariants
1. A route that the operator tied to keys (`key_tag`) or to a model binds whatever the caller names: the limits of its
   policy are added to the caller's choice, never traded for it.
2. A name in an allow or deny list that the registry does not know is an error: a misspelt deny must not let anybody in.
3. Limits only ever add up: every selector must hold; the lowest ceiling, the shortest latency limit and the highest
   floor count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from service.domain.access import Caller
from service.domain.catalog import NO_SELECTOR, Catalog, PolicySpec, RouteSpec, Selector
from service.domain.decision import Intent
from service.domain.features import RequestFeatures
from service.errors import Forbidden, InvalidRequest
from service.routing.addressing import PLANS_AVAILABLE, Address, nearest, resolve, unknown_name
from service.routing.prepared import RULES_MAX, keep, prepared

PINNED = PolicySpec(name="pinned", objective="min_cost")
"""A named model: the cheapest of its hosts, whatever the registry thinks of its quality."""


NOT_READ: Final = "not_read"
"""The doubt about a request that the classifier failed at."""


class Rules(NamedTuple):
    """Which rules apply to one request, and where they came from. Selectors that name nothing are left out."""

    spec: PolicySpec
    address: Address
    route: RouteSpec | None
    allow: tuple[Selector, ...]
    deny: tuple[Selector, ...]
    ceiling_pusd: int | None
    notes: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()


def rules_for(asked: RequestFeatures, intent: Intent, catalog: Catalog, caller: Caller) -> Rules:
    """The rules of a request: named model, explicit policy, first matching route, default policy, in this order.

    Raises NotFound for unknown names, InvalidRequest for selectors that mean nothing, Forbidden for a policy that the
    key may not use.
    """
    steering = asked.steering
    address = resolve(asked.model, catalog)
    if steering.plan is not None and steering.plan not in PLANS_AVAILABLE:
        raise unknown_name(
            f"plan {steering.plan!r}", steering.plan, sorted(PLANS_AVAILABLE), param="coe.plan", code="plan_not_found"
        )
    name = steering.policy or address.policy
    place, route = -1, None
    if catalog.routes:
        place, route = _route(asked, intent, catalog, caller, free=name is None and not address.pinned)
    if caller.policies:
        ruled = _ruled(name, address, route, catalog, caller)
    else:  # whatever the key, the same rules
        held, key = prepared(catalog).rules, (asked.model, name, place)
        found = held.get(key)
        ruled = keep(held, key, _ruled(name, address, route, catalog, caller), RULES_MAX) if found is None else found
    ceiling, allow, deny = steering.max_cost_pusd, steering.allow, steering.deny
    if ceiling is None and allow is NO_SELECTOR and deny is NO_SELECTOR:
        return ruled
    if ceiling is None or (ruled.ceiling_pusd is not None and ruled.ceiling_pusd < ceiling):
        ceiling = ruled.ceiling_pusd
    return ruled._replace(
        allow=_and(ruled.allow, known(allow, catalog, "coe.allow")),
        deny=_and(ruled.deny, known(deny, catalog, "coe.deny")),
        ceiling_pusd=ceiling,
    )


def _route(
    asked: RequestFeatures, intent: Intent, catalog: Catalog, caller: Caller, *, free: bool
) -> tuple[int, RouteSpec | None]:
    """The first route that matches and its place, of those that may; -1 for none.

    `free`: the request names neither a model nor a policy.
    """
    for place, one in enumerate(catalog.routes):
        if (free or _binds(one)) and _matches(one, asked, intent, caller):
            return place, one
    return -1, None


def _ruled(name: str | None, address: Address, route: RouteSpec | None, catalog: Catalog, caller: Caller) -> Rules:
    """The rules by what is named and by the route: all but the limits that the request itself adds."""
    free = name is None and not address.pinned
    notes: list[str] = []
    degraded: list[str] = []
    bound: PolicySpec | None = None
    if route is not None and free:
        name = route.policy
        if route.model is not None:
            address = resolve(route.model, catalog)
        if route.plan is not None and route.plan not in PLANS_AVAILABLE:
            notes.append(f"plan {route.plan} of route {route.name} is not available; answered by a single model")
            degraded.append("plan")
    elif route is not None and route.policy is not None:
        bound = _policy(route.policy, catalog)
        notes.append(f"route {route.name} adds the limits of policy {bound.name}")
    spec = _spec(name, address, route if free else None, catalog, caller)
    specs = (spec,) if bound is None else (spec, bound)
    ceilings = [one.max_cost_pusd for one in specs if one.max_cost_pusd is not None]
    return Rules(
        spec=spec if bound is None else with_limits_of(spec, bound),
        address=address,
        route=route,
        allow=tuple(one.allow for one in specs if one.allow),
        deny=tuple(one.deny for one in specs if one.deny),
        ceiling_pusd=min(ceilings) if ceilings else None,
        notes=tuple(notes),
        degraded=tuple(degraded),
    )


def _and(selectors: tuple[Selector, ...], another: Selector) -> tuple[Selector, ...]:
    return (*selectors, another) if another else selectors


def known(selector: Selector, catalog: Catalog, param: str) -> Selector:
    """The caller's selector with every name checked, and a flat list turned into the deployments that it means.

    A flat list names alternatives of any kind: `openai`, `deepseek-flash`, `region:cn`. Raises InvalidRequest with the
    nearest names for one that the registry does not know.
    """
    if not selector:
        return selector
    kinds = _names(catalog)
    for noun, names in selector.fields():
        for name in sorted(names):
            if name not in kinds[noun]:
                raise _unknown(noun, name, kinds[noun], param)
    if not selector.any_of:
        return selector
    meant: set[str] = set()
    for item in sorted(selector.any_of):
        kind, colon, rest = item.partition(":")
        if colon and kind in kinds:
            if rest not in kinds[kind]:
                raise _unknown(kind, rest, kinds[kind], param)
            meant |= kinds[kind][rest]
            continue
        found = [ids for ids_by_name in kinds.values() if (ids := ids_by_name.get(item)) is not None]
        if not found:
            every = {name: frozenset[str]() for ids_by_name in kinds.values() for name in ids_by_name}
            raise _unknown("model, provider, region or tag", item, every, param)
        meant.update(*found)
    return Selector(models=frozenset(meant))


def _names(catalog: Catalog) -> Mapping[str, Mapping[str, frozenset[str]]]:
    """`_names_by_kind`, worked out once for a registry: it takes longer than a decision."""
    held = prepared(catalog)
    if held.names is None:
        held.names = _names_by_kind(catalog)
    return held.names


def _names_by_kind(catalog: Catalog) -> dict[str, dict[str, frozenset[str]]]:
    """Per kind of name, every name of the registry and the ids of the deployments that carry it."""
    kinds: dict[str, dict[str, set[str]]] = {"model": {}, "provider": {}, "region": {}, "tag": {}}
    for name, provider in catalog.providers.items():
        kinds["provider"].setdefault(name, set())
        kinds["region"].setdefault(provider.region, set())
        for tag in provider.tags:
            kinds["tag"].setdefault(tag, set())
    for model in catalog.models.values():
        kinds["model"].setdefault(model.name, set())
        for one in model.deployments:
            for noun, names in (
                ("model", (model.name, one.id)),
                ("provider", (one.provider.name,)),
                ("region", (one.provider.region,)),
                ("tag", (*one.provider.tags, *model.tags)),
            ):
                for name in names:
                    kinds[noun].setdefault(name, set()).add(one.id)
    return {noun: {name: frozenset(ids) for name, ids in names.items()} for noun, names in kinds.items()}


def _unknown(noun: str, name: str, names: Mapping[str, object], param: str) -> InvalidRequest:
    hint = nearest(name, list(names))
    return InvalidRequest(f"`{param}`: the registry has no {noun} {name!r}{hint}", param=param, code="unknown_name")


def with_limits_of(spec: PolicySpec, bound: PolicySpec) -> PolicySpec:
    """A policy with the floors and the latency limit of another one, where those are tighter; ceilings are apart.

    It explores no more than either does.
    """
    intents = (*spec.min_quality_for, *bound.min_quality_for)
    latencies = [one.max_latency_ms for one in (spec, bound) if one.max_latency_ms is not None]
    return replace(
        spec,
        max_latency_ms=min(latencies, default=None),
        min_quality=max(spec.min_quality, bound.min_quality),
        relative_to_best=max(spec.relative_to_best, bound.relative_to_best),
        min_quality_for={one: max(spec.least_quality((one,)), bound.least_quality((one,))) for one in intents},
        explore=min(spec.explore, bound.explore),
    )


def _binds(route: RouteSpec) -> bool:
    """Whether a route's limits hold also for a caller who names a model or a policy."""
    return route.policy is not None and bool(route.when.key_tags or route.when.models)


def _spec(name: str | None, address: Address, route: RouteSpec | None, catalog: Catalog, caller: Caller) -> PolicySpec:
    """The policy that applies. A key that is bound to policies stays bound to them when it names a model."""
    if name is None:
        if not caller.policies:
            return PINNED if address.pinned else _policy(catalog.default_policy, catalog)
        if caller.may_follow(catalog.default_policy):
            return _policy(catalog.default_policy, catalog)
        own = next((spec for spec in catalog.policies.values() if caller.may_follow(spec.name)), None)
        if own is None:
            raise Forbidden("the registry no longer has any policy that this key may use; ask for a new key")
        return own
    spec = _policy(name, catalog)
    if not caller.may_follow(spec.name):
        # A route is the operator's rule: a key that may not follow it is refused, never let around it.
        where = f"policy {spec.name!r}" + (f", which route {route.name!r} demands" if route is not None else "")
        raise Forbidden(f"this key may not use {where}", param="coe.policy", code="policy_not_allowed")
    return spec


def _policy(name: str, catalog: Catalog) -> PolicySpec:
    spec = catalog.policies.get(name)
    if spec is None:
        raise unknown_name(
            f"policy {name!r}", name, list(catalog.policies), param="coe.policy", code="policy_not_found"
        )
    return spec


def _matches(route: RouteSpec, asked: RequestFeatures, intent: Intent, caller: Caller) -> bool:
    when = route.when
    return (
        (not when.key_tags or bool(when.key_tags & caller.tags))
        and (not when.intents or (intent.label in when.intents and not intent.abstained))
        and (not when.languages or intent.language in when.languages)
        and (not when.models or asked.model in when.models)
    )
