"""Values for JSON schemas, checked by an own small validator."""

import json

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from service.simulator.schema_values import NODES_MAX, SchemaError, value_for


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "simulated x"),
        ({"type": "string", "maxLength": 4}, "simu"),
        ({"type": "string", "minLength": 14}, "simulated x..."),
        ({"type": "string", "format": "date"}, "2026-01-31"),
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "integer", "exclusiveMinimum": 5}, 6),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "integer", "minimum": 5, "multipleOf": 4}, 8),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.3}, 0.3),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5}, 0.25),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["null", "integer"]}, 1),
        ({"enum": ["b", "a"]}, "b"),
        ({"const": 7}, 7),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 1),
        ({"allOf": [{"properties": {"a": {"type": "integer"}}}, {"required": ["a"], "type": "object"}]}, {"a": 1}),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, ["simulated x", "simulated x 2"]),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 0}, []),
        ({"type": "array", "prefixItems": [{"type": "integer"}], "maxItems": 1}, [1]),
        ({"properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["b"]}, {"b": 1}),
        ({"properties": {"a": {"type": "integer"}}}, {"a": 1}),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}, 1),
        (True, "simulated x"),
    ],
)
def test_keywords(schema, value):
    """One value for each keyword that is understood."""
    assert value_for(schema, "x") == value


class Person(BaseModel):
    """What pydantic makes of nesting, recursion, options and bounds."""

    name: str = Field(min_length=3, max_length=12)
    age: int = Field(ge=18, le=120)
    score: float = Field(gt=0, lt=1)
    friends: list["Person"]
    boss: "Person | None"
    tags: dict[str, int] = Field(default_factory=dict)


def test_pydantic_accepts_its_own_schema():
    """A recursive model: the recursion ends by itself, every bound holds."""
    person = Person.model_validate(value_for(Person.model_json_schema()))
    assert person.age == 18
    assert person.friends == []
    assert person.boss is None


def test_schemas_of_plain_types():
    """Types a caller may ask for directly."""
    for kind in (int, float, str, bool, list[int], tuple[int, str], dict[str, int] | None):
        adapter = TypeAdapter(kind)
        adapter.validate_python(json.loads(json.dumps(value_for(adapter.json_schema()))))


@pytest.mark.parametrize(
    "schema",
    [
        False,
        "no schema",
        {"type": "wonder"},
        {"enum": []},
        {"$ref": "#/nowhere"},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#"},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "string", "minLength": 10**9},
        {"type": "array", "minItems": 10**9},
        {"type": "array", "minItems": -1},
        {"allOf": [{"$ref": "#"}]},
        {"anyOf": [False]},
    ],
)
def test_refusals(schema):
    """What has no value, or too large a one, is refused and not guessed."""
    with pytest.raises(SchemaError):
        value_for(schema)


def test_work_is_bounded():
    """A schema that doubles at every level would need 2^60 nodes; it must be refused after NODES_MAX."""
    level = {"type": "integer"}
    definitions = {"d0": level}
    for depth in range(1, 30):
        below = {"$ref": f"#/$defs/d{depth - 1}"}
        definitions[f"d{depth}"] = {"type": "object", "properties": {"a": below, "b": below}, "required": ["a", "b"]}
    with pytest.raises(SchemaError, match=str(NODES_MAX)):
        value_for({"$ref": "#/$defs/d29", "$defs": definitions})
