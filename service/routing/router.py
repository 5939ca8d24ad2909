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
from service.domain.catalog import Catalog, PolicySpec
from service.domain.chat import ChatRequest, Steering
from service.domain.decision import Candidate, Candidates, Decision, Intent, ReasonCode
from service.domain.money import PriceQuote
from service.domain.ports import Policy, Ranking, Standing
from service.errors import CallerError, Forbidden, NoCandidate
from service.routing.addressing import resolve
from service.routing.capable import demands_of, emptied_by
from service.routing.entrants import Entrants, Measure, enter
from service.routing.estimate import Forecast, cost_of, forecast, reasoning_of
from service.routing.policies import POLICIES
from service.routing.policies.bounds import rank
from service.routing.policies.wording import below, margin, reason
from service.routing.rules import Rules, rules_for


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What surrounds a request: who asks, when, and under which ids. `at` is an aware UTC instant."""

    decision_id: str
    at: datetime
    caller: Caller


def needs_intent(chat: ChatRequest, catalog: Catalog) -> bool:
    """Whether the decision depends on what the request is about: not when it names its model."""
    return not resolve(chat.model, catalog).pinned


def decide(chat: ChatRequest, intent: Intent, catalog: Catalog, around: Circumstances) -> Decision:
    """Rank the deployments for a request.

    Raises NotFound for unknown names, Forbidden for a policy the key may not use, NoCandidate when nothing can serve.
    """
    rules = rules_for(chat, intent, catalog, around.caller)
    demands = demands_of(
        chat,
        today=around.at.date(),
        allow=rules.allow,
        deny=rules.deny,
        caller=around.caller,
        language=intent.language,
    )
    expected = forecast(chat, intent)
    meant = tuple(catalog.deployments()) if rules.address.deployments is None else rules.address.deployments
    entrants = enter(meant, catalog.models, Measure(chat, demands, expected, around.at, rules.ceiling_pusd))
    if not entrants.able and rules.spec.on_unavailable == "any" and rules.spec.allow:
        opened = replace(rules, allow=tuple(one for one in rules.allow if one is not rules.spec.allow))
        note = f"policy {rules.spec.name} had nobody; any capable model allowed"
        rules = replace(opened, notes=(*rules.notes, note), degraded=(*rules.degraded, "allow"))
        demands = replace(demands, allow=tuple(one for one in rules.allow if one))
        entrants = enter(meant, catalog.models, replace(entrants.measure, demands=demands))
    if not entrants.able:
        raise _nobody(chat, [reason for _, _, reason, _ in entrants.out], rules, catalog)
    policy = POLICIES[rules.spec.objective]
    ranking = rank(policy, entrants.figures(), rules.spec, expected.intents)
    code = ReasonCode.PINNED if rules.address.pinned else ranking.reason_code
    missed = ("quality_floor",) if code is ReasonCode.FLOOR_UNREACHABLE else ()
    return Decision(
        id=around.decision_id,
        created_ms=int(around.at.timestamp() * 1000),
        requested=chat.model,
        policy=rules.spec.name,
        intent=intent,
        ranked=_ranked(entrants, policy, ranking, rules.spec),
        rejected=entrants.rejected(),
        reason_code=code,
        margin=_margin(entrants, policy, ranking, rules.spec),
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
    left: list[Candidate] = []
    tried: set[str] = set()
    for one in decision.ranked:
        if one.deployment.provider.name in tried:
            left.append(one)
            continue
        tried.add(one.deployment.provider.name)
        yield one
    yield from left


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
            said[name] = {noun: sorted(names) for noun, names in selector.fields()} | (
                {"any_of": sorted(selector.any_of)} if selector.any_of else {}
            )
    return said


def _nobody(chat: ChatRequest, reasons: list[str], rules: Rules, catalog: Catalog) -> CallerError:
    """The error when nothing can serve: a key that may not use the named model is told so, all else is a constraint."""
    if rules.address.pinned and rules.route is None and reasons and all(one.startswith("key:") for one in reasons):
        return Forbidden(f"this key may not use the model {chat.model!r}", param="model", code="model_not_allowed")
    return NoCandidate(f"no model can serve this request: {emptied_by(reasons, catalog)}")


def _ranked(entrants: Entrants, policy: Policy, ranking: Ranking, spec: PolicySpec) -> Candidates:
    """The able in their order, each built with its reason when somebody looks at it."""

    def build(rank: int) -> Candidate:
        one, first = _standing(entrants, ranking, rank), _standing(entrants, ranking, 0)
        why = reason(policy, ranking, rank, one, first, spec)
        return entrants.candidate(ranking.order[rank], below=below(ranking, rank, one), reason=why)

    return Candidates(len(ranking.order), build)


def _margin(entrants: Entrants, policy: Policy, ranking: Ranking, spec: PolicySpec) -> str:
    second = _standing(entrants, ranking, 1) if ranking.eligible > 1 else None
    return margin(policy, _standing(entrants, ranking, 0), second, spec)


def _standing(entrants: Entrants, ranking: Ranking, rank: int) -> Standing:
    place = ranking.order[rank]
    return Standing(entrants.able[place][0].id, entrants.qualities[place], entrants.costs[place])


def _baseline_cost(catalog: Catalog, expected: Forecast, at: datetime) -> int | None:
    """What the configured baseline would be expected to cost for the same request."""
    if catalog.baseline is None:
        return None
    model = catalog.models[catalog.baseline]
    reasoning = reasoning_of(model, expected.intents)
    quote = baseline_quote(catalog, at)
    return cost_of(quote, expected.input_tokens, expected.output_tokens, reasoning * expected.choices)
