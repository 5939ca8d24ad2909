"""The built-in calendar: which days, how long, in which zone."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from service.catalog.calendars import CALENDARS, CHINA, CN_HOLIDAYS


def test_chinese_public_holidays_of_2026() -> None:
    """33 days: New Year 3, Spring Festival 9, Qingming 3, Labour Day 5, Dragon Boat 3, Mid-Autumn 3, National Day 7."""
    by_month = Counter(day.month for day in CN_HOLIDAYS.days)
    assert by_month == {1: 3, 2: 9, 4: 3, 5: 5, 6: 3, 9: 3, 10: 7}
    for inside in (date(2026, 1, 1), date(2026, 2, 15), date(2026, 2, 23), date(2026, 5, 5), date(2026, 10, 7)):
        assert inside in CN_HOLIDAYS.days
    for outside in (date(2026, 1, 4), date(2026, 2, 14), date(2026, 2, 24), date(2026, 5, 6), date(2026, 10, 8)):
        assert outside not in CN_HOLIDAYS.days


def test_it_speaks_about_2026_only() -> None:
    """`until` is the last day that the list knows; no day is listed after it."""
    assert CN_HOLIDAYS.until == date(2026, 12, 31)
    assert max(CN_HOLIDAYS.days) <= CN_HOLIDAYS.until
    assert CALENDARS == {"cn-holidays": CN_HOLIDAYS}


def test_the_fixed_offset_is_the_zone() -> None:
    """Asia/Shanghai by the database and our offset agree on every day of the list's years."""
    shanghai = ZoneInfo("Asia/Shanghai")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for day in range(730):
        at = start + timedelta(days=day)
        assert at.astimezone(CHINA).utcoffset() == at.astimezone(shanghai).utcoffset()
