"""Known and unknown ground: when a prompt is unlike all of TRAIN, what was learned deserves no trust. Fitting only.

Where on the path: beside it; `fit` chooses the gate with it, the run-time form applies it.

How: leave every topic out in turn and predict its rows without it: those are strangers of the kind that will come. A
logistic detector tells them from rows whose topic is known, by the signs of `signals.familiar_signs`. The gate closes
on low values: the best single model then stays the best. Of the gates that do no harm on left-out topics, the one that
costs least on known ground is taken.

Besides, a prompt whose words TRAIN mostly lacks is far from everything in it, whatever the rest looks like: below what
is known of nearly all of TRAIN's own rows by the others, nothing that was learned counts.

Invariants:
1. Harm is accuracy lost against the best single model of TRAIN when cost doesn't matter.
2. No gate is taken when none is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from sklearn.linear_model import LogisticRegression

from classifiers.quality.metrics import Floats, Index
from classifiers.quality.signals import FAMILIAR, full_margin, gate, less_margin

HARM_MAX: Final = 0.005
"""Accuracy that left-out topics may lose together."""

HARM_EACH_MAX: Final = 0.01
HARM_EACH_ROWS: Final = 50
HARM_EACH_LUCK: Final = 0.5
"""And each by itself, where it has enough rows to tell, beyond so many standard errors."""

HARM_WEIGHT: Final = 2.0
"""Accuracy on known ground that a point of harm beyond the limits is worth: most requests stand on known ground."""

OPEN_FROM: Final = (0.1, 0.2, 0.3, 0.4, 0.6)
OPEN_AT: Final = (0.4, 0.5, 0.6, 0.8)
"""Shares of known ground that a gate shuts out, and that it trusts less than fully. A gate that is needed at all is no
weaker than the first of them: topics to come can be stranger than those that were left out."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Values up to `low` count nothing, from `high` on fully."""

    low: float
    high: float

    def of(self, familiarity: Floats) -> Floats:
        """(n,) how much counts."""
        return gate(familiarity, self.low, self.high)


OPEN: Final = Gate(-1e9, -1e8)
"""No gate at all."""

STRANGE: Final = 0.01
"""Share of TRAIN's own rows that count less than fully, because others know so little of them."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Predictions for rows with `scores` (n, m): `deviations` (n, m) from `bases` (n, m), both logits.

    `signs` (n, FAMILIAR) of known ground; `known` (n,) the share of each row that other rows know; `groups` (n,) number
    the topics.
    """

    deviations: Floats
    bases: Floats
    scores: Floats
    signs: Floats
    known: Floats
    groups: Index


@dataclass(frozen=True, slots=True)
class Detector:
    """`weights` (FAMILIAR + 1,); the last is the offset."""

    weights: Floats

    def of(self, signs: Floats) -> Floats:
        """(n,) log odds of known ground."""
        result: Floats = signs @ self.weights[:-1] + self.weights[-1]
        return result


def fit_detector(known: Floats, strangers: Floats) -> Detector:
    """Tell signs (n, FAMILIAR) of known ground from those of left-out topics; both sides have the same say."""
    signs = np.concatenate([known, strangers])
    middle, spread = signs.mean(axis=0), signs.std(axis=0) + 1e-9
    wanted = np.arange(len(signs)) < len(known)
    solver = LogisticRegression(class_weight="balanced", max_iter=500)
    solver.fit((signs - middle) / spread, wanted)
    weights = solver.coef_[0] / spread
    return Detector(np.append(weights, solver.intercept_[0] - float(weights @ middle)))


def unused_detector() -> Detector:
    """For TRAIN without topics to leave out."""
    return Detector(np.zeros(FAMILIAR + 1))


def choose_known_gate(known: Floats) -> Gate:
    """The gate on the known share, from the shares (n,) of TRAIN's rows."""
    high = float(np.quantile(known, STRANGE))
    return Gate(high / 2.0, high) if high > 0.0 and known.min() < known.max() else OPEN


def chosen_scores(rows: Rows, counts: Floats, trust: Floats) -> tuple[Floats, Floats]:
    """(n,) scores of the model that looks best, and of the model that is best overall; known outcomes only.

    `counts` (n,) of what was learned count, and so much `trust` (n,) is due.
    """
    known = ~np.isnan(rows.scores)
    at = np.arange(len(rows.scores))
    default = np.where(known, rows.bases, -np.inf).argmax(axis=1)
    logits = rows.bases + counts[:, None] * rows.deviations
    lowered = less_margin(logits, logits[at, default][:, None], full_margin(0.0, trust[:, None]))
    picked = np.where(known, lowered, -np.inf).argmax(axis=1)
    return rows.scores[at, picked], rows.scores[at, default]


def harm(rows: Rows, counts: Floats, trust: Floats) -> float:
    """By how much left-out topics lose more against the best single model than the limits allow; 0 for no harm."""
    router, single = chosen_scores(rows, counts, trust)
    loss = single - router
    most = float(loss.mean()) - HARM_MAX
    for group in np.unique(rows.groups):
        part = loss[rows.groups == group]
        if len(part) >= HARM_EACH_ROWS:
            luck = HARM_EACH_LUCK * float(part.std()) / len(part) ** 0.5
            most = max(most, float(part.mean()) - luck - HARM_EACH_MAX)
    return max(most, 0.0)


def choose_gate(known: Rows, left_out: Rows | None, shares: Gate) -> tuple[Detector, Gate]:
    """The gate that keeps most on known ground, less `HARM_WEIGHT` times the harm that it still does.

    `shares` is the gate on the known share, which works beside it.
    """
    if left_out is None or not len(left_out.scores):
        return unused_detector(), OPEN
    detector = fit_detector(known.signs, left_out.signs)
    inside_known, outside_known = shares.of(known.known), shares.of(left_out.known)
    if harm(left_out, outside_known, outside_known) == 0.0:
        return detector, OPEN
    inside, outside = detector.of(known.signs), detector.of(left_out.signs)
    tried = [
        Gate(float(np.quantile(inside, low)), float(np.quantile(inside, high)))
        for low in OPEN_FROM
        for high in OPEN_AT
        if high > low
    ]

    def worth(one: Gate) -> float:
        kept, _ = chosen_scores(known, inside_known, inside_known * one.of(inside))
        return float(kept.mean()) - HARM_WEIGHT * harm(left_out, outside_known, outside_known * one.of(outside))

    return detector, max(tried, key=worth)
