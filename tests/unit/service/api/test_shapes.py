"""Pieces of JSON Schema."""

from __future__ import annotations

from jsonschema import Draft202012Validator

from service.api.shapes import INTEGER, STRING, list_of, object_of, or_null


def test_pieces_fit_together():
    """Required names, closed objects, bounds, unknown values."""
    schema = object_of("a", closed=True, a=or_null(INTEGER), b=list_of(STRING, 2, 1))
    Draft202012Validator.check_schema(schema)
    check = Draft202012Validator(schema).is_valid
    assert check({"a": None})
    assert check({"a": 1, "b": ["x", "y"]})
    for wrong in ({}, {"a": "1"}, {"a": 1, "c": 1}, {"a": 1, "b": []}, {"a": 1, "b": ["x"] * 3}):
        assert not check(wrong)
    assert object_of("")["required"] == []
