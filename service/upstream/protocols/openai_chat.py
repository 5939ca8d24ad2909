"""The OpenAI chat completions wire, as most vendors speak it. Pure: bytes and values in, bytes and values out.

Where on the path: `upstream.client` asks for the request to send and shows what comes back.

Invariants
1. The request body is the caller's bytes but for what `quirks.body_changes` names.
2. `stream_options.include_usage` is always asked for, unless the vendor refuses it.
3. Reading never changes the answer: unary bodies and events are forwarded as they came.
4. A choice is finished when it has a reason to be; an empty reason, as some vendors send with every chunk, is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from service.domain.catalog import Deployment
from service.domain.chat import ChatRequest, count_characters
from service.domain.ports import Answer, StreamSignal, TextFrame, UpstreamRequest
from service.errors import Broken, Replied
from service.upstream.protocols import openai_errors
from service.upstream.quirks import body_changes
from service.upstream.usage import ReadUsage, chat_usage

NAME_CHARACTERS_MAX = 200
"""Of a model name or an id in an answer: they go into the ledger."""

USER_AGENT = "coe-router"

_SENT: Final = (
    ("content-type", "application/json"),
    ("accept", "application/json"),
    ("accept-encoding", "identity"),
    ("user-agent", USER_AGENT),
)
_SENT_FOR_STREAM: Final = (_SENT[0], ("accept", "text/event-stream"), *_SENT[2:])

_TEXTS: Final = ("content", "reasoning_content", "reasoning")
"""What a delta calls text that is read in one way only: what people see, and thinking under either of its names."""

_TEXT: Final = re.compile(rb'"(?:%b)"\s*+:\s*+"((?:[^"\\]++|\\.)*+)"' % "|".join(_TEXTS).encode())
_PADDING: Final = re.compile(rb'"obfuscation"\s*+:\s*+"([^"\\]*+)"')  # OpenAI hides with it how long a text is
_PROBE: Final = "a text that no vendor sends"
_THOUGHTS: Final = ("reasoning_content", "reasoning", "reasoning_details")
_NO_TEXT: Final = ("refusal", "tool_calls", "function_call", "audio", "images")
_OTHER_CONTENT = ("tool_calls", "function_call", "audio", "images", "reasoning_details")
_UNFINISHED = (None, "", "null")


class OpenAIChat:
    """`openai_chat` of providers.yaml."""

    name = "openai_chat"

    def request(
        self, chat: ChatRequest, deployment: Deployment, *, api_key: str | None, output_tokens_cap: int | None
    ) -> UpstreamRequest:
        """See `WireProtocol.request`."""
        provider = deployment.provider
        headers = (*(_SENT_FOR_STREAM if chat.stream else _SENT), *provider.headers.items())
        return UpstreamRequest(
            "POST",
            provider.base_url.rstrip("/") + "/chat/completions",
            (*headers, ("authorization", f"Bearer {api_key}")) if api_key else headers,
            chat.raw.edited(body_changes(chat, deployment, output_tokens_cap)),
            provider.timeouts.connect_s,
        )

    def answer(self, body: bytes, deployment: Deployment) -> Answer:
        """See `WireProtocol.answer`."""
        parsed = _object(body, "the vendor's answer")
        error = openai_errors.error_in_200(parsed, deployment)
        if error is not None:
            try:
                raise error
            finally:
                del error  # it holds this frame: held in turn, it would keep the whole request until a collector comes
        choices = parsed.get("choices")
        if not isinstance(choices, list) or not choices:
            raise Broken("the vendor's answer has no choices", cause="no_choices")
        characters = cjk = 0
        finished = True
        for choice in choices:
            message = choice.get("message") if isinstance(choice, dict) else None
            if not isinstance(message, dict):
                raise Broken("the vendor's answer has a choice without a message", cause="no_choices")
            more, more_cjk = _visible_characters(message)
            characters += more
            cjk += more_cjk
            finished = finished and choice.get("finish_reason") not in _UNFINISHED
        usage, flags = _usage(parsed, deployment)
        return Answer(usage, _name(parsed.get("model")), _name(parsed.get("id")), finished, characters, cjk, flags)

    def signal(self, data: bytes, deployment: Deployment, *, asked_for_usage: bool) -> StreamSignal:
        """See `WireProtocol.signal`."""
        if data.strip() == b"[DONE]":
            return StreamSignal(done=True)
        parsed = _object(data, "a stream event")
        plain = None if "error_in_200" in deployment.provider.quirks else _plain_content(parsed)
        if plain is not None:
            return plain
        error = openai_errors.error_in_200(parsed, deployment)
        if error is not None:
            return StreamSignal(error=error)
        choices = parsed.get("choices")
        choices = choices if isinstance(choices, list) else []
        read = _usage(parsed, deployment)
        content = thinks = other = False
        text = ""
        characters = cjk = 0
        seen: list[int] = []
        finished: list[int] = []
        for choice in choices:
            if not isinstance(choice, dict):
                raise Broken("a stream event has a choice that is no object", cause="malformed_answer")
            index = choice.get("index")
            index = index if isinstance(index, int) else 0
            seen.append(index)
            delta = choice.get("delta")
            if isinstance(delta, dict):
                more, more_cjk = _visible_characters(delta)
                characters += more
                cjk += more_cjk
                content = content or more > 0 or any(delta.get(name) for name in _OTHER_CONTENT)
                own = delta.get("content")
                text += own if isinstance(own, str) else ""
                thinks = thinks or any(delta.get(name) for name in _THOUGHTS)
                other = other or len(choices) > 1 or any(delta.get(name) for name in _NO_TEXT) or isinstance(own, list)
            if choice.get("finish_reason") not in _UNFINISHED:
                finished.append(index)
        return StreamSignal(
            content=content,
            seen_choices=tuple(seen),
            finished_choices=tuple(finished),
            usage=read.usage,
            usage_flags=read.flags,
            hide=not asked_for_usage and parsed.get("usage") is not None and not any(map(_says_something, choices)),
            model=_name(parsed.get("model")),
            id=_name(parsed.get("id")),
            output_characters=characters,
            cjk_characters=cjk,
            text=text,
            thinks=thinks,
            other=other,
        )

    def without_beginning(self, data: bytes, characters: int) -> bytes:
        """See `WireProtocol.without_beginning`."""
        event = _object(data, "a stream event")
        for choice in event["choices"]:  # `signal` has read the same event: a list of objects
            delta = choice.get("delta")
            if isinstance(delta, dict):
                for name in ("role", *_THOUGHTS):
                    delta.pop(name, None)
                if isinstance(delta.get("content"), str):
                    delta["content"] = delta["content"][characters:]
        try:
            return json.dumps(event).encode()  # which writes whatever `_loads` reads
        except RecursionError:
            raise Broken("a stream event is nested too deeply", cause="malformed_answer") from None

    def text_frame(self, data: bytes, deployment: Deployment) -> TextFrame | None:
        """See `WireProtocol.text_frame`.

        Whether the gaps are what they look like is tried: with a text that is nowhere else in them, the event must be
        read as before but for that text.
        """
        text = None if "error_in_200" in deployment.provider.quirks else _TEXT.search(data)
        if text is None or _PROBE.encode() in data:
            return None
        padding = _PADDING.search(data, text.end())
        frame = TextFrame(data[: text.start(1)], data[text.end(1) :])
        if padding is not None:
            frame = TextFrame(frame.before, data[text.end(1) : padding.start(1)], data[padding.end(1) :])
        probe = _PROBE.encode()
        tried = frame.before + probe + frame.after + (probe + frame.end if padding is not None else b"")
        try:
            told, read = orjson.loads(data), orjson.loads(tried)
        except orjson.JSONDecodeError:
            return None
        if _plain_content(told) is None or _plain_content(read) is None:
            return None
        delta = told["choices"][0]["delta"]
        delta.update(dict.fromkeys(delta, _PROBE))
        if padding is not None:
            told["obfuscation"] = _PROBE
        return frame if read == told else None

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, deployment: Deployment) -> Replied:
        """See `WireProtocol.refusal`."""
        return openai_errors.refusal(status, headers, body, deployment)


def _plain_content(parsed: Any) -> StreamSignal | None:  # noqa: ANN401 # whatever a vendor sends
    """What nearly every event of a stream is, told without looking for anything else: some text of one choice."""
    if type(parsed) is not dict:
        return None
    choices = parsed.get("choices")
    if type(choices) is not list or len(choices) != 1 or parsed.get("usage") is not None or parsed.get("error"):
        return None
    choice = choices[0]
    if type(choice) is not dict or choice.get("finish_reason") is not None or choice.get("error"):
        return None
    if choice.get("usage") is not None or parsed.get("x_groq") is not None:
        return None
    delta, index = choice.get("delta"), choice.get("index")
    if type(delta) is not dict or len(delta) != 1 or type(index) is not int:
        return None
    ((name, text),) = delta.items()
    if type(text) is not str or not text or name not in _TEXTS:
        return None
    characters, cjk = count_characters(text)
    return StreamSignal(
        content=True,
        seen_choices=(index,),
        model=_name(parsed.get("model")),
        id=_name(parsed.get("id")),
        output_characters=characters,
        cjk_characters=cjk,
        text=text if name == "content" else "",
        thinks=name != "content",
    )


def _says_something(choice: Mapping[str, Any]) -> bool:
    """Whether a choice of a usage event carries more than its index.

    LiteLLM's usage event has a choice with an empty delta where OpenAI's list of choices is empty.
    """
    delta = choice.get("delta")
    return choice.get("finish_reason") not in _UNFINISHED or (isinstance(delta, dict) and any(delta.values()))


def _loads(data: bytes) -> object:
    """Parse what a vendor sent, as leniently as clients do.

    Half an emoji as an escape, or `-Infinity` among logprobs, is no reason to throw a paid answer away.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data)


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        parsed = _loads(data)
    except (ValueError, RecursionError):
        raise Broken(f"{what} is not valid JSON", cause="malformed_answer") from None
    if not isinstance(parsed, dict):
        raise Broken(f"{what} is not a JSON object", cause="malformed_answer")
    return parsed


def _usage(parsed: Mapping[str, Any], deployment: Deployment) -> ReadUsage:
    raw = parsed.get("usage")
    if not isinstance(raw, dict):
        raw = _usage_elsewhere(parsed)
    if raw is None:
        return ReadUsage(None)
    return chat_usage(raw, deployment.provider.quirks, service_tier=parsed.get("service_tier"))


def _usage_elsewhere(parsed: Mapping[str, Any]) -> dict[str, Any] | None:
    """Usage that is not where OpenAI has it: Moonshot's streams have it in the choice that ends, Groq's in `x_groq`."""
    choices = parsed.get("choices")
    for holder in (*(reversed(choices) if isinstance(choices, list) else ()), parsed.get("x_groq")):
        raw = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(raw, dict):
            return raw
    return None


def _visible_characters(message: Mapping[str, Any]) -> tuple[int, int]:
    """(characters, CJK characters) that the model generated in a message or delta, thinking and tool calls included."""
    characters = cjk = 0
    # Some send their thinking under both names at once: it is one text.
    content, thoughts = message.get("content"), message.get("reasoning_content") or message.get("reasoning")
    refusal, calls, function_call = message.get("refusal"), message.get("tool_calls"), message.get("function_call")
    if type(content) is str and not (thoughts or refusal or calls or function_call):
        return count_characters(content)
    for value in (content, thoughts, refusal):
        if value:
            for text in (value,) if isinstance(value, str) else _part_texts(value):
                more, more_cjk = count_characters(text)
                characters += more
                cjk += more_cjk
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    for function in (*functions, function_call):
        if isinstance(function, dict):
            for part in (function.get("name"), function.get("arguments")):
                if isinstance(part, str):
                    more, more_cjk = count_characters(part)
                    characters += more
                    cjk += more_cjk
    return characters, cjk


def _part_texts(value: object) -> list[str]:
    """The texts of content given as parts; Mistral puts thinking one list deeper."""
    found: list[str] = []
    for part in value if isinstance(value, list) else ():
        if isinstance(part, dict):
            thinking = part.get("thinking")
            inner = thinking if isinstance(thinking, list) else [part]
            found += [one["text"] for one in inner if isinstance(one, dict) and isinstance(one.get("text"), str)]
    return found


def _name(value: object) -> str | None:
    return value[:NAME_CHARACTERS_MAX] if isinstance(value, str) and value else None
