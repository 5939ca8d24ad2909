"""Whom a decision is compared with afterwards: the configured baseline, the strongest, the cheapest, one at random.

Where on the path: beside `router.decide`; worked out when the attempt that answered is settled. Pure.

All but the configured baseline are among those who could serve this request, as the hard filters left them: a policy's
floor does not count, since whoever always took the strongest, or the cheapest, would have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from service.domain.catalog import Deployment, Model
from service.domain.money import PriceQuote
from service.domain.rivals import BASELINE, CHEAPEST, RANDOM, STRONGEST, Rival
from service.routing.entrants import Measure
from service.routing.estimate import answer_of
from service.routing.weighing import Weighed

_DRAW_BYTES: Final = 8


def rivals(weighed: Weighed, baseline: tuple[Deployment, PriceQuote] | None) -> tuple[Rival, ...]:
    """Those that have a price; `baseline` is the configured one with its price, where there is one."""
    entrants, catalog = weighed.entrants, weighed.catalog
    measure, found = entrants.measure, []
    if baseline is not None:
        found.append(_rival(BASELINE, *baseline, catalog.models[baseline[0].model], measure))
    costs = entrants.expected_costs()  # not by load: an idle engine is cheap to choose, and is booked at its full price
    places = priced_places(costs)
    if not places:
        return tuple(found)
    for name, place in (
        (STRONGEST, strongest(places, entrants.qualities, costs)),
        (CHEAPEST, cheapest(places, costs)),
        (RANDOM, drawn(places, weighed.around.decision_id)),
    ):
        deployment, model = entrants.able[place]
        quote = deployment.prices.quote(measure.at)
        if quote is not None:
            found.append(_rival(name, deployment, quote, model, measure))
    return tuple(found)


def priced_places(costs: Sequence[int | None]) -> Sequence[int]:
    """The places of those whose cost is known."""
    return range(len(costs)) if None not in costs else [place for place, cost in enumerate(costs) if cost is not None]


def strongest(places: Sequence[int], qualities: Sequence[int], costs: Sequence[int | None]) -> int:
    """The place of the best; of equals the cheapest, which flatters least."""
    every = len(places) == len(qualities)  # as nearly always: then no list is gone through in Python
    best = max(qualities) if every else max([qualities[place] for place in places])
    if every and qualities.count(best) == 1:
        return qualities.index(best)
    return cheapest([place for place in places if qualities[place] == best], costs)


def cheapest(places: Sequence[int], costs: Sequence[int | None]) -> int:
    """The place of the least expected cost; of equals the first of the registry."""
    if len(places) == len(costs):
        return costs.index(min([cost or 0 for cost in costs]))
    return min(places, key=lambda place: costs[place] or 0)


def drawn(places: Sequence[int], decision_id: str) -> int:
    """One place, each as likely as any other: the same for the same decision, so that it can be drawn again."""
    digest = blake2b(decision_id.encode(), digest_size=_DRAW_BYTES).digest()
    return places[int.from_bytes(digest) * len(places) >> 8 * _DRAW_BYTES]


def _rival(name: str, deployment: Deployment, quote: PriceQuote, model: Model, measure: Measure) -> Rival:
    answer, choices = answer_of(model, measure.expected), measure.expected.choices
    return Rival(name, model.name, deployment.id, quote, answer.visible * choices, answer.reasoning * choices)
