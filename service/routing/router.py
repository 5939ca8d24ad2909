"""`decide`: one request, one intent, one registry -> a ranked list of deployments with reasons. Pure.

Where on the path: step 4 of `pipeline`. In order: what the caller meant (addressing), which rules apply (routes,
policy, the caller's own limits), who can serve (capable), what each would cost and how good it would be (estimate),
who comes first (policies).

Invariants
1. Same arguments, same decision: no clock, no randomness, no state; nothing of the chat but its features. A policy
   that explores goes by the number that it is given.
2. The caller's limits are hard: a candidate that breaks one is rejected, never merely ranked last.
3. `ranked` is never empty: when nothing can serve, `NoCandidate` names the constraint that emptied the list.
4. Price ceilings hold whatever the classifier said: they are applied to every candidate, after classification.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial

from service import __version__
from service.domain.catalog import Catalog, Deployment
from service.domain.chat import ChatRequest
from service.domain.decision import Candidate, Decision, Intent, Ranked, ReasonCode
from service.domain.features import RequestFeatures
from service.domain.imagined import imagined
from service.domain.money import PriceQuote
from service.domain.rivals import Rival
from service.domain.what_if import WhatIf
from service.routing.addressing import resolve
from service.routing.estimate import answer_of
from service.routing.exploring import drawn, moved
from service.routing.policies.wording import ALONE, below, reason
from service.routing.prefixes import BLOCK_TOKENS, split
from service.routing.prepared import VERSIONS_MAX, keep, prepared
from service.routing.rivals import rivals
from service.routing.rules import NOT_READ
from service.routing.weighing import Circumstances, Weighed, weigh
from service.routing.what_if import what_if

RECORD_VERSION = "3"
"""The form of the decision record. Those of 1 and 2 are shown, never replayed: 1 held too little to decide again."""


DRAWN = "drawn, not ranked"
"""The margin of a choice that a draw made."""


def needs_intent(asked: ChatRequest | RequestFeatures, catalog: Catalog) -> bool:
    """Whether the decision depends on what the request is about: not when it names its model."""
    return not resolve(asked.model, catalog).pinned


def decide(asked: RequestFeatures, intent: Intent, catalog: Catalog, around: Circumstances) -> Decision:
    """Rank the deployments for a request.

    Raises NotFound for unknown names, Forbidden for a policy the key may not use, NoCandidate when nothing can serve.
    """
    weighed = weigh(asked, intent, catalog, around)
    rules, expected = weighed.rules, weighed.entrants.measure.expected
    code = ReasonCode.PINNED if rules.address.pinned else weighed.ranking.reason_code
    missed = ("quality_floor",) if code is ReasonCode.FLOOR_UNREACHABLE else ()
    draw, first = drawn(weighed)
    return Decision(
        id=around.decision_id,
        requested=asked.model,
        policy=rules.spec.name,
        intent=intent,
        ranked=_ranked(weighed, first),
        rejected=weighed.entrants.rejected(),
        reason_code=ReasonCode.EXPLORED if first else code,
        margin=_margin(weighed) if not first else DRAWN,
        features=asked,
        at=around.at,
        versions=_versions(weighed),
        caller=around.caller,
        experience=around.experience,
        judged_by=expected.intents,
        baseline_pusd=_baseline_cost(weighed),
        baseline_model=catalog.baseline,
        route=rules.route.name if rules.route else None,
        plan=rules.address.plan,
        notes=rules.notes,
        ceiling_pusd=rules.ceiling_pusd,
        budgeted=around.budgeted,
        max_latency_ms=rules.spec.max_latency_ms,
        degraded=(*rules.degraded, *missed, *(("classifier",) if intent.doubt == NOT_READ else ())),
        draw=draw,
        what_if=partial(what_if, weighed) if not first else WhatIf,
        rivals=partial(_rivals, weighed),
    )


def attempt_order(decision: Decision) -> Iterator[int]:
    """Whom to try, as ranks: the choice, then the best-ranked of another provider, then the rest.

    A vendor that is down is down for all of its models; the second attempt goes elsewhere while that is possible.
    """
    left: list[int] = []
    tried: set[str] = set()
    for rank in range(len(decision.ranked)):
        provider = decision.ranked.deployment(rank).provider.name
        if provider in tried:
            left.append(rank)
            continue
        tried.add(provider)
        yield rank
    yield from left


def baseline_quote(catalog: Catalog, at: datetime) -> PriceQuote | None:
    """The price of the configured baseline model at an instant: its first priced deployment's, active or not."""
    found = _baseline(catalog, at)
    return None if found is None else found[1]


def _baseline(catalog: Catalog, at: datetime) -> tuple[Deployment, PriceQuote] | None:
    if catalog.baseline is None:
        return None
    for deployment in catalog.models[catalog.baseline].deployments:
        quote = deployment.prices.quote(at)
        if quote is not None:
            return deployment, quote
    return None


def _rivals(weighed: Weighed) -> tuple[Rival, ...]:
    """Whom the choice is compared with, once it is paid for."""
    return rivals(weighed, _baseline(weighed.catalog, weighed.entrants.measure.at))


def _versions(weighed: Weighed) -> Mapping[str, str]:
    """What the request was held against. A policy is named by its bounds: its name may mean another thing later."""
    catalog, lengths = weighed.catalog, weighed.around.lengths
    policy, classifier = weighed.rules.spec.version, weighed.intent.artefact
    table, judge = None if lengths is None else lengths.version, weighed.around.experience.artefact
    held, key = prepared(catalog).versions, (policy, classifier, table, judge)
    found = held.get(key)
    if found is not None:
        return found
    versions = {
        "registry": catalog.version,
        "offer": catalog.offer,
        "policy": policy,
        "classifier": classifier,
        "router": __version__,
        "record": RECORD_VERSION,
    }
    if table is not None:
        versions["lengths"] = table
    if judge:
        versions["quality"] = judge
    return keep(held, key, versions, VERSIONS_MAX)


def _ranked(weighed: Weighed, drawn_rank: int) -> Ranked:
    """The able in their order, each built with its reason when somebody looks at it.

    `drawn_rank` is where the one stands in the policy's order that a draw puts first; 0 is the policy's own choice.
    """
    entrants, ranking = weighed.entrants, weighed.ranking

    def build(rank: int) -> Candidate:
        old = moved(rank, drawn_rank)
        one, first = weighed.standing(old), weighed.standing(0)
        why = reason(weighed.policy, ranking, old, one, first, weighed.rules.spec)
        if drawn_rank and not rank:
            why = f"drawn to learn from; by the policy {first.id} comes first: {why}"
        return entrants.candidate(ranking.order[old], below=below(ranking, old, one), reason=why)

    order = ranking.order
    if drawn_rank:
        order = [order[moved(rank, drawn_rank)] for rank in range(len(order))]
    return Ranked(order, ranking.eligible, entrants.qualities, entrants.costs, entrants.able, build)


def _margin(weighed: Weighed) -> str:
    if weighed.ranking.eligible < 2:
        return ALONE
    return weighed.policy.margin(weighed.standing(0), weighed.standing(1), weighed.rules.spec)


def _baseline_cost(weighed: Weighed) -> int | None:
    """What the configured baseline would be expected to cost for the same request, its cache as warm as the choice's.

    As the ledger has it: whoever sent everything to the baseline would have sent it the turn before, too.
    """
    catalog, measure = weighed.catalog, weighed.entrants.measure
    found = _baseline(catalog, measure.at)
    if found is None or not found[1].known:
        return None
    (deployment, quote), expected, known = found, measure.expected, measure.known
    answer = answer_of(catalog.models[deployment.model], expected)
    tokens, choices, read, written = expected.input_tokens, expected.choices, 0, 0
    if tokens >= BLOCK_TOKENS:
        chosen, _ = weighed.entrants.able[weighed.ranking.order[0]]
        warm = known.warm_tokens.get(chosen.id, 0)
        read, written = split(quote, deployment, tokens, warm, marked=known.marked)
    return imagined(quote, tokens, answer.visible * choices, answer.reasoning * choices, read, written)
