"""Training: labelled rows in, a verified artefact with an honest card out.

Where on the path: beside it; `coe train` calls `train`.

Invariants:
1. Same input, same seed, same library versions: the same bytes in `weights.npz`.
2. Temperatures and thresholds are fitted on predictions for rows whose source was left out (or, for the project's own
   corpus, whose fold was left out), never on rows the model was fitted on.
3. Figures of the card that judge the calibration use numbers fitted without the judged source group.
4. Only weights, counts and hashes leave: no sentence of the training data is written.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy
import sklearn

from classifiers import artefact, calibration, model
from classifiers.calibration import Calibration
from classifiers.card import render
from classifiers.controls import KeywordControl, MajorityControl
from classifiers.evaluate import (
    Floats,
    Labels,
    LeftOut,
    Progress,
    Scored,
    confusion_cost,
    evaluate_intents,
    leave_source_out,
    macro_f1,
    report_of,
)
from classifiers.features import ROWS, fingerprint
from classifiers.rows import Row, file_sha256, read_rows
from classifiers.scorer import IntentClassifier
from classifiers.taxonomy import INDEX, INTENTS
from classifiers.timing import measure

CORPUS_FOLDS: Final = 5
CORPUS_SHARE: Final = 0.5
"""Mass of the project's own corpus in calibration; the left-out source groups share the rest equally."""

RANDOM_TEST_SHARE: Final = 0.2

Words = npt.NDArray[np.str_]
Fit = Callable[[Sequence[Row]], model.LinearModel]


@dataclass(frozen=True, slots=True)
class Trained:
    """What `train` made: the artefact's id, the manifest, and the figures that the card shows."""

    id: str
    manifest: Mapping[str, object]
    figures: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Out-of-sample logits for external rows (source left out) and corpus rows (fold left out)."""

    external: LeftOut
    corpus: LeftOut

    @property
    def rows(self) -> tuple[Row, ...]:
        return self.external.rows + self.corpus.rows

    def joined(self) -> tuple[Floats, Labels, Words, Words]:
        """logits, true classes, languages, groups of all rows."""
        return (
            np.concatenate([self.external.logits, self.corpus.logits]),
            np.concatenate([self.external.true, self.corpus.true]),
            np.concatenate([self.external.languages, self.corpus.languages]),
            np.concatenate([self.external.groups, self.corpus.groups]),
        )


def corpus_folds(
    corpus: Sequence[Row], fit: Fit, others: Sequence[Row], seed: int, progress: Progress | None
) -> LeftOut:
    """Predict each corpus row by a model that saw all other sources and the other folds of the corpus."""
    cells: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(corpus):
        cells.setdefault((row.language, row.intent), []).append(place)
    generator = np.random.default_rng(seed)
    fold = np.zeros(len(corpus), dtype=np.int64)
    for offset, cell in enumerate(sorted(cells)):
        # The offset spreads the remainders: without it the last folds of small cells would stay empty.
        fold[generator.permutation(cells[cell])] = (np.arange(len(cells[cell])) + offset) % CORPUS_FOLDS
    logits = np.zeros((len(corpus), len(INTENTS)), dtype=np.float64)
    known = np.zeros(len(corpus), dtype=np.bool_)
    for number in range(CORPUS_FOLDS):
        if progress is not None:
            progress(number, CORPUS_FOLDS, f"corpus fold {number + 1}")
        held_out = np.flatnonzero(fold == number).tolist()
        if not held_out:
            continue
        training = list(others) + [row for place, row in enumerate(corpus) if fold[place] != number]
        seen = {(row.intent, row.language) for row in training}
        logits[held_out] = fit(training).logits([corpus[place].prompt for place in held_out])
        known[held_out] = [(corpus[place].intent, corpus[place].language) in seen for place in held_out]
    if progress is not None:
        progress(CORPUS_FOLDS, CORPUS_FOLDS, "corpus folds")
    return LeftOut(tuple(corpus), logits, known)


def _masses(groups: npt.NDArray[np.str_]) -> npt.NDArray[np.float64]:
    """(n,) calibration weights: the corpus has `CORPUS_SHARE`, the other groups share the rest equally."""
    counts = Counter(groups.tolist())
    others = max(1, len(counts) - (model.CORPUS_SOURCE in counts))
    share = {
        group: (CORPUS_SHARE if group == model.CORPUS_SOURCE else (1.0 - CORPUS_SHARE) / others) / count
        for group, count in counts.items()
    }
    return np.array([share[group] for group in groups.tolist()], dtype=np.float64)


def _judge(logits: npt.NDArray[np.float64], left_out: LeftOut, by: Mapping[str, Calibration]) -> Scored:
    """Apply to each group the calibration that was fitted without it."""
    confidence = np.zeros(len(logits))
    covered = np.zeros(len(logits), dtype=np.bool_)
    for group, fitted in by.items():
        mask = left_out.groups == group
        if mask.any():
            posterior, is_covered = fitted.apply(logits[mask], left_out.languages[mask])
            confidence[mask], covered[mask] = posterior.max(axis=1), is_covered
    return Scored(left_out.true, logits.argmax(axis=1).astype(np.int64), confidence, covered)


def _calibrations(evidence: _Evidence) -> tuple[Calibration, dict[str, Calibration]]:
    """The calibration that ships, and for each group the one fitted without it (for honest figures)."""
    logits, true, languages, groups = evidence.joined()
    weights = _masses(groups)
    shipped = calibration.calibrate(logits, true, languages, weights)
    without = {}
    for group in sorted(set(groups.tolist())):
        rest = groups != group
        without[group] = calibration.calibrate(logits[rest], true[rest], languages[rest], weights[rest])
    return shipped, without


def _group_table(left_out: LeftOut, scored: Scored) -> list[dict[str, object]]:
    table = []
    for group in sorted(set(left_out.groups.tolist())):
        mask = left_out.groups == group
        part = scored.where(mask)
        known = left_out.known[mask]
        hits = part.true == part.predicted
        table.append(
            {
                "group": group,
                "n": int(mask.sum()),
                "accuracy": float(hits.mean()),
                "macro_f1": macro_f1(part.true, part.predicted),
                "known_n": int(known.sum()),
                "known_accuracy": float(hits[known].mean()) if known.any() else None,
            }
        )
    return table


def _random_split(rows: Sequence[Row], fit: Fit, seed: int) -> dict[str, object]:
    """The flattering number: rows of the same sources on both sides."""
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    cut = int(len(rows) * RANDOM_TEST_SHARE)
    test = [rows[place] for place in order[:cut]]
    fitted = fit([rows[place] for place in order[cut:]])
    if not test:
        return {"n": 0, "accuracy": None}
    predicted = fitted.logits([row.prompt for row in test]).argmax(axis=1)
    true = np.array([INDEX[row.intent] for row in test])
    return {"n": len(test), "accuracy": float((predicted == true).mean())}


def _counts(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    return {
        "source_language": dict(sorted(Counter(f"{row.group} {row.language}" for row in rows).items())),
        "intent_language": dict(sorted(Counter(f"{row.intent} {row.language}" for row in rows).items())),
    }


def _manifest(
    name: str, seed: int, fitted: model.LinearModel, shipped: Calibration, data: Mapping[str, object]
) -> dict[str, object]:
    return {
        "format": artefact.FORMAT,
        "name": name,
        "features": fingerprint(),
        "rows": ROWS,
        "labels": list(INTENTS),
        "dtype": "float16",
        "temperatures": {key: round(value, 6) for key, value in shipped.temperatures.items()},
        "thresholds": {key: round(value, 6) for key, value in shipped.thresholds.items()},
        "seed": seed,
        "solver": {
            "rounds": fitted.rounds,
            "rows": fitted.trained_rows,
            "inverse_penalty": model.INVERSE_PENALTY,
            "corpus_mass": model.CORPUS_MASS,
            "rows_per_cell": model.ROWS_PER_CELL,
        },
        "versions": {
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "data": dict(data),
    }


def _figures(evidence: _Evidence, without: Mapping[str, Calibration], cues: model.Cues) -> dict[str, Any]:
    """Figures on rows whose source or fold was left out, and the controls on the same rows."""
    external, corpus = evidence.external, evidence.corpus
    scored = _judge(external.logits, external, without)
    languages = external.languages
    known = external.known
    natural = _judge(corpus.logits, corpus, without)
    report = report_of(scored, languages.tolist())
    return {
        "left_out": report,
        "left_out_known": report_of(scored.where(known), languages[known].tolist()),
        "left_out_cost": confusion_cost(report),
        "groups": _group_table(external, scored),
        "corpus": report_of(natural, corpus.languages.tolist()),
        "majority": evaluate_intents(MajorityControl(evidence.rows), external.rows),
        "keywords": evaluate_intents(KeywordControl(cues), external.rows),
        "corpus_keywords": evaluate_intents(KeywordControl(cues), corpus.rows),
    }


def train(
    data: Path,
    out: Path,
    *,
    seed: int,
    progress: Progress | None = None,
    corpus: Path | None = None,
    probe: Path | None = None,
    name: str = "intent-v1",
) -> Trained:
    """Train on `data` plus the project's own corpus and write the artefact into `out`.

    `data` and `probe` are row files (see `rows`); `corpus` replaces the shipped `corpus/seed.jsonl`; rows whose label
    is marked as uncertain are dropped. `probe` rows are only judged, never trained on. Raises `RowError`, `ValueError`
    when the rows don't suffice, `ArtefactError` when the result is too large.
    """
    corpus_path = corpus if corpus is not None else Path(__file__).with_name("corpus") / "seed.jsonl"
    cues = model.load_cues()
    ties = model.cue_matrix(cues)
    vectoriser = model.Vectoriser()
    rows = [row for row in read_rows(data) if row.confident]
    own = read_rows(corpus_path)

    def fit(training: Sequence[Row]) -> model.LinearModel:
        return model.fit(training, ties, vectoriser, seed=seed)

    evidence = _Evidence(
        external=leave_source_out(rows, fit, always=own, progress=progress),
        corpus=corpus_folds(own, fit, rows, seed, progress),
    )
    shipped, without = _calibrations(evidence)
    figures = _figures(evidence, without, cues)
    figures["random"] = _random_split([*rows, *own], fit, seed)
    if progress is not None:
        progress(0, 1, "final fit")
    fitted = fit([*rows, *own])
    sources = {"sha256": file_sha256(data), "corpus_sha256": file_sha256(corpus_path), "counts": _counts(rows)}
    sources["corpus_counts"] = _counts(own)
    manifest = _manifest(name, seed, fitted, shipped, sources)
    arrays: dict[str, npt.NDArray[Any]] = {"weights": fitted.weights.astype(np.float16), "bias": fitted.bias}
    # Written twice: the figures on the probe and the timings are of the artefact as shipped, so it has to exist first.
    artefact.write(out, arrays, manifest, "")
    classifier = IntentClassifier.load(out)
    if probe is not None:
        figures["probe"] = evaluate_intents(classifier, read_rows(probe))
        figures["probe_keywords"] = evaluate_intents(KeywordControl(cues), read_rows(probe))
    figures["timings"] = measure(classifier)
    artefact.write(out, arrays, manifest, render(classifier.id, manifest, figures))
    if progress is not None:
        progress(1, 1, "final fit")
    return Trained(classifier.id, manifest, figures)
