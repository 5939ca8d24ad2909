"""Whom limits are for, and which counters they are counted in. Pure.

Where on the path: below `limits`, which holds a request against them, and `standing`, which only looks.

Invariant: the same key, tag and window have the same counter in every process, for ever: its name is what replicas meet
in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Final

from service.domain.access import Caller
from service.domain.catalog import ProviderLimits
from service.domain.limits import CONCURRENCY_MAX, PER_MINUTE_MAX, Budget, Limits, end_of, month_of
from service.guard.counting import MINUTE_MS, MONEY, RATE, SLOTS, Counter

KEPT: Final = timedelta(days=3)
"""How long a window is kept that is over: an attempt that began in it may run for an hour, a replica may be away."""

REQUESTS: Final = ":q"
TOKENS: Final = ":t"
"""How the names of rates end."""

WINDOWS_REMEMBERED: Final = 100
"""Days and months of a quarter: a memory, not a limit."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom limits are for: `name` begins its counters, `told` is for messages, `budget` its name in the registry.

    `stop`: streams are to end where what was reserved for them is used up. `tag` is that of its budget.
    """

    name: str
    told: str
    limits: Limits
    budget: str | None = None
    stop: bool = False
    tag: str | None = None


def scopes_of(caller: Caller, said: Sequence[str], budgets: Sequence[Budget]) -> tuple[Scope, ...]:
    """What a request of a caller is under, with these tags of its own: the limits of its key, then of the registry."""
    scopes = []
    if caller.limits.any and caller.key_id is not None:
        scopes.append(scope_of_key(caller.key_id, caller.limits))
    if budgets:
        tags = caller.tags.union(said) if said else caller.tags
        scopes += [scope_of(one) for one in budgets if one.applies_to(tags)]
    return tuple(scopes)


def scope_of_key(key_id: str, limits: Limits) -> Scope:
    """A key with limits of its own."""
    return Scope(f"k:{key_id}", "this API key", limits)


def scope_of(budget: Budget) -> Scope:
    """Whom a budget of the registry is for."""
    name = "a" if budget.tag is None else f"t:{budget.tag}"
    return Scope(name, f"the budget {budget.name!r}", budget.limits, budget.name, budget.stop, budget.tag)


@lru_cache(maxsize=256)
def scope_of_provider(name: str, limits: ProviderLimits) -> Scope:
    """What a vendor's account allows, for all requests that are sent there."""
    allowed = Limits(
        requests_per_minute=_at_most(limits.requests_per_minute, PER_MINUTE_MAX),
        tokens_per_minute=_at_most(limits.tokens_per_minute, PER_MINUTE_MAX),
        concurrency=_at_most(limits.concurrency, CONCURRENCY_MAX),
    )
    return Scope(f"p:{name}", f"the provider {name!r}", allowed)


def _at_most(limit: int | None, most: int) -> int | None:
    return None if limit is None else min(limit, most)


def rates_and_slots(scope: Scope) -> list[tuple[Counter, int]]:
    """The counters of a request, whatever its attempts, each with its limit."""
    limits, found = scope.limits, []
    if limits.requests_per_minute is not None:
        found.append((Counter(RATE, f"r:{scope.name}{REQUESTS}"), limits.requests_per_minute))
    if limits.tokens_per_minute is not None:
        found.append((Counter(RATE, f"r:{scope.name}{TOKENS}"), limits.tokens_per_minute))
    if limits.concurrency is not None:
        found.append((Counter(SLOTS, f"c:{scope.name}"), limits.concurrency))
    return found


def budgets_of(scope: Scope, day: str) -> list[tuple[Counter, int]]:
    """The counters of money of a day and its month, each with its limit in pico-USD."""
    windows = ((day, scope.limits.day_pusd), (month_of(day), scope.limits.month_pusd))
    return [(_money(scope.name, window), limit) for window, limit in windows if limit is not None]


def spend_counters(key_id: str | None, tags: Sequence[str], day: str) -> list[Counter]:
    """The counters that money of a key and of tags, spent on a day, belongs to."""
    scopes = ["a", *[f"t:{tag}" for tag in tags], *([] if key_id is None else [f"k:{key_id}"])]
    return [_money(scope, window) for scope in scopes for window in (day, month_of(day))]


def full(counter: Counter, limit: int) -> int:
    """A limit as `Verdict.used` counts it."""
    return limit * MINUTE_MS if counter.kind == RATE else limit


def measure_of(counter: Counter) -> str:
    """What a counter of a limit counts by: `day` or `month`, `requests` or `tokens`, or `concurrency`."""
    if counter.kind == MONEY:
        return "day" if window_of(counter).count("-") == 2 else "month"
    if counter.kind == RATE:
        return "requests" if counter.name.endswith(REQUESTS) else "tokens"
    return "concurrency"


def window_of(counter: Counter) -> str:
    """The day or month of a counter of money; empty for any other."""
    return counter.name.rpartition(":")[2] if counter.kind == MONEY else ""


_ends: dict[str, int] = {}


def _money(scope: str, window: str) -> Counter:
    until_ms = _ends.get(window)
    if until_ms is None:
        if len(_ends) > WINDOWS_REMEMBERED:
            _ends.clear()
        until_ms = _ends[window] = int((end_of(window) + KEPT).timestamp() * 1000)
    return Counter(MONEY, f"m:{scope}:{window}", until_ms)
