"""How likely a model's answer is acceptable, for one request. Pure.

Where on the path: `entrants` asks for every model that is meant; the number is what policies rank and floors compare.

What is known, and how it counts:
1. The registry's prior per intent. A classifier that is sure gives a posterior, and the prior is its expectation over
   that. One that abstains gives the safe default: the worst over the plausible intents.
2. What must be served besides is a further bound: tools that the request carries, every part of a compound request.
3. A quality artefact that has read this very text has blended the prior with what it learned, and its figure stands in
   for the expectation. On ground that it does not know the safe default stands instead.
4. Difficulty moves the prior: harder than is typical for the intent lowers it, easier raises it a little.

Invariants
1. A model that is better at every intent never comes out worse.
2. Difficulty never lifts a model above its prior by more than `LIFT_MAX_STEPS`.
3. Whole steps come out; floats before that are added in a fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from service.domain.catalog import DEFAULT_QUALITY, Model
from service.domain.decision import COMPOUND, INTENTS, QUALITY_STEPS, Intent, quality_steps
from service.domain.experience import Experience

ABSTAIN_MASS: Final = 0.80
"""How much of the posterior the plausible intents must cover when the classifier abstains."""

PLAUSIBLE_LEAST: Final = 0.05
"""An intent less likely than this is noise. Fifteen equally likely ones are not: no evidence demands the most."""

DIFFICULTY_LOGITS: Final = 0.25
"""k: logits of quality that one step of difficulty (1 to 5) costs. Small on purpose: public outcome data give
difficulty read off a text little weight against the intent, and it carries over badly between languages. A step takes a
model of 0.85 to 0.82, two steps to 0.77: enough to move a request that is clearly too hard for a cheap model."""

LIFT_MAX_STEPS: Final = 150
"""Most that an easy request adds to a prior: 0.015. Priors are means over easy and hard ones, so little is left to add,
and whoever makes a hard request look easy must not gain by it."""

TYPICAL_DIFFICULTY: Final[Mapping[str, float]] = {
    "chitchat": 1.1,
    "advice_ideas": 1.9,
    "rewriting": 1.7,
    "translation": 2.0,
    "summarization": 1.8,
    "extraction": 1.7,
    "factual_qa": 1.6,
    "writing": 2.0,
    "roleplay": 2.2,
    "coding": 2.1,
    "math": 2.0,
    "logic": 2.4,
    "domain_expert": 3.5,
    "tool_use": 1.2,
    "compound": 2.8,
}
"""Mean difficulty of each intent in the project's own corpus: what registry priors are held for. A test compares."""

INTENTS_KEPT: Final = 64
"""Intents whose priors are kept in a row: those of the taxonomy, and room for records that somebody changed."""

PARTS_MAX: Final = 8
"""Parts of a compound request that are looked at."""


class Standards(NamedTuple):
    """What a model is judged by. `intents` are all that count, for floors and for people.

    `spread` are (intent, share) that the expectation is taken over, shares adding up to 1; empty: the worst of
    `intents` counts. `bounds` are intents that it must be good at besides. `odds` is the factor of difficulty on the
    odds of the prior, 1 for none.
    """

    intents: tuple[str, ...]
    spread: tuple[tuple[str, float], ...] = ()
    bounds: tuple[str, ...] = ()
    odds: float = 1.0

    @property
    def plain(self) -> str | None:
        """The intent whose prior is all that counts, where a single one is."""
        single = len(self.spread) == 1 and not self.bounds and self.odds == 1.0
        return self.spread[0][0] if single else None


def standards(intent: Intent, needs: frozenset[str] = frozenset(), *, unknown_ground: bool = False) -> Standards:
    """By what the models are judged for a request."""
    label = intent.label
    bounds = bounds_of(intent, needs) if needs or label == COMPOUND else ()
    if not intent.posterior:
        return Standards(_and((label,), bounds))
    if intent.abstained:
        return Standards(_and(plausible_intents(intent), bounds))
    if unknown_ground:
        plausible = _likeliest(intent)
        return Standards(_and((label, *(one for one in plausible if one != label)), bounds))
    return Standards(_and((label,), bounds), _spread(intent), bounds, odds_of(intent))


def bounds_of(intent: Intent, needs: frozenset[str]) -> tuple[str, ...]:
    """Intents that must be served well besides what the request is about: its parts, and tools that it carries."""
    parts = dict.fromkeys(parts_of(intent))
    if "tools" in needs:
        parts["tool_use"] = None
    return tuple(parts)


def parts_of(intent: Intent) -> tuple[str, ...]:
    """The parts of a compound request, `()` when it is none or the classifier is unsure of it."""
    return intent.parts[:PARTS_MAX] if intent.label == COMPOUND and not intent.abstained else ()


def plausible_intents(intent: Intent) -> tuple[str, ...]:
    """The label alone when the classifier commits itself; else the likeliest intents that cover `ABSTAIN_MASS`."""
    if not intent.abstained or not intent.posterior:
        return (intent.label,)
    return _likeliest(intent) or (intent.label,)


def odds_of(intent: Intent) -> float:
    """The factor on the odds of an acceptable answer that difficulty makes; 1 when nobody judged it."""
    typical, said = TYPICAL_DIFFICULTY.get(intent.label), intent.difficulty
    if typical is None or said is None or not math.isfinite(said):
        return 1.0
    return math.exp(-DIFFICULTY_LOGITS * (min(max(said, 1.0), 5.0) - typical))


def quality_of(model: Model, intents: Sequence[str]) -> int:
    """P(acceptable) in steps by the registry's priors alone: the worst over the intents that must be served."""
    known = model.quality
    default = known.get("default", DEFAULT_QUALITY)
    if len(intents) == 1:
        return quality_steps(known.get(intents[0], default))
    return quality_steps(min([known.get(name, default) for name in intents]))


def judged(model: Model, by: Standards, known: Experience) -> int:
    """P(acceptable) of a model in steps, by all that is known."""
    if not by.spread:
        return quality_of(model, by.intents)
    if by.plain is not None and not known.qualities:  # most requests: one intent, of typical difficulty or unjudged
        priors = model.quality
        return quality_steps(priors.get(by.plain, priors.get("default", DEFAULT_QUALITY)))
    learned = known.qualities.get(model.name) if known.qualities else None
    steps = _expected(model, by) if learned is None else learned
    return min(steps, quality_of(model, by.bounds)) if by.bounds else steps


def _expected(model: Model, by: Standards) -> int:
    """The prior in expectation over the posterior, moved by difficulty."""
    priors = model.quality
    default = priors.get("default", DEFAULT_QUALITY)
    spread = by.spread
    if len(spread) == 1:
        prior = priors.get(spread[0][0], default)
    else:
        prior = 0.0
        for name, share in spread:
            prior += share * priors.get(name, default)
    return _moved(prior, by.odds)


def _moved(prior: float, odds: float) -> int:
    """A prior in steps, moved by difficulty."""
    steps = quality_steps(prior)
    if odds == 1.0 or not 0.0 < prior < 1.0:
        return steps
    raised = odds * prior
    return min(quality_steps(raised / (raised + 1.0 - prior)), steps + LIFT_MAX_STEPS, QUALITY_STEPS)


class Priors:
    """The priors of some models, intent by intent: what `judged` looks up for every model of a decision.

    `sound`: all of them are shares from 0 to 1, as the registry has them.
    """

    __slots__ = ("_by_intent", "_models", "_steps", "sound")

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = models
        self.sound = all(0 <= prior <= 1 for model in models for prior in model.quality.values())
        self._by_intent: dict[str, tuple[float, ...]] = {}
        self._steps: dict[str, tuple[int, ...]] = {}

    def of(self, intent: str) -> tuple[float, ...]:
        """The prior of each model."""
        found = self._by_intent.get(intent)
        if found is None:
            found = tuple([model.quality_for(intent) for model in self._models])
            if len(self._by_intent) < INTENTS_KEPT:
                self._by_intent[intent] = found
        return found

    def steps(self, intent: str) -> tuple[int, ...]:
        """The same in steps."""
        found = self._steps.get(intent)
        if found is None:
            found = tuple([quality_steps(prior) for prior in self.of(intent)])
            if len(self._steps) < INTENTS_KEPT:
                self._steps[intent] = found
        return found

    def worst(self, intents: Sequence[str]) -> Sequence[int]:
        """`quality_of` each model. The nearest step never falls as a prior rises: the worst is the worst in steps."""
        if len(intents) == 1:
            return self.steps(intents[0])
        return list(map(min, *[self.steps(name) for name in intents]))

    def judged(self, by: Standards, known: Experience) -> Sequence[int]:
        """`judged` of each model."""
        if known.qualities or not self.sound:
            return [judged(model, by, known) for model in self._models]
        if not by.spread:
            return self.worst(by.intents)
        found = self._expected(by)
        if not by.bounds:
            return found
        return list(map(min, found, self.worst(by.bounds)))

    def _expected(self, by: Standards) -> Sequence[int]:
        """`_expected` of each model: the same additions in the same order."""
        (name, share), *others = by.spread
        odds = by.odds
        if not others and odds == 1.0:
            return self.steps(name)
        priors: Sequence[float] = self.of(name)
        if others:
            priors = [share * prior for prior in priors]
            for name, share in others:
                priors = [so_far + share * prior for so_far, prior in zip(priors, self.of(name), strict=True)]
        if odds == 1.0:
            return [quality_steps(prior) for prior in priors]
        # Written out for all at once. At the ends, 0 and 1, odds move nothing; and odds under 1, for what is harder
        # than is typical, lift nobody.
        moved = [round((raised := odds * prior) / (raised + 1.0 - prior) * QUALITY_STEPS) for prior in priors]
        if odds < 1.0:
            return moved
        most = [round(prior * QUALITY_STEPS) + LIFT_MAX_STEPS for prior in priors]
        return list(map(min, moved, most))


def _spread(intent: Intent) -> tuple[tuple[str, float], ...]:
    """The intents that count and their shares: the label and whatever else is no noise."""
    posterior, label = intent.posterior, intent.label
    # In the order of the taxonomy: sums of floats depend on their order, and a posterior may come from a record.
    kept = [(name, p) for name in INTENTS if (p := posterior.get(name, 0.0)) >= PLAUSIBLE_LEAST or name == label]
    if len(kept) == 1:
        return ((label, 1.0),)
    mass = sum([p for _, p in kept])
    if not mass > 0:
        return ((label, 1.0),)
    return tuple([(name, p / mass) for name, p in kept])


def _likeliest(intent: Intent) -> tuple[str, ...]:
    """The likeliest intents that cover `ABSTAIN_MASS`, without noise."""
    chosen: list[str] = []
    mass = 0.0
    for name, probability in sorted(intent.posterior.items(), key=lambda item: -item[1]):
        if mass >= ABSTAIN_MASS or probability < PLAUSIBLE_LEAST:
            break
        chosen.append(name)
        mass += probability
    return tuple(chosen)


def _and(intents: tuple[str, ...], bounds: tuple[str, ...]) -> tuple[str, ...]:
    return (*intents, *(one for one in bounds if one not in intents)) if bounds else intents
