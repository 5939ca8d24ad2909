"""The OpenAPI document: complete, valid, and true to the limits that the code checks."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator
from scenery import WordClassifier, a_catalog, a_model

from service.api import chat_body
from service.api.chat_body import read_chat
from service.api.document import documented
from service.app import build
from service.config import Settings
from service.errors import InvalidRequest
from service.startup import open_keys


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    """What the application serves."""
    chosen = Settings(data_dir=tmp_path_factory.mktemp("data"))
    app = build(chosen, a_catalog(a_model("m")), open_keys(chosen), simulated=False, classifier=WordClassifier())
    assert app.openapi() is app.openapi()
    return json.loads(json.dumps(app.openapi()))


@pytest.fixture(scope="module")
def asked(document):
    """A validator of chat bodies."""
    schema = {"$ref": "#/components/schemas/ChatRequest", "components": document["components"]}
    return Draft202012Validator(schema)


def test_every_schema_is_one_and_every_reference_leads_somewhere(document):
    """As JSON Schema 2020-12, which OpenAPI 3.1 uses."""
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    told = json.dumps(document)
    named = {name.split('"')[0] for name in told.split("#/components/schemas/")[1:]}
    assert named <= set(schemas)
    assert named | {"Steering"} == set(schemas), "a schema that nobody uses"
    assert "HTTPValidationError" not in told


def test_every_operation_says_what_it_takes_and_answers(document):
    """Bodies, answers with a schema, errors with theirs; keys where they are asked for."""
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            assert (method == "post") == ("requestBody" in told)
            assert {"200", "400", "431", "500", "503"} <= set(told["responses"])
            assert ("security" in told) == (path.startswith(("/v1/", "/admin/")) or path == "/metrics")
            for response in told["responses"].values():
                assert "x-request-id" in response["headers"]
                assert all(one["schema"] for one in response["content"].values())


def test_a_route_that_is_not_described_is_noticed(document):
    """A new route must be described."""
    told = {"summary": "", "description": "", "operationId": ""}
    with pytest.raises(KeyError):
        documented({**document, "paths": {"/v1/new": {"get": told}}})


HI = {"role": "user", "content": "hi"}
BODIES = [
    {"messages": [HI]},
    {"messages": []},
    {"messages": [HI] * (chat_body.MESSAGES_MAX + 1)},
    {"messages": [{"role": "wizard", "content": "x"}]},
    {"messages": [{"role": "user"}]},
    {"messages": [{"role": "user", "content": None}]},
    {"messages": [{"role": "assistant"}]},
    {"messages": [{"role": "function"}]},
    {"messages": [{"role": "function", "content": None}]},
    {"messages": [{"role": "user", "content": []}]},
    {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "own", "x": 1}]}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
    {"messages": [{**HI, "tool_calls": {}}]},
    {"messages": [HI], "n": chat_body.N_MAX},
    {"messages": [HI], "n": chat_body.N_MAX + 1},
    {"messages": [HI], "max_tokens": 0},
    {"messages": [HI], "max_completion_tokens": chat_body.OUTPUT_TOKENS_CAP_MAX + 1},
    {"messages": [HI], "temperature": 2.1},
    {"messages": [HI], "top_p": None},
    {"messages": [HI], "stream": "yes"},
    {"messages": [HI], "stream_options": {"include_usage": 1}},
    {"messages": [HI], "tools": [{"type": "function"}]},
    {"messages": [HI], "tools": [{}]},
    {"messages": [HI], "response_format": {"type": 1}},
    {"messages": [HI], "model": ""},
    {"messages": [HI], "model": "m" * (chat_body.MODEL_CHARACTERS_MAX + 1)},
    {"messages": [HI], "coe": {"policy": "x", "allow": ["a"], "deny": {"models": ["b"]}, "min_quality": 0.5}},
    {"messages": [HI], "coe": {"polcy": "x"}},
    {"messages": [HI], "coe": {"min_quality": 1.5}},
    {"messages": [HI], "coe": {"max_latency_ms": 0}},
    {"messages": [HI], "coe": {"tags": [""]}},
    {"messages": [HI], "coe": {"allow": {"countries": []}}},
    {"messages": [HI], "unknown": [1, {"x": None}]},
]


@pytest.mark.parametrize("members", BODIES, ids=lambda one: json.dumps(one)[:60])
def test_the_schema_and_the_reader_are_of_one_mind(members, asked):
    """What one refuses the other refuses."""
    body = {"model": "auto", **members}
    try:
        read_chat(json.dumps(body).encode(), {})
        taken = True
    except InvalidRequest:
        taken = False
    assert asked.is_valid(body) == taken
