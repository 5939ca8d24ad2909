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
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from service import telemetry
from service.domain.access import Caller
from service.domain.catalog import Provider
from service.domain.limits import PUSD_MAX, Budget, Limits, day_of, end_of
from service.domain.money import usd_text
from service.errors import BudgetExhausted, BudgetStoreUnavailable, CoeError, RateLimited
from service.guard.aside import Aside
from service.guard.counters import Counters, LocalCounters, StoreLost
from service.guard.counting import MINUTE_MS, MONEY, RATE, SLOTS, Counter, Line, Verdict
from service.guard.leases import Hold, Lease, Over, Spent, VendorFull
from service.guard.scopes import (
    REQUESTS,
    TOKENS,
    Scope,
    budgets_of,
    full,
    measure_of,
    rates_and_slots,
    scope_of,
    scope_of_key,
    scope_of_provider,
    scopes_of,
    spend_counters,
    window_of,
)
from service.guard.standing import Standing, standings

OVER_BUDGET: Final = "budget"
"""What `x-coe-degraded` says when a soft budget or limit is exceeded."""

CAPPED: Final = "budget_cap"
"""What it says when an answer may be cut where the budget ends: there was no room for a longer one."""

WITHOUT_STORE: Final = telemetry.PART_BUDGETS
"""What it says when nothing could be counted."""


UNCHECKED: Final = "The budget of this request can't be checked at the moment, so nothing was spent"
UNKNOWN: Final = "What budgets have left is not known at the moment"
SOON: Final[Mapping[str, str]] = {"retry-after": "2"}


SLOT_S: Final = 0.25
"""When somebody may look again who found all requests running that a vendor's account may have."""


class Limiter:
    """Holds requests against the limits of their keys and tags."""

    def __init__(self, counters: Counters, budgets: Sequence[Budget] = ()) -> None:
        """`budgets` are the registry's; `budgets` may be set anew when another registry serves."""
        self.counters = counters
        self._budgets: tuple[Budget, ...] = ()
        self._aside = Aside()
        self._tidy_day = ""
        self.uncounted = ""  # why what was spent before this process is not known yet
        self.recounting: frozenset[str] = frozenset()  # tags of which it is not known yet
        self.budgets = tuple(budgets)

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budgets of the registry that serves."""
        return self._budgets

    @budgets.setter
    def budgets(self, budgets: tuple[Budget, ...]) -> None:
        self._budgets = budgets
        self.budget_tags = frozenset(one.tag for one in budgets if one.tag is not None)
        for counter, pusd in self._aside.take(self.budget_tags):
            self.counters.holdings.settled(counter, pusd)
            self.counters.changed()

    def lease(self, caller: Caller, said: Sequence[str]) -> Lease | None:
        """An empty lease for a request with these tags of its own; `None` where no limit applies."""
        if not caller.limits.any and not self._budgets:
            return None
        scopes = scopes_of(caller, said, self._budgets)
        return Lease(scopes) if scopes else None

    async def reserve(
        self, lease: Lease, attempt: int, at: datetime, holds: Sequence[Hold], vendor: Provider | None = None
    ) -> int:
        """Reserve one of `holds`, in order of preference, for an attempt that opens at `at`; its place.

        With the first attempt of a request its rates and its slots are reserved too, with each what the account at
        `vendor` allows. Raises `BudgetExhausted`, `RateLimited`, `BudgetStoreUnavailable` or `VendorFull`, and then
        nothing is held.
        """
        soft: dict[Over, int] = {}
        asks = [_lines(lease, at, hold, soft) for hold in holds]
        own = len(asks[0])
        if vendor is not None and vendor.limits.any:
            scope = scope_of_provider(vendor.name, vendor.limits)
            asks = [[*lines, *_of_vendor(scope, at, hold)] for lines, hold in zip(asks, holds, strict=True)]
        if not asks[0]:
            lease.begun = True
            return 0
        if lease.hard_money and (self.uncounted or not self.recounting.isdisjoint(lease.hard_tags)):
            raise BudgetStoreUnavailable(f"{UNCHECKED}. The router's operator sees why in /readyz.", headers=SOON)
        try:
            verdict = await self.counters.ask(asks)
        except StoreLost as lost:
            self._pass_without_store(lease, lost)
            return 0
        lines = asks[verdict.taken]
        if not lease.begun:
            lease.headers.update(_rates_told(lines[:own], verdict))
        if verdict.taken < 0:
            if verdict.line >= own:
                raise VendorFull(SLOT_S if lines[verdict.line].counter.kind == SLOTS else verdict.retry_ms / 1000)
            raise _refusal(lease, lines[verdict.line], verdict)
        if verdict.taken > 0:
            lease.marks.add(CAPPED)
        _granted(lease, attempt, lines[:own], lines[own:])
        if soft:
            used = {line.counter: one for line, one in zip(lines, verdict.used, strict=False)}
            lease.over = {over for over, limit in soft.items() if used[over[0]] > full(over[0], limit)}
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
            for line in lease.vendors.pop(attempt, ()):
                if line.counter.kind == SLOTS:
                    holdings.give_back(line)
                elif line.counter.name.endswith(TOKENS):
                    holdings.correct(line, spent.tokens - line.amount)
        day = day_of(spent.at)
        if spent.pusd:
            kept = [tag for tag in tags if tag in caller.tags or tag in self.budget_tags]
            if len(kept) < len(tags):
                self._aside.add((tag for tag in tags if tag not in kept), day, spent.pusd)
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

    async def standing(self, at: datetime, caller: Caller, said: Sequence[str] = ()) -> list[Standing]:
        """How each limit stands that a request of a caller is under, with these tags of its own; nothing is held.

        Raises `BudgetStoreUnavailable`.
        """
        return await self._standing(scopes_of(caller, said, self._budgets), at)

    async def foresee(
        self, at: datetime, caller: Caller, said: Sequence[str], holds: Sequence[Hold]
    ) -> tuple[int, list[tuple[Standing, bool]]]:
        """Which of `holds` a first attempt would reserve now, -1 for none, and each limit, with whether it has room.

        For that one, or for the last where none fits. Nothing is held. Raises as `standing`.
        """
        found = await self.standing(at, caller, said)
        room = [[_has_room(one, hold) for one in found] for hold in holds]
        place = next((place for place, fits in enumerate(room) if all(fits)), -1)
        return place, list(zip(found, room[place], strict=True))

    async def standing_of_all(self, at: datetime, keys: Mapping[str, Limits]) -> list[Standing]:
        """How each budget of the registry stands, and each limit of these keys, by id. Raises as `standing`."""
        of_keys = [scope_of_key(key_id, limits) for key_id, limits in keys.items() if limits.any]
        return await self._standing([*map(scope_of, self._budgets), *of_keys], at)

    async def _standing(self, scopes: Iterable[Scope], at: datetime) -> list[Standing]:
        if self.uncounted:
            raise BudgetStoreUnavailable(f"{UNKNOWN}: {self.uncounted}.", headers=SOON)
        try:
            return await standings(self.counters, scopes, at)
        except StoreLost as lost:
            raise BudgetStoreUnavailable(f"{UNKNOWN}. Try again shortly.", headers=SOON) from lost

    def _pass_without_store(self, lease: Lease, lost: StoreLost) -> None:
        """Let a request pass that nothing hard is lost for; raises BudgetStoreUnavailable for any other."""
        if lease.hard_money:
            raise BudgetStoreUnavailable(f"{UNCHECKED}. Try again shortly.", headers=SOON) from lost
        lease.begun = True
        lease.marks.add(WITHOUT_STORE)


def unlimited() -> Limiter:
    """A limiter of one process without budgets of the registry."""
    return Limiter(LocalCounters.from_now())


def _lines(lease: Lease, at: datetime, hold: Hold, soft: dict[Over, int]) -> list[Line]:
    """Everything that an attempt is held against, each counter once: by its strictest hard limit, where there is one.

    Soft limits are noted in `soft`.
    """
    found: dict[Counter, Line] = {}
    for scope in lease.scopes:
        for counter, amount, limit in _asked(scope, at, hold, begun=lease.begun):
            free = counter.kind == MONEY and not hold.pusd  # it takes nothing of what is left, however little
            spares = free or (hold.nothing and not (counter.kind == SLOTS or counter.name.endswith(REQUESTS)))
            line = Line(counter, 0 if spares else amount, limit, scope.limits.soft or spares)
            if scope.limits.soft:
                soft[counter, scope.budget] = limit
            before = found.get(counter)
            if before is None or (before.soft, before.limit) > (line.soft, line.limit):
                found[counter] = line
                lease.told[counter] = scope.told
    return list(found.values())


def _has_room(one: Standing, hold: Hold) -> bool:
    """Whether a limit lets an attempt through; what is free takes nothing of a budget, however it stands."""
    free = bool(one.window) and not hold.pusd
    return one.soft or free or one.used + _amount(one, hold) <= one.limit


def _amount(one: Standing, hold: Hold) -> int:
    """What a request would hold of a limit."""
    if one.window:
        return min(hold.pusd, PUSD_MAX)
    return max(1, min(hold.tokens, one.limit)) if one.measure == "tokens" else 1


def _granted(lease: Lease, attempt: int, lines: Sequence[Line], of_vendor: Sequence[Line]) -> None:
    """Note what an attempt holds from now on."""
    lease.begun = True
    lease.money[attempt] = tuple(line for line in lines if line.counter.kind == MONEY)
    lease.slots += tuple(line for line in lines if line.counter.kind == SLOTS)
    rates = tuple(line for line in lines if line.counter.kind == RATE and line.counter.name.endswith(TOKENS))
    if rates:
        lease.tokens, lease.guessed = rates, True
    if of_vendor:
        lease.vendors[attempt] = tuple(of_vendor)


def _of_vendor(scope: Scope, at: datetime, hold: Hold) -> list[Line]:
    """What an attempt is held against of a vendor's account."""
    return [Line(*one) for one in _asked(scope, at, hold, begun=False)]


def _asked(scope: Scope, at: datetime, hold: Hold, *, begun: bool) -> list[tuple[Counter, int, int]]:
    found = []
    if not begun:
        for counter, limit in rates_and_slots(scope):
            tokens = counter.kind == RATE and counter.name.endswith(TOKENS)
            # A request larger than the limit itself is let in by filling it up; under a limit of 0 there is nothing.
            found.append((counter, max(1, min(hold.tokens, limit)) if tokens else 1, limit))
    pusd = min(hold.pusd, PUSD_MAX)
    return found + [(counter, pusd, limit) for counter, limit in budgets_of(scope, day_of(at))]


def _refusal(lease: Lease, line: Line, verdict: Verdict) -> CoeError:
    """Why a line refuses, in words for the caller."""
    kind, name = line.counter.kind, line.counter.name
    who = lease.told[line.counter]
    if kind == MONEY:
        window = window_of(line.counter)
        used = verdict.used[verdict.line]
        over = measure_of(line.counter)
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
    what = "requests" if name.endswith(REQUESTS) else "tokens"
    told = f"{who[:1].upper()}{who[1:]} is over its limit of {line.limit} {what} a minute."
    again = f" Try again in {retry_s} s." if verdict.retry_ms else " No wait will help: it is 0."
    return RateLimited(told + again, headers=headers)


def _rates_told(lines: Sequence[Line], verdict: Verdict) -> Mapping[str, str]:
    """The headers that client libraries read: the tightest rate of each kind, what is left, when it is whole again."""
    told: dict[str, str] = {}
    for ending, what in ((REQUESTS, "requests"), (TOKENS, "tokens")):
        found = [
            (max(0, line.limit - -(-used // MINUTE_MS)), line.limit, used)
            for line, used in zip(lines, verdict.used, strict=False)
            if line.counter.kind == RATE and line.counter.name.endswith(ending)
        ]
        if found:
            left, limit, used = min(found)
            told[f"x-ratelimit-limit-{what}"] = str(limit)
            told[f"x-ratelimit-remaining-{what}"] = str(left)
            told[f"x-ratelimit-reset-{what}"] = f"{used / limit / 1000 if limit else 0:.3f}s"
    return told
