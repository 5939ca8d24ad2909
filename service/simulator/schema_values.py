"""A small valid value for a JSON schema: what the simulator answers to `json_schema` and puts into tool arguments.

Where on the path: `completion` calls `value_for` when a request asks for structured output or brings tools.

What is understood: type (one or a list), enum, const, default-free objects with properties and required, arrays with
items, prefixItems, minItems and maxItems, string lengths and the usual formats, numeric bounds and multipleOf, anyOf,
oneOf, allOf, and $ref into the same document. What is not: pattern, if/then/else, patternProperties, uniqueItems
beyond what numbering gives. A value under an unknown keyword may be invalid; that is a limit of a simulator.

Invariants
1. Equal schemas give equal values.
2. A recursive schema ends at its first recurrence: optional parts are left out, a `null` branch is taken.
3. Work is bounded by `NODES_MAX` and `DEPTH_MAX`; beyond them, or where nothing fits, `SchemaError` is raised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NODES_MAX = 5_000
"""Schema nodes visited for one value."""

DEPTH_MAX = 100
"""Nesting of schemas followed, references and branches included; OpenAI allows ten levels of objects, which need 30."""

ITEMS_MAX = 256
"""Elements of one array; a schema that wants more is refused."""

STRING_MAX = 100_000
"""Characters of one string; a schema that wants more is refused."""

FORMATS: Mapping[str, str] = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "simulated@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/simulated",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
"""One valid text for each format a schema may name; the addresses are those reserved for examples."""


class SchemaError(ValueError):
    """No value can be built: the schema is not an object, refers to nothing, contradicts itself or is too large."""


@dataclass(slots=True)
class _Walk:
    """One walk over one document: the root for references, the references being followed, and what is left to spend."""

    root: Any
    following: list[str] = field(default_factory=list)
    nodes_left: int = NODES_MAX


def value_for(schema: object, name: str = "answer") -> object:
    """A JSON value valid under `schema`. `name` shows up in strings. Raises SchemaError."""
    return _value(schema, name, 0, _Walk(schema))


def _value(schema: object, name: str, depth: int, walk: _Walk) -> object:
    walk.nodes_left -= 1
    if walk.nodes_left < 0 or depth > DEPTH_MAX:
        raise SchemaError(f"the schema needs more than {NODES_MAX} nodes or {DEPTH_MAX} levels; make it smaller")
    if schema is True or schema == {}:
        return f"simulated {name}"
    if not isinstance(schema, dict):
        raise SchemaError(f"the schema of {name!r} allows no value; give it a type")
    if "$ref" in schema:
        return _referred(schema, name, depth, walk)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return _first_of(schema["enum"], name)
    if "allOf" in schema:
        return _value(_merged(schema, walk), name, depth + 1, walk)
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return _branch(schema, keyword, name, depth, walk)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind is None:
        kind = _implied_type(schema)
    return _typed(kind, schema, name, depth, walk)


def _typed(kind: object, schema: Mapping[str, Any], name: str, depth: int, walk: _Walk) -> object:
    if kind == "object":
        return _object(schema, depth, walk)
    if kind == "array":
        return _array(schema, name, depth, walk)
    if kind == "string":
        return _string(schema, name)
    if kind in ("integer", "number"):
        return _number(schema, whole=kind == "integer")
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    raise SchemaError(f"the schema of {name!r} has the unknown type {kind!r}")


def _implied_type(schema: Mapping[str, Any]) -> str:
    """The type that the keywords speak of when a schema names none."""
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "number" if {"minimum", "maximum", "multipleOf"} & schema.keys() else "string"


def _first_of(values: object, name: str) -> object:
    if not isinstance(values, list) or not values:
        raise SchemaError(f"the enum of {name!r} is empty")
    return values[0]


def _referred(schema: Mapping[str, Any], name: str, depth: int, walk: _Walk) -> object:
    reference = schema["$ref"]
    if reference in walk.following:
        raise SchemaError(f"the schema of {name!r} contains itself with no way out")
    walk.following.append(reference)
    try:
        return _value(_resolve(reference, walk), name, depth + 1, walk)
    finally:
        walk.following.pop()


def _resolve(reference: object, walk: _Walk) -> object:
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise SchemaError(f"only references into the same schema are followed, got {reference!r}")
    found: Any = walk.root
    for part in reference.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or key not in found:
            raise SchemaError(f"the reference {reference!r} leads nowhere")
        found = found[key]
    return found


def _merged(schema: Mapping[str, Any], walk: _Walk) -> dict[str, Any]:
    """`allOf` laid over its siblings: properties and required are united, for all else the later part wins."""
    merged: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
    parts = schema["allOf"]
    for part in parts if isinstance(parts, list) else []:
        while isinstance(part, dict) and "$ref" in part:
            walk.nodes_left -= 1
            if walk.nodes_left < 0:
                raise SchemaError("the references of an allOf run in a circle")
            part = _resolve(part["$ref"], walk)  # noqa: PLW2901 - following a chain of references is the loop's purpose
        if not isinstance(part, dict):
            raise SchemaError("a part of an allOf is no schema")
        for key, value in part.items():
            if key == "properties":
                merged[key] = {**merged.get(key, {}), **value}
            elif key == "required":
                merged[key] = [*merged.get(key, []), *value]
            else:
                merged[key] = value
    return merged


def _branch(schema: Mapping[str, Any], keyword: str, name: str, depth: int, walk: _Walk) -> object:
    """The first branch that has a value, `null` last: an optional field shows its content while recursion allows."""
    branches = schema[keyword]
    if not isinstance(branches, list):
        raise SchemaError(f"the {keyword} of {name!r} is no list")
    siblings = {key: value for key, value in schema.items() if key in ("properties", "required", "type")}
    for branch in sorted(branches, key=lambda one: isinstance(one, dict) and one.get("type") == "null"):
        full = {**siblings, **branch} if isinstance(branch, dict) else branch
        try:
            return _value(full, name, depth + 1, walk)
        except SchemaError:
            if walk.nodes_left < 0:
                raise
    raise SchemaError(f"no branch of {name!r} has a value")


def _object(schema: Mapping[str, Any], depth: int, walk: _Walk) -> dict[str, Any]:
    properties = schema.get("properties")
    known: dict[str, Any] = properties if isinstance(properties, dict) else {}
    required = schema.get("required")
    needed = [key for key in required if isinstance(key, str)] if isinstance(required, list) else []
    value: dict[str, Any] = {}
    for key, described in known.items():
        if key in needed:
            value[key] = _value(described, key, depth + 1, walk)
        elif not needed:
            # Nothing is required, so everything is shown: an empty object would be valid and of no use to anybody.
            try:
                value[key] = _value(described, key, depth + 1, walk)
            except SchemaError:
                if walk.nodes_left < 0:
                    raise
    for key in needed:
        value.setdefault(key, f"simulated {key}")
    return value


def _array(schema: Mapping[str, Any], name: str, depth: int, walk: _Walk) -> list[Any]:
    at_least = _count(schema, "minItems", 0)
    at_most = _count(schema, "maxItems", ITEMS_MAX)
    if at_least > min(at_most, ITEMS_MAX):
        raise SchemaError(
            f"the array {name!r} wants between {at_least} and {at_most} items; at most {ITEMS_MAX} are made"
        )
    fixed = schema.get("prefixItems")
    values = [_value(one, name, depth + 1, walk) for one in fixed] if isinstance(fixed, list) else []
    items = schema.get("items", True)
    try:
        while len(values) < max(at_least, min(1, at_most)):
            values.append(_numbered(_value(items, name, depth + 1, walk), len(values)))
    except SchemaError:
        if len(values) < at_least or walk.nodes_left < 0:
            raise
    return values


def _numbered(value: object, position: int) -> object:
    """Tell the simulated strings of one array apart; other values stay, they may be bound by the schema."""
    if position and isinstance(value, str) and value.startswith("simulated "):
        return f"{value} {position + 1}"
    return value


def _string(schema: Mapping[str, Any], name: str) -> str:
    shortest = _count(schema, "minLength", 0)
    longest = _count(schema, "maxLength", STRING_MAX)
    if shortest > min(longest, STRING_MAX):
        raise SchemaError(
            f"the string {name!r} wants between {shortest} and {longest} characters; at most {STRING_MAX}"
        )
    text = FORMATS.get(str(schema.get("format")), f"simulated {name}")
    return text.ljust(shortest, ".")[:longest]


def _count(schema: Mapping[str, Any], keyword: str, default: int) -> int:
    value = schema.get(keyword, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SchemaError(f"{keyword} must be an integer >= 0, got {value!r}")
    return value


def _bound(schema: Mapping[str, Any], keyword: str) -> float | None:
    value = schema.get(keyword)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value


def _number(schema: Mapping[str, Any], *, whole: bool) -> int | float:
    """The first fitting number among 1, 0, the bounds, their neighbours, their middle, and multiples next to those."""
    low, high = _bound(schema, "minimum"), _bound(schema, "maximum")
    above, below = _bound(schema, "exclusiveMinimum"), _bound(schema, "exclusiveMaximum")
    step = _bound(schema, "multipleOf") or (1 if whole else None)
    starts = [1, 0, low, high]
    starts += [None if above is None else above + 1, None if below is None else below - 1]
    under = low if low is not None else above
    over = high if high is not None else below
    starts += [None if under is None or over is None else (under + over) / 2]
    for start in starts:
        if start is None:
            continue
        for value in [start] if step is None else [math.ceil(start / step) * step, math.floor(start / step) * step]:
            inside = (low is None or value >= low) and (high is None or value <= high)
            strictly = (above is None or value > above) and (below is None or value < below)
            if inside and strictly and (not whole or value == int(value)):
                return int(value) if whole else value
    raise SchemaError(f"no number fits the bounds {low}..{high}, above {above}, below {below}, in steps of {step}")
