"""Built-in calendars: days on which a price window does not apply.

Where on the path: `price_book` resolves `except: <name>` first among the file's own calendars, then here.

A calendar speaks about days up to and including `until`. After that day it excepts nothing, so that a window then
applies on every day of the week it names: a peak price may be stated too high on a holiday, never too low. `check`
warns 60 days ahead. To extend a calendar before a release does, write it under `calendars:` in providers.yaml; an
entry of the same name replaces the built-in one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta, timezone

from service.domain.prices import Calendar

CHINA = timezone(timedelta(hours=8), "Asia/Shanghai")
"""China has had one zone without summer time since 1991; a fixed offset needs no time zone database."""

# Days off of 2026 as announced by the General Office of the State Council (notice on the arrangement of public holidays
# in 2026, published in November 2025). Weekends inside the spans are listed too; make-up working days on other weekends
# are not, as the windows that use this calendar name Monday to Friday only.
# The notice for 2027 is not in the list: the spans of a year can't be derived from its statutory days.
_CHINA_2026 = (
    (date(2026, 1, 1), date(2026, 1, 3)),  # New Year
    (date(2026, 2, 15), date(2026, 2, 23)),  # Spring Festival
    (date(2026, 4, 4), date(2026, 4, 6)),  # Qingming
    (date(2026, 5, 1), date(2026, 5, 5)),  # Labour Day
    (date(2026, 6, 19), date(2026, 6, 21)),  # Dragon Boat Festival
    (date(2026, 9, 25), date(2026, 9, 27)),  # Mid-Autumn Festival
    (date(2026, 10, 1), date(2026, 10, 7)),  # National Day
)


def _days(spans: tuple[tuple[date, date], ...]) -> Iterator[date]:
    """Every day of the spans, both ends included."""
    for first, last in spans:
        for offset in range((last - first).days + 1):
            yield first + timedelta(days=offset)


CN_HOLIDAYS = Calendar(
    name="cn-holidays",
    zone=CHINA,
    days=frozenset(_days(_CHINA_2026)),
    until=date(2026, 12, 31),
)
"""Public holidays of the People's Republic of China, 2026."""

CALENDARS = {CN_HOLIDAYS.name: CN_HOLIDAYS}
"""Every built-in calendar by name."""
