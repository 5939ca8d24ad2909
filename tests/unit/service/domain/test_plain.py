"""Plain data read back by type: the wanted one or a refusal that names the field and not its value."""

from __future__ import annotations

import pytest

from service.domain.plain import PlainError, Reader

TOLD = {"text": "t", "whole": 1, "number": 0.5, "flag": True, "texts": ["b", "a", "a"], "nothing": None}


def test_what_is_there():
    """As it was told."""
    read = Reader(TOLD, "it")
    assert (read.text("text"), read.whole("whole"), read.number("number"), read.flag("flag")) == ("t", 1, 0.5, True)
    assert (read.texts("texts"), read.names("texts")) == (("b", "a", "a"), frozenset("ab"))
    assert read.number("whole") == 1.0
    assert isinstance(read.number("whole"), float)
    assert read.value("nothing") is None
    assert ("text" in read, "other" in read, list(read)) == (True, False, list(TOLD))


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("text", ["whole", "nothing", "texts"]),
        ("whole", ["number", "flag", "text", "nothing"]),
        ("number", ["flag", "text", "nothing"]),
        ("flag", ["whole", "text", "nothing"]),
        ("texts", ["text", "nothing"]),
        ("names", ["text", "whole"]),
    ],
)
def test_what_is_of_another_type(method, wrong):
    """Refused: 1.0 is no whole number, true is no number, a text is no list."""
    read = Reader({**TOLD, "number": 1.0}, "it")
    for name in wrong:
        with pytest.raises(PlainError, match=f"`it.{name}` is not a?"):
            getattr(read, method)(name)
    with pytest.raises(PlainError, match="`it` has no `missing`"):
        getattr(read, method)("missing")


def test_what_is_no_object():
    """Said by name."""
    with pytest.raises(PlainError, match="`it` is not an object"):
        Reader(["secret"], "it")
    with pytest.raises(PlainError) as caught:
        Reader({"n": "secret"}, "it").whole("n")
    assert "secret" not in str(caught.value)
