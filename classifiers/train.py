"""Training: labelled rows in, a verified artefact with an honest card out.

Where on the path: beside it; `coe train` calls `train`.

Invariants:
1. Same input, same seed, same library versions: the same bytes in `weights.npz`.
2. Temperatures and thresholds are fitted on predictions for rows whose source was left out (for the project's own
   corpus: whose world, all its authors' rows in both languages), never on rows the model was fitted on.
3. Figures of the card that judge the calibration use numbers fitted without the judged source group.
4. Only weights, counts and hashes leave: no sentence of the training data is written.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy
import scipy.sparse as sp
import sklearn
from sklearn.exceptions import ConvergenceWarning

from classifiers import artefact, calibration, model
from classifiers.calibration import Calibration
from classifiers.card import render
from classifiers.controls import KeywordControl, MajorityControl
from classifiers.corpus import folder_sha256, read_corpus
from classifiers.evaluate import (
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
from classifiers.scorer import SHIPPED, IntentClassifier
from classifiers.taxonomy import HEADS, INTENTS
from classifiers.timing import measure

CORPUS_SHARE: Final = 0.5
"""Mass of the project's own corpus in calibration; the public source groups share the rest equally."""

FOLD_THREADS_MAX: Final = 4
CUTS: Final = tuple(step / 10 for step in range(-25, 11))
"""Logits at which a flag may be cut; the one with the best F1 in worlds left out is taken."""

Words = npt.NDArray[np.str_]
Fit = Callable[[Sequence[Row]], model.LinearModel]


@dataclass(frozen=True, slots=True)
class Trained:
    """What `train` made: the artefact's id, the manifest, and the figures that the card shows."""

    id: str
    manifest: Mapping[str, object]
    figures: Mapping[str, object]


def _masses(left_out: LeftOut) -> npt.NDArray[np.float64]:
    """(n,) calibration weights: the own corpus has `CORPUS_SHARE`, the other groups share the rest equally."""
    groups = left_out.groups.tolist()
    counts = Counter(groups)
    own = {row.group for row in left_out.rows if row.own}
    own_rows = sum(counts[group] for group in own)
    others = max(1, len(counts) - len(own))
    share = {
        group: CORPUS_SHARE / own_rows if group in own else (1.0 - CORPUS_SHARE) / others / count
        for group, count in counts.items()
    }
    return np.array([share[group] for group in groups], dtype=np.float64)


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


def _calibrations(evidence: LeftOut) -> tuple[Calibration, dict[str, Calibration]]:
    """The calibration that ships, and for each group the one fitted without it (for honest figures)."""
    logits, true, languages, groups = evidence.logits, evidence.true, evidence.languages, evidence.groups
    weights = _masses(evidence)
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


def _across(name: str, fit: Fit, seen: Sequence[Row], judged: Sequence[Row], shipped: Calibration) -> dict[str, object]:
    """Trained on one kind of rows alone, judged on the other kind."""
    if not seen or not judged:
        return {"name": name, "overall": {"n": 0}}
    logits = fit(seen).logits(judged)
    languages = np.array([row.language for row in judged], dtype=np.str_)
    posterior, covered = shipped.apply(logits, languages)
    true = np.array([row.label for row in judged], dtype=np.int64)
    scored = Scored(true, logits.argmax(axis=1).astype(np.int64), posterior.max(axis=1), covered)
    return {"name": name, **report_of(scored, languages.tolist())}


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
        "heads": list(HEADS),
        "temperatures": {key: round(value, 6) for key, value in shipped.temperatures.items()},
        "thresholds": {key: round(value, 6) for key, value in shipped.thresholds.items()},
        "seed": seed,
        "solver": {
            "rounds": fitted.rounds,
            "rows": fitted.trained_rows,
            "inverse_penalty": model.INVERSE_PENALTY,
            "corpus_mass": model.CORPUS_MASS,
            "rows_per_cell": model.ROWS_PER_CELL,
            "copies": model.COPIES,
            "members": len(model.CUE_SCALES),
        },
        "versions": {
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "data": dict(data),
    }


def _figures(evidence: LeftOut, without: Mapping[str, Calibration], cues: model.Cues) -> dict[str, Any]:
    """Figures on rows whose source was left out, and the controls on the same rows."""
    scored = _judge(evidence.logits, evidence, without)
    languages = evidence.languages
    own = np.array([row.own for row in evidence.rows])
    report = report_of(scored, languages.tolist())
    accepted = np.array(
        [INTENTS[place] in (row.intent, *row.also) for row, place in zip(evidence.rows, scored.predicted, strict=True)]
    )
    plain = evidence.groups != model.DRESSED_UP
    return {
        "left_out": report,
        "left_out_plain": report_of(scored.where(plain), languages[plain].tolist()),
        "left_out_public": report_of(scored.where(~own), languages[~own].tolist()),
        "left_out_own": report_of(scored.where(own), languages[own].tolist()),
        "left_out_cost": confusion_cost(report),
        "own_accepted": float(accepted[own].mean()) if own.any() else None,
        "groups": _group_table(evidence, scored),
        "majority": evaluate_intents(MajorityControl(evidence.rows), evidence.rows),
        "keywords": evaluate_intents(KeywordControl(cues), evidence.rows),
    }


def _heads(
    own: Sequence[Row], cues: sp.csr_matrix, vectoriser: model.Vectoriser
) -> tuple[dict[str, object], npt.NDArray[np.float32]]:
    """How well difficulty and flags are read in worlds that were left out, and where each flag is best cut: (5,)."""
    groups = sorted({row.group for row in own})
    cuts = np.zeros(len(HEADS), dtype=np.float32)
    if len(groups) < 2:
        return {}, cuts
    said = np.zeros((len(own), len(HEADS)))
    for group in groups:
        weights, bias = model.fit_heads([row for row in own if row.group != group], cues, vectoriser)
        places = [place for place, row in enumerate(own) if row.group == group]
        said[places] = vectoriser.matrix([own[place] for place in places]) @ weights + bias
    hard = np.array([row.difficulty or 0 for row in own], dtype=np.float64)
    wishes = np.array([row.intent is not None for row in own])
    found: dict[str, object] = {"difficulty_correlation": float(np.corrcoef(said[wishes, 0], hard[wishes])[0, 1])}
    for place, name in enumerate(HEADS[1:], start=1):
        wanted = np.array([model.raises(row, name) for row in own])
        if not wanted.any():
            continue
        scored = [(_f1(wanted, said[:, place] > cut), cut) for cut in CUTS]
        cuts[place] = max(scored, key=lambda pair: (pair[0], -abs(pair[1])))[1]
        raised = said[:, place] > cuts[place]
        hits = int((wanted & raised).sum())
        count, precision = int(wanted.sum()), hits / max(1, int(raised.sum()))
        found[name] = {"n": count, "recall": hits / count, "precision": precision}
    return found, cuts


def _f1(wanted: npt.NDArray[np.bool_], raised: npt.NDArray[np.bool_]) -> float:
    return float(2 * (wanted & raised).sum() / max(1, wanted.sum() + raised.sum()))


def train(
    data: Path | None,
    out: Path,
    *,
    seed: int,
    progress: Progress | None = None,
    corpus: Path | None = None,
    probe: Path | None = None,
    name: str = SHIPPED,
) -> Trained:
    """Train on `data` plus the project's own corpus and write the artefact into `out`.

    `data` and `probe` are row files (see `rows`); without `data` the corpus is all there is. `corpus` is a folder that
    replaces the shipped one. Rows whose label is marked as uncertain are dropped. `probe` rows are only judged, never
    trained on. Raises `RowError`, `CorpusError`, `ValueError` when the rows don't suffice, `ArtefactError` when the
    result is too large.
    """
    folder = corpus if corpus is not None else Path(__file__).with_name("corpus")
    cues = model.load_cues()
    ties = model.cue_matrix(cues)
    vectoriser = model.Vectoriser()
    public = [row for row in read_rows(data) if row.confident and row.intent is not None] if data is not None else []
    prompts = read_corpus(folder)
    written = [Row.of_corpus(row) for row in prompts]
    own = [row for row in written if row.intent is not None]
    steps = [step for row in prompts for step in Row.steps_of(row)]
    vectoriser.matrix([*public, *own, *steps])

    def fit(training: Sequence[Row]) -> model.LinearModel:
        return model.fit(training, ties, vectoriser, seed=seed)

    threads = min(FOLD_THREADS_MAX, os.cpu_count() or 1)
    with warnings.catch_warnings():
        # Each fit sets and resets this filter for itself; with several at once it has to hold around all of them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        evidence = leave_source_out([*public, *own, *steps], fit, progress=progress, threads=threads)
    shipped, without = _calibrations(evidence)
    figures = _figures(evidence, without, cues)
    figures["across"] = [
        _across("public rows alone, judged on the own corpus", fit, public, own, shipped),
        _across("own corpus alone, judged on the public rows", fit, [*own, *steps], public, shipped),
    ]
    figures["heads"], cuts = _heads(written, ties, vectoriser)
    if progress is not None:
        progress(0, 1, "final fit")
    fitted = fit([*public, *own, *steps])
    head_weights, head_bias = model.fit_heads(written, ties, vectoriser)
    sources: dict[str, object] = {"sha256": None if data is None else file_sha256(data), "counts": _counts(public)}
    sources |= {"corpus_sha256": folder_sha256(folder), "corpus_counts": _counts(own)}
    manifest = _manifest(name, seed, fitted, shipped, sources)
    arrays = artefact.packed(
        np.concatenate([fitted.weights, head_weights], axis=1), np.concatenate([fitted.bias, head_bias - cuts])
    )
    # Written twice: the figures on the probe and the timings are of the artefact as shipped, so it has to exist first.
    artefact.write(out, arrays, manifest, "")
    classifier = IntentClassifier.load(out)
    unfit = [classifier.predict(row.turns).abstained for row in written if row.intent is None]
    figures["unfit"] = {"n": len(unfit), "abstained": sum(unfit) / len(unfit) if unfit else None}
    if probe is not None:
        figures["probe"] = evaluate_intents(classifier, read_rows(probe))
        figures["probe_keywords"] = evaluate_intents(KeywordControl(cues), read_rows(probe))
    figures["timings"] = measure(classifier)
    artefact.write(out, arrays, manifest, render(classifier.id, manifest, figures))
    if progress is not None:
        progress(1, 1, "final fit")
    return Trained(classifier.id, manifest, figures)
