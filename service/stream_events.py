"""Events of our own in a stream: its end, its error, its explanation, and where it goes on after it broke.

Where on the path: `pipeline` puts them between the vendor's events, which are passed on as they came. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from service.errors import UpstreamError
from service.routing.explain import record
from service.settling import Attempt, Work

DONE_EVENT = b"data: [DONE]\n\n"


def explanation(work: Work) -> dict[str, object]:
    """The full decision with its attempts: what `coe.explain` adds to an answer."""
    return {**record(work.decision, full=True), "attempts": [one.shown() for one in work.attempts]}


def explaining_event(work: Work, attempt: Attempt) -> bytes:
    """What `coe.explain` adds to a stream before its end."""
    chunk = {
        "id": attempt.tally.upstream_id or attempt.entry.attempt_id,
        "object": "chat.completion.chunk",
        "created": attempt.entry.at_ms // 1000,
        "model": attempt.tally.model or attempt.entry.wire_name,
        "choices": [],
        "coe": explanation(work),
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
