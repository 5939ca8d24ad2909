"""What is over a soft budget or limit, told in the log: once an hour, however many requests go over it.

Where on the path: `settling` tells it what `limits` found, after an attempt was let through.

Invariant: one line for each soft limit and hour of the clock (UTC). What is remembered is the limits of one hour.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from service import telemetry
from service.guard.leases import Over
from service.guard.scopes import measure_of


class Overruns:
    """The soft limits that were told in this hour."""

    def __init__(self) -> None:
        self._hour = ""
        self._told: set[Over] = set()

    def tell(self, key_id: str | None, over: Iterable[Over], at: datetime) -> None:
        """Log each of these that was not told in the hour of `at`; `key_id` is whose request it was that went over."""
        hour = f"{at:%Y-%m-%dT%H}"
        if hour != self._hour:
            self._hour, self._told = hour, set()
        for counter, budget in over:
            if (counter, budget) not in self._told:
                self._told.add((counter, budget))
                telemetry.logger().warning(
                    telemetry.BUDGET_EXCEEDED, key_id=key_id, budget=budget, kind=measure_of(counter)
                )
