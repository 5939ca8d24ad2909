"""Putting views together: how much each counts, and the calibration of each model. NumPy and SciPy.

Where on the path: beside it; `fit` calls it on predictions for rows that no view had seen.

All views are deviations in logits from what a model is worth overall. Each falls into what it says of all models
alike (the request is hard) and what it says of one against another, and the two have weights of their own: likelihood
is mostly about the first, routing lives on the second. The blend is base + sum of weight * part, a weighted mean of
logits.

Invariants:
1. Weights are never negative, and are pulled to equal shares that count half: with few rows the plain mean of views is
   hard to beat, and what was learned from them is half luck.
2. Calibration moves a model only as far as its labels carry it; the pull is to no change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import minimize

from classifiers.quality.metrics import Floats, mean_known
from classifiers.quality.signals import logit, sigmoid

WEIGHT_PULL: Final = 5.0
"""Nats, over all rows together, that a whole unit of weight away from where the pull goes must be worth."""

WEIGHT_MAX: Final = 3.0
SLOPE_PULL: Final = 50.0
"""Labels that calibration of one model must outweigh."""

NEWTON_ROUNDS: Final = 30


@dataclass(frozen=True, slots=True)
class Weight:
    """How much a view counts: in what it says of all models alike, and of one against another."""

    common: float
    apart: float

    def of(self, deviations: Floats) -> Floats:
        """Deviations (..., m) of one view, weighted; likewise its table, since a blend is linear in tables."""
        common = deviations.mean(axis=-1, keepdims=True)
        result: Floats = self.common * common + self.apart * (deviations - common)
        return result


def base_of(scores: Floats) -> Floats:
    """(m,) logits of what each model is worth overall."""
    return logit(mean_known(scores))


def fit_weights(views: Sequence[Floats], scores: Floats) -> Floats:
    """(v,) weights of deviations (n, m) each, by penalised likelihood of the known cells of `scores` (n, m)."""
    known = ~np.isnan(scores)
    base = np.broadcast_to(base_of(scores), scores.shape)[known]
    stacked = np.stack([view[known] for view in views])
    wanted = scores[known]
    even = 1.0 / len(views)
    pull = WEIGHT_PULL / max(int(known.any(axis=1).sum()), 1)

    def loss(weights: Floats) -> tuple[float, Floats]:
        logits = base + weights @ stacked
        value = float((np.logaddexp(0.0, logits) - wanted * logits).mean()) + pull * float(
            ((weights - even) ** 2).sum()
        )
        slope = stacked @ (np.exp(-np.logaddexp(0.0, -logits)) - wanted) / len(wanted) + 2.0 * pull * (weights - even)
        return value, slope

    found = minimize(
        loss, np.full(len(views), even), jac=True, method="L-BFGS-B", bounds=[(0.0, WEIGHT_MAX)] * len(views)
    )
    return np.asarray(found.x, dtype=np.float64)


def weigh(views: Mapping[str, Floats], scores: Floats) -> dict[str, Weight]:
    """The weight of each view, from deviations (n, m) of rows that the views had not seen."""
    unit = (Weight(1.0, 0.0), Weight(0.0, 1.0))
    found = fit_weights([one.of(view) for view in views.values() for one in unit], scores)
    return {name: Weight(*pair) for name, pair in zip(views, found.reshape(-1, 2).tolist(), strict=True)}


def blended(views: Mapping[str, Floats], weights: Mapping[str, Weight]) -> Floats:
    """(n, m) the weighted sum of the views' deviations."""
    result: Floats = np.sum([weights[name].of(view) for name, view in views.items()], axis=0, dtype=np.float64)
    return result


def fit_slopes(deviations: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """(m,) slopes and (m,) bases by Platt's method with a pull to slope 1 and to what the model is worth overall."""
    start = base_of(scores)
    slopes, bases = np.ones(len(start)), start.copy()
    for model in range(len(start)):
        known = ~np.isnan(scores[:, model])
        if not known.any():
            continue
        design = np.stack([deviations[known, model], np.ones(int(known.sum()))], axis=1)
        wanted, centre = scores[known, model], np.array([1.0, start[model]])
        # The pull in units of the information that one label carries.
        pull = np.diag(np.array([max(float(deviations[known, model].var()), 1e-6), 1.0]) * SLOPE_PULL * 0.25)
        found = centre.copy()
        for _ in range(NEWTON_ROUNDS):
            given = sigmoid(design @ found)
            slope = design.T @ (given - wanted) + pull @ (found - centre)
            curvature = (design * (given * (1.0 - given))[:, None]).T @ design + pull
            step = np.linalg.solve(curvature, slope)
            found = found - step
            if float(np.abs(step).max()) < 1e-8:
                break
        slopes[model], bases[model] = max(float(found[0]), 0.0), float(found[1])
    return slopes, bases
