"""Budgets and limits: reserve before an attempt, settle after it.

Where on the path: step 5 of `pipeline`. `settling` reserves with the open row, settles with the terminal one and lets
go when the request has ended; `counters` counts.

Invariants
1. Settled and reserved money together never exceed a hard budget: what is reserved is a bound, and reserving is one
   step over every budget that a request is under, all or none.
2. An attempt counts in the day and month in which it was opened, as the ledger has it, whenever it ends.
3. Without a store, what a hard budget stands over is refused at once; everything else passes, and is marked.
4. Spend is counted for every key and tag, limited or not: a budget that is set later knows what was spent before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from service import telemetry
from service.domain.access import Caller
from service.domain.limits import PUSD_MAX, Budget, Limits, day_of, end_of, month_of
from service.domain.money import usd_text
from service.errors import BudgetExhausted, BudgetStoreUnavailable, CoeError, RateLimited
from service.guard.counters import Counters, LocalCounters, StoreLost
from service.guard.counting import MINUTE_MS, MONEY, RATE, SLOTS, Counter, Line, Verdict

KEPT: Final = timedelta(days=3)
"""How long a window is kept that is over: an attempt that began in it may run for an hour, a replica may be away."""

OVER_BUDGET: Final = "budget"
"""What `x-coe-degraded` says when a soft budget or limit is exceeded."""

CAPPED: Final = "budget_cap"
"""What it says when an answer may be cut where the budget ends: there was no room for a longer one."""

WITHOUT_STORE: Final = telemetry.PART_BUDGETS
"""What it says when nothing could be counted."""


UNCHECKED: Final = "The budget of this request can't be checked at the moment, so nothing was spent"
SOON: Final[Mapping[str, str]] = {"retry-after": "2"}


@dataclass(frozen=True, slots=True)
class Hold:
    """What one attempt may use: its worst cost in pico-USD, 0 where the price is unknown, and its expected tokens."""

    pusd: int
    tokens: int


@dataclass(frozen=True, slots=True)
class _Scope:
    """Whom limits are for: `name` begins its counters, `told` is for messages, `budget` its name in the registry."""

    name: str
    told: str
    limits: Limits
    budget: str | None = None


Over = tuple[Counter, str | None]
"""A soft limit: its counter, and the budget of the registry that it is of."""


@dataclass(slots=True)
class Lease:
    """What one request holds.

    `money` has the lines of each attempt that runs, by number, `slots` those of the request; `tokens` are the rates of
    tokens, and `guessed` while what they were filled with is still to be corrected. `told` is how messages call whom a
    counter is for, `marks` are for `x-coe-degraded`, `headers` for the response. `over` are the soft limits that are
    exceeded: the counter, and the registry's name of the budget, `None` where the limit is the key's own.
    """

    scopes: tuple[_Scope, ...]
    begun: bool = False
    money: dict[int, tuple[Line, ...]] = field(default_factory=dict)
    slots: tuple[Line, ...] = ()
    tokens: tuple[Line, ...] = ()
    guessed: bool = False
    told: dict[Counter, str] = field(default_factory=dict)
    marks: set[str] = field(default_factory=set)
    over: set[Over] = field(default_factory=set)
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def hard_money(self) -> bool:
        """Whether a budget stands over it that refuses."""
        return any(scope.limits.hard_money for scope in self.scopes)


class Limiter:
    """Holds requests against the limits of their keys and tags."""

    def __init__(self, counters: Counters, budgets: Sequence[Budget] = ()) -> None:
        """`budgets` are the registry's; `budgets` may be set anew when another registry serves."""
        self.counters = counters
        self._budgets: tuple[Budget, ...] = ()
        self._budget_tags: frozenset[str] = frozenset()
        self._tidy_day = ""
        self.uncounted = ""  # why what was spent before this process is not known yet
        self.refused = 0
        self.budgets = tuple(budgets)

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budgets of the registry that serves."""
        return self._budgets

    @budgets.setter
    def budgets(self, budgets: tuple[Budget, ...]) -> None:
        self._budgets = budgets
        self._budget_tags = frozenset(one.tag for one in budgets if one.tag is not None)

    def lease(self, caller: Caller, said: Sequence[str]) -> Lease | None:
        """An empty lease for a request with these tags of its own; `None` where no limit applies."""
        if not caller.limits.any and not self._budgets:
            return None
        scopes = []
        if caller.limits.any and caller.key_id is not None:
            scopes.append(_Scope(f"k:{caller.key_id}", "this API key", caller.limits))
        if self._budgets:
            tags = caller.tags.union(said) if said else caller.tags
            scopes += [_scope_of(one) for one in self._budgets if one.applies_to(tags)]
        return Lease(tuple(scopes)) if scopes else None

    async def reserve(self, lease: Lease, attempt: int, at: datetime, holds: Sequence[Hold]) -> int:
        """Reserve one of `holds`, in order of preference, for an attempt that opens at `at`; its place.

        With the first attempt of a request its rates and its slots are reserved too. Raises `BudgetExhausted`,
        `RateLimited` or `BudgetStoreUnavailable`, and then nothing is held.
        """
        soft: dict[Over, int] = {}
        asks = [_lines(lease, at, hold, soft) for hold in holds]
        if not asks[0]:
            lease.begun = True
            return 0
        if self.uncounted and lease.hard_money:
            raise BudgetStoreUnavailable(f"{UNCHECKED}. The router's operator sees why in /readyz.", headers=SOON)
        try:
            verdict = await self.counters.ask(asks)
        except StoreLost as lost:
            self._pass_without_store(lease, lost)
            return 0
        lines = asks[verdict.taken]
        if not lease.begun:
            lease.headers.update(_rates_told(lines, verdict))
        if verdict.taken < 0:
            self.refused += 1
            raise _refusal(lease, lines[verdict.line], verdict)
        lease.begun = True
        if verdict.taken > 0:
            lease.marks.add(CAPPED)
        lease.money[attempt] = tuple(line for line in lines if line.counter.kind == MONEY)
        lease.slots += tuple(line for line in lines if line.counter.kind == SLOTS)
        rates = tuple(line for line in lines if line.counter.kind == RATE and line.counter.name.endswith(_TOKENS))
        if rates:
            lease.tokens, lease.guessed = rates, True
        if soft:
            used = {line.counter: one for line, one in zip(lines, verdict.used, strict=True)}
            lease.over = {over for over, limit in soft.items() if used[over[0]] > _full(over[0], limit)}
            if lease.over:
                lease.marks.add(OVER_BUDGET)
        return verdict.taken

    def settle(self, lease: Lease | None, caller: Caller, tags: Sequence[str], attempt: int, spent: Spent) -> None:
        """An attempt has ended: what it held goes back, what it cost is counted."""
        holdings = self.counters.holdings
        if lease is not None:
            for line in lease.money.pop(attempt, ()):
                holdings.give_back(line)
            for line in lease.tokens:
                holdings.correct(line, spent.tokens - (line.amount if lease.guessed else 0))
            lease.guessed = False
        day = day_of(spent.at)
        if spent.pusd:
            kept = [tag for tag in tags if tag in caller.tags or tag in self._budget_tags]
            for counter in spend_counters(caller.key_id, kept, day):
                holdings.settled(counter, spent.pusd)
        if lease is not None or spent.pusd:
            self.counters.changed()
        if day != self._tidy_day:
            self._tidy_day = day
            self.counters.forget(int(spent.at.timestamp() * 1000))

    def release(self, lease: Lease) -> None:
        """The request has ended: its slots go back. May be called again."""
        slots, lease.slots = lease.slots, ()
        for line in slots:
            self.counters.holdings.give_back(line)
        if slots:
            self.counters.changed()

    def _pass_without_store(self, lease: Lease, lost: StoreLost) -> None:
        """Let a request pass that nothing hard is lost for; raises BudgetStoreUnavailable for any other."""
        if lease.hard_money:
            raise BudgetStoreUnavailable(f"{UNCHECKED}. Try again shortly.", headers=SOON) from lost
        lease.begun = True
        lease.marks.add(WITHOUT_STORE)


def unlimited() -> Limiter:
    """A limiter of one process without budgets of the registry."""
    began_ms, began = time.time_ns() // 1_000_000, time.monotonic()
    return Limiter(LocalCounters(lambda: began_ms + int((time.monotonic() - began) * 1000)))


@dataclass(frozen=True, slots=True)
class Spent:
    """What an attempt came to: pico-USD, tokens in and out, and the instant at which it was opened."""

    pusd: int
    tokens: int
    at: datetime


def spend_counters(key_id: str | None, tags: Sequence[str], day: str) -> list[Counter]:
    """The counters that money of a key and of tags, spent on a day, belongs to."""
    scopes = ["a", *[f"t:{tag}" for tag in tags], *([] if key_id is None else [f"k:{key_id}"])]
    return [_money(scope, window) for scope in scopes for window in (day, month_of(day))]


_REQUESTS: Final = ":q"
_TOKENS: Final = ":t"

_ends: dict[str, int] = {}


def _money(scope: str, window: str) -> Counter:
    until_ms = _ends.get(window)
    if until_ms is None:
        if len(_ends) > 100:  # days and months of a quarter: this is a memory, not a limit
            _ends.clear()
        until_ms = _ends[window] = int((end_of(window) + KEPT).timestamp() * 1000)
    return Counter(MONEY, f"m:{scope}:{window}", until_ms)


def _scope_of(budget: Budget) -> _Scope:
    if budget.tag is None:
        return _Scope("a", f"the budget {budget.name!r}", budget.limits, budget.name)
    return _Scope(f"t:{budget.tag}", f"the budget {budget.name!r}", budget.limits, budget.name)


def _full(counter: Counter, limit: int) -> int:
    """A limit as `Verdict.used` counts it."""
    return limit * MINUTE_MS if counter.kind == RATE else limit


def measure_of(counter: Counter) -> str:
    """What a counter of a limit counts by: `day` or `month`, `requests` or `tokens`, or `concurrency`."""
    if counter.kind == MONEY:
        return "day" if counter.name.rpartition(":")[2].count("-") == 2 else "month"
    if counter.kind == RATE:
        return "requests" if counter.name.endswith(_REQUESTS) else "tokens"
    return "concurrency"


def _lines(lease: Lease, at: datetime, hold: Hold, soft: dict[Over, int]) -> list[Line]:
    """Everything that an attempt is held against, each counter once: by its strictest hard limit, where there is one.

    Soft limits are noted in `soft`.
    """
    found: dict[Counter, Line] = {}
    for scope in lease.scopes:
        for counter, amount, limit in _asked(scope, at, hold, begun=lease.begun):
            line = Line(counter, amount, limit, scope.limits.soft)
            if scope.limits.soft:
                soft[counter, scope.budget] = limit
            before = found.get(counter)
            if before is None or (before.soft, before.limit) > (line.soft, line.limit):
                found[counter] = line
                lease.told[counter] = scope.told
    return list(found.values())


def _asked(scope: _Scope, at: datetime, hold: Hold, *, begun: bool) -> list[tuple[Counter, int, int]]:
    limits, day, found = scope.limits, day_of(at), []
    if not begun:
        if limits.requests_per_minute is not None:
            found.append((Counter(RATE, f"r:{scope.name}{_REQUESTS}"), 1, limits.requests_per_minute))
        if limits.tokens_per_minute is not None:
            # A request larger than the limit itself is let in by filling it up; under a limit of 0 there is nothing.
            amount = max(1, min(hold.tokens, limits.tokens_per_minute))
            found.append((Counter(RATE, f"r:{scope.name}{_TOKENS}"), amount, limits.tokens_per_minute))
        if limits.concurrency is not None:
            found.append((Counter(SLOTS, f"c:{scope.name}"), 1, limits.concurrency))
    for window, limit in ((day, limits.day_pusd), (month_of(day), limits.month_pusd)):
        if limit is not None:
            found.append((_money(scope.name, window), min(hold.pusd, PUSD_MAX), limit))
    return found


def _refusal(lease: Lease, line: Line, verdict: Verdict) -> CoeError:
    """Why a line refuses, in words for the caller."""
    kind, name = line.counter.kind, line.counter.name
    who = lease.told[line.counter]
    if kind == MONEY:
        window = name.rpartition(":")[2]
        used = verdict.used[verdict.line]
        over = "day" if len(window) == len("2026-01-01") else "month"
        return BudgetExhausted(
            f"This request may cost up to {usd_text(line.amount)} USD, and of the {usd_text(line.limit)} USD that "
            f"{who} may spend in the {over} {window} (UTC), {usd_text(used)} are spent or reserved. Ask for a shorter "
            f"answer (`max_tokens`) or a cheaper model, wait until {end_of(window):%Y-%m-%d %H:%M} UTC, or have it "
            "raised.",
            headers={"x-should-retry": "false", **lease.headers},
        )
    retry_s = max(1, math.ceil(verdict.retry_ms / 1000))
    headers = {"retry-after": str(retry_s), **lease.headers}
    if verdict.retry_ms == 0:
        headers = {"x-should-retry": "false", **lease.headers}
    if kind == SLOTS and line.limit == 0:
        told = f"{who[:1].upper()}{who[1:]} may have no request running: its concurrency is 0."
        return RateLimited(told, code="concurrency_limit_exceeded", headers=headers)
    if kind == SLOTS:
        told = f"{who[:1].upper()}{who[1:]} has {line.limit} requests running, which is all it may have at once."
        return RateLimited(
            f"{told} Send the request again when one has ended.", code="concurrency_limit_exceeded", headers=headers
        )
    what = "requests" if name.endswith(_REQUESTS) else "tokens"
    told = f"{who[:1].upper()}{who[1:]} is over its limit of {line.limit} {what} a minute."
    again = f" Try again in {retry_s} s." if verdict.retry_ms else " No wait will help: it is 0."
    return RateLimited(told + again, headers=headers)


def _rates_told(lines: Sequence[Line], verdict: Verdict) -> Mapping[str, str]:
    """The headers that client libraries read: the tightest rate of each kind, what is left, when it is whole again."""
    told: dict[str, str] = {}
    for ending, what in ((_REQUESTS, "requests"), (_TOKENS, "tokens")):
        found = [
            (max(0, line.limit - -(-used // MINUTE_MS)), line.limit, used)
            for line, used in zip(lines, verdict.used, strict=True)
            if line.counter.kind == RATE and line.counter.name.endswith(ending)
        ]
        if found:
            left, limit, used = min(found)
            told[f"x-ratelimit-limit-{what}"] = str(limit)
            told[f"x-ratelimit-remaining-{what}"] = str(left)
            told[f"x-ratelimit-reset-{what}"] = f"{used / limit / 1000 if limit else 0:.3f}s"
    return told
