"""`max_quality`: the best candidate within the cost limit; among equals the cheaper one."""

from __future__ import annotations

from service.domain.catalog import PolicySpec
from service.domain.decision import ReasonCode
from service.domain.ports import Ranking, Standing
from service.routing.policies.wording import compared, shown


class MaxQuality:
    """See the module and `Policy`."""

    code = ReasonCode.BEST_WITHIN_COST

    def key(self, quality: int, cost: int, spec: PolicySpec) -> tuple[int, ...]:
        """The better first, then the cheaper."""
        del spec
        return (-quality, cost)

    def won(self, ranking: Ranking, spec: PolicySpec) -> str:
        """Out of how many."""
        del spec
        return f"best of {ranking.eligible} within the limits"

    def margin(self, first: Standing, second: Standing, spec: PolicySpec) -> str:
        """How much better."""
        del spec
        return f"quality {shown(first.quality)} against {shown(second.quality)} of {second.id}"

    def lost(self, one: Standing, first: Standing, spec: PolicySpec) -> str:
        """By quality; among equals by price."""
        del spec
        if one.quality != first.quality:
            return f"quality {shown(one.quality)} against {shown(first.quality)}"
        return compared(one, first)
