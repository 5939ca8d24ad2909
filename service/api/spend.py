"""What budgets and limits have left now: /admin/spend for the operator, /v1/key for whoever holds a key.

Where on the path: beside it. Both look at the counters that refuse, which all replicas share; nothing is held.

Invariants
1. A caller is told of its own limits in full. Of a budget that it shares with others it is told what is left, which is
   what it may ask for, and not what others have used.
2. What can't be known is a 503, never a 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.budgets import instant, left, stands
from service.api.errors import render
from service.api.incoming import admit_operator, read_head
from service.api.openai import caller_of, house_of, request_id_of
from service.api.query import read_query
from service.domain.access import Caller
from service.domain.limits import PUSD_MAX, Limits
from service.domain.money import usd_text
from service.errors import CoeError, ConfigurationError, InvalidRequest, KeysUnavailable, Stopping
from service.guard.keys import KeyRecord
from service.guard.standing import Standing
from service.house import House

router = APIRouter()

KEYS_SHOWN: Final = 100
KEYS_SHOWN_MAX: Final = 1_000
"""Keys of one page: the counters of a thousand take a shared store some fifty steps, between which it serves others."""


@router.get("/admin/spend", summary="What every budget and key has used and left, now")
async def spend(request: Request) -> Response:
    """The budgets of the registry on the first page, and the limits of keys in the order in which they were made."""
    house, request_id = house_of(request), request_id_of(request)
    try:
        admit_operator(read_head(request.scope["headers"]), house)
        given = read_query(request.query_params.multi_items(), ("limit", "after"))
        most, after = _most(given.get("limit")), given.get("after")
        now = house.clock.utc()
        keys = await asyncio.to_thread(_limited_keys, house, now)
        page, more = _page(keys, after, most)
        wanted = {one.id: one.limits for one in page}
        standing = await house.pipeline.limiter.standing_of_all(now, wanted)
    except CoeError as problem:
        return render(problem, request_id)
    except asyncio.CancelledError:
        return render(Stopping(), request_id)
    names = {one.id: one.name for one in page}
    shown = [one for one in standing if after is None or one.key_id is not None]
    told = {
        "object": "list",
        "at": instant(now),
        "data": [{**_whose(one, names), **stands(one)} for one in shown],
        "has_more": more,
        "last_key_id": page[-1].id if page else None,
    }
    return _json(told, request_id)


@router.get("/v1/key", summary="The key that asks: what it has used, and what it has left")
async def key(request: Request) -> Response:
    """Its own limits, and what is left of the budgets that its requests share with others."""
    house, request_id = house_of(request), request_id_of(request)
    try:
        caller, now = caller_of(request, house), house.clock.utc()
        limiter = house.pipeline.limiter
        shared = [one for one in await limiter.standing(now, caller) if one.budget is not None]
        own = await limiter.standing_of_all(now, _with_money(caller))
    except CoeError as problem:
        return render(problem, request_id)
    except asyncio.CancelledError:
        return render(Stopping(), request_id)
    mine = [one for one in own if one.key_id == caller.key_id and one.key_id is not None]
    used = {one.measure: usd_text(one.used) for one in mine if one.window}
    told = {
        "object": "key",
        "id": caller.key_id,
        "name": caller.name,
        "tags": sorted(caller.tags),
        "at": instant(now),
        "used_day_usd": used.get("day"),
        "used_month_usd": used.get("month"),
        "limits": [stands(one) for one in mine if _limit_of(caller.limits, one.measure) is not None],
        "shared": [{"budget": one.budget, **left(one)} for one in shared],
    }
    return _json(told, request_id)


def _with_money(caller: Caller) -> Mapping[str, Limits]:
    """A key's limits, with the largest budget there is where it has none: its spend is counted all the same."""
    if caller.key_id is None:
        return {}
    limits = caller.limits
    day = PUSD_MAX if limits.day_pusd is None else limits.day_pusd
    month = PUSD_MAX if limits.month_pusd is None else limits.month_pusd
    return {caller.key_id: replace(limits, day_pusd=day, month_pusd=month)}


def _limit_of(limits: Limits, measure: str) -> int | None:
    return {
        "day": limits.day_pusd,
        "month": limits.month_pusd,
        "requests": limits.requests_per_minute,
        "tokens": limits.tokens_per_minute,
        "concurrency": limits.concurrency,
    }[measure]


def _limited_keys(house: House, now: datetime) -> list[KeyRecord]:
    """The keys that may be used and have limits, oldest first; for a thread, since the file may have to be read."""
    try:
        keys = house.keys.list()
    except ConfigurationError as problem:
        raise KeysUnavailable("The key file can't be trusted; `coe keys list` says why.") from problem
    now_ms = int(now.timestamp() * 1000)
    return [one for one in keys if one.limits.any and one.status(now_ms) == "active"]


def _page(keys: Sequence[KeyRecord], after: str | None, most: int) -> tuple[Sequence[KeyRecord], bool]:
    """(the keys of a page, whether there are more); raises InvalidRequest for a key that is not there."""
    start = 0
    if after is not None:
        place = next((at for at, one in enumerate(keys) if one.id == after), None)
        if place is None:
            raise InvalidRequest(
                "`after` must be the `last_key_id` of a page; that key has no limits now", param="after"
            )
        start = place + 1
    return keys[start : start + most], len(keys) > start + most


def _most(text: str | None) -> int:
    if text is None:
        return KEYS_SHOWN
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= KEYS_SHOWN_MAX):
        raise InvalidRequest(f"`limit` must be a whole number from 1 to {KEYS_SHOWN_MAX}", param="limit")
    return int(text)


def _whose(one: Standing, names: Mapping[str, str]) -> dict[str, object]:
    """Whom a limit is for: a budget of the registry with its tag, or a key."""
    name = None if one.key_id is None else names.get(one.key_id)
    return {"budget": one.budget, "tag": one.tag, "key_id": one.key_id, "key_name": name}


def _json(value: object, request_id: str) -> Response:
    headers = {"x-request-id": request_id, "cache-control": "no-store"}
    return Response(orjson.dumps(value), 200, headers, "application/json")
