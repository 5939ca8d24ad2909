"""From logits to probabilities that mean something, and from probabilities to abstention. NumPy only.

Where on the path: `train` fits these numbers on predictions for rows the model never saw; the scorer only applies them.

Invariants:
1. One temperature per language divides the logits; the ranking of intents never changes.
2. A threshold is the lowest confidence from which on the covered rows reach `ACCURACY_WANTED`. It is not a guarantee
   for traffic of another kind; the card says what it was measured on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from classifiers.language import CHINESE, ENGLISH, OTHER, UNDETERMINED

ACCURACY_WANTED: Final = 0.82
OTHER_THRESHOLD_MIN: Final = 0.8
"""Languages without training rows: whatever the model says there is an extrapolation, so it has to be very sure."""

TEMPERATURES: Final = np.exp(np.linspace(np.log(0.2), np.log(8.0), 241))
THRESHOLDS: Final = np.linspace(0.35, 0.95, 61)
"""However right a model is on average, what it is less sure of than this it doesn't know."""

ROWS_MIN: Final = 20
"""Fewer rows of a language than this don't move its numbers away from those of all rows."""

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Temperature and threshold per language of `LANGUAGES`."""

    temperatures: Mapping[str, float]
    thresholds: Mapping[str, float]

    def apply(self, logits: Floats, languages: npt.NDArray[np.str_]) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """(n, 15) posteriors and (n,) whether the row is covered."""
        temperature = np.array([self.temperatures[language] for language in languages.tolist()])
        threshold = np.array([self.thresholds[language] for language in languages.tolist()])
        posterior = softmax(logits / temperature[:, None])
        return posterior, posterior.max(axis=1) >= threshold


def fit_temperature(logits: Floats, true: Labels, weights: Floats) -> float:
    """The temperature of `TEMPERATURES` with the lowest weighted log loss."""
    losses = []
    for temperature in TEMPERATURES:
        posterior = softmax(logits / temperature)
        losses.append(float(-(weights * np.log(posterior[np.arange(len(true)), true] + 1e-12)).sum()))
    return float(TEMPERATURES[int(np.argmin(losses))])


def fit_threshold(posterior: Floats, true: Labels, weights: Floats) -> float:
    """The lowest of `THRESHOLDS` whose covered rows reach `ACCURACY_WANTED`; the highest one when none does."""
    confidence = posterior.max(axis=1)
    correct = posterior.argmax(axis=1) == true
    for threshold in THRESHOLDS:
        covered = confidence >= threshold
        mass = float(weights[covered].sum())
        if mass > 0.0 and float(weights[covered & correct].sum()) / mass >= ACCURACY_WANTED:
            return float(threshold)
    return float(THRESHOLDS[-1])


def calibrate(logits: Floats, true: Labels, languages: npt.NDArray[np.str_], weights: Floats) -> Calibration:
    """Fit both numbers for English and Chinese; other languages take the more careful of the two, or more."""
    temperatures: dict[str, float] = {}
    thresholds: dict[str, float] = {}
    for language in (ENGLISH, CHINESE):
        mask = languages == language
        if int(mask.sum()) < ROWS_MIN:
            mask = np.ones(len(true), dtype=np.bool_)
        temperature = fit_temperature(logits[mask], true[mask], weights[mask])
        temperatures[language] = temperature
        thresholds[language] = fit_threshold(softmax(logits[mask] / temperature), true[mask], weights[mask])
    careful = max(temperatures.values())
    highest = max(thresholds.values())
    temperatures |= {OTHER: careful, UNDETERMINED: careful}
    thresholds |= {OTHER: max(highest, OTHER_THRESHOLD_MIN), UNDETERMINED: highest}
    return Calibration(temperatures, thresholds)


def softmax(logits: Floats) -> Floats:
    """Probabilities of the last axis; stable for large logits."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Floats = raised / raised.sum(axis=-1, keepdims=True)
    return result
