"""`min_cost`: the cheapest candidate whose quality suffices. The default objective."""

from __future__ import annotations

from service.domain.catalog import PolicySpec
from service.domain.decision import ReasonCode
from service.domain.money import usd_text
from service.domain.ports import Ranking, Standing
from service.routing.policies.wording import compared, shown


class MinCost:
    """See the module and `Policy`."""

    code = ReasonCode.CHEAPEST_CAPABLE

    def key(self, quality: int, cost: int, spec: PolicySpec) -> tuple[int, ...]:
        """The cheaper first, then the better."""
        del spec
        return (cost, -quality)

    def won(self, ranking: Ranking, spec: PolicySpec) -> str:
        """Out of how many, above which floor; or that nobody reached the policy's own."""
        del spec
        if ranking.kept:
            return f"cheapest of {ranking.eligible} with quality of at least {shown(ranking.floor)}"
        near = f"cheapest of the {ranking.eligible} near the best ({shown(ranking.floor)})"
        return f"nobody reaches quality {shown(ranking.asked)}; {near}"

    def margin(self, first: Standing, second: Standing, spec: PolicySpec) -> str:
        """How much cheaper, and what that costs in quality."""
        del spec
        if first.cost is None or second.cost is None:
            return f"the price of {second.id} is unknown"
        saved = usd_text(second.cost - first.cost)
        return f"{saved} USD cheaper than {second.id} (quality {shown(first.quality)} against {shown(second.quality)})"

    def lost(self, one: Standing, first: Standing, spec: PolicySpec) -> str:
        """By price."""
        del spec
        return compared(one, first)
