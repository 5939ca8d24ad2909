"""The status that the log gives a request, by how its last attempt ended.

Where on the path: its end; `settling` writes the line. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from service.ledger.recorder import (
    CALLER_STALLED,
    CLIENT_LEFT,
    COMPLETE,
    INTERNAL_ERROR,
    ROUTER_STOPPING,
    STOPPED_AT_BUDGET,
)

_STATUSES: Final[Mapping[str, int]] = {
    COMPLETE: 200,
    STOPPED_AT_BUDGET: 200,
    CLIENT_LEFT: 499,
    CALLER_STALLED: 499,
    ROUTER_STOPPING: 503,
    INTERNAL_ERROR: 500,
}


def told_as(ended: str) -> int:
    """The status for an attempt that ended so; what broke at the vendor is 502."""
    return _STATUSES.get(ended, 502)
