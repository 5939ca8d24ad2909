"""Why each candidate stands where it stands: texts over a ranking, made one by one when somebody asks.

Where on the path: `router` builds a candidate with its reason when the record, a screen or an attempt looks at it.
"""

from __future__ import annotations

from functools import lru_cache

from service.domain.catalog import PolicySpec
from service.domain.decision import QUALITY_STEPS
from service.domain.ports import Policy, Ranking, Standing

ALONE = "no other candidate was eligible"
"""The margin of a choice that nobody else could have been."""


def margin(policy: Policy, first: Standing, second: Standing | None, spec: PolicySpec) -> str:
    """By what the choice beat the next one that meets the floor; `None` when there is no such one."""
    if second is None:
        return ALONE
    return policy.margin(first, second, spec)


def reason(policy: Policy, ranking: Ranking, rank: int, one: Standing, first: Standing, spec: PolicySpec) -> str:
    """Why the candidate at a rank (0: the choice) stands there."""
    missed = below(ranking, rank, one)
    if missed is not None:
        return missed
    return policy.won(ranking, spec) if rank == 0 else policy.lost(one, first, spec)


def below(ranking: Ranking, rank: int, one: Standing) -> str | None:
    """The bound that the candidate at a rank misses, or `None`."""
    if rank < ranking.eligible:
        return None
    return f"quality {shown(one.quality)} is under the floor {shown(ranking.floor)}"


@lru_cache(maxsize=QUALITY_STEPS + 1)
def shown(steps: int) -> str:
    """A quality for people: two decimals, more when it has more."""
    text = f"{steps / QUALITY_STEPS:.4f}"
    return text[:4] + text[4:].rstrip("0")


def compared(one: Standing, first: Standing) -> str:
    """What one lost by where cost decides."""
    if one.cost is None:
        return "its price is unknown"
    if one.cost == first.cost:
        return "costs the same; the tie went to higher quality, then to the order of the registry"
    if not first.cost:
        return "costs more"
    return f"costs {one.cost / first.cost:.2f} times as much"
