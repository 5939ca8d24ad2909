"""From a request and a script to what the model "says": text, JSON, tool calls, refusal, thinking, finish reason. Pure.

Where on the path: `server` reads the body with `read_chat`, `compose` decides the content, `completion` spells it.

Invariants
1. The caller's output cap holds: visible and thinking tokens of a choice together never exceed it, unless the script
   ignores it.
2. A choice that was cut by the cap says `length`, whatever it is: text, JSON or a tool call.
3. A forced tool is called, a forbidden one is not, and after a tool's result the answer is in words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from service.simulator.answers import cut_to_tokens, plausible_object, plausible_text, seed_of, text_tokens
from service.simulator.schema_values import SchemaError, value_for
from service.simulator.script import Fault, Script
from service.simulator.usage import reasoning_tokens_of

CHOICES_MAX = 128
"""The largest `n`, as OpenAI has it."""

TOP_LOGPROBS_MAX = 20
"""The largest `top_logprobs`, as OpenAI has it."""


class BadRequest(ValueError):
    """The vendor refuses the request: HTTP `status`, the field to blame and a code, in OpenAI's words."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        """All of it goes into the error body."""
        super().__init__(message)
        self.param = param
        self.code = code
        self.status = status


@dataclass(frozen=True, slots=True)
class Asked:
    """What a chat request asks for. `cap` is the smaller of the output limits given, in tokens."""

    body: Mapping[str, Any]
    model: str
    stream: bool
    include_usage: bool
    n: int
    cap: int | None
    logprobs: bool
    top_logprobs: int


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of an answer; `arguments` is JSON text, perhaps cut by the cap."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice of an answer. `reasoning_tokens` counts shown and hidden thinking."""

    content: str | None
    refusal: str | None
    reasoning: str | None
    reasoning_tokens: int
    calls: tuple[Call, ...]
    finish_reason: str


def read_chat(raw: bytes) -> Asked:
    """Read the body of a chat request. Raises BadRequest where a real vendor would answer 400."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise BadRequest("We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("You must provide a model parameter.", param="model")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        raise BadRequest("'messages' must be a non-empty array of objects.", param="messages")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise BadRequest("'stream_options' must be an object.", param="stream_options")
    caps = [
        cap for name in ("max_tokens", "max_completion_tokens") if (cap := _integer(body, name, 1, 10**9)) is not None
    ]
    return Asked(
        body=body,
        model=model,
        stream=body.get("stream") is True,
        include_usage=bool(options and options.get("include_usage") is True),
        n=_integer(body, "n", 1, CHOICES_MAX) or 1,
        cap=min(caps, default=None),
        logprobs=body.get("logprobs") is True,
        top_logprobs=_integer(body, "top_logprobs", 0, TOP_LOGPROBS_MAX) or 0,
    )


def _integer(body: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadRequest(f"'{name}' must be an integer between {low} and {high}.", param=name)
    return value


def compose(asked: Asked, script: Script, number: int) -> tuple[Choice, ...]:
    """The choices of the answer; `number` makes tool call ids unique. Raises BadRequest for a schema with no value."""
    if script.ignores_cap:
        asked = replace(asked, cap=None)
    return tuple(_choice(asked, script, index, number) for index in range(asked.n))


def _choice(asked: Asked, script: Script, index: int, number: int) -> Choice:
    thinking = reasoning_tokens_of(script, asked.cap)
    left = None if asked.cap is None else asked.cap - thinking
    shown = script.reasoning
    if shown is not None and asked.cap is not None:
        shown = cut_to_tokens(shown, thinking)
    calls: tuple[Call, ...] = ()
    content: str | None = None
    refusal = script.refusal
    cut = asked.cap is not None and thinking < reasoning_tokens_of(script, None)
    if script.fault is Fault.GIANT_LINE:
        content = "x" * script.giant_bytes
    elif refusal is not None:
        refusal, cut = _capped(refusal, left, cut)
    elif script.answer is None and (tools := _tools_to_call(asked, script)):
        calls, cut = _capped_calls(_calls(tools, asked, index, number), left, cut)
    else:
        content, cut = _capped(_text(asked, script, index), left, cut)
    earned = "length" if cut else "tool_calls" if calls else "stop"
    return Choice(content, refusal, shown, thinking, calls, script.finish_reason or earned)


def _capped(text: str, left: int | None, cut: bool) -> tuple[str, bool]:  # noqa: FBT001 - a running flag, not an option
    if left is None:
        return text, cut
    kept = cut_to_tokens(text, left)
    return kept, cut or len(kept) < len(text)


def _text(asked: Asked, script: Script, index: int) -> str:
    if script.answer is not None:
        return script.answer
    model = script.served_model or asked.model
    wanted = asked.body.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_object":
        return plausible_object(asked.body, model, index)
    if kind == "json_schema":
        described = wanted.get("json_schema") if isinstance(wanted, dict) else None
        if not isinstance(described, dict) or "schema" not in described:
            raise BadRequest("'response_format.json_schema.schema' is missing.", param="response_format")
        try:
            value = value_for(described["schema"], str(described.get("name", "answer")))
        except SchemaError as error:
            raise BadRequest(f"Invalid schema: {error}", param="response_format") from None
        return json.dumps(value, ensure_ascii=False)
    return plausible_text(asked.body, model, index)


def _tools_to_call(asked: Asked, script: Script) -> list[dict[str, Any]]:
    """The functions this answer calls, one entry for each call; empty when it answers in words."""
    offered = asked.body.get("tools")
    functions = [
        tool["function"]
        for tool in (offered if isinstance(offered, list) else [])
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    ]
    choice = asked.body.get("tool_choice", "auto")
    if choice == "none" or not functions:
        return []
    if isinstance(choice, dict):
        named = choice.get("function")
        name = named.get("name") if isinstance(named, dict) else None
        chosen = [function for function in functions if function.get("name") == name]
        if not chosen:
            raise BadRequest(f"Tool choice {name!r} not found in 'tools'.", param="tool_choice")
        return chosen[:1]
    last = asked.body["messages"][-1].get("role")
    count = script.tool_calls
    if choice == "required":
        count = max(count, 1)
    elif last == "tool":
        # The result is in: an agent that is told to call again would never end.
        count = 0
    if asked.body.get("parallel_tool_calls") is False:
        count = min(count, 1)
    return [functions[position % len(functions)] for position in range(count)]


def _calls(functions: list[dict[str, Any]], asked: Asked, index: int, number: int) -> list[Call]:
    seed = seed_of(asked.body, index) % 16**8
    calls = []
    for position, function in enumerate(functions):
        name = str(function.get("name", ""))
        try:
            value = value_for(function.get("parameters") or {"type": "object"}, name)
        except SchemaError as error:
            raise BadRequest(f"Invalid schema for function {name!r}: {error}", param="tools") from None
        arguments = json.dumps(value, ensure_ascii=False)
        calls.append(Call(f"call_sim_{number}_{seed:08x}_{index}_{position}", name, arguments))
    return calls


def _capped_calls(calls: list[Call], left: int | None, cut: bool) -> tuple[tuple[Call, ...], bool]:  # noqa: FBT001 - as above
    """The calls that fit into `left` tokens; the last one may have its arguments cut, as real vendors do."""
    if left is None:
        return tuple(calls), cut
    kept: list[Call] = []
    for call in calls:
        left -= text_tokens(call.name)
        if left < 0:
            return tuple(kept), True
        arguments = cut_to_tokens(call.arguments, left)
        kept.append(Call(call.id, call.name, arguments))
        if len(arguments) < len(call.arguments):
            return tuple(kept), True
        left -= text_tokens(arguments)
    return tuple(kept), cut
