"""`decide`: one request, one intent, one registry -> a ranked list of deployments with reasons. Pure.

Where on the path: step 4 of `pipeline`. In order: what the caller meant (addressing), which rules apply (routes,
policy, the caller's own limits), who can serve (capable), what each would cost and how good it would be (estimate),
who comes first (policies).

Invariants
1. Same arguments, same decision: no clock, no randomness, no state.
2. The caller's limits are hard: a candidate that breaks one is rejected, never merely ranked last.
3. `ranked` is never empty: when nothing can serve, `NoCandidate` names the constraint that emptied the list.
4. Price ceilings hold whatever the classifier said: they are applied to every candidate, after classification.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from service.domain.access import Caller
from service.domain.catalog import Catalog, Deployment, Model, PolicySpec, RouteSpec, Selector
from service.domain.chat import ChatRequest, Steering
from service.domain.decision import Candidate, Decision, Intent, ReasonCode
from service.domain.money import PriceQuote
from service.errors import CallerError, Forbidden, NoCandidate
from service.routing.addressing import PLANS_AVAILABLE, Address, resolve, unknown_name
from service.routing.capable import Demands, demands_of, emptied_by, obstacle
from service.routing.estimate import Forecast, candidate, cost_of, forecast, quality_of, within_ceiling
from service.routing.policies import POLICIES

PINNED = PolicySpec(name="pinned", objective="min_cost")
"""A named model: the cheapest of its hosts, whatever the registry thinks of its quality."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What surrounds a request: who asks, when, and under which ids. `at` is an aware UTC instant."""

    decision_id: str
    at: datetime
    caller: Caller


@dataclass(frozen=True, slots=True)
class _Rules:
    """Which rules apply to one request, and where they came from."""

    spec: PolicySpec
    address: Address
    route: RouteSpec | None
    allow: tuple[Selector, ...]
    deny: tuple[Selector, ...]
    ceiling_pusd: int | None
    notes: tuple[str, ...]
    degraded: tuple[str, ...]


def needs_intent(chat: ChatRequest, catalog: Catalog) -> bool:
    """Whether the decision depends on what the request is about: not when it names its model."""
    return not resolve(chat.model, catalog).pinned


def decide(chat: ChatRequest, intent: Intent, catalog: Catalog, around: Circumstances) -> Decision:
    """Rank the deployments for a request.

    Raises NotFound for unknown names, Forbidden for a policy the key may not use, NoCandidate when nothing can serve.
    """
    rules = _rules(chat, intent, catalog, around)
    demands = demands_of(
        chat,
        today=around.at.date(),
        allow=rules.allow,
        deny=rules.deny,
        caller=around.caller,
        language=intent.language,
    )
    expected = forecast(chat, intent)
    able, rejected = _sift(chat, catalog, rules, demands, expected, around.at)
    if not able and rules.spec.on_unavailable == "any" and rules.spec.allow:
        opened = replace(rules, allow=tuple(one for one in rules.allow if one is not rules.spec.allow))
        note = f"policy {rules.spec.name} had nobody; any capable model allowed"
        rules = replace(opened, notes=(*rules.notes, note), degraded=(*rules.degraded, "allow"))
        demands = replace(demands, allow=tuple(one for one in rules.allow if one))
        able, rejected = _sift(chat, catalog, rules, demands, expected, around.at)
    if not able:
        raise _nobody(chat, rejected, rules, catalog)
    ranking = POLICIES[rules.spec.objective](able, rules.spec)
    code = ReasonCode.PINNED if rules.address.pinned else ranking.reason_code
    missed = ("quality_floor",) if code is ReasonCode.FLOOR_UNREACHABLE else ()
    return Decision(
        id=around.decision_id,
        created_ms=int(around.at.timestamp() * 1000),
        requested=chat.model,
        policy=rules.spec.name,
        intent=intent,
        ranked=ranking.ranked,
        rejected=tuple(rejected),
        reason_code=code,
        margin=ranking.margin,
        features=features_of(chat, expected),
        versions={"registry": catalog.version, "classifier": intent.artefact},
        baseline_pusd=_baseline_cost(catalog, expected, around.at),
        baseline_model=catalog.baseline,
        route=rules.route.name if rules.route else None,
        plan=rules.address.plan,
        notes=rules.notes,
        ceiling_pusd=rules.ceiling_pusd,
        degraded=(*rules.degraded, *missed),
    )


def attempt_order(decision: Decision) -> Iterator[Candidate]:
    """Whom to try, in order: the choice, then the best-ranked of another provider, then the rest.

    A vendor that is down is down for all of its models; the second attempt goes elsewhere while that is possible.
    """
    left = list(decision.ranked)
    tried: set[str] = set()
    while left:
        index = next((i for i, one in enumerate(left) if one.deployment.provider.name not in tried), 0)
        following = left.pop(index)
        tried.add(following.deployment.provider.name)
        yield following


def baseline_quote(catalog: Catalog, at: datetime) -> PriceQuote | None:
    """The price of the configured baseline model at an instant: its first priced deployment's, active or not."""
    if catalog.baseline is None:
        return None
    for deployment in catalog.models[catalog.baseline].deployments:
        quote = deployment.prices.quote(at)
        if quote is not None:
            return quote
    return None


def features_of(chat: ChatRequest, expected: Forecast) -> Mapping[str, object]:
    """What the decision depended on, without any content: enough to repeat it."""
    return {
        "characters": chat.sizes.characters,
        "cjk_characters": chat.sizes.cjk_characters,
        "messages": chat.sizes.messages,
        "images": chat.sizes.images,
        "tools": chat.sizes.tools,
        "needs": sorted(chat.needs),
        "modalities": sorted(chat.modalities),
        "n": chat.n,
        "output_tokens_max": chat.output_tokens_max,
        "input_tokens": expected.input_tokens,
        "output_tokens": expected.output_tokens,
        "intents": list(expected.intents),
        "stream": chat.stream,
        "last_user_tokens": chat.sizes.last_user_tokens,
        "in_tool_loop": chat.in_tool_loop,
        "limits": _limits_of(chat.steering),
    }


def _limits_of(steering: Steering) -> Mapping[str, object]:
    """What the caller demanded of the choice; only what was said."""
    said: dict[str, object] = {
        name: value
        for name in ("policy", "min_quality", "max_cost_pusd", "max_latency_ms", "plan")
        if (value := getattr(steering, name)) is not None
    }
    for name, selector in (("allow", steering.allow), ("deny", steering.deny)):
        if selector:
            said[name] = {noun: sorted(names) for noun, names in selector.fields()}
    return said


def _nobody(chat: ChatRequest, rejected: list[Candidate], rules: _Rules, catalog: Catalog) -> CallerError:
    """The error when nothing can serve: a key that may not use the named model is told so, all else is a constraint."""
    reasons = [one.rejected or "" for one in rejected]
    if rules.address.pinned and rules.route is None and reasons and all(one.startswith("key:") for one in reasons):
        return Forbidden(f"this key may not use the model {chat.model!r}", param="model", code="model_not_allowed")
    return NoCandidate(f"no model can serve this request: {emptied_by(reasons, catalog)}")


def _rules(chat: ChatRequest, intent: Intent, catalog: Catalog, around: Circumstances) -> _Rules:
    """Named model, explicit policy, first matching route, default policy: in this order."""
    steering = chat.steering
    address = resolve(chat.model, catalog)
    route: RouteSpec | None = None
    notes: list[str] = []
    degraded: list[str] = []
    name = steering.policy or address.policy
    if name is None and not address.pinned:
        route = next((one for one in catalog.routes if _matches(one, chat, intent, around.caller)), None)
        if route is not None:
            name = route.policy
            if route.model is not None:
                address = resolve(route.model, catalog)
            if route.plan is not None and route.plan not in PLANS_AVAILABLE:
                notes.append(f"plan {route.plan} of route {route.name} is not available; answered by a single model")
                degraded.append("plan")
    if steering.plan is not None and steering.plan not in PLANS_AVAILABLE:
        raise unknown_name(
            f"plan {steering.plan!r}", steering.plan, sorted(PLANS_AVAILABLE), param="coe.plan", code="plan_not_found"
        )
    spec = _spec(name, address, route, catalog, around.caller)
    ceilings = [one for one in (spec.max_cost_pusd, steering.max_cost_pusd) if one is not None]
    return _Rules(
        spec=spec,
        address=address,
        route=route,
        allow=(spec.allow, steering.allow),
        deny=(spec.deny, steering.deny),
        ceiling_pusd=min(ceilings) if ceilings else None,
        notes=tuple(notes),
        degraded=tuple(degraded),
    )


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


def _matches(route: RouteSpec, chat: ChatRequest, intent: Intent, caller: Caller) -> bool:
    when = route.when
    return (
        (not when.key_tags or bool(when.key_tags & caller.tags))
        and (not when.intents or (intent.label in when.intents and not intent.abstained))
        and (not when.languages or intent.language in when.languages)
        and (not when.models or chat.model in when.models)
    )


def _sift(
    chat: ChatRequest, catalog: Catalog, rules: _Rules, demands: Demands, expected: Forecast, at: datetime
) -> tuple[list[Candidate], list[Candidate]]:
    """(who can serve, who can't and why), each in the order of the registry."""
    able: list[Candidate] = []
    rejected: list[Candidate] = []
    meant = rules.address.deployments
    for deployment in catalog.deployments() if meant is None else meant:
        model = catalog.models[deployment.model]
        reason = obstacle(deployment, model, demands)
        if reason is not None:
            rejected.append(_rejected(deployment, model, expected, reason))
            continue
        found = candidate(deployment, model, expected, at)
        found, reason = _within_limits(found, model, chat, rules)
        if reason is None:
            able.append(found)
        else:
            rejected.append(replace(found, rejected=reason))
    return able, rejected


def _within_limits(found: Candidate, model: Model, chat: ChatRequest, rules: _Rules) -> tuple[Candidate, str | None]:
    """Apply the caller's quality floor and every cost ceiling; the output cap that makes a ceiling hold is set here."""
    least = chat.steering.min_quality
    if least is not None and found.quality < least:
        return found, f"quality: {found.quality:.2f} is under the {least:.2f} asked for"
    if rules.ceiling_pusd is None:
        return found, None
    return within_ceiling(found, model, chat, rules.ceiling_pusd)


def _rejected(deployment: Deployment, model: Model, expected: Forecast, reason: str) -> Candidate:
    return Candidate(
        deployment=deployment,
        quality=quality_of(model, expected.intents),
        expected_cost_pusd=None,
        reserved_pusd=None,
        input_tokens=expected.input_tokens,
        output_tokens=expected.output_tokens,
        reasoning_tokens=0,
        quote=None,
        rejected=reason,
    )


def _baseline_cost(catalog: Catalog, expected: Forecast, at: datetime) -> int | None:
    """What the configured baseline would be expected to cost for the same request."""
    if catalog.baseline is None:
        return None
    model = catalog.models[catalog.baseline]
    reasoning = max(model.reasoning_for(name) for name in expected.intents)
    quote = baseline_quote(catalog, at)
    return cost_of(quote, expected.input_tokens, expected.output_tokens, reasoning * expected.choices)
