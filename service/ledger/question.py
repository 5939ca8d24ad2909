"""What somebody asks of the ledger, from words to values: groupings, instants, a format. Pure functions.

Where on the path: beside it. The command line and the admin API read the same words with it.

Invariants
1. What makes no sense is refused with the name of the field and with what to write instead.
2. Instants are UTC where no zone is given; a day means all of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from service.ledger.focus import FOCUS_GROUPING, FOCUS_WITHOUT
from service.ledger.render import FORMATS
from service.ledger.reports import DEFAULT_GROUPING
from service.ledger.sinks.port import GROUPINGS

AGO_MAX_DAYS: Final = 36_500
"""A hundred years: a longer time ago is a typing error."""

BY_CHARACTERS_MAX: Final = 200
"""Every grouping at once takes fewer."""

_AGO: Final = re.compile(r"(?P<count>[0-9]{1,7})(?P<unit>[mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Unclear(ValueError):
    """A word that makes no sense; `param` is the field that it stands in: by, since, until or format."""

    def __init__(self, param: str, message: str) -> None:
        """`message` says what to write instead."""
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be added up: groupings, a range [since, until) of aware instants, and how it is to be shown.

    `savings`: what was saved against every baseline, instead of what was spent.
    """

    by: tuple[str, ...] = DEFAULT_GROUPING
    since: datetime | None = None
    until: datetime | None = None
    shape: str = "table"
    savings: bool = False


def read_question(by: str | None, since: str | None, until: str | None, shape: str, now: datetime) -> Question:
    """The question that these words mean; `None` is a field that was not given. Raises Unclear."""
    if shape not in FORMATS:
        raise Unclear("format", f"{shape[:50]!r} is no format. Choose from {', '.join(sorted(FORMATS))}.")
    grouping = DEFAULT_GROUPING if by is None else read_grouping(by)
    if shape == "focus":
        grouping = _focus_grouping(() if by is None else grouping)
    start = None if since is None else read_moment("since", since, now, is_end=False)
    end = None if until is None else read_moment("until", until, now, is_end=True)
    if start is not None and end is not None and start >= end:
        raise Unclear("since", "since must be before until: this range is empty.")
    return Question(grouping, start, end, shape)


def read_grouping(by: str) -> tuple[str, ...]:
    """The groupings of a list with commas, each once; raises Unclear that names the known ones."""
    if len(by) > BY_CHARACTERS_MAX:
        raise Unclear("by", f"that is longer than {BY_CHARACTERS_MAX} characters. Name each grouping once.")
    names = tuple(dict.fromkeys(name.strip() for name in by.split(",")))
    for name in names:
        if name not in GROUPINGS:
            raise Unclear("by", f"{name!r} is not something to group by. Choose from {', '.join(GROUPINGS)}.")
    return names


def read_moment(param: str, text: str, now: datetime, *, is_end: bool) -> datetime:
    """The instant that is meant, in UTC where no zone is given; raises Unclear.

    A day (`2026-11-01`) is its first instant, or the first instant after it when `is_end`. `7d` is so long before now.
    """
    ago = _AGO.fullmatch(text)
    try:
        if ago:
            span = timedelta(**{_UNITS[ago["unit"]]: int(ago["count"])})
            if span > timedelta(days=AGO_MAX_DAYS):
                raise ValueError("that is more than a hundred years ago")
            return now - span
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            day = datetime.combine(date.fromisoformat(text), time(), UTC)
            return day + timedelta(days=1) if is_end else day
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as problem:
        what = f"{text[:50]!r} is no date ({str(problem)[:100]})."
        raise Unclear(param, f"{what} Write 2026-11-01, 2026-11-01T08:00Z, or 30m, 24h, 7d, 4w.") from problem


def _focus_grouping(more: tuple[str, ...]) -> tuple[str, ...]:
    """The groupings of a FOCUS report: its own, then those that were asked for."""
    for name in more:
        if name in FOCUS_WITHOUT:
            raise Unclear("by", f"a FOCUS report can't be by {name}: {FOCUS_WITHOUT[name]}")
    return tuple(dict.fromkeys((*FOCUS_GROUPING, *more)))
