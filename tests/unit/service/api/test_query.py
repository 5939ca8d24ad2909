"""Parameters of a page: known, once, neither empty nor endless."""

from __future__ import annotations

import pytest

from service.api.query import VALUE_CHARACTERS_MAX, read_query
from service.errors import InvalidRequest

KNOWN = ("by", "since")


def test_known_words():
    """In any order; none at all is fine."""
    assert read_query([("since", "7d"), ("by", "model")], KNOWN) == {"by": "model", "since": "7d"}
    assert read_query([], KNOWN) == {}


@pytest.mark.parametrize(
    ("pairs", "param", "told"),
    [
        ([("to", "x")], "query", "known are by, since"),
        ([("by", "a"), ("by", "b")], "by", "more than once"),
        ([("by", "")], "by", "1 to 300"),
        ([("by", "x" * (VALUE_CHARACTERS_MAX + 1))], "by", "1 to 300"),
    ],
)
def test_others_are_refused_by_name(pairs, param, told):
    """A misspelt word must not be ignored: the report would be another one."""
    with pytest.raises(InvalidRequest, match=told) as refused:
        read_query(pairs, KNOWN)
    assert refused.value.param == param
