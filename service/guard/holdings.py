"""What this process has in each counter: settled, held, and what of it the store does not know yet. Pure.

Where on the path: below `counters`, which speaks; `limits` settles and gives back through it.

Invariants
1. What is told is absolute: a message that was lost needs no care but that its counters are told again.
2. A grant counts from the moment it is heard of; whoever no longer waits for it gives it back at once.
3. Counters whose window is over are forgotten once nothing is held in them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from service.guard.counting import MONEY, RATE, SLOTS, Ask, Counter, Line, Share

SHARES_PER_MESSAGE = 256
"""A message of so many counters takes Redis about a millisecond: others wait no longer."""


@dataclass(slots=True)
class _Own:
    """As `Share`; of a rate, `held` is the correction that is still to be told."""

    counter: Counter
    settled: int = 0
    held: int = 0
    known: bool = False
    limit: int = 0


class Holdings:
    """The shares of one member."""

    def __init__(self) -> None:
        """Nothing is held."""
        self._own: dict[str, _Own] = {}
        self._changed: dict[str, None] = {}  # in the order of change

    def granted(self, line: Line) -> None:
        """A line was taken. The store knows, so there is nothing to tell; of a rate there is nothing to keep either."""
        if line.counter.kind != RATE:
            own = self._of(line.counter)
            own.known = True
            own.held += line.amount

    def settled(self, counter: Counter, pusd: int) -> None:
        """Money was spent."""
        if pusd:
            self._of(counter).settled += pusd
            self._changed[counter.name] = None

    def give_back(self, line: Line) -> None:
        """What was granted is held no more; of a rate, nothing: that was used, whatever came of it."""
        if line.counter.kind != RATE:
            self._of(line.counter).held -= line.amount
            self._changed[line.counter.name] = None

    def correct(self, line: Line, amount: int) -> None:
        """A rate was used by another amount than asked for; negative: less."""
        if amount:
            own = self._of(line.counter)
            own.held += amount
            own.limit = line.limit
            self._changed[line.counter.name] = None

    def doubt(self, counter: Counter) -> None:
        """The store may think otherwise of a counter: tell it again."""
        if counter.kind != RATE:
            self._of(counter)
            self._changed[counter.name] = None

    def doubt_all(self) -> None:
        """The store may know nothing: tell it everything. Corrections of rates are let go, they matter for a minute."""
        self._changed.clear()
        for name, own in tuple(self._own.items()):
            if own.counter.kind == RATE:
                del self._own[name]
                continue
            # Also where there is nothing of it: the store may have granted what was never heard of.
            own.known = False
            self._changed[name] = None

    def news(self, most: int = SHARES_PER_MESSAGE) -> list[Share]:
        """What the store does not know yet; `told` when it has taken it."""
        shares: list[Share] = []
        for name in self._changed:
            if len(shares) == most:
                break
            own = self._own[name]
            shares.append(Share(own.counter, own.settled, own.held, own.known, own.limit))
        return shares

    def told(self, shares: list[Share]) -> None:
        """The store has taken these. What changed meanwhile stays to be told."""
        for share in shares:
            own = self._own.get(share.counter.name)
            if own is None:  # it was over, and forgotten while the message was on its way
                continue
            self._changed.pop(share.counter.name, None)
            if share.counter.kind == RATE:
                own.held -= share.held
                if not own.held:
                    del self._own[share.counter.name]
                    continue
            else:
                own.known = True
                if (own.settled, own.held) == (share.settled, share.held):
                    continue
            self._changed[share.counter.name] = None  # behind those that wait already

    def known(self, asks: Iterable[Ask]) -> set[str]:
        """The counters of money of these asks, by name, that the store was told of before."""
        names = {line.counter.name for ask in asks for lines in ask for line in lines if line.counter.kind == MONEY}
        return {name for name in names if (own := self._own.get(name)) is not None and own.known}

    @property
    def pending(self) -> int:
        """How many counters there is something to tell of."""
        return len(self._changed)

    def forget(self, now_ms: int) -> None:
        """Let go of windows that are over and of slots that nobody holds."""
        for name, own in tuple(self._own.items()):
            over = own.counter.kind == MONEY and own.counter.until_ms <= now_ms
            idle = own.counter.kind == SLOTS and name not in self._changed
            if (over or idle) and not own.held:
                del self._own[name]
                self._changed.pop(name, None)

    def share(self, counter: Counter) -> Share:
        """What is held and settled in a counter."""
        own = self._own.get(counter.name)
        return Share(counter, 0, 0) if own is None else Share(counter, own.settled, own.held, own.known)

    def _of(self, counter: Counter) -> _Own:
        own = self._own.get(counter.name)
        if own is None:
            own = self._own[counter.name] = _Own(counter)
        return own
