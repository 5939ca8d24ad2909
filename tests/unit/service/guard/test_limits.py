"""Budgets and limits of a request: what it is held against, in which words it is refused, what it gives back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.access import ANONYMOUS, Caller
from service.domain.catalog import Provider, ProviderLimits
from service.domain.limits import PUSD_MAX, Budget, Limits
from service.errors import BudgetExhausted, BudgetStoreUnavailable, RateLimited
from service.guard.counters import LocalCounters, StoreLost
from service.guard.counting import MINUTE_MS, RATE, SLOTS, Counter, Line
from service.guard.holdings import Holdings
from service.guard.leases import Hold, Lease, Spent, VendorFull
from service.guard.limits import OVER_BUDGET, SLOT_S, WITHOUT_STORE, Limiter, unlimited
from service.guard.scopes import KEPT, spend_counters

DOLLAR = 10**12
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY, MONTH = "2026-11-22", "2026-11"


class Clock:
    """Milliseconds that a test moves."""

    def __init__(self):
        self.ms = int(NOW.timestamp() * 1000)

    def __call__(self):
        return self.ms


class Lost:
    """Counters whose store is lost."""

    def __init__(self):
        self.holdings, self.problem, self.told = Holdings(), "lost", 0

    async def ask(self, _ask):
        raise StoreLost("no reply within 100 ms")

    def changed(self):
        self.told += 1

    def forget(self, _now_ms):
        pass


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def counters(clock):
    return LocalCounters(clock)


@pytest.fixture
def limiter(counters):
    return Limiter(counters)


def a_caller(key="one", *tags, **limits):
    """A key with tags and limits."""
    return Caller(f"key_{key}", key, frozenset(tags), limits=Limits(**limits))


def a_hold(pusd=0, tokens=10):
    return [Hold(pusd, tokens)]


async def begun(limiter, caller, holds=None, *, said=(), at=NOW, attempt=1):
    """The lease of a request whose first attempt was let through."""
    lease = limiter.lease(caller, said)
    await limiter.reserve(lease, attempt, at, holds or a_hold())
    return lease


async def refused(limiter, caller, holds=None, *, said=(), at=NOW):
    """Why a request is refused."""
    lease = limiter.lease(caller, said)
    with pytest.raises((BudgetExhausted, RateLimited, BudgetStoreUnavailable)) as caught:
        await limiter.reserve(lease, 1, at, holds or a_hold())
    assert (lease.money, lease.slots, lease.begun) == ({}, (), False), "nothing is held"
    return caught.value


def used(counters, name):
    """Money that is settled or held in a counter, as the store has it after the next ask."""
    share = counters.holdings.share(
        next(one for one in counters.holdings._own.values() if one.counter.name == name).counter
    )
    return share.settled, share.held


# whom limits are for


def test_a_request_without_limits_has_no_lease(limiter):
    """Nothing is asked for it, nothing is held."""
    assert limiter.lease(Caller("key_1", "k", frozenset({"team"})), ("said",)) is None
    assert limiter.lease(ANONYMOUS, ()) is None
    limiter.budgets = (Budget("b", Limits(day_pusd=1), "other"),)
    assert limiter.lease(Caller("key_1", "k", frozenset({"team"})), ("said",)) is None
    assert limiter.lease(a_caller(soft=True), ()) is None, "soft alone limits nothing"


def test_a_request_is_under_its_key_its_tags_and_everybodys_budget(limiter):
    """Tags of the key and those it says itself; a caller without a key is under budgets only."""
    limiter.budgets = (
        Budget("all", Limits(day_pusd=1)),
        Budget("team", Limits(day_pusd=1), "team"),
        Budget("said", Limits(day_pusd=1), "said"),
        Budget("other", Limits(day_pusd=1), "other"),
    )
    caller = a_caller("one", "team", day_pusd=5)
    names = [(scope.name, scope.told) for scope in limiter.lease(caller, ("said",)).scopes]
    assert names == [
        ("k:key_one", "this API key"),
        ("a", "the budget 'all'"),
        ("t:team", "the budget 'team'"),
        ("t:said", "the budget 'said'"),
    ]
    assert [scope.name for scope in limiter.lease(ANONYMOUS, ()).scopes] == ["a"]
    assert [scope.name for scope in limiter.lease(ANONYMOUS, ("said",)).scopes] == ["a", "t:said"]


async def test_every_line_of_key_tag_and_all_together_must_have_room(limiter, counters):
    """Whichever is full refuses, by its name; then none of them holds anything."""
    limiter.budgets = (Budget("all", Limits(month_pusd=100)), Budget("team", Limits(day_pusd=50), "team"))
    caller, other = a_caller("one", "team", day_pusd=20), a_caller("two", "team", day_pusd=1_000)
    await begun(limiter, caller, a_hold(20))
    assert "this API key" in (await refused(limiter, caller, a_hold(1))).message
    await begun(limiter, other, a_hold(30))
    assert "the budget 'team'" in (await refused(limiter, other, a_hold(1))).message
    free = Caller("key_free", "free")
    await begun(limiter, free, a_hold(50))
    assert "the budget 'all'" in (await refused(limiter, free, a_hold(1))).message
    held = {name: used(counters, name)[1] for name in (f"m:k:key_one:{DAY}", f"m:t:team:{DAY}", f"m:a:{MONTH}")}
    assert held == {f"m:k:key_one:{DAY}": 20, f"m:t:team:{DAY}": 50, f"m:a:{MONTH}": 100}


async def test_two_budgets_on_one_tag_are_one_counter_and_the_strictest_limit(limiter, counters):
    """Counted once, in whatever order they stand; the message names the one that refuses."""
    budgets = [
        Budget(name, Limits(day_pusd=most), "team") for name, most in (("wide", 50), ("tight", 20), ("widest", 90))
    ]
    caller = Caller("key_1", "k", frozenset({"team"}))
    for order in (budgets, budgets[::-1]):
        fresh = Limiter(LocalCounters(Clock()), order)
        await begun(fresh, caller, a_hold(15))
        assert used(fresh.counters, f"m:t:team:{DAY}") == (0, 15)
        problem = await refused(fresh, caller, a_hold(6))
        assert "the budget 'tight'" in problem.message
        assert "of the 0.00000000002 USD" in problem.message


async def test_a_soft_budget_on_the_same_tag_never_lifts_a_hard_one(counters):
    """And is marked by its own limit."""
    soft, hard = Budget("soft", Limits(day_pusd=5, soft=True), "team"), Budget("hard", Limits(day_pusd=20), "team")
    caller = Caller("key_1", "k", frozenset({"team"}))
    for order in ((soft, hard), (hard, soft)):
        limiter = Limiter(LocalCounters(Clock()), order)
        assert (await begun(limiter, caller, a_hold(5))).marks == set()
        assert (await begun(limiter, caller, a_hold(5))).marks == {OVER_BUDGET}
        assert "the budget 'hard'" in (await refused(limiter, caller, a_hold(11))).message


async def test_what_is_over_is_told_by_counter_and_budget(limiter):
    """Of several soft limits on one counter each that is exceeded, beside a hard one too; never one that is only full."""
    limiter.budgets = (
        Budget("tight", Limits(day_pusd=5, soft=True), "team"),
        Budget("wide", Limits(day_pusd=15, soft=True), "team"),
        Budget("hard", Limits(day_pusd=100), "team"),
    )
    caller = a_caller("one", "team", day_pusd=15, requests_per_minute=2, soft=True)
    day, own = spend_counters("key_one", ["team"], DAY)[2::2]
    over = [(await begun(limiter, caller, a_hold(pusd))).over for pusd in (5, 5, 10)]
    assert over[0] == set()
    assert over[1] == {(day, "tight")}
    requests = Counter(RATE, "r:k:key_one:q")
    assert over[2] == {(day, "tight"), (day, "wide"), (own, None), (requests, None)}


async def test_of_two_soft_budgets_on_one_tag_the_tighter_marks():
    """In whatever order they stand."""
    budgets = [Budget(name, Limits(day_pusd=most, soft=True), "team") for name, most in (("wide", 50), ("tight", 5))]
    caller = Caller("key_1", "k", frozenset({"team"}))
    for order in (budgets, budgets[::-1]):
        assert (await begun(Limiter(LocalCounters(Clock()), order), caller, a_hold(6))).marks == {OVER_BUDGET}


# soft


@pytest.mark.parametrize(
    ("limits", "holds"),
    [
        ({"day_pusd": 10}, [Hold(6, 1)]),
        ({"month_pusd": 10}, [Hold(6, 1)]),
        ({"requests_per_minute": 1}, [Hold(0, 1)]),
        ({"tokens_per_minute": 10}, [Hold(0, 6)]),
        ({"concurrency": 1}, [Hold(0, 1)]),
    ],
)
async def test_what_is_over_a_soft_limit_passes_and_is_marked(limiter, limits, holds):
    """Counted as under a hard one; below it nothing is said."""
    caller = a_caller(soft=True, **limits)
    assert (await begun(limiter, caller, holds)).marks == set()
    lease = await begun(limiter, caller, holds)
    assert (lease.marks, lease.hard_money) == ({OVER_BUDGET}, False)
    assert await refused(limiter, replace(caller, limits=Limits(**limits)), holds)


async def test_a_soft_limit_of_nothing_marks_everything(limiter):
    """0 is a limit that nothing fits under."""
    for limits in ({"day_pusd": 0}, {"requests_per_minute": 0}, {"tokens_per_minute": 0}, {"concurrency": 0}):
        assert (await begun(limiter, a_caller(str(limits), soft=True, **limits), a_hold(1))).marks == {OVER_BUDGET}


# hard


async def test_what_fits_exactly_fits(limiter):
    """A budget may be spent to the last pico-dollar."""
    caller = a_caller(day_pusd=10, month_pusd=10)
    await begun(limiter, caller, a_hold(10))
    await refused(limiter, caller, a_hold(1))


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"day_pusd": 0}, "insufficient_quota"),
        ({"month_pusd": 0}, "insufficient_quota"),
        ({"requests_per_minute": 0}, "rate_limit_exceeded"),
        ({"tokens_per_minute": 0}, "rate_limit_exceeded"),
        ({"concurrency": 0}, "concurrency_limit_exceeded"),
    ],
)
async def test_nothing_fits_under_nothing(limiter, limits, code):
    """And no wait will help."""
    problem = await refused(limiter, a_caller(**limits), a_hold(1))
    assert (problem.status, problem.code, problem.headers["x-should-retry"]) == (429, code, "false")
    assert "retry-after" not in problem.headers


async def test_a_refusal_for_money_says_what_is_left_and_what_to_do(limiter):
    """Exact, in USD; a client that retries by habit is told not to."""
    caller = a_caller(day_pusd=5 * DOLLAR)
    await begun(limiter, caller, a_hold(4 * DOLLAR))
    problem = await refused(limiter, caller, a_hold(DOLLAR + 1))
    assert (problem.status, problem.type, problem.code) == (429, "insufficient_quota", "insufficient_quota")
    assert problem.headers == {"x-should-retry": "false"}
    assert problem.message == (
        "This request may cost up to 1.000000000001 USD, and of the 5 USD that this API key may spend in the day "
        "2026-11-22 (UTC), 4 are spent or reserved. Ask for a shorter answer (`max_tokens`) or a cheaper model, wait until "
        "2026-11-23 00:00 UTC, or have it raised."
    )
    monthly = await refused(limiter, a_caller("two", month_pusd=1), a_hold(2))
    assert "in the month 2026-11 (UTC), 0 are spent" in monthly.message


async def test_a_refusal_for_a_rate_says_when(limiter, clock):
    """`retry-after` in whole seconds, never 0, and enough."""
    caller = a_caller(requests_per_minute=30)
    for _ in range(30):
        await begun(limiter, caller)
    problem = await refused(limiter, caller)
    assert (problem.status, problem.type, problem.code) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert problem.message == "This API key is over its limit of 30 requests a minute. Try again in 2 s."
    assert problem.headers["retry-after"] == "2"
    assert "x-should-retry" not in problem.headers
    clock.ms += 2_000
    await begun(limiter, caller)
    clock.ms += 1_999
    assert (await refused(limiter, caller)).headers["retry-after"] == "1"


async def test_a_refusal_for_concurrency_says_so(limiter):
    """The client is to come back when one has ended."""
    limiter.budgets = (Budget("lab", Limits(concurrency=2), "lab"),)
    caller = Caller("key_1", "k", frozenset({"lab"}))
    for _ in range(2):
        await begun(limiter, caller)
    problem = await refused(limiter, caller)
    assert (problem.code, problem.headers) == ("concurrency_limit_exceeded", {"retry-after": "1"})
    assert problem.message == (
        "The budget 'lab' has 2 requests running, which is all it may have at once. Send the request again when one has "
        "ended."
    )


async def test_under_a_concurrency_of_zero_no_wait_helps(limiter):
    """And it says so: nobody waits for a request to end that never began."""
    problem = await refused(limiter, a_caller(concurrency=0))
    assert problem.message == "This API key may have no request running: its concurrency is 0."
    assert problem.headers["x-should-retry"] == "false"


async def test_an_answer_that_may_be_cut_for_the_budget_is_marked(limiter):
    """The second reservation is the one with a cap."""
    caller = a_caller(day_pusd=10)
    lease = limiter.lease(caller, ())
    assert await limiter.reserve(lease, 1, NOW, [Hold(11, 1), Hold(5, 1)]) == 1
    assert lease.marks == {"budget_cap"}
    other = limiter.lease(caller, ())
    assert await limiter.reserve(other, 1, NOW, [Hold(5, 1), Hold(1, 1)]) == 0
    assert other.marks == set()


async def test_the_first_reservation_that_fits_is_taken(limiter, counters):
    """In the order of preference; the refusal is about the last."""
    caller = a_caller(day_pusd=100)
    lease = limiter.lease(caller, ())
    assert await limiter.reserve(lease, 1, NOW, [Hold(70, 1), Hold(20, 1)]) == 0
    assert await limiter.reserve(limiter.lease(caller, ()), 1, NOW, [Hold(70, 1), Hold(20, 1)]) == 1
    assert used(counters, f"m:k:key_one:{DAY}") == (0, 90)
    assert "may cost up to 0.00000000002 USD" in (await refused(limiter, caller, [Hold(70, 1), Hold(20, 1)])).message


async def test_a_reservation_larger_than_any_budget_is_as_large_as_one(limiter):
    """The counters hold two of them."""
    await refused(limiter, a_caller(day_pusd=PUSD_MAX - 1), a_hold(10**30))
    await begun(limiter, a_caller("two", soft=True, day_pusd=1), a_hold(10**30))
    assert used(limiter.counters, f"m:k:key_two:{DAY}") == (0, PUSD_MAX)


# what is settled, and where


async def test_what_an_attempt_held_goes_back_and_what_it_cost_stays(limiter, counters):
    """For its key, its tags and everybody, each day and month."""
    limiter.budgets = (Budget("team", Limits(day_pusd=100), "team"), Budget("said", Limits(month_pusd=100), "said"))
    caller = a_caller("one", "team", "plain", day_pusd=100)
    lease = await begun(limiter, caller, a_hold(80), said=("said", "loose"))
    limiter.settle(lease, caller, ("loose", "plain", "said", "team"), 1, Spent(30, 50, NOW))
    have = {own.counter.name: (own.settled, own.held) for own in counters.holdings._own.values()}
    assert have == {
        f"m:{who}:{window}": (30, 0)
        for who in ("a", "t:plain", "t:said", "t:team", "k:key_one")
        for window in (DAY, MONTH)
    }, "a tag that only requests say, and no budget names, is not counted"
    await begun(limiter, caller, a_hold(70))
    await refused(limiter, caller, a_hold(1))


async def test_spend_without_limits_is_counted_for_a_budget_that_comes_later(limiter):
    """Of its key and of its tags; a request without a key counts for everybody's."""
    bare = Caller("key_one", "one", frozenset({"team"}))
    limiter.settle(None, bare, ("team",), 1, Spent(30, 5, NOW))
    limiter.settle(None, ANONYMOUS, (), 1, Spent(4, 5, NOW))
    await refused(limiter, a_caller(day_pusd=100), a_hold(71))
    await begun(limiter, a_caller(day_pusd=100), a_hold(70))
    limiter.budgets = (Budget("team", Limits(month_pusd=40), "team"), Budget("all", Limits(day_pusd=200)))
    assert "30 are" not in (await refused(limiter, bare, a_hold(11))).message
    assert "0.000000000034 are spent" in (await refused(limiter, ANONYMOUS, a_hold(200))).message


async def test_a_tag_that_only_requests_said_counts_from_the_first_when_a_budget_names_it(limiter, counters):
    """What was spent with it before, and what was under way; nothing of it twice."""
    bare = Caller("key_1", "k")
    limiter.settle(None, bare, ("late", "other"), 1, Spent(30, 5, NOW))
    limiter.budgets = (Budget("all", Limits(day_pusd=1_000)),)
    running = await begun(limiter, bare, a_hold(50), said=("late",))
    limiter.budgets = (Budget("late", Limits(day_pusd=100), "late"),)
    assert used(counters, f"m:t:late:{DAY}") == (30, 0)
    assert used(counters, f"m:t:late:{MONTH}") == (30, 0)
    limiter.settle(running, bare, ("late",), 1, Spent(40, 5, NOW))
    assert used(counters, f"m:t:late:{DAY}") == (70, 0)
    await refused(limiter, bare, a_hold(31), said=("late",))
    limiter.budgets = ()
    limiter.settle(None, bare, ("late",), 1, Spent(7, 5, NOW))
    limiter.budgets = (Budget("late", Limits(day_pusd=100), "late"),)
    assert used(counters, f"m:t:late:{DAY}") == (77, 0)


async def test_until_a_tag_is_recounted_its_hard_budgets_wait(limiter):
    """No other, and no soft one."""
    limiter.budgets = (
        Budget("new", Limits(day_pusd=10), "new"),
        Budget("old", Limits(day_pusd=10), "old"),
        Budget("mild", Limits(day_pusd=10, soft=True), "mild"),
    )
    limiter.recounting = frozenset({"new", "mild"})
    problem = await refused(limiter, ANONYMOUS, a_hold(1), said=("new",))
    assert (problem.status, problem.code) == (503, "budget_store_unavailable")
    for tag in ("old", "mild"):
        await begun(limiter, ANONYMOUS, a_hold(1), said=(tag,))
    limiter.recounting = frozenset()
    await begun(limiter, ANONYMOUS, a_hold(1), said=("new",))


async def test_an_attempt_counts_in_the_day_in_which_it_was_opened(limiter, counters):
    """Midnight comes between its reservation and its end; the next request is of the new day."""
    caller = a_caller(day_pusd=100)
    before = datetime(2026, 11, 30, 23, 59, 59, 999_000, tzinfo=UTC)
    lease = await begun(limiter, caller, a_hold(80), at=before)
    after = before + timedelta(milliseconds=2)
    await begun(limiter, caller, a_hold(100), at=after)
    limiter.settle(lease, caller, (), 1, Spent(60, 5, before))
    assert used(counters, "m:k:key_one:2026-11-30") == (60, 0)
    assert used(counters, "m:k:key_one:2026-12-01") == (0, 100)
    assert used(counters, "m:k:key_one:2026-11") == (60, 0)
    await refused(limiter, caller, a_hold(1), at=after)
    await begun(limiter, caller, a_hold(40), at=before)


async def test_days_are_those_of_utc(limiter, counters):
    """Wherever the clock that was asked stands."""
    at = datetime.fromisoformat("2026-11-23T01:30:00+02:00")
    await begun(limiter, a_caller(day_pusd=100), a_hold(80), at=at)
    assert used(counters, f"m:k:key_one:{DAY}") == (0, 80)


async def test_windows_that_are_over_are_forgotten_some_days_later(limiter, counters):
    """Looked at once a day; an attempt may run on, a replica may be away."""
    caller = a_caller(day_pusd=100)
    clock = counters._now_ms
    for days in range(6):
        at = NOW + timedelta(days=days)
        clock.ms = int(at.timestamp() * 1000)
        limiter.settle(await begun(limiter, caller, a_hold(1), at=at), caller, (), 1, Spent(1, 1, at))
    kept = {name.rpartition(":")[2] for name in counters.holdings._own}
    assert DAY not in kept
    assert {"2026-11-24", "2026-11-27", MONTH} <= kept
    assert timedelta(days=2) < KEPT < timedelta(days=7)


async def test_a_fallback_attempt_reserves_its_own_money_and_nothing_else(limiter, counters):
    """One request, whatever it takes: rates and slots are asked for once, and money only while an attempt runs."""
    caller = a_caller(day_pusd=100, requests_per_minute=5, tokens_per_minute=1_000, concurrency=2)
    lease = await begun(limiter, caller, [Hold(60, 300)])
    headers = dict(lease.headers)
    limiter.settle(lease, caller, (), 1, Spent(10, 200, NOW))
    await limiter.reserve(lease, 2, NOW, [Hold(90, 9_999)])
    assert used(counters, f"m:k:key_one:{DAY}") == (10, 90)
    assert (len(lease.slots), lease.headers) == (1, headers)
    with pytest.raises(BudgetExhausted):
        await limiter.reserve(lease, 3, NOW, [Hold(1, 1)])
    limiter.settle(lease, caller, (), 2, Spent(20, 1, NOW))
    assert used(counters, f"m:k:key_one:{DAY}") == (30, 0)
    assert len(lease.slots) == 1, "the request still runs"


@pytest.mark.parametrize(
    ("first", "second", "sum_"),
    [(0, 200, 200), (200, 0, 200), (250, 700, 950), (0, 0, 0), (5_000, 1, 5_001)],
)
async def test_tokens_are_corrected_by_what_all_attempts_used(limiter, first, second, sum_):
    """The first attempt failed, the second answered; for every scope, also where the guess was cut to its limit."""
    limiter.budgets = (
        Budget("all", Limits(tokens_per_minute=100_000)),
        Budget("t", Limits(tokens_per_minute=250), "t"),
    )
    caller = a_caller("one", "t", tokens_per_minute=1_000, requests_per_minute=50)
    lease = await begun(limiter, caller, [Hold(0, 300)])
    limiter.settle(lease, caller, (), 1, Spent(0, first, NOW))
    await limiter.reserve(lease, 2, NOW, [Hold(0, 300)])
    limiter.settle(lease, caller, (), 2, Spent(0, second, NOW))
    counters = limiter.counters
    asks = [
        [
            Line(Counter(RATE, f"r:{scope}:t"), 0, most, soft=True)
            for scope, most in (("k:key_one", 1_000), ("a", 100_000), ("t:t", 250))
        ]
    ]
    verdict = await counters.ask(asks)
    for fill, limit in zip(verdict.used, (1_000, 100_000, 250), strict=True):
        # A bucket holds two minutes at most: nobody is locked out for longer.
        assert fill // MINUTE_MS in {sum_, min(sum_, 2 * limit), min(first, 2 * limit) + second}
    (asked,) = (await counters.ask([[Line(Counter(RATE, "r:k:key_one:q"), 0, 50, soft=True)]])).used
    assert asked == MINUTE_MS, "one request, however many tokens"


@pytest.mark.parametrize("spent", [0, 6])
async def test_what_is_free_fits_under_any_budget(limiter, spent):
    """Under one of 0, and under one that was lowered below what is spent: it takes nothing of what is left."""
    caller = a_caller(day_pusd=5)
    before = limiter.lease(caller, ())
    limiter.settle(before, caller, (), 1, Spent(spent, 1, NOW))
    lease = limiter.lease(caller, ())
    assert await limiter.reserve(lease, 1, NOW, [Hold(0, 10)]) == 0
    assert (await limiter.foresee(NOW, caller, (), [Hold(0, 10)]))[0] == 0
    if spent:
        with pytest.raises(BudgetExhausted):
            await limiter.reserve(limiter.lease(caller, ()), 1, NOW, [Hold(1, 10)])
        assert (await limiter.foresee(NOW, caller, (), [Hold(1, 10)]))[0] == -1


async def test_a_request_larger_than_the_limit_is_let_in_when_nothing_else_is(limiter, clock):
    """And pays for it: the next one waits until the overrun has drained."""
    caller = a_caller(tokens_per_minute=600)
    lease = await begun(limiter, caller, [Hold(0, 5_000)])
    await refused(limiter, caller, [Hold(0, 1)])
    limiter.settle(lease, caller, (), 1, Spent(0, 1_200, NOW))
    assert (await refused(limiter, caller, [Hold(0, 1)])).headers["retry-after"] == "61"
    clock.ms += 61_000
    await begun(limiter, caller, [Hold(0, 1)])


async def test_a_key_whose_limits_change_while_its_requests_run(limiter, counters):
    """They give back what they took; the next request is under the new ones."""
    caller = a_caller(day_pusd=100, concurrency=3, tokens_per_minute=1_000)
    lease = await begun(limiter, caller, [Hold(90, 100)])
    tight = replace(caller, limits=Limits(day_pusd=50, concurrency=1))
    assert await refused(limiter, tight, a_hold(1))
    limiter.settle(lease, tight, (), 1, Spent(45, 60, NOW))
    limiter.release(lease)
    await refused(limiter, tight, a_hold(6))
    await begun(limiter, tight, a_hold(5))
    none = replace(caller, limits=Limits())
    assert limiter.lease(none, ()) is None
    assert [own.held for own in counters.holdings._own.values() if own.counter.kind == SLOTS] == [1]


async def test_slots_go_back_once(limiter, counters):
    """However often it is said that the request has ended."""
    caller = a_caller(concurrency=2)
    lease, _ = await begun(limiter, caller), await begun(limiter, caller)
    await refused(limiter, caller)
    for _ in range(3):
        limiter.release(lease)
    await begun(limiter, caller)
    await refused(limiter, caller)


async def test_an_attempt_is_settled_once(limiter, counters):
    """A second time there is nothing to give back."""
    caller = a_caller(day_pusd=100)
    lease = await begun(limiter, caller, a_hold(60))
    for _ in range(2):
        limiter.settle(lease, caller, (), 1, Spent(0, 0, NOW))
    assert used(counters, f"m:k:key_one:{DAY}") == (0, 0)


async def test_what_changed_is_told_soon_and_what_did_not_is_not():
    """A settlement that gives back or spends wakes the one that speaks."""
    counters = Lost()
    limiter, caller = Limiter(counters), a_caller(day_pusd=5, concurrency=1, soft=True)
    limiter.settle(None, caller, (), 1, Spent(0, 9, NOW))
    assert counters.told == 0
    limiter.settle(None, caller, (), 1, Spent(1, 9, NOW))
    assert counters.told == 1
    lease = await begun(limiter, caller)
    limiter.settle(lease, caller, (), 1, Spent(0, 9, NOW))
    assert counters.told == 2
    limiter.release(lease)
    assert counters.told == 2
    lease.slots = (Line(Counter(SLOTS, "c:x"), 1, 1),)
    limiter.release(lease)
    assert counters.told == 3


# headers


async def test_rates_are_told_as_client_libraries_read_them(limiter, clock):
    """What the limit is, what is left, when it is whole again; the tightest of each kind."""
    limiter.budgets = (Budget("all", Limits(requests_per_minute=1_000, tokens_per_minute=120)),)
    caller = a_caller(requests_per_minute=60, tokens_per_minute=6_000)
    lease = await begun(limiter, caller, [Hold(0, 30)])
    assert lease.headers == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1.000s",
        "x-ratelimit-limit-tokens": "120",
        "x-ratelimit-remaining-tokens": "90",
        "x-ratelimit-reset-tokens": "15.000s",
    }
    clock.ms += 500
    lease = await begun(limiter, caller, [Hold(0, 1)])
    assert lease.headers["x-ratelimit-remaining-requests"] == "58", "half a request is none"
    assert lease.headers["x-ratelimit-reset-requests"] == "1.500s"


async def test_a_refusal_tells_rates_too(limiter):
    """Without the request that was refused; also one for money."""
    caller = a_caller(requests_per_minute=2, day_pusd=10)
    assert (await refused(limiter, caller, a_hold(11))).headers == {
        "x-should-retry": "false",
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "0.000s",
    }
    for _ in range(2):
        await begun(limiter, caller)
    problem = await refused(limiter, caller)
    assert problem.headers["x-ratelimit-remaining-requests"] == "0"
    assert problem.headers["x-ratelimit-reset-requests"] == "60.000s"
    assert (await refused(limiter, a_caller("zero", requests_per_minute=0))).headers[
        "x-ratelimit-reset-requests"
    ] == "0.000s"


async def test_over_a_soft_rate_nothing_is_left(limiter):
    """Not less than nothing."""
    caller = a_caller(requests_per_minute=1, soft=True)
    for _ in range(3):
        lease = await begun(limiter, caller)
    assert lease.headers["x-ratelimit-remaining-requests"] == "0"


# without a store


@pytest.mark.parametrize(
    ("limits", "passes"),
    [
        ({"day_pusd": 10}, False),
        ({"month_pusd": 10, "concurrency": 5}, False),
        ({"day_pusd": 10, "soft": True}, True),
        ({"requests_per_minute": 10}, True),
        ({"tokens_per_minute": 10, "concurrency": 1}, True),
    ],
)
async def test_without_a_store_only_hard_budgets_refuse(limits, passes):
    """503 that may be sent again soon; everything else passes, and is marked."""
    limiter, caller = Limiter(Lost()), a_caller(**limits)
    if not passes:
        problem = await refused(limiter, caller, a_hold(1))
        assert (problem.status, problem.code, problem.headers) == (
            503,
            "budget_store_unavailable",
            {"retry-after": "2"},
        )
        assert "nothing was spent" in problem.message
        return
    lease = await begun(limiter, caller, a_hold(1))
    assert (lease.marks, lease.begun, lease.money, lease.slots) == ({WITHOUT_STORE}, True, {}, ())
    limiter.settle(lease, caller, (), 1, Spent(7, 9, NOW))
    limiter.release(lease)
    assert used(limiter.counters, f"m:k:key_one:{DAY}") == (7, 0), "what was spent is told when it is back"


async def test_a_hard_budget_of_a_tag_refuses_without_a_store_too():
    """Whoever's budget it is."""
    limiter = Limiter(Lost(), [Budget("team", Limits(day_pusd=1), "team")])
    await refused(limiter, Caller("key_1", "k", frozenset({"team"}), limits=Limits(requests_per_minute=5)))


async def test_a_store_that_comes_back_between_two_attempts_counts_the_second(counters):
    """Its rates and slots were let pass: they are not asked for in the middle."""
    limiter, caller = Limiter(Lost()), a_caller(day_pusd=5, requests_per_minute=1, concurrency=1, soft=True)
    lease = await begun(limiter, caller, a_hold(4))
    limiter.settle(lease, caller, (), 1, Spent(0, 0, NOW))
    limiter.counters = counters
    await limiter.reserve(lease, 2, NOW, a_hold(4))
    assert used(counters, f"m:k:key_one:{DAY}") == (0, 4)
    assert (lease.slots, lease.headers, lease.marks) == ((), {}, {WITHOUT_STORE})


async def test_a_second_attempt_under_no_budget_asks_nobody():
    """A rate is of the request; a store that is lost meanwhile is no matter."""
    limiter, caller = Limiter(LocalCounters(Clock())), a_caller(requests_per_minute=5)
    lease = await begun(limiter, caller)
    limiter.counters = Lost()
    assert await limiter.reserve(lease, 2, NOW, a_hold(4)) == 0
    assert lease.marks == set()


async def test_until_what_was_spent_before_is_counted_hard_budgets_wait(limiter):
    """Whoever is under none is served."""
    limiter.uncounted = "the ledger's index is behind"
    problem = await refused(limiter, a_caller(day_pusd=10), a_hold(1))
    assert (problem.status, problem.code, problem.headers) == (503, "budget_store_unavailable", {"retry-after": "2"})
    assert "sees why in /readyz" in problem.message
    lease = await begun(limiter, a_caller(day_pusd=10, requests_per_minute=5, soft=True), a_hold(1))
    assert lease.marks == set()
    await begun(limiter, a_caller(requests_per_minute=5))
    limiter.uncounted = ""
    await begun(limiter, a_caller(day_pusd=10), a_hold(1))


async def test_who_leaves_while_it_asks_holds_nothing():
    """Whatever the store says then."""

    class Slow(Lost):
        async def ask(self, _ask):
            await asyncio.sleep(10)

    limiter = Limiter(Slow())
    lease = limiter.lease(a_caller(day_pusd=10), ())
    asking = asyncio.create_task(limiter.reserve(lease, 1, NOW, a_hold(1)))
    await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait((asking,))
    assert (asking.cancelled(), lease.money, lease.begun) == (True, {}, False)


# what a vendor's account allows


async def test_an_account_that_is_full_refuses_for_a_while_and_nothing_is_held(limiter, counters, clock):
    """After the caller's own limits; of a rate it is known when, a place may be free at any time."""
    rate = Provider("alpha", "https://a.example", limits=ProviderLimits(requests_per_minute=2))
    places = Provider("beta", "https://b.example", limits=ProviderLimits(concurrency=1, tokens_per_minute=1_000))
    caller = a_caller(day_pusd=100, concurrency=9)
    for _ in range(2):
        await limiter.reserve(limiter.lease(caller, ()), 1, NOW, a_hold(1), rate)
    lease = limiter.lease(caller, ())
    with pytest.raises(VendorFull) as caught:
        await limiter.reserve(lease, 1, NOW, a_hold(1), rate)
    assert (caught.value.for_s, lease.begun, lease.money, lease.headers) == (30.0, False, {}, {})
    assert used(counters, f"m:k:key_one:{DAY}") == (0, 2)
    await limiter.reserve(lease, 1, NOW, a_hold(1, 400), places)
    with pytest.raises(VendorFull) as caught:
        await limiter.reserve(Lease(()), 1, NOW, a_hold(1), places)
    assert caught.value.for_s == SLOT_S
    limiter.settle(lease, caller, (), 1, Spent(1, 900, NOW))
    full = Lease(())
    await limiter.reserve(full, 1, NOW, [Hold(0, 100)], places)
    limiter.settle(full, caller, (), 1, Spent(0, 100, NOW))
    with pytest.raises(VendorFull) as caught:
        await limiter.reserve(Lease(()), 1, NOW, [Hold(0, 300)], places)
    assert caught.value.for_s == 18.0, "nine hundred and a hundred were really used"
    clock.ms += 18_000
    await limiter.reserve(Lease(()), 1, NOW, [Hold(0, 300)], places)


# how limits stand


async def test_how_the_limits_of_a_request_stand(limiter, counters):
    """Spent or reserved, by the counters that refuse; looking holds nothing."""
    limiter.budgets = (Budget("team", Limits(day_pusd=100), "team"), Budget("other", Limits(day_pusd=9), "other"))
    caller = a_caller("one", "team", day_pusd=90, requests_per_minute=5, concurrency=2)
    lease = await begun(limiter, caller, a_hold(40))
    for _ in range(2):
        told = [(one.key_id, one.tag, one.measure, one.used, one.left) for one in await limiter.standing(NOW, caller)]
        assert told == [
            ("key_one", None, "day", 40, 50),
            ("key_one", None, "requests", 1, 4),
            ("key_one", None, "concurrency", 1, 1),
            (None, "team", "day", 40, 60),
        ]
    limiter.settle(lease, caller, ("team",), 1, Spent(30, 5, NOW))
    everything = await limiter.standing_of_all(NOW, {"key_one": Limits(month_pusd=20), "key_two": Limits()})
    assert [(one.budget, one.window, one.used, one.left) for one in everything] == [
        ("team", DAY, 30, 70),
        ("other", DAY, 0, 9),
        (None, MONTH, 30, 0),
    ]
    assert [one.budget for one in await limiter.standing(NOW, ANONYMOUS, ("other",))] == ["other"]


async def test_how_limits_stand_may_be_unknown(limiter):
    """While the store is lost, or what was spent before is not counted: never a number that is wrong."""
    caller = a_caller(day_pusd=9)
    with pytest.raises(BudgetStoreUnavailable, match=r"not known at the moment\. Try"):
        await Limiter(Lost()).standing(NOW, caller)
    limiter.uncounted = "the index is behind"
    with pytest.raises(BudgetStoreUnavailable, match="the index is behind"):
        await limiter.standing_of_all(NOW, {})


# its own parts


async def test_a_limiter_without_limits_is_one_process(monkeypatch):
    """What tests and small parts get that were given none."""
    limiter = unlimited()
    assert (limiter.budgets, limiter.uncounted, limiter.counters.problem) == ((), "", "")
    await begun(limiter, a_caller(day_pusd=10), a_hold(10))


async def test_of_many_at_once_no_more_pass_than_fit(limiter, counters):
    """However their attempts end: 2,000 requests that fight for three budgets, and at rest nothing is held."""
    import random

    draw = random.Random(3)
    limiter.budgets = (Budget("all", Limits(day_pusd=4_000)), Budget("t", Limits(day_pusd=2_000, concurrency=7), "t"))
    callers = [
        a_caller("one", "t", day_pusd=1_500, concurrency=4),
        a_caller("two", day_pusd=3_000),
        Caller("key_3", "three"),
    ]
    spent = dict.fromkeys(("a", "t:t", "k:key_one", "k:key_two", "k:key_3"), 0)
    running = []
    for _ in range(2_000):
        if running and draw.random() < 0.5:
            lease, caller, hold = running.pop(draw.randrange(len(running)))
            cost = draw.randrange(hold + 1)
            limiter.settle(lease, caller, tuple(caller.tags), 1, Spent(cost, 5, NOW))
            limiter.release(lease)
            for name in ("a", *[f"t:{tag}" for tag in caller.tags], f"k:{caller.key_id}"):
                spent[name] += cost
        caller, hold = draw.choice(callers), draw.randrange(1, 60)
        lease = limiter.lease(caller, ())
        try:
            await limiter.reserve(lease, 1, NOW, [Hold(hold, 5)])
        except (BudgetExhausted, RateLimited):
            continue
        running.append((lease, caller, hold))
        assert sum(one is callers[0] for _, one, _ in running) <= 4
        for name, most in (("a", 4_000), ("t:t", 2_000), ("k:key_one", 1_500), ("k:key_two", 3_000)):
            held = sum(
                hold
                for _, one, hold in running
                if name in {"a", f"k:{one.key_id}"} or (name == "t:t" and "t" in one.tags)
            )
            assert spent[name] + held <= most
    for lease, caller, _ in running:
        limiter.settle(lease, caller, tuple(caller.tags), 1, Spent(0, 5, NOW))
        limiter.release(lease)
    assert {name: used(counters, f"m:{name}:{DAY}") for name in spent} == {
        name: (one, 0) for name, one in spent.items()
    }
    assert spent["a"] > 3_900, "the play was too tame"
