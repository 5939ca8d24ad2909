"""What keys have spent of their budgets today and this month, and what is left: from the ledger of a data directory.

Where on the path: beside it. `coe keys list` shows it beside the limits.

Invariants
1. Days and months are UTC, and an attempt counts in those in which it was opened: as budgets count.
2. What can't be known is shown as unknown, never as 0. No ledger yet is nothing spent.
3. It is what went through this data directory and has ended: neither what other replicas spent nor what is reserved
   now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import click

from service.cli.costs import update
from service.cli.settings import ledger_sink
from service.domain.limits import Limits, day_of, month_of
from service.domain.money import usd_text
from service.errors import ConfigurationError
from service.ledger.segments import journal_dir, list_segments
from service.ledger.sinks.port import SinkFault, SinkMissing

UNKNOWN: Final = "?"


@dataclass(frozen=True, slots=True)
class Spend:
    """What a key has spent on a day and in its month, in pico-USD."""

    day_pusd: int = 0
    month_pusd: int = 0


NOTHING: Final = Spend()


def spent_by_key(data_dir: Path, at: datetime) -> Mapping[str, Spend] | None:
    """Key id -> what it spent on the day and in the month of `at`; who spent nothing is not in it.

    `None` when the ledger can't tell; why is on stderr then.
    """
    sink, today = ledger_sink(data_dir), day_of(at)
    month = month_of(today)
    since = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
    found: dict[str, Spend] = {}
    try:
        if list_segments(journal_dir(data_dir)):
            update(data_dir, sink)
        for row in sink.spent(int(since.timestamp() * 1000)):
            if row.key_id is not None and month_of(row.day) == month and not row.simulated:
                before = found.get(row.key_id, NOTHING)
                on_day = row.pusd if row.day == today else 0
                found[row.key_id] = Spend(before.day_pusd + on_day, before.month_pusd + row.pusd)
    except SinkMissing:
        return {}
    except (SinkFault, ConfigurationError, OSError) as problem:
        why = (problem.strerror if isinstance(problem, OSError) else str(problem)) or type(problem).__name__
        click.echo(f"Note: what was spent is not known: the ledger's index can't be used ({why}).", err=True)
        return None
    return found


def spend_row(limits: Limits, spend: Spend | None) -> dict[str, str | None]:
    """Spend and what is left as JSON has them, exact decimals; `None`: unknown, no such limit, or no budget at all."""
    if spend is None or not limits.money:
        spent: tuple[int | None, ...] = (None, None)
        left: tuple[int | None, ...] = (None, None)
    else:
        spent = (spend.day_pusd, spend.month_pusd)
        left = (_left(limits.day_pusd, spend.day_pusd), _left(limits.month_pusd, spend.month_pusd))
    names = ("spent_day_usd", "spent_month_usd", "left_day_usd", "left_month_usd")
    return {name: None if pusd is None else usd_text(pusd) for name, pusd in zip(names, (*spent, *left), strict=True)}


def spend_cells(limits: Limits, spend: Spend | None) -> tuple[str, str]:
    """Today and this month for the table: `1.25 USD, 3.75 left`."""
    if not limits.money:
        return "-", "-"
    if spend is None:
        return UNKNOWN, UNKNOWN
    return _cell(limits.day_pusd, spend.day_pusd), _cell(limits.month_pusd, spend.month_pusd)


def _cell(limit: int | None, spent: int) -> str:
    left = _left(limit, spent)
    return f"{usd_text(spent)} USD" + ("" if left is None else f", {usd_text(left)} left")


def _left(limit: int | None, spent: int) -> int | None:
    """What of a limit is left; 0 where more was spent, under a soft one."""
    return None if limit is None else max(0, limit - spent)
