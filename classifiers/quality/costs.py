"""What a call to each model is expected to cost: learned from TRAIN, by topic and size of the prompt. NumPy only.

Where on the path: beside it; `evaluate` gives the judged router these instead of one price per model.

Why: answers to code are longer than answers to multiple choice, for some models much more than for others, and a long
prompt is dear whoever reads it. A flat price per model hides which calls are worth saving on.

Invariants:
1. Expected costs use what is known before the call: topic shares and size. For TRAIN rows the shares are unseen ones.
2. An expected cost is never below a small share of the model's mean: a line drawn through costs must not promise gifts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from classifiers.quality.metrics import Floats
from classifiers.quality.prices import prompt_tokens

PENALTY: Final = 3.0
LEAST_SHARE: Final = 0.05
_PER_SIZE: Final = 1_000.0


@dataclass(frozen=True, slots=True)
class Costs:
    """`typical` (m,) USD; `weights` (k, m) of centred columns, relative to `typical`; `middle` and `spread` (k,)."""

    typical: Floats
    weights: Floats
    middle: Floats
    spread: Floats

    def expected(self, topic_shares: Floats, prompts: Sequence[str]) -> Floats:
        """(n, m) USD of each prompt and model."""
        columns = (_columns(topic_shares, prompts) - self.middle) / self.spread
        return self.typical * np.maximum(1.0 + columns @ self.weights, LEAST_SHARE)


def _columns(topic_shares: Floats, prompts: Sequence[str]) -> Floats:
    size = np.array([prompt_tokens(prompt) for prompt in prompts])[:, None] / _PER_SIZE
    return np.concatenate([topic_shares, size, topic_shares * size], axis=1)


def fit_costs(costs: Floats, topic_shares: Floats, prompts: Sequence[str]) -> Costs:
    """Ridge regression of TRAIN's costs (n, m), without gaps, on topic shares (n, t) and sizes."""
    typical = costs.mean(axis=0)
    columns = _columns(topic_shares, prompts)
    middle, spread = columns.mean(axis=0), columns.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    design = (columns - middle) / spread
    target = np.where(typical > 0.0, costs / np.where(typical > 0.0, typical, 1.0), 1.0) - 1.0
    weights = np.linalg.solve(design.T @ design + PENALTY * np.eye(design.shape[1]), design.T @ target)
    return Costs(typical, weights, middle, spread)
