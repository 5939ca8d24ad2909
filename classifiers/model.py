"""Fitting the linear model: sparse features, tied cues, weighted logistic regression. The only user of scikit-learn.

Where on the path: beside it; `train` calls it, nothing at run time does.

Invariants:
1. Same rows, same seed, same versions: same weights. No thread order, no set order, no clock gets in.
2. No source can drown another: rows are capped per (source, language, intent), then every (intent, language) pair gets
   the same mass, shared among its sources by the square root of their size. The project's own corpus gets
   `CORPUS_MASS` pairs' worth per pair, because it alone looks like what people type.
3. Tied cues cost nothing at run time: the weight of a group is added to the rows of its members after the fit.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import yaml
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from classifiers.features import BUCKETS, ROWS, cue_buckets, extract, opening_buckets, select
from classifiers.rows import Row
from classifiers.taxonomy import INDEX, INTENTS

CORPUS_SOURCE: Final = "coe-seed"
CORPUS_MASS: Final = 10.0
ROWS_PER_CELL: Final = 40
"""Rows taken of one (source, language, intent): templated sources repeat themselves, more of them adds time only."""

CUE_SCALE: Final = 2.0
OPENING_SCALE: Final = 2.0
"""Tied columns are this much longer than plain ones, so the penalty prefers to explain a row by its cues."""

INVERSE_PENALTY: Final = 1.5
ITERATIONS_MAX: Final = 80
TOLERANCE: Final = 2e-3
DOCUMENTS_MIN: Final = 2
"""A bucket that only one row uses gets no weight of its own."""

ABSENT_BIAS: Final = -20.0
"""Bias of an intent that the training rows don't hold: never predicted, and still a finite logit."""

BATCH_ROWS: Final = 512

Cues = Mapping[str, Sequence[str]]


def load_cues(path: Path | None = None) -> Cues:
    """The cue groups of `cues.yaml`. Raises `ValueError` when the file is not a mapping of lists of strings."""
    source = path if path is not None else Path(__file__).with_name("cues.yaml")
    content = yaml.safe_load(source.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not all(
        isinstance(members, list) and all(isinstance(member, str) for member in members) for members in content.values()
    ):
        raise ValueError(
            f"{source.name}: write groups as `name: [cue, cue]`; quote cues that YAML reads as no, yes or a number"
        )
    return content


def cue_matrix(cues: Cues) -> sp.csr_matrix:
    """(ROWS, 2 * groups): which buckets a group ties together, anywhere in a text and at its opening."""
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    for place, members in enumerate(cues.values()):
        for member in members:
            for bucket in cue_buckets(member):
                rows.append(bucket)
                columns.append(place)
                values.append(CUE_SCALE)
            for bucket in opening_buckets(member):
                rows.append(bucket)
                columns.append(len(cues) + place)
                values.append(OPENING_SCALE)
    return sp.csr_matrix((values, (rows, columns)), shape=(ROWS, 2 * len(cues)), dtype=np.float32)


class Vectoriser:
    """Prompts to sparse rows, each prompt computed once."""

    def __init__(self) -> None:
        """Starts empty."""
        self._known: dict[str, tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]] = {}

    def matrix(self, prompts: Sequence[str], *, keep: bool) -> sp.csr_matrix:
        """(n, ROWS) float32; `keep` remembers the rows for the next fold."""
        parts = [self._row(prompt, keep=keep) for prompt in prompts]
        ends = np.cumsum([0, *(len(buckets) for buckets, _ in parts)])
        matrix = sp.csr_matrix(
            (np.concatenate([values for _, values in parts]), np.concatenate([buckets for buckets, _ in parts]), ends),
            shape=(len(parts), ROWS),
        )
        matrix.sum_duplicates()
        return matrix

    def _row(self, prompt: str, *, keep: bool) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        found = self._known.get(prompt)
        if found is None:
            features = extract(select(prompt))
            found = features.buckets.astype(np.int32), features.values
            if keep:
                self._known[prompt] = found
        return found


@dataclass(frozen=True, slots=True)
class LinearModel:
    """A fitted model: `weights` (ROWS, 15) float32, `bias` (15,) float32, `rounds` of the solver, rows it saw."""

    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    rounds: int
    trained_rows: int
    vectoriser: Vectoriser

    def logits(self, prompts: Sequence[str]) -> npt.NDArray[np.float64]:
        """(n, 15) uncalibrated logits, in batches of `BATCH_ROWS`."""
        parts = [
            self.vectoriser.matrix(prompts[start : start + BATCH_ROWS], keep=False) @ self.weights + self.bias
            for start in range(0, len(prompts), BATCH_ROWS)
        ]
        return np.concatenate(parts).astype(np.float64)


def capped(rows: Sequence[Row], seed: int) -> list[Row]:
    """At most `ROWS_PER_CELL` rows per (source, language, intent), drawn by the seed; the project's corpus whole."""
    cells: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        cells.setdefault((row.source, row.language, row.intent), []).append(row)
    generator = np.random.default_rng(seed)
    taken: list[Row] = []
    for cell in sorted(cells):
        members = cells[cell]
        if cell[0] == CORPUS_SOURCE:
            taken += members
        else:
            order = generator.permutation(len(members))[:ROWS_PER_CELL]
            taken += [members[place] for place in sorted(order.tolist())]
    return taken


def sample_weights(rows: Sequence[Row]) -> npt.NDArray[np.float32]:
    """(n,) weights of mean 1; see invariant 2."""
    cells = Counter((row.group, row.intent, row.language) for row in rows)
    shares = [float(cells[row.group, row.intent, row.language]) ** -0.5 for row in rows]
    totals: defaultdict[tuple[bool, str, str], float] = defaultdict(float)
    keys = [(row.source == CORPUS_SOURCE, row.intent, row.language) for row in rows]
    for key, share in zip(keys, shares, strict=True):
        totals[key] += share
    weights = [share / totals[key] * (CORPUS_MASS if key[0] else 1.0) for key, share in zip(keys, shares, strict=True)]
    result = np.array(weights, dtype=np.float32)
    result /= result.mean()
    return result


def fit(rows: Sequence[Row], cues: sp.csr_matrix, vectoriser: Vectoriser, *, seed: int) -> LinearModel:
    """Fit on the capped rows. Raises `ValueError` with fewer than two intents: there is nothing to tell apart."""
    taken = capped(rows, seed)
    classes = np.array([INDEX[row.intent] for row in taken], dtype=np.int64)
    if len(np.unique(classes)) < 2:
        raise ValueError("the training rows hold fewer than two intents; give rows of more intents")
    plain = vectoriser.matrix([row.prompt for row in taken], keep=True)
    documents = np.bincount(plain.indices, minlength=ROWS)
    kept = np.flatnonzero((documents >= DOCUMENTS_MIN) | (np.arange(ROWS) >= BUCKETS))
    joined = sp.hstack([plain[:, kept], plain @ cues]).tocsr().astype(np.float32)
    solver = LogisticRegression(C=INVERSE_PENALTY, max_iter=ITERATIONS_MAX, tol=TOLERANCE)
    with warnings.catch_warnings():
        # Stopping at ITERATIONS_MAX is on purpose: more rounds only sharpen what calibration flattens again.
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver.fit(joined, classes, sample_weight=sample_weights(taken))
    coefficients = solver.coef_
    present = solver.classes_
    intercept = solver.intercept_
    if len(present) == 2:
        coefficients = np.concatenate([-coefficients, coefficients]) / 2.0
        intercept = np.concatenate([-intercept, intercept]) / 2.0
    weights = np.zeros((ROWS, len(INTENTS)), dtype=np.float32)
    weights[np.ix_(kept, present)] = coefficients[:, : len(kept)].T
    weights[:, present] += cues @ coefficients[:, len(kept) :].T
    bias = np.full(len(INTENTS), ABSENT_BIAS, dtype=np.float32)
    bias[present] = intercept
    return LinearModel(weights, bias, int(solver.n_iter_.max()), len(taken), vectoriser)
