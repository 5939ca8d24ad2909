"""What one request holds of its limits, and what it may use: the values that go in and out of `limits`.

Where on the path: `settling` and `attempting` carry them; `limits` fills a lease.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from service.domain.decision import Candidate
from service.guard.counting import Counter, Line
from service.guard.scopes import Scope


class VendorFull(Exception):
    """A vendor's account has no room for one more at the moment; perhaps in `for_s` seconds."""

    def __init__(self, for_s: float) -> None:
        """`for_s` is when to look again at the earliest."""
        super().__init__(f"full for {for_s} s")
        self.for_s = for_s


@dataclass(frozen=True, slots=True)
class Hold:
    """What one attempt may use: its worst cost in pico-USD, 0 where the price is unknown, and its expected tokens."""

    pusd: int
    tokens: int

    @classmethod
    def of(cls, candidate: Candidate) -> Hold:
        """What a candidate may use."""
        tokens = candidate.input_tokens + candidate.output_tokens + candidate.reasoning_tokens
        return cls(candidate.reserved_pusd or 0, tokens)

    @property
    def nothing(self) -> bool:
        """Whether nobody is to be called. Whoever is sent anything is sent a token."""
        return not (self.pusd or self.tokens)


Over = tuple[Counter, str | None]
"""A soft limit: its counter, and the budget of the registry that it is of."""


@dataclass(slots=True)
class Lease:
    """What one request holds.

    `money` has the lines of each attempt that runs, by number, `slots` those of the request; `tokens` are the rates of
    tokens, and `guessed` while what they were filled with is still to be corrected. `told` is how messages call whom a
    counter is for, `marks` are for `x-coe-degraded`, `headers` for the response. `over` are the soft limits that are
    exceeded: the counter, and the registry's name of the budget, `None` where the limit is the key's own. `vendors` has
    the lines of each attempt that runs against what a vendor's account allows.
    """

    scopes: tuple[Scope, ...]
    begun: bool = False
    money: dict[int, tuple[Line, ...]] = field(default_factory=dict)
    slots: tuple[Line, ...] = ()
    tokens: tuple[Line, ...] = ()
    guessed: bool = False
    told: dict[Counter, str] = field(default_factory=dict)
    marks: set[str] = field(default_factory=set)
    over: set[Over] = field(default_factory=set)
    headers: dict[str, str] = field(default_factory=dict)
    vendors: dict[int, tuple[Line, ...]] = field(default_factory=dict)

    @property
    def hard_money(self) -> bool:
        """Whether a budget stands over it that refuses."""
        return any(scope.limits.hard_money for scope in self.scopes)

    @property
    def hard_tags(self) -> set[str | None]:
        """The tags of budgets that stand over it and refuse."""
        return {scope.tag for scope in self.scopes if scope.limits.hard_money}

    @property
    def stops(self) -> bool:
        """Whether a budget stands over it at which streams are to be stopped."""
        return any(scope.stop for scope in self.scopes)


@dataclass(frozen=True, slots=True)
class Spent:
    """What an attempt came to: pico-USD, tokens in and out, and the instant at which it was opened."""

    pusd: int
    tokens: int
    at: datetime
