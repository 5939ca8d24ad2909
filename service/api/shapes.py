"""Pieces of JSON Schema that the OpenAPI document is made of.

Where on the path: beside it, below `document`.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
INSTANT: Schema = {"type": "string", "format": "date-time"}


def object_of(required: str, /, *, closed: bool = False, **properties: Schema) -> Schema:
    """An object; `required` are names with blanks between them."""
    schema: Schema = {"type": "object", "properties": properties, "required": required.split()}
    return schema | ({"additionalProperties": False} if closed else {})


def or_null(schema: Schema) -> Schema:
    """A schema whose value may be unknown."""
    return {"anyOf": [schema, {"type": "null"}]}


def list_of(items: Schema, most: int | None = None, least: int | None = None) -> Schema:
    """An array, of `least` to `most` items."""
    bounds = {"minItems": least, "maxItems": most}
    return {"type": "array", "items": items} | {name: bound for name, bound in bounds.items() if bound is not None}
