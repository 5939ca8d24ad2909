"""What a request would have cost if another had answered it: the baselines that savings are counted against. Pure.

Where on the path: `routing.rivals` names who is compared with, `ledger.recorder` asks what that would have cost when an
attempt that answered is settled.

How: the same request at the rival's own price of the instant of the decision. Its input is the one that was counted.
What of it anybody is known to have in a cache, the rival would have had in its own: whoever had sent everything there
would have sent the turn before, too. The length of its answer is assumed: as much shorter or longer than this answer as
the two models' answers are expected to be. What of the cost rests on that is told apart.

Invariants
1. A rival that is who answered costs what was booked: nothing is assumed, and nothing is saved.
2. Whole pico-dollars by the pricing of what is booked, which a test holds it to. Unknown stays unknown, and is never 0.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from service.domain.money import BUCKETS, PriceQuote, Usage, divide_half_even

BASELINE: Final = "baseline"
STRONGEST: Final = "strongest"
CHEAPEST: Final = "cheapest"
RANDOM: Final = "random"

RULE: Final = 1
"""The version of all this; it stands in every row that has such figures."""

SHORT, LONG = (1, 2), (2, 1)
"""A rival's answer is taken to be from half to twice as long as assumed, as fractions: of ten requests, the length of
one is under the first and of one over the second."""


_INPUT: Final = BUCKETS.index("input")
_CACHE_READ: Final = BUCKETS.index("cache_read")
_OUTPUT: Final = BUCKETS.index("output")
_REASONING: Final = BUCKETS.index("reasoning")
_ANSWER: Final = (_OUTPUT, _REASONING)
"""Buckets whose size depends on how long an answer is."""


class Rival(NamedTuple):
    """Who could have answered: its name among the baselines, its price, and what was expected of its answer.

    `visible` and `reasoning` are tokens over all choices.
    """

    name: str
    model: str
    deployment: str
    quote: PriceQuote
    visible: int
    reasoning: int


class Served(NamedTuple):
    """Who answered, what was expected of it, and what it cost (`None`: unknown).

    `warm_tokens` of the prompt were known to be in some vendor's cache; `output_tokens_max` is the caller's cap over
    all choices, `None` without one.
    """

    model: str
    deployment: str
    visible: int
    reasoning: int
    cost_pusd: int | None
    warm_tokens: int = 0
    output_tokens_max: int | None = None


class WouldCost(NamedTuple):
    """In pico-USD; `assumed_pusd` is what of it is for an answer of a length that was assumed. `None`: unknown."""

    pusd: int | None
    assumed_pusd: int | None


def would_cost(usage: Usage, served: Served, rival: Rival) -> WouldCost:
    """What the rival would have cost for what was used by who answered."""
    if rival.deployment == served.deployment:
        return WouldCost(served.cost_pusd, None if served.cost_pusd is None else 0)
    quote = rival.quote
    rates = quote.rates_for(usage.input_total).applied
    asked, answered = 0, 0
    for place, (count, rate) in enumerate(zip(counts_of(usage, served, rival), rates, strict=True)):
        if count:
            if rate is None:
                return WouldCost(None, None)
            if place in _ANSWER:
                answered += count * rate
            else:
                asked += count * rate
    cost = quote.pusd(asked + answered)
    return WouldCost(cost, 0 if rival.model == served.model else cost - quote.pusd(asked))


def counts_of(usage: Usage, served: Served, rival: Rival) -> list[int]:
    """The usage that the rival would have had, in `BUCKETS` order; the vendor's own figure and tier are left behind."""
    counts = list(usage.counts())
    warmer = served.warm_tokens - usage.cache_read
    if warmer > 0 and rival.quote.rates_for(usage.input_total).cache_read is not None:
        moved = min(warmer, usage.input)
        counts[_INPUT] -= moved
        counts[_CACHE_READ] += moved
    if rival.model != served.model:
        visible, reasoning = _lengths(usage, served, rival)
        cap = served.output_tokens_max
        if cap is not None:
            visible = min(visible, cap)
            reasoning = min(reasoning, cap - visible)
        counts[_OUTPUT], counts[_REASONING] = visible, reasoning
    return counts


def interval(pusd: int, assumed_pusd: int) -> tuple[int, int]:
    """(low, high) of a sum of such costs where `assumed_pusd` of it is for answers of assumed length.

    As if all lengths were wrong in the same direction, so it holds whatever the requests have to do with each other.
    """
    low = divide_half_even(assumed_pusd * (SHORT[1] - SHORT[0]), SHORT[1])
    high = divide_half_even(assumed_pusd * (LONG[0] - LONG[1]), LONG[1])
    return pusd - low, pusd + high


def _lengths(usage: Usage, served: Served, rival: Rival) -> tuple[int, int]:
    """(visible, hidden) tokens: this answer's, by what was expected of both models."""
    visible = _scaled(usage.output, rival.visible, served.visible)
    if served.reasoning:
        reasoning = _scaled(usage.reasoning, rival.reasoning, served.reasoning)
    elif rival.reasoning:  # this answer shows how long the task was, and who answered does not think
        reasoning = _scaled(usage.output + usage.reasoning, rival.reasoning, served.visible)
    else:
        reasoning = usage.reasoning
    return visible, reasoning


def _scaled(count: int, numerator: int, denominator: int) -> int:
    return count if denominator == 0 else divide_half_even(count * numerator, denominator)
