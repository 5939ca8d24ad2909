"""The values of the port: what can be grouped by, and which token columns there are."""

from __future__ import annotations

import pytest

from service.domain.decision import TerminalEntry
from service.domain.money import BUCKETS
from service.ledger.sinks.port import BASELINES, GROUPINGS, TOKEN_COLUMNS, check_grouping


def test_every_usage_bucket_has_its_column():
    """A bucket added to the domain can't be forgotten in the reports."""
    assert tuple(f"{bucket}_tokens" for bucket in BUCKETS if bucket != "requests") == TOKEN_COLUMNS


def test_the_documented_groupings_are_there():
    """The command line promises these."""
    assert {"model", "intent", "key", "tag", "day"} <= set(GROUPINGS)
    assert len(set(GROUPINGS)) == len(GROUPINGS)


def test_an_unknown_grouping_is_refused():
    """By name, with those that there are."""
    with pytest.raises(ValueError, match="'colour'; choose from model"):
        check_grouping(("model", "colour"))


def test_every_baseline_is_a_field_of_an_end():
    """What a writer does not write can't be added up; the first is the configured one."""
    assert {one.column for one in BASELINES} <= set(TerminalEntry._fields)
    assert BASELINES[0].column == "baseline_pusd"
