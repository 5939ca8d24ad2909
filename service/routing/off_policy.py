"""How good the choices of a policy would be that was not there: estimated from what was said of those that were made.

Where on the path: beside it; `coe replay --policy` asks, where answers were judged (`POST /v1/feedback`).

A log tells what came of the choice that was made, never of another. Where choices were left to a draw with a known
chance (`exploring`), each judged answer stands for all requests in which somebody else was drawn: weighted by one over
its chance. The registry's expected quality q says the rest; where it is wrong, what was judged corrects it, and where
it is right the interval is narrow: doubly robust. With w = 1/chance where the new policy chooses who answered, else 0,
and r the score:

    mean(q of the new choice) + sum w (r - q) / sum w

The weights are normalised by their own sum; the interval is the normal one of that ratio's linearisation.

Invariants
1. What can't be told from the log is refused with its reason, never guessed: choices that were certain, too few judged
   answers of the new choice, too much of the traffic where the new choice could not have been drawn.
2. Only sums are kept: memory does not grow.
3. Mean and interval lie within 0 and 1, as scores do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

EFFECTIVE_LEAST: Final = 200
"""Effective sample size under which nothing is told."""

CHANGED_LEAST: Final = 50
"""Judged answers of new choices that are not the old ones, under which nothing is told: all else is the old policy."""

COVERED_LEAST: Final = 0.9
"""Share of the judged requests in which the new choice could have been drawn; with less the rest is too much."""

Z: Final = 1.959963984540054
"""Of a normal interval of 95 %."""


class Judged(NamedTuple):
    """One judged answer. `score` is from 0 to 1.

    `chance` is how likely the logged choice was, `agrees` whether the new policy would choose the same model,
    `expected` the quality that is expected of the new choice. `covered`: the log could have chosen it. `changed`: the
    new choice is not what the old policy would have chosen by itself.
    """

    score: float
    chance: float
    agrees: bool
    expected: float
    covered: bool
    changed: bool


class Quality(NamedTuple):
    """The estimate: mean score of the new policy's own choices, between which bounds in 19 of 20 cases.

    `logged` is the mean of all that was judged, as it was answered. `effective` is the effective sample size, `changed`
    how many judged answers are of new choices, `weight_most` the largest weight, `covered` the share of judged requests
    that it is about.
    """

    mean: float
    low: float
    high: float
    logged: float
    judged: int
    effective: float
    changed: int
    weight_most: float
    covered: float


class Refused(NamedTuple):
    """Why nothing can be told, and how many answers were judged."""

    reason: str
    judged: int


@dataclass(slots=True)
class Sums:
    """All that an estimate needs of what was judged."""

    judged: int = 0
    scores: float = 0.0
    drawn: int = 0
    covered: int = 0
    would_change: int = 0
    changed: int = 0
    expected: float = 0.0
    expected_squared: float = 0.0
    weight: float = 0.0
    weight_squared: float = 0.0
    weight_most: float = 0.0
    error: float = 0.0  # w (r - q)
    error_squared: float = 0.0  # w² (r - q)²
    weight_error: float = 0.0  # w² (r - q)
    expected_weight: float = 0.0  # q w
    expected_error: float = 0.0  # q w (r - q)

    def add(self, one: Judged) -> None:
        """Count one judged answer."""
        self.judged += 1
        self.scores += one.score
        self.drawn += one.chance < 1
        self.would_change += one.changed
        if not one.covered:
            return
        self.covered += 1
        q = one.expected
        self.expected += q
        self.expected_squared += q * q
        if not one.agrees:
            return
        w = 1 / one.chance
        off = w * (one.score - q)
        self.changed += one.changed
        self.weight += w
        self.weight_squared += w * w
        self.weight_most = max(self.weight_most, w)
        self.error += off
        self.error_squared += off * off
        self.weight_error += w * off
        self.expected_weight += q * w
        self.expected_error += q * off

    @property
    def effective(self) -> float:
        """How many equally weighted answers the weighted ones are worth."""
        return self.weight**2 / self.weight_squared if self.weight_squared else 0.0


def quality(sums: Sums) -> Quality | Refused:
    """The estimate, or why there is none."""
    refusal = _refusal(sums)
    if refusal is not None:
        return Refused(refusal, sums.judged)
    n, weight = sums.covered, sums.weight
    base, correction = sums.expected / n, sums.error / weight
    mean = base + correction
    # The linearisation of one answer: (q - base) + n/W w (r - q - correction); here the sum of its squares.
    scale = n / weight
    first = sums.expected_squared - n * base * base
    second = sums.error_squared - 2 * correction * sums.weight_error + correction**2 * sums.weight_squared
    both = sums.expected_error - correction * sums.expected_weight - base * (sums.error - correction * weight)
    variance = max(0.0, first + scale**2 * second + 2 * scale * both) / n**2
    half = Z * variance**0.5
    return Quality(
        mean=_within(mean),
        low=_within(mean - half),
        high=_within(mean + half),
        logged=sums.scores / sums.judged,
        judged=sums.judged,
        effective=sums.effective,
        changed=sums.changed,
        weight_most=sums.weight_most,
        covered=n / sums.judged,
    )


def _refusal(sums: Sums) -> str | None:
    if not sums.judged:
        return "no answer was judged: send scores to POST /v1/feedback"
    if sums.would_change and not sums.drawn:
        return (
            "every choice in the log was certain (propensity 1), so it says nothing of other choices: give the policy "
            "that answers `explore: 0.02` and come back"
        )
    if sums.covered < COVERED_LEAST * sums.judged:
        return (
            f"in {1 - sums.covered / sums.judged:.0%} of the judged requests the new choice could not have been drawn; "
            f"{1 - COVERED_LEAST:.0%} at most may be so: the overlap is too thin"
        )
    if sums.would_change and sums.changed < CHANGED_LEAST:
        return (
            f"{sums.changed} judged answers are of choices that are new; {CHANGED_LEAST} are needed: "
            "the overlap is too thin"
        )
    if sums.effective < EFFECTIVE_LEAST:
        return f"the effective sample size is {sums.effective:.0f}; {EFFECTIVE_LEAST} are needed"
    return None


def _within(value: float) -> float:
    return min(1.0, max(0.0, value))
