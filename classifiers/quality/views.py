"""What can be learned from outcomes, as views: topics, linear scores, clusters, intents by language. Fitting only.

Where on the path: beside it; `fit` blends the views and packs them into the run-time form.

Every view gives, for each TRAIN row, the signals that a fit without the row would give (`unseen`), and weights from
which the run-time form computes them. A table over signals is a view's second half: one number per (signal, model), a
deviation in logits from what the model is worth overall, shrunk by how little is known.

Why these four: on public outcomes the category of a prompt carries most of what can be known, and TRAIN's own category
names are free supervision; linear scores add what differs inside a category; clusters do without names; intents carry
over to prompts of other sources. Their mean beats each.

Invariants:
1. Gaps in the outcomes are filled for linear targets only (model mean plus row effect); tables count real cells.
2. Nothing about a row's own outcome or category enters its `unseen` signals; cluster membership uses texts only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from sklearn.cluster import KMeans

from classifiers.features import ROWS
from classifiers.quality.metrics import Floats, Index, mean_known
from classifiers.quality.ridge import Ridge
from classifiers.quality.signals import cluster_shares, logit, topic_shares

DOCUMENTS_MIN: Final = 2
"""A bucket that one prompt alone uses says nothing about others."""

TOPICS_MAX: Final = 64
TOPIC_ROWS_MIN: Final = 5
REST: Final = "(rest)"
"""Categories beyond the limit, and those with fewer rows, are one topic."""

TOPIC_PENALTIES: Final = (0.1, 0.25, 0.5, 1.0, 2.0)
TEMPERATURES: Final = (4.0, 6.0, 8.0, 10.0, 14.0, 20.0, 28.0)

LINEAR_PENALTY: Final = 3.0
"""Some two times what leave-one-out error would pick: choosing the best of several models rewards overestimates, and
smoother differences choose better."""

FACTORS_MAX: Final = 8
DENSE_MAX: Final = 24
CLUSTERS_MAX: Final = 30
CLUSTER_ROWS: Final = 20
"""Rows per cluster at least, on average."""

SHARPNESS: Final = 12.0
TABLE_LABELS: Final = 8.0
"""A table cell trusts its model's overall quality like this many labels."""

PSEUDO_TOPIC_ROWS: Final = 40
PSEUDO_TOPICS_MAX: Final = 16
LINEAR_LABELS_MIN: Final = 300
"""Labels (known cells) below which nothing linear is fitted."""


@dataclass(frozen=True, slots=True)
class Filled:
    """Scores without gaps (n, m), and `means` (m,) over the known cells."""

    scores: Floats
    means: Floats


def fill(scores: Floats) -> Filled:
    """Fill gaps with the model's mean plus how the row went for the models that have an outcome."""
    means = mean_known(scores)
    known = ~np.isnan(scores)
    rest = np.where(known, scores - means, 0.0)
    effect = rest.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return Filled(np.where(known, scores, np.clip(means + effect[:, None], 0.0, 1.0)), means)


def weighted(matrix: sp.csr_matrix) -> tuple[sp.csr_matrix, Floats]:
    """The matrix with rare buckets out and common ones damped, and the factor (ROWS,) of each bucket."""
    documents = np.bincount(matrix.indices, minlength=ROWS)
    factors = np.where(documents >= DOCUMENTS_MIN, np.log((1.0 + matrix.shape[0]) / (1.0 + documents)) + 1.0, 0.0)
    return (matrix @ sp.diags(factors)).tocsr(), factors


def known_shares(matrix: sp.csr_matrix, rows: Index, of: Index) -> Floats:
    """(|rows|,) the share of each row's squared length that `DOCUMENTS_MIN` rows of `of` know, not counting itself."""
    documents = np.bincount(matrix[of].indices, minlength=matrix.shape[1])
    part = matrix[rows]
    squares = part.multiply(part).tocsr()
    needed = np.where(np.isin(rows, of), DOCUMENTS_MIN + 1, DOCUMENTS_MIN)
    known = documents[squares.indices] >= np.repeat(needed, np.diff(squares.indptr))
    total = np.asarray(squares.sum(axis=1)).ravel()
    kept = np.add.reduceat(np.append(squares.data * known, 0.0), squares.indptr[:-1])
    result: Floats = np.where(np.diff(squares.indptr) > 0, kept, 0.0) / np.maximum(total, 1e-9)
    return result


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics of TRAIN. `names` (t,), `labels` (n,) places in it, `targets` (n, t) one-hot less `shares` (t,).

    `unseen` (n, t) raw scores, `penalty` and `temperature` as chosen by leave-one-out likelihood.
    """

    names: tuple[str, ...]
    labels: Index
    shares: Floats
    targets: Floats
    unseen: Floats
    penalty: float
    temperature: float

    @property
    def prior(self) -> Floats:
        """(t,) log shares."""
        return np.asarray(np.log(np.maximum(self.shares, 1e-6)), dtype=np.float64)

    @property
    def members(self) -> Floats:
        """(n, t) one-hot membership."""
        return np.eye(len(self.names))[self.labels]

    def unseen_shares(self) -> Floats:
        """(n, t) topic shares of each row by a fit without it."""
        return topic_shares(self.unseen, self.prior, self.temperature)


def topic_labels(categories: Sequence[str]) -> tuple[tuple[str, ...], Index] | None:
    """Names and labels of the topics that categories make; `None` when they tell nothing apart."""
    counts = Counter(category for category in categories if category)
    common = sorted(
        (name for name, count in counts.items() if count >= TOPIC_ROWS_MIN), key=lambda name: (-counts[name], name)
    )
    kept = common[: TOPICS_MAX - 1]
    if len(kept) < 2:
        return None
    place = {name: number for number, name in enumerate(kept)}
    labels = np.array([place.get(category, len(kept)) for category in categories], dtype=np.int64)
    names = (*kept, REST) if (labels == len(kept)).any() else tuple(kept)
    return names, labels


def fit_topics(ridge: Ridge, names: tuple[str, ...], labels: Index) -> Topics:
    """Learn to tell topics apart by text."""
    shares = np.bincount(labels, minlength=len(names)) / len(labels)
    targets = np.eye(len(names))[labels] - shares
    prior = np.log(np.maximum(shares, 1e-6))
    own = np.arange(len(labels))
    best: tuple[float, float, float, Floats] | None = None
    for penalty in TOPIC_PENALTIES:
        unseen = ridge.unseen(targets[ridge.rows], penalty)
        for temperature in TEMPERATURES:
            likely = topic_shares(unseen, prior, temperature)[own, labels]
            loss = float(-np.log(likely + 1e-9).mean())
            if best is None or loss < best[0]:
                best = (loss, penalty, temperature, unseen)
    if best is None:
        raise ValueError("TOPIC_PENALTIES and TEMPERATURES must not be empty")
    return Topics(names, labels, shares, targets, best[3], best[1], best[2])


def shrunk_table(weights: Floats, scores: Floats, labels: float = TABLE_LABELS) -> Floats:
    """(k, m) deviations in logits of k groups; `weights` (n, k) is membership, `scores` (n, m) with NaN for gaps."""
    known = ~np.isnan(scores)
    means = mean_known(scores)
    means = np.where(np.isnan(means), 0.5, means)
    mass = weights.T @ known
    total = weights.T @ np.where(known, scores, 0.0)
    result: Floats = logit((total + labels * means) / (mass + labels)) - logit(means)
    return result


def shrunk_cells(cells: Floats, posteriors: Floats, scores: Floats) -> Floats:
    """(k, 15, m) deviations per (language, intent), shrunk to the intent over all languages, and that to the model.

    `cells` (n, k) is membership in languages.
    """
    known = ~np.isnan(scores)
    means = mean_known(scores)
    means = np.where(np.isnan(means), 0.5, means)
    values = np.where(known, scores, 0.0)
    overall = (posteriors.T @ values + TABLE_LABELS * means) / (posteriors.T @ known + TABLE_LABELS)
    tables = []
    for column in cells.T:
        weights = posteriors * column[:, None]
        tables.append((weights.T @ values + TABLE_LABELS * overall) / (weights.T @ known + TABLE_LABELS))
    return logit(np.stack(tables)) - logit(means)


@dataclass(frozen=True, slots=True)
class Linear:
    """Latent factors of what the models do differently. `unseen` (n, r) scores; `targets` (n, r); `loadings` (r, m).

    `loadings` turn scores into deviations in logits.
    """

    unseen: Floats
    targets: Floats
    loadings: Floats


def fit_linear(ridge: Ridge, filled: Filled) -> Linear | None:
    """Factors of the outcomes that text predicts; `None` when there are too few labels for any."""
    if filled.scores.size < LINEAR_LABELS_MIN:
        return None
    centred = filled.scores - filled.means
    expected = ridge.unseen(centred[ridge.rows], LINEAR_PENALTY)
    _, turned = np.linalg.eigh(expected.T @ expected)
    kept = turned[:, ::-1][:, : min(FACTORS_MAX, centred.shape[1])]
    kept = kept * np.where(kept[np.abs(kept).argmax(axis=0), np.arange(kept.shape[1])] < 0.0, -1.0, 1.0)
    middle = np.clip(filled.means, 0.1, 0.9)
    return Linear(expected @ kept, centred @ kept, kept.T / (middle * (1.0 - middle)))


@dataclass(frozen=True, slots=True)
class Clusters:
    """`dense` (n, d) coordinates by `weights` (ROWS, d), `centroids` (k, d) of unit length, `shares` (n, k)."""

    dense: Floats
    weights: Floats
    centroids: Floats
    shares: Floats


def unit(rows: Floats) -> Floats:
    """Rows of unit length; a row of zeros stays one."""
    length = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    result: Floats = rows / np.maximum(length, 1e-12)
    return result


def k_means(rows: Floats, count: int, seed: int) -> Index:
    """(n,) cluster of each row. Rows that coincide can leave fewer clusters than asked for."""
    distinct = len(np.unique(rows.round(9), axis=0))
    solver = KMeans(n_clusters=max(1, min(count, distinct)), n_init=2, random_state=seed)
    labels: Index = solver.fit_predict(rows).astype(np.int64)
    return labels


def fit_clusters(ridge: Ridge, seed: int) -> Clusters:
    """Cluster TRAIN by text alone."""
    dense, weights = ridge.principal(DENSE_MAX)
    directions = unit(dense)
    labels = k_means(directions, min(CLUSTERS_MAX, max(2, len(dense) // CLUSTER_ROWS)), seed)
    _, labels = np.unique(labels, return_inverse=True)
    members = np.eye(int(labels.max()) + 1)[labels]
    centroids = unit(members.T @ directions)
    return Clusters(dense, weights, centroids, cluster_shares(dense, centroids, SHARPNESS))


def pseudo_topics(clusters: Clusters, seed: int) -> tuple[tuple[str, ...], Index] | None:
    """Topics for rows without categories: coarser clusters; `None` when the texts don't fall apart."""
    wanted = min(PSEUDO_TOPICS_MAX, max(2, len(clusters.dense) // PSEUDO_TOPIC_ROWS))
    labels = k_means(unit(clusters.dense), wanted, seed)
    return topic_labels([f"cluster {label}" for label in labels.tolist()])
