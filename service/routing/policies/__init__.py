"""What "best" means, one file per objective. To add one: its file, its line in `POLICIES`, its word in the catalogue.

    bounds.py       what every objective shares: floors, the fallback order, the order of ties, `rank`
    wording.py      why each candidate stands where it stands, told when somebody asks
    min_cost.py     the cheapest that is good enough
    max_quality.py  the best that is cheap enough
    utility.py      the best value: quality less cost, at a stated exchange

Contract (tests/contract/test_policies.py): deterministic, independent of the order of arrival but for ties, never loses
a candidate, and one that gets cheaper or better never falls behind one that it was ahead of.
"""

from __future__ import annotations

from collections.abc import Mapping

from service.domain.ports import Policy
from service.routing.policies.max_quality import MaxQuality
from service.routing.policies.min_cost import MinCost
from service.routing.policies.utility import Utility

POLICIES: Mapping[str, Policy] = {
    "min_cost": MinCost(),
    "max_quality": MaxQuality(),
    "utility": Utility(),
}
