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
from service.api.document_feedback import feedback
from service.api.document_money import money
from service.api.query import VALUE_CHARACTERS_MAX
from service.api.shapes import BOOLEAN, INTEGER, NUMBER, STRING, Schema, list_of, object_of, or_null
from service.domain.catalog import CACHE_TTL_S_MAX
from service.ledger.render import FORMATS
from service.ledger.sinks.port import GROUPINGS

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
    "attempts": "Upstream attempts made; 0 for an answer from the cache.",
    "cache": "`hit`, `miss` or `bypass`, where the cache is on.",
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
_SWITCH: Schema = {"type": "string", "enum": ["true", "false", '{"read":false}', '{"ttl_s":60}']}
_SHARE: Schema = {"type": "string", "pattern": r"^(0(\.[0-9]{1,18})?|1(\.0{1,18})?)$"}
_MONEY: Schema = {"type": "string", "pattern": r"^[0-9]{1,5}(\.[0-9]{1,18})?$"}
_MILLISECONDS: Schema = {"type": "string", "pattern": "^[1-9][0-9]{0,5}$"}
_STEERING_HEADERS = [
    _header(f"x-coe-{name}", schema, f"As `coe.{name.replace('-', '_')}` in the body, which wins.")
    for name, schema in (
        ("policy", _WORD), ("min-quality", _SHARE), ("max-cost-usd", _MONEY), ("max-latency-ms", _MILLISECONDS),
        ("allow", _WORDS), ("deny", _WORDS), ("plan", _WORD), ("session", _WORD), ("tags", _WORDS),
        ("explain", _FLAG), ("no-fallback", _FLAG), ("resume", _FLAG), ("stop-at-budget", _FLAG), ("cache", _SWITCH),
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
    ("post", "/v1/feedback"): ("Feedback", {200: {JSON: "FeedbackTaken"}}, (*_KEYED, 404, *_BODY, 429), []),
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
    ("get", "/v1/key"): (None, {200: {JSON: "Key"}}, _KEYED, []),
    ("get", "/admin/spend"): (
        None,
        {200: {JSON: "Spend"}},
        _KEYED,
        [
            _in_query("limit", "Keys of a page, 1 to 1000. Default: 100.", pattern="^[0-9]{1,4}$"),
            _in_query("after", "`last_key_id` of the page before."),
        ],
    ),
    ("get", "/admin/costs"): (
        None,
        {200: {JSON: "Costs", "text/csv": None, "text/plain": None}},
        _KEYED,
        [
            _in_query("by", f"With commas: {', '.join(GROUPINGS)}. Default: model."),
            _in_query("since", "2026-11-01, 2026-11-01T08:00Z, or 30m, 24h, 7d, 4w ago. UTC."),
            _in_query("until", "In the same forms. A day counts whole."),
            _in_query("format", "Default: json.", enum=sorted(FORMATS)),
            _in_query("savings", "`true`: what was saved against each baseline.", enum=["true", "false"]),
        ],
    ),
}


def _part(kind: str) -> Schema:
    """A part that links to something."""
    links: dict[str, Schema] = {"type": {"const": kind}, kind: _LINK}
    return {"type": "object", "properties": links, "required": list(links)}


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
_TYPED: Schema = {"type": "object", "properties": {"type": STRING}, "required": ["type"]}


def _schemas() -> dict[str, Schema]:
    return {
        **_asked(),
        **feedback(),
        **money(),
        **_pages(),
        "Error": object_of(
            "error",
            closed=True,
            error=object_of(
                "message type param code",
                closed=True,
                message={"type": "string", "minLength": 1},
                type=STRING,
                param=or_null(STRING),
                code=or_null(STRING),
            ),
        ),
        "ChatCompletion": object_of(
            "choices", choices=list_of(object_of("message", message={"type": "object"}), least=1)
        ),
        "Event": object_of(
            "data", data={"type": "string", "description": "Of each event: a chunk as JSON, or `[DONE]`."}
        ),
        "DryRun": {
            "allOf": [
                {"$ref": _REF + "Decision"},
                object_of("dry_run budgets", dry_run={"const": True}, budgets=or_null({"$ref": _REF + "Foreseen"})),
            ]
        },
        "Record": {
            "allOf": [
                {"$ref": _REF + "Decision"},
                object_of(
                    "request_id key_id attempts cost_usd",
                    request_id=STRING,
                    key_id=or_null(STRING),
                    attempts=list_of(object_of("attempt_id model provider state", attempt_id=STRING, state=STRING)),
                    cost_usd=or_null(STRING),
                ),
            ]
        },
        "Decision": object_of(
            "id created_ms at requested policy route plan intent judged_by features caller experience chosen "
            "runner_up reason_code margin propensity seed candidates rejected baseline ceiling_usd degraded notes "
            "versions what_if",
            id=STRING,
            created_ms=INTEGER,
            at={"type": "string", "format": "date-time"},
            requested=STRING,
            policy=STRING,
            chosen=STRING,
            runner_up=or_null(STRING),
            reason_code=STRING,
            candidates=list_of(object_of("deployment quality reason", deployment=STRING, reason=STRING), least=1),
            ceiling_usd=or_null(STRING),
            budgeted={"const": True},
            draw=object_of("share among", closed=True, share=NUMBER, among=list_of(STRING, least=2)),
        ),
        **_models(),
    }


def _models() -> dict[str, Schema]:
    """What may be asked for."""
    return {
        "Models": object_of(
            "object data", closed=True, object={"const": "list"}, data=list_of({"$ref": _REF + "Model"})
        ),
        "Model": object_of(
            "id object created owned_by x_coe",
            closed=True,
            id=STRING,
            object={"const": "model"},
            created=INTEGER,
            owned_by=STRING,
            x_coe={"type": "object"},
        ),
    }


def _pages() -> dict[str, Schema]:
    """What whoever looks after the router is told."""
    return {
        "Alive": object_of("status", closed=True, status={"const": "ok"}),
        "Ready": object_of(
            "status simulated registry degraded",
            closed=True,
            status={"enum": ["ready", "unavailable"]},
            simulated=BOOLEAN,
            registry=STRING,
            degraded={"type": "object"},
        ),
    }


def _asked() -> dict[str, Schema]:
    """What a request may say."""
    whole = "Written without fraction and exponent."
    cap = or_null({"type": "integer", "minimum": 1, "maximum": chat_body.OUTPUT_TOKENS_CAP_MAX, "description": whole})
    parts = list_of({"$ref": _REF + "Part"}, chat_body.PARTS_MAX, 1)
    names = {"anyOf": [_NAME, list_of(_NAME, steering.LIST_ITEMS_MAX)]}
    selector = {"anyOf": [names, object_of("", closed=True, models=names, providers=names, regions=names, tags=names)]}
    content = {"anyOf": [STRING, parts]}
    calls = or_null(list_of({}, chat_body.TOOL_CALLS_MAX))
    linked = sorted(chat_body.LINKED_PARTS)
    given = sorted(chat_body.ROLES - {"assistant", "function"})
    return {
        "ChatRequest": object_of(
            "model messages",
            model={"type": "string", "minLength": 1, "maxLength": chat_body.MODEL_CHARACTERS_MAX},
            messages=list_of({"$ref": _REF + "Message"}, chat_body.MESSAGES_MAX, 1),
            n=or_null({"type": "integer", "minimum": 1, "maximum": chat_body.N_MAX, "description": whole}),
            max_tokens=cap,
            max_completion_tokens=cap,
            temperature=or_null({"type": "number", "minimum": 0, "maximum": 2}),
            top_p=or_null({"type": "number", "minimum": 0, "maximum": 1}),
            stream=or_null(BOOLEAN),
            stream_options=or_null(object_of("", include_usage=or_null(BOOLEAN))),
            logprobs=or_null(BOOLEAN),
            tools=or_null(list_of(_TYPED, chat_body.TOOLS_MAX)),
            response_format=or_null(_TYPED),
            coe=or_null({"$ref": _REF + "Steering"}),
        ),
        # Only what a model said itself may be without content; a function's result may say that it has none.
        "Message": {
            "anyOf": [
                object_of("role content", role={"enum": given}, content=content, tool_calls=calls),
                object_of("role", role={"const": "assistant"}, content=or_null(content), tool_calls=calls),
                object_of("role content", role={"const": "function"}, content=or_null(content), tool_calls=calls),
            ]
        },
        "Part": {
            "anyOf": [
                object_of("type text", type={"const": "text"}, text=STRING),
                *(_part(kind) for kind in linked),
                object_of("type", type={"type": "string", "not": {"enum": ["text", *linked]}}),
            ]
        },
        "Steering": object_of(
            "",
            closed=True,
            policy=or_null(_NAME),
            min_quality=or_null({"type": "number", "minimum": 0, "maximum": 1}),
            max_cost_usd=or_null({"type": "number", "minimum": 0, "maximum": int(steering.MAX_COST_USD_MAX)}),
            max_latency_ms=or_null({"type": "number", "minimum": 1, "maximum": steering.MAX_LATENCY_MS_MAX}),
            allow=or_null(selector),
            deny=or_null(selector),
            plan=or_null(_NAME),
            session=or_null(_NAME),
            tags=or_null(names),
            explain=or_null(BOOLEAN),
            no_fallback=or_null(BOOLEAN),
            resume=or_null(BOOLEAN),
            stop_at_budget=or_null(BOOLEAN),
            cache=or_null({"anyOf": [BOOLEAN, {"$ref": _REF + "CacheWish"}]}),
        ),
        "CacheWish": object_of(
            "",
            closed=True,
            read=BOOLEAN,
            write=BOOLEAN,
            ttl_s=or_null({"type": "integer", "minimum": 1, "maximum": CACHE_TTL_S_MAX}),
        ),
    }
