"""The OpenAPI document: what each route takes and answers, with the limits that the code enforces.

Where on the path: beside it. `chat.Application` serves it on loopback. The chat route is plain ASGI and the others read
their bodies themselves, so the framework knows paths and summaries, and nothing of bodies, headers and errors.

Invariants
1. Every mounted route is described here, and nothing else is.
2. Every limit is the constant that the code checks.
3. Nothing is said about fields that pass unchecked but that they may be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from service.api import chat_body, steering
from service.api.query import VALUE_CHARACTERS_MAX
from service.ledger.render import FORMATS
from service.ledger.sinks.port import GROUPINGS

Schema = dict[str, Any]

JSON = "application/json"
_REF = "#/components/schemas/"


def documented(framework: Mapping[str, Any]) -> Schema:
    """The framework's document with all that it doesn't know."""
    paths = {
        path: {method: _operation(method, path, told) for method, told in methods.items()}
        for path, methods in framework["paths"].items()
    }
    return {
        "openapi": framework["openapi"],
        "info": dict(framework["info"]),
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A virtual key, `coe-…`; see `coe keys`."}
            },
        },
    }


def _operation(method: str, path: str, told: Mapping[str, Any]) -> Schema:
    body, answers, refusals, parameters = _OPERATIONS[method, path]
    operation = {name: told[name] for name in ("summary", "description", "operationId")}
    operation["parameters"] = [*parameters, _REQUEST_ID]
    if body:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": {"$ref": _REF + body}}}}
    responses = {status: _response(status, content) for status, content in answers.items()}
    for status in sorted({*refusals, *_ANYWHERE} - set(answers)):
        responses[status] = _response(status, {JSON: "Error"})
    operation["responses"] = {str(status): response for status, response in responses.items()}
    if path.startswith(("/v1/", "/admin/")) or path == "/metrics":
        operation["security"] = [{"key": []}, {}]  # while no key was made, this machine's own programs need none
    return operation


def _response(status: int, content: Mapping[str, str | None]) -> Schema:
    headers = {"x-request-id": _text("Of this request, as in the log.")}
    if content == {JSON: "Error"}:
        headers["x-should-retry"] = _text("`false` when the same request again is of no use.", "^false$")
    if status in (429, 503):
        headers["retry-after"] = _text("Seconds to wait.", "^[0-9]+$")
    if "text/event-stream" in content:
        headers |= {f"x-coe-{name}": _text(why) for name, why in _DECIDED.items()}
    return {
        "description": HTTPStatus(status).phrase,
        "headers": headers,
        "content": {
            kind: {"schema": {"$ref": _REF + schema} if schema else {"type": "string"}}
            for kind, schema in content.items()
        },
    }


def _text(description: str, pattern: str | None = None) -> Schema:
    return {"description": description, "schema": {"type": "string"} | ({"pattern": pattern} if pattern else {})}


_DECIDED = {
    "decision-id": "For `GET /v1/decisions/{decision_id}`.",
    "model": "The registry model that answered.",
    "provider": "Its provider.",
    "intent": "What the request was about.",
    "policy": "The policy that applied.",
    "attempts": "Upstream attempts made.",
    "overhead-ms": "The router's own time.",
    "cost-usd": "What all attempts cost; not on streams, and not when a price is unknown.",
    "degraded": "What was given up to answer at all.",
    "simulated": "`true`: a simulated vendor made the answer up.",
}

_ANYWHERE = (400, 431, 500, 503)
"""What any request may be told: no valid HTTP or a header twice, too large a header, our fault, too many at once."""

_BODY = (408, 413, 415)
_KEYED = (401, 403)
_VENDORS = (409, 429, 502, 504)


def _header(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": description}


_REQUEST_ID = _header(
    "x-request-id", {"type": "string"}, "Kept when it is 8 to 64 letters, digits, `_`, `.` or `-`; else replaced."
)
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": steering.NAME_CHARACTERS_MAX}
_WORD: Schema = {**_NAME, "pattern": r"^[!-+\--~]+$"}
_WORDS: Schema = {"type": "string", "pattern": r"^[!-+\--~]+(,[!-+\--~]+){0,3}$", "maxLength": 200}
_FLAG: Schema = {"type": "string", "enum": ["true", "false", "1", "0"]}
_SHARE: Schema = {"type": "string", "pattern": r"^(0(\.[0-9]{1,18})?|1(\.0{1,18})?)$"}
_MONEY: Schema = {"type": "string", "pattern": r"^[0-9]{1,5}(\.[0-9]{1,18})?$"}
_MILLISECONDS: Schema = {"type": "string", "pattern": "^[1-9][0-9]{0,5}$"}
_STEERING_HEADERS = [
    _header(f"x-coe-{name}", schema, f"As `coe.{name.replace('-', '_')}` in the body, which wins.")
    for name, schema in (
        ("policy", _WORD), ("min-quality", _SHARE), ("max-cost-usd", _MONEY), ("max-latency-ms", _MILLISECONDS),
        ("allow", _WORDS), ("deny", _WORDS), ("plan", _WORD), ("session", _WORD), ("tags", _WORDS),
        ("explain", _FLAG), ("no-fallback", _FLAG),
    )
]  # fmt: skip


def _in_path(name: str, description: str) -> Schema:
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": description}


def _in_query(name: str, description: str, **more: object) -> Schema:
    schema = {"type": "string", "minLength": 1, "maxLength": VALUE_CHARACTERS_MAX, **more}
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


_Operation = tuple[str | None, dict[int, dict[str, str | None]], tuple[int, ...], list[Schema]]
"""(schema of the body, schemas of its answers by status and media type, statuses of its errors, parameters)."""

_OPERATIONS: Mapping[tuple[str, str], _Operation] = {
    ("post", "/v1/chat/completions"): (
        "ChatRequest",
        {200: {JSON: "ChatCompletion", "text/event-stream": "Event"}},
        (*_KEYED, 404, *_BODY, 422, *_VENDORS),
        _STEERING_HEADERS,
    ),
    ("post", "/v1/route"): (
        "ChatRequest",
        {200: {JSON: "DryRun"}},
        (*_KEYED, 404, *_BODY, 422),
        _STEERING_HEADERS,
    ),
    ("get", "/v1/decisions/{decision_id}"): (
        None,
        {200: {JSON: "Record"}},
        (*_KEYED, 404),
        [_in_path("decision_id", "`x-coe-decision-id` of an answer.")],
    ),
    ("get", "/v1/models"): (None, {200: {JSON: "Models"}}, _KEYED, []),
    ("get", "/v1/models/{model_id}"): (
        None,
        {200: {JSON: "Model"}},
        (*_KEYED, 404),
        [_in_path("model_id", "A name from the list, or `provider/model`.")],
    ),
    ("get", "/healthz"): (None, {200: {JSON: "Alive"}}, (), []),
    ("get", "/readyz"): (None, {200: {JSON: "Ready"}, 503: {JSON: "Ready"}}, (), []),
    ("get", "/metrics"): (None, {200: {"text/plain": None}}, _KEYED, []),
    ("get", "/admin/costs"): (
        None,
        {200: {JSON: "Costs", "text/csv": None, "text/plain": None}},
        _KEYED,
        [
            _in_query("by", f"With commas: {', '.join(GROUPINGS)}. Default: model."),
            _in_query("since", "2026-11-01, 2026-11-01T08:00Z, or 30m, 24h, 7d, 4w ago. UTC."),
            _in_query("until", "In the same forms. A day counts whole."),
            _in_query("format", "Default: json.", enum=sorted(FORMATS)),
        ],
    ),
}


def _object(required: str, /, *, closed: bool = False, **properties: Schema) -> Schema:
    """An object; `required` are names with blanks between them."""
    schema: Schema = {"type": "object", "properties": properties, "required": required.split()}
    return schema | ({"additionalProperties": False} if closed else {})


def _part(kind: str) -> Schema:
    """A part that links to something."""
    links: dict[str, Schema] = {"type": {"const": kind}, kind: _LINK}
    return {"type": "object", "properties": links, "required": list(links)}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(items: Schema, most: int | None = None, least: int | None = None) -> Schema:
    bounds = {"minItems": least, "maxItems": most}
    return {"type": "array", "items": items} | {name: bound for name, bound in bounds.items() if bound is not None}


_STRING: Schema = {"type": "string"}
_BOOLEAN: Schema = {"type": "boolean"}
_INTEGER: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": "number"}
_LINK: Schema = {
    "type": "object",
    "properties": {
        "url": {
            "type": "string",
            "minLength": 1,
            "description": "A data URL, or http or https to a host that is not this machine's or a link-local one.",
        }
    },
    "required": ["url"],
}
_TYPED: Schema = {"type": "object", "properties": {"type": _STRING}, "required": ["type"]}


def _schemas() -> dict[str, Schema]:
    return {
        **_asked(),
        **_money(),
        "Error": _object(
            "error",
            closed=True,
            error=_object(
                "message type param code",
                closed=True,
                message={"type": "string", "minLength": 1},
                type=_STRING,
                param=_or_null(_STRING),
                code=_or_null(_STRING),
            ),
        ),
        "ChatCompletion": _object("choices", choices=_list(_object("message", message={"type": "object"}), least=1)),
        "Event": _object(
            "data", data={"type": "string", "description": "Of each event: a chunk as JSON, or `[DONE]`."}
        ),
        "DryRun": {"allOf": [{"$ref": _REF + "Decision"}, _object("dry_run", dry_run={"const": True})]},
        "Record": {
            "allOf": [
                {"$ref": _REF + "Decision"},
                _object(
                    "request_id key_id attempts cost_usd",
                    request_id=_STRING,
                    key_id=_or_null(_STRING),
                    attempts=_list(_object("attempt_id model provider state", attempt_id=_STRING, state=_STRING)),
                    cost_usd=_or_null(_STRING),
                ),
            ]
        },
        "Decision": _object(
            "id created_ms at requested policy route plan intent judged_by features caller experience chosen "
            "runner_up reason_code margin propensity seed candidates rejected baseline ceiling_usd degraded notes "
            "versions what_if",
            id=_STRING,
            created_ms=_INTEGER,
            at={"type": "string", "format": "date-time"},
            requested=_STRING,
            policy=_STRING,
            chosen=_STRING,
            runner_up=_or_null(_STRING),
            reason_code=_STRING,
            candidates=_list(_object("deployment quality reason", deployment=_STRING, reason=_STRING), least=1),
            ceiling_usd=_or_null(_STRING),
            budgeted={"const": True},
        ),
        "Models": _object("object data", closed=True, object={"const": "list"}, data=_list({"$ref": _REF + "Model"})),
        "Model": _object(
            "id object created owned_by x_coe",
            closed=True,
            id=_STRING,
            object={"const": "model"},
            created=_INTEGER,
            owned_by=_STRING,
            x_coe={"type": "object"},
        ),
        "Alive": _object("status", closed=True, status={"const": "ok"}),
        "Ready": _object(
            "status simulated registry degraded",
            closed=True,
            status={"enum": ["ready", "unavailable"]},
            simulated=_BOOLEAN,
            registry=_STRING,
            degraded={"type": "object"},
        ),
    }


def _money() -> dict[str, Schema]:
    """What is told of spend."""
    return {
        "Costs": _list(
            _object(
                "requests attempts cost_usd baseline_cost_usd saved_usd estimated_share",
                requests=_INTEGER,
                attempts=_INTEGER,
                cost_usd=_STRING,
                baseline_cost_usd=_or_null(_STRING),
                saved_usd=_or_null(_STRING),
                estimated_share=_NUMBER,
            )
        ),
    }


def _asked() -> dict[str, Schema]:
    """What a request may say."""
    whole = "Written without fraction and exponent."
    cap = _or_null({"type": "integer", "minimum": 1, "maximum": chat_body.OUTPUT_TOKENS_CAP_MAX, "description": whole})
    parts = _list({"$ref": _REF + "Part"}, chat_body.PARTS_MAX, 1)
    names = {"anyOf": [_NAME, _list(_NAME, steering.LIST_ITEMS_MAX)]}
    selector = {"anyOf": [names, _object("", closed=True, models=names, providers=names, regions=names, tags=names)]}
    content = {"anyOf": [_STRING, parts]}
    calls = _or_null(_list({}, chat_body.TOOL_CALLS_MAX))
    linked = sorted(chat_body.LINKED_PARTS)
    given = sorted(chat_body.ROLES - {"assistant", "function"})
    return {
        "ChatRequest": _object(
            "model messages",
            model={"type": "string", "minLength": 1, "maxLength": chat_body.MODEL_CHARACTERS_MAX},
            messages=_list({"$ref": _REF + "Message"}, chat_body.MESSAGES_MAX, 1),
            n=_or_null({"type": "integer", "minimum": 1, "maximum": chat_body.N_MAX, "description": whole}),
            max_tokens=cap,
            max_completion_tokens=cap,
            temperature=_or_null({"type": "number", "minimum": 0, "maximum": 2}),
            top_p=_or_null({"type": "number", "minimum": 0, "maximum": 1}),
            stream=_or_null(_BOOLEAN),
            stream_options=_or_null(_object("", include_usage=_or_null(_BOOLEAN))),
            logprobs=_or_null(_BOOLEAN),
            tools=_or_null(_list(_TYPED, chat_body.TOOLS_MAX)),
            response_format=_or_null(_TYPED),
            coe=_or_null({"$ref": _REF + "Steering"}),
        ),
        # Only what a model said itself may be without content; a function's result may say that it has none.
        "Message": {
            "anyOf": [
                _object("role content", role={"enum": given}, content=content, tool_calls=calls),
                _object("role", role={"const": "assistant"}, content=_or_null(content), tool_calls=calls),
                _object("role content", role={"const": "function"}, content=_or_null(content), tool_calls=calls),
            ]
        },
        "Part": {
            "anyOf": [
                _object("type text", type={"const": "text"}, text=_STRING),
                *(_part(kind) for kind in linked),
                _object("type", type={"type": "string", "not": {"enum": ["text", *linked]}}),
            ]
        },
        "Steering": _object(
            "",
            closed=True,
            policy=_or_null(_NAME),
            min_quality=_or_null({"type": "number", "minimum": 0, "maximum": 1}),
            max_cost_usd=_or_null({"type": "number", "minimum": 0, "maximum": int(steering.MAX_COST_USD_MAX)}),
            max_latency_ms=_or_null({"type": "number", "minimum": 1, "maximum": steering.MAX_LATENCY_MS_MAX}),
            allow=_or_null(selector),
            deny=_or_null(selector),
            plan=_or_null(_NAME),
            session=_or_null(_NAME),
            tags=_or_null(names),
            explain=_or_null(_BOOLEAN),
            no_fallback=_or_null(_BOOLEAN),
        ),
    }
