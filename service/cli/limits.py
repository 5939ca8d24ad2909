"""The options that say what a key may spend and ask for, and how its limits are told.

Where on the path: `coe keys create` and `coe keys limit` take them, `coe keys list` tells them.

Invariant: an amount is read exactly as it is written, as a decimal and never as a float; what is no amount is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, TypedDict

import click

from service.domain.limits import CONCURRENCY_MAX, PER_MINUTE_MAX, PUSD_MAX, Limits
from service.domain.money import PICO, pusd_from_usd, usd_text
from service.errors import InvalidRequest

NONE: Final = "none"
"""What takes a limit away."""

_USD = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,12})?")
_WHOLE = re.compile(r"[0-9]{1,15}")


class Said(TypedDict):
    """What the options said, as click hands it over; `None` is nothing said."""

    usd_per_day: str | None
    usd_per_month: str | None
    requests_per_minute: str | None
    tokens_per_minute: str | None
    concurrency: str | None


_MONEY: Final[Mapping[str, str]] = {"usd_per_day": "day_pusd", "usd_per_month": "month_pusd"}
"""The field of `Limits` that each amount is kept in."""

_COUNTS: Final[Mapping[str, int]] = {
    "requests_per_minute": PER_MINUTE_MAX,
    "tokens_per_minute": PER_MINUTE_MAX,
    "concurrency": CONCURRENCY_MAX,
}
"""The other options, named as their fields, with the most that each may be."""


def limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say limits."""
    options = (
        click.option("--usd-per-day", metavar="USD", help="Most it may spend in a UTC day: 5, 0.25; none: no limit."),
        click.option("--usd-per-month", metavar="USD", help="Most it may spend in a UTC month, in the same form."),
        click.option("--requests-per-minute", metavar="N", help="Requests in a minute; none: no limit."),
        click.option("--tokens-per-minute", metavar="N", help="Tokens in a minute, input and output together."),
        click.option("--concurrency", metavar="N", help="Requests at the same time."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def changed(limits: Limits, said: Said, soft: bool | None) -> Limits:  # noqa: FBT001 # the third state is what it is about
    """Limits with what the options said put in its place; `None` leaves it as it was.

    Raises `InvalidRequest` for what is no amount and no number.
    """
    given: dict[str, Any] = {} if soft is None else {"soft": soft}
    for option, text in said.items():
        if isinstance(text, str):
            given[_MONEY.get(option, option)] = None if text == NONE else _read(option, text)
    return replace(limits, **given)


def _read(option: str, text: str) -> int:
    """An amount in pico-USD, or a count."""
    if option in _MONEY:
        if _USD.fullmatch(text) and (pusd := pusd_from_usd(Decimal(text))) <= PUSD_MAX:
            return pusd
        wanted = f"an amount in USD of at most {PUSD_MAX // PICO} with at most 12 decimals, such as 5 or 0.25"
    else:
        if _WHOLE.fullmatch(text) and int(text) <= _COUNTS[option]:
            return int(text)
        wanted = f"a whole number from 0 to {_COUNTS[option]}"
    flag = option.replace("_", "-")
    raise InvalidRequest(f"--{flag} takes {wanted}; or {NONE}, for no limit.", param=option)


def limits_row(limits: Limits) -> dict[str, object]:
    """Limits as JSON has them: amounts as exact decimals, `None` where there is no limit."""
    money = {option: getattr(limits, name) for option, name in _MONEY.items()}
    told: dict[str, object] = {option: None if pusd is None else usd_text(pusd) for option, pusd in money.items()}
    return {**told, **{option: getattr(limits, option) for option in _COUNTS}, "soft": limits.soft}
