"""How well each model would do on a request: the run-time form. NumPy and the standard library only.

Where on the path: between the intent and the ranking of candidates. `QualityModel.qualities` gives p(acceptable) for
every model of an artefact from features that were extracted anyway. `coe evaluate --outcomes` judges this very form.

A prompt becomes a point in a compact space (a weighted sum of int8 rows), and the point becomes *signals*: the topics
of TRAIN it looks like, linear scores, the clusters it lies near, and its intents in its language. Each signal has one
number per model, so all models together are one small matrix product:

    logit p_m = base_m + known * sum over signals of signal * table[signal, m]

`known`, from 0 to 1, falls when TRAIN lacks most of a prompt's words: every model then keeps what it is worth on
average. `trust`, never more than that, falls as well when a prompt belongs to no topic of TRAIN. The less trust, the
clearer an advantage over the model that is best overall has to be; without trust that model is never beaten. So the
safe default on unknown ground is the best single model.

Invariants:
1. Bounded work: at most as many rows as a selection has features, and none that TRAIN did not know.
2. No clock, no state, one order of summation: the same features give the same bits.
3. A prior counts as `PRIOR_LABELS` labels of the ground at hand: alone without labels, next to nothing with many. On
   unknown ground labels count less, so the prior counts more.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import mul
from typing import Final

import numpy as np
import numpy.typing as npt

from classifiers.features import ROWS, Features
from classifiers.kernel import compiled, weigh_known
from classifiers.language import LANGUAGES
from classifiers.quality.signals import (
    TINY,
    Doubles,
    from_prior,
    full_margin,
    less_margin,
    sigmoid,
)
from classifiers.taxonomy import INTENTS

PRIOR_LABELS: Final = 30.0
"""n0: how many labels a registry prior is worth. The registry's priors are off by some .05 to .1, which is what 30
yes-no labels leave open."""

ALWAYS_OPEN: Final = -1e6
"""A gate that ends below this lets everything through, and its signs need not be computed."""

Singles = npt.NDArray[np.float32]

_LANGUAGE_PLACE: Final = {name: place for place, name in enumerate(LANGUAGES)}
_UNDETERMINED: Final = len(LANGUAGES) - 1


@dataclass(frozen=True, slots=True)
class Shape:
    """Numbers that the arrays don't say: how many topics, linear scores, dense dimensions and clusters there are.

    `temperature` sharpens topics, `sharpness` clusters. A known share of a prompt up to `known_low` counts nothing,
    from `known_high` on it counts fully, between them it grows evenly; trust is that times the same of familiarity
    between `gate_low` and `gate_high`. `margin` (logits) is what an advantage over the model that is best overall has
    to exceed where trust is full.
    """

    topics: int
    linear: int
    dense: int
    clusters: int
    temperature: float
    sharpness: float
    gate_low: float
    gate_high: float
    known_low: float
    known_high: float
    margin: float

    @property
    def count(self) -> int:
        """How many signals a prompt gives."""
        return self.topics + self.linear + self.clusters + len(LANGUAGES) * len(INTENTS)


@dataclass(frozen=True, slots=True)
class Arrays:
    """What an artefact holds. v known buckets, D dimensions of the compact space, q outputs, s signals, m models.

    `buckets` (v,) int32 are feature rows; the point of a prompt is the sum of value * `scales` (v,) * `codes` (v, D)
    int8 over them. `mixing` (D, q) turns it into topic scores, linear scores and dense coordinates, in this order.
    `topic_prior` (topics,) are log shares, `topic_typical` (topics,) the score that rows of a topic usually get for it;
    `familiar` (`FAMILIAR` + 1,) weighs the signs of known ground, the last is the offset. `centroids` (clusters, dense)
    have unit length. `table` (s, m) and `base` (m,) are logits; `labels` (m,) says how many outcomes of each model were
    seen.
    """

    buckets: npt.NDArray[np.int32]
    codes: npt.NDArray[np.int8]
    scales: Singles
    mixing: Singles
    topic_prior: Singles
    topic_typical: Singles
    familiar: Singles
    centroids: Singles
    table: Singles
    base: Singles
    labels: Singles


class QualityModel:
    """A quality artefact unpacked for scoring. Immutable, so threads may share it."""

    __slots__ = (
        "_arrays",
        "_centroids",
        "_compiled",
        "_familiar",
        "_incumbent",
        "_per_typical",
        "_prior",
        "_rows",
        "_slots",
        "_table",
        "_tables",
        "id",
        "models",
        "shape",
    )

    def __init__(self, models: Sequence[str], shape: Shape, arrays: Arrays, identity: str = "unsaved") -> None:
        """Index the known buckets and unpack what they say. `models` name the columns of `table`."""
        self.models = tuple(models)
        self.shape = shape
        self.id = identity
        self._arrays = arrays
        # Slot 0 is that of every bucket that TRAIN did not know; row 0 is never read.
        self._slots = np.zeros(ROWS, dtype=np.int32)
        self._slots[arrays.buckets] = np.arange(1, len(arrays.buckets) + 1, dtype=np.int32)
        self._rows = np.zeros((len(arrays.buckets) + 1, arrays.mixing.shape[1]), dtype=np.float32)
        # einsum, not BLAS, here and below: no threads, one order of summation.
        np.einsum("i,ij,jk->ik", arrays.scales, arrays.codes.astype(np.float32), arrays.mixing, out=self._rows[1:])
        self._table = arrays.table.astype(np.float64)
        self._tables = np.stack([self._of_language(place) for place in range(len(LANGUAGES))])
        self._prior: list[float] = arrays.topic_prior.astype(np.float64).tolist()
        self._per_typical: list[float] = (1.0 / arrays.topic_typical.astype(np.float64)).tolist()
        self._centroids = arrays.centroids.astype(np.float64)
        self._familiar: list[float] = arrays.familiar.astype(np.float64).tolist()
        self._incumbent = int(arrays.base.argmax())
        self._compiled = self._by_kernel()

    def _by_kernel(self) -> Callable[..., float] | None:
        """`logits` from C, where the kernel was built."""
        ground, shape = compiled("Ground"), self.shape
        if ground is None:
            return None
        built: Callable[..., float] = ground(
            slots=self._slots,
            rows=self._rows,
            tables=self._tables,
            base=self._arrays.base.astype(np.float64),
            centroids=self._centroids,
            prior=np.array(self._prior, dtype=np.float64),
            per_typical=np.array(self._per_typical, dtype=np.float64),
            familiar=np.array(self._familiar, dtype=np.float64),
            counts=(shape.topics, shape.linear, shape.dense, shape.clusters, len(INTENTS)),
            figures=(
                *(shape.temperature, shape.sharpness, shape.gate_low, shape.gate_high),
                *(shape.known_low, shape.known_high, ALWAYS_OPEN),
            ),
        ).logits
        return built

    def _of_language(self, place: int) -> Doubles:
        """The rows of the table that a prompt of one language can use: the intents of the others are zero for it."""
        plain = self.shape.count - len(LANGUAGES) * len(INTENTS)
        begin = plain + place * len(INTENTS)
        return np.concatenate((self._table[:plain], self._table[begin : begin + len(INTENTS)]))

    @property
    def arrays(self) -> Arrays:
        """What an artefact of this model holds."""
        return self._arrays

    def point(self, features: Features) -> tuple[list[float], float]:
        """(q,) topic scores, linear scores, dense coordinates of a prompt, and the share of it that is known."""
        point, known, mass = weigh_known(features.buckets, features.values, self._slots, self._rows)
        return point, known / max(mass, TINY)

    def signals(self, features: Features, posterior: Doubles, language: str) -> tuple[Doubles, float, float]:
        """(s,) signals of a prompt, how much they count for it, and how much trust they deserve."""
        found, known, trust = self._signals(features, posterior)
        plain = len(found) - len(INTENTS)
        every = np.zeros(self.shape.count, dtype=np.float64)
        every[:plain] = found[:plain]
        begin = plain + _LANGUAGE_PLACE.get(language, _UNDETERMINED) * len(INTENTS)
        every[begin : begin + len(INTENTS)] = posterior
        return every, known, trust

    def _signals(self, features: Features, posterior: Doubles) -> tuple[Doubles, float, float]:
        """`signals` with one place per intent: the rows of `_of_language`.

        The same as `topic_shares`, `cluster_shares`, `familiar_signs` and `gate` give in bulk, with fewer calls: this
        runs while a request waits, and on so few numbers plain floats cost less than arrays do.
        """
        shape = self.shape
        point, share = self.point(features)
        known = min(max((share - shape.known_low) / max(shape.known_high - shape.known_low, TINY), 0.0), 1.0)
        trust = known
        linear_end = shape.topics + shape.linear
        length = math.hypot(*point[linear_end:])
        numbers = point[:linear_end]
        if shape.topics:
            scores = numbers[: shape.topics]
            sharp = shape.temperature
            logits = [sharp * score + prior for score, prior in zip(scores, self._prior, strict=True)]
            highest = max(logits)
            raised = [math.exp(logit - highest) for logit in logits]
            total = sum(raised)
            shares = [one / total for one in raised]
            if shape.gate_high > ALWAYS_OPEN:
                # The mean of log shares, without taking a logarithm of each.
                certainty = sum(map(mul, shares, logits)) - highest - math.log(total)
                trust *= self._familiarity(scores, shares, certainty, length)
            numbers[: shape.topics] = shares
        found = [np.array(numbers, dtype=np.float64), posterior]
        if shape.clusters:
            near = self._centroids.dot(np.array(point[linear_end:], dtype=np.float64))
            near *= shape.sharpness / max(length, TINY)
            near -= np.maximum.reduce(near)
            np.exp(near, out=near)
            near *= 1.0 / float(np.add.reduce(near))
            found.insert(1, near)
        return np.concatenate(found), known, trust

    def _familiarity(self, scores: Sequence[float], shares: Sequence[float], certainty: float, length: float) -> float:
        """`gate` over `familiar_signs` for one prompt.

        `certainty` is the mean of the log shares, `length` that of the dense coordinates.
        """
        ordered = sorted(scores)
        highest = ordered[-1]
        second = ordered[-2] if len(ordered) > 1 else 0.0
        relative = list(map(mul, scores, self._per_typical))
        signs = (
            highest,
            max(relative),
            sum(map(mul, shares, relative)),
            sum(map(mul, shares, scores)),
            sum(ordered[bisect_left(ordered, 0.0) :]),
            math.hypot(*scores),
            certainty,
            highest - second,
            length,
        )
        known: float = sum(map(mul, signs, self._familiar)) + self._familiar[-1]
        low, high = self.shape.gate_low, self.shape.gate_high
        return min(max((known - low) / max(high - low, TINY), 0.0), 1.0)

    def logits(self, features: Features, posterior: Doubles, language: str) -> tuple[Doubles, float]:
        """(m,) logits as the table has them, before priors and margin, and how much trust they deserve."""
        place = _LANGUAGE_PLACE.get(language, _UNDETERMINED)
        if self._compiled is not None:
            out = np.empty(len(self.models), dtype=np.float64)
            return out, self._compiled(features.buckets, features.values, posterior, place, out)
        found, known, trust = self._signals(features, posterior)
        result = np.einsum("i,ij->j", found, self._tables[place])
        result *= known
        result += self._arrays.base
        return result, trust

    def qualities(
        self, features: Features, posterior: Sequence[float] | Doubles, language: str, priors: Doubles | None = None
    ) -> Doubles:
        """(m,) p(acceptable) of each of `models` for one prompt; see `appraise`."""
        return self.appraise(features, posterior, language, priors)[0]

    def appraise(
        self, features: Features, posterior: Sequence[float] | Doubles, language: str, priors: Doubles | None = None
    ) -> tuple[Doubles, float]:
        """(m,) p(acceptable) of each of `models` for one prompt, and how much trust (0 to 1) the ground deserves.

        `posterior` (15,) are the intents in the order of `INTENTS`; `language` is one of `LANGUAGES`, others count as
        undetermined; `priors` (m, 15) are registry priors per intent, for those who have some.
        """
        intents = np.asarray(posterior, dtype=np.float64)
        logits, trust = self.logits(features, intents, language)
        if priors is not None:
            weight = PRIOR_LABELS / (PRIOR_LABELS + trust * self._arrays.labels)
            logits = (1.0 - weight) * logits + weight * from_prior(intents, priors)
        if int(logits.argmax()) != self._incumbent:
            mark = logits[self._incumbent : self._incumbent + 1]
            logits = less_margin(logits, mark, full_margin(self.shape.margin, trust))
        return sigmoid(logits), trust

    def of_models(self, names: Sequence[str]) -> QualityModel:
        """The same for some of the models only, in this order; what it says of them is what this one says.

        But for the margin: among other models another one is best overall. Raises `ValueError` for an unknown name.
        """
        missing = sorted(set(names) - set(self.models))
        if missing or not names:
            raise ValueError(f"the artefact has no {', '.join(missing) or 'model to keep'}; it has {len(self.models)}")
        places = [self.models.index(name) for name in names]
        arrays = replace(
            self._arrays,
            table=np.ascontiguousarray(self._arrays.table[:, places]),
            base=self._arrays.base[places],
            labels=self._arrays.labels[places],
        )
        return QualityModel(names, self.shape, arrays, self.id)

    def with_model(self, name: str, shares: Doubles, offset: float, labels: int) -> QualityModel:
        """A copy with one model more, whose logit is `offset` plus the logits of the known models times `shares` (m,).

        On unknown ground it keeps its base like the others. Raises `ValueError` when the name is taken.
        """
        if name in self.models:
            raise ValueError(f"{name!r} is in the artefact already; give the new model another name")
        column = (self._arrays.table.astype(np.float64) @ shares).astype(np.float32)
        base = np.float32(offset + float(self._arrays.base.astype(np.float64) @ shares))
        arrays = replace(
            self._arrays,
            table=np.concatenate([self._arrays.table, column[:, None]], axis=1),
            base=np.append(self._arrays.base, base).astype(np.float32),
            labels=np.append(self._arrays.labels, np.float32(labels)).astype(np.float32),
        )
        return QualityModel((*self.models, name), self.shape, arrays, f"{self.id}+1")


def priors_of(models: Sequence[str], table: Mapping[str, Mapping[str, float]]) -> Doubles:
    """(m, 15) priors from {model: {intent: p, "default": p}}. Raises `KeyError` for a model that the table lacks."""
    rows = []
    for model in models:
        known = table[model]
        rows.append([known[intent] if intent in known else known["default"] for intent in INTENTS])
    return np.array(rows, dtype=np.float64)
