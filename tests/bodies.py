"""JSON bodies read a second time, plainly: what is JSON, where its members lie, and what a chat request must be.

The oracle of the fuzzer and of the fidelity tests. Everything here is the standard library's `json` and the documented
rules, written down once more: nothing is shared with the code under test but the numbers of its limits.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from service.api import chat_body
from service.domain import rawjson

BLANKS = " \t\n\r"
CHAT_FIELDS = frozenset({"model", "messages", "coe"})
_INT_LONGEST = 4_300
"""Digits that Python's own reader takes; a longer number is no double either."""


class NotJson(ValueError):
    """The bytes are no JSON object that may be accepted."""


def strict(data: bytes) -> dict[str, Any]:
    """A JSON object as RFC 8259 has it, no key twice, all numbers doubles, no half character; raises NotJson."""
    try:
        found = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_pairs,
            parse_constant=_no_constant,
            parse_float=_double,
            parse_int=_whole,
        )
        if not isinstance(found, dict):
            raise NotJson("no object")
        json.dumps(found, ensure_ascii=False).encode("utf-8")  # half a surrogate pair is no character
    except (ValueError, RecursionError) as problem:
        raise NotJson(str(problem)) from None
    if _depth(found) > rawjson.DEPTH_MAX:
        raise NotJson("too deep")
    return found


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotJson("a key twice")
    return found


def _no_constant(word: str) -> NoReturn:
    raise NotJson(f"{word} is no JSON")


def _double(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise NotJson("no double holds that")
    return number


def _whole(text: str) -> int | float:
    if len(text) > _INT_LONGEST or not math.isfinite(float(text)):
        raise NotJson("no double holds that")
    return int(text)


def _depth(value: object) -> int:
    """Levels of objects and lists."""
    deepest, todo = 0, [(value, 1)]
    while todo:
        one, depth = todo.pop()
        if isinstance(one, dict | list):
            deepest = max(deepest, depth)
            todo += [(inner, depth + 1) for inner in (one.values() if isinstance(one, dict) else one)]
    return deepest


def members(data: bytes) -> dict[str, tuple[bytes, bytes]]:
    """The top-level members of a JSON object in order: key as decoded -> (key as written, value as written)."""
    text = data.decode("utf-8")
    decoder = json.JSONDecoder()
    at = _past(text, text.index("{") + 1)
    found: dict[str, tuple[bytes, bytes]] = {}
    while text[at] != "}":
        key, end = decoder.raw_decode(text, at)
        quoted = text[at:end]
        at = _past(text, end)
        start = _past(text, at + 1)  # behind the colon
        _, end = decoder.raw_decode(text, start)
        found[key] = (quoted.encode(), text[start:end].encode())
        at = _past(text, end)
        if text[at] == ",":
            at = _past(text, at + 1)
    return found


def _past(text: str, at: int) -> int:
    while text[at] in BLANKS:
        at += 1
    return at


def faults(body: Mapping[str, Any]) -> set[str]:
    """The fields that a chat request may not have so, as `param` names them; none when it must be accepted.

    Addresses of images and the object `coe` are not judged here: `judged` says whether they are there.
    """
    found: set[str] = set()
    model = body.get("model")
    if not isinstance(model, str) or not 1 <= len(model) <= chat_body.MODEL_CHARACTERS_MAX or not model.isprintable():
        found.add("model")
    messages = body.get("messages")
    if not isinstance(messages, list) or not 1 <= len(messages) <= chat_body.MESSAGES_MAX:
        found.add("messages")
    else:
        for index, message in enumerate(messages):
            found |= _message_faults(message, f"messages[{index}]")
    for name, most in (
        ("n", chat_body.N_MAX), ("max_tokens", chat_body.OUTPUT_TOKENS_CAP_MAX), ("max_completion_tokens", chat_body.OUTPUT_TOKENS_CAP_MAX)
    ):  # fmt: skip
        value = body.get(name)
        if value is not None and not (type(value) is int and 1 <= value <= most):
            found.add(name)
    for name, largest in (("temperature", 2), ("top_p", 1)):
        value = body.get(name)
        if value is not None and not (type(value) in (int, float) and 0 <= value <= largest):
            found.add(name)
    for name in ("stream", "logprobs"):
        if body.get(name) not in (None, True, False) or type(body.get(name)) in (int, float):
            found.add(name)
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        found.add("stream_options")
    elif options is not None and type(options.get("include_usage", False)) not in (bool, type(None)):
        found.add("stream_options.include_usage")
    return found | _typed_faults(body)


def _typed_faults(body: Mapping[str, Any]) -> set[str]:
    """Of what must say its type."""
    found = (
        {"response_format"}
        if body.get("response_format") is not None and not _typed(body["response_format"])
        else set()
    )
    tools = body.get("tools")
    if tools is None:
        return found
    if not isinstance(tools, list) or len(tools) > chat_body.TOOLS_MAX:
        return found | {"tools"}
    return found | {f"tools[{at}]" for at, tool in enumerate(tools) if not _typed(tool)}


def _typed(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str)


def _message_faults(message: object, where: str) -> set[str]:
    if not isinstance(message, dict):
        return {where}
    found: set[str] = set()
    role = message.get("role")
    if not isinstance(role, str) or role not in chat_body.ROLES:
        found.add(f"{where}.role")
    calls = message.get("tool_calls")
    if calls is not None and (not isinstance(calls, list) or len(calls) > chat_body.TOOL_CALLS_MAX):
        found.add(f"{where}.tool_calls")
    content = message.get("content")
    if content is None:
        may_be_none = role == "assistant" or (role == "function" and "content" in message)
        return found if may_be_none else found | {f"{where}.content"}
    if isinstance(content, str):
        return found
    if not isinstance(content, list) or not 1 <= len(content) <= chat_body.PARTS_MAX:
        return found | {f"{where}.content"}
    for index, part in enumerate(content):
        here = f"{where}.content[{index}]"
        if not _typed(part):
            found.add(here)
        elif part["type"] == "text" and not isinstance(part.get("text"), str):
            found.add(f"{here}.text")
        elif part["type"] in LINKED:
            link = part.get(part["type"])
            if not isinstance(link, dict) or not isinstance(link.get("url"), str):
                found.add(f"{here}.{part['type']}.url")
    return found


LINKED = ("image_url", "video_url", "audio_url")
_LINK = re.compile(r"messages\[\d+\]\.content\[\d+\]\.(image|video|audio)_url\.url")


def is_link(param: str | None) -> bool:
    """Whether `param` is the address of a link."""
    return param is not None and _LINK.fullmatch(param) is not None


def is_beside(param: str | None) -> bool:
    """Whether a refusal is about what `faults` does not judge: the address of a link, or `coe`."""
    return is_link(param) or (param is not None and (param == "coe" or param.startswith("coe.")))
