"""`min_cost`: the cheapest candidate whose quality suffices. The default objective.

After the eligible ones, by cost, come the others as a fallback order: by quality, since once the cheapest capable ones
are down an answer at all is worth more than its price.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.domain.catalog import PolicySpec
from service.domain.decision import Candidate, ReasonCode
from service.domain.money import usd_text
from service.domain.ports import Ranking
from service.routing.policies.bounds import bounded, cost_key, quality_floor, with_reasons


def min_cost(candidates: Sequence[Candidate], spec: PolicySpec) -> Ranking:
    """See the module and `Policy`."""
    floor, kept = quality_floor(candidates, spec)
    marked = bounded(candidates, floor)
    eligible = sorted((one for one in marked if one.eligible), key=lambda one: (cost_key(one), -one.quality))
    others = sorted((one for one in marked if not one.eligible), key=lambda one: (-one.quality, cost_key(one)))
    if not eligible:
        return Ranking(with_reasons(others, others[0].below or ""), ReasonCode.FLOOR_UNREACHABLE, "nothing is eligible")
    code = ReasonCode.CHEAPEST_CAPABLE if len(eligible) > 1 else ReasonCode.ONLY_CANDIDATE
    why = f"cheapest of {len(eligible)} with quality of at least {floor:.2f}"
    if not kept:
        code = ReasonCode.FLOOR_UNREACHABLE
        near = f"cheapest of the {len(eligible)} near the best ({floor:.2f})"
        why = f"nobody reaches quality {spec.min_quality:.2f}; {near}"
    return Ranking(with_reasons([*eligible, *others], why), code, _margin(eligible))


def _margin(eligible: Sequence[Candidate]) -> str:
    if len(eligible) < 2:
        return "no other candidate was eligible"
    first, second = eligible[0], eligible[1]
    if first.expected_cost_pusd is None or second.expected_cost_pusd is None:
        return f"the price of {second.deployment.id} is unknown"
    saved = second.expected_cost_pusd - first.expected_cost_pusd
    qualities = f"quality {first.quality:.2f} against {second.quality:.2f}"
    return f"{usd_text(saved)} USD cheaper than {second.deployment.id} ({qualities})"
