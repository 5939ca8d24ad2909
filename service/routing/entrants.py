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
from service.domain.decision import QUALITY_STEPS, Candidate, Rejected, floor_steps
from service.domain.experience import NOTHING, Experience
from service.domain.features import RequestFeatures
from service.domain.money import imagined
from service.domain.ports import Figures
from service.routing.capable import Demands, obstacle
from service.routing.estimate import (
    Forecast,
    answer_of,
    candidate,
    output_limit,
    over_ceiling,
    wanted_of,
    within_ceiling,
    worst_cost,
)
from service.routing.policies.wording import shown
from service.routing.prefixes import BLOCK_TOKENS, split
from service.routing.quality import judged


@dataclass(frozen=True, slots=True)
class Measure:
    """What every deployment is measured by: the request, its demands and forecast, the instant, a cost ceiling.

    `known` is what is known beside the request: warm prefixes, and qualities as an artefact judges the text.
    """

    asked: RequestFeatures
    demands: Demands
    expected: Forecast
    at: datetime
    ceiling_pusd: int | None
    known: Experience = NOTHING


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
        measure = self.measure
        found = candidate(
            deployment, model, measure.expected, measure.at, known=measure.known, below=below, reason=reason
        )
        if self.measure.ceiling_pusd is not None:
            found, _ = within_ceiling(found, model, self.measure.asked, self.measure.ceiling_pusd)
        return found

    def needed_pusd(self, place: int) -> int | None:
        """The least cost limit under which the able one at a place can serve; `None` when its price is unknown."""
        return self.needed_of(*self.able[place])

    def needed_of(self, deployment: Deployment, model: Model) -> int | None:
        """The least cost limit under which a deployment can serve, as far as cost goes; `None` without a price."""
        expected = self.measure.expected
        wanted = wanted_of(answer_of(model, expected), deployment, model) * expected.choices
        return worst_cost(deployment.prices.quote(self.measure.at), expected.input_tokens, wanted)

    def rejected(self) -> Rejected:
        """Those who are out, with their reasons at hand and the rest when somebody looks."""
        return Rejected([(deployment.id, reason) for deployment, _, reason, _ in self.out], self._rejected)

    def _rejected(self, place: int) -> Candidate:
        deployment, model, reason, measured = self.out[place]
        expected = self.measure.expected
        if measured:
            found = candidate(deployment, model, expected, self.measure.at, known=self.measure.known)
            return replace(found, rejected=reason)
        return Candidate(
            deployment=deployment,
            quality=judged(model, expected.by, self.measure.known) / QUALITY_STEPS,
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
    demands, at, known = measure.demands, measure.at, measure.known
    asked, expected, ceiling = measure.asked, measure.expected, measure.ceiling_pusd
    input_tokens, choices, by = expected.input_tokens, expected.choices, expected.by
    said = asked.steering.min_quality
    least = 0 if said is None else floor_steps(said)
    cacheable = input_tokens >= BLOCK_TOKENS
    read = written = quality = 0
    answer, of = expected.plain, None
    for deployment in meant:
        model = models[deployment.model]
        reason = obstacle(deployment, model, demands)
        if reason is not None:
            out.append((deployment, model, reason, False))
            continue
        if model is not of:  # the hosts of a model stand together
            quality, answer, of = judged(model, by, known), answer_of(model, expected), model
        limit = output_limit(deployment, model)
        output = answer.visible if limit is None else min(answer.visible, limit)
        quote = deployment.prices.quote(at)
        if cacheable and quote is not None:
            warm = known.warm_tokens.get(deployment.id, 0) if known.warm_tokens else 0
            read, written = split(quote, deployment, input_tokens, warm, marked=known.marked)
        cost = None
        if quote is not None and quote.known:
            cost = imagined(quote, input_tokens, output * choices, answer.reasoning * choices, read, written)
        if quality < least:
            reason = f"quality: {shown(quality)} is under the {shown(least)} asked for"
        elif ceiling is not None:
            worst = worst_cost(quote, input_tokens, wanted_of(answer, deployment, model) * choices)
            reason = over_ceiling(cost, worst, asked, ceiling)
        if reason is not None:
            out.append((deployment, model, reason, True))
            continue
        able.append((deployment, model))
        qualities.append(quality)
        costs.append(cost)
    return entrants
