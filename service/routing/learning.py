"""Learning how long answers are: from answers that were counted to the table of `lengths`. Pure.

Where on the path: beside it; `coe train --lengths` calls `learn` on what the ledger and files of outcomes hold.

How: what counts of an answer is its share of the prior for its intent and size. Shares are averaged per (model, intent,
effort), per (model, intent) and per model. Each level is shrunk toward the next coarser one as an empirical Bayes
estimate with equal variances is: (`PRIOR_ANSWERS` x parent + sum) / (`PRIOR_ANSWERS` + n). The coarsest, a model's
verbosity, is shrunk toward the prior itself. Hidden tokens are shrunk toward the registry's figure for the model and
intent. High figures are 90th percentiles, shrunk with the same weights.

Invariants
1. Same answers in any order, same table.
2. An answer that was cut counts only where it is longer than expected all the same; else its cap, not its length, would
   be learned.
3. Models that the registry does not have are left out, and counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from service.domain.catalog import Model
from service.domain.lengths import AnswerLength
from service.routing.lengths import (
    OUTPUT_PRIORS,
    REASONING_HIGH_FACTOR,
    REASONING_MAX,
    SHARE_MAX,
    WHOLE,
    Key,
    Length,
    Lengths,
)

PRIOR_ANSWERS: Final = 20
"""n0: how many answers a parent's figure is worth. Lengths of one model's answers to one kind of request spread
about as much as their mean (variance 1 of the share), models differ from each other by a quarter or so (variance 1/16
to 1/25): the quotient, 16 to 25 answers, is where both know equally much."""

HIGH: Final = 0.9
"""High figures are what this share of answers stays under."""


@dataclass(frozen=True, slots=True)
class Learned:
    """The table, how many answers it was learned from, and how many were left out, by reason."""

    lengths: Lengths
    answers: int
    left_out: Mapping[str, int]


@dataclass(slots=True)
class _Pile:
    """The answers of one cell: shares of the expected and of the high prior, hidden tokens of one choice."""

    shares: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)
    hidden: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Parent:
    """What a cell is shrunk toward, unrounded."""

    share: float
    high: float
    hidden: float | None
    hidden_high: float | None


def learn(answers: Iterable[AnswerLength], models: Mapping[str, Model]) -> Learned:
    """The table of these answers. `models` are the registry's: their names, and their figures for hidden tokens."""
    piles: dict[Key, _Pile] = {}
    left_out = {"unknown_model": 0, "unknown_intent": 0, "cut": 0, "empty": 0}
    counted = 0
    for one in answers:
        problem = _useless(one, models)
        if problem is not None:
            left_out[problem] += 1
            continue
        counted += 1
        keys: tuple[Key, ...] = (
            (one.model, None, None),
            (one.model, one.intent, None),
            (one.model, one.intent, one.effort),
        )
        for key in keys:
            _add(piles.setdefault(key, _Pile()), one)
    cells: dict[Key, Length] = {}
    shrunk: dict[Key, _Parent] = {}
    # Coarse before fine: a parent is shrunk before its children are.
    for key in sorted(
        piles, key=lambda one: (one[1] is not None, one[2] is not None, one[0], one[1] or "", one[2] or "")
    ):
        found = _shrunk(piles[key], _parent(key, shrunk, models[key[0]]))
        shrunk[key] = found
        cells[key] = _length(found, len(piles[key].shares))
    return Learned(Lengths(cells), counted, {name: count for name, count in left_out.items() if count})


def _useless(one: AnswerLength, models: Mapping[str, Model]) -> str | None:
    """Why an answer teaches nothing, or `None`."""
    if one.model not in models:
        return "unknown_model"
    prior = OUTPUT_PRIORS.get(one.intent)
    if prior is None:
        return "unknown_intent"  # also of those whose classifier was unsure: whose length would it be?
    if one.cut and one.visible_tokens < prior.expected(one.last_user_tokens) * one.choices:
        return "cut"
    return "empty" if one.visible_tokens <= 0 or one.choices < 1 else None


def _add(pile: _Pile, one: AnswerLength) -> None:
    prior = OUTPUT_PRIORS[one.intent]
    visible = one.visible_tokens / one.choices
    most = SHARE_MAX / WHOLE
    pile.shares.append(min(visible / prior.expected(one.last_user_tokens), most))
    pile.highs.append(min(visible / prior.high(one.last_user_tokens), most))
    if one.reasoning_tokens is not None:
        pile.hidden.append(min(one.reasoning_tokens / one.choices, REASONING_MAX))


def _parent(key: Key, shrunk: Mapping[Key, _Parent], model: Model) -> _Parent:
    """What the cell is shrunk toward: the next coarser one; the prior for a model alone."""
    name, intent, effort = key
    if intent is None:
        # Hidden tokens differ too much between intents for one figure per model: the registry has them by intent.
        return _Parent(1.0, 1.0, None, None)
    if effort is None:
        above = shrunk[name, None, None]
        expected = model.reasoning_for(intent)
        return _Parent(above.share, above.high, expected, REASONING_HIGH_FACTOR * expected)
    return shrunk[name, intent, None]


def _shrunk(pile: _Pile, parent: _Parent) -> _Parent:
    hidden, hidden_high = parent.hidden, parent.hidden_high
    if hidden is not None and hidden_high is not None:
        hidden = _mean(pile.hidden, hidden)
        hidden_high = max(_high(pile.hidden, hidden_high), hidden)
    return _Parent(_mean(pile.shares, parent.share), _high(pile.highs, parent.high), hidden, hidden_high)


def _mean(values: Sequence[float], parent: float) -> float:
    """The shrunk mean. `fsum`, because plain sums of floats depend on their order."""
    return (PRIOR_ANSWERS * parent + math.fsum(values)) / (PRIOR_ANSWERS + len(values))


def _high(values: Sequence[float], parent: float) -> float:
    """The shrunk 90th percentile: the smallest value that so many stay at or under."""
    if not values:
        return parent
    ordered = sorted(values)
    found = ordered[math.ceil(HIGH * len(ordered)) - 1]
    return (PRIOR_ANSWERS * parent + len(ordered) * found) / (PRIOR_ANSWERS + len(ordered))


def _length(found: _Parent, n: int) -> Length:
    return Length(
        visible=max(1, round(found.share * WHOLE)),
        high=max(1, round(found.high * WHOLE)),
        reasoning=None if found.hidden is None else round(found.hidden),
        reasoning_high=None if found.hidden_high is None else round(found.hidden_high),
        n=n,
    )
