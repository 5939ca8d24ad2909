"""How much is begun at once: a bounded queue in front of the application, and a refusal that is quick when it is full.

Where on the path: `api.door` asks for every request whose header is whole, before a task is made for it. Health and
admin pages don't come here: they are begun at once, however full it is.

A request takes the event loop for about a millisecond before it waits for its vendor. A thousand that arrive together
would hold it for a second, and refusals and health checks would come as late as answers. So at most `PER_TURN` are
begun in one turn of the loop; the others wait in line, and those for whom there is no room are told so within the turn.

Invariants
1. At most `in_flight_max` requests are begun and not ended; at most `QUEUE_MAX` wait, none longer than `QUEUE_S`.
2. First come, first served. Nobody who waits is forgotten: each is begun, refused, or has left.
3. It knows no sockets: starting and refusing are given to it, and so is the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from service import telemetry

PER_TURN: Final = 8
"""Requests begun in one turn of the loop: some ten milliseconds of work. Refusals are written between two turns; with
sixteen, one in a hundred came after more than a tenth of a second."""

QUEUE_MAX: Final = 512
"""Of a burst that comes out of nothing: half a second of work. Longer than a client's own retry takes, waiting is no
favour."""

QUEUE_S: Final = 5.0
"""Who has waited so long is refused: the machine all but stands. With one second here, the slowest hundredth of all
refusals was of those who had waited it: late, and in vain."""

LINE_S: Final = 0.25
"""The line is as long as what was begun of late in so much time: on a slow machine `QUEUE_MAX` would take
seconds, and who is refused in the end had better been told at once."""

PACE_S: Final = 0.1
"""How long the pace is looked at before it is believed."""


class _Waiting(NamedTuple):
    start: Callable[[], bool]
    refuse: Callable[[], None]
    since: float


class Admission:
    """The queue of one process. `in_flight_max` requests may run at once.

    `clock` gives monotonic seconds; `soon` calls something in the next turn of the event loop.
    """

    def __init__(
        self, in_flight_max: int, clock: Callable[[], float], soon: Callable[[Callable[[], None]], object]
    ) -> None:
        self._in_flight_max = in_flight_max
        self._clock = clock
        self._soon = soon
        self._queue: deque[_Waiting] = deque()
        self._begun = 0
        self._turning = False
        self._room = QUEUE_MAX
        self._pace_since, self._paced = 0.0, 0
        self.stopping = False  # the process ends: each connection ends with its next answer
        self.in_flight = 0
        self.refused = 0

    def arrive(self, start: Callable[[], bool], refuse: Callable[[], None]) -> None:
        """Begin a request, let it wait, or refuse it.

        `start` begins it and says whether it did: its caller may have left while it waited. Each request that began is
        to be followed by `ended`.
        """
        if self._has_no_room:
            self.refused += 1
            refuse()
            return
        if not self._waits:
            self._start(start)
        else:
            now = self._clock()
            if not self._queue:
                self._pace_since, self._paced = now, 0
            self._queue.append(_Waiting(start, refuse, now))
        if not self._turning:
            self._turning = True
            self._soon(self._turn)

    @property
    def is_full(self) -> bool:
        """Whether a request that arrives now is refused. Never at the end: each connection is told that it ends."""
        return self._has_no_room and not self.stopping

    @property
    def _waits(self) -> bool:
        """Whether who arrives now is not begun at once."""
        return bool(self._queue) or self._begun >= PER_TURN

    @property
    def _has_no_room(self) -> bool:
        full = len(self._queue) >= min(self._room, QUEUE_MAX)
        return self.in_flight >= self._in_flight_max or (self._waits and full)

    def ended(self) -> None:
        """A request that began has ended."""
        self.in_flight -= 1

    def figures(self) -> dict[str, int]:
        """What /metrics tells."""
        return {
            telemetry.IN_FLIGHT: self.in_flight,
            telemetry.WAITING: len(self._queue),
            telemetry.SHED: self.refused,
        }

    def _start(self, start: Callable[[], bool]) -> None:
        if start():
            self._begun += 1
            self.in_flight += 1

    def _turn(self) -> None:
        """The next turn of the loop: those who waited longest."""
        self._begun = 0
        now = self._clock()
        late = []
        while self._queue and now - self._queue[0].since > QUEUE_S:
            late.append(self._queue.popleft())
        for one in late:  # none of them is in line any more when the next one is looked at
            self.refused += 1
            one.refuse()
        while self._queue and self._begun < PER_TURN:
            one = self._queue.popleft()
            if self.in_flight >= self._in_flight_max:
                self.refused += 1
                one.refuse()
            else:
                self._start(one.start)
        self._paced += self._begun
        if not self._queue and not late:
            self._room = QUEUE_MAX  # everybody was begun
        elif now - self._pace_since >= PACE_S:
            begun_a_second = self._paced / (now - self._pace_since)
            self._room = min(QUEUE_MAX, max(PER_TURN, int(begun_a_second * LINE_S)))
            self._pace_since, self._paced = now, 0
        # Whoever is refused may have another request behind it: until here that only joins the line.
        self._turning = bool(self._queue)
        if self._turning:
            self._soon(self._turn)
