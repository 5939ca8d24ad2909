"""What a learned router has to beat: routers that know little, judged by the same measures on the same rows.

Where on the path: beside it; `evaluate` prints them beside the router.

Invariants:
1. Controls learn from TRAIN only; the setting of "validated" is picked on folds they were not fitted on.
2. Every control expects one price per model, its mean on TRAIN: telling dear requests from cheap ones is part of
   routing, and theirs to miss.
3. `category_table` is told the true category of TEST rows, which no router in service knows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from classifiers.quality import judge, metrics
from classifiers.quality.judge import Ground, Measures, Predicted, Setting
from classifiers.quality.metrics import Floats, Index, mean_known
from classifiers.quality.outcomes import FOLDS, Outcomes, folds
from classifiers.quality.reading import Progress
from classifiers.quality.views import k_means, unit

CONTROLS: Final = (
    "always_cheapest",
    "always_strongest",
    "best_fixed_mix",
    "length",
    "category_table",
    "tfidf_lr",
    "kmeans",
)
LENGTH_BINS: Final = 10
TABLE_LABELS: Final = 5.0
MIXES: Final = 101
CLUSTERS: Final = 30
CLUSTER_ROWS: Final = 20
SVD_DIMENSIONS: Final = 64
TEXT_ROWS_MAX: Final = 6_000
"""Rows a text control is fitted on: its learning curve is flat from there, its running time is not."""

SEED: Final = 7

Learner = Callable[[Outcomes, Outcomes], Floats]
"""learner(train, test) -> (n_test, m) qualities"""


@dataclass(frozen=True, slots=True)
class Stage:
    """Both parts with the grounds they are judged on."""

    train: Outcomes
    test: Outcomes
    train_ground: Ground
    test_ground: Ground


def _table(groups: Index, scores: Floats, asked: Index) -> Floats:
    """(|asked|, m) mean score of each group, shrunk to the model's mean; groups are numbered, -1 is unknown."""
    means = mean_known(scores)
    count = max(int(groups.max(initial=0)), int(asked.max(initial=0))) + 1
    members = np.eye(count + 1)[groups][:, :count]
    known = ~np.isnan(scores)
    table = (members.T @ np.where(known, scores, 0.0) + TABLE_LABELS * means) / (members.T @ known + TABLE_LABELS)
    result: Floats = np.concatenate([table, means[None, :]])[asked]
    return result


def by_length(train: Outcomes, test: Outcomes) -> Floats:
    """A table over `LENGTH_BINS` equally filled bins of prompt length."""
    sizes = np.array([len(prompt) for prompt in train.prompts])
    edges = np.unique(np.quantile(sizes, np.linspace(0.0, 1.0, LENGTH_BINS + 1)[1:-1]))
    asked = np.array([len(prompt) for prompt in test.prompts])
    return _table(np.searchsorted(edges, sizes), train.scores, np.searchsorted(edges, asked))


def by_category(train: Outcomes, test: Outcomes) -> Floats:
    """A table over the true categories; a category that TRAIN lacks gets the means."""
    place = {name: number for number, name in enumerate(sorted({name for name in train.categories if name}))}
    groups, asked = (np.array([place.get(name, -1) for name in part.categories]) for part in (train, test))
    return _table(groups, train.scores, asked)


def _spread(count: int) -> Index:
    """At most `TEXT_ROWS_MAX` places, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, TEXT_ROWS_MAX)).round().astype(np.int64))


def _tfidf(train: Outcomes, test: Outcomes) -> tuple[sp.csr_matrix, sp.csr_matrix] | None:
    """Word 1-2-gram TF-IDF of both; `None` when no word occurs twice."""
    vectoriser = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    try:
        fitted = vectoriser.fit_transform(train.prompts)
    except ValueError:
        return None
    return fitted, vectoriser.transform(test.prompts)


def by_regression(train: Outcomes, test: Outcomes) -> Floats:
    """TF-IDF and one logistic regression per model. A score of 0.7 counts as 0.7 success and 0.3 failure."""
    kept = train.take(_spread(len(train)))
    vectors = _tfidf(kept, test)
    result = np.tile(mean_known(kept.scores), (len(test), 1))
    if vectors is None:
        return result
    fitted, asked = vectors
    for model in range(len(kept.models)):
        known = np.flatnonzero(~np.isnan(kept.scores[:, model]))
        good = kept.scores[known, model]
        weights = np.concatenate([good, 1.0 - good])
        label = np.repeat([1, 0], len(known))
        used = np.flatnonzero(weights > 0.0)
        if len(np.unique(label[used])) < 2:
            continue
        solver = LogisticRegression(max_iter=200)
        rows = sp.vstack([fitted[known], fitted[known]]).tocsr()[used]
        solver.fit(rows, label[used], sample_weight=weights[used])
        result[:, model] = solver.predict_proba(asked)[:, 1]
    return result


def by_clusters(train: Outcomes, test: Outcomes) -> Floats:
    """A table over k-means clusters of TF-IDF vectors."""
    kept = train.take(_spread(len(train)))
    vectors = _tfidf(kept, test)
    if vectors is None:
        return np.tile(mean_known(kept.scores), (len(test), 1))
    fitted, asked = vectors
    dimensions = min(SVD_DIMENSIONS, min(fitted.shape) - 1)
    if dimensions < 2:
        return np.tile(mean_known(kept.scores), (len(test), 1))
    svd = TruncatedSVD(dimensions, random_state=SEED)
    rows, others = unit(svd.fit_transform(fitted)), unit(svd.transform(asked))
    labels = k_means(rows, min(CLUSTERS, max(2, len(rows) // CLUSTER_ROWS)), SEED)
    centroids = np.stack([rows[labels == label].mean(axis=0) for label in range(int(labels.max()) + 1)])
    nearest = ((others[:, None, :] - centroids[None, :, :]) ** 2).sum(axis=2).argmin(axis=1)
    return _table(labels, kept.scores, nearest)


LEARNERS: Final[dict[str, Learner]] = {
    "length": by_length,
    "category_table": by_category,
    "tfidf_lr": by_regression,
    "kmeans": by_clusters,
}


def _flat(stage: Stage, count: int) -> Floats:
    return np.tile(stage.train_ground.costs.mean(axis=0), (count, 1))


def _learned(stage: Stage, learner: Learner) -> Measures:
    """Fit on all of TRAIN for TEST, and fold by fold for the setting."""
    fold = folds(stage.train)
    unseen = np.zeros_like(stage.train.scores)
    for number in range(FOLDS):
        held, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        unseen[held] = learner(stage.train.take(rest), stage.train.take(held))
    setting = judge.validate(stage.train_ground, Predicted(unseen, _flat(stage, len(stage.train))))
    quality = learner(stage.train, stage.test)
    return judge.measures(stage.test_ground, Predicted(quality, _flat(stage, len(stage.test))), setting)


def _always(stage: Stage, model: str) -> Measures:
    """One model for everything."""
    place = stage.test_ground.models.index(model)
    single = stage.test_ground.singles()[place]
    return judge.measures_of_curve(stage.test_ground, np.array([[single.cost, single.score]]), Setting(0, 0, 0.0))


def _mix(stage: Stage) -> Measures:
    """The best mixtures of single models by lot, as TRAIN has it: the corners of TRAIN's hull and what lies between."""
    if not stage.train_ground.is_priced:
        return _always(stage, stage.train_ground.best_single().model)
    train, test = (
        np.array([(one.cost, one.score) for one in where.singles()])
        for where in (stage.train_ground, stage.test_ground)
    )
    corners = [int(np.flatnonzero((train == corner).all(axis=1))[0]) for corner in metrics.hull(train)]
    shares = np.linspace(0.0, 1.0, MIXES)[:, None]

    def path(points: Floats) -> Floats:
        pieces = [(1.0 - shares) * points[a] + shares * points[b] for a, b in itertools.pairwise(corners)]
        return np.concatenate([points[corners[:1]], *pieces])

    setting = judge.pick(path(train), judge.VALIDATED_TARGET * stage.train_ground.best_single().score)
    found = judge.measures_of_curve(stage.test_ground, path(test), setting)
    if len(stage.test.models) == 2:
        # By lot: every share of strong calls recovers just that share of the gap.
        found |= {"apgr": 0.5, "cpt50": 0.5, "cpt80": 0.8}
    return found


def judge_controls(stage: Stage, progress: Progress | None = None) -> dict[str, Measures]:
    """All of `CONTROLS` by name."""
    found = {
        "always_cheapest": _always(stage, stage.train_ground.cheapest().model),
        "always_strongest": _always(stage, stage.train_ground.best_single().model),
        "best_fixed_mix": _mix(stage),
    }
    for done, (name, learner) in enumerate(LEARNERS.items()):
        if progress is not None:
            progress(done, len(LEARNERS), "controls")
        found[name] = _learned(stage, learner)
    if progress is not None:
        progress(len(LEARNERS), len(LEARNERS), "controls")
    return found
