"""The screenplay of one answer: which bytes, which pauses, which end. Pure: the server only carries it out.

Where on the path: `server` chose a script and read the request; it performs what `chat_steps` yields, in order.

When a vendor bills. Nothing before the first generated token (text, thinking, part of a tool call); from then on the
whole prompt and all that was generated up to the last `Send` begun. Each `Send` that changes the bill carries the new
one. A client that leaves during a pause is not billed for what would have come after it.

Invariants
1. Steps are made lazily: an endless answer costs memory for one chunk.
2. Every screenplay ends with exactly one `End`.
3. A mid-stream fault never comes after the finish reason.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from service.domain.money import Usage
from service.simulator.completion import ENDLESS_CHUNKS_MAX, Event, chunks, unary
from service.simulator.composing import Asked, Choice
from service.simulator.http1 import LAST_CHUNK, chunk, response_head
from service.simulator.script import AfterAnswer, ErrorShape, Fault, Script

COMMENT_GAP_S = 0.02
"""Between the comments of a stream that has nothing else to say."""

HTML_PAGE = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body><h1>Please sign in</h1></body></html>"
"""What captive portals and misconfigured front ends answer to anything."""

ENDLESS_PIECE = b" and so on" * 100
"""What an endless unary answer repeats."""

BASE_RESP_CODE = 1002
"""MiniMax's code for a rate limit, sent with HTTP 200."""


class Ending(Enum):
    """What becomes of the connection."""

    KEEP = "keep"
    CLOSE = "close"
    STALE = "stale"  # kept open and reset when the next request comes
    RESET = "reset"
    HOLD = "hold"  # nothing more until the client leaves


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait, unless the client leaves."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Send:
    """Hand bytes to the socket. `status` marks the response head, `usage` the bill from here on."""

    data: bytes
    status: int | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class End:
    """The last step. `failed`: the script's fault was played out."""

    how: Ending
    failed: bool = False


Step = Pause | Send | End


def chat_steps(asked: Asked, script: Script, choices: tuple[Choice, ...], number: int, created: int) -> Iterator[Step]:
    """The answer to a chat request. `number` names it, `created` is Unix seconds."""
    early = _instead_of_an_answer(script, number)
    if early is not None:
        yield from early
    elif asked.stream:
        yield from _stream_steps(asked, script, choices, number, created)
    else:
        yield from _unary_steps(asked, script, choices, number, created)


def json_steps(body: dict[str, Any], script: Script, number: int, *, status: int = 200) -> Iterator[Step]:
    """A plain JSON answer (model lists, refusals), with the faults that make sense for one."""
    early = _instead_of_an_answer(script, number)
    if early is not None:
        yield from early
        return
    if script.fault is Fault.GIANT_LINE:
        body = {**body, "padding": "x" * script.giant_bytes}
    yield from _whole(_json(body), "application/json", status, script, number)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _headers(script: Script, number: int, content_type: str, *length: tuple[str, str]) -> list[tuple[str, str]]:
    headers = [("Content-Type", content_type), *length, ("X-Request-Id", f"req-sim-{number}"), ("X-Simulated", "true")]
    if script.retry_after is not None:
        headers.append(("Retry-After", script.retry_after))
    if script.after is AfterAnswer.CLOSE:
        headers.append(("Connection", "close"))
    return headers


def _head(script: Script, number: int, content_type: str, status: int, *length: tuple[str, str]) -> bytes:
    return response_head(status, _headers(script, number, content_type, *length), script.header_lines)


def _whole(
    body: bytes, content_type: str, status: int, script: Script, number: int, usage: Usage | None = None
) -> Iterator[Step]:
    """A complete answer with Content-Length, after the delay before headers."""
    yield Pause(script.header_delay_s)
    head = _head(script, number, content_type, status, ("Content-Length", str(len(body))))
    yield Send(head + body, status, usage)
    yield _natural_end(script)


def _natural_end(script: Script) -> End:
    failed = script.fault is not None
    if script.after is AfterAnswer.KEEP:
        return End(Ending.KEEP, failed)
    if script.after is AfterAnswer.CLOSE_ON_REUSE:
        return End(Ending.STALE, failed)
    return End(Ending.CLOSE, failed)


def error_body(script: Script) -> bytes:
    """The error of a script in its vendor's spelling."""
    shape = script.error_shape
    if shape is ErrorShape.TEXT:
        return script.error_message.encode()
    if shape is ErrorShape.CODE_MSG:
        return _json({"code": script.error_code, "msg": script.error_message})
    if shape is ErrorShape.BASE_RESP:
        return _json({"base_resp": {"status_code": BASE_RESP_CODE, "status_msg": script.error_message}})
    error = {
        "message": script.error_message,
        "type": script.error_type,
        "param": None,
        "code": script.error_code,
    }
    if shape is ErrorShape.CHUNK:
        ended = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        return _json({"object": "chat.completion.chunk", "error": error, "choices": [ended]})
    return _json({"error": error})


INSTEAD = frozenset(
    {
        Fault.RESET,
        Fault.RESET_ON_ACCEPT,
        Fault.HANG_UP,
        Fault.SILENCE,
        Fault.RAW,
        Fault.SILENCE_AFTER_HEADERS,
        Fault.ONLY_COMMENTS,
        Fault.HTTP_ERROR,
        Fault.HTML,
        Fault.EMPTY,
        Fault.REDIRECT,
    }
)
"""Faults that need no answer to spoil."""


def _instead_of_an_answer(script: Script, number: int) -> Iterator[Step] | None:
    """The steps of a fault of `INSTEAD`, else `None`."""
    fault = script.fault
    if fault in (Fault.RESET, Fault.RESET_ON_ACCEPT, Fault.HANG_UP, Fault.SILENCE, Fault.RAW):
        return _below_http(script, fault)
    if fault is Fault.SILENCE_AFTER_HEADERS:
        return _silence_after_headers(script, number)
    if fault is Fault.ONLY_COMMENTS:
        return _only_comments(script, number)
    if fault is Fault.HTTP_ERROR:
        kind = "text/plain" if script.error_shape is ErrorShape.TEXT else "application/json"
        return _whole(error_body(script), kind, script.status or 500, script, number)
    if fault is Fault.HTML:
        return _whole(HTML_PAGE, "text/html; charset=utf-8", script.status or 200, script, number)
    if fault is Fault.EMPTY:
        return _whole(b"", "application/json", script.status or 200, script, number)
    if fault is Fault.REDIRECT:
        return _redirect(script, number)
    return None


def _below_http(script: Script, fault: Fault) -> Iterator[Step]:
    yield Pause(script.header_delay_s)
    if fault is Fault.RAW:
        yield Send(script.raw)
    if fault is Fault.SILENCE:
        yield End(Ending.HOLD, failed=True)
    elif fault in (Fault.HANG_UP, Fault.RAW):
        yield End(Ending.CLOSE, failed=True)
    else:
        yield End(Ending.RESET, failed=True)


def _redirect(script: Script, number: int) -> Iterator[Step]:
    yield Pause(script.header_delay_s)
    status = script.status or 302
    lengths = (("Location", script.location), ("Content-Length", "0"))
    yield Send(_head(script, number, "text/plain", status, *lengths), status)
    yield _natural_end(script)


CHUNKED = ("Transfer-Encoding", "chunked")


def _silence_after_headers(script: Script, number: int) -> Iterator[Step]:
    yield Pause(script.header_delay_s)
    yield Send(_head(script, number, "text/event-stream", 200, CHUNKED), 200)
    yield End(Ending.HOLD, failed=True)


def _only_comments(script: Script, number: int) -> Iterator[Step]:
    yield Pause(script.header_delay_s)
    yield Send(_head(script, number, "text/event-stream", 200, CHUNKED), 200)
    for _ in range(ENDLESS_CHUNKS_MAX):
        yield Send(chunk(_comment(script)))
        yield Pause(script.chunk_delay_s or COMMENT_GAP_S)
    yield End(Ending.CLOSE, failed=True)


def _unary_steps(
    asked: Asked, script: Script, choices: tuple[Choice, ...], number: int, created: int
) -> Iterator[Step]:
    fault = script.fault
    answer, usage = unary(asked, script, choices, number, created)
    if fault is Fault.NO_CHOICES:
        answer = {**answer, "choices": []}
        answer.pop("usage", None)
        yield from _whole(_json(answer), "application/json", 200, script, number)
        return
    if fault is Fault.ERROR_EVENT:
        yield from _whole(error_body(script), "application/json", 200, script, number)
        return
    body = _json(answer)
    if fault is Fault.BROKEN_JSON:
        yield from _whole(body[: len(body) // 2], "application/json", 200, script, number, usage)
        return
    yield Pause(script.header_delay_s + script.first_content_delay_s)
    if fault is Fault.ENDLESS:
        yield from _endless_body(script, number, usage)
    elif fault in (Fault.CUT, Fault.CUT_RESET, Fault.STALL, Fault.END_EARLY):
        length = ("Content-Length", str(len(body)))
        yield Send(_head(script, number, "application/json", 200, length) + body[: len(body) // 2], 200, usage)
        ending = {Fault.STALL: Ending.HOLD, Fault.CUT_RESET: Ending.RESET}.get(fault, Ending.CLOSE)
        yield End(ending, failed=True)
    else:
        head = _head(script, number, "application/json", script.status or 200, ("Content-Length", str(len(body))))
        yield Send(head + body, script.status or 200, usage)
        yield _natural_end(script)


def _endless_body(script: Script, number: int, usage: Usage) -> Iterator[Step]:
    yield Send(_head(script, number, "application/json", 200, CHUNKED), 200, usage)
    yield Send(chunk(b'{"id":"chatcmpl-sim","object":"chat.completion","choices":[{"message":{"content":"'))
    for _ in range(ENDLESS_CHUNKS_MAX):
        yield Send(chunk(ENDLESS_PIECE))
        yield Pause(script.chunk_delay_s)
    yield End(Ending.CLOSE, failed=True)


def _stream_steps(
    asked: Asked, script: Script, choices: tuple[Choice, ...], number: int, created: int
) -> Iterator[Step]:
    yield Pause(script.header_delay_s)
    yield Send(_head(script, number, "text/event-stream; charset=utf-8", 200, CHUNKED), 200)
    if script.byte_order_mark:
        yield Send(chunk(b"\xef\xbb\xbf"))
    events = chunks(asked, script, choices, number, created)
    if script.fault is Fault.NO_CHOICES:
        for event in itertools.islice(events, 1):
            yield _event(event.payload | {"choices": []}, script)
    elif script.fault in MID_STREAM:
        yield from _until_the_fault(events, script)
        return
    else:
        yield from _content_steps(events, script)
    # One write for both: many clients hang up at [DONE], and that must not look as if they had left early.
    yield Send((chunk(_sse("[DONE]", script)) if script.done else b"") + LAST_CHUNK)
    yield _natural_end(script)


MID_STREAM = frozenset({Fault.CUT, Fault.CUT_RESET, Fault.END_EARLY, Fault.ERROR_EVENT, Fault.BROKEN_JSON, Fault.STALL})
"""Faults that end a stream before its finish reason."""


def _content_steps(events: Iterator[Event], script: Script) -> Iterator[Step]:
    """Every event with the pauses that belong before it."""
    first = True
    for event in events:
        if event.content:
            yield Pause(script.first_content_delay_s if first else script.chunk_delay_s)
            first = False
        yield _event(event.payload, script, event.usage)


def _until_the_fault(events: Iterator[Event], script: Script) -> Iterator[Step]:
    """The roles, `fault_after` chunks of content (or all there are), then the fault, when the next would have come."""
    roles_and_content = itertools.takewhile(lambda event: not _finishes(event), events)
    contents = 0
    spoilt: Event | None = None
    for event in roles_and_content:
        if event.content:
            yield Pause(script.chunk_delay_s if contents else script.first_content_delay_s)
            if contents == script.fault_after:
                spoilt = event
                break
            contents += 1
        yield _event(event.payload, script, event.usage)
    fault = script.fault
    if fault is Fault.ERROR_EVENT:
        yield Send(chunk(_sse(error_body(script).decode(), script)))
    elif fault is Fault.BROKEN_JSON:
        text = _json(spoilt.payload if spoilt is not None else {"id": "chatcmpl-sim", "choices": []}).decode()
        yield Send(chunk(_sse(text[: len(text) // 2], script)))
    if fault in (Fault.ERROR_EVENT, Fault.BROKEN_JSON, Fault.END_EARLY):
        yield Send(LAST_CHUNK)
    ending = {Fault.STALL: Ending.HOLD, Fault.CUT_RESET: Ending.RESET}.get(script.fault or Fault.CUT, Ending.CLOSE)
    yield End(ending, failed=True)


def _finishes(event: Event) -> bool:
    listed = event.payload["choices"]
    return not listed or listed[0]["finish_reason"] is not None


def _event(payload: dict[str, Any], script: Script, usage: Usage | None = None) -> Send:
    comment = _comment(script) if script.comments else b""
    return Send(chunk(comment + _sse(_json(payload).decode("utf-8", "surrogatepass"), script)), usage=usage)


def _comment(script: Script) -> bytes:
    return f": keep-alive{script.line_ending}{script.line_ending}".encode()


def _sse(data: str, script: Script) -> bytes:
    """One event. On two data lines a JSON object is parted after its brace, where a line feed changes nothing."""
    eol = script.line_ending.value
    lines = [data]
    if script.multi_line_data and data.startswith("{"):
        lines = ["{", data[1:]]
    text = "".join(f"data: {line}{eol}" for line in lines) + eol
    return text.encode("utf-8", "surrogatepass")
