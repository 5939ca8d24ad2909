"""The status that the log gives a request."""

from __future__ import annotations

import pytest

from service.ledger.statuses import told_as


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        ("complete", 200),
        ("stopped_at_budget", 200),
        ("client_left", 499),
        ("caller_stalled", 499),
        ("router_stopping", 503),
        ("internal_error", 500),
        ("timeout_idle", 502),
    ],
)
def test_every_ending_has_its_status_in_the_log(ended, status):
    """As docs/logs.md says."""
    assert told_as(ended) == status
