"""A stream that is on its way to the caller: bytes go through, and its end is settled.

Where on the path: `pipeline` makes one at the first content, `api/rendering` drives it.

Invariants
1. It ends with `[DONE]` only after the vendor finished and the row is written; else with an error event.
2. Whatever happens, its attempt is settled once, and the caller's leaving erases nothing of it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Final, Protocol

from service.attempting import Answered, Attempting
from service.cache.answer_cache import Visit
from service.domain.catalog import Catalog
from service.domain.decision import Candidate
from service.errors import UpstreamError
from service.ledger.recorder import CLIENT_LEFT, COMPLETE, STOPPED_AT_BUDGET
from service.ledger.statuses import told_as
from service.settling import Settler
from service.stream_events import DONE_EVENT, error_event, explaining_event, stopped_events
from service.upstream.stream import AnswerStream, Put
from service.work import Attempt, Work

EVENT_STREAM: Final = "text/event-stream"


class Owner(Protocol):
    """What a stream needs of the path that made it: `pipeline.Pipeline`, which stands above."""

    settler: Settler
    attempting: Attempting

    def headers(self, work: Work) -> dict[str, str]:
        """The `x-coe-*` headers of a response."""
        ...

    def keep(self, work: Work, attempt: Attempt, body: bytes, content_type: str) -> None:
        """Hand a whole answer to the cache, where the request has a visit there."""
        ...

    async def resume(self, work: Work, catalog: Catalog, broke: Candidate) -> tuple[Answered, bytes] | None:
        """Who goes on with a stream that broke, and the event that says so; `None`: nobody."""
        ...


class StreamReply:
    """A stream that was committed: its first content is there. Drive `forward`; always call `abandon` in the end."""

    def __init__(self, owner: Owner, work: Work, catalog: Catalog, found: Answered, stream: AnswerStream) -> None:
        """`catalog` is the registry that the request began with."""
        self._owner = owner
        self._work = work
        self._catalog = catalog
        self._attempt = found.attempt
        self._leave = found.leave
        self._stream = stream
        self._ended = False
        self.headers: Mapping[str, str] = owner.headers(work)

    @property
    def left_s(self) -> float:
        """How much of the attempt's total time is left, in seconds; without end once the attempt is over."""
        if self._ended:
            return math.inf
        return self._owner.settler.left_s(self._attempt)

    def left(self) -> None:
        """Note that the caller has left."""
        self._work.arrival.gone = True
        self._work.arrival.cut_by = CLIENT_LEFT

    async def forward(self, put: Put) -> bytes | None:
        """As `AnswerStream.forward`; then, settled, `[DONE]`, or an error event and nothing after it."""
        if self._ended:
            return None
        visit = self._work.visit
        try:
            refused = await self._stream.forward(put if visit is None or not visit.writes else noting(visit, put))
        except UpstreamError as problem:
            return await self._broke(put, problem)
        if refused is not None:
            return refused
        self._owner.attempting.finished(self._work, self._attempt, self._leave)
        if self._attempt.tally.stopped:
            await self._stream.aclose()  # at once: each further token may be billed
            await self._end(STOPPED_AT_BUDGET)
            return stopped_events(self._work, self._attempt) + self._explained() + DONE_EVENT
        await self._end(COMPLETE)
        if visit is not None:
            self._owner.keep(self._work, self._attempt, b"".join(visit.pieces), EVENT_STREAM)
        return self._explained() + DONE_EVENT

    def _explained(self) -> bytes:
        """What `coe.explain` adds."""
        return explaining_event(self._work, self._attempt) if self._work.chat.steering.explain else b""

    async def _broke(self, put: Put, problem: UpstreamError) -> bytes | None:
        """Settle what broke; the error event that ends it, or as `forward`, when somebody goes on with it."""
        owner, work = self._owner, self._work
        owner.attempting.broke(work, self._attempt, self._leave, problem)
        self._ended = True
        try:
            await owner.settler.settle(work, self._attempt, problem.cause)
            await self._stream.aclose()
            resumed = await owner.resume(work, self._catalog, self._attempt.candidate)
        except BaseException:
            owner.settler.tell(work, told_as(problem.cause))
            raise
        if resumed is None:
            owner.settler.tell(work, told_as(problem.cause))
            return error_event(problem)
        if work.visit is not None:
            work.visit.writes = False  # of two models' making
        found, announcement = resumed
        assert isinstance(found.answer, AnswerStream)  # noqa: S101 # a request that streams is answered by a stream
        self._attempt, self._leave, self._stream, self._ended = found.attempt, found.leave, found.answer, False
        return await self.forward(put) if put(announcement) else announcement

    async def abandon(self, ended: str = CLIENT_LEFT) -> None:
        """Let go of the upstream; before the end, settle what was used, estimated if need be, as `ended`.

        May be called at any time and more than once. A caller that hangs up on `[DONE]` comes here with everything
        settled and the connection still in hand.
        """
        if self._work.visit is not None:
            self._work.visit.forget()
        if self._ended:
            await self._stream.aclose()
            return
        ended = COMPLETE if self._attempt.tally.complete else ended
        self._ended = True
        settling = self._owner.settler.settle_later(self._work, self._attempt, ended)
        try:
            await self._stream.aclose()
        finally:
            self._owner.settler.tell(self._work, told_as(ended))
            await asyncio.shield(settling)

    async def _end(self, ended: str) -> None:
        self._ended = True
        try:
            await self._owner.settler.settle(self._work, self._attempt, ended)
        finally:
            self._owner.settler.tell(self._work, told_as(ended))


def noting(visit: Visit, put: Put) -> Put:
    """Notes each piece for the cache; also one that is refused, which is then sent by whoever refused it."""

    def noted(piece: bytes) -> bool:
        visit.note(piece)
        return put(piece)

    return noted
