"""Which candidates a policy may choose: the bounds that every objective shares, and the order of ties.

Ties are broken by: lower expected cost, then higher quality, then the order of the registry file (never by name).
The order of the file is the order in which candidates arrive here, and every sort is stable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from service.domain.catalog import PolicySpec
from service.domain.decision import Candidate

NEAR_BEST = 0.97
"""Who counts as near the best when an absolute floor can't be kept and the policy names no relative one."""

NO_COST = 2**200
"""Sorts behind every real cost."""


def cost_key(candidate: Candidate) -> int:
    """The expected cost, unknown ones last."""
    return NO_COST if candidate.expected_cost_pusd is None else candidate.expected_cost_pusd


def quality_floor(candidates: Sequence[Candidate], spec: PolicySpec) -> tuple[float, bool]:
    """(the least quality that suffices, whether the absolute floor could be kept).

    The floor is the larger of `min_quality` and `relative_to_best` of the best candidate. When nobody reaches
    `min_quality`, the relative part alone is used: the best there is beats no answer, and the decision says so.
    """
    best = max(candidate.quality for candidate in candidates)
    relative = spec.relative_to_best * best
    if best >= spec.min_quality:
        return max(spec.min_quality, relative), True
    return max(relative, NEAR_BEST * best), False


def bounded(candidates: Sequence[Candidate], floor: float) -> list[Candidate]:
    """Candidates with `below` set when they miss the floor, in the given order. Cost limits were applied before."""
    return [
        replace(one, below=f"quality {one.quality:.2f} is under the floor {floor:.2f}" if one.quality < floor else None)
        for one in candidates
    ]


def with_reasons(ranked: Sequence[Candidate], why_first: str, *, quality_first: bool = False) -> tuple[Candidate, ...]:
    """Fill `reason`: why the first is first, and what each other one lost by (its quality first, or its cost)."""
    if not ranked:
        return ()
    first = ranked[0]
    told = [replace(first, reason=why_first)]
    for candidate in ranked[1:]:
        lost = _quality_lost(candidate, first) if quality_first else None
        told.append(replace(candidate, reason=candidate.below or lost or _compared(candidate, first)))
    return tuple(told)


def _quality_lost(candidate: Candidate, first: Candidate) -> str | None:
    if candidate.quality == first.quality:
        return None
    return f"quality {candidate.quality:.3f} against {first.quality:.3f}"


def _compared(candidate: Candidate, first: Candidate) -> str:
    cost, best = candidate.expected_cost_pusd, first.expected_cost_pusd
    if cost is None:
        return "its price is unknown"
    if cost == best:
        return "costs the same; the tie went to higher quality, then to the order of the registry"
    if not best:
        return "costs more"
    return f"costs {cost / best:.2f} times as much"
