"""The mistake that budgets are made against, forced into a router: check what is spent, and add what it cost afterwards.

Python runs a `sitecustomize` that it finds on its path before anything else. With this one nothing is reserved: the
control of `overspend.py`, which must be seen to overspend.
"""

from __future__ import annotations

from typing import Any

from service.guard import limits
from service.guard.counting import MONEY

_asked = limits._asked


def _checked_only(*arguments: Any, **more: Any) -> list[tuple[Any, int, int]]:
    return [
        (counter, 0 if counter.kind == MONEY else amount, limit)
        for counter, amount, limit in _asked(*arguments, **more)
    ]


limits._asked = _checked_only
