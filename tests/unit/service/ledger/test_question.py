"""Words of a question become values, or are refused by the name of their field."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from service.ledger.focus import FOCUS_GROUPING
from service.ledger.question import Question, Unclear, read_grouping, read_moment, read_question

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_nothing_said_is_everything_by_model():
    """The defaults of `coe costs`."""
    assert read_question(None, None, None, "table", NOW) == Question(("model",), None, None, "table")


def test_all_of_it():
    """A day counts whole at both ends; groupings stand once."""
    asked = read_question("day, model,day", "2026-11-01", "2026-11-02", "csv", NOW)
    bounds = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)
    assert asked == Question(("day", "model"), *bounds, "csv")


def test_focus_has_groupings_of_its_own():
    """More may be asked for; what would not add up may not."""
    assert read_question(None, None, None, "focus", NOW).by == FOCUS_GROUPING
    assert read_question("model,key", None, None, "focus", NOW).by == (*FOCUS_GROUPING, "key")
    with pytest.raises(Unclear, match="would not add up") as refused:
        read_question("tag", None, None, "focus", NOW)
    assert refused.value.param == "by"


@pytest.mark.parametrize(
    ("words", "param", "told"),
    [
        (("colour", None, None, "csv"), "by", "Choose from model, provider"),
        (("model," * 50, None, None, "csv"), "by", "longer than 200"),
        ((None, "soon", None, "csv"), "since", "Write 2026-11-01"),
        ((None, None, "40000d", "csv"), "until", "more than a hundred years"),
        ((None, "1d", "2d", "csv"), "since", "this range is empty"),
        ((None, None, None, "xml"), "format", "Choose from csv, focus, json, table"),
    ],
)
def test_what_makes_no_sense_is_named(words, param, told):
    """With the field, and with what to write."""
    with pytest.raises(Unclear, match=told) as refused:
        read_question(*words, NOW)
    assert refused.value.param == param


def test_a_long_word_is_not_repeated_whole():
    """A megabyte that was sent does not come back."""
    with pytest.raises(Unclear) as refused:
        read_moment("since", "9" * 10_000, NOW, is_end=False)
    assert len(str(refused.value)) < 400


def test_instants_and_groupings_alone():
    """As other commands use them."""
    assert read_moment("since", "24h", NOW, is_end=False) == NOW - timedelta(hours=24)
    assert read_grouping("key") == ("key",)
