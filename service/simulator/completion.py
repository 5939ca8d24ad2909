"""OpenAI's chat wire: the object of a unary answer and the chunks of a stream, with the bill after each. Pure.

Where on the path: `composing` decided what is said; `play` turns these objects into bytes and misbehaves around them.

Invariants
1. The texts of a stream's chunks, joined per choice, are the texts of the unary answer to the same request.
2. `Event.usage` is what the vendor would bill if the stream ended right after this event; `None` before any content.
3. The role comes first, the finish reason last, for every choice; the usage chunk after all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from service.domain.money import Usage
from service.simulator.answers import count_characters, pieces_of, prompt_tokens, tokens_of
from service.simulator.composing import Asked, Call, Choice
from service.simulator.script import Fault, Script, UsagePlace
from service.simulator.usage import Meter, usage_object

ENDLESS_CHUNKS_MAX = 1_000_000
"""Chunks after which even an endless stream stops: a client that never leaves must not keep a test machine busy."""


@dataclass(frozen=True, slots=True)
class Event:
    """One chunk of a stream. `content`: it carries something generated (text, refusal, thinking, part of a call)."""

    payload: dict[str, Any]
    content: bool
    usage: Usage | None


def unary(
    asked: Asked, script: Script, choices: tuple[Choice, ...], number: int, created: int
) -> tuple[dict[str, Any], Usage]:
    """The `chat.completion` object and what it is billed as. `created` is Unix seconds."""
    meter = Meter(script, prompt_tokens(asked.body))
    for index, choice in enumerate(choices):
        _count(meter, index, choice)
    usage = meter.usage()
    body = _envelope(asked, script, "chat.completion", number, created)
    body["choices"] = [
        {
            "index": index,
            "message": _message(choice),
            "logprobs": _logprobs(asked, pieces_of(choice.content or "", None)) if asked.logprobs else None,
            "finish_reason": choice.finish_reason,
        }
        for index, choice in enumerate(choices)
    ]
    reported = usage_object(usage, script)
    if reported is not None:
        body["usage"] = reported
    return body, usage


def _count(meter: Meter, index: int, choice: Choice) -> None:
    meter.add_reasoning(choice.reasoning_tokens)
    meter.add_text(f"{index}.content", choice.content or "")
    meter.add_text(f"{index}.refusal", choice.refusal or "")
    for position, call in enumerate(choice.calls):
        meter.add_text(f"{index}.{position}.name", call.name)
        meter.add_text(f"{index}.{position}.arguments", call.arguments)


def _envelope(asked: Asked, script: Script, kind: str, number: int, created: int) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": f"chatcmpl-sim-{number}",
        "object": kind,
        "created": created,
        "model": script.served_model or asked.model,
        "system_fingerprint": "fp_simulated",
    }
    if script.service_tier is not None:
        body["service_tier"] = script.service_tier
    return body


def _message(choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.content, "refusal": choice.refusal}
    if choice.reasoning is not None:
        message["reasoning_content"] = choice.reasoning
    if choice.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in choice.calls
        ]
    return message


def _logprobs(asked: Asked, pieces: list[str]) -> dict[str, Any] | None:
    """One entry for each piece of text. Pieces are words, so there are fewer of them than tokens in the usage."""
    if not asked.logprobs:
        return None
    return {"content": [_logprob(asked, piece) for piece in pieces], "refusal": None}


def _logprob(asked: Asked, piece: str) -> dict[str, Any]:
    entry = {"token": piece, "logprob": -0.1, "bytes": list(piece.encode())}
    others = [
        {"token": f"{piece}~{rank}", "logprob": -2.0 - rank, "bytes": list(f"{piece}~{rank}".encode())}
        for rank in range(1, asked.top_logprobs)
    ]
    return {**entry, "top_logprobs": [entry, *others] if asked.top_logprobs else []}


def chunks(asked: Asked, script: Script, choices: tuple[Choice, ...], number: int, created: int) -> Iterator[Event]:
    """The stream as events, lazily: an endless one must not be built before it is sent."""
    meter = Meter(script, prompt_tokens(asked.body))
    base = _envelope(asked, script, "chat.completion.chunk", number, created)
    place = script.usage_place

    def event(
        index: int, delta: dict[str, Any], *, content: bool = False, finish: str | None = None, pieces: list[str]
    ) -> Event:
        one = {"index": index, "delta": delta, "logprobs": _logprobs(asked, pieces) if pieces else None}
        payload: dict[str, Any] = {**base, "choices": [{**one, "finish_reason": finish}]}
        with_usage = (place is UsagePlace.EVERY_CHUNK and meter.started) or (
            place is UsagePlace.LAST_CONTENT and finish is not None and index == len(choices) - 1
        )
        reported = usage_object(meter.usage(), script) if with_usage else None
        if reported is not None:
            payload["usage"] = reported
        elif asked.include_usage and place is UsagePlace.AS_ASKED:
            payload["usage"] = None
        return Event(payload, content, meter.usage() if meter.started or finish is not None else None)

    for index in range(len(choices)):
        yield event(index, {"role": "assistant", "content": "", "refusal": None}, pieces=[])
    streams = [_deltas(script, index, choice, meter) for index, choice in enumerate(choices)]
    while streams:
        # Round robin, as vendors interleave the choices of one request.
        for stream in list(streams):
            step = next(stream, None)
            if step is None:
                streams.remove(stream)
            else:
                index, delta, pieces = step
                yield event(index, delta, content=True, pieces=pieces)
    for index, choice in enumerate(choices):
        yield event(index, {}, finish=choice.finish_reason, pieces=[])
    if place in (UsagePlace.ALWAYS, UsagePlace.TWICE) or (place is UsagePlace.AS_ASKED and asked.include_usage):
        reported = usage_object(meter.usage(), script)
        if reported is not None:
            for _ in range(2 if place is UsagePlace.TWICE else 1):
                yield Event({**base, "choices": [], "usage": reported}, content=False, usage=meter.usage())


def _deltas(
    script: Script, index: int, choice: Choice, meter: Meter
) -> Iterator[tuple[int, dict[str, Any], list[str]]]:
    """The deltas of one choice, each metered when it is taken: (choice index, delta, pieces for logprobs)."""
    for delta in _thinking(script, choice, meter):
        yield index, delta, []
    for part, text in (("content", choice.content), ("refusal", choice.refusal)):
        pieces = [text] if text and script.fault is Fault.GIANT_LINE else pieces_of(text or "", script.chunks)
        for piece in pieces:
            meter.add_text(f"{index}.{part}", piece)
            yield index, {part: piece}, [piece] if part == "content" else []
    for position, call in enumerate(choice.calls):
        for delta in _call_deltas(script, position, call, meter, index):
            yield index, delta, []
    if script.fault is Fault.ENDLESS:
        for _ in range(ENDLESS_CHUNKS_MAX):
            meter.add_text(f"{index}.content", " and so on")
            yield index, {"content": " and so on"}, [" and so on"]


def _thinking(script: Script, choice: Choice, meter: Meter) -> Iterator[dict[str, Any]]:
    """Shown thinking piece by piece; hidden thinking is on the bill before the first visible word."""
    counted = ascii_count = other_count = 0
    for piece in pieces_of(choice.reasoning or "", script.chunks):
        ascii_now, others_now = count_characters(piece)
        ascii_count, other_count = ascii_count + ascii_now, other_count + others_now
        tokens = min(tokens_of(ascii_count, other_count), choice.reasoning_tokens)
        meter.add_reasoning(tokens - counted)
        counted = tokens
        yield {"reasoning_content": piece}
    meter.add_reasoning(choice.reasoning_tokens - counted)


def _call_deltas(script: Script, position: int, call: Call, meter: Meter, index: int) -> Iterator[dict[str, Any]]:
    """A call in OpenAI's delta form: id and name first, then the arguments in pieces."""
    meter.add_text(f"{index}.{position}.name", call.name)
    opening = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
    yield {"tool_calls": [{"index": position, **opening}]}
    for piece in pieces_of(call.arguments, script.chunks):
        meter.add_text(f"{index}.{position}.arguments", piece)
        yield {"tool_calls": [{"index": position, "function": {"arguments": piece}}]}
