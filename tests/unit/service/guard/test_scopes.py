"""Whom limits are for, and which counters they are counted in."""

from __future__ import annotations

from datetime import UTC, datetime

from service.domain.access import ANONYMOUS, Caller
from service.domain.catalog import ProviderLimits
from service.domain.limits import Budget, Limits
from service.guard import scopes as module
from service.guard.counting import MINUTE_MS, MONEY, RATE, SLOTS, Counter
from service.guard.scopes import (
    KEPT,
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

DAY, MONTH = "2026-11-22", "2026-11"


def test_each_counter_has_its_measure_and_its_window():
    """In words of ours, whatever a tag is called."""
    day, month = spend_counters(None, ["2026-11-22:q"], DAY)[2:]
    words = [measure_of(one) for one in (day, month, Counter(RATE, "r:a:q"), Counter(RATE, "r:t:x:q:t"))]
    assert words == ["day", "month", "requests", "tokens"]
    assert measure_of(Counter(SLOTS, "c:a")) == "concurrency"
    assert [window_of(one) for one in (day, month, Counter(SLOTS, "c:t:2026-11"))] == [DAY, MONTH, ""]


def test_windows_end_some_days_after_they_are_over():
    """And are worked out once each, for few."""
    day, month = spend_counters(None, [], DAY)
    assert (day.kind, day.name, month.name) == (MONEY, f"m:a:{DAY}", f"m:a:{MONTH}")
    assert day.until_ms == int((datetime(2026, 11, 23, tzinfo=UTC) + KEPT).timestamp() * 1000)
    assert month.until_ms == int((datetime(2026, 12, 1, tzinfo=UTC) + KEPT).timestamp() * 1000)
    for number in range(400):
        spend_counters(None, [], f"{2027 + number // 12:04d}-{number % 12 + 1:02d}-01")
    assert len(module._ends) <= module.WINDOWS_REMEMBERED + 2
    assert spend_counters(None, [], DAY) == [day, month]


def test_a_scope_has_the_counters_of_its_limits_alone():
    """Money where spend of its key, its tag or everybody is counted; 0 is a limit too."""
    key = scope_of_key("key_1", Limits(day_pusd=5, month_pusd=0, requests_per_minute=0, concurrency=3))
    assert budgets_of(key, DAY) == list(zip(spend_counters("key_1", [], DAY)[2:], (5, 0), strict=True))
    assert rates_and_slots(key) == [(Counter(RATE, "r:k:key_1:q"), 0), (Counter(SLOTS, "c:k:key_1"), 3)]
    team = scope_of(Budget("b", Limits(month_pusd=7, tokens_per_minute=8), "team"))
    assert budgets_of(team, DAY) == [(spend_counters(None, ["team"], DAY)[3], 7)]
    assert rates_and_slots(team) == [(Counter(RATE, "r:t:team:t"), 8)]
    assert scope_of(Budget("b", Limits(day_pusd=1))).name == "a"


def test_a_request_is_under_its_key_and_the_budgets_of_all_its_tags():
    """Of its key and its own; nobody without a key has limits of one."""
    budgets = (Budget("all", Limits(day_pusd=1)), Budget("team", Limits(day_pusd=1), "team"))
    caller = Caller("key_1", "k", limits=Limits(day_pusd=2))
    assert [one.name for one in scopes_of(caller, ("team",), budgets)] == ["k:key_1", "a", "t:team"]
    assert [one.name for one in scopes_of(ANONYMOUS, (), budgets)] == ["a"]
    assert scopes_of(ANONYMOUS, (), ()) == ()


def test_an_account_has_counters_of_its_own():
    """For everybody's requests; what is allowed beyond what a counter holds is no less than that."""
    scope = scope_of_provider("alpha", ProviderLimits(3, None, 10**12))
    assert rates_and_slots(scope) == [(Counter(RATE, "r:p:alpha:t"), 10**9), (Counter(SLOTS, "c:p:alpha"), 3)]
    assert budgets_of(scope, DAY) == []
    assert ProviderLimits(concurrency=1).any
    assert not ProviderLimits().any


def test_a_full_bucket_is_a_minute_of_its_rate():
    """As the store counts it; all else is counted as it is."""
    assert full(Counter(RATE, "r:a:q"), 3) == 3 * MINUTE_MS
    assert full(Counter(SLOTS, "c:a"), 3) == 3
