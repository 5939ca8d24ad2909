"""What a deployment would cost for a request: how long its answer will be, what of the prompt it reads from its cache.

Where on the path: third step of `router.decide`, for every deployment that can serve. Pure arithmetic over priors
(`lengths.OUTPUT_PRIORS`, the registry), over the learned table of lengths where there is one, and over warm prefixes.

Two figures of an answer matter. What it is *expected* to be ranks candidates. What 90 % of answers stay under is for
gates: a cost limit must leave room for that much, and a reservation holds it where the caller set no cap.

An answer that may be several things is as long as the longest of them. A compound one is as long as its parts together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final, NamedTuple

from service.domain.catalog import Deployment, Model
from service.domain.decision import COMPOUND, QUALITY_STEPS, Candidate, Intent
from service.domain.experience import NOTHING, Experience
from service.domain.features import DEFAULT_EFFORT, RequestFeatures
from service.domain.imagined import Worst, imagined
from service.domain.money import PriceQuote, usd_text
from service.routing.capable import context_of, output_limit
from service.routing.lengths import OUTPUT_PRIORS, REASONING_HIGH_FACTOR, WHOLE, Cells, Lengths, cell, prior_of
from service.routing.prefixes import BLOCK_TOKENS, WRITES, dearest_input, split, writes_of
from service.routing.quality import Standards, judged, parts_of, standards
from service.routing.quotes import priced

DEAREST: Final = Worst(WRITES)
"""Whatever a vendor may write, and bill: what is assumed of an attempt that nobody says more about."""

INPUT_MARGIN_PERCENT = 150
"""Reserved input over the estimated one: the character rule is off by up to half on unusual text."""


STRUCTURED_TOOL_TOKENS = 120
"""A tool call is a name and a few arguments."""


class Answer(NamedTuple):
    """What is expected of one model's answer, in tokens of one choice.

    `visible` and `reasoning` are expected; `most` is reserved for both; `wanted` is what a cost limit must leave room
    for.
    """

    visible: int
    reasoning: int
    most: int
    wanted: int


class Step(NamedTuple):
    """One thing that an answer may be, or is made of: tokens of one choice by the priors."""

    intent: str
    expected: int
    high: int


class Forecast(NamedTuple):
    """What is expected of any model for this request, in tokens over all `choices` of the answer.

    `by` says what quality is judged by. An answer is as long as the longest of `groups`, each the sum of its steps.
    `plain` is the answer of a model that is known by nothing but the priors and does not think, `high` its high figure
    without a cap. `parted`: some group has several steps. `cap` is the caller's for one choice. `lengths` is the
    learned table, `None` where there is none. `service_tier` is the one that was asked for.
    """

    by: Standards
    input_tokens: int
    output_tokens: int
    choices: int
    groups: tuple[tuple[Step, ...], ...]
    plain: Answer
    high: int
    parted: bool
    effort: str = DEFAULT_EFFORT
    cap: int | None = None
    least: int = 0
    lengths: Lengths | None = None
    service_tier: str | None = None

    @property
    def intents(self) -> tuple[str, ...]:
        """Everything that the request may be, or consists of."""
        return self.by.intents


def forecast(
    asked: RequestFeatures, intent: Intent, lengths: Lengths | None = None, *, unknown_ground: bool = False
) -> Forecast:
    """By what models are judged, and how long the answer will be.

    A classifier that abstains gives the safe default: a model must be good at every plausible intent, and the longest
    of them is expected. A request that carries tools must also be served by someone good at tools.
    """
    by = standards(intent, asked.needs, unknown_ground=unknown_ground)
    sizes, cap, choices = asked.sizes, asked.output_tokens_max, asked.n
    last, names = sizes.last_user_tokens, by.intents
    parts = parts_of(intent) if intent.label == COMPOUND else ()
    if parts:
        single = [name for name in names if name not in parts and name != COMPOUND]
        groups = (tuple([_step(name, last) for name in parts]), *[_alone(name, last) for name in single])
        visible = max([sum([step.expected for step in group]) for group in groups])
        high = max([sum([step.high for step in group]) for group in groups])
    else:
        groups = tuple([_alone(name, last) for name in names])
        _, visible, high = groups[0][0]
        for (step,) in groups[1:]:
            visible, high = max(visible, step.expected), max(high, step.high)
    least = STRUCTURED_TOOL_TOKENS if asked.in_tool_loop else 0
    visible = max(visible, least)
    return Forecast(
        by,
        sizes.input_tokens,
        (visible if cap is None else min(visible, cap)) * choices,
        choices,
        groups,
        _answer(least, cap, visible, high, 0, 0),
        max(high, visible),
        len(parts) > 1,
        asked.effort,
        cap,
        least,
        lengths,
        asked.service_tier,
    )


def _step(intent: str, last_user_tokens: int) -> Step:
    prior = prior_of(intent)
    return Step(intent, prior.expected(last_user_tokens), prior.high(last_user_tokens))


_ANY_SIZE: Final[Mapping[str, tuple[Step]]] = {
    intent: (Step(intent, prior.base, prior.p95),)
    for intent, prior in OUTPUT_PRIORS.items()
    if not prior.per_input_percent
}
"""The steps of intents whose answers are as long whatever was asked."""


def _alone(intent: str, last_user_tokens: int) -> tuple[Step, ...]:
    """An answer that is one thing."""
    return _ANY_SIZE.get(intent) or (_step(intent, last_user_tokens),)


def answer_of(model: Model, expected: Forecast) -> Answer:
    """How long a model's answer will be, by all that is known of it."""
    cells = None if expected.lengths is None else expected.lengths.of(model.name)
    if cells is not None:
        return _answer(expected.least, expected.cap, *_measured(expected, model, cells))
    plain = expected.plain
    hidden = _hidden(model, expected) if model.reasoning_tokens else 0
    if not hidden:
        return plain
    more, cap = REASONING_HIGH_FACTOR * hidden, expected.cap
    wanted = expected.high + more
    return Answer(plain.visible, hidden, plain.most + more, wanted if cap is None else min(wanted, cap))


def _hidden(model: Model, expected: Forecast) -> int:
    """Hidden tokens of one choice by the registry: the most over what the answer may be."""
    known = model.reasoning_tokens
    default = known.get("default", 0)
    if expected.parted:
        return max([sum([known.get(step.intent, default) for step in group]) for group in expected.groups])
    if len(expected.groups) == 1:
        return known.get(expected.groups[0][0].intent, default)
    return max([known.get(group[0].intent, default) for group in expected.groups])


def _measured(expected: Forecast, model: Model, cells: Cells) -> tuple[int, int, int, int]:
    """(visible, high, hidden, hidden high) tokens of one choice by the learned table: each the most over the groups."""
    visible = high = reasoning = hidden_high = 0
    for group in expected.groups:
        one = _group(group, model, cells, expected.effort)
        visible, high = max(visible, one[0]), max(high, one[1])
        reasoning, hidden_high = max(reasoning, one[2]), max(hidden_high, one[3])
    return visible, high, reasoning, hidden_high


def _answer(least: int, cap: int | None, visible: int, high: int, reasoning: int, hidden_high: int) -> Answer:
    visible = max(visible, least)
    wanted = max(high, visible) + hidden_high
    if cap is None:
        return Answer(visible, reasoning, wanted, wanted)
    return Answer(min(visible, cap), reasoning, cap + hidden_high, min(wanted, cap))


def _group(group: tuple[Step, ...], model: Model, cells: Cells, effort: str) -> tuple[int, int, int, int]:
    """The same of the steps of one answer together."""
    visible = high = reasoning = hidden_high = 0
    for step in group:
        length = cell(cells, step.intent, effort)
        said, most = step.expected, step.high
        hidden = hidden_most = None
        if length is not None:
            said = step.expected * length.visible // WHOLE
            most = step.high * length.high // WHOLE
            hidden, hidden_most = length.reasoning, length.reasoning_high
        if hidden is None or hidden_most is None:
            hidden = model.reasoning_for(step.intent)
            hidden_most = REASONING_HIGH_FACTOR * hidden
        visible, high = visible + said, high + most
        reasoning, hidden_high = reasoning + hidden, hidden_high + hidden_most
    return visible, high, reasoning, hidden_high


def candidate(
    deployment: Deployment,
    model: Model,
    expected: Forecast,
    at: datetime,
    *,
    known: Experience = NOTHING,
    below: str | None = None,
    reason: str = "",
    figures: tuple[int, int | None] | None = None,
) -> Candidate:
    """A deployment with its expected and its reserved cost at this instant, `None` when the price is unknown.

    `below` and `reason` are where it stands, when that is known already; `figures` its quality in steps and its
    expected cost, where it was ranked by them.
    """
    answer = answer_of(model, expected)
    quote = deployment.prices.quote(at)
    cap, choices, tokens = output_limit(deployment, model), expected.choices, expected.input_tokens
    output = (answer.visible if cap is None else min(answer.visible, cap)) * choices
    high = (answer.most if cap is None else min(answer.most, cap)) * choices
    warm = known.warm_tokens.get(deployment.id, 0) if known.warm_tokens else 0
    read = written = 0
    worst = Worst(writes_of(deployment, marked=known.marked), expected.service_tier)
    if quote is not None and tokens >= BLOCK_TOKENS:
        read, written = split(quote, deployment, tokens, warm, marked=known.marked)
    if figures is None:
        cost = cost_of(quote, tokens, output, answer.reasoning * choices, read, written)
        figures = judged(model, expected.by, known), cost
    learned = known.qualities.get(model.name) if known.qualities and expected.by.spread else None
    return Candidate(
        deployment=deployment,
        quality=figures[0] / QUALITY_STEPS,
        expected_cost_pusd=figures[1],
        reserved_pusd=worst_cost(quote, tokens, high, worst),
        input_tokens=tokens,
        output_tokens=output,
        reasoning_tokens=answer.reasoning,
        quote=quote,
        below=below,
        reason=f"{reason}; {_warmth(read, tokens)}" if read and reason else reason,
        wanted_tokens=wanted_of(answer, deployment, model),
        warm_tokens=warm,
        cached_tokens=read,
        cache_write_tokens=written,
        worst=worst,
        learned_quality=None if learned is None else learned / QUALITY_STEPS,
    )


def _warmth(read: int, input_tokens: int) -> str:
    return f"{read:,} of {input_tokens:,} input tokens are warm there"


def wanted_of(answer: Answer, deployment: Deployment, model: Model) -> int:
    """Tokens of one choice that a cost limit must leave room for at a deployment: it can't say more than it can."""
    cap = output_limit(deployment, model)
    return max(1, answer.wanted if cap is None else min(answer.wanted, cap))


def cost_of(
    quote: PriceQuote | None,
    input_tokens: int,
    output_tokens: int,
    reasoning_tokens: int,
    read_tokens: int = 0,
    written_tokens: int = 0,
) -> int | None:
    """Pico-USD of an imagined usage, or `None` when the price is unknown.

    `input_tokens` are all of the prompt, of which so many are read from a cache and written to one.
    """
    if quote is None or not quote.known:
        return None
    return imagined(quote, input_tokens, output_tokens, reasoning_tokens, read_tokens, written_tokens)


def worst_cost(quote: PriceQuote | None, input_tokens: int, output_tokens: int, worst: Worst = DEAREST) -> int | None:
    """Pico-USD that so many output tokens stay under: input with its margin, input and output of the dearer kind.

    `worst` is what may make it dearer than its tokens: all of a prompt that is long enough may be written to a cache.
    """
    if quote is None or not quote.known:
        return None
    padded = input_tokens * INPUT_MARGIN_PERCENT // 100
    rates = quote.rates_for(padded)
    if rates.input is None or rates.output is None or rates.requests is None:
        return None
    dearest = dearest_input(rates, worst.writes) if padded >= BLOCK_TOKENS else rates.input
    said = max(rates.output, rates.reasoning or 0)
    return quote.pusd(padded * dearest + output_tokens * said + rates.requests, worst.service_tier)


def affordable_output(quote: PriceQuote, input_tokens: int, ceiling_pusd: int, worst: Worst = DEAREST) -> int:
    """How many output tokens fit under a ceiling in pico-USD once the input (with its margin) is paid; may be 0."""
    bare, probe = (worst_cost(quote, input_tokens, output, worst) for output in (0, UNBOUNDED_TOKENS))
    if bare is None or probe is None or bare > ceiling_pusd:
        return 0
    if probe <= ceiling_pusd:
        return UNBOUNDED_TOKENS
    fits = (ceiling_pusd - bare) * UNBOUNDED_TOKENS // (probe - bare)
    # The two probes were rounded, so the quotient may be a token or two too high: the ceiling is a promise.
    while fits > 0 and (worst_cost(quote, input_tokens, fits, worst) or 0) > ceiling_pusd:
        fits -= 1
    return fits


def over_ceiling(
    expected_pusd: int | None, worst_pusd: int | None, asked: RequestFeatures, ceiling_pusd: int
) -> str | None:
    """Why an answer can't be held under a ceiling, or `None`.

    By its expected cost, and by what costs the answer that a limit must leave room for.
    """
    if expected_pusd is None or worst_pusd is None:
        return "price: unknown, and there is a cost limit"
    if asked.sizes.unmeasured:
        return "size: an attachment by reference has no known size, and there is a cost limit"
    if worst_pusd > ceiling_pusd:
        return f"cost: an answer may cost more than the limit of {usd_text(ceiling_pusd)} USD"
    return None


def unaccountable(quote: PriceQuote | None, asked: RequestFeatures) -> str | None:
    """Why an answer can't be held under a budget that refuses, or `None`: nobody could say what to reserve."""
    if not priced(quote):
        return "price: unknown, and there is a budget"
    if asked.sizes.unmeasured:
        return "size: an attachment by reference has no known size, and there is a budget"
    return None


def within_ceiling(
    found: Candidate, model: Model, asked: RequestFeatures, ceiling_pusd: int, *, hurried: bool = False
) -> tuple[Candidate, str | None]:
    """(the candidate with the output cap that makes the ceiling hold, why it can't be held or `None`).

    The cap is per choice, as vendors read it. None is set where the model can't say so much that it would matter.
    `hurried`: others have failed, and an answer that may be cut is better than none, so room for the expected one will
    do.
    """
    wanted = max(1, found.wanted_tokens)
    if hurried:
        wanted = max(1, min(wanted, found.output_tokens // asked.n + found.reasoning_tokens))
    worst = worst_cost(found.quote, found.input_tokens, wanted * asked.n, found.worst)
    problem = over_ceiling(found.expected_cost_pusd, worst, asked, ceiling_pusd)
    if problem is not None or found.quote is None:
        return found, problem
    # Rounding may put the quotient a token under what has just been found to fit.
    fits = max(affordable_output(found.quote, found.input_tokens, ceiling_pusd, found.worst) // asked.n, wanted)
    limits = (asked.output_tokens_max, output_limit(found.deployment, model))
    if any(limit is not None and limit <= fits for limit in limits):
        most = min(limit for limit in limits if limit is not None)
        return replace(found, reserved_pusd=_least(found, most, asked.n), output_tokens_cap=0), None
    # Engines refuse a cap beyond their window, and one that no answer can reach (output is free, say) holds nothing.
    left = _window_left(found, model)
    cap = fits if left is None else min(fits, left)
    cap = 0 if cap >= UNBOUNDED_TOKENS // asked.n else cap
    return replace(found, reserved_pusd=_least(found, fits, asked.n), output_tokens_cap=cap), None


def _least(found: Candidate, output_tokens: int, choices: int) -> int | None:
    """The reservation, lowered to what so many tokens per choice can cost at most."""
    worst = worst_cost(found.quote, found.input_tokens, output_tokens * choices, found.worst)
    return found.reserved_pusd if worst is None else min(worst, found.reserved_pusd or 0)


def _window_left(found: Candidate, model: Model) -> int | None:
    """What fits behind the input, where the registry knows the window."""
    window = context_of(found.deployment, model)
    return None if window is None else max(1, window - found.input_tokens)


UNBOUNDED_TOKENS = 10**9
"""What a ceiling allows where output is free."""
