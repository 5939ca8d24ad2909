"""Training a quality artefact: outcome rows in, weights, manifest and an honest card out.

Where on the path: beside it; `coe train --outcomes` calls `train_quality`.

Invariants:
1. Figures of the card are those of a router fitted without the rows it is judged on; what ships is then fitted on all.
2. Only weights, counts, hashes, names of models and categories, and ids of anchor rows leave: no prompt is written.
3. Same file, same seed, same library versions: the same bytes of `weights.npz`.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy
import sklearn

from classifiers.quality import anchors, artefact, metrics
from classifiers.quality.card import render
from classifiers.quality.evaluate import Prepared, Router, fit_router, prepare, report_of, stage_of
from classifiers.quality.fit import SEED, Fitted, fit, qualities
from classifiers.quality.metrics import Floats, Index, mean_known
from classifiers.quality.outcomes import Outcomes, read_outcomes
from classifiers.quality.prices import Prices, priced
from classifiers.quality.reading import Intents, Progress, Reading, read_prompts
from classifiers.quality.scorer import QualityModel
from classifiers.rows import file_sha256

NAME: Final = "quality-v1"
ANCHOR_MODELS_MAX: Final = 3
"""Models taken out and placed again for the card: the best, the middle one and the worst."""

MODELS_LEFT_MIN: Final = 3
"""Known models that placing one more needs."""

TIMING_ROUNDS: Final = 400


@dataclass(frozen=True, slots=True)
class Trained:
    """What `train_quality` made: the artefact's id, the manifest, and the report that the card shows."""

    id: str
    manifest: Mapping[str, object]
    report: Mapping[str, object]


def signals_of(model: QualityModel, reading: Reading) -> Floats:
    """(n, s) signals of each prompt."""
    rows = [
        model.signals(features, posterior, features.language)[0]
        for features, posterior in zip(reading.features, reading.posteriors, strict=True)
    ]
    return np.array(rows)


def anchor_figures(prepared: Prepared, reading: Reading, asked: Reading, router: Router) -> dict[str, dict[str, float]]:
    """For some models: how well TEST is predicted when the model is placed by anchors, and when fitted on all."""
    train, test = prepared.train, prepared.test
    if len(train.models) <= MODELS_LEFT_MIN:
        return {}
    order = np.argsort(mean_known(train.scores), kind="stable")
    picked = sorted({int(order[-1]), int(order[len(order) // 2]), int(order[0])})[:ANCHOR_MODELS_MAX]
    full = qualities(router.fitted.model, asked)
    found = {}
    for held in picked:
        name = train.models[held]
        others = [model for model in train.models if model != name]
        known = fit(train.with_models(others), reading).model
        answered = np.flatnonzero(~np.isnan(train.scores[:, held]))
        chosen = answered[anchors.choose(signals_of(known, reading.take(answered)))]
        placed = anchors.place(known, name, reading.take(chosen), train.scores[chosen, held])
        given = qualities(placed, asked)[:, -1:]
        true = test.scores[:, held : held + 1]
        found[name] = {
            "auc_anchors": metrics.auc(true, given) or 0.5,
            "auc_full": metrics.auc(true, full[:, held : held + 1]) or 0.5,
            "loss_anchors": metrics.log_loss(true, given),
            "loss_full": metrics.log_loss(true, full[:, held : held + 1]),
        }
    return found


def timing(model: QualityModel, reading: Reading) -> tuple[float, float]:
    """(p50, p99) CPU microseconds of `qualities` over prompts of the data."""
    taken = []
    for turn in range(TIMING_ROUNDS):
        place = turn * 7 % len(reading)
        features, posterior = reading.features[place], reading.posteriors[place]
        begin = time.thread_time_ns()
        model.qualities(features, posterior, features.language)
        taken.append((time.thread_time_ns() - begin) / 1_000.0)
    p50, p99 = np.percentile(np.array(taken[TIMING_ROUNDS // 10 :]), [50, 99]).tolist()
    return p50, p99


def _manifest(data: Path, rows: Outcomes, fitted: Fitted, chosen: Index, seed: int) -> dict[str, Any]:
    known = (~np.isnan(rows.scores)).sum(axis=0)
    return {
        "seed": seed,
        "versions": {
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "data": {
            "file": data.name,
            "sha256": file_sha256(data),
            "rows": len(rows),
            "sources": sorted(set(rows.sources) - {""}),
            "languages": dict(sorted(Counter(rows.languages).items())),
            "categories": dict(sorted(Counter(rows.categories).items())),
            "outcomes": dict(zip(rows.models, known.tolist(), strict=True)),
        },
        "fitted": {
            "weights": {
                name: {"common": round(one.common, 6), "apart": round(one.apart, 6)}
                for name, one in fitted.weights.items()
            },
            "topics": "the rows' categories" if fitted.named else "clusters of the texts",
            "shut": round(fitted.shut, 6),
            "margin": fitted.margin,
        },
        "anchors": [rows.ids[place] for place in chosen.tolist()],
    }


def train_quality(
    data: Path,
    out: Path,
    *,
    test: Path | None = None,
    prices: Prices | None = None,
    intents: Intents | None = None,
    seed: int = SEED,
    progress: Progress | None = None,
    name: str = NAME,
) -> Trained:
    """Measure on a held-out part, fit on all of `data`, write the artefact into `out`.

    `test` is a file to measure on instead of a part of `data`; it is never trained on. Raises `RowError` when the rows
    don't suffice, `ArtefactError` when the result is too large.
    """
    rows = read_outcomes(data)
    prepared = prepare(rows, read_outcomes(test) if test is not None else None, prices)
    stage = stage_of(prepared)
    reading = read_prompts(stage.train.prompts, intents, progress, "reading TRAIN")
    asked = read_prompts(stage.test.prompts, intents, progress, "reading TEST")
    router = fit_router(stage, reading, seed=seed, progress=progress)
    report = report_of(stage, router.predict(asked, stage.test.prompts), router.setting, progress)
    figures: dict[str, Any] = {"anchors": anchor_figures(prepared, reading, asked, router)}

    whole = priced(rows, prices)
    whole = whole.with_models([model for model in whole.models if model in prepared.train.models])
    whole = whole.take(np.flatnonzero(~np.isnan(whole.scores).all(axis=1)))
    everything = read_prompts(whole.prompts, intents, progress, "reading all rows")
    fitted = fit(whole, everything, seed=seed, progress=progress)
    figures["buckets"] = len(fitted.model.arrays.buckets)
    figures["p50_us"], figures["p99_us"] = timing(fitted.model, everything)
    chosen = anchors.choose(signals_of(fitted.model, everything))
    more = _manifest(data, whole, fitted, chosen, seed)
    # Written twice: the card names the hash of the weights, so they have to exist first.
    identity, manifest = artefact.write(out, fitted.model, name, more, "")
    artefact.write(out, fitted.model, name, more, render(identity, manifest, report, figures))
    return Trained(identity, manifest, report)
