"""What a deployment would cost for a request, and how likely its answer is acceptable. Pure arithmetic over priors.

Where on the path: third step of `router.decide`, for every deployment that can serve.

Output lengths are priors per intent, in tokens, as `base + per_input x tokens of the newest user message`: a translation
is as long as its source, an extraction is not. `p95` bounds what is reserved when the caller set no cap. The figures
are ours: medians over natural assistant traffic as public length studies report them (chat 100-300, code 500-1,000,
reasoned maths 500-800), rounded; they stand until a ledger has better ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from service.domain.catalog import Deployment, Model
from service.domain.chat import ChatRequest
from service.domain.decision import UNCLASSIFIED, Candidate, Intent
from service.domain.money import PriceQuote, Usage, UsageSource, price

ABSTAIN_MASS = 0.80
"""How much of the posterior the plausible intents must cover when the classifier abstains."""

PLAUSIBLE_MAX = 5
"""At most so many plausible intents: the rest is noise."""

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
    expected = max(OUTPUT_PRIORS[name].expected(last) for name in intents)
    high = max(OUTPUT_PRIORS[name].high(last) for name in intents)
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
    for name, probability in by_mass[:PLAUSIBLE_MAX]:
        chosen.append(name)
        mass += probability
        if mass >= ABSTAIN_MASS:
            break
    return tuple(chosen) or (intent.label,)


def quality_of(model: Model, intents: Sequence[str]) -> float:
    """P(acceptable): the registry prior, the worst over the intents that must be served."""
    return min(model.quality_for(name) for name in intents)


def candidate(deployment: Deployment, model: Model, expected: Forecast, at: datetime) -> Candidate:
    """A deployment with its expected and its reserved cost at this instant; costs are `None` when the price is unknown."""
    reasoning = max(model.reasoning_for(name) for name in expected.intents)
    quote = deployment.prices.quote(at)
    cap = deployment.output_tokens_max or model.output_tokens_max
    cap = None if cap is None else cap * expected.choices
    output = expected.output_tokens if cap is None else min(expected.output_tokens, cap)
    high = expected.output_tokens_high + 2 * reasoning * expected.choices
    high = high if cap is None else min(high, cap)
    return Candidate(
        deployment=deployment,
        quality=quality_of(model, expected.intents),
        expected_cost_pusd=cost_of(quote, expected.input_tokens, output, reasoning * expected.choices),
        reserved_pusd=cost_of(quote, expected.input_tokens * INPUT_MARGIN_PERCENT // 100, high, 0),
        input_tokens=expected.input_tokens,
        output_tokens=output,
        reasoning_tokens=reasoning,
        quote=quote,
    )


def cost_of(quote: PriceQuote | None, input_tokens: int, output_tokens: int, reasoning_tokens: int) -> int | None:
    """Pico-USD of an imagined usage, or `None` when the price is unknown."""
    if quote is None or not quote.known:
        return None
    usage = Usage(
        input=input_tokens, output=output_tokens, reasoning=reasoning_tokens, source=UsageSource.ESTIMATED
    )
    return price(usage, quote).pusd


def affordable_output(quote: PriceQuote, input_tokens: int, ceiling_pusd: int) -> int:
    """How many output tokens fit under a ceiling in pico-USD once the input (with its margin) is paid; may be 0."""
    padded = input_tokens * INPUT_MARGIN_PERCENT // 100
    bare = cost_of(quote, padded, 0, 0)
    with_output = cost_of(quote, padded, _PROBE_TOKENS, 0)
    with_reasoning = cost_of(quote, padded, 0, _PROBE_TOKENS)
    if bare is None or with_output is None or with_reasoning is None or bare > ceiling_pusd:
        return 0
    dearest = max(with_output, with_reasoning) - bare
    return UNBOUNDED_TOKENS if dearest == 0 else (ceiling_pusd - bare) * _PROBE_TOKENS // dearest


UNBOUNDED_TOKENS = 10**9
"""What a ceiling allows where output is free."""

_PROBE_TOKENS = 100_000
