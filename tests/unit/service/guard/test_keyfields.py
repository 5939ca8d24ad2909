"""The fields of a key, each held to what it may be. `test_keys` sees them refused before anything is written."""

from __future__ import annotations

import pytest

from service.domain.limits import NO_LIMITS, Limits
from service.errors import InvalidRequest
from service.guard.keyfields import LABELS_MAX, check_model, expiry_of, labels_of, limits_of, name_of, plain


def test_what_is_good_comes_back_as_it_was():
    """Labels once each, in the order given; no expiry is none."""
    assert name_of("张三") == "张三"
    assert plain("note", "a b", 3) == "a b"
    assert labels_of("tags", ["b", "a", "b"]) == ("b", "a")
    assert labels_of("tags", (str(number) for number in range(LABELS_MAX))) == tuple(map(str, range(LABELS_MAX)))
    assert expiry_of(None, 5) is None
    assert limits_of(Limits(concurrency=0, soft=True)) == Limits(concurrency=0, soft=True)
    assert limits_of(Limits()) is NO_LIMITS
    check_model("gpt-6")


@pytest.mark.parametrize("text", ["a\u202eb", "a\x85b", "a\u2028b"])
def test_characters_that_rewrite_a_line_are_refused(text):
    """Direction marks and line ends of other alphabets, too."""
    with pytest.raises(InvalidRequest):
        plain("note", text, 10)


def test_soft_needs_a_limit():
    """It says what happens at a limit; alone it would look like one."""
    with pytest.raises(InvalidRequest, match="without one there is nothing") as caught:
        limits_of(Limits(soft=True))
    assert caught.value.param == "soft"
