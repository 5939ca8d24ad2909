"""The traffic of a journal under another policy: which decisions would come out otherwise, and what that would cost.

Where on the path: beside it; `coe replay --policy` runs it, `replay_tables` tells it. Nobody is called and nothing is
written.

Invariants
1. Every decision is in exactly one place: the same, changed, or left out with its reason. What they cost adds up to
   the ledger.
2. What was booked is computed again from its rows alone; a decision that stays as it was keeps that figure, exactly.
3. Only what would change is estimated, and it is told as that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from service.domain.catalog import Catalog
from service.domain.decision import QUALITY_STEPS, Candidate, Decision
from service.errors import CoeError
from service.ledger.sinks.port import Problem
from service.ledger.traffic import Attempted, Ended, Stray, Traffic
from service.routing.lengths import Lengths
from service.routing.off_policy import Judged, Sums
from service.routing.replay import NotReplayable, retake
from service.routing.repriced import expected_bill

EXAMPLES: Final = 3
"""Decisions of a group that are named."""

PROGRESS_EVERY: Final = 500
"""Decisions between two looks at the progress: about a quarter of a second."""

WRONG_SHOWN: Final = 10
"""Rows that don't come to what was booked and are named; the count is exact."""

UNREADABLE, DAMAGED, OLDER = "unreadable line", "damaged record", "record of an older form"
RUNNING, UNPRICED = "still running", "booked at an unknown price"
UNANSWERED, NO_PRICE = "changed, but nobody answered to the end", "changed, to an unknown price"
CACHED = "changed, but answered from the cache"
STRAY = "attempt without its decision"
REFUSED = "refused under the new policy"


class Retaken(NamedTuple):
    """A decision taken again: whom it chose, whom it would choose now, or why nobody knows.

    `chosen` is kept only where it is another one than `old`. `other`: it was taken with another registry than the one
    that the policy is laid over. `drawn`: a draw put somebody else than the old policy's own choice first. `judged` is
    what was said of the answer, if anything was.
    """

    id: str
    intent: str
    old: str
    new: str | None
    chosen: Candidate | None
    choices: int
    left_out: str | None
    other: bool
    drawn: bool = False
    judged: Judged | None = None


@dataclass(slots=True)
class Group:
    """Decisions that would go from one deployment to another, of one intent. Money is pico-USD."""

    count: int = 0
    old_pusd: int = 0
    new_pusd: int = 0
    low_pusd: int = 0
    high_pusd: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class LeftOut:
    """How many were left out for a reason, and what they cost."""

    count: int = 0
    pusd: int = 0


@dataclass(slots=True)
class Books:
    """All attempts: what was booked, what the rows come to by themselves, and the rows where that is not the same."""

    attempts: int = 0
    booked_pusd: int = 0
    again_pusd: int = 0
    unpriced: int = 0
    simulated: int = 0
    differing: int = 0
    told: list[str] = field(default_factory=list)

    def add(self, one: Attempted) -> None:
        """Count an attempt."""
        self.attempts += 1
        self.simulated += one.simulated
        self.booked_pusd += one.booked_pusd or 0
        self.again_pusd += one.again_pusd or 0
        self.unpriced += one.booked_pusd is None and one.state != "open"
        if one.state != "open" and (one.wrong is not None or one.booked_pusd != one.again_pusd):
            self.differing += 1
            if len(self.told) < WRONG_SHOWN:
                why = one.wrong or f"booked {one.booked_pusd}, computed again {one.again_pusd}"
                self.told.append(f"{one.deployment}: {why}")


@dataclass(slots=True)
class Rate:
    """How many there are, and how many of them were judged."""

    count: int = 0
    judged: int = 0


@dataclass(slots=True)
class Comparison:
    """What came of all of it. `same_pusd` is what the decisions cost that stay as they were.

    `elsewhere` are judged answers that were not of the choice: another model's, or the cache's.
    """

    decisions: int = 0
    same: int = 0
    same_pusd: int = 0
    other_registry: int = 0
    uncounted: int = 0
    elsewhere: int = 0
    groups: dict[tuple[str, str, str], Group] = field(default_factory=dict)
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    books: Books = field(default_factory=Books)
    sums: Sums = field(default_factory=Sums)
    own: Rate = field(default_factory=Rate)
    drawn: Rate = field(default_factory=Rate)

    @property
    def changed(self) -> int:
        """Decisions that would come out otherwise, and whose cost was estimated."""
        return sum(group.count for group in self.groups.values())

    @property
    def old_pusd(self) -> int:
        """What the compared decisions cost."""
        return self.same_pusd + sum(group.old_pusd for group in self.groups.values())

    def new_pusd(self, bound: str = "new_pusd") -> int:
        """What they would have cost; `low_pusd` and `high_pusd` are the bounds."""
        return self.same_pusd + sum(int(getattr(group, bound)) for group in self.groups.values())

    def leave_out(self, reason: str, pusd: int = 0, count: int = 1) -> None:
        """Count what is not compared."""
        found = self.left_out.setdefault(reason, LeftOut())
        found.count += count
        found.pusd += pusd


class Retaker:
    """Takes records again with a new registry: with that of several forms which the old one had then."""

    def __init__(
        self,
        old: Sequence[Catalog],
        new: Sequence[Catalog],
        lengths: Lengths | None,
        scores: Mapping[str, float] | None = None,
    ) -> None:
        """`new[i]` is what becomes of `old[i]`; those differ in the keys that are there.

        `scores` are those of judged answers, by the id of the decision.
        """
        self._scores = scores or {}
        self._places = {catalog.offer: place for place, catalog in reversed(list(enumerate(old)))}
        self._old, self._new, self._lengths = old, new, lengths

    def take(self, told: Mapping[str, Any]) -> Retaken:
        """One record."""
        versions = told.get("versions")
        offer = versions.get("offer") if isinstance(versions, dict) else None
        place, name, old = self._places.get(str(offer)), str(told.get("id"))[:64], str(told.get("chosen"))
        other = place is None
        catalog = self._new[self._likely(old) if place is None else place]
        try:
            again = retake(told, catalog, self._lengths)
        except NotReplayable as problem:
            return Retaken(name, "", old, None, None, 1, OLDER if problem.differing else DAMAGED, other)
        except CoeError as problem:
            return Retaken(name, "", old, None, None, 1, f"{REFUSED}: {problem.code}", other)
        new, choices = again.ranked.deployment(0).id, again.features.n
        chosen = None if new == old else again.chosen
        own = _own(told)
        judged = self._judged(told, own, again)
        return Retaken(name, again.intent.told, old, new, chosen, choices, None, other, own[0] != old, judged)

    def _judged(self, told: Mapping[str, Any], own: Sequence[str], again: Decision) -> Judged | None:
        """What the score of a decision's answer says of the new policy's own choice; `None` where nobody judged."""
        score, chance = self._scores.get(str(told.get("id"))), told.get("propensity")
        if score is None or isinstance(chance, bool) or not isinstance(chance, int | float) or not 0 < chance <= 1:
            return None
        rank = 1 if again.draw is not None and again.draw.place else 0
        new = model_of(again.ranked.deployment(rank).id)
        expected = again.ranked.qualities[again.ranked.order[rank]] / QUALITY_STEPS
        agrees, covered = new == model_of(str(told.get("chosen"))), new in map(model_of, own)
        return Judged(score, float(chance), agrees, expected, covered, new != model_of(own[0]))

    def _likely(self, chosen: str) -> int:
        """Which form of the registry a decision of other versions was taken with: one that could call its choice."""
        for place, catalog in enumerate(self._old):
            found = catalog.by_id.get(chosen)
            if found is not None and found.inactive_reason is None and found.provider.active:
                return place
        return 0


def _own(told: Mapping[str, Any]) -> Sequence[str]:
    """Whom the old policy would have chosen by itself, and who else could have been drawn."""
    draw = told.get("draw")
    among = draw.get("among") if isinstance(draw, dict) else None
    return among if isinstance(among, list) and among else [str(told.get("chosen"))]


def model_of(deployment: str) -> str:
    """The model of `provider/model`: how good an answer is does not depend on the host."""
    return str(deployment).partition("/")[2]


def compare(traffic: Traffic[Retaken], show: Callable[[int, int], None]) -> Comparison:
    """Go through a journal; `show` is told of bytes (read, whole) now and then. Raises OSError."""
    found = Comparison()
    for one in traffic:
        if isinstance(one, Problem):
            found.leave_out(UNREADABLE)
        elif isinstance(one, Stray):
            found.books.add(one.attempt)
            found.leave_out(STRAY, one.attempt.booked_pusd or 0)
        else:
            _judge(one, found)
            if found.decisions % PROGRESS_EVERY == 0:
                show(traffic.read_bytes, traffic.whole_bytes)
    if found.decisions >= PROGRESS_EVERY:
        show(traffic.whole_bytes, traffic.whole_bytes)
    return found


def _judge(one: Ended[Retaken], found: Comparison) -> None:
    """Put a decision where it belongs."""
    retaken, attempts = one
    found.decisions += 1
    found.other_registry += retaken.other
    rate = found.drawn if retaken.drawn else found.own
    rate.count += 1
    if retaken.judged is not None and not _is_of_choice(retaken.old, attempts):
        found.elsewhere += 1
    elif retaken.judged is not None:
        rate.judged += 1
        found.sums.add(retaken.judged)
    for attempt in attempts:
        found.books.add(attempt)
    cost = sum(attempt.booked_pusd or 0 for attempt in attempts)
    reason = retaken.left_out or _unclear(attempts)
    if reason is not None:
        found.leave_out(reason, cost)
    elif retaken.chosen is None:
        found.same += 1
        found.same_pusd += cost
    else:
        _change(retaken, retaken.chosen, attempts, cost, found)


def _is_of_choice(chosen: str, attempts: Sequence[Attempted]) -> bool:
    """Whether an answer is of the model that was chosen: after a fallback, or from the cache, its score is not."""
    return not attempts or (not attempts[-1].cached and model_of(attempts[-1].deployment) == model_of(chosen))


def _unclear(attempts: Sequence[Attempted]) -> str | None:
    """Why nobody knows what a decision cost."""
    if any(attempt.state == "open" for attempt in attempts):
        return RUNNING
    return UNPRICED if any(attempt.booked_pusd is None for attempt in attempts) else None


def _change(retaken: Retaken, chosen: Candidate, attempts: Sequence[Attempted], cost: int, found: Comparison) -> None:
    if any(attempt.cached for attempt in attempts):
        found.leave_out(CACHED, cost)
        return
    answered = [attempt for attempt in attempts if attempt.final and attempt.answered]
    if not answered:
        found.leave_out(UNANSWERED, cost)
        return
    counted = answered[-1].input_tokens
    bill = expected_bill(chosen, retaken.choices, counted)
    if bill is None:
        found.leave_out(NO_PRICE, cost)
        return
    found.uncounted += counted is None
    group = found.groups.setdefault((retaken.old, str(retaken.new), retaken.intent), Group())
    group.count += 1
    group.old_pusd += cost
    group.new_pusd += bill.pusd
    group.low_pusd += bill.low_pusd
    group.high_pusd += bill.high_pusd
    if len(group.examples) < EXAMPLES:
        group.examples.append(retaken.id)
