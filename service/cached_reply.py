"""An answer from the cache on its way to the caller: booked at nothing, and sent as what it was, whole or a stream.

Where on the path: `pipeline` asks `booked` for it when the cache has found one; a stream is then driven by
`api/rendering`, as any other.

Invariants
1. An answer is given only while who gave it could be chosen for this very request: within its caller's rights, the
   policy's floor and the registry of now.
2. It is written down like a call, by an open and a terminal row of the kind `cache`, before any of it is sent. It
   counts against the rates and slots of its key, and costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from service.cache.sealing import Kept
from service.domain.catalog import ProviderLimits
from service.domain.decision import Candidate, Decision
from service.domain.ports import Clock
from service.ledger.recorder import CACHE, CLIENT_LEFT, COMPLETE, Stored, Timing, ending_stored
from service.ledger.statuses import told_as
from service.settling import Settler
from service.stream_events import DONE_EVENT, explaining_event
from service.upstream.stream import Put
from service.work import Attempt, Work, milliseconds

PIECE_BYTES: Final = 64 * 1024
"""What is sent of a stream at once: what a connection's buffer takes."""


def author_of(kept: Kept, decision: Decision) -> Candidate | None:
    """Who gave an answer, as it stands in this decision; `None` when it could not be chosen by it."""
    ranked = decision.ranked
    rank = next((one for one in range(len(ranked)) if ranked.deployment(one).id == kept.deployment), None)
    if rank is None or ranked[rank].below is not None:
        return None
    return ranked[rank]


async def booked(settler: Settler, clock: Clock, work: Work, kept: Kept, author: Candidate) -> Attempt:
    """Write an answer from the cache down. Raises what `Settler.open` raises: a rate may be used up."""
    vendor = replace(author.deployment.provider, limits=ProviderLimits())  # nobody is called: its account is not asked
    free = replace(
        author,
        deployment=replace(author.deployment, provider=vendor),
        expected_cost_pusd=0,
        reserved_pusd=0,
        input_tokens=0,
        output_tokens=0,
        reasoning_tokens=0,
        output_tokens_cap=0,
        quote=None,
    )
    attempt = await settler.open(work, [free], CACHE)
    attempt.tally.model, attempt.tally.upstream_id = kept.served_model, kept.upstream_id
    now = clock.monotonic()
    total_ms, at_ms = milliseconds(now - attempt.tally.started), int(clock.utc().timestamp() * 1000)
    timing = Timing(at_ms, None, total_ms, work.overhead_ms(now))
    stored = Stored(kept.attempt_id, kept.cost_pusd, kept.served_model)
    await settler.book(work, attempt, ending_stored(attempt.entry, stored, timing), 0)
    return attempt


class StoredStream:
    """A stream that was kept: the same events again. Driven as a `StreamReply` is."""

    def __init__(self, settler: Settler, work: Work, attempt: Attempt, body: bytes, headers: Mapping[str, str]) -> None:
        """Everything is booked already."""
        self._settler = settler
        self._work = work
        self._attempt = attempt
        self._body = body
        self._at = 0
        self._ended = False
        self.headers = headers

    @property
    def left_s(self) -> float:
        """No vendor waits for its end."""
        return math.inf

    def left(self) -> None:
        """Note that the caller has left."""
        self._work.arrival.gone = True
        self._work.arrival.cut_by = CLIENT_LEFT

    async def forward(self, put: Put) -> bytes | None:
        """As `StreamReply.forward`."""
        if self._ended:
            return None
        while self._at < len(self._body):
            piece = self._body[self._at : self._at + PIECE_BYTES]
            self._at += len(piece)
            if not put(piece):
                return piece
        self._end(COMPLETE)
        explained = self._work.chat.steering.explain
        return (explaining_event(self._work, self._attempt) if explained else b"") + DONE_EVENT

    async def abandon(self, ended: str = CLIENT_LEFT) -> None:
        """As `StreamReply.abandon`."""
        self._end(ended)

    def _end(self, ended: str) -> None:
        if not self._ended:
            self._ended = True
            self._settler.tell(self._work, told_as(ended))
