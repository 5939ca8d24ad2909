"""How candidates are ranked, one file per objective. To add one: its file, and its line in `POLICIES`.

Contract (tests/contract/test_policies.py): deterministic, never loses a candidate, and a candidate that gets cheaper
never falls behind one that it was ahead of.
"""

from __future__ import annotations

from collections.abc import Mapping

from service.domain.ports import Policy
from service.routing.policies.max_quality import max_quality
from service.routing.policies.min_cost import min_cost

POLICIES: Mapping[str, Policy] = {
    "min_cost": min_cost,
    "max_quality": max_quality,
}
