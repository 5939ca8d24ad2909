"""A model never seen before, placed by 100-200 prompts: which prompts to ask, and what its answers say. NumPy only.

Where on the path: beside it. Training picks the anchors; whoever adds a model has them answered and judged, calls
`place`, and gets a quality model with one column more.

How: models differ along few directions, and the known ones show which. The new model's logits are a mix of the known
models' logits at the same prompts, along the directions that explain most of how those differ, plus an offset. Before
any answer it is taken for the mean of the known models; each direction may move it as far as known models lie apart
along it. A score that lies between 0 and 1 is that much of a success.

Invariants:
1. Anchors are rows of TRAIN, chosen by their texts alone and spread over what TRAIN holds; the same TRAIN gives the
   same anchors.
2. No answer moves a model along directions in which the known ones do not differ.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from classifiers.quality.metrics import Floats, Index
from classifiers.quality.reading import Reading
from classifiers.quality.scorer import QualityModel
from classifiers.quality.signals import sigmoid

ANCHORS: Final = 150
DIRECTIONS_MAX: Final = 6
OFFSET_SPREAD: Final = 2.0
"""Logits by which a new model may be better or worse throughout, before anything is known of it."""

SHARE_SPREAD: Final = 0.5
ROUNDS_MAX: Final = 50


def choose(signals: Floats, count: int = ANCHORS) -> Index:
    """(count,) places of rows that lie as far apart as can be; `signals` (n, s) are those of the run-time form.

    Farthest-first: each next anchor is the row with the largest distance to its nearest anchor, the first one the row
    nearest to the middle. At most a third are such outposts; the others are every k-th row by the order of distance to
    the middle, so that the crowd is asked, too.
    """
    total = len(signals)
    if total <= count:
        return np.arange(total)
    middle = ((signals - signals.mean(axis=0)) ** 2).sum(axis=1)
    chosen = [int(middle.argmin())]
    nearest = ((signals - signals[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < count // 3:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((signals - signals[chosen[-1]]) ** 2).sum(axis=1))
    rest = np.setdiff1d(np.argsort(middle, kind="stable"), np.unique(chosen), assume_unique=False)
    rest = rest[np.argsort(middle[rest], kind="stable")]
    evenly = np.linspace(0, len(rest) - 1, count - len(set(chosen))).round().astype(np.int64)
    return np.sort(np.unique(np.concatenate([np.array(chosen, dtype=np.int64), rest[evenly]])))


def known_logits(model: QualityModel, reading: Reading) -> Floats:
    """(n, m) logits of the known models by the run-time form."""
    rows = [
        model.logits(features, posterior, features.language)[0]
        for features, posterior in zip(reading.features, reading.posteriors, strict=True)
    ]
    return np.array(rows).reshape(len(reading), len(model.models))


def mix(known: Floats, scores: Floats) -> tuple[Floats, float]:
    """(m,) shares of the known models and the offset that explain a new model's `scores` (k,) at prompts.

    `known` (k, m) are the known models' logits there. The most likely mix under the prior in the module's head, by
    Newton's method. Raises `ValueError` when scores and prompts don't fit together or lie outside of 0..1.
    """
    if scores.shape != known.shape[:1] or not len(scores) or not ((scores >= 0.0) & (scores <= 1.0)).all():
        raise ValueError(f"{len(scores)} scores for {len(known)} anchors; give one from 0 to 1 for each")
    count = known.shape[1]
    even = np.full(count, 1.0 / count)
    middle = known @ even
    apart = known - middle[:, None]
    _, strengths, turned = np.linalg.svd(apart - apart.mean(axis=0), full_matrices=False)
    kept = min(DIRECTIONS_MAX, count - 1, int((strengths > 1e-9).sum()))
    directions = turned[:kept]
    spread = np.maximum(directions.std(axis=1) if count > 2 else np.abs(directions).mean(axis=1), 1e-6)
    # Known models' loadings along a direction are its entries: a new one is expected to lie as far out as they do.
    design = np.concatenate([np.ones((len(known), 1)), middle[:, None], known @ directions.T], axis=1)
    centre = np.concatenate([[0.0, 1.0], np.zeros(kept)])
    pull = np.diag(1.0 / np.concatenate([[OFFSET_SPREAD, SHARE_SPREAD], spread]) ** 2)
    found = centre.copy()
    for _ in range(ROUNDS_MAX):
        given = sigmoid(design @ found)
        slope = design.T @ (given - scores) + pull @ (found - centre)
        curvature = (design * np.maximum(given * (1.0 - given), 1e-6)[:, None]).T @ design + pull
        step = np.linalg.solve(curvature, slope)
        found = found - np.clip(step, -2.0, 2.0)
        if float(np.abs(step).max()) < 1e-8:
            break
    return found[1] * even + found[2:] @ directions, float(found[0])


def place(model: QualityModel, name: str, reading: Reading, scores: Floats) -> QualityModel:
    """The quality model with one more column for `name`, from its scores (k,) at some prompts.

    Raises `ValueError` for a name that is taken, or scores that don't fit the prompts.
    """
    shares, offset = mix(known_logits(model, reading), scores)
    return model.with_model(name, shares, offset, len(scores))
