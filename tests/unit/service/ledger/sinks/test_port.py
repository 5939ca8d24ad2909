"""The values of the port: what can be grouped by, and which token columns there are."""

from __future__ import annotations

from service.domain.money import BUCKETS
from service.ledger.sinks.port import GROUPINGS, TOKEN_COLUMNS


def test_every_usage_bucket_has_its_column():
    """A bucket added to the domain can't be forgotten in the reports."""
    assert tuple(f"{bucket}_tokens" for bucket in BUCKETS if bucket != "requests") == TOKEN_COLUMNS


def test_the_documented_groupings_are_there():
    """The command line promises these."""
    assert {"model", "intent", "key", "tag", "day"} <= set(GROUPINGS)
    assert len(set(GROUPINGS)) == len(GROUPINGS)
