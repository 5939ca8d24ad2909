"""What a key, a tag, or everybody together may spend and ask for. Frozen values and the calendar of budgets.

Where on the path: keys and the registry carry `Limits`; `guard.limits` holds requests against them.

Invariants
1. Money is integer pico-USD. `None` is no limit; 0 is a limit that nothing fits under.
2. A day and a month are UTC. What was reserved in one is settled in the same one, whenever it ends.
3. A soft limit never refuses: what goes over it is told. A hard one is never overspent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from service.domain.money import usd_text

PUSD_MAX: Final = 4_000_000 * 10**12
"""The largest budget, 4 million USD: one and a reservation as large still fit a 64-bit counter together."""

PER_MINUTE_MAX: Final = 10**9
"""The largest rate: with it a counter of rates stays within the integers that a double holds exactly."""

CONCURRENCY_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be spent and asked for; `None` is no limit.

    `day_pusd` and `month_pusd` are pico-USD per UTC day and month. Rates are per minute, tokens are input and output
    together. `concurrency` is requests at the same time. `soft` budgets and limits are counted and told, never refused.
    """

    day_pusd: int | None = None
    month_pusd: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    soft: bool = False

    def __post_init__(self) -> None:
        """Refuse what a counter can't hold."""
        for name, most in _MOST.items():
            value = getattr(self, name)
            if value is not None and (type(value) is not int or not 0 <= value <= most):
                raise ValueError(f"{name} must be a whole number from 0 to {most}, got {value!r}")

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return any(getattr(self, name) is not None for name in _MOST)

    @property
    def money(self) -> bool:
        """Whether there is a budget."""
        return self.day_pusd is not None or self.month_pusd is not None

    @property
    def hard_money(self) -> bool:
        """Whether there is a budget that refuses: a model without a price can't be held under it."""
        return self.money and not self.soft

    def words(self) -> str:
        """The limits for people, exact: `5 USD/day, 60 requests/minute, soft`; empty when there is none."""
        if not self.any:
            return ""
        money = ((self.day_pusd, "day"), (self.month_pusd, "month"))
        found = [f"{usd_text(pusd)} USD/{window}" for pusd, window in money if pusd is not None]
        rates = ((self.requests_per_minute, "requests"), (self.tokens_per_minute, "tokens"))
        found += [f"{most} {noun}/minute" for most, noun in rates if most is not None]
        if self.concurrency is not None:
            found.append(f"{self.concurrency} at once")
        return ", ".join([*found, "soft"] if self.soft else found)


_MOST: Final[Mapping[str, int]] = {
    "day_pusd": PUSD_MAX,
    "month_pusd": PUSD_MAX,
    "requests_per_minute": PER_MINUTE_MAX,
    "tokens_per_minute": PER_MINUTE_MAX,
    "concurrency": CONCURRENCY_MAX,
}

NO_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Budget:
    """One entry of the registry's `budgets`: limits that all requests with a tag share, or all requests at all.

    `tag` is `None` for everybody. A request has the tags of its key and those it says itself. `stop`: its streams are
    ended where what was reserved for them is used up, whatever their vendors do.
    """

    name: str
    limits: Limits
    tag: str | None = None
    stop: bool = False

    def applies_to(self, tags: frozenset[str]) -> bool:
        """Whether a request with these tags counts against it."""
        return self.tag is None or self.tag in tags


def applying(budgets: tuple[Budget, ...], key_tags: frozenset[str], said: Iterable[str] = ()) -> tuple[Budget, ...]:
    """The budgets that a request counts against, in the order of the registry.

    `key_tags` are those of the caller's key, `said` those that the request says itself.
    """
    if not budgets:
        return ()  # as in most registries
    tags = key_tags.union(said)
    return tuple([one for one in budgets if one.applies_to(tags)])


def day_of(at: datetime) -> str:
    """The UTC day of an instant, `YYYY-MM-DD`."""
    return at.astimezone(UTC).strftime("%Y-%m-%d")


def month_of(day: str) -> str:
    """The month of a day, `YYYY-MM`."""
    return day[:7]


def end_of(window: str) -> datetime:
    """The first instant after a day or a month."""
    if len(window) == len("YYYY-MM-DD"):
        return datetime.fromisoformat(window).replace(tzinfo=UTC) + timedelta(days=1)
    first = datetime.fromisoformat(f"{window}-01").replace(tzinfo=UTC)
    return (first + timedelta(days=32)).replace(day=1)
