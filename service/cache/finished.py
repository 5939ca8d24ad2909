"""Which answers are whole, and worth giving again: every choice asked for is there and came to its own end.

Where on the path: `answer_cache.keep`, after the answer has gone to its caller. Pure.

Only the finish reason `stop` will do. `length` and `content_filter` are cut; tool calls ask for something to happen,
and that it happens again is not for a cache to decide. What can't be read here is not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

STOP: Final = "stop"
_EVENT_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")


def whole_is_finished(body: bytes, choices: int) -> bool:
    """Whether an answer in one piece is a chat completion with so many choices that all ended by themselves."""
    parsed = _parsed(body)
    if parsed is None or parsed.get("error") or not isinstance(parsed.get("choices"), list):
        return False
    found = parsed["choices"]
    return len(found) == choices and all(
        isinstance(one, dict) and one.get("finish_reason") == STOP and not _calls(one.get("message")) for one in found
    )


def stream_is_finished(body: bytes, choices: int) -> bool:
    """The same of the events of a stream, which end with an empty line."""
    if not body.endswith(_EVENT_ENDS):
        return False
    ended: dict[int, object] = {}
    for line in body.splitlines():
        if not line.startswith(b"data:"):
            continue
        parsed = _parsed(line[5:])
        if parsed is None or parsed.get("error") or not isinstance(parsed.get("choices", []), list):
            return False
        for index, reason in _ends(parsed.get("choices", [])):
            if ended.get(index) is None:
                ended[index] = reason
    return len(ended) == choices and all(reason == STOP for reason in ended.values())


def _ends(choices: list[Any]) -> Iterator[tuple[int, object]]:
    """The index of each choice of an event, and its finish reason: `None` while it goes on."""
    for one in choices:
        if not isinstance(one, dict) or _calls(one.get("delta")):
            yield -1, "unreadable"
            continue
        index = one.get("index", 0)
        yield (index if isinstance(index, int) else -1), one.get("finish_reason") or None


def _calls(message: object) -> bool:
    return isinstance(message, dict) and bool(message.get("tool_calls") or message.get("function_call"))


def _parsed(data: bytes) -> dict[str, Any] | None:
    try:
        parsed = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None
