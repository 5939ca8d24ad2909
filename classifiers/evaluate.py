"""How good is a classifier, said without flattery: per language, beside controls, with whole sources left out.

Where on the path: beside it. `coe evaluate --intents` prints what `evaluate_intents` returns; `train` uses the rest for
calibration and for the card.

Invariants:
1. Every number is computed on rows that the judged model was not trained on; the one exception is named so.
2. A share over no rows is `None`, never 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from classifiers.rows import Row
from classifiers.scorer import Prediction
from classifiers.taxonomy import INDEX, INTENTS

ECE_BINS: Final = 15
REPORTED_LANGUAGES: Final = ("en", "zh")
STRONG: Final = frozenset({"coding", "math", "logic", "domain_expert"})
CHEAP: Final = frozenset({"chitchat", "advice_ideas", "rewriting", "translation", "summarization", "extraction"})
PROGRESS_EVERY: Final = 500

GROUPS_ALONE_MAX: Final = 8
"""With more groups than this, a public one and a world of the own corpus are left out together."""

Progress = Callable[[int, int, str], None]
"""progress(done, total, label)"""

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


class Classifier(Protocol):
    """Anything that predicts: the shipped classifier, a control."""

    def predict(self, turns: Sequence[tuple[str, str]]) -> Prediction:
        """Classify (role, text) turns."""
        ...


class Fitted(Protocol):
    """A model fitted on some rows, as `leave_source_out` needs it."""

    def logits(self, rows: Sequence[Row]) -> Floats:
        """(n, 15) uncalibrated logits."""
        ...


@dataclass(frozen=True, slots=True)
class Scored:
    """What is needed of n judged rows: true and predicted classes, confidence of the prediction, abstentions."""

    true: Labels
    predicted: Labels
    confidence: Floats
    covered: npt.NDArray[np.bool_]

    def where(self, mask: npt.NDArray[np.bool_]) -> Scored:
        """The rows of a mask."""
        return Scored(self.true[mask], self.predicted[mask], self.confidence[mask], self.covered[mask])


def macro_f1(true: Labels, predicted: Labels) -> float | None:
    """Mean F1 over the classes that occur among the true labels; `None` without rows."""
    scores = []
    for label in np.unique(true):
        hit = int(np.count_nonzero((true == label) & (predicted == label)))
        total = int(np.count_nonzero(true == label)) + int(np.count_nonzero(predicted == label))
        scores.append(2.0 * hit / total)
    return float(np.mean(scores)) if scores else None


def calibration_error(correct: npt.NDArray[np.bool_], confidence: Floats) -> float | None:
    """Expected calibration error over `ECE_BINS` bins of equal width; `None` without rows."""
    if not len(correct):
        return None
    bins = np.minimum((confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    gap = 0.0
    for place in range(ECE_BINS):
        inside = bins == place
        if inside.any():
            gap += float(inside.mean()) * abs(float(correct[inside].mean()) - float(confidence[inside].mean()))
    return gap


def metrics(scored: Scored) -> dict[str, float | int | None]:
    """n, accuracy, macro_f1, ece, coverage, accuracy_covered of the rows."""
    count = len(scored.true)
    correct = scored.true == scored.predicted
    covered = int(scored.covered.sum())
    return {
        "n": count,
        "accuracy": float(correct.mean()) if count else None,
        "macro_f1": macro_f1(scored.true, scored.predicted),
        "ece": calibration_error(correct, scored.confidence),
        "coverage": covered / count if count else None,
        "accuracy_covered": float(correct[scored.covered].mean()) if covered else None,
    }


def confusion(scored: Scored) -> dict[str, list[str] | list[list[int]]]:
    """Counts, true label by row and predicted label by column, both in the order of `INTENTS`."""
    matrix = np.zeros((len(INTENTS), len(INTENTS)), dtype=np.int64)
    np.add.at(matrix, (scored.true, scored.predicted), 1)
    return {"labels": list(INTENTS), "matrix": matrix.tolist()}


def report_of(scored: Scored, languages: Sequence[str]) -> dict[str, object]:
    """The report: metrics overall and per reported language, and the confusion matrix."""
    spoken = np.array(languages)
    report: dict[str, object] = {"overall": metrics(scored)}
    for language in REPORTED_LANGUAGES:
        report[language] = metrics(scored.where(spoken == language))
    report["confusion"] = confusion(scored)
    return report


def score_rows(classifier: Classifier, rows: Sequence[Row], progress: Progress | None = None) -> Scored:
    """Predict each row with what the person said before, where the row tells."""
    predicted, confidence, covered = [], [], []
    for done, row in enumerate(rows, start=1):
        prediction = classifier.predict(row.turns)
        predicted.append(INDEX[prediction.label])
        confidence.append(prediction.confidence)
        covered.append(not prediction.abstained)
        if progress is not None and (done % PROGRESS_EVERY == 0 or done == len(rows)):
            progress(done, len(rows), "classifying")
    return Scored(
        true=np.array([row.label for row in rows], dtype=np.int64),
        predicted=np.array(predicted, dtype=np.int64),
        confidence=np.array(confidence, dtype=np.float64),
        covered=np.array(covered, dtype=np.bool_),
    )


def evaluate_intents(
    classifier: Classifier, rows: Sequence[Row], progress: Progress | None = None
) -> dict[str, object]:
    """The report of `coe evaluate --intents --json`: overall, en, zh, confusion. Accuracy counts abstained rows too.

    Rows that fit no intent are judged apart: `unfit` says how many there are and which share was abstained on.
    """
    fitting = [row for row in rows if row.intent is not None]
    report = report_of(score_rows(classifier, fitting, progress), [row.language for row in fitting])
    unfit = [row for row in rows if row.intent is None]
    if unfit:
        abstained = [classifier.predict(row.turns).abstained for row in unfit]
        report["unfit"] = {"n": len(unfit), "abstained": sum(abstained) / len(unfit)}
    return report


def confusion_cost(report: Mapping[str, object]) -> dict[str, float | None]:
    """Share of strong-tier prompts that went to a cheap tier, and of cheap-tier ones that went to a strong tier."""
    table = report["confusion"]
    if not isinstance(table, dict):
        raise TypeError("report['confusion'] must be the object that evaluate_intents returns")
    matrix = np.array(table["matrix"], dtype=np.int64)
    strong = [place for place, name in enumerate(INTENTS) if name in STRONG]
    cheap = [place for place, name in enumerate(INTENTS) if name in CHEAP]
    shares: dict[str, float | None] = {}
    for name, of, to in (("strong_to_cheap", strong, cheap), ("cheap_to_strong", cheap, strong)):
        total = int(matrix[of].sum())
        shares[name] = float(matrix[np.ix_(of, to)].sum() / total) if total else None
    return shares


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Predictions for rows whose whole source group was absent from training.

    `logits` (n, 15); `known` marks rows whose intent and language occur together in another group, too.
    """

    rows: tuple[Row, ...]
    logits: Floats
    known: npt.NDArray[np.bool_]

    @property
    def true(self) -> Labels:
        """(n,) true classes."""
        return np.array([row.label for row in self.rows], dtype=np.int64)

    @property
    def groups(self) -> npt.NDArray[np.str_]:
        """(n,) source groups."""
        return np.array([row.group for row in self.rows], dtype=np.str_)

    @property
    def languages(self) -> npt.NDArray[np.str_]:
        """(n,) languages as labelled."""
        return np.array([row.language for row in self.rows], dtype=np.str_)


def _folds(rows: Sequence[Row]) -> list[frozenset[str]]:
    """What is left out together: a public group and an own world each, as far as there are both."""
    public = sorted({row.group for row in rows if not row.own})
    own = sorted({row.group for row in rows if row.own})
    if len(public) + len(own) <= GROUPS_ALONE_MAX:
        return [frozenset([group]) for group in (*public, *own)]
    return [frozenset(filter(None, pair)) for pair in zip_longest(public, own)]


def leave_source_out(
    rows: Sequence[Row],
    fit: Callable[[Sequence[Row]], Fitted],
    *,
    progress: Progress | None = None,
    threads: int = 1,
) -> LeftOut:
    """For each fold: fit on all groups outside it, predict its rows. The order of folds is that of the names.

    A group is the source before the slash, a fold one public group, one world of the own corpus, or one of each: they
    share no voice, so leaving out both at once is only a little harder, and takes half the time. Raises `ValueError`
    when there are fewer than two folds.
    """
    folds = _folds(rows)
    if len(folds) < 2:
        raise ValueError(f"leave-source-out needs two source groups or more, the rows have {len(folds)}")

    def without(fold: frozenset[str]) -> tuple[list[Row], Floats, list[bool]]:
        held_out = [row for row in rows if row.group in fold and row.judged]
        rest = [row for row in rows if row.group not in fold]
        seen = {(row.intent, row.language) for row in rest}
        return held_out, fit(rest).logits(held_out), [(row.intent, row.language) in seen for row in held_out]

    judged: list[Row] = []
    parts: list[Floats] = []
    known: list[bool] = []
    with ThreadPoolExecutor(max_workers=threads) as pool:
        # In the order of the groups, whichever fold is done first: the threads change nothing but the time.
        for done, (held_out, logits, seen) in enumerate(pool.map(without, folds)):
            judged += held_out
            parts.append(logits)
            known += seen
            if progress is not None:
                names = " and ".join(sorted(folds[done]))
                progress(done + 1, len(folds), "sources left out" if done + 1 == len(folds) else f"without {names}")
    return LeftOut(tuple(judged), np.concatenate(parts), np.array(known, dtype=np.bool_))
