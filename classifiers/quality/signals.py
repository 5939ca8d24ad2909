"""The formulas that fitting and serving share: what is fitted in bulk is served one prompt at a time by the same ones.

Where on the path: `scorer` computes with these while a request waits; `views`, `ground` and `fit` use them in bulk.
NumPy and the standard library only.

Invariants:
1. Pure functions over the last axis: a row alone gives what it gives among others.
2. Logits stay finite: probabilities are kept within `QUALITY_MIN` and `QUALITY_MAX`.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

QUALITY_MIN: Final = 0.01
QUALITY_MAX: Final = 0.99
"""No outcome data is rich enough to promise more."""

STRANGER_MARGIN: Final = 20.0
"""Logits that an advantage must exceed without any trust: more than any has. A tenth less trust takes two."""

FAMILIAR: Final = 9
"""How many signs of known ground there are."""

TINY: Final = 1e-9

_LOGIT_MIN: Final = math.log(QUALITY_MIN / (1.0 - QUALITY_MIN))
_LOGIT_MAX: Final = math.log(QUALITY_MAX / (1.0 - QUALITY_MAX))

_HAIR: Final = 1e-6
"""Logits by which a lowered advantage stays below the incumbent: a cheaper equal wins as soon as cost matters."""

Doubles = npt.NDArray[np.float64]


def logit(quality: Doubles) -> Doubles:
    """Logits of probabilities."""
    kept = np.clip(quality, QUALITY_MIN, QUALITY_MAX)
    result: Doubles = np.log(kept / (1.0 - kept))
    return result


def sigmoid(logits: Doubles) -> Doubles:
    """Probabilities of logits, an array of one dimension or more."""
    # Cutting the logits cuts the probabilities, and keeps exp from overflowing. Plain calls: clip takes longer.
    result: Doubles = np.maximum(-logits, -_LOGIT_MAX)
    np.minimum(result, -_LOGIT_MIN, out=result)
    np.exp(result, out=result)
    result += 1.0
    np.reciprocal(result, out=result)
    return result


def softmax(values: Doubles) -> Doubles:
    """Shares of the last axis."""
    raised = np.exp(values - values.max(axis=-1, keepdims=True))
    result: Doubles = raised / raised.sum(axis=-1, keepdims=True)
    return result


def topic_shares(scores: Doubles, prior: Doubles, temperature: float) -> Doubles:
    """(..., topics) shares of topics from their raw scores."""
    return softmax(temperature * scores + prior)


def cluster_shares(dense: Doubles, centroids: Doubles, sharpness: float) -> Doubles:
    """(..., clusters) shares of clusters by the cosine of dense coordinates and centroids."""
    length = np.sqrt((dense * dense).sum(axis=-1, keepdims=True))
    return softmax(sharpness * ((dense / np.maximum(length, TINY)) @ centroids.T))


def familiar_signs(scores: Doubles, prior: Doubles, typical: Doubles, temperature: float, dense: Doubles) -> Doubles:
    """(..., FAMILIAR) signs of known ground, from raw topic scores (..., topics) and dense coordinates (..., dense).

    A score is the linear guess whether the prompt belongs to a topic: near 1 for a clear member, near 0 for a stranger.
    No single sign tells an unclear member from a stranger; together they do.
    """
    shares = topic_shares(scores, prior, temperature)
    relative = scores / typical
    highest = np.sort(scores, axis=-1)
    second = highest[..., -2] if scores.shape[-1] > 1 else np.zeros_like(highest[..., -1])
    return np.stack(
        [
            highest[..., -1],
            relative.max(axis=-1),
            (shares * relative).sum(axis=-1),
            (shares * scores).sum(axis=-1),
            np.maximum(scores, 0.0).sum(axis=-1),
            np.sqrt((scores * scores).sum(axis=-1)),
            (shares * np.log(shares + TINY)).sum(axis=-1),
            highest[..., -1] - second,
            np.sqrt((dense * dense).sum(axis=-1)),
        ],
        axis=-1,
    )


def gate(familiarity: Doubles, low: float, high: float) -> Doubles:
    """How much of what was learned counts, from 0 to 1."""
    result: Doubles = np.clip((familiarity - low) / max(high - low, TINY), 0.0, 1.0)
    return result


def less_margin(logits: Doubles, mark: Doubles, margin: Doubles | float) -> Doubles:
    """(..., m) logits with every advantage over `mark` (..., 1) lowered by `margin`, to just below equality at least.

    `mark` is the logit of the incumbent, the model that is best overall. The highest of many estimates is too high by
    its own noise. Without a margin a router would leave the incumbent again and again for models that are no better.
    """
    return np.where(logits > mark, mark + np.maximum(logits - mark - margin, -_HAIR), logits)


def full_margin(margin: float, trust: Doubles | float) -> Doubles | float:
    """The margin where the ground deserves so much trust."""
    return margin + STRANGER_MARGIN * (1.0 - trust)


def from_prior(posterior: Doubles, priors: Doubles) -> Doubles:
    """(m,) logits of models known by a number per intent only: `posterior` (15,), `priors` (m, 15)."""
    return np.asarray(logit(priors) @ posterior, dtype=np.float64)
