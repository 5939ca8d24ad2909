"""Who can serve a request, and the two numbers by which they are ranked; everything else when somebody looks.

Where on the path: third step of `router.decide`. `shortlist` knows who can serve requests of this kind at all; here the
request is held against the able ones: its size, what each would cost, how good each would be. A short list is gone
through row by row, a long one in columns. Neither says what a figure means: that do the functions of `quality`,
`estimate` and `money` for a single deployment; a property holds both to them.

Invariants
1. Every deployment that was meant is either able or out with a reason, in the order of the registry.
2. What is built later tells the figures that were ranked.
3. Quality floors of the caller, cost ceilings and hard budgets are applied here, to everybody, whatever the classifier
   said.
4. Row by row or in columns, the entrants are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from service.domain.catalog import Deployment, Model, PolicySpec
from service.domain.decision import QUALITY_STEPS, Candidate, Rejected, floor_steps
from service.domain.experience import NOTHING, Experience
from service.domain.features import RequestFeatures
from service.domain.imagined import Worst, imagined
from service.domain.money import PriceQuote
from service.domain.ports import Figures, Policy, Ranking
from service.routing.capable import Demands, context_of, output_limit, too_large
from service.routing.estimate import (
    Answer,
    Forecast,
    answer_of,
    candidate,
    over_ceiling,
    unaccountable,
    wanted_of,
    within_ceiling,
    worst_cost,
)
from service.routing.policies.bounds import UNPRICED, rank, rank_columns
from service.routing.policies.wording import shown
from service.routing.prefixes import BLOCK_TOKENS, split, writes_of
from service.routing.quality import judged
from service.routing.quotes import FREE, SUM_MOST, Flags, Quotes, Whole
from service.routing.shortlist import Out, Shortlist, reasons_of

NO_LOADS: Final[Mapping[int, tuple[int | None, str]]] = MappingProxyType({})

COLUMNS_FROM: Final = 40
"""So many able ones are worth columns: one operation on a column costs as much as on a few rows."""


class Measure(NamedTuple):
    """What every deployment is measured by: the request, its demands and forecast, the instant, a cost ceiling.

    `known` is what is known beside the request: warm prefixes, and qualities as an artefact judges the text.
    `budgeted`: what can't be priced is out, since a hard budget applies.
    """

    asked: RequestFeatures
    demands: Demands
    expected: Forecast
    at: datetime
    ceiling_pusd: int | None
    known: Experience = NOTHING
    budgeted: bool = False

    @property
    def least(self) -> int:
        """The quality that the caller asks for, in steps; 0 is none."""
        said = self.asked.steering.min_quality
        return 0 if said is None else floor_steps(said)

    def puts_out(self, quotes: Quotes) -> bool:
        """Whether a budget puts somebody out: who has no price for some prompt, or everybody at an unknown size."""
        return self.budgeted and bool(quotes.gaps or self.asked.sizes.unmeasured)


class Entrants(NamedTuple):
    """The able with their figures, and those who are out, each in the order of the registry.

    `out` holds the reason of each, and whether only a limit stood against it, so that it has a cost to tell. Tuples,
    because there is one for every deployment of the registry and most are never looked at. `columns` are the figures as
    columns, an unknown cost being `UNPRICED`, where they were made in columns. `loads` are the engines of one's own
    whose cost here is that of their load (`load.py`): what they are expected to cost, and a text about it.
    """

    measure: Measure
    shortlist: Shortlist
    able: Sequence[tuple[Deployment, Model]]
    qualities: Sequence[int]
    costs: Sequence[int | None]
    out: Sequence[Out]
    columns: tuple[Whole, Whole] | None = None
    loads: Mapping[int, tuple[int | None, str]] = NO_LOADS

    def figures(self) -> Figures:
        """What a policy ranks."""
        return Figures(self.qualities, self.costs)

    def expected_costs(self) -> Sequence[int | None]:
        """What each is expected to cost, as it will be booked: engines of one's own at their amortised price."""
        if not self.loads:
            return self.costs
        return [self.loads[place][0] if place in self.loads else cost for place, cost in enumerate(self.costs)]

    def ranked(self, policy: Policy, spec: PolicySpec) -> Ranking:
        """The order of the able."""
        intents = self.measure.expected.by.intents
        if self.columns is not None:
            ranking = rank_columns(policy, *self.columns, spec, intents)
            if ranking is not None:
                return ranking
        return rank(policy, self.figures(), spec, intents)

    def candidate(self, place: int, *, below: str | None, reason: str) -> Candidate:
        """The able one at a place, whole: with its quote, its reservation and the cap that holds a ceiling."""
        deployment, model = self.able[place]
        measure = self.measure
        cost, busy = self.loads.get(place, (self.costs[place], ""))
        figures = self.qualities[place], cost
        found = candidate(
            deployment,
            model,
            measure.expected,
            measure.at,
            known=measure.known,
            below=below,
            reason=f"{reason}; {busy}" if busy else reason,
            figures=figures,
        )
        if measure.ceiling_pusd is not None:
            found, _ = within_ceiling(found, model, measure.asked, measure.ceiling_pusd)
        return found

    def needed_pusd(self, place: int) -> int | None:
        """The least cost limit under which the able one at a place can serve; `None` when its price is unknown."""
        return self.needed_of(*self.able[place])

    def needed_of(self, deployment: Deployment, model: Model) -> int | None:
        """The least cost limit under which a deployment can serve, as far as cost goes; `None` without a price."""
        expected = self.measure.expected
        wanted = wanted_of(answer_of(model, expected), deployment, model) * expected.choices
        worst = Worst(writes_of(deployment, marked=self.measure.known.marked), expected.service_tier)
        return worst_cost(deployment.prices.quote(self.measure.at), expected.input_tokens, wanted, worst)

    def rejected(self) -> Rejected:
        """Those who are out, with their reasons at hand and the rest when somebody looks."""
        lasting = self.out is self.shortlist.out
        return Rejected(self.shortlist.reasons if lasting else reasons_of(self.out), self._rejected)

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


def enter(shortlist: Shortlist, measure: Measure) -> Entrants:
    """Measure every deployment of a shortlist."""
    if len(shortlist.able) >= COLUMNS_FROM:
        found = _in_columns(shortlist, measure)
        if found is not None:
            return found
    return _row_by_row(shortlist, measure)


def _row_by_row(shortlist: Shortlist, measure: Measure) -> Entrants:
    """Deployment by deployment."""
    expected, ceiling, able = measure.expected, measure.ceiling_pusd, shortlist.able
    qualities = shortlist.priors.judged(expected.by, measure.known)
    answers = None  # what is expected of every model alike
    if shortlist.thinks or expected.lengths is not None:
        answers = [answer_of(model, expected) for _, model in able]
    quotes = shortlist.quotes(measure.at)
    costs = _costs(shortlist, measure, quotes, answers)
    unlimited = ceiling is None and not measure.least and not measure.puts_out(quotes)
    if unlimited and shortlist.holds(measure.demands):
        return Entrants(measure, shortlist, able, qualities, costs, shortlist.out)
    worst = None if ceiling is None else _worst(shortlist, measure, quotes, answers)
    told = _reasons(shortlist, measure, range(len(able)), quotes, qualities, costs, worst)
    out = [(row, reason, fits) for row, reason, fits in told if reason is not None]
    if not out:
        return Entrants(measure, shortlist, able, qualities, costs, shortlist.out)
    rows = [row for row, reason, _ in told if reason is None]
    return Entrants(
        measure,
        shortlist,
        [able[row] for row in rows],
        [qualities[row] for row in rows],
        [costs[row] for row in rows],
        shortlist.with_out(out),
    )


def _costs(
    shortlist: Shortlist, measure: Measure, quotes: Quotes, answers: Sequence[Answer] | None
) -> list[int | None]:
    """The expected cost of every row: `money.imagined`, with the rates at hand."""
    expected, known, limits = measure.expected, measure.known, shortlist.limits
    tokens, choices = expected.input_tokens, expected.choices
    visible, reasoning, *_ = expected.plain
    whole = tokens // BLOCK_TOKENS * BLOCK_TOKENS
    each = quotes.rates(tokens)
    if answers is None and visible <= shortlist.limit_least and not whole:
        # Nothing differs but the rates, of which fresh, said and fee count: most requests.
        output = visible * choices
        sums = [tokens * one[0] + output * one[1] + one[3] for one in [rates or FREE for rates in each]]
    else:
        sums = []
        for row, rates in enumerate(each):
            fresh, said, thought, fee, writes, marked_writes, *_ = rates or FREE
            if answers is not None:
                visible, reasoning, *_ = answers[row]
            total = tokens * fresh + min(visible, limits[row]) * choices * said + fee
            if reasoning:
                total += reasoning * choices * thought
            if whole:
                total += whole * (marked_writes if known.marked else writes)
            sums.append(total)
    costs = quotes.pusd(sums, tokens)
    if whole and known.warm_tokens:
        for row, (deployment, model) in enumerate(shortlist.able):
            if deployment.id in known.warm_tokens:
                answer = expected.plain if answers is None else answers[row]
                costs[row] = _warm_cost(deployment, model, quotes.each[row], answer, measure)
    return costs


def _warm_cost(
    deployment: Deployment, model: Model, quote: PriceQuote | None, answer: Answer, measure: Measure
) -> int | None:
    """The expected cost where some of the prompt is warm."""
    if quote is None or not quote.known:
        return None
    expected, known, limit = measure.expected, measure.known, output_limit(deployment, model)
    tokens, choices = expected.input_tokens, expected.choices
    output = answer.visible if limit is None else min(answer.visible, limit)
    read, written = split(quote, deployment, tokens, known.warm_tokens[deployment.id], marked=known.marked)
    return imagined(quote, tokens, output * choices, answer.reasoning * choices, read, written)


def _worst(
    shortlist: Shortlist, measure: Measure, quotes: Quotes, answers: Sequence[Answer] | None
) -> list[int | None]:
    """What costs the answer that a limit must leave room for, of every row."""
    expected = measure.expected
    found: list[int | None] = []
    for row, (deployment, model) in enumerate(shortlist.able):
        answer = expected.plain if answers is None else answers[row]
        wanted = wanted_of(answer, deployment, model) * expected.choices
        worst = Worst(writes_of(deployment, marked=measure.known.marked), expected.service_tier)
        found.append(worst_cost(quotes.each[row], expected.input_tokens, wanted, worst))
    return found


def _in_columns(shortlist: Shortlist, measure: Measure) -> Entrants | None:
    """The same for all at once; `None` where a figure might not fit into a column, or is not in one."""
    columns, expected, ceiling = shortlist.columns, measure.expected, measure.ceiling_pusd
    if ceiling is not None and expected.service_tier is not None:
        return None  # few ask for a tier, and each deployment has its own factor for it
    answers = columns.answers(expected)
    qualities = None if answers is None else columns.qualities(expected.by, measure.known)
    if answers is None or qualities is None:
        return None
    quotes, worst = shortlist.quotes(measure.at), None
    costs = columns.costs(expected, answers, measure.known, quotes)
    if ceiling is not None:
        worst = columns.worst(expected, answers, quotes, marked=measure.known.marked)
    if costs is None or (worst is None and ceiling is not None):
        return None
    able, out = shortlist.able, shortlist.out
    kept = _kept(shortlist, measure, quotes, qualities, costs, worst)
    if kept is not None and not kept.all():
        gone = np.flatnonzero(~kept)
        dear = None if worst is None else _known(worst[gone], SUM_MOST)
        figures = qualities[gone].tolist(), _known(costs[gone], UNPRICED), dear
        told_out = _reasons(shortlist, measure, gone.tolist(), quotes, *figures)
        out = shortlist.with_out([(row, reason, fits) for row, reason, fits in told_out if reason is not None])
        able = tuple([able[row] for row in np.flatnonzero(kept).tolist()])
        qualities, costs = qualities[kept], costs[kept]
    told: list[int | None] = _known(costs, UNPRICED) if quotes.gaps else costs.tolist()
    return Entrants(measure, shortlist, able, qualities.tolist(), told, out, (qualities, costs))


def _known(column: Whole, unknown: int) -> list[int | None]:
    return [None if one == unknown else one for one in column.tolist()]


def _kept(
    shortlist: Shortlist, measure: Measure, quotes: Quotes, qualities: Whole, costs: Whole, worst: Whole | None
) -> Flags | None:
    """Whom no limit of this request puts out; `None` when it has none that could."""
    demands, least, ceiling = measure.demands, measure.least, measure.ceiling_pusd
    kept: Flags | None = None
    if not shortlist.holds(demands):
        kept = shortlist.columns.holds(demands)
    if least > 0:
        good = qualities >= min(least, QUALITY_STEPS + 1)
        kept = good if kept is None else kept & good
    if worst is not None and ceiling is not None:
        cheap = (worst <= min(ceiling, SUM_MOST - 1)) & (costs != UNPRICED) & (not measure.asked.sizes.unmeasured)
        kept = cheap if kept is None else kept & cheap
    if measure.puts_out(quotes):
        held = np.full(len(shortlist.able), not measure.asked.sizes.unmeasured)
        held[list(quotes.gaps)] = False
        kept = held if kept is None else kept & held
    return kept


def _reasons(
    shortlist: Shortlist,
    measure: Measure,
    rows: Sequence[int],
    quotes: Quotes,
    qualities: Sequence[int],
    costs: Sequence[int | None],
    worst: Sequence[int | None] | None,
) -> list[tuple[int, str | None, bool]]:
    """What of this request's own stands against some rows: (row, reason or `None`, whether it fits the row in size).

    The figures are those of the rows. Most reasons are the same, so each text is made once.
    """
    small, least, ceiling = shortlist.holds(measure.demands), measure.least, measure.ceiling_pusd
    budgeted = measure.puts_out(quotes)
    sized: dict[tuple[int | None, int | None], str | None] = {}
    poor: dict[int, str] = {}
    told: list[tuple[int, str | None, bool]] = []
    for place, row in enumerate(rows):
        deployment, model = shortlist.able[row]
        reason = None
        if not small:
            sizes = context_of(deployment, model), output_limit(deployment, model)
            if sizes not in sized:
                sized[sizes] = too_large(deployment, model, measure.demands)
            reason = sized[sizes]
        fits, quality = reason is None, qualities[place]
        if fits and quality < least:
            reason = poor.get(quality) or poor.setdefault(quality, _too_poor(quality, least))
        elif fits and worst is not None and ceiling is not None:
            reason = over_ceiling(costs[place], worst[place], measure.asked, ceiling)
        if fits and reason is None and budgeted:
            reason = unaccountable(quotes.each[row], measure.asked)
        told.append((row, reason, fits))
    return told


def _too_poor(quality: int, least: int) -> str:
    return f"quality: {shown(quality)} is under the {shown(least)} asked for"
