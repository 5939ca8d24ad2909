"""`max_quality`: the best candidate within the cost limit; among equals the cheaper one."""

from __future__ import annotations

from collections.abc import Sequence

from service.domain.catalog import PolicySpec
from service.domain.decision import Candidate, ReasonCode
from service.domain.ports import Ranking
from service.routing.policies.bounds import bounded, cost_key, quality_floor, with_reasons


def max_quality(candidates: Sequence[Candidate], spec: PolicySpec) -> Ranking:
    """See the module and `Policy`."""
    floor, kept = quality_floor(candidates, spec)
    marked = bounded(candidates, floor)
    ranked = sorted(marked, key=lambda one: (not one.eligible, -one.quality, cost_key(one)))
    eligible = [one for one in ranked if one.eligible]
    if not eligible:
        return Ranking(with_reasons(ranked, ranked[0].below or ""), ReasonCode.FLOOR_UNREACHABLE, "nothing is eligible")
    code = ReasonCode.BEST_WITHIN_COST if len(eligible) > 1 else ReasonCode.ONLY_CANDIDATE
    if not kept:
        code = ReasonCode.FLOOR_UNREACHABLE
    margin = "no other candidate was eligible"
    if len(eligible) > 1:
        first, second = eligible[0], eligible[1]
        margin = f"quality {first.quality:.3f} against {second.quality:.3f} of {second.deployment.id}"
    why = f"best of {len(eligible)} within the limits"
    return Ranking(with_reasons(ranked, why, quality_first=True), code, margin)
