"""How limits are told to callers and operators, and what they would say to a request that is only tried.

Where on the path: beside it, for `spend` and the dry run.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from service.domain.access import Caller
from service.domain.catalog import Catalog
from service.domain.chat import ChatRequest
from service.domain.decision import Decision
from service.domain.limits import end_of
from service.domain.money import usd_text
from service.errors import BudgetStoreUnavailable
from service.guard.leases import Hold
from service.guard.limits import Limiter
from service.guard.standing import Standing
from service.routing.reserving import reservations

ROOM, CAPPED, REFUSED, UNKNOWN = "room", "capped", "refused", "unknown"
VERDICTS: Final = (ROOM, CAPPED, REFUSED, UNKNOWN)
"""What limits would say to a request now: all of it fits; only with a shorter answer; not at all; nobody can tell."""


async def foreseen(
    limiter: Limiter, decision: Decision, catalog: Catalog, caller: Caller, chat: ChatRequest, at: datetime
) -> Mapping[str, object] | None:
    """What the limits that a request is under would say to its first choice now; `None` where it is under none.

    Nothing is held, so another request may be quicker. `catalog` is the one that was decided by.
    """
    tags, chosen = chat.steering.tags, decision.chosen
    if limiter.lease(caller, tags) is None:
        return None
    options = reservations(chosen, catalog.models[chosen.deployment.model], decision.features)
    try:
        place, found = await limiter.foresee(at, caller, tags, [Hold.of(one) for one in options])
    except BudgetStoreUnavailable:
        return {"verdict": UNKNOWN, "may_cost_usd": None, "limits": []}
    reserved = options[place].reserved_pusd
    return {
        "verdict": REFUSED if place < 0 else CAPPED if place else ROOM,
        "may_cost_usd": None if reserved is None else usd_text(reserved),
        "limits": [{"budget": one.budget, **left(one), "fits": fits} for one, fits in found],
    }


def stands(one: Standing) -> dict[str, object]:
    """How a limit stands: money as exact decimals in USD, other measures as whole numbers."""
    if not one.window:
        used: dict[str, object] = {"limit": one.limit, "used": one.used}
    else:
        used = {"limit_usd": usd_text(one.limit), "used_usd": usd_text(one.used)}
    return {**left(one), **used}


def left(one: Standing) -> dict[str, object]:
    """What is left of it, and when it begins anew where that is a day or a month."""
    told: dict[str, object] = {"measure": one.measure, "soft": one.soft}
    if not one.window:
        return {**told, "left": one.left}
    return {**told, "window": one.window, "resets_at": instant(end_of(one.window)), "left_usd": usd_text(one.left)}


def instant(at: datetime) -> str:
    """In UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
