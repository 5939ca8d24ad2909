"""The OpenAI chat completions wire, as most vendors speak it. Pure: bytes and values in, bytes and values out.

Where on the path: `upstream.client` asks for the request to send and shows what comes back.

Invariants
1. The request body is the caller's bytes but for `model`, `coe`, `stream_options` and what a quirk demands.
2. `stream_options.include_usage` is always asked for, unless the vendor refuses it.
3. Reading never changes the answer: unary bodies and events are forwarded as they came.
4. A vendor's words reach the caller only when the fault is the caller's; never those of a 401 or 403.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from service.domain.catalog import Deployment
from service.domain.chat import ChatRequest, count_characters
from service.domain.ports import Answer, StreamSignal, UpstreamRequest
from service.errors import Broken, Replied
from service.upstream.usage import ReadUsage, chat_usage

VENDOR_MESSAGE_CHARACTERS_MAX = 1_000
RETRY_AFTER_S_MAX = 3_600.0

USER_AGENT = "coe-router"

_SAMPLING = ("temperature", "top_p", "top_k")
_CONTEXT_CODES = frozenset({"context_length_exceeded", "string_above_max_length", "1261"})
_CAUSES = {
    401: "auth_failed",
    402: "payment_required",
    403: "auth_failed",
    404: "model_not_found",
    408: "timeout_upstream",
    429: "rate_limited",
    529: "overloaded",
}


class OpenAIChat:
    """`openai_chat` of providers.yaml."""

    name = "openai_chat"

    def request(
        self, chat: ChatRequest, deployment: Deployment, *, api_key: str | None, output_tokens_cap: int | None
    ) -> UpstreamRequest:
        """See `WireProtocol.request`."""
        provider = deployment.provider
        headers = [
            ("content-type", "application/json"),
            ("accept", "text/event-stream" if chat.stream else "application/json"),
            ("accept-encoding", "identity"),
            ("user-agent", USER_AGENT),
            *provider.headers.items(),
        ]
        if api_key:
            headers.append(("authorization", f"Bearer {api_key}"))
        return UpstreamRequest(
            method="POST",
            url=provider.base_url.rstrip("/") + "/chat/completions",
            headers=tuple(headers),
            body=chat.raw.edited(_changes(chat, deployment, output_tokens_cap)),
            connect_s=provider.timeouts.connect_s,
        )

    def answer(self, body: bytes, deployment: Deployment) -> Answer:
        """See `WireProtocol.answer`."""
        parsed = _object(body, "the vendor's answer")
        error = _error_in(parsed, deployment)
        if error is not None:
            raise error
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
            finished = finished and choice.get("finish_reason") is not None
        read = _usage(parsed, deployment)
        return Answer(
            usage=read.usage,
            usage_flags=read.flags,
            model=_text(parsed.get("model")),
            id=_text(parsed.get("id")),
            finished=finished,
            output_characters=characters,
            cjk_characters=cjk,
        )

    def signal(self, data: bytes, deployment: Deployment, *, asked_for_usage: bool) -> StreamSignal:
        """See `WireProtocol.signal`."""
        if data.strip() == b"[DONE]":
            return StreamSignal(done=True)
        parsed = _object(data, "a stream event")
        error = _error_in(parsed, deployment)
        if error is not None:
            return StreamSignal(error=error)
        choices = parsed.get("choices")
        choices = choices if isinstance(choices, list) else []
        read = _usage(parsed, deployment)
        content = False
        characters = cjk = 0
        seen: list[int] = []
        finished: list[int] = []
        for choice in choices:
            if not isinstance(choice, dict):
                raise Broken("a stream event has a choice that is no object", cause="malformed_event")
            index = choice.get("index")
            index = index if isinstance(index, int) else 0
            seen.append(index)
            delta = choice.get("delta")
            if isinstance(delta, dict):
                more, more_cjk = _visible_characters(delta)
                characters += more
                cjk += more_cjk
                content = content or bool(more) or bool(delta.get("tool_calls")) or bool(delta.get("audio"))
            if choice.get("finish_reason") is not None:
                finished.append(index)
        return StreamSignal(
            content=content,
            seen_choices=tuple(seen),
            finished_choices=tuple(finished),
            usage=read.usage,
            usage_flags=read.flags,
            hide=not choices and parsed.get("usage") is not None and not asked_for_usage,
            model=_text(parsed.get("model")),
            id=_text(parsed.get("id")),
            output_characters=characters,
            cjk_characters=cjk,
        )

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, deployment: Deployment) -> Replied:
        """See `WireProtocol.refusal`."""
        message, code, param = _vendor_error(body)
        retry_after = _retry_after(headers.get("retry-after"))
        if status in (400, 409, 413, 422):
            lowered = (message or "").lower()
            too_long = code in _CONTEXT_CODES or "context length" in lowered or "maximum context" in lowered
            return Replied(
                _safe(message, deployment) or f"the vendor refused the request with status {status}",
                cause="context_length" if too_long else "caller_error",
                upstream_status=status,
                code=code or "upstream_refused",
                param=param,
                passthrough=True,
            )
        cause = _CAUSES.get(status, f"http_{status}")
        if status == 429 and code == "insufficient_quota":
            cause = "payment_required"
        return Replied(
            f"{deployment.id} answered with status {status}",
            cause=cause,
            upstream_status=status,
            retry_after_s=retry_after,
            code="upstream_auth_failed" if cause == "auth_failed" else None,
        )


def _changes(chat: ChatRequest, deployment: Deployment, output_tokens_cap: int | None) -> dict[str, bytes | None]:
    """The members of the body that must differ upstream, as `RawObject.edited` wants them."""
    quirks = deployment.provider.quirks
    body = chat.body
    changes: dict[str, bytes | None] = {"model": orjson.dumps(deployment.wire_name)}
    if "coe" in body:
        changes["coe"] = None
    if chat.stream and "no_stream_options" not in quirks:
        if not chat.include_usage:
            options = body.get("stream_options") or {}
            changes["stream_options"] = orjson.dumps({**options, "include_usage": True})
    elif "no_stream_options" in quirks and "stream_options" in body:
        changes["stream_options"] = None
    _limit_changes(chat, quirks, output_tokens_cap, changes)
    if "no_store" in quirks and "store" in body:
        changes["store"] = None
    if "no_sampling" in quirks:
        changes.update({name: None for name in _SAMPLING if name in body})
    temperature = body.get("temperature")
    if "temperature_positive" in quirks and temperature is not None and not 0 < temperature <= 1:
        changes["temperature"] = b"0.01" if temperature <= 0 else b"1"
    if "no_developer_role" in quirks and any(message["role"] == "developer" for message in body["messages"]):
        renamed = [
            {**message, "role": "system"} if message["role"] == "developer" else message
            for message in body["messages"]
        ]
        changes["messages"] = orjson.dumps(renamed)
    return changes


def _limit_changes(
    chat: ChatRequest, quirks: Mapping[str, str], output_tokens_cap: int | None, changes: dict[str, bytes | None]
) -> None:
    """The output cap under the vendor's name for it; never above the caller's own."""
    given = [name for name in ("max_tokens", "max_completion_tokens") if chat.body.get(name) is not None]
    if "max_tokens" in quirks:
        name = "max_tokens"
    elif "max_completion_tokens" in quirks:
        name = "max_completion_tokens"
    else:
        name = given[0] if given else "max_completion_tokens"
    cap = chat.output_tokens_max
    if output_tokens_cap is not None:
        cap = output_tokens_cap if cap is None else min(cap, output_tokens_cap)
    if cap is None or (given == [name] and cap == chat.body[name]):
        return
    for other in given:
        if other != name:
            changes[other] = None
    changes[name] = str(cap).encode()


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        parsed = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise Broken(f"{what} is not valid JSON", cause="malformed_answer") from None
    if not isinstance(parsed, dict):
        raise Broken(f"{what} is not a JSON object", cause="malformed_answer")
    return parsed


def _error_in(parsed: Mapping[str, Any], deployment: Deployment) -> Replied | None:
    """The error that a body with status 200 carries, if any."""
    error = parsed.get("error")
    code = parsed.get("code")
    if error:
        code = error.get("code") if isinstance(error, dict) else None
    elif parsed.get("choices") or code in (None, 0, "0", "", 200, "200"):
        base = parsed.get("base_resp")
        code = base.get("status_code") if isinstance(base, dict) else None
        if parsed.get("choices") or code in (None, 0):
            return None
    text = str(code)[:50]
    cause = "rate_limited" if "rate" in text or text in ("336501", "336502", "1002") else "error_in_200"
    return Replied(f"{deployment.id} answered 200 with an error", cause=cause, upstream_status=200)


def _usage(parsed: Mapping[str, Any], deployment: Deployment) -> ReadUsage:
    raw = parsed.get("usage")
    if not isinstance(raw, dict):
        return ReadUsage(None)
    return chat_usage(raw, deployment.provider.quirks, service_tier=parsed.get("service_tier"))


def _visible_characters(message: Mapping[str, Any]) -> tuple[int, int]:
    """(characters, CJK characters) that the model generated in a message or delta, reasoning and tool calls included."""
    characters = cjk = 0
    for name in ("content", "reasoning_content", "reasoning", "refusal"):
        text = message.get(name)
        if isinstance(text, str) and text:
            more, more_cjk = count_characters(text)
            characters += more
            cjk += more_cjk
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        for call in calls:
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict):
                characters += len(str(function.get("name") or "")) + len(str(function.get("arguments") or ""))
    return characters, cjk


def _vendor_error(body: bytes) -> tuple[str | None, str | None, str | None]:
    """(message, code, param) of a vendor's error body in any of the usual shapes."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None, None, None
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else None
    if isinstance(error, str):
        return error, None, None
    if not isinstance(error, dict):
        return None, None, None
    code = error.get("code")
    message = error.get("message") or error.get("msg")
    return _text(message), None if code is None else str(code)[:100], _text(error.get("param"))


def _safe(message: str | None, deployment: Deployment) -> str | None:
    """A vendor's message fit for the caller: bounded, printable, without any of our keys."""
    if message is None:
        return None
    for key in deployment.provider.api_keys:
        message = message.replace(key, "[key]")
    printable = "".join(character if character.isprintable() else " " for character in message)
    return printable[:VENDOR_MESSAGE_CHARACTERS_MAX]


def _text(value: object) -> str | None:
    return value[:VENDOR_MESSAGE_CHARACTERS_MAX] if isinstance(value, str) and value else None


def _retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, capped; dates and nonsense are ignored."""
    try:
        seconds = float(value) if value is not None else None
    except ValueError:
        return None
    return None if seconds is None or not 0 <= seconds else min(seconds, RETRY_AFTER_S_MAX)
