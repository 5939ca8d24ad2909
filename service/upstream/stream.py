"""One streamed answer on its way: what arrives, what of it is handed on, and when it is over.

Where on the path: `client.open_stream` makes an `AnswerStream`; the pipeline hands on what it forwards, and settles
from its `tally`. `Reading` is what is known of the answer so far, without I/O: bytes in, bytes out. `AnswerStream` is
the rest: it waits for the vendor, with deadlines, and gives what has arrived to whoever has room for it.

Invariants
1. A stream ends well only when every choice seen has a finish reason and the vendor ended it, or every choice asked for
   has one; otherwise an error is raised, after what arrived before it was handed on.
2. Deadlines: silence between chunks, total, and `AFTER_FINISH_S`. Each ends the attempt and closes the connection.
3. What is handed on are the vendor's bytes, in order, each once, but for its end event, which is the pipeline's to
   send, and for events that exist only because we asked for usage.
4. While a piece waits for the caller to have room nothing more is taken from the vendor.
5. An event that is told by its frame means what `WireProtocol.signal` would say.
6. Only of a stream that goes on where another broke are events changed or left out: as `splice` says. One that is
   stopped ends before the event that would be too much.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from service.domain.catalog import Timeouts
from service.domain.chat import ChatRequest
from service.domain.decision import Candidate
from service.domain.ports import Clock, StreamSignal, TextFrame, UpstreamResponse, WireProtocol
from service.errors import Broken, UpstreamError
from service.upstream import sse
from service.upstream.body import pour_of
from service.upstream.frames import text_of
from service.upstream.patience import Patience
from service.upstream.splice import Told
from service.upstream.stop import Stop
from service.upstream.tally import Tally, bounds_of

AFTER_FINISH_S = 2.0
"""How long usage or the end event may lag behind the last finish reason before the answer counts as complete."""

DRAIN_S = 0.25
"""How long the end of a body may lag behind the end event before the connection is closed instead of reused."""

HEAD_BYTES_MAX = 1024 * 1024
"""What a stream may send before its first content: role chunks and comments. An unfinished event does not count."""

FRAMES_MAX: Final = 8
"""Frames that are looked for in vain, one after the other: looking costs as much as reading an event thrice."""

FRAME_BYTES_MAX: Final = 4 * 1024
"""Of an event in which a frame is looked for: a longer one is no piece of text like the others."""

Put = Callable[[bytes], bool]
"""Takes a piece for the caller at once; false when the caller has no room for it. It never waits."""


class Reading:
    """A streamed answer as far as it was read. Feed it with `take`; what events say is noted in `tally`.

    `done`: the end event has come. `problem`: what is to be raised after what `take` gave. `nothing_missing`: every
    choice asked for has its finish reason; a vendor may send them one after the other.
    """

    __slots__ = (
        "_asked_for_usage", "_bounds", "_choices", "_clock", "_deployment", "_frame", "_half_end", "_in_vain",
        "_protocol", "_tap", "done", "nothing_missing", "problem", "tally",
    )  # fmt: skip

    def __init__(
        self, protocol: WireProtocol, chat: ChatRequest, candidate: Candidate, tally: Tally, clock: Clock
    ) -> None:
        self._protocol = protocol
        self._deployment = candidate.deployment
        self._asked_for_usage = chat.include_usage
        self._choices = chat.n
        self._bounds = bounds_of(chat, candidate)
        self._clock = clock
        self._tap = sse.SseTap()
        self._frame: TextFrame | None = None
        measured = tally.told is not None or tally.stop is not None
        self._in_vain = FRAMES_MAX if measured else 0  # whose text is noted, each event of it is read
        self._half_end = False  # the last event was handed on, and ended in CR: a line feed may follow that is its own
        self.done = self.nothing_missing = False
        self.problem: UpstreamError | None = None
        self.tally = tally

    @property
    def over(self) -> bool:
        """Whether nothing more of it is wanted."""
        return self.done or self.problem is not None

    def pop_problem(self) -> UpstreamError:
        """The problem, to be raised; kept no longer, for an error holds the frames it passes, and they this."""
        problem, self.problem = self.problem, None
        assert problem is not None  # noqa: S101 # whoever calls has looked
        return problem

    def take(self, chunk: bytes) -> bytes:
        """What of a chunk goes to the caller."""
        frame = self._frame
        if frame is not None and not self._tap.held and len(chunk) <= sse.EVENT_BYTES_MAX:
            counted = text_of(chunk, frame)
            if counted is not None:  # all else that these events say was noted with the one before them
                self._in_vain = 0
                self.tally.output_characters += counted[0]
                self.tally.cjk_characters += counted[1]
                return chunk
        pieces: list[bytes] = []
        try:
            for event in self._tap.feed(chunk):
                piece = self._noted(event)
                if piece:
                    pieces.append(piece)
                elif self._half_end and event.raw.startswith(b"\n"):
                    pieces.append(b"\n")  # the rest of a CRLF that was cut in two: it belongs to the event before
                self._half_end = piece.endswith(b"\r")
                if self.over:
                    break
        except sse.EventTooLong:
            self.problem = Broken("the vendor sent an event that is too large", cause="event_too_large")
        except UpstreamError as problem:
            self.problem = problem
        self.nothing_missing = len(self.tally.seen) >= self._choices and self.tally.complete
        return b"".join(pieces)

    def _noted(self, event: sse.Event) -> bytes:
        """Note what an event says; what of it is forwarded."""
        if event.data is None:
            return event.raw
        signal = self._protocol.signal(event.data, self._deployment, asked_for_usage=self._asked_for_usage)
        tally = self.tally
        if signal.error is not None:
            if tally.first_content is None:
                self.problem = signal.error  # not raised here, where `signal` would hold what holds this frame
                return b""
            # What came before it is an answer begun: the vendor may bill it, which a plain refusal would deny.
            raise Broken("the vendor broke off with an error", cause=signal.error.cause)
        if signal.done:
            self.done = True
            return b""
        if signal.content:
            if tally.first_content is None:
                tally.first_content = self._clock.monotonic()
            if self._in_vain < FRAMES_MAX:
                self._look_for_frame(event.raw, event.data)
        if tally.stop is not None and self._is_passed(signal, tally, tally.stop):
            return b""
        tally.output_characters += signal.output_characters
        tally.cjk_characters += signal.cjk_characters
        tally.note_usage(signal.usage, signal.usage_flags, self._bounds)
        tally.model = tally.model or signal.model
        tally.upstream_id = tally.upstream_id or signal.id
        raw = event.raw
        if signal.hide:
            raw = b""
        elif tally.told is not None:  # before an end is noted: what diverges with its last event has none
            raw = self._told(event.raw, event.data, signal, tally.told)
        tally.seen.update(signal.seen_choices)
        tally.finished.update(signal.finished_choices)
        return raw

    def _is_passed(self, signal: StreamSignal, tally: Tally, stop: Stop) -> bool:
        """Whether the answer is to end before this event: it would be more than is paid for."""
        if not signal.content:
            return False
        characters = tally.output_characters + signal.output_characters
        counted = 0 if tally.usage is None else tally.usage.output_total
        if stop.is_passed(characters, tally.cjk_characters + signal.cjk_characters, counted):
            tally.seen.update(signal.seen_choices)
            stop.reached = self.done = True
        return stop.reached

    def _told(self, raw: bytes, data: bytes, signal: StreamSignal, told: Told) -> bytes:
        """What is forwarded of an event of a stream that may be resumed, or goes on where another broke."""
        text, splice = signal.text, self.tally.splice
        if splice is not None:
            raw, text = splice.given(raw, data, signal)
        if raw:
            told.note(signal, text)
        return raw

    def _look_for_frame(self, raw: bytes, data: bytes) -> None:
        """Keep what stands around the text of an event that is one plain line, as most vendors send them."""
        self._in_vain += 1
        plain = len(raw) <= FRAME_BYTES_MAX and raw == b"data: %b\n\n" % data
        frame = self._protocol.text_frame(data, self._deployment) if plain else None
        if frame is not None:
            self._frame = frame._replace(before=b"data: " + frame.before)


class AnswerStream:
    """A stream whose first content has arrived. `forward` gives out what the caller gets; then `tally` is final."""

    def __init__(
        self, response: UpstreamResponse, reading: Reading, timeouts: Timeouts, patience: Patience, clock: Clock
    ) -> None:
        """`patience` is the stream's from now on: it closes it."""
        self._response = response
        self._pour = pour_of(response)
        self._reading = reading
        self._timeouts = timeouts
        self._patience = patience
        self._clock = clock
        self._head: list[bytes] = []
        self._head_bytes = 0
        self._heard = 0.0
        self._put: Put | None = None
        self._refused = b""
        self._ended = False
        self._finished_at: float | None = None
        self.tally = reading.tally

    async def read_head(self) -> None:
        """Read up to and including the first content (or the first finish reason)."""
        reading, tally = self._reading, self.tally
        self._heard = self._clock.monotonic()
        try:
            self._ended = await self._pour(self._first)
        finally:
            tally.waited_s += self._clock.monotonic() - self._heard
        if reading.problem is not None:
            raise reading.pop_problem()  # nothing has reached the caller: another deployment may answer
        if tally.first_content is not None or tally.finished:
            return
        if self._head_bytes > HEAD_BYTES_MAX:
            raise Broken("the vendor streams but says nothing", cause="no_content")
        raise Broken("the vendor's stream ended before any content", cause="empty_stream")

    def _first(self, chunk: bytes) -> bool:
        """Take a chunk before the stream is handed over; reading it is not waiting for the vendor."""
        reading, tally = self._reading, self.tally
        tally.waited_s += self._clock.monotonic() - self._heard
        piece = reading.take(chunk)
        if piece:
            self._head.append(piece)
            self._head_bytes += len(piece)
        self._heard = self._clock.monotonic()
        begun = tally.first_content is not None or tally.finished
        return not (begun or reading.over or self._head_bytes > HEAD_BYTES_MAX)

    async def forward(self, put: Put) -> bytes | None:
        """Give what goes to the caller to `put`, as it arrives, until it refuses a piece: that one is returned.

        Call again for the rest, once the caller has that piece; `None` at the end. Raises `Broken` when the stream is
        cut, silent too long, malformed, or ends without a finish reason.
        """
        reading = self._reading
        if self._head:
            head = b"".join(self._head)
            self._head.clear()
            if not put(head):
                return head
        if not (self._ended or reading.over):
            refused = await self._arrivals(put)
            if refused:
                return refused
        if reading.nothing_missing:
            return None
        if self.tally.stopped:
            self._ended = True  # what would still come is not waited for
            return None
        if reading.problem is not None:
            self._ended = True
            raise reading.pop_problem()
        if not (reading.done and self.tally.complete):
            raise Broken("the vendor's stream ended without a finish reason", cause="cut")
        return None

    async def _arrivals(self, put: Put) -> bytes:
        """Put what arrives until nothing more is wanted of it; the piece that was refused, if one was."""
        self._put, self._refused = put, b""
        now = self._clock.monotonic()
        left_s = self.tally.started + self._timeouts.total_s - now
        try:
            self._ended = await self._patience.wait(self._pour(self._arrived), self._patience_s(now), left_s)
        except TimeoutError:
            self._ended = True
            if not self._reading.nothing_missing:
                cause = "timeout_total" if self._patience.used_up else "timeout_idle"
                raise Broken("the vendor stopped sending", cause=cause) from None
        except Broken:
            self._ended = True
            if not self._reading.nothing_missing:
                raise
        finally:
            self._put = None
        return self._refused

    def _arrived(self, chunk: bytes) -> bool:
        """Take a chunk and pass on at once what is to be forwarded: this is called from where bytes arrive."""
        reading, put = self._reading, self._put
        piece = reading.take(chunk)
        if piece and not (put is not None and put(piece)):
            self._refused = piece
            return False
        if reading.nothing_missing:
            self._patience.again(self._patience_s(self._clock.monotonic()))
        else:
            self._patience.again(self._timeouts.idle_s)
        return not (reading.done or reading.problem is not None)

    def _patience_s(self, now: float) -> float:
        """How long the vendor may be silent from now on."""
        if not self._reading.nothing_missing:
            return self._timeouts.idle_s
        if self._finished_at is None:
            self._finished_at = now
        return self._finished_at + AFTER_FINISH_S - now

    async def aclose(self) -> None:
        """Give the connection back when the answer was read to its end, else close it."""
        self._patience.close()
        if self._reading.done and not self._ended:
            self._ended = True  # once: what is closed has no end to wait for
            try:
                async with asyncio.timeout(DRAIN_S):
                    while not await self._pour(_dropped):
                        pass
            except (TimeoutError, UpstreamError):
                pass  # the answer is complete; only the connection is lost
        await self._response.aclose()


def _dropped(_piece: bytes) -> bool:
    """Take a piece that nobody wants."""
    return True
