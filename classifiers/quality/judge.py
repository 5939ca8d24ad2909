"""Judging one router: sweep its trade-off between quality and cost over TEST, and say what it is worth.

Where on the path: beside it; `evaluate` judges the served model and every control through the same `measures`.

Invariants:
1. Everything is judged by the same functions on the same rows; a control differs in its predictions only.
2. A setting of the trade-off that is applied to TEST as "validated" was chosen on predictions for TRAIN rows that the
   predicting fit had not seen.
3. Utility is p - mu * cost / scale with the scale of TRAIN, so a setting means the same on both parts. Equal utilities
   go to the model that is cheaper on TRAIN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from classifiers.quality import metrics
from classifiers.quality.metrics import Floats, Index
from classifiers.quality.outcomes import Outcomes

SETTINGS: Final = np.concatenate([[0.0], np.geomspace(1e-4, 1e4, 401)])
"""Values of mu: from cost doesn't matter to nothing but cost matters."""

VALIDATED_TARGET: Final = 0.98
CAUTION: Final = 1.5
"""Standard errors. Picked on two thirds of a training part and applied to the last third (four sets, 40 draws each),
seven to eight thresholds of ten keep their target with 1.5, five to seven with 1: the best of 400 looks too good."""

Measures = dict[str, object]
"""The keys of `MEASURES` with numbers, or `None` where undefined."""

MEASURES: Final = (
    "aiq",
    "accuracy_max",
    "accuracy_at_best_single_cost",
    "saved_at",
    "validated",
    "apgr",
    "cpt50",
    "cpt80",
    "auc",
    "brier",
    "ece",
)


@dataclass(frozen=True, slots=True)
class Single:
    """One model used for everything: mean score, mean cost in USD (NaN when unknown)."""

    model: str
    score: float
    cost: float


@dataclass(frozen=True, slots=True)
class Ground:
    """Rows to judge on: `scores` (n, m) with NaN where unknown, `costs` (n, m) without gaps or all NaN, `models`.

    `scale` (USD) is the cost range of the single models on TRAIN; `order` (m,) the models by cost on TRAIN, or by score
    where costs are unknown: equal utilities go to the first.
    """

    models: tuple[str, ...]
    scores: Floats
    costs: Floats
    scale: float
    order: Index

    @property
    def is_priced(self) -> bool:
        """Whether costs are known at all."""
        return not np.isnan(self.costs).any()

    def singles(self) -> list[Single]:
        """Each model used for everything, in the order of `models`."""
        score, cost = metrics.mean_known(self.scores), self.costs.mean(axis=0)
        return [Single(name, float(score[j]), float(cost[j])) for j, name in enumerate(self.models)]

    def best_single(self) -> Single:
        """The model with the highest score; the cheaper of equals."""
        return min(self.singles(), key=lambda one: (-one.score, one.cost, one.model))

    def cheapest(self) -> Single:
        """The model with the lowest cost; the better of equals. Without costs: the worst one."""
        if not self.is_priced:
            return min(self.singles(), key=lambda one: (one.score, one.model))
        return min(self.singles(), key=lambda one: (one.cost, -one.score, one.model))

    def dearest(self) -> Single:
        """The model with the highest cost; the better of equals. Without costs: the best one."""
        if not self.is_priced:
            return self.best_single()
        return max(self.singles(), key=lambda one: (one.cost, one.score, one.model))


def ground(rows: Outcomes, costs: Floats, train_costs: Floats, train_scores: Floats) -> Ground:
    """The ground of some rows: their costs and TRAIN's (n, m), without gaps or all NaN, and TRAIN's scores (m,)."""
    typical = train_costs.mean(axis=0)
    known = not np.isnan(typical).any()
    scale = float(typical.max() - typical.min()) if known else 1.0
    return Ground(
        models=rows.models,
        scores=rows.scores,
        costs=costs,
        scale=scale if scale > 0.0 else 1.0,
        order=np.argsort(typical if known else -train_scores, kind="stable"),
    )


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a router believes: `quality` and `cost` (n, m), the expected score and the expected USD of each cell."""

    quality: Floats
    cost: Floats


def choices(where: Ground, predicted: Predicted, mu: float) -> Index:
    """(n,) the chosen model of each row under one setting; only models whose outcome is known are open."""
    price = predicted.cost * (mu / where.scale) if where.is_priced else 0.0
    utility = np.where(np.isnan(where.scores), -np.inf, predicted.quality - price)[:, where.order]
    result: Index = where.order[utility.argmax(axis=1)]
    return result


def point(where: Ground, chosen: Index) -> tuple[float, float]:
    """(mean cost, mean quality) of a choice."""
    at = np.arange(len(chosen))
    return float(where.costs[at, chosen].mean()), float(where.scores[at, chosen].mean())


def curve(where: Ground, predicted: Predicted) -> Floats:
    """(k, 2) the points of all `SETTINGS`; only the first without costs."""
    settings = SETTINGS if where.is_priced else SETTINGS[:1]
    return np.array([point(where, choices(where, predicted, float(mu))) for mu in settings])


@dataclass(frozen=True, slots=True)
class Setting:
    """Two places in `SETTINGS` and the share of requests that get the second."""

    first: int
    second: int
    share: float

    def of(self, points: Floats) -> tuple[float, float]:
        """(cost, quality) of this setting on a curve."""
        last = len(points) - 1
        mixed = (1.0 - self.share) * points[min(self.first, last)] + self.share * points[min(self.second, last)]
        return float(mixed[0]), float(mixed[1])


def validate(where: Ground, predicted: Predicted, target: float = VALIDATED_TARGET) -> Setting:
    """The cheapest setting that keeps `target` of the best single model, with `CAUTION` standard errors to spare.

    To be called on predictions for TRAIN rows by fits that did not see them. The error is that of the difference
    between router and best single model, row by row: without it, most thresholds would miss their target.
    """
    points = curve(where, predicted)
    best = where.best_single()
    first = pick(points, target * best.score)
    column = where.models.index(best.model)
    chosen = choices(where, predicted, float(SETTINGS[first.second]))
    known = ~np.isnan(where.scores[:, column])
    gain = where.scores[np.arange(len(chosen)), chosen][known] - target * where.scores[known, column]
    spare = CAUTION * float(gain.std()) / max(len(gain), 1) ** 0.5
    return pick(points, target * best.score + spare)


def pick(points: Floats, wanted: float) -> Setting:
    """The cheapest setting, or mixture of two, with a quality of `wanted`; the best setting when there is none.

    A step of the curve can be wide where few things tell prompts apart; mixing two settings by lot reaches what lies
    between, as AIQ assumes.
    """
    if points[:, 1].max() < wanted or len(points) == 1 or np.isnan(points).any():
        place = int(points[:, 1].argmax())
        return Setting(place, place, 0.0)
    edge = metrics.hull(points)
    upper = int(np.flatnonzero(edge[:, 1] >= wanted - metrics.ROUNDING)[0])
    places = [int(np.flatnonzero((points == corner).all(axis=1))[0]) for corner in edge[max(upper - 1, 0) : upper + 1]]
    if len(places) == 1:
        return Setting(places[0], places[0], 0.0)
    low, high = edge[upper - 1, 1], edge[upper, 1]
    return Setting(places[0], places[1], float(np.clip((wanted - low) / (high - low), 0.0, 1.0)))


def _validated(points: Floats, setting: Setting | None, best: Single) -> dict[str, float | None]:
    if setting is None:
        return {"target": VALIDATED_TARGET, "quality_kept": None, "saved": None}
    cost, quality = setting.of(points)
    return {
        "target": VALIDATED_TARGET,
        "quality_kept": quality / best.score if best.score > 0.0 else None,
        "saved": 1.0 - cost / best.cost if best.cost > 0.0 else None,
    }


def measures_of_curve(where: Ground, points: Floats, setting: Setting | None) -> Measures:
    """The measures that a curve alone has; `setting` was chosen on TRAIN."""
    best, cheapest, dearest = where.best_single(), where.cheapest(), where.dearest()
    found: Measures = dict.fromkeys(MEASURES)
    found["accuracy_max"] = float(points[:, 1].max())
    found["validated"] = _validated(points, setting, best)
    if not where.is_priced:
        found["accuracy_at_best_single_cost"] = found["accuracy_max"]
        found["saved_at"] = {f"{share}": None for share in metrics.TARGETS}
        return found
    found["aiq"] = metrics.aiq(points, (cheapest.cost, cheapest.score), dearest.cost)
    found["accuracy_at_best_single_cost"] = metrics.quality_at(points, best.cost)
    found["saved_at"] = {
        f"{share}": metrics.saved_at(points, (best.cost, best.score), share) for share in metrics.TARGETS
    }
    return found


def measures(where: Ground, predicted: Predicted, setting: Setting | None) -> Measures:
    """All measures of a router that predicts."""
    found = measures_of_curve(where, curve(where, predicted), setting)
    if len(where.models) == 2:
        found |= _pair(where, predicted.quality)
    found["auc"] = metrics.auc(where.scores, predicted.quality)
    found["brier"] = metrics.brier(where.scores, predicted.quality)
    found["ece"] = metrics.ece(where.scores, predicted.quality)
    return found


def _pair(where: Ground, quality: Floats) -> Measures:
    """APGR and CPT of two models, over the rows on which both have an outcome."""
    both = ~np.isnan(where.scores).any(axis=1)
    strong = where.models.index(where.best_single().model)
    weak = 1 - strong
    scores = where.scores[both]
    if not len(scores):
        return {}
    recovered = metrics.recovery(quality[both, strong] - quality[both, weak], scores[:, strong], scores[:, weak])
    if recovered is None:
        return {}
    return {
        "apgr": metrics.apgr(recovered),
        "cpt50": metrics.cpt(recovered, 0.5),
        "cpt80": metrics.cpt(recovered, 0.8),
    }


def zero_router_aiq(where: Ground) -> float | None:
    """AIQ of mixing single models without looking at the prompt; `None` without costs."""
    if not where.is_priced:
        return None
    cheapest = where.cheapest()
    points = np.array([(one.cost, one.score) for one in where.singles()])
    return metrics.aiq(points, (cheapest.cost, cheapest.score), where.dearest().cost)


def random_choice(where: Ground) -> tuple[float, float]:
    """(score, cost) expected of choosing among the known outcomes of a row by lot."""
    known = ~np.isnan(where.scores)
    share = known / known.sum(axis=1, keepdims=True)
    score = float((np.where(known, where.scores, 0.0) * share).sum(axis=1).mean())
    return score, float((where.costs * share).sum(axis=1).mean())


def oracle(where: Ground) -> tuple[float, float]:
    """(score, cost) of choosing the best outcome of each row in hindsight, the cheapest of equals."""
    scores = np.where(np.isnan(where.scores), -np.inf, where.scores)
    best = scores.max(axis=1, keepdims=True)
    if not where.is_priced:
        return float(best.mean()), float("nan")
    return float(best.mean()), float(np.where(scores >= best, where.costs, np.inf).min(axis=1).mean())
