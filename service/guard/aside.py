"""What was spent with tags that nothing counts, kept for the day on which a budget names one of them.

Where on the path: `limits` puts aside what an attempt came to, and takes it back when budgets change. Requests may say
any tag, so what is kept is bounded: what was not spent with for longest goes first, and is in the ledger all the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import Final

from service.guard.counting import Counter
from service.guard.scopes import spend_counters

KEPT_MAX: Final = 10_000
"""Counters that are kept: five thousand tags of one day, in about three megabytes."""


class Aside:
    """Spend by counter, of tags that nobody has a budget for."""

    def __init__(self) -> None:
        """Nothing was spent."""
        self._spent: OrderedDict[str, tuple[str, Counter, int]] = OrderedDict()

    def add(self, tags: Iterable[str], day: str, pusd: int) -> None:
        """Money was spent on a day with these tags."""
        for tag in tags:
            for counter in spend_counters(None, [tag], day)[2:]:
                _, _, before = self._spent.pop(counter.name, (tag, counter, 0))
                self._spent[counter.name] = tag, counter, before + pusd
        while len(self._spent) > KEPT_MAX:
            self._spent.popitem(last=False)

    def take(self, tags: Collection[str]) -> list[tuple[Counter, int]]:
        """What was put aside of these tags; it is aside no more."""
        found = [(name, counter, pusd) for name, (tag, counter, pusd) in self._spent.items() if tag in tags]
        for name, _, _ in found:
            del self._spent[name]
        return [(counter, pusd) for _, counter, pusd in found]
