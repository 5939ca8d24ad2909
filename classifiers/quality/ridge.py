"""Kernel ridge regression by one eigendecomposition: any target, any penalty, exact leave-one-out and leave-group-out.

Where on the path: beside it; `views` fits the linear parts with it. NumPy and SciPy.

Why: the honest inputs of everything that is fitted on top (blend, calibration, gate, threshold) are predictions for
rows that the fit did not see. With K = U diag(w) U' they are closed forms, so they cost one decomposition instead of
a fit per fold. With H = K (K + lI)^-1, the leave-one-out residual of row i is (t_i - (Ht)_i) / (1 - H_ii), and that
of a group G is (I - H_GG)^-1 (t - Ht)_G.

Invariants:
1. Rows are scaled so that the mean squared length of a row is 1: a penalty means the same on every set.
2. At most `GRAM_ROWS_MAX` rows are decomposed, evenly spread over the order given; further rows are predicted plainly.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.sparse as sp

from classifiers.quality.metrics import Floats, Index

GRAM_ROWS_MAX: Final = 4_000
"""Rows of the decomposition: 4,000 take some 15 s and 250 MB on one core, and time grows with the third power."""

_LEVERAGE_MAX: Final = 0.999
"""A row that explains itself says nothing about others; the closed form would divide by nothing."""


class Ridge:
    """A design matrix, ready for any number of targets.

    `rows` (n_used,) are the places of the decomposed rows in `matrix` (n, d).
    """

    def __init__(self, matrix: sp.csr_matrix) -> None:
        """Scale and decompose."""
        count = matrix.shape[0]
        self.rows: Index = np.unique(np.linspace(0, count - 1, min(count, GRAM_ROWS_MAX)).round().astype(np.int64))
        length = float(matrix.multiply(matrix).sum()) / max(count, 1)
        self.scale = length**-0.5 if length > 0.0 else 1.0
        self._all = matrix
        self._used = matrix[self.rows]
        gram = (self._used @ self._used.T).toarray() * self.scale**2
        values, self._vectors = np.linalg.eigh(gram)
        self._values: Floats = np.maximum(values, 0.0)
        self._others: Index = np.setdiff1d(np.arange(count), self.rows)

    def _shrink(self, penalty: float) -> Floats:
        result: Floats = self._values / (self._values + penalty)
        return result

    def dual(self, targets: Floats, penalty: float) -> Floats:
        """(n_used, t) dual coefficients for targets (n_used, t)."""
        turned = self._vectors.T @ targets
        result: Floats = self._vectors @ (turned / (self._values + penalty)[:, None])
        return result

    def primal(self, dual: Floats) -> Floats:
        """(d, t) weights of the features, for rows as they are given (not scaled)."""
        result: Floats = self._used.T @ dual * self.scale**2
        return result

    def unseen(self, targets: Floats, penalty: float) -> Floats:
        """(n, t) predictions of each row by a fit without it."""
        shrink = self._shrink(penalty)
        fitted = self._vectors @ (shrink[:, None] * (self._vectors.T @ targets))
        leverage = np.minimum((self._vectors**2) @ shrink, _LEVERAGE_MAX)[:, None]
        result = np.zeros((self._all.shape[0], targets.shape[1]))
        result[self.rows] = (fitted - leverage * targets) / (1.0 - leverage)
        if len(self._others):
            result[self._others] = self._all[self._others] @ self.primal(self.dual(targets, penalty))
        return result

    def without_group(self, targets: Floats, penalty: float, group: Index) -> Floats:
        """(|group|, t) predictions of some decomposed rows (places in `rows`) by a fit without any of them."""
        shrink = self._shrink(penalty)
        part = self._vectors[group]
        fitted = part @ (shrink[:, None] * (self._vectors.T @ targets))
        held = np.eye(len(group)) - (part * shrink) @ part.T
        # A tiny ridge: duplicates of one row inside the group can make the system singular.
        residual = np.linalg.solve(held + (1.0 - _LEVERAGE_MAX) * np.eye(len(group)), targets[group] - fitted)
        result: Floats = targets[group] - residual
        return result

    def outputs(self, weights: Floats) -> Floats:
        """(n, t) what `weights` (d, t) give for every row."""
        result: Floats = self._all @ weights
        return result

    def principal(self, count: int) -> tuple[Floats, Floats]:
        """The `count` strongest directions: (n, count) coordinates of all rows, and their (d, count) weights."""
        largest = np.argsort(-self._values, kind="stable")[:count]
        kept = largest[self._values[largest] > 1e-9 * max(float(self._values.max()), 1e-12)]
        vectors = self._vectors[:, kept]
        # The sign of an eigenvector is the solver's whim; fixing it keeps artefacts equal across machines.
        vectors = vectors * np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(kept))] < 0.0, -1.0, 1.0)
        weights = self._used.T @ (vectors / self._values[kept] ** 0.5) * self.scale**2
        return self._all @ weights, weights
