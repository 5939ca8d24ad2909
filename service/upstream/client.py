"""One attempt at one deployment: send, watch the deadlines, read the answer. It never retries and never writes money.

Where on the path: `pipeline` calls `call` for a whole answer, `open_stream` for a stream, and settles from the `Tally`.

Invariants
1. Every way out is an `Answer`/stream that is complete, or an `UpstreamError` that says what may have been billed.
2. A stream is handed over (`open_stream` returns) only when its first content is there: until then it may fail over.
3. Deadlines: connect, first content, total. Each ends the attempt and closes the connection. Those of a stream that
   was handed over are its own (`upstream.stream`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from service.domain.chat import ChatRequest
from service.domain.decision import Candidate
from service.domain.ports import Answer, Clock, Transport, UpstreamResponse, WireProtocol
from service.errors import Broken, NoReply, UpstreamError
from service.upstream.body import read_up_to
from service.upstream.key_ring import KeyRing
from service.upstream.patience import Patience
from service.upstream.stream import AnswerStream, Reading
from service.upstream.tally import Tally, bounds_of

RESPONSE_BYTES_MAX = 32 * 1024 * 1024
"""A unary answer: 128 choices of a long output fit; more would be a fault that fills the memory."""

ERROR_BYTES_MAX = 64 * 1024
"""How much of an error body is read: messages are short, the rest is nobody's business."""

CONNECT_SHARE = 0.9
"""Of an attempt's time is what connecting may take, where a registry gives it no less time than the attempt."""

REFUSAL_S = 2.0
"""How long the body of a refusal may take: the status says enough."""


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
        self.keys = KeyRing()

    @property
    def protocols(self) -> Mapping[str, WireProtocol]:
        """How vendors are spoken to, by name."""
        return self._protocols

    async def call(self, chat: ChatRequest, candidate: Candidate, tally: Tally) -> WholeAnswer:
        """One unary attempt. Raises an `UpstreamError`; `tally` holds what became known either way."""
        protocol = self._protocols[candidate.deployment.provider.protocol]
        # A unary answer arrives all at once, after all of its tokens: only the total deadline makes sense for it.
        patience, total_s = Patience(), candidate.deployment.provider.timeouts.total_s
        try:
            body, content_type = await patience.wait(self._fetched(protocol, chat, candidate, tally), total_s)
        except TimeoutError:
            raise NoReply("the vendor took too long to answer", cause="timeout_total") from None
        finally:
            patience.close()
        tally.first_content = self._clock.monotonic()
        answer = protocol.answer(body, candidate.deployment)
        tally.note_answer(answer, bounds_of(chat, candidate))
        return WholeAnswer(body, content_type, answer)

    async def open_stream(self, chat: ChatRequest, candidate: Candidate, tally: Tally) -> AnswerStream:
        """One streaming attempt, returned at its first content. Raises an `UpstreamError` before that."""
        timeouts = candidate.deployment.provider.timeouts
        patience, within_s = Patience(), min(timeouts.first_token_s, timeouts.total_s)
        try:
            return await patience.wait(self._begun(chat, candidate, tally, patience), within_s)
        except TimeoutError:
            patience.close()
            raise NoReply("the vendor took too long to answer", cause="timeout_first_token") from None
        except BaseException:
            patience.close()
            raise

    async def _fetched(
        self, protocol: WireProtocol, chat: ChatRequest, candidate: Candidate, tally: Tally
    ) -> tuple[bytes, str]:
        """The body of a unary answer and its type."""
        response = await self._send(protocol, chat, candidate, tally)
        try:
            if not 200 <= response.status < 300:
                raise await self._refusal(protocol, response, candidate, tally)
            return await self._read(response, RESPONSE_BYTES_MAX, tally), _type_of(response, "application/json")
        finally:
            await response.aclose()

    async def _begun(self, chat: ChatRequest, candidate: Candidate, tally: Tally, patience: Patience) -> AnswerStream:
        """A stream whose first content is there."""
        protocol = self._protocols[candidate.deployment.provider.protocol]
        response = await self._send(protocol, chat, candidate, tally)
        try:
            if not 200 <= response.status < 300:
                raise await self._refusal(protocol, response, candidate, tally)
            if "text/event-stream" not in _type_of(response, "").lower():
                await self._not_a_stream(protocol, response, chat, candidate, tally)
            reading = Reading(protocol, chat, candidate, tally, self._clock)
            stream = AnswerStream(response, reading, candidate.deployment.provider.timeouts, patience, self._clock)
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
        tally.key = self.keys.next(deployment.provider.name, keys, self._clock.monotonic()) if len(keys) > 1 else 0
        request = protocol.request(
            chat,
            deployment,
            api_key=keys[tally.key] if keys else None,
            output_tokens_cap=candidate.output_tokens_cap or None,
        )
        timeouts = deployment.provider.timeouts
        within_s = min(timeouts.first_token_s, timeouts.total_s)
        if request.connect_s >= within_s:
            # The connection has to fail before the attempt does: only then is it certain that nothing was sent.
            request = replace(request, connect_s=CONNECT_SHARE * within_s)
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

    async def _refusal(
        self, protocol: WireProtocol, response: UpstreamResponse, candidate: Candidate, tally: Tally
    ) -> UpstreamError:
        """The vendor's refusal, when the status is not 2xx."""
        body = b""
        try:
            async with asyncio.timeout(REFUSAL_S):
                body, _ = await read_up_to(response, ERROR_BYTES_MAX)
        except (TimeoutError, UpstreamError):
            pass  # the status says enough; a cut error body must not hide it
        problem = protocol.refusal(response.status, response.headers, body, candidate.deployment)
        provider = candidate.deployment.provider
        problem.of_key = self.keys.refused(
            provider.name, provider.api_keys, tally.key, problem, self._clock.monotonic()
        )
        return problem

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
        before = self._clock.monotonic()
        try:
            body, whole = await read_up_to(response, limit)
        finally:
            tally.waited_s += self._clock.monotonic() - before
        if not whole:
            raise Broken(f"the vendor's answer is over {limit} bytes", cause="answer_too_large")
        return body


def _type_of(response: UpstreamResponse, default: str) -> str:
    return response.headers.get("content-type", default)
