"""Fitting the quality model: views, blend, calibration, gate, and all of it packed into the run-time form.

Where on the path: beside it; `evaluate` and `train` call `fit`.

Invariants:
1. Same rows in the same order, same library versions: the same numbers.
2. Weights, slopes, gate and margin are fitted on predictions for rows that the predicting view had not seen; `Fitted`
   hands the same predictions on, so a threshold can be picked on them.
3. What is returned is the run-time form itself; nothing richer is kept for judging.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import scipy.sparse as sp

from classifiers.language import LANGUAGES
from classifiers.quality import blend, ground, views
from classifiers.quality.metrics import Floats, Index
from classifiers.quality.outcomes import FOLDS, Outcomes, folds
from classifiers.quality.reading import Progress, Reading
from classifiers.quality.ridge import Ridge
from classifiers.quality.scorer import Arrays, QualityModel, Shape
from classifiers.quality.signals import FAMILIAR, familiar_signs, full_margin, less_margin, sigmoid, topic_shares

SEED: Final = 7
DIMENSIONS: Final = 64
"""Width of the compact space: an int8 row is one cache line."""

VOCABULARY_MAX: Final = 40_960
"""Known buckets, at 64 bytes of codes, a number and a scale each: an artefact stays at 3 MB."""

GROUP_ROWS_MIN: Final = 10
"""Categories with fewer rows are not left out to choose the gate."""

TYPICAL_MIN: Final = 0.05

MARGINS: Final = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 1e6)
"""Logits; the last one means: never leave the best single model for quality's sake."""

SURE: Final = 4.0
"""Standard errors by which a margin must gain: the best of ten tries among dozens of models is lucky by three."""

VIEWS: Final = ("topics", "linear", "clusters", "intents")


@dataclass(frozen=True, slots=True)
class Fitted:
    """`model` is the run-time form. `unseen` (n, m) are qualities of TRAIN rows by fits without their fold or row.

    `topic_shares` (n, t) are likewise unseen; `topics` names them,
    by categories when `named`; `weights` maps views to their share in the blend;
    `shut` is the share of TRAIN rows that deserve less than full trust; see `scorer.Shape` for `margin`.
    """

    model: QualityModel
    unseen: Floats
    topic_shares: Floats
    topics: tuple[str, ...]
    named: bool
    weights: dict[str, blend.Weight]
    gate: ground.Gate
    shut: float
    margin: float


@dataclass(frozen=True, slots=True)
class _Parts:
    """The fitted views of one TRAIN."""

    matrix: sp.csr_matrix
    ridge: Ridge
    factors: Floats
    topics: views.Topics | None
    linear: views.Linear | None
    clusters: views.Clusters
    cells: Floats
    posteriors: Floats
    scores: Floats


def _language_members(reading: Reading) -> Floats:
    place = {name: number for number, name in enumerate(LANGUAGES)}
    return np.eye(len(LANGUAGES))[[place[one.language] for one in reading.features]]


def _parts(train: Outcomes, reading: Reading, seed: int) -> _Parts:
    matrix = reading.matrix()
    rows, factors = views.weighted(matrix)
    ridge = Ridge(rows)
    clusters = views.fit_clusters(ridge, seed)
    named = views.topic_labels(train.categories) or views.pseudo_topics(clusters, seed)
    return _Parts(
        matrix=matrix,
        ridge=ridge,
        factors=factors,
        topics=views.fit_topics(ridge, *named) if named is not None else None,
        linear=views.fit_linear(ridge, views.fill(train.scores)),
        clusters=clusters,
        cells=_language_members(reading),
        posteriors=reading.posteriors,
        scores=train.scores,
    )


def _intent_signals(parts: _Parts, rows: Index) -> Floats:
    """(|rows|, languages * 15) posteriors, each in the block of its language."""
    spread = parts.cells[rows][:, :, None] * parts.posteriors[rows][:, None, :]
    result: Floats = spread.reshape(len(rows), -1)
    return result


def _tables(parts: _Parts, rows: Index) -> dict[str, Floats]:
    """Tables (signals, m) of the views, from the outcomes of some rows."""
    scores = parts.scores[rows]
    found = {"clusters": views.shrunk_table(parts.clusters.shares[rows], scores)}
    found["intents"] = views.shrunk_cells(parts.cells[rows], parts.posteriors[rows], scores).reshape(
        -1, scores.shape[1]
    )
    if parts.topics is not None:
        found["topics"] = views.shrunk_table(parts.topics.members[rows], scores)
    if parts.linear is not None:
        found["linear"] = parts.linear.loadings
    return found


def _deviations(parts: _Parts, tables: dict[str, Floats], rows: Index, topics: Floats | None) -> dict[str, Floats]:
    """(|rows|, m) deviations of each view for some rows, given their unseen topic shares."""
    found = {
        "clusters": parts.clusters.shares[rows] @ tables["clusters"],
        "intents": _intent_signals(parts, rows) @ tables["intents"],
    }
    if topics is not None:
        found["topics"] = topics @ tables["topics"]
    if parts.linear is not None:
        found["linear"] = parts.linear.unseen[rows] @ tables["linear"]
    return {name: found[name] for name in VIEWS if name in found}


def _unseen_deviations(parts: _Parts, fold: Index) -> dict[str, Floats]:
    """(n, m) deviations of each view, by tables that did not count the row's fold."""
    shares = parts.topics.unseen_shares() if parts.topics is not None else None
    found: dict[str, Floats] = {}
    for number in range(FOLDS):
        held, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        if not len(held) or not len(rest):
            continue
        part = _deviations(parts, _tables(parts, rest), held, shares[held] if shares is not None else None)
        for name, values in part.items():
            found.setdefault(name, np.zeros_like(parts.scores))[held] = values
    return found


def _typical(topics: views.Topics) -> Floats:
    """(t,) the unseen score that rows of a topic usually get for it; never so low that a ratio to it would run away."""
    medians = [np.median(topics.unseen[topics.labels == number, number]) for number in range(len(topics.names))]
    return np.maximum(np.array(medians, dtype=np.float64), TYPICAL_MIN)


def known_rows(parts: _Parts, deviations: Floats, bases: Floats) -> ground.Rows:
    """TRAIN's own rows, each predicted without itself."""
    topics = parts.topics
    signs = np.zeros((len(deviations), FAMILIAR))
    groups = np.zeros(len(deviations), dtype=np.int64)
    if topics is not None:
        signs = familiar_signs(topics.unseen, topics.prior, _typical(topics), topics.temperature, parts.clusters.dense)
        groups = topics.labels
    every = np.arange(len(deviations))
    known = views.known_shares(parts.matrix, every, every)
    return ground.Rows(deviations, np.broadcast_to(bases, deviations.shape), parts.scores, signs, known, groups)


def left_out_rows(parts: _Parts, weights: dict[str, blend.Weight]) -> ground.Rows | None:
    """Each topic predicted by a fit without any of its rows; `None` when there are too few topics to leave one out."""
    topics = parts.topics
    if topics is None or len(topics.names) < 3:
        return None
    used = parts.ridge.rows
    found = []
    for number, name in enumerate(topics.names):
        group = np.flatnonzero(topics.labels[used] == number)
        if len(group) >= GROUP_ROWS_MIN and name != views.REST:
            found.append(_without_topic(parts, topics, weights, number, group))
    if not found:
        return None
    return ground.Rows(
        deviations=np.concatenate([part.deviations for part in found]),
        bases=np.concatenate([part.bases for part in found]),
        scores=np.concatenate([part.scores for part in found]),
        signs=np.concatenate([part.signs for part in found]),
        known=np.concatenate([part.known for part in found]),
        groups=np.concatenate([part.groups for part in found]),
    )


def _without_topic(
    parts: _Parts, topics: views.Topics, weights: dict[str, blend.Weight], number: int, group: Index
) -> ground.Rows:
    """The rows `group` (places in `ridge.rows`) of one topic, as strangers."""
    used = parts.ridge.rows
    rows, rest = used[group], np.flatnonzero(topics.labels != number)
    others = [place for place in range(len(topics.names)) if place != number]
    shares = np.bincount(topics.labels[rest], minlength=len(topics.names))[others] / len(rest)
    prior = np.log(np.maximum(shares, 1e-6))
    raw = parts.ridge.without_group(topics.members[used][:, others] - shares, topics.penalty, group)
    tables = _tables(parts, rest)
    given = np.zeros((len(group), len(topics.names)))
    given[:, others] = topic_shares(raw, prior, topics.temperature)
    each = _deviations(parts, tables, rows, given)
    if parts.linear is not None:
        targets = parts.linear.targets[used] - parts.linear.targets[rest].mean(axis=0)
        each["linear"] = parts.ridge.without_group(targets, views.LINEAR_PENALTY, group) @ tables["linear"]
    scores = parts.scores[rows]
    deviations = blend.blended(each, weights)
    dense = parts.clusters.dense[rows]
    return ground.Rows(
        deviations=deviations,
        bases=np.broadcast_to(blend.base_of(parts.scores[rest]), scores.shape),
        scores=scores,
        signs=familiar_signs(raw, prior, _typical(topics)[others], topics.temperature, dense),
        known=views.known_shares(parts.matrix, rows, rest),
        groups=np.full(len(group), number, dtype=np.int64),
    )


def _margin(known: ground.Rows, counts: Floats, trust: Floats) -> float:
    """The margin with the highest gain over the best single model on unseen rows, among those that surely gain.

    A gain is sure when its mean exceeds `SURE` standard errors. Where none is, the best single model is never left.
    """
    logits = known.bases + counts[:, None] * known.deviations
    incumbent = int(known.bases[0].argmax())
    mark = logits[:, incumbent : incumbent + 1]
    cells = ~np.isnan(known.scores)
    at = np.arange(len(logits))
    default = np.where(cells, known.bases, -np.inf).argmax(axis=1)
    best, highest = MARGINS[-1], 0.0
    for margin in MARGINS:
        lowered = less_margin(logits, mark, full_margin(margin, trust[:, None]))
        gain = known.scores[at, np.where(cells, lowered, -np.inf).argmax(axis=1)] - known.scores[at, default]
        mean = float(gain.mean())
        if mean > SURE * float(gain.std()) / len(gain) ** 0.5 and mean > highest:
            best, highest = margin, mean
    return best


def _pack(parts: _Parts, tables: dict[str, Floats], weights: dict[str, blend.Weight]) -> tuple[Arrays, Shape]:
    """Arrays and shape as yet without calibration and gate."""
    topics, linear, clusters = parts.topics, parts.linear, parts.clusters
    used = parts.ridge.rows
    columns, sizes, names = [], [], []
    if topics is not None:
        columns.append(parts.ridge.primal(parts.ridge.dual(topics.targets[used], topics.penalty)))
        sizes.append(np.full(len(topics.names), topics.temperature))
        names.append("topics")
    if linear is not None:
        columns.append(parts.ridge.primal(parts.ridge.dual(linear.targets[used], views.LINEAR_PENALTY)))
        sizes.append(np.sqrt((linear.loadings**2).mean(axis=1)))
        names.append("linear")
    columns.append(clusters.weights)
    spread = float(np.sqrt((clusters.dense**2).sum(axis=1)).mean())
    sizes.append(np.full(clusters.weights.shape[1], views.SHARPNESS / max(spread, 1e-9)))
    whole = np.concatenate(columns, axis=1) * np.concatenate(sizes)
    compact, mixing = _compress(parts, whole)
    compact = compact * parts.factors[:, None]
    buckets, codes, scales = _quantise(compact)
    shape = Shape(
        topics=len(topics.names) if topics is not None else 0,
        linear=linear.loadings.shape[0] if linear is not None else 0,
        dense=clusters.weights.shape[1],
        clusters=len(clusters.centroids),
        temperature=topics.temperature if topics is not None else 1.0,
        sharpness=views.SHARPNESS,
        gate_low=ground.OPEN.low,
        gate_high=ground.OPEN.high,
        known_low=ground.OPEN.low,
        known_high=ground.OPEN.high,
        margin=0.0,
    )
    blocks = [weights[name].of(tables[name]) for name in (*names, "clusters", "intents")]
    table = np.concatenate(blocks)
    arrays = Arrays(
        buckets=buckets,
        codes=codes,
        scales=scales,
        mixing=(mixing / np.concatenate(sizes)).astype(np.float32),
        topic_prior=(topics.prior if topics is not None else np.zeros(0)).astype(np.float32),
        topic_typical=(_typical(topics) if topics is not None else np.zeros(0)).astype(np.float32),
        familiar=np.zeros(FAMILIAR + 1, dtype=np.float32),
        centroids=clusters.centroids.astype(np.float32),
        table=table.astype(np.float32),
        base=np.zeros(table.shape[1], dtype=np.float32),
        labels=(~np.isnan(parts.scores)).sum(axis=0).astype(np.float32),
    )
    return arrays, shape


def _compress(parts: _Parts, whole: Floats) -> tuple[Floats, Floats]:
    """(ROWS, D) and (D, q): the columns' best approximation in D dimensions, as seen on TRAIN."""
    if whole.shape[1] <= DIMENSIONS:
        return whole, np.eye(whole.shape[1])
    seen = parts.ridge.outputs(whole)
    _, turned = np.linalg.eigh(seen.T @ seen)
    kept = turned[:, ::-1][:, :DIMENSIONS]
    return whole @ kept, kept.T


def _quantise(
    compact: Floats,
) -> tuple[
    np.ndarray[tuple[int], np.dtype[np.int32]],
    np.ndarray[tuple[int, int], np.dtype[np.int8]],
    np.ndarray[tuple[int], np.dtype[np.float32]],
]:
    """Known buckets, int8 codes, and a scale per row."""
    largest = np.abs(compact).max(axis=1)
    order = np.argsort(-largest, kind="stable")[:VOCABULARY_MAX]
    buckets = np.sort(order[largest[order] > 0.0]).astype(np.int32)
    scales = (largest[buckets] / 127.0).astype(np.float32)
    codes = np.rint(compact[buckets] / scales[:, None]).clip(-127, 127).astype(np.int8)
    return buckets, codes, scales


def fit(train: Outcomes, reading: Reading, *, seed: int = SEED, progress: Progress | None = None) -> Fitted:
    """Fit on TRAIN: n rows, m models. `reading` are its prompts. See `outcomes.usable` for what TRAIN must hold."""

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, 4, "fitting")

    tell(0)
    parts = _parts(train, reading, seed)
    tell(1)
    each = _unseen_deviations(parts, folds(train))
    weights = blend.weigh(each, train.scores)
    deviations = blend.blended(each, weights)
    tell(2)
    slopes, bases = blend.fit_slopes(deviations, train.scores)
    known = known_rows(parts, deviations * slopes, bases)
    shares = ground.choose_known_gate(known.known)
    detector, gated = ground.choose_gate(known, left_out_rows(parts, weights), shares)
    counts = shares.of(known.known)
    trust = counts * gated.of(detector.of(known.signs))
    margin = _margin(known, counts, trust)
    tell(3)
    arrays, shape = _pack(parts, _tables(parts, np.arange(len(train))), weights)
    model = QualityModel(
        train.models,
        replace(
            shape, gate_low=gated.low, gate_high=gated.high, known_low=shares.low, known_high=shares.high, margin=margin
        ),
        replace(
            arrays,
            table=(arrays.table * slopes).astype(np.float32),
            base=bases.astype(np.float32),
            familiar=detector.weights.astype(np.float32),
        ),
    )
    tell(4)
    logits = known.bases + counts[:, None] * known.deviations
    mark = logits[:, [int(bases.argmax())]]
    lowered = less_margin(logits, mark, full_margin(margin, trust[:, None]))
    topics = parts.topics
    return Fitted(
        model=model,
        unseen=sigmoid(lowered),
        topic_shares=topics.unseen_shares() if topics is not None else np.ones((len(train), 1)),
        topics=topics.names if topics is not None else ("all",),
        named=views.topic_labels(train.categories) is not None,
        weights=weights,
        gate=gated,
        shut=float((trust < 1.0).mean()),
        margin=margin,
    )


def qualities(model: QualityModel, reading: Reading) -> Floats:
    """(n, m) what the run-time form says of each prompt, one call per prompt as in service."""
    rows = [
        model.qualities(features, posterior, features.language)
        for features, posterior in zip(reading.features, reading.posteriors, strict=True)
    ]
    return np.array(rows).reshape(len(reading), len(model.models))


def topic_shares_of(model: QualityModel, reading: Reading) -> Floats:
    """(n, t) topic shares of each prompt by the run-time form; one column of ones without topics."""
    if not model.shape.topics:
        return np.ones((len(reading), 1))
    rows = [
        model.signals(features, posterior, features.language)[0][: model.shape.topics]
        for features, posterior in zip(reading.features, reading.posteriors, strict=True)
    ]
    return np.array(rows).reshape(len(reading), model.shape.topics)
