"""What is odd about vendors, as data: the names that providers.yaml may put in `quirks`, and what each does to a body.

Where on the path: `catalog.load` refuses names that are not in `QUIRKS`; `protocols.openai_chat` asks `body_changes`
what must differ in a request; `usage` and `protocols.openai_errors` act on those about answers, `routing` on
`no_forced_tool_choice` and on those about caches. A quirk is `name` or `name:value`; `Provider.quirks` maps name to
value (empty: none). Some are narrowed by their value to the wire names that begin so, several separated by `|`:
`no_sampling:gemini-3.8|gemini-4` concerns both families and no other model of the provider.

Invariants
1. A body differs from the caller's only by `model`, `coe`, `stream_options`, an output cap, and what a quirk demands.
2. The output cap never exceeds what the caller said under either name; of an answer that is gone on with, what is left.
3. Messages are changed inside their own bytes: nothing in them is parsed and written again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache

from service.domain.catalog import Deployment
from service.domain.chat import ChatRequest
from service.domain.rawjson import objects_in, scan

QUIRKS: Mapping[str, str] = {
    "max_tokens": "knows only `max_tokens`: `max_completion_tokens` is renamed",
    "max_completion_tokens": "knows only `max_completion_tokens`: `max_tokens` is renamed",
    "no_developer_role": "has no `developer` role: it becomes `system`",
    "no_stream_options": "refuses `stream_options`: it is removed, and usage comes unasked or is estimated",
    "no_store": "refuses `store`: it is removed",
    "no_sampling": "refuses `temperature`, `top_p`, `top_k`: they are removed; value: how the wire names begin, a|b",
    "temperature_positive": "wants 0 < temperature <= 1: values outside are moved to the nearest allowed one",
    "tool_stream": "streams tool calls only with `tool_stream: true`: it is added when a stream has tools",
    "tools_effort_none": "takes tools only with `reasoning_effort: none`: set; value: how the wire names begin, a|b",
    "strict_fields": "refuses fields it does not know: those outside `STRICT_FIELDS` are removed",
    "seed_field": "value: its name for `seed`, which is renamed",
    "cached_tokens": "value: the usage field that holds cache hits, inside the input count",
    "reasoning_beside": "reasoning tokens are counted beside `completion_tokens`, not inside",
    "reasoning_in_total": "thinking is counted in `total_tokens` alone: what the total has over prompt and completion",
    "usage_cost": "`usage.cost` is the USD figure on the invoice and is booked as it stands; value: its other name",
    "error_in_200": "a 200 body may hold an error even beside choices: a `code` or `base_resp` that is not 0",
    "no_api_key_ok": "works without a key",
    "no_forced_tool_choice": "refuses a forcing `tool_choice`: not chosen then; value: how the wire names begin, a|b",
    "cache_ttl_s": "value: for how many seconds a prompt prefix stays in its cache; 300 without it",
    "cache_marked": "caches only what a request marks with `cache_control`",
    "cache_write_marked": "caches by itself, and bills writes only for what a request marks with `cache_control`",
    "prefill": "goes on with an answer that is begun; value: `prefix` or `partial`, which the last message has to say, "
    "or `prefix_echoed` where the answer repeats the beginning",
    "thinking_field": "value: how thinking is switched on and off; informative",
}

STRICT_FIELDS = frozenset(
    {
        "frequency_penalty",
        "guardrails",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_mode",
        "random_seed",
        "reasoning_effort",
        "response_format",
        "safe_prompt",
        "stop",
        "stream",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
    }
)
"""What Mistral's chat endpoint knows: the one vendor that answers 422 to anything else."""

TEMPERATURE_MIN = b"0.01"
"""What stands in for 0 where a vendor wants more than 0: as good as greedy."""

NAMES_REMEMBERED = 1_024
"""Wire names whose spelling in JSON is remembered: a registry has a few hundred."""

_USAGE_ASKED = b'{"include_usage": true}'
_SAMPLING = ("temperature", "top_p", "top_k")
_CAPS = ("max_tokens", "max_completion_tokens")

Changes = dict[str, bytes | None]
"""Members of a body as `RawObject.edited` wants them: new bytes, or `None` for removed."""


def body_changes(chat: ChatRequest, deployment: Deployment, output_tokens_cap: int | None) -> Changes:
    """What must differ in the caller's body for this deployment. `output_tokens_cap` is a bound of ours, in tokens."""
    quirks = deployment.provider.quirks
    changes: Changes = {"model": _quoted(deployment.wire_name)}
    if "coe" in chat.body:
        changes["coe"] = None
    if quirks:
        removed = ["store"] if "no_store" in quirks else []
        if deployment.concerned_by("no_sampling"):
            removed.extend(_SAMPLING)
        _remove(chat, removed, changes)
    _stream_changes(chat, deployment, changes)
    _limit_changes(chat, deployment, output_tokens_cap, changes)
    if not quirks:
        return changes
    _value_changes(chat, deployment, changes)
    if "no_developer_role" in quirks:
        _role_changes(chat, changes)
    if chat.prefill is not None:
        _prefill_changes(chat, quirks.get("prefill", ""), changes)
    if "strict_fields" in quirks:
        changes = {name: change for name, change in changes.items() if name in STRICT_FIELDS}
        _remove(chat, [name for name in chat.body if name not in STRICT_FIELDS], changes)
    return changes


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


@lru_cache(maxsize=NAMES_REMEMBERED)
def _quoted(name: str) -> bytes:
    return _json(name)


def _remove(chat: ChatRequest, names: Iterable[str], changes: Changes) -> None:
    changes.update({name: None for name in names if name in chat.body})


def _stream_changes(chat: ChatRequest, deployment: Deployment, changes: Changes) -> None:
    """Ask for usage in every stream, and for streamed tool calls where a vendor wants to be asked."""
    if "no_stream_options" in deployment.provider.quirks:
        _remove(chat, ["stream_options"], changes)
    elif chat.stream and not chat.include_usage:
        own = chat.body.get("stream_options")
        changes["stream_options"] = _json({**own, "include_usage": True}) if own else _USAGE_ASKED
    wants_asking = "tool_stream" in deployment.provider.quirks and chat.body.get("tool_stream") is None
    if wants_asking and chat.stream and _has_tools(chat):
        changes["tool_stream"] = b"true"


def _has_tools(chat: ChatRequest) -> bool:
    return bool(chat.body.get("tools") or chat.body.get("functions"))


def _limit_changes(chat: ChatRequest, deployment: Deployment, output_tokens_cap: int | None, changes: Changes) -> None:
    """The output cap under the vendor's name for it; never above the caller's own."""
    quirks = deployment.provider.quirks
    only = None
    if "max_tokens" in quirks or "strict_fields" in quirks:
        only = "max_tokens"
    elif "max_completion_tokens" in quirks:
        only = "max_completion_tokens"
    own = chat.output_tokens_max
    cap = output_tokens_cap if own is None or (output_tokens_cap is not None and output_tokens_cap < own) else own
    if only is None and cap == own and chat.prefill is None:
        return  # the caller's own words, under whichever names, say it already
    name = only or ("max_tokens" if chat.body.get("max_tokens") is not None else "max_completion_tokens")
    _remove(chat, [other for other in _CAPS if other != name], changes)
    if cap is not None and chat.body.get(name) != cap:
        changes[name] = str(cap).encode()


def _value_changes(chat: ChatRequest, deployment: Deployment, changes: Changes) -> None:
    """Fields whose value or name the vendor wants otherwise."""
    body, quirks = chat.body, deployment.provider.quirks
    temperature = body.get("temperature")
    if "temperature_positive" in quirks and "temperature" not in changes and temperature is not None:
        if temperature <= 0:
            changes["temperature"] = TEMPERATURE_MIN
        elif temperature > 1:
            changes["temperature"] = b"1"
    # Set over the caller's own effort too: with any other the vendor refuses the whole request.
    if deployment.concerned_by("tools_effort_none") and _has_tools(chat) and body.get("reasoning_effort") != "none":
        changes["reasoning_effort"] = b'"none"'
    field = quirks.get("seed_field")
    if field and "seed" in body:
        changes["seed"] = None
        if field not in body and body["seed"] is not None:
            changes[field] = chat.raw.value("seed")


def _role_changes(chat: ChatRequest, changes: Changes) -> None:
    """Call developer messages system messages, each changed in place."""
    if all(message["role"] != "developer" for message in chat.body["messages"]):
        return
    raw = chat.raw.value("messages") or b""
    pieces: list[bytes] = []
    done = 0
    for (start, end), message in zip(objects_in(raw), chat.body["messages"], strict=True):
        if message["role"] == "developer":
            pieces += [raw[done:start], scan(raw[start:end]).edited({"role": b'"system"'})]
            done = end
    changes["messages"] = b"".join([*pieces, raw[done:]])


def _prefill_changes(chat: ChatRequest, way: str, changes: Changes) -> None:
    """Let the messages end with the answer as far as it came, marked as one to be gone on with."""
    raw = (changes.get("messages") or chat.raw.value("messages") or b"").rstrip()
    begun = {"role": "assistant", "content": chat.prefill, way.removesuffix("_echoed"): True}
    changes["messages"] = raw[:-1] + b", " + _json(begun) + b"]"
