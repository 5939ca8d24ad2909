"""Fitting the linear model: sparse features, tied cues, weighted logistic regression. The only user of scikit-learn.

Where on the path: beside it; `train` calls it, nothing at run time does.

Invariants:
1. Same rows, same seed, same versions: same weights. No thread order, no set order, no clock gets in.
2. No source can drown another: rows are capped per (source, language, intent), then every (intent, language) pair gets
   the same mass, shared among its sources by the square root of their size. The project's own corpus gets
   `CORPUS_MASS` pairs' worth per pair, because it alone looks like what people type.
3. Tied cues cost nothing at run time: the weight of a group is added to the rows of its members after the fit.
4. A model must not lean on one word: each row is also shown with half of its features missing, `COPIES` times.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import yaml
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from classifiers.anchors import BUCKETS
from classifiers.cues import cue_buckets, opening_buckets
from classifiers.features import ROWS, extract
from classifiers.rows import Row
from classifiers.taxonomy import HEADS, INTENTS, NOTHING
from classifiers.turns import user_texts

CORPUS_MASS: Final = 8.0
DRESSED_UP: Final = "coe-guise"
DRESSED_UP_SHARE: Final = 0.5
"""The world whose prompts are dressed up on purpose, and how much each of its rows counts: it teaches what says nothing
about a wish, but what strangers type looks like the other worlds."""

ROWS_PER_CELL: Final = 60
"""Rows taken of one (source, language, intent): templated sources repeat themselves, more of them adds time only."""

CUE_SCALES: Final = ((0.5, 0.3), (0.7, 0.4), (1.0, 0.5))
"""How long tied columns are beside plain ones, anywhere in a text and at its opening: the longer, the more the penalty
prefers to explain a row by its cues. One fit for each pair; the model is their mean, which is a linear model again and
costs nothing at run time. Worth a point on sources left out beside any one of them."""

HEAD_SCALES: Final = CUE_SCALES[1]

COPIES: Final = 1
KEEP_SHARE: Final = 0.5
"""How often a row is shown again, and which share of its features each time. Worth 1-2 points on sources left out."""

INVERSE_PENALTY: Final = 4.0
ITERATIONS_MAX: Final = 150
TOLERANCE: Final = 2e-3
"""The solver is done after some sixty rounds. Stopping it at fifty cost a point on sources left out."""
DOCUMENTS_MIN: Final = 2
"""A bucket that only one row uses gets no weight of its own."""

RIDGE_PENALTY: Final = 3.0
FLAG_INVERSE_PENALTY: Final = 3.0
"""For the heads, which learn from the own corpus alone: nobody else says how hard a prompt is."""

ABSENT_BIAS: Final = -20.0
"""Bias of an intent that the training rows don't hold: never predicted, and still a finite logit."""

BATCH_ROWS: Final = 512

Cues = Mapping[str, Sequence[str]]
Floats32 = npt.NDArray[np.float32]
SparseRow = tuple[npt.NDArray[np.int32], Floats32]


def load_cues(path: Path | None = None) -> Cues:
    """The groups of `cues.yaml` and `lexicon.yaml`, or of one file.

    Raises `ValueError` when a file is not a mapping of lists of strings, or when a group stands in both.
    """
    here = Path(__file__)
    paths = [path] if path is not None else [here.with_name("cues.yaml"), here.with_name("lexicon.yaml")]
    groups: dict[str, Sequence[str]] = {}
    for source in paths:
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not all(
            isinstance(members, list) and all(isinstance(member, str) for member in members)
            for members in content.values()
        ):
            raise ValueError(
                f"{source.name}: write groups as `name: [cue, cue]`; quote cues that YAML reads as no, yes or a number"
            )
        twice = sorted(set(groups) & set(content))
        if twice:
            raise ValueError(f"{source.name}: group {twice[0]!r} stands in another file, too; rename one of them")
        groups |= content
    return groups


def cue_matrix(cues: Cues) -> sp.csr_matrix:
    """(ROWS, 2 * groups): which buckets a group ties together, anywhere in a text and at its opening."""
    rows: list[int] = []
    columns: list[int] = []
    for place, members in enumerate(cues.values()):
        for member in members:
            for bucket in cue_buckets(member):
                rows.append(bucket)
                columns.append(place)
            for bucket in opening_buckets(member):
                rows.append(bucket)
                columns.append(len(cues) + place)
    ones = np.ones(len(rows), dtype=np.float32)
    return sp.csr_matrix((ones, (rows, columns)), shape=(ROWS, 2 * len(cues)))


class Vectoriser:
    """Conversations to sparse rows, each computed once, put together as the scorer does."""

    def __init__(self) -> None:
        """Starts empty."""
        self._known: dict[tuple[tuple[str, str], ...], SparseRow] = {}

    def matrix(self, rows: Sequence[Row]) -> sp.csr_matrix:
        """(n, ROWS) float32."""
        parts = [self._row(row) for row in rows]
        ends = np.cumsum([0, *(len(buckets) for buckets, _ in parts)])
        matrix = sp.csr_matrix(
            (np.concatenate([values for _, values in parts]), np.concatenate([buckets for buckets, _ in parts]), ends),
            shape=(len(parts), ROWS),
        )
        matrix.sum_duplicates()
        return matrix

    def _row(self, row: Row) -> SparseRow:
        turns = row.turns
        found = self._known.get(turns)
        if found is None:
            texts = user_texts(turns)
            norm = sum(said.weight * said.weight for said in texts) ** 0.5
            read = [(said.weight / norm, extract(said.text, context=said.context)) for said in texts]
            buckets = [features.buckets.astype(np.int32) for _, features in read]
            values = [np.float32(share) * features.values for share, features in read]
            empty: SparseRow = (np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))
            found = (np.concatenate(buckets), np.concatenate(values)) if read else empty
            self._known[turns] = found
        return found


@dataclass(frozen=True, slots=True)
class LinearModel:
    """A fitted model: `weights` (ROWS, 15) float32, `bias` (15,) float32, `rounds` of the solver, rows it saw."""

    weights: Floats32
    bias: Floats32
    rounds: int
    trained_rows: int
    vectoriser: Vectoriser

    def logits(self, rows: Sequence[Row]) -> npt.NDArray[np.float64]:
        """(n, 15) uncalibrated logits, in batches of `BATCH_ROWS`."""
        parts = [
            self.vectoriser.matrix(rows[start : start + BATCH_ROWS]) @ self.weights + self.bias
            for start in range(0, len(rows), BATCH_ROWS)
        ]
        return np.concatenate(parts).astype(np.float64)


def capped(rows: Sequence[Row], seed: int) -> list[Row]:
    """At most `ROWS_PER_CELL` rows per (source, language, intent), drawn by the seed; the project's corpus whole."""
    cells: dict[tuple[str, str, str], list[Row]] = {}
    taken = [row for row in rows if row.own]
    for row in rows:
        if not row.own:
            cells.setdefault((row.source, row.language, str(row.intent)), []).append(row)
    generator = np.random.default_rng(seed)
    for cell in sorted(cells):
        members = cells[cell]
        order = generator.permutation(len(members))[:ROWS_PER_CELL]
        taken += [members[place] for place in sorted(order.tolist())]
    return taken


def sample_weights(rows: Sequence[Row]) -> Floats32:
    """(n,) weights of mean 1; see invariant 2."""
    cells = Counter((row.group, row.intent, row.language) for row in rows)
    shares = [float(cells[row.group, row.intent, row.language]) ** -0.5 for row in rows]
    totals: defaultdict[tuple[bool, str | None, str], float] = defaultdict(float)
    keys = [(row.own, row.intent, row.language) for row in rows]
    for key, share in zip(keys, shares, strict=True):
        totals[key] += share
    weights = [share / totals[key] * (CORPUS_MASS if key[0] else 1.0) for key, share in zip(keys, shares, strict=True)]
    result = np.array(weights, dtype=np.float32)
    result[[row.group == DRESSED_UP for row in rows]] *= DRESSED_UP_SHARE
    result /= result.mean()
    return result


@dataclass(frozen=True, slots=True)
class _Design:
    """How rows become columns: the buckets that more than one row uses, then the tied ones."""

    kept: npt.NDArray[np.int64]
    cues: sp.csr_matrix

    @classmethod
    def of(cls, plain: sp.csr_matrix, cues: sp.csr_matrix, scales: tuple[float, float]) -> _Design:
        documents = np.bincount(plain.indices, minlength=ROWS)
        kept = np.flatnonzero((documents >= DOCUMENTS_MIN) | (np.arange(ROWS) >= BUCKETS))
        lengths = np.repeat(np.array(scales, dtype=np.float32), cues.shape[1] // 2)
        return cls(kept, (cues @ sp.diags(lengths, dtype=np.float32)).tocsr())

    def columns(self, plain: sp.csr_matrix) -> sp.csr_matrix:
        return sp.hstack([plain[:, self.kept], plain @ self.cues]).tocsr().astype(np.float32)

    def weights(self, coefficients: npt.NDArray[Any]) -> Floats32:
        """(ROWS, k) float32 from (k, columns): what each bucket adds, its groups included."""
        weights = np.zeros((ROWS, len(coefficients)), dtype=np.float32)
        weights[self.kept] = coefficients[:, : len(self.kept)].T
        weights += self.cues @ coefficients[:, len(self.kept) :].T
        return weights


def thinned(plain: sp.csr_matrix, generator: np.random.Generator) -> sp.csr_matrix:
    """A copy with a random share of its values missing, the rest raised so that rows keep their length on average."""
    copy = plain.copy()
    copy.data = copy.data * (generator.random(copy.nnz) < KEEP_SHARE).astype(np.float32) / np.float32(KEEP_SHARE**0.5)
    copy.eliminate_zeros()
    return copy


def fit(rows: Sequence[Row], cues: sp.csr_matrix, vectoriser: Vectoriser, *, seed: int) -> LinearModel:
    """Fit on the capped rows. Raises `ValueError` with fewer than two intents: there is nothing to tell apart."""
    taken = capped(rows, seed)
    classes = np.array([row.label for row in taken], dtype=np.int64)
    if len(np.unique(classes)) < 2:
        raise ValueError("the training rows hold fewer than two intents; give rows of more intents")
    plain = vectoriser.matrix(taken)
    weights = np.zeros((ROWS, len(INTENTS)), dtype=np.float32)
    bias = np.full(len(INTENTS), ABSENT_BIAS, dtype=np.float32)
    bias[np.unique(classes)] = 0.0
    rounds = 0
    for member, scales in enumerate(CUE_SCALES):
        design = _Design.of(plain, cues, scales)
        generator = np.random.default_rng([seed, member])
        coefficients, intercept, present, steps = _solve(design, plain, classes, sample_weights(taken), generator)
        weights[:, present] += design.weights(coefficients) / len(CUE_SCALES)
        bias[present] += intercept / len(CUE_SCALES)
        rounds = max(rounds, steps)
    return LinearModel(weights, bias, rounds, len(taken), vectoriser)


def _solve(
    design: _Design,
    plain: sp.csr_matrix,
    classes: npt.NDArray[np.int64],
    masses: Floats32,
    generator: np.random.Generator,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], int]:
    """(k, columns) coefficients, (k,) intercepts, (k,) the classes they are of, and rounds of the solver."""
    shown = [plain, *(thinned(plain, generator) for _ in range(COPIES))]
    joined = sp.vstack([design.columns(matrix) for matrix in shown]).tocsr()
    solver = LogisticRegression(C=INVERSE_PENALTY / len(shown), max_iter=ITERATIONS_MAX, tol=TOLERANCE)
    with warnings.catch_warnings():
        # A limit that is never met in practice must not end a training of half an hour.
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver.fit(joined, np.tile(classes, len(shown)), sample_weight=np.tile(masses, len(shown)))
    coefficients, intercept = solver.coef_, solver.intercept_
    if len(solver.classes_) == 2:
        coefficients = np.concatenate([-coefficients, coefficients]) / 2.0
        intercept = np.concatenate([-intercept, intercept]) / 2.0
    return coefficients, intercept, solver.classes_, int(solver.n_iter_.max())


def raises(row: Row, name: str) -> bool:
    """Whether a row of the own corpus calls for the head of this name."""
    return row.intent is None if name == NOTHING else name in row.flags


def fit_heads(rows: Sequence[Row], cues: sp.csr_matrix, vectoriser: Vectoriser) -> tuple[Floats32, Floats32]:
    """(ROWS, 5) weights and (5,) biases of `HEADS`, from the own rows, those without an intent among them.

    Zeros where nothing can be learned.
    """
    weights = np.zeros((ROWS, len(HEADS)), dtype=np.float32)
    bias = np.zeros(len(HEADS), dtype=np.float32)
    own = [row for row in rows if row.own and row.difficulty is not None]
    bias[0], bias[1:] = 1.0, ABSENT_BIAS
    if not own:
        return weights, bias
    plain = vectoriser.matrix(own)
    design = _Design.of(plain, cues, HEAD_SCALES)
    joined = design.columns(plain)
    # Every (intent, language) pair counts the same: roleplay is not easier because there is more of it.
    even = sample_weights(own)
    hard = Ridge(alpha=RIDGE_PENALTY, solver="lsqr", random_state=0).fit(
        joined, [row.difficulty for row in own], sample_weight=even
    )
    weights[:, :1] = design.weights(hard.coef_[None, :])
    bias[0] = hard.intercept_
    for place, name in enumerate(HEADS[1:], start=1):
        wanted = np.array([raises(row, name) for row in own])
        if not wanted.any() or wanted.all():
            continue
        flag = LogisticRegression(C=FLAG_INVERSE_PENALTY, max_iter=ITERATIONS_MAX, tol=TOLERANCE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            flag.fit(joined, wanted, sample_weight=even)
        weights[:, place : place + 1] = design.weights(flag.coef_)
        bias[place] = flag.intercept_[0]
    return weights, bias
