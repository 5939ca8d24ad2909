"""Bytes of a chat request -> `ChatRequest`, or a 400 that names the field.

Where on the path: the first thing the chat route does. One scan for structure and duplicate keys (`rawjson.scan`), one
strict parse (orjson), one walk over the messages that checks shapes and counts sizes.

Invariants
1. Whatever passes can be routed and billed: every field that those read was checked here, with its limits.
2. Fields nobody here knows pass unchecked and unchanged: they are the vendor's business.
3. Error messages quote names and positions, never content.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from service.api.steering import read_steering
from service.domain.chat import ChatRequest, Sizes, count_characters
from service.domain.hosts import is_metadata_or_link_local, is_this_machine, plain
from service.domain.rawjson import RawJsonError, RawObject, scan
from service.errors import InvalidRequest

MESSAGES_MAX = 2_048
PARTS_MAX = 1_024
TOOLS_MAX = 1_024
N_MAX = 128
OUTPUT_TOKENS_CAP_MAX = 100_000_000
MODEL_CHARACTERS_MAX = 200
URL_CHARACTERS_MAX = 16_384
"""Of a link to an image; signed ones have some 2,000. Longer ones are data and belong into a data URL."""

TOOL_CALLS_MAX = 1_024
"""Of one message."""

_NAMED = 2
"""Members of a body that says its model and its messages and nothing else."""

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
LINKED_PARTS = frozenset({"image_url", "video_url", "audio_url"})


def read_chat(data: bytes, headers: Mapping[str, str]) -> ChatRequest:
    """Read a chat completions body. `headers` have lower-case names; only `x-coe-*` are looked at."""
    raw, body = parse_object(data)
    model = _model(body)
    messages = _messages(body)
    n, cap, stream, include_usage = _limits(body) if len(body) > _NAMED else (1, None, False, False)
    tools = _tools(body)
    modalities, sizes = _measure(messages, raw, tools)
    user = body.get("user")
    return ChatRequest(
        raw=raw,
        body=body,
        model=model,
        stream=stream,
        include_usage=include_usage,
        n=n,
        output_tokens_max=cap,
        needs=_needs(body, n, tools),
        modalities=modalities,
        sizes=sizes,
        steering=read_steering(body.get("coe"), headers),
        user=user if isinstance(user, str) else None,
    )


def _limits(body: Mapping[str, Any]) -> tuple[int, int | None, bool, bool]:
    """(choices, cap on the output, whether it is streamed, whether usage is); other numbers are checked."""
    n = _integer(body, "n", 1, N_MAX) or 1
    # Who says it twice means both: the lower one binds, under whichever name a vendor hears it.
    caps = [_integer(body, name, 1, OUTPUT_TOKENS_CAP_MAX) for name in ("max_completion_tokens", "max_tokens")]
    cap = min((cap for cap in caps if cap is not None), default=None)
    _number(body, "temperature", 0, 2)
    _number(body, "top_p", 0, 1)
    stream = _boolean(body, "stream")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InvalidRequest("`stream_options` must be an object", param="stream_options")
    return n, cap, stream, options is not None and _boolean(options, "include_usage", "stream_options.include_usage")


def parse_object(data: bytes) -> tuple[RawObject, dict[str, Any]]:
    """The scanned and the parsed form of a JSON object; raises InvalidRequest."""
    if not data or data.isspace():
        raise InvalidRequest("the body is empty; send a JSON object", code="empty_body")
    try:
        raw = scan(data)
        body = orjson.loads(data)
    except RawJsonError as problem:
        raise InvalidRequest(str(problem), code="invalid_json", param=problem.member) from None
    except orjson.JSONDecodeError as problem:
        raise InvalidRequest(
            f"the body is not valid JSON: {problem.msg} at line {problem.lineno} column {problem.colno}",
            code="invalid_json",
        ) from None
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object", code="invalid_json")
    return raw, body


def _model(body: Mapping[str, Any]) -> str:
    model = body.get("model")
    if model is None:
        raise InvalidRequest("`model` is missing; send `auto`, or a name from GET /v1/models", param="model")
    if not isinstance(model, str):
        raise InvalidRequest("`model` must be a string", param="model")
    if not model or len(model) > MODEL_CHARACTERS_MAX or not model.isprintable():
        raise InvalidRequest(
            f"`model` must be a printable name of 1 to {MODEL_CHARACTERS_MAX} characters", param="model"
        )
    return model


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages = body.get("messages")
    if messages is None:
        raise InvalidRequest("`messages` is missing", param="messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("`messages` must be a list with at least one message", param="messages")
    if len(messages) > MESSAGES_MAX:
        raise InvalidRequest(
            f"`messages` may hold at most {MESSAGES_MAX} messages, got {len(messages)}", param="messages"
        )
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise InvalidRequest(f"`{where}` must be an object", param=where)
        role = message.get("role")
        if not isinstance(role, str) or role not in ROLES:
            raise InvalidRequest(f"`{where}.role` must be one of {', '.join(sorted(ROLES))}", param=f"{where}.role")
        _content(message, role, where)
        calls = message.get("tool_calls")
        if calls is not None and (not isinstance(calls, list) or len(calls) > TOOL_CALLS_MAX):
            raise InvalidRequest(
                f"`{where}.tool_calls` must be a list of at most {TOOL_CALLS_MAX} calls", param=f"{where}.tool_calls"
            )
    return messages


def _content(message: Mapping[str, Any], role: str, where: str) -> None:
    content = message.get("content")
    if isinstance(content, str):
        return
    where = f"{where}.content"
    if content is None:
        if role == "assistant" or (role == "function" and "content" in message):
            return
        raise InvalidRequest(f"`{where}` is missing; it must be a string or a list of parts", param=where)
    if not isinstance(content, list) or not content or len(content) > PARTS_MAX:
        raise InvalidRequest(f"`{where}` must be a string or a list of 1 to {PARTS_MAX} parts", param=where)
    for index, part in enumerate(content):
        _part(part, f"{where}[{index}]")


def _part(part: object, where: str) -> None:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise InvalidRequest(f"`{where}` must be an object with a string `type`", param=where)
    kind = part["type"]
    if kind == "text" and not isinstance(part.get("text"), str):
        raise InvalidRequest(f"`{where}.text` must be a string", param=f"{where}.text")
    if kind in LINKED_PARTS:
        link = part.get(kind)
        url = link.get("url") if isinstance(link, dict) else None
        if not isinstance(url, str):
            raise InvalidRequest(f"`{where}.{kind}.url` must be a string", param=f"{where}.{kind}.url")
        _linked(url, f"{where}.{kind}.url")


def _linked(url: str, where: str) -> None:
    """The router never fetches a link, but a local engine might: no files, no loopback, no metadata services."""
    if url[:5].lower() == "data:":
        return
    if len(url) > URL_CHARACTERS_MAX:
        raise InvalidRequest(f"`{where}` is longer than {URL_CHARACTERS_MAX} characters; use a data URL", param=where)
    # Blanks and backslashes are where URL parsers part ways: one reads a path, another a host.
    if any(character.isspace() or character == "\\" or not character.isprintable() for character in url):
        raise InvalidRequest(f"`{where}` holds blanks, backslashes or control characters; encode them", param=where)
    try:
        parts = urlsplit(url)
        host = plain(parts.hostname or "")
    except ValueError:
        raise InvalidRequest(f"`{where}` is not a valid URL", param=where) from None
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise InvalidRequest(f"`{where}` must be an http, https or data URL", param=where)
    if is_this_machine(host) or is_metadata_or_link_local(host):
        raise InvalidRequest(f"`{where}` points to a local address; send the data itself as a data URL", param=where)


def _tools(body: Mapping[str, Any]) -> list[Any]:
    tools = body.get("tools")
    if tools is None:
        functions = body.get("functions")
        return functions if isinstance(functions, list) else []
    if not isinstance(tools, list) or len(tools) > TOOLS_MAX:
        raise InvalidRequest(f"`tools` must be a list of at most {TOOLS_MAX} tools", param="tools")
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
            raise InvalidRequest(f"`tools[{index}]` must be an object with a string `type`", param=f"tools[{index}]")
    return tools


def _needs(body: Mapping[str, Any], n: int, tools: list[Any]) -> frozenset[str]:
    """The capabilities that this body demands of a model, by their registry names."""
    needs: set[str] = set()
    if tools:
        needs.add("tools")
    response_format = body.get("response_format")
    if response_format is not None:
        if not isinstance(response_format, dict) or not isinstance(response_format.get("type"), str):
            raise InvalidRequest("`response_format` must be an object with a string `type`", param="response_format")
        if response_format["type"] in ("json_schema", "json_object"):
            needs.add(response_format["type"])
    if _boolean(body, "logprobs"):
        needs.add("logprobs")
    if n > 1:
        needs.add("n")
    return frozenset(needs)


_PART_MODALITY = {"image_url": "image", "input_audio": "audio", "video_url": "video", "file": "file"}


def _attached_bytes(part: Mapping[str, Any]) -> int:
    """Decoded size of what a part carries in base64; 0 when it only refers to something."""
    carried = part.get(part["type"])
    data = (carried.get("data") or carried.get("file_data")) if isinstance(carried, dict) else None
    return len(data) * 3 // 4 if isinstance(data, str) else 0


def _measure(messages: list[dict[str, Any]], raw: RawObject, tools: list[Any]) -> tuple[frozenset[str], Sizes]:
    """What kinds of input there are, and how much of each."""
    modalities = {"text"}
    characters = cjk = 0
    last_user = (0, 0)
    images = audio_bytes = file_bytes = unmeasured = 0
    for message in messages:
        content = message.get("content")
        own_characters = own_cjk = 0
        if isinstance(content, str):
            own_characters, own_cjk = count_characters(content)
        elif content:
            for part in content:
                text = part.get("text")
                if isinstance(text, str):
                    more, more_cjk = count_characters(text)
                    own_characters += more
                    own_cjk += more_cjk
                modality = _PART_MODALITY.get(part["type"])
                if modality is not None:
                    modalities.add(modality)
                    size = _attached_bytes(part)
                    images += modality == "image"
                    audio_bytes += size if modality == "audio" else 0
                    file_bytes += size if modality == "file" else 0
                    unmeasured += modality != "image" and size == 0
        calls = message.get("tool_calls")
        if calls:
            own_characters += len(orjson.dumps(calls))
        if message["role"] == "user":
            last_user = (own_characters, own_cjk)
        characters += own_characters
        cjk += own_cjk
    told = (raw.value("tools") or raw.value("functions") if tools else None, raw.value("response_format"))
    return frozenset(modalities), Sizes(
        characters=characters,
        cjk_characters=cjk,
        messages=len(messages),
        images=images,
        audio_bytes=audio_bytes,
        file_bytes=file_bytes,
        unmeasured=unmeasured,
        tools=len(tools),
        tool_characters=sum(len(one) for one in told if one),
        last_user_characters=last_user[0],
        last_user_cjk_characters=last_user[1],
    )


def _integer(body: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        raise InvalidRequest(f"`{name}` must be an integer from {low} to {high}", param=name)
    return value


def _number(body: Mapping[str, Any], name: str, low: float, high: float) -> None:
    value = body.get(name)
    if value is None:
        return
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidRequest(f"`{name}` must be a number from {low:g} to {high:g}", param=name)


def _boolean(body: Mapping[str, Any], name: str, where: str | None = None) -> bool:
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidRequest(f"`{where or name}` must be true or false", param=where or name)
    return value
