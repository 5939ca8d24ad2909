"""Events of our own in a stream: its end, its error, its explanation, and where it goes on after it broke.

Where on the path: `pipeline` puts them between the vendor's events, which are passed on as they came. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson

from service.errors import UpstreamError
from service.routing.explain import record
from service.work import Attempt, Work

_SAID: Final = ("output", "reasoning", "audio_out")
"""The buckets of usage that are completion tokens on the wire; all others but `requests` are the prompt's."""

DONE_EVENT = b"data: [DONE]\n\n"


def explanation(work: Work) -> dict[str, object]:
    """The full decision with its attempts: what `coe.explain` adds to an answer."""
    return {**record(work.decision, full=True), "attempts": [one.shown() for one in work.attempts]}


def explaining_event(work: Work, attempt: Attempt) -> bytes:
    """What `coe.explain` adds to a stream before its end."""
    return _chunk(attempt, choices=[], coe=explanation(work))


def stopped_events(work: Work, attempt: Attempt) -> bytes:
    """How a stream ends that was stopped at its budget: every choice cut for its length, and usage if it was asked for.

    Its attempt is settled: usage is what was booked.
    """
    tally = attempt.tally
    cut = sorted(tally.seen - tally.finished) or [0]
    end: dict[str, object] = {"delta": {}, "logprobs": None, "finish_reason": "length"}
    ends = [{"index": index, **end} for index in cut]
    events = _chunk(attempt, choices=ends, coe={"stopped": "budget"})
    row = work.attempts[attempt.entry.attempt_number - 1].row
    if work.chat.include_usage and row is not None:
        completion = sum(row.usage.get(name, 0) for name in _SAID)
        prompt = sum(count for name, count in row.usage.items() if name not in {*_SAID, "requests"})
        told = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        events += _chunk(attempt, choices=[], usage=told)
    return events


def _chunk(attempt: Attempt, **members: object) -> bytes:
    """An event in the shape of the vendor's."""
    chunk = {
        "id": attempt.tally.upstream_id or attempt.entry.attempt_id,
        "object": "chat.completion.chunk",
        "created": attempt.entry.at_ms // 1000,
        "model": attempt.tally.model or attempt.entry.wire_name,
        **members,
    }
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def error_event(problem: UpstreamError) -> bytes:
    """What a stream that broke ends with: every official SDK raises on it."""
    error = {"message": problem.message, "type": "upstream_error", "param": None, "code": f"stream_{problem.cause}"}
    return b"data: " + orjson.dumps({"error": error}) + b"\n\n"


def resumed_event(resumed: Mapping[str, object]) -> bytes:
    """What stands where a stream goes on that broke: SDKs pass over it, whoever asked looks for it."""
    event = {"object": "chat.completion.chunk", "choices": [], "coe": {"resumed": dict(resumed)}}
    return b"data: " + orjson.dumps(event) + b"\n\n"
