"""What a router is worth: pure functions over outcomes, costs and predictions. NumPy only.

Where on the path: beside it; `judge` and `controls` are made of these.

Words: a *curve* is an array (k, 2) of (cost, quality) points, each the mean over the same rows under one setting of the
trade-off. The *range* is the cost of the cheapest and of the dearest single model.

Invariants:
1. Cells without an outcome are never chosen, never counted.
2. A figure that is not defined is `None`, never 0 or 1.
3. No function here looks at TEST to choose anything but what its name says: `saved_at` reads off TEST by definition,
   `validated` takes a setting that was chosen elsewhere.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

ECE_BINS: Final = 15
TARGETS: Final = (0.95, 0.98, 1.0)
ROUNDING: Final = 1e-9
"""Means of the same numbers in another order differ in the last bits; no target is missed by those."""


def hull(points: Floats) -> Floats:
    """The non-decreasing convex hull of a curve, by ascending cost: what mixing its settings can reach."""
    order = np.lexsort((-points[:, 1], points[:, 0]))
    kept: list[tuple[float, float]] = []
    for cost, quality in points[order].tolist():
        if kept and quality <= kept[-1][1]:
            continue
        while len(kept) > 1:
            (c0, q0), (c1, q1) = kept[-2], kept[-1]
            if (q1 - q0) * (cost - c0) > (quality - q0) * (c1 - c0):
                break
            kept.pop()
        kept.append((cost, quality))
    return np.array(kept, dtype=np.float64).reshape(-1, 2)


def aiq(points: Floats, cheapest: tuple[float, float], dearest_cost: float) -> float | None:
    """Area under the hull over the range, divided by the range; `None` when all models cost the same.

    `cheapest` is (cost, quality) of the cheapest single model. It joins a curve that has no point as cheap: sending
    everything there is open to every router, and a curve says nothing left of its first point.
    """
    low, high = cheapest[0], dearest_cost
    if not high > low:
        return None
    if points[:, 0].min() > low:
        points = np.concatenate([points, np.array([cheapest])])
    edge = hull(points)
    inner = edge[(edge[:, 0] > low) & (edge[:, 0] < high), 0]
    at = np.concatenate([[low], inner, [high]])
    return float(np.trapezoid(np.interp(at, edge[:, 0], edge[:, 1]), at) / (high - low))


def quality_at(points: Floats, cost: float) -> float | None:
    """The best quality that settings or their mixtures reach at this cost; `None` when even the cheapest costs more."""
    edge = hull(points)
    if cost < edge[0, 0] * (1.0 - ROUNDING):
        return None
    return float(np.interp(cost, edge[:, 0], edge[:, 1]))


def cost_for(points: Floats, quality: float) -> float | None:
    """The least cost at which settings or their mixtures have this quality; `None` when they never have."""
    edge = hull(points)
    if edge[-1, 1] < quality - ROUNDING:
        return None
    return float(np.interp(quality, edge[:, 1], edge[:, 0]))


def saved_at(points: Floats, reference: tuple[float, float], share: float) -> float | None:
    """Cost saved against `reference` (cost, quality) at `share` of its quality, read off the hull.

    Where the curve never gets there, nothing is saved: one would send everything to the reference itself.
    """
    cost, quality = reference
    if not cost > 0.0:
        return None
    needed = cost_for(points, share * quality)
    return 0.0 if needed is None else max(0.0, 1.0 - needed / cost)


def recovery(advantage: Floats, strong: Floats, weak: Floats) -> Floats | None:
    """(n + 1,) the share of the gap recovered when the k rows with the highest `advantage` go to the strong model.

    Rows of equal advantage count with their mean, so their order can't flatter. `None` when there is no gap.
    """
    gap = strong - weak
    if not gap.sum() > 0.0:
        return None
    _, place, size = np.unique(-advantage, return_inverse=True, return_counts=True)
    gain = np.bincount(place, weights=gap) / size
    steps = np.concatenate([[0.0], np.cumsum(np.repeat(gain, size))])
    result: Floats = steps / gap.sum()
    return result


def apgr(recovered: Floats) -> float:
    """Average of the recovered gap over the share of strong calls: 0.5 for chance."""
    return float(np.trapezoid(recovered, dx=1.0 / (len(recovered) - 1)))


def cpt(recovered: Floats, share: float) -> float:
    """The least share of strong calls that recovers this share of the gap."""
    able = np.flatnonzero(recovered >= share - ROUNDING)
    place = int(able[0])
    if place == 0:
        return 0.0
    before, after = recovered[place - 1], recovered[place]
    return float((place - 1 + (share - before) / (after - before)) / (len(recovered) - 1))


def auc(scores: Floats, predicted: Floats) -> float | None:
    """Chance that a success was given more than a failure, ties count half. A score of 0.7 is 0.7 success, 0.3 failure.

    All cells (n, m) count together; `None` without a success or without a failure.
    """
    known = ~np.isnan(scores)
    good, given = scores[known], predicted[known]
    _, place = np.unique(given, return_inverse=True)
    good_mass = np.bincount(place, weights=good)
    bad_mass = np.bincount(place, weights=1.0 - good)
    total = good_mass.sum() * bad_mass.sum()
    if not total > 0.0:
        return None
    below = np.cumsum(bad_mass) - bad_mass
    return float((good_mass * (below + bad_mass / 2.0)).sum() / total)


def brier(scores: Floats, predicted: Floats) -> float | None:
    """Mean squared distance of prediction and score; `None` without cells."""
    known = ~np.isnan(scores)
    return float(((scores[known] - predicted[known]) ** 2).mean()) if known.any() else None


def ece(scores: Floats, predicted: Floats) -> float | None:
    """Expected calibration error over `ECE_BINS` bins of equal width; `None` without cells."""
    known = ~np.isnan(scores)
    if not known.any():
        return None
    good, given = scores[known], predicted[known]
    place = np.minimum((given * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    gaps = np.bincount(place, weights=good, minlength=ECE_BINS) - np.bincount(place, weights=given, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(good))


def log_loss(scores: Floats, predicted: Floats) -> float:
    """Mean cross-entropy in nats over the known cells."""
    known = ~np.isnan(scores)
    good, given = scores[known], np.clip(predicted[known], 1e-6, 1.0 - 1e-6)
    return float(-(good * np.log(given) + (1.0 - good) * np.log(1.0 - given)).mean())


def mean_known(values: Floats) -> Floats:
    """(m,) column means over the known cells; NaN for a column without any."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    sums = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)
