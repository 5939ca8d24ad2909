"""Learning how long answers are: from answers that were counted to the table of `lengths`. Pure.

Where on the path: beside it; `coe train --lengths` calls `learn` on what the ledger and files of outcomes hold.

How: what counts of an answer is its share of the prior for its intent and size. Shares are averaged per (model, intent,
effort), per (model, intent) and per model, and each is shrunk toward the next coarser one; the coarsest, a model's
verbosity, toward the prior itself. It is the posterior mean of the nested normal model with one variance within cells
and one between them, `PRIOR_ANSWERS` being their quotient n0: n answers of a cell count n against n0 for the parent's
figure, and against the parent itself they are worth n x n0 / (n + n0) answers, never more than n0. So ten thousand
answers of one kind are one kind, and do not make a model's verbosity certain for the others.

Hidden tokens are shrunk toward the registry's figure for the model and intent. High figures are 90th percentiles of the
finest cells, shrunk with the same weights. Who can't tell hidden tokens from visible ones gives both together: they are
divided as the registry and the prior expect them, so that the sum, which is what costs, is what was seen.

Invariants
1. Same answers in any order, same table.
2. An answer that was cut counts only where it is longer than expected all the same; else its cap, not its length, would
   be learned.
3. Models that the registry does not have are left out, and counted.
4. What nobody classified teaches nothing about a model's verbosity: its prior is none of a kind of request.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from service.domain.catalog import Model
from service.domain.decision import UNCLASSIFIED
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
    """The answers of one finest cell: shares of the expected and of the high prior, hidden tokens of one choice."""

    shares: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)
    hidden: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Figures:
    """What a cell says, unrounded: of itself, or shrunk. `None` for hidden tokens where only the registry knows."""

    share: float
    high: float
    hidden: float | None
    hidden_high: float | None


@dataclass(frozen=True, slots=True)
class _Seen:
    """A cell's own figures, how many answers they are worth, and how many there were."""

    figures: _Figures
    weight: float
    n: int


def learn(answers: Iterable[AnswerLength], models: Mapping[str, Model]) -> Learned:
    """The table of these answers. `models` are the registry's: their names, and their figures for hidden tokens."""
    piles: dict[tuple[str, str, str], _Pile] = {}
    left_out = {"unknown_model": 0, "unknown_intent": 0, "cut": 0, "empty": 0}
    counted = 0
    for one in answers:
        problem = _useless(one, models)
        if problem is not None:
            left_out[problem] += 1
            continue
        counted += 1
        _add(piles.setdefault((one.model, one.intent, one.effort), _Pile()), one, models[one.model])
    tree: dict[str, dict[str, dict[str, _Seen]]] = {}
    for (name, intent, effort), pile in sorted(piles.items()):
        tree.setdefault(name, {}).setdefault(intent, {})[effort] = _seen(pile)
    cells: dict[Key, Length] = {}
    for name, intents in tree.items():
        cells |= _cells(models[name], intents)
    return Learned(Lengths(cells), counted, {name: count for name, count in left_out.items() if count})


def _cells(model: Model, intents: Mapping[str, Mapping[str, _Seen]]) -> dict[Key, Length]:
    """Every cell of one model: upward what is seen is added up, downward it is shrunk."""
    cells: dict[Key, Length] = {}
    together = {intent: _together(list(efforts.values())) for intent, efforts in intents.items()}
    # Hidden tokens differ too much between intents for one figure per model: the registry has them by intent.
    verbosity = _Figures(1.0, 1.0, None, None)
    classified = [one for intent, one in together.items() if intent != UNCLASSIFIED]
    if classified:
        every = _together(classified)
        verbosity = _shrunk(every, verbosity)
        cells[model.name, None, None] = _length(verbosity, every.n)
    for intent, efforts in intents.items():
        hidden = model.reasoning_for(intent)
        above = _Figures(verbosity.share, verbosity.high, hidden, REASONING_HIGH_FACTOR * hidden)
        found = _shrunk(together[intent], above)
        cells[model.name, intent, None] = _length(found, together[intent].n)
        for effort, own in efforts.items():
            cells[model.name, intent, effort] = _length(_shrunk(own, found), own.n)
    return cells


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


def _add(pile: _Pile, one: AnswerLength, model: Model) -> None:
    prior = OUTPUT_PRIORS[one.intent]
    expected = prior.expected(one.last_user_tokens)
    visible = one.visible_tokens / one.choices
    if one.reasoning_tokens is not None:
        hidden = one.reasoning_tokens / one.choices
    else:
        thought = model.reasoning_for(one.intent)
        hidden = visible * thought / (thought + expected)
        visible -= hidden
    most = SHARE_MAX / WHOLE
    pile.shares.append(min(visible / expected, most))
    pile.highs.append(min(visible / prior.high(one.last_user_tokens), most))
    pile.hidden.append(min(hidden, REASONING_MAX))


def _seen(pile: _Pile) -> _Seen:
    n = len(pile.shares)
    # `fsum`, because plain sums of floats depend on their order.
    share, hidden = math.fsum(pile.shares) / n, math.fsum(pile.hidden) / n
    return _Seen(_Figures(share, _high(pile.highs), hidden, _high(pile.hidden)), float(n), n)


def _high(values: Sequence[float]) -> float:
    """The 90th percentile: the smallest value that so many stay at or under."""
    return sorted(values)[math.ceil(HIGH * len(values)) - 1]


def _together(cells: Sequence[_Seen]) -> _Seen:
    """What cells say of the next coarser one: each is one sample of it, however many answers it was seen in."""
    weights = [one.weight * PRIOR_ANSWERS / (one.weight + PRIOR_ANSWERS) for one in cells]
    weight = math.fsum(weights)

    def mean(values: Sequence[float]) -> float:
        return math.fsum(w * value for w, value in zip(weights, values, strict=True)) / weight

    figures = _Figures(
        mean([one.figures.share for one in cells]),
        mean([one.figures.high for one in cells]),
        mean([one.figures.hidden or 0.0 for one in cells]),
        mean([one.figures.hidden_high or 0.0 for one in cells]),
    )
    return _Seen(figures, weight, sum(one.n for one in cells))


def _shrunk(seen: _Seen, parent: _Figures) -> _Figures:
    """The cell's figures drawn toward its parent's; what the parent has no figure for has none here."""

    def toward(own: float, above: float) -> float:
        return (PRIOR_ANSWERS * above + seen.weight * own) / (PRIOR_ANSWERS + seen.weight)

    own = seen.figures
    hidden = hidden_high = None
    if parent.hidden is not None and parent.hidden_high is not None:
        hidden = toward(own.hidden or 0.0, parent.hidden)
        hidden_high = max(toward(own.hidden_high or 0.0, parent.hidden_high), hidden)
    return _Figures(toward(own.share, parent.share), toward(own.high, parent.high), hidden, hidden_high)


def _length(found: _Figures, n: int) -> Length:
    return Length(
        visible=max(1, round(found.share * WHOLE)),
        high=max(1, round(found.high * WHOLE)),
        reasoning=None if found.hidden is None else round(found.hidden),
        reasoning_high=None if found.hidden_high is None else round(found.hidden_high),
        n=n,
    )
