"""Who can serve a request, and the two numbers by which they are ranked; everything else when somebody looks.

Where on the path: third step of `router.decide`. This is the loop over all deployments of the registry, so it makes
whole numbers and nothing else: a candidate with its quote, its reservation and its reasons is built for the few that
are told or tried.

Invariants
1. Every deployment that was meant is either able or out with a reason, in the order of the registry.
2. What is built later comes from the same functions as the figures, so it can't say anything else.
3. Quality floors of the caller and cost ceilings are applied here, to everybody, whatever the classifier said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from service.domain.catalog import Deployment, Model
from service.domain.chat import ChatRequest
from service.domain.decision import QUALITY_STEPS, Candidate, Rejected, floor_steps
from service.domain.ports import Figures
from service.routing.capable import Demands, obstacle
from service.routing.estimate import (
    Forecast,
    candidate,
    cost_of,
    least_wanted,
    over_ceiling,
    quality_of,
    reasoning_of,
    visible_output,
    within_ceiling,
    worst_cost,
)
from service.routing.policies.wording import shown


@dataclass(frozen=True, slots=True)
class Measure:
    """What every deployment is measured by: the request, its demands and forecast, the instant, a cost ceiling."""

    chat: ChatRequest
    demands: Demands
    expected: Forecast
    at: datetime
    ceiling_pusd: int | None


@dataclass(frozen=True, slots=True)
class Entrants:
    """The able with their figures, and those who are out, each in the order of the registry.

    `out` holds the reason of each, and whether only a limit stood against it, so that it has a cost to tell. Tuples,
    because there is one for every deployment of the registry and most are never looked at.
    """

    measure: Measure
    able: list[tuple[Deployment, Model]] = field(default_factory=list)
    qualities: list[int] = field(default_factory=list)
    costs: list[int | None] = field(default_factory=list)
    out: list[tuple[Deployment, Model, str, bool]] = field(default_factory=list)

    def figures(self) -> Figures:
        """What a policy ranks."""
        return Figures(self.qualities, self.costs)

    def candidate(self, place: int, *, below: str | None, reason: str) -> Candidate:
        """The able one at a place, whole: with its quote, its reservation and the cap that holds a ceiling."""
        deployment, model = self.able[place]
        found = candidate(deployment, model, self.measure.expected, self.measure.at, below=below, reason=reason)
        if self.measure.ceiling_pusd is not None:
            found, _ = within_ceiling(found, model, self.measure.chat, self.measure.ceiling_pusd)
        return found

    def rejected(self) -> Rejected:
        """Those who are out, with their reasons at hand and the rest when somebody looks."""
        return Rejected([(deployment.id, reason) for deployment, _, reason, _ in self.out], self._rejected)

    def _rejected(self, place: int) -> Candidate:
        deployment, model, reason, measured = self.out[place]
        expected = self.measure.expected
        if measured:
            return replace(candidate(deployment, model, expected, self.measure.at), rejected=reason)
        return Candidate(
            deployment=deployment,
            quality=quality_of(model, expected.intents) / QUALITY_STEPS,
            expected_cost_pusd=None,
            reserved_pusd=None,
            input_tokens=expected.input_tokens,
            output_tokens=expected.output_tokens,
            reasoning_tokens=0,
            quote=None,
            rejected=reason,
        )


def enter(meant: Iterable[Deployment], models: Mapping[str, Model], measure: Measure) -> Entrants:
    """Measure every deployment that is meant."""
    entrants = Entrants(measure)
    able, qualities, costs, out = entrants.able, entrants.qualities, entrants.costs, entrants.out
    demands, at = measure.demands, measure.at
    chat, expected, ceiling = measure.chat, measure.expected, measure.ceiling_pusd
    intents, input_tokens, choices = expected.intents, expected.input_tokens, expected.choices
    asked = chat.steering.min_quality
    least = 0 if asked is None else floor_steps(asked)
    for deployment in meant:
        model = models[deployment.model]
        reason = obstacle(deployment, model, demands)
        if reason is not None:
            out.append((deployment, model, reason, False))
            continue
        quality = quality_of(model, intents)
        reasoning = reasoning_of(model, intents)
        output = visible_output(deployment, model, expected)
        quote = deployment.prices.quote(at)
        cost = cost_of(quote, input_tokens, output, reasoning * choices)
        if quality < least:
            reason = f"quality: {shown(quality)} is under the {shown(least)} asked for"
        elif ceiling is not None:
            worst = worst_cost(quote, input_tokens, least_wanted(output, reasoning, chat) * choices)
            reason = over_ceiling(cost, worst, chat, ceiling)
        if reason is not None:
            out.append((deployment, model, reason, True))
            continue
        able.append((deployment, model))
        qualities.append(quality)
        costs.append(cost)
    return entrants
