"""How limits stand now: what is spent or reserved, and what is left. Looks, and changes nothing.

Where on the path: beside it, for dry runs, metrics and reports. It asks the same counters that refuse, so it says what
all replicas have used together, with what is held at the moment.

How one looks: an ask that nothing can fit under is refused, and a refusal tells how full each counter of it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from service.domain.limits import day_of
from service.guard.counters import Counters
from service.guard.counting import MINUTE_MS, RATE, Counter, Line
from service.guard.scopes import Scope, budgets_of, measure_of, rates_and_slots, window_of

LINES_PER_ASK: Final = 64
"""Limits that are looked at in one step: Redis answers others between two of them."""

_NEVER: Final = Line(Counter(RATE, "r:never"), 1, 0)
"""What never fits, and is nowhere kept."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One limit as it stands.

    `scope` begins the names of its counters; `budget` is its name in the registry, `None` for a limit of a key.
    `measure` is `day`, `month` (pico-USD), `requests`, `tokens` (in a minute) or `concurrency`, `window` the day or
    month of money. `used` is what is spent or reserved by all replicas, in the unit of `limit`; of rates, what has not
    drained yet, rounded up.
    """

    scope: str
    budget: str | None
    measure: str
    window: str
    limit: int
    used: int
    soft: bool

    @property
    def key_id(self) -> str | None:
        """The key whose limit it is; `None` for a budget of the registry."""
        return self.scope.removeprefix("k:") if self.scope.startswith("k:") else None

    @property
    def tag(self) -> str | None:
        """The tag that a budget of the registry is for; `None` for everybody's, and for keys."""
        return self.scope.removeprefix("t:") if self.scope.startswith("t:") else None

    @property
    def left(self) -> int:
        """What is left, 0 when nothing is."""
        return max(0, self.limit - self.used)


async def standings(counters: Counters, scopes: Iterable[Scope], at: datetime) -> list[Standing]:
    """Every limit of these scopes, in their order, as it stands at an instant. Raises `StoreLost`."""
    day = day_of(at)
    found = [
        (scope, counter, limit)
        for scope in scopes
        for counter, limit in (*budgets_of(scope, day), *rates_and_slots(scope))
    ]
    told: list[Standing] = []
    for begin in range(0, len(found), LINES_PER_ASK):
        some = found[begin : begin + LINES_PER_ASK]
        used = await _used(counters, [(counter, limit) for _, counter, limit in some])
        told += [
            Standing(scope.name, scope.budget, measure_of(counter), window_of(counter), limit, have, scope.limits.soft)
            for (scope, counter, limit), have in zip(some, used, strict=True)
        ]
    return told


async def _used(counters: Counters, limited: Sequence[tuple[Counter, int]]) -> list[int]:
    verdict = await counters.ask([[_NEVER, *[Line(counter, 0, limit) for counter, limit in limited]]])
    return [
        -(-used // MINUTE_MS) if counter.kind == RATE else used
        for (counter, _), used in zip(limited, verdict.used[1:], strict=True)
    ]
