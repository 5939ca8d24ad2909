"""What a deployment would cost for a request, and how likely its answer is acceptable. Pure arithmetic over priors.

Where on the path: third step of `router.decide`, for every deployment that can serve.

Output lengths are priors per intent, in tokens, as `base + per_input x tokens of the newest user message`: a
translation is as long as its source, an extraction is not. `p95` bounds what is reserved when the caller set no cap.
The figures are ours: medians over natural assistant traffic as public length studies report them (chat 100-300, code
500-1,000, reasoned maths 500-800), rounded; they stand until a ledger has better ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from service.domain.catalog import DEFAULT_QUALITY, Deployment, Model
from service.domain.chat import ChatRequest
from service.domain.decision import QUALITY_STEPS, UNCLASSIFIED, Candidate, Intent, quality_steps
from service.domain.money import PriceQuote, imagined, usd_text

ABSTAIN_MASS = 0.80
"""How much of the posterior the plausible intents must cover when the classifier abstains."""

PLAUSIBLE_LEAST = 0.05
"""An intent less likely than this is noise. Fifteen equally likely ones are not: no evidence demands the most."""

INPUT_MARGIN_PERCENT = 150
"""Reserved input over the estimated one: the character rule is off by up to half on unusual text."""


@dataclass(frozen=True, slots=True)
class OutputPrior:
    """Expected visible output tokens of an intent, and the 95th percentile."""

    base: int
    per_input_percent: int
    p95: int

    def expected(self, last_user_tokens: int) -> int:
        """Tokens expected for a newest user message of this size."""
        return self.base + last_user_tokens * self.per_input_percent // 100

    def high(self, last_user_tokens: int) -> int:
        """Tokens that 95 % of answers stay under."""
        return self.p95 + last_user_tokens * self.per_input_percent * 3 // 200


OUTPUT_PRIORS: Mapping[str, OutputPrior] = {
    "chitchat": OutputPrior(80, 0, 400),
    "advice_ideas": OutputPrior(500, 0, 1_500),
    "rewriting": OutputPrior(60, 100, 400),
    "translation": OutputPrior(30, 110, 300),
    "summarization": OutputPrior(220, 5, 900),
    "extraction": OutputPrior(120, 5, 800),
    "factual_qa": OutputPrior(220, 0, 900),
    "writing": OutputPrior(700, 0, 2_500),
    "roleplay": OutputPrior(200, 0, 800),
    "coding": OutputPrior(800, 10, 4_000),
    "math": OutputPrior(600, 0, 2_500),
    "logic": OutputPrior(500, 0, 2_000),
    "domain_expert": OutputPrior(650, 0, 2_000),
    "tool_use": OutputPrior(120, 0, 600),
    "compound": OutputPrior(900, 20, 3_500),
    UNCLASSIFIED: OutputPrior(400, 0, 2_000),
}

STRUCTURED_TOOL_TOKENS = 120
"""A tool call is a name and a few arguments."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected of any model for this request, in tokens over all `choices` of the answer.

    `intents` are the ones its quality is judged by.
    """

    intents: tuple[str, ...]
    input_tokens: int
    output_tokens: int
    output_tokens_high: int
    choices: int = 1


def forecast(chat: ChatRequest, intent: Intent) -> Forecast:
    """Which intents must be served well, and how long the answer will be.

    A classifier that abstains gives the safe default: a model must be good at every plausible intent, not at the
    likeliest one. A request that carries tools must also be served by someone good at tools.
    """
    intents = plausible_intents(intent)
    if chat.needs & {"tools"} and "tool_use" not in intents:
        intents = (*intents, "tool_use")
    last = chat.sizes.last_user_tokens
    priors = [OUTPUT_PRIORS.get(name, OUTPUT_PRIORS[UNCLASSIFIED]) for name in intents]
    expected = max(prior.expected(last) for prior in priors)
    high = max(prior.high(last) for prior in priors)
    if chat.in_tool_loop:
        expected = max(expected, STRUCTURED_TOOL_TOKENS)
    cap = chat.output_tokens_max
    if cap is not None:
        expected, high = min(expected, cap), cap
    return Forecast(intents, chat.sizes.input_tokens, expected * chat.n, high * chat.n, chat.n)


def plausible_intents(intent: Intent) -> tuple[str, ...]:
    """The label alone when the classifier commits itself; else the likeliest intents that cover `ABSTAIN_MASS`."""
    if not intent.abstained:
        return (intent.label,)
    if not intent.posterior:
        return (intent.label,)
    by_mass = sorted(intent.posterior.items(), key=lambda item: -item[1])
    chosen: list[str] = []
    mass = 0.0
    for name, probability in by_mass:
        if mass >= ABSTAIN_MASS or probability < PLAUSIBLE_LEAST:
            break
        chosen.append(name)
        mass += probability
    return tuple(chosen) or (intent.label,)


def quality_of(model: Model, intents: Sequence[str]) -> int:
    """P(acceptable) in steps: the registry prior, the worst over the intents that must be served."""
    known = model.quality
    default = known.get("default", DEFAULT_QUALITY)
    if len(intents) == 1:
        return quality_steps(known.get(intents[0], default))
    return quality_steps(min([known.get(name, default) for name in intents]))


def reasoning_of(model: Model, intents: Sequence[str]) -> int:
    """Hidden tokens to expect for one choice: the most over the intents that it may be."""
    known = model.reasoning_tokens
    if not known:
        return 0
    default = known.get("default", 0)
    if len(intents) == 1:
        return known.get(intents[0], default)
    return max([known.get(name, default) for name in intents])


def visible_output(deployment: Deployment, model: Model, expected: Forecast) -> int:
    """Tokens that people will see, over all choices: as many as expected, or as the model can say."""
    cap = deployment.output_tokens_max or model.output_tokens_max
    return expected.output_tokens if cap is None else min(expected.output_tokens, cap * expected.choices)


def candidate(
    deployment: Deployment,
    model: Model,
    expected: Forecast,
    at: datetime,
    *,
    below: str | None = None,
    reason: str = "",
) -> Candidate:
    """A deployment with its expected and its reserved cost at this instant, `None` when the price is unknown.

    `below` and `reason` are where it stands, when that is known already.
    """
    reasoning = reasoning_of(model, expected.intents)
    quote = deployment.prices.quote(at)
    cap = _output_limit(deployment, model)
    output = visible_output(deployment, model, expected)
    high = expected.output_tokens_high + 2 * reasoning * expected.choices
    high = high if cap is None else min(high, cap * expected.choices)
    return Candidate(
        deployment=deployment,
        quality=quality_of(model, expected.intents) / QUALITY_STEPS,
        expected_cost_pusd=cost_of(quote, expected.input_tokens, output, reasoning * expected.choices),
        reserved_pusd=worst_cost(quote, expected.input_tokens, high),
        input_tokens=expected.input_tokens,
        output_tokens=output,
        reasoning_tokens=reasoning,
        quote=quote,
        below=below,
        reason=reason,
    )


def cost_of(quote: PriceQuote | None, input_tokens: int, output_tokens: int, reasoning_tokens: int) -> int | None:
    """Pico-USD of an imagined usage, or `None` when the price is unknown."""
    if quote is None or not quote.known:
        return None
    return imagined(quote, input_tokens, output_tokens, reasoning_tokens)


def worst_cost(quote: PriceQuote | None, input_tokens: int, output_tokens: int) -> int | None:
    """Pico-USD that so many output tokens stay under: input with its margin, output of the dearer kind."""
    if quote is None or not quote.known:
        return None
    padded = input_tokens * INPUT_MARGIN_PERCENT // 100
    rates = quote.rates_for(padded)
    if rates.reasoning is not None and rates.reasoning > (rates.output or 0):
        return imagined(quote, padded, 0, output_tokens)
    return imagined(quote, padded, output_tokens, 0)


def affordable_output(quote: PriceQuote, input_tokens: int, ceiling_pusd: int) -> int:
    """How many output tokens fit under a ceiling in pico-USD once the input (with its margin) is paid; may be 0."""
    bare, probe = worst_cost(quote, input_tokens, 0), worst_cost(quote, input_tokens, UNBOUNDED_TOKENS)
    if bare is None or probe is None or bare > ceiling_pusd:
        return 0
    if probe <= ceiling_pusd:
        return UNBOUNDED_TOKENS
    fits = (ceiling_pusd - bare) * UNBOUNDED_TOKENS // (probe - bare)
    # The two probes were rounded, so the quotient may be a token or two too high: the ceiling is a promise.
    while fits > 0 and (worst_cost(quote, input_tokens, fits) or 0) > ceiling_pusd:
        fits -= 1
    return fits


def least_wanted(output_tokens: int, reasoning_tokens: int, chat: ChatRequest) -> int:
    """Output tokens per choice that a ceiling must leave room for: the visible ones of all choices, the hidden ones."""
    wanted = output_tokens // chat.n + reasoning_tokens
    if chat.output_tokens_max is not None:
        wanted = min(wanted, chat.output_tokens_max)
    return max(wanted, 1)


def over_ceiling(expected_pusd: int | None, worst_pusd: int | None, chat: ChatRequest, ceiling_pusd: int) -> str | None:
    """Why an answer can't be held under a ceiling, or `None`: by its cost and by the most that `least_wanted` costs."""
    if expected_pusd is None or worst_pusd is None:
        return "price: unknown, and there is a cost limit"
    if chat.sizes.unmeasured:
        return "size: an attachment by reference has no known size, and there is a cost limit"
    if worst_pusd > ceiling_pusd:
        return f"cost: an answer may cost more than the limit of {usd_text(ceiling_pusd)} USD"
    return None


def within_ceiling(
    found: Candidate, model: Model, chat: ChatRequest, ceiling_pusd: int
) -> tuple[Candidate, str | None]:
    """(the candidate with the output cap that makes the ceiling hold, why it can't be held or `None`).

    The cap is per choice, as vendors read it. None is set where the model can't say so much that it would matter.
    """
    wanted = least_wanted(found.output_tokens, found.reasoning_tokens, chat)
    worst = worst_cost(found.quote, found.input_tokens, wanted * chat.n)
    problem = over_ceiling(found.expected_cost_pusd, worst, chat, ceiling_pusd)
    if problem is not None or found.quote is None:
        return found, problem
    # Rounding may put the quotient a token under what has just been found to fit.
    fits = max(affordable_output(found.quote, found.input_tokens, ceiling_pusd) // chat.n, wanted)
    limits = (chat.output_tokens_max, _output_limit(found.deployment, model))
    if any(limit is not None and limit <= fits for limit in limits):
        most = min(limit for limit in limits if limit is not None)
        return replace(found, reserved_pusd=_least(found, most, chat.n), output_tokens_cap=0), None
    # Engines refuse a cap beyond their window, and one that no answer can reach (output is free, say) holds nothing.
    left = _window_left(found, model)
    cap = fits if left is None else min(fits, left)
    cap = 0 if cap >= UNBOUNDED_TOKENS // chat.n else cap
    return replace(found, reserved_pusd=_least(found, fits, chat.n), output_tokens_cap=cap), None


def _least(found: Candidate, output_tokens: int, choices: int) -> int | None:
    """The reservation, lowered to what so many tokens per choice can cost at most."""
    worst = worst_cost(found.quote, found.input_tokens, output_tokens * choices)
    return found.reserved_pusd if worst is None else min(worst, found.reserved_pusd or 0)


def _window_left(found: Candidate, model: Model) -> int | None:
    """What fits behind the input, where the registry knows the window."""
    window = found.deployment.context_tokens or model.context_tokens
    return None if window is None else max(1, window - found.input_tokens)


def _output_limit(deployment: Deployment, model: Model) -> int | None:
    """Most output tokens of one choice, where the registry knows it."""
    return deployment.output_tokens_max or model.output_tokens_max


UNBOUNDED_TOKENS = 10**9
"""What a ceiling allows where output is free."""
