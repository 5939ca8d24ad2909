"""Limits refuse what no counter can hold; days and months are UTC and end where the next begins."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from service.domain.limits import NO_LIMITS, PUSD_MAX, Budget, Limits, applying, day_of, end_of, month_of


@pytest.mark.parametrize(
    "wrong",
    [
        {"day_pusd": -1},
        {"month_pusd": PUSD_MAX + 1},
        {"requests_per_minute": 10**9 + 1},
        {"tokens_per_minute": 1.5},
        {"concurrency": True},
    ],
    ids=str,
)
def test_what_a_counter_can_not_hold_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be a whole number from 0"):
        Limits(**wrong)


def test_zero_is_a_limit_and_none_is_not() -> None:
    assert not NO_LIMITS.any
    assert not Limits(soft=True).any
    assert Limits(concurrency=0).any
    assert not Limits(concurrency=0).money
    assert Limits(day_pusd=0).hard_money
    assert not Limits(day_pusd=0, soft=True).hard_money


def test_a_budget_applies_to_its_tag_or_to_everybody() -> None:
    mine = Budget("mine", NO_LIMITS, tag="a")
    assert mine.applies_to(frozenset({"a", "b"}))
    assert not mine.applies_to(frozenset({"b"}))
    assert Budget("all", NO_LIMITS).applies_to(frozenset())


def test_days_are_utc_whatever_the_zone_of_the_instant() -> None:
    beijing = timezone(timedelta(hours=8))
    assert day_of(datetime(2026, 11, 22, 7, 59, tzinfo=beijing)) == "2026-11-21"
    assert day_of(datetime(2026, 11, 22, 8, 0, tzinfo=beijing)) == "2026-11-22"
    assert month_of("2026-11-22") == "2026-11"


@pytest.mark.parametrize(
    ("window", "after"),
    [
        ("2026-11-22", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2028-02-28", datetime(2028, 2, 29, tzinfo=UTC)),
        ("2026-11", datetime(2026, 12, 1, tzinfo=UTC)),
        ("2026-12", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2026-01", datetime(2026, 2, 1, tzinfo=UTC)),
    ],
)
def test_a_window_ends_where_the_next_begins(window: str, after: datetime) -> None:
    assert end_of(window) == after


def test_a_request_counts_against_the_budgets_of_its_key_and_of_what_it_says() -> None:
    everybody, hr, eu = Budget("all", NO_LIMITS), Budget("hr", NO_LIMITS, tag="hr"), Budget("eu", NO_LIMITS, tag="eu")
    budgets = (hr, everybody, eu)
    assert applying(budgets, frozenset()) == (everybody,)
    assert applying(budgets, frozenset({"hr"})) == (hr, everybody)
    assert applying(budgets, frozenset({"hr"}), ("eu", "other")) == budgets
    assert applying((), frozenset({"hr"}), ("eu",)) == ()


def test_limits_in_words_are_exact() -> None:
    assert NO_LIMITS.words() == ""
    assert Limits(soft=True).words() == ""
    assert Limits(day_pusd=0).words() == "0 USD/day"
    assert Limits(month_pusd=PUSD_MAX - 1).words() == "3999999.999999999999 USD/month"
    whole = Limits(5 * 10**12, 10**14, 60, 200_000, 8, soft=True)
    assert whole.words() == ("5 USD/day, 100 USD/month, 60 requests/minute, 200000 tokens/minute, 8 at once, soft")
