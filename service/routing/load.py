"""What an engine of one's own costs at the load that it has: nearly nothing while it is idle, much when it is full.

Where on the path: `weighing` ranks engines that say their `concurrency` by this price; `settling` counts who is at work
there. Everything else, from ceilings and reservations to the ledger, goes by the amortised price: the hour is paid
whoever is served in it.

With `busy` requests at work of `room` that the engine takes at full load, a further one is ranked at
`busy / (room - busy)` times its amortised price, as queues grow: at that price when half of the engine is in use, at
less before, and at a multiple of it towards the last place.

Invariants
1. The price never falls as an engine fills, nor as its amortised price rises.
2. Nobody's load known (`Experience.busy` is `None`): nothing changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import numpy as np

from service.domain.catalog import Deployment
from service.domain.money import usd_text
from service.routing.entrants import Entrants
from service.routing.policies.bounds import UNPRICED

IDLE_PARTS: Final = 100
"""An idle engine is ranked at so small a part of its price: two idle ones still stand in the order of their prices."""


def scarce(cost_pusd: int, busy: int, room: int) -> int:
    """The price in pico-USD of one more request on an engine where `busy` of `room` are at work."""
    if busy < room:
        return max(cost_pusd * busy // (room - busy), cost_pusd // IDLE_PARTS)
    return cost_pusd * busy


def room_of(deployment: Deployment) -> int | None:
    """How many requests an engine takes at full load; `None` for who is no engine of one's own or doesn't say it."""
    engine = deployment.prices.self_hosted
    return None if engine is None else engine.concurrency


def under_load(entrants: Entrants, engines: Mapping[str, int]) -> Entrants:
    """Entrants whose engines are ranked by their load. `engines` maps ids to the room of each."""
    busy = entrants.measure.known.busy
    if busy is None or not engines:
        return entrants
    costs, loads = list(entrants.costs), dict[int, tuple[int | None, str]]()
    for place, (deployment, _) in enumerate(entrants.able):
        room, cost = engines.get(deployment.id), costs[place]
        if room is not None and cost is not None:
            at_work = busy.get(deployment.id, 0)
            price = scarce(cost, at_work, room)
            costs[place] = price
            loads[place] = cost, f"{at_work:,} of {room:,} at work there, so ranked at {usd_text(price)} USD"
    if not loads:
        return entrants
    columns = entrants.columns
    if columns is not None:
        figures = np.array(columns[1])
        prices = [costs[place] or 0 for place in loads]
        if max(prices) >= UNPRICED // 2:
            columns = None  # in whole numbers of any size, then
        else:
            figures[list(loads)] = prices
            columns = columns[0], figures
    return entrants._replace(costs=costs, loads=loads, columns=columns)


class Load:
    """Who is at work on which engine, in this process."""

    def __init__(self) -> None:
        self._at: dict[str, str] = {}

    def begun(self, attempt_id: str, deployment: Deployment) -> None:
        """An attempt is on its way."""
        if room_of(deployment) is not None:
            self._at[attempt_id] = deployment.id

    def ended(self, attempt_id: str) -> None:
        """It is over, whatever came of it."""
        self._at.pop(attempt_id, None)

    def busy(self) -> dict[str, int]:
        """How many are at work, by deployment; who has none is left out."""
        return dict(Counter(self._at.values()))
