"""`utility`: the best value, p - cost / usd_per_quality.

`usd_per_quality` says what one whole point of quality is worth on one request, in USD: what it would cost you to be
handed a useless answer instead of a good one. At 0.10 a candidate may cost 0.001 USD more for each 0.01 that it is
better. Large values choose as `max_quality` does, small ones as `min_cost` without a floor; floors and ceilings apply
as to the others.

Invariant: worth is a whole number, quality in steps times pico-USD per point less the cost in the same unit. No float
has a say in the order.
"""

from __future__ import annotations

from service.domain.catalog import PolicySpec
from service.domain.decision import QUALITY_STEPS, ReasonCode
from service.domain.money import usd_text
from service.domain.ports import Ranking, Standing
from service.routing.policies.wording import compared, shown


class Utility:
    """See the module and `Policy`."""

    code = ReasonCode.BEST_VALUE

    def key(self, quality: int, cost: int, spec: PolicySpec) -> tuple[int, ...]:
        """The larger worth first, then the cheaper. An unknown cost is worth less than anything that is priced."""
        return (cost * QUALITY_STEPS - quality * price_of_quality(spec), cost)

    def won(self, ranking: Ranking, spec: PolicySpec) -> str:
        """Out of how many, and at which exchange."""
        worth = usd_text(price_of_quality(spec))
        return f"best value of {ranking.eligible}, a point of quality being worth {worth} USD"

    def margin(self, first: Standing, second: Standing, spec: PolicySpec) -> str:
        """How much more it is worth, and what that is made of."""
        if first.cost is None or second.cost is None:
            return f"the price of {second.id} is unknown"
        gained = (first.quality - second.quality) * price_of_quality(spec) // QUALITY_STEPS - first.cost + second.cost
        return (
            f"worth {usd_text(gained)} USD more than {second.id} "
            f"(quality {shown(first.quality)} against {shown(second.quality)})"
        )

    def lost(self, one: Standing, first: Standing, spec: PolicySpec) -> str:
        """By worth: both of its parts."""
        del spec
        if one.cost is None or first.cost is None or one.quality == first.quality:
            return compared(one, first)
        against = f"quality {shown(one.quality)} against {shown(first.quality)}"
        return f"{against}; {compared(one, first)}" if one.cost != first.cost else against


def price_of_quality(spec: PolicySpec) -> int:
    """Pico-USD per point; raises ValueError when the policy has none, which the loader refuses."""
    if spec.pusd_per_quality is None:
        raise ValueError(f"policy {spec.name}: the objective utility needs pusd_per_quality")
    return spec.pusd_per_quality
