"""What every objective shares: who may be chosen, who comes after them, and how ties end.

Where on the path: `router.decide` calls `rank` once per request, over whole numbers alone: quality in steps of 0.0001,
cost in pico-USD. No float and no name ever decides an order.

The complete order
1. Who meets the floor comes before who does not.
2. Among the former the objective's key decides: `min_cost` cost, then quality; `max_quality` quality, then cost;
   `utility` worth, then cost. An unknown cost comes after every known one.
3. Among the latter: the better, then the cheaper. They are only asked when the former fail, and then an answer at all
   is worth more than its price.
4. What is still equal stands in the order of the registry file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from service.domain.catalog import PolicySpec
from service.domain.decision import ReasonCode, floor_steps
from service.domain.ports import Figures, Policy, Ranking

NEAR_BEST_PERCENT = 97
"""Who counts as near the best when an absolute floor can't be kept and the policy names no higher relative one."""

NO_COST = 2**200
"""Sorts behind every real cost."""

UNPRICED = 2**48
"""The same in a column of 64 bits, where every real cost, and what a point of quality is worth, is under half of it."""

Column = npt.NDArray[np.int64]


def rank(policy: Policy, figures: Figures, spec: PolicySpec, intents: Iterable[str] = ()) -> Ranking:
    """Order all candidates of a request that may be any of `intents`. See the module for the whole rule."""
    qualities = figures.qualities
    costs = [NO_COST if cost is None else cost for cost in figures.costs] if None in figures.costs else figures.costs
    asked = floor_steps(spec.least_quality(intents))
    floor = quality_floor(max(qualities), asked, spec.relative_to_best)
    key: Callable[..., tuple[int, ...]] = policy.key
    able = [(key(quality, costs[place], spec), place) for place, quality in enumerate(qualities) if quality >= floor]
    if len(able) > 1:
        able.sort()
    order = [place for _, place in able]
    eligible = len(order)
    if eligible < len(qualities):
        others = [(-quality, costs[place], place) for place, quality in enumerate(qualities) if quality < floor]
        others.sort()
        order += [place for _, _, place in others]
    return _ranking(policy, order, eligible, asked, floor)


def rank_columns(
    policy: Policy, qualities: Column, costs: Column, spec: PolicySpec, intents: Iterable[str] = ()
) -> Ranking | None:
    """`rank` over columns of whole numbers, an unknown cost being `UNPRICED`; `None` where that might not sort last.

    The key of a policy is sums and products of its numbers, so it is as well one of whole columns.
    """
    if (spec.pusd_per_quality or 0) >= UNPRICED // 2:
        return None
    asked = floor_steps(spec.least_quality(intents))
    floor = quality_floor(int(qualities.max()), asked, spec.relative_to_best)
    key: Callable[..., Any] = policy.key
    columns: tuple[Column, ...] = key(qualities, costs, spec)
    meets = qualities >= floor
    able = np.flatnonzero(meets)
    eligible = len(able)
    if eligible == len(qualities):
        order = np.lexsort(columns[::-1])
    else:
        others = np.flatnonzero(~meets)
        first = able[np.lexsort([column[able] for column in columns[::-1]])]
        order = np.concatenate((first, others[np.lexsort((costs[others], -qualities[others]))]))
    return _ranking(policy, order.tolist(), eligible, asked, floor)


def _ranking(policy: Policy, order: list[int], eligible: int, asked: int, floor: int) -> Ranking:
    code = policy.code if eligible > 1 else ReasonCode.ONLY_CANDIDATE
    return Ranking(order, eligible, asked, floor, code if floor >= asked else ReasonCode.FLOOR_UNREACHABLE)


def quality_floor(best: int, asked: int, relative_to_best: float) -> int:
    """The least quality that suffices, in steps: what the policy asks, or its share of the best, whichever is more.

    Never above `best`. When nobody reaches `asked`, those near the best suffice: the best there is beats no answer,
    and the decision says so.
    """
    relative = round(relative_to_best * best)
    return max(asked, relative) if best >= asked else max(relative, best * NEAR_BEST_PERCENT // 100)
