"""One attempt at one deployment: send, watch the deadlines, read the answer. It never retries and never writes money.

Where on the path: `pipeline` calls `call` for a whole answer, `open_stream` for a stream, and settles from the `Tally`.

Invariants
1. Every way out is an `Answer`/stream that is complete, or an `UpstreamError` that says what may have been billed.
2. A stream is handed over (`open_stream` returns) only when its first content is there: until then it may fail over.
3. A stream ends well only when every choice seen has a finish reason and the vendor ended it, or every choice asked for
   has one; otherwise an error is raised, after what arrived before it was handed on.
4. Deadlines: connect, first content, silence between chunks, total. Each ends the attempt and closes the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from service.domain.chat import ChatRequest
from service.domain.decision import Candidate
from service.domain.ports import Answer, Clock, Transport, UpstreamResponse, WireProtocol
from service.errors import Broken, NoReply, UpstreamError
from service.upstream.patience import Patience
from service.upstream.sse import Event, EventTooLong, SseTap
from service.upstream.tally import Tally, bounds_of

RESPONSE_BYTES_MAX = 32 * 1024 * 1024
"""A unary answer: 128 choices of a long output fit; more would be a fault that fills the memory."""

ERROR_BYTES_MAX = 64 * 1024
"""How much of an error body is read: messages are short, the rest is nobody's business."""

AFTER_FINISH_S = 2.0
"""How long usage or the end event may lag behind the last finish reason before the answer counts as complete."""

DRAIN_S = 0.25
"""How long the end of a body may lag behind the end event before the connection is closed instead of reused."""

REFUSAL_S = 2.0
"""How long the body of a refusal may take: the status says enough."""

HEAD_BYTES_MAX = 1024 * 1024
"""What a stream may send before its first content: role chunks and comments. An unfinished event does not count."""


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """A complete unary answer: the vendor's bytes, and what they say."""

    body: bytes
    content_type: str
    answer: Answer


class UpstreamClient:
    """Makes attempts over a transport, with the protocol of each deployment's provider."""

    def __init__(self, transport: Transport, protocols: Mapping[str, WireProtocol], clock: Clock) -> None:
        self._transport = transport
        self._protocols = protocols
        self._clock = clock
        self._calls = 0

    async def call(self, chat: ChatRequest, candidate: Candidate, tally: Tally) -> WholeAnswer:
        """One unary attempt. Raises an `UpstreamError`; `tally` holds what became known either way."""
        protocol = self._protocols[candidate.deployment.provider.protocol]
        timeouts = candidate.deployment.provider.timeouts
        # A unary answer arrives all at once, after all of its tokens: only the total deadline makes sense for it.
        async with _deadline(timeouts.total_s, "timeout_total"):
            response = await self._send(protocol, chat, candidate, tally)
            try:
                await self._refuse(protocol, response, candidate)
                body = await self._read(response, RESPONSE_BYTES_MAX, tally)
            finally:
                await response.aclose()
        tally.first_content = self._clock.monotonic()
        answer = protocol.answer(body, candidate.deployment)
        tally.note_answer(answer, bounds_of(chat, candidate))
        return WholeAnswer(body, response.headers.get("content-type", "application/json"), answer)

    async def open_stream(self, chat: ChatRequest, candidate: Candidate, tally: Tally) -> AnswerStream:
        """One streaming attempt, returned at its first content. Raises an `UpstreamError` before that."""
        protocol = self._protocols[candidate.deployment.provider.protocol]
        timeouts = candidate.deployment.provider.timeouts
        async with _deadline(min(timeouts.first_token_s, timeouts.total_s), "timeout_first_token"):
            response = await self._send(protocol, chat, candidate, tally)
            try:
                await self._refuse(protocol, response, candidate)
                kind = response.headers.get("content-type", "")
                if "text/event-stream" not in kind.lower():
                    await self._not_a_stream(protocol, response, chat, candidate, tally)
                stream = AnswerStream(response, protocol, chat, candidate, tally, self._clock)
                await stream.read_head()
            except BaseException:
                await response.aclose()
                raise
        return stream

    async def _send(
        self, protocol: WireProtocol, chat: ChatRequest, candidate: Candidate, tally: Tally
    ) -> UpstreamResponse:
        deployment = candidate.deployment
        keys = deployment.provider.api_keys
        self._calls += 1
        request = protocol.request(
            chat,
            deployment,
            api_key=keys[self._calls % len(keys)] if keys else None,
            output_tokens_cap=candidate.output_tokens_cap or None,
        )
        tally.sent = True
        before = self._clock.monotonic()
        try:
            response = await self._transport.send(request)
        except UpstreamError as problem:
            tally.sent = problem.billed != "no"
            raise
        finally:
            tally.waited_s += self._clock.monotonic() - before
        tally.status = response.status
        return response

    async def _refuse(self, protocol: WireProtocol, response: UpstreamResponse, candidate: Candidate) -> None:
        """Raise the vendor's refusal when the status is not 2xx."""
        if 200 <= response.status < 300:
            return
        body = bytearray()
        try:
            async with asyncio.timeout(REFUSAL_S):
                async for chunk in response.chunks():
                    body += chunk
                    if len(body) >= ERROR_BYTES_MAX:
                        break
        except (TimeoutError, UpstreamError):
            body.clear()  # the status says enough; a cut error body must not hide it
        raise protocol.refusal(response.status, response.headers, bytes(body), candidate.deployment)

    async def _not_a_stream(
        self,
        protocol: WireProtocol,
        response: UpstreamResponse,
        chat: ChatRequest,
        candidate: Candidate,
        tally: Tally,
    ) -> None:
        """A 200 that is no event stream: an error in JSON, an answer nobody streamed, a web page, or nothing."""
        body = await self._read(response, ERROR_BYTES_MAX, tally)
        if body.lstrip()[:1] == b"{":
            tally.note_answer(protocol.answer(body, candidate.deployment), bounds_of(chat, candidate))
        raise Broken("the vendor did not answer with an event stream", cause="not_a_stream")

    async def _read(self, response: UpstreamResponse, limit: int, tally: Tally) -> bytes:
        body = bytearray()
        before = self._clock.monotonic()
        try:
            async for chunk in response.chunks():
                body += chunk
                if len(body) > limit:
                    raise Broken(f"the vendor's answer is over {limit} bytes", cause="answer_too_large")
        finally:
            tally.waited_s += self._clock.monotonic() - before
        return bytes(body)


class AnswerStream:
    """A stream whose first content has arrived. `pieces` yields what the caller gets; then `tally` is final."""

    def __init__(
        self,
        response: UpstreamResponse,
        protocol: WireProtocol,
        chat: ChatRequest,
        candidate: Candidate,
        tally: Tally,
        clock: Clock,
    ) -> None:
        self._response = response
        self._protocol = protocol
        self._chat = chat
        self._candidate = candidate
        self._clock = clock
        self._bounds = bounds_of(chat, candidate)
        self._chunks = response.chunks()
        self._patience = Patience()
        self._tap = SseTap()
        self._head: list[bytes] = []
        self._done = False
        self._problem: UpstreamError | None = None
        self._finished_at: float | None = None
        self.tally = tally

    async def read_head(self) -> None:
        """Read up to and including the first content (or the first finish reason)."""
        size = 0
        while not self._done:
            chunk = await self._next(None)
            if chunk is None:
                break
            pieces = self._take(chunk)
            if self._problem is not None:
                raise self._problem  # nothing has reached the caller: another deployment may answer
            self._head.extend(pieces)
            size += sum(map(len, pieces))
            if self.tally.first_content is not None or self.tally.finished:
                return
            if size > HEAD_BYTES_MAX:
                raise Broken("the vendor streams but says nothing", cause="no_content")
        if not self.tally.complete:
            raise Broken("the vendor's stream ended before any content", cause="empty_stream")

    async def pieces(self) -> AsyncIterator[bytes]:
        """What is forwarded: the vendor's events, but for the end event, which is the pipeline's to send.

        Raises `Broken` when the stream is cut, silent too long, malformed, or ends without a finish reason.
        """
        timeouts = self._candidate.deployment.provider.timeouts
        head, self._head = self._head, []
        for piece in head:
            yield piece
        while not self._done:
            now = self._clock.monotonic()
            left = self.tally.started + timeouts.total_s - now
            try:
                if self._nothing_missing:
                    self._finished_at = now if self._finished_at is None else self._finished_at
                    chunk = await self._next(min(self._finished_at + AFTER_FINISH_S - now, left))
                else:
                    chunk = await self._next(min(timeouts.idle_s, left), total=left <= timeouts.idle_s)
            except Broken:
                if self._nothing_missing:
                    break
                raise
            if chunk is None:
                break
            pieces = self._take(chunk)
            if pieces:
                yield b"".join(pieces)
            if self._problem is not None:
                if self._nothing_missing:
                    break
                raise self._problem
        if not (self._nothing_missing or (self._done and self.tally.complete)):
            raise Broken("the vendor's stream ended without a finish reason", cause="cut")

    @property
    def _nothing_missing(self) -> bool:
        """Whether every choice asked for has its finish reason. A vendor may send them one after the other."""
        return self.tally.complete and len(self.tally.seen) >= self._chat.n

    async def aclose(self) -> None:
        """Give the connection back when the answer was read to its end, else close it."""
        self._patience.close()
        if self._done:
            try:
                async with asyncio.timeout(DRAIN_S):
                    async for _ in self._chunks:
                        pass
            except (TimeoutError, UpstreamError):
                pass  # the answer is complete; only the connection is lost
        await self._response.aclose()

    async def _next(self, within_s: float | None, *, total: bool = False) -> bytes | None:
        """The next chunk, `None` at the end of the body."""
        before = self._clock.monotonic()
        try:
            if within_s is None:
                return await anext(self._chunks, None)
            return await self._patience.wait(anext(self._chunks, None), within_s)
        except TimeoutError:
            cause = "timeout_total" if total else "timeout_idle"
            raise Broken("the vendor stopped sending", cause=cause) from None
        finally:
            self.tally.waited_s += self._clock.monotonic() - before

    def _take(self, chunk: bytes) -> list[bytes]:
        """Run a chunk through the tap; what is returned goes to the caller, before `_problem` is raised."""
        pieces: list[bytes] = []
        try:
            for event in self._tap.feed(chunk):
                if self._event(event):
                    pieces.append(event.raw)
                if self._done:
                    break
        except EventTooLong:
            self._problem = Broken("the vendor sent an event that is too large", cause="event_too_large")
        except UpstreamError as problem:
            self._problem = problem
        return pieces

    def _event(self, event: Event) -> bool:
        """Note what an event says; whether it is forwarded."""
        if event.data is None:
            return True
        signal = self._protocol.signal(event.data, self._candidate.deployment, asked_for_usage=self._chat.include_usage)
        tally = self.tally
        if signal.error is not None:
            if tally.first_content is None:
                raise signal.error
            # What came before it is an answer begun: the vendor may bill it, which a plain refusal would deny.
            raise Broken("the vendor broke off with an error", cause=signal.error.cause)
        if signal.done:
            self._done = True
            return False
        if signal.content and tally.first_content is None:
            tally.first_content = self._clock.monotonic()
        tally.seen.update(signal.seen_choices)
        tally.finished.update(signal.finished_choices)
        tally.output_characters += signal.output_characters
        tally.cjk_characters += signal.cjk_characters
        tally.note_usage(signal.usage, signal.usage_flags, self._bounds)
        tally.model = tally.model or signal.model
        tally.upstream_id = tally.upstream_id or signal.id
        return not signal.hide


class _deadline:  # noqa: N801 # reads as a statement: `async with _deadline(...)`
    """`asyncio.timeout` that ends in the error the ledger wants to see."""

    def __init__(self, seconds: float, cause: str) -> None:
        self._timeout = asyncio.timeout(seconds)
        self._cause = cause

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *problem: object) -> None:
        try:
            await self._timeout.__aexit__(*problem)  # type: ignore[arg-type] # the three arguments of the protocol
        except TimeoutError:
            raise NoReply("the vendor took too long to answer", cause=self._cause) from None
