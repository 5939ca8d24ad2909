"""The traffic that a journal holds, read back: each decision with what came of it, in bounded memory.

Where on the path: beside it; `coe replay --policy` reads it. The journal itself is read, not its index, beside whoever
writes it.

A decision's rows stand behind it, mixed with those of others, and may end much later. So a decision is kept, as the few
values that the reader makes of it, until its attempts have ended and `BEHIND` others were decided after it.

Invariants
1. Every decision is given once, with every attempt that was found for it.
2. An attempt that belongs to no decision that was read is given as a `Stray`, a damaged line as a `Problem`: nothing is
   left out in silence.
3. Memory grows with what is open at a time, never with the length of the journal.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, TypeVar

from service.domain.money import INPUT_BUCKETS
from service.ledger.lines import MAX_LINE_BYTES, Line, LineError, decode
from service.ledger.recorder import CACHE_HIT
from service.ledger.reproduced import LOST, NotReproducible, reproduced
from service.ledger.segments import SegmentFile, journal_dir, list_segments, read_lines
from service.ledger.sinks.port import Problem

BEHIND: Final = 16_384
"""Decisions that are read before one that has ended is given: a request may wait between two attempts, for seconds."""

COUNTED: Final = frozenset({"provider", "counted"})
"""Sources of usage that are exact."""

T = TypeVar("T")


class Attempted(NamedTuple):
    """One attempt, as far as money goes, in pico-USD: what was booked, and what its row comes to by itself.

    `state` is `open` while it runs. `wrong` is why the row can't be computed again. `input_tokens` is the whole prompt
    as the vendor counted it, `None` where nobody did. `known`: it has a price, or cost nothing. `cached`: it was no
    call, but an answer from the cache.
    """

    deployment: str
    state: str
    booked_pusd: int | None = None
    again_pusd: int | None = None
    wrong: str | None = None
    input_tokens: int | None = None
    final: bool = False
    answered: bool = False
    simulated: bool = False
    cached: bool = False


class Ended(NamedTuple, Generic[T]):
    """A decision, as its reader had it, with its attempts in the order in which they were opened."""

    decision: T
    attempts: tuple[Attempted, ...]


class Stray(NamedTuple):
    """An attempt whose decision was not read: taken before the time that was asked for, or damaged."""

    attempt: Attempted


@dataclass(slots=True)
class _Kept(Generic[T]):
    """A decision on its way, and its attempts by id."""

    decision: T
    attempts: dict[str, Attempted] = field(default_factory=dict)
    open: int = 0


class Traffic(Generic[T]):
    """A journal on its way through; `read_bytes` of `whole_bytes` are behind."""

    def __init__(self, data_dir: Path, begin: Callable[[Mapping[str, Any]], T], since_ms: int | None = None) -> None:
        """`begin` makes of a decision record what is kept of it. `since_ms` leaves out what was decided before."""
        self._segments = list_segments(journal_dir(data_dir))
        self._begin = begin
        self._since_ms = since_ms
        self._kept: OrderedDict[str, _Kept[T]] = OrderedDict()
        self._opened: dict[str, Mapping[str, Any]] = {}
        self.read_bytes = 0
        self.whole_bytes = sum(segment.path.stat().st_size for segment in self._segments)

    def __iter__(self) -> Iterator[Ended[T] | Stray | Problem]:
        """All of it, once. Raises OSError."""
        for segment in self._segments:
            yield from self._segment(segment)
        for one in self._kept.values():
            yield Ended(one.decision, tuple(one.attempts.values()))
        for opened in self._opened.values():
            if opened["decision_id"] not in self._kept and not self._before(opened.get("at_ms")):
                yield Stray(_open(opened))

    def _segment(self, segment: SegmentFile) -> Iterator[Ended[T] | Stray | Problem]:
        before = self.read_bytes
        for raw in read_lines(segment.path):
            self.read_bytes = before + raw.end
            if not raw.whole and len(raw.data) < MAX_LINE_BYTES:
                continue
            try:
                line = decode(raw.data)
            except LineError as error:
                yield Problem(segment.name, raw.offset, str(error))
                continue
            if line.kind == "terminal":
                found = self._end(line)
                if found is not None:
                    yield found
            elif line.kind == "open":
                self._open(line)
            elif line.kind == "decision" and not self._before(line.body.get("created_ms")):
                kept: _Kept[T] = _Kept(self._begin(line.body))
                self._kept[str(line.body.get("id"))] = kept
                yield from self._given()

    def _open(self, line: Line) -> None:
        body = line.body
        attempt, decision = str(body.get("attempt_id")), str(body.get("decision_id"))
        kept = self._kept.get(decision)
        self._opened[attempt] = {**body, "decision_id": decision}
        if kept is not None:
            kept.attempts[attempt] = _open(body)
            kept.open += 1

    def _end(self, line: Line) -> Stray | None:
        """Note how an attempt ended; a Stray when nobody waits for it."""
        attempt = str(line.body.get("attempt_id"))
        opened = self._opened.pop(attempt, None)
        if opened is None:
            # Its open row was damaged, or it is a second end: `coe ledger verify` tells which.
            return None if self._before(line.body.get("at_ms")) else Stray(_ended({}, line.body))
        kept = self._kept.get(opened["decision_id"])
        if kept is None:
            return None if self._before(opened.get("at_ms")) else Stray(_ended(opened, line.body))
        kept.attempts[attempt] = _ended(opened, line.body)
        kept.open -= 1
        return None

    def _given(self) -> Iterator[Ended[T]]:
        """Those that nobody will hear of any more."""
        for _ in range(2):  # one more than comes in, so that those that go on don't pile up
            if len(self._kept) <= BEHIND:
                return
            name, oldest = next(iter(self._kept.items()))
            if oldest.open:
                self._kept.move_to_end(name)  # looked at again when it is the oldest once more
                continue
            del self._kept[name]
            yield Ended(oldest.decision, tuple(oldest.attempts.values()))

    def _before(self, at_ms: object) -> bool:
        return self._since_ms is not None and isinstance(at_ms, int) and at_ms < self._since_ms


def _open(opened: Mapping[str, Any]) -> Attempted:
    return Attempted(_deployment(opened), "open", simulated=opened.get("simulated") is True)


def _ended(opened: Mapping[str, Any], ended: Mapping[str, Any]) -> Attempted:
    """An attempt by the bodies of its two rows."""
    again: int | None = None
    wrong: str | None = None
    booked = ended.get("cost_pusd")
    if LOST in ended.get("usage_flags", ()):
        wrong = "its figure was too large to be kept"
    else:
        try:
            again = reproduced(opened, ended)
        except NotReproducible as problem:
            wrong = str(problem)
    usage = ended.get("usage", {})
    counted = ended.get("usage_source") in COUNTED and usage
    return Attempted(
        _deployment(opened),
        str(ended.get("state")),
        booked if isinstance(booked, int) else None,
        again,
        wrong,
        sum(usage.get(bucket, 0) for bucket in INPUT_BUCKETS) if counted else None,
        ended.get("final") is True,
        ended.get("ended") == "complete",
        opened.get("simulated") is True,
        ended.get("ended") == CACHE_HIT,
    )


def _deployment(opened: Mapping[str, Any]) -> str:
    return f"{opened.get('provider')}/{opened.get('model')}"
