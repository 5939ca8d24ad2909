"""The JSON schema that editors use: it takes what the loader takes, refuses what it refuses, and explains itself."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from service.catalog.positions import read
from service.catalog.problems import Problems
from service.catalog.schema import RegistryFile, json_schema

ANNOTATIONS = {"title", "description", "default", "$defs", "$schema", "format"}


def violations(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str = "$") -> Iterator[str]:
    """Where a value breaks a schema: the keywords that ours uses, by the letter of JSON Schema; others are errors."""
    unknown = set(schema) - ANNOTATIONS - set(KEYWORDS)
    assert not unknown, f"the checker of this test doesn't know {unknown}"
    for keyword, check in KEYWORDS.items():
        if keyword in schema:
            yield from check(value, schema, root, path)


def _reference(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    yield from violations(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, path)


def _type(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    wanted = schema["type"]
    if wanted == "number":
        good = number
    elif wanted == "integer":
        good = number and value == int(value)
    else:
        good = isinstance(value, kinds[wanted])
    if not good:
        yield f"{path}: not of type {wanted}"


def _any_of(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    if all(list(violations(value, option, root, path)) for option in schema["anyOf"]):
        yield f"{path}: none of anyOf"


def _enum(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    if value not in schema["enum"]:
        yield f"{path}: not in enum"


def _object(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    other = schema.get("additionalProperties", True)
    for key, item in value.items():
        at = f"{path}.{key}"
        schemas = [properties[key]] if key in properties else []
        schemas += [inner for pattern, inner in patterns.items() if re.search(pattern, key)]
        for inner in schemas:
            yield from violations(item, inner, root, at)
        if not schemas and other is False:
            yield f"{at}: not allowed"
        elif not schemas and isinstance(other, dict):
            yield from violations(item, other, root, at)
        if "propertyNames" in schema:
            yield from violations(key, schema["propertyNames"], root, at)


def _required(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{path}.{name}: missing" for name in schema["required"] if name not in value)


def _items(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from violations(item, schema["items"], root, f"{path}[{index}]")


def _max_items(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    if isinstance(value, list) and len(value) > schema["maxItems"]:
        yield f"{path}: too many items"


def _bounds(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    if not isinstance(value, int | Decimal) or isinstance(value, bool):
        return
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    if (low is not None and value < low) or (above is not None and value <= above) or value > schema["maximum"]:
        yield f"{path}: out of bounds"


def _string(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            yield f"{path}: too short"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{path}: breaks its pattern"


KEYWORDS = {
    "$ref": _reference,
    "type": _type,
    "anyOf": _any_of,
    "enum": _enum,
    "properties": _object,
    "patternProperties": _object,
    "additionalProperties": _object,
    "propertyNames": _object,
    "required": _required,
    "items": _items,
    "maxItems": _max_items,
    "minimum": _bounds,
    "exclusiveMinimum": _bounds,
    "maximum": _bounds,
    "minLength": _string,
    "pattern": _string,
}


@pytest.fixture
def plain(example: str) -> dict[str, Any]:
    """The example as an editor sees it."""
    document = read(example.encode(), Problems("f"))
    assert document is not None
    assert isinstance(document.value, dict)
    return copy.deepcopy(document.value)


def test_the_schema_accepts_the_example(plain: dict[str, Any]) -> None:
    """What loads shows no red line in an editor, and the pydantic classes take the whole file at once."""
    schema = json_schema()
    assert list(violations(plain, schema, schema)) == []
    whole = RegistryFile.model_validate(plain)
    assert whole.models["deepseek-flash"].deployments[0].prices is not None


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("version",), 2, "$.version: out of bounds"),
        (("extra",), 1, "$.extra: not allowed"),
        (("providers", "local", "protocl"), "x", "$.providers.local.protocl: not allowed"),
        (("providers", "local", "protocol"), "openai", "$.providers.local.protocol: not in enum"),
        (("providers", "local", "base_url"), None, "$.providers.local.base_url: not of type string"),
        (("providers", "local", "headers"), {"a b": "c"}, "$.providers.local.headers.a b: not allowed"),
        (("providers", "a/b"), {"base_url": "x"}, "$.providers.a/b: not allowed"),
        (("models", "qwen-onprem", "quality"), {"codin": 1}, "$.models.qwen-onprem.quality.codin: not in enum"),
        (("models", "qwen-onprem", "quality"), {"coding": 2}, "$.models.qwen-onprem.quality.coding: out of bounds"),
        (
            ("models", "qwen-onprem", "deployments", 0, "name"),
            3,
            "$.models.qwen-onprem.deployments[0].name: not of type string",
        ),
        (("policies", "careful", "max_cost_usd"), 0, "$.policies.careful.max_cost_usd: none of anyOf"),
        (("routes", 0, "when", "intent"), "maths", "$.routes[0].when.intent: none of anyOf"),
        (("currency", "rates"), {"cny": 1}, "$.currency.rates.cny: not allowed"),
        (("budgets", 1, "usd_per_day"), Decimal(9_000_001), "$.budgets[1].usd_per_day: none of anyOf"),
        (("budgets", 1, "usd_per_week"), 5, "$.budgets[1].usd_per_week: not allowed"),
        (("budgets", 0), {"usd_per_day": 5}, "$.budgets[0].name: missing"),
    ],
)
def test_the_schema_refuses(plain: dict[str, Any], path: tuple[Any, ...], value: object, where: str) -> None:
    """The commonest mistakes are red already while one types."""
    target: Any = plain
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    schema = json_schema()
    assert where in list(violations(plain, schema, schema))


def test_every_field_is_described() -> None:
    """Each mapping and each of its fields says what it means, in a sentence."""
    schema = json_schema()
    for name, part in [("the file", schema), *schema["$defs"].items()]:
        assert part["description"].endswith("."), name
        assert part["additionalProperties"] is False, name
        for field, described in part["properties"].items():
            assert len(described.get("description", "")) > 10, f"{name}.{field}"
            assert described["description"].endswith((".", "…")), f"{name}.{field}"


def test_the_schema_is_json_and_names_its_dialect() -> None:
    """It can be written to a file as it is, and dates are dates."""
    schema = json.loads(json.dumps(json_schema()))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$defs"]["PriceEntry"]["properties"]["from"]["format"] == "date"
    assert schema["$defs"]["PriceEntry"]["required"] == ["from"]
    assert "windows" in schema["$defs"]["PriceEntry"]["properties"]
