"""The operator's pages over the ledger: /admin/costs.

Where on the path: beside it. They ask the index in a thread, a few at a time, so that no request waits for a report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from service import telemetry
from service.api.errors import render
from service.api.incoming import admit_operator, read_head
from service.api.openai import house_of, request_id_of
from service.api.query import read_query
from service.errors import CoeError, InvalidRequest, Stopping
from service.house import House
from service.ledger.question import Question, Unclear, read_question
from service.ledger.render import FORMATS
from service.ledger.savings import SAVINGS_FORMATS

router = APIRouter()

MEDIA: Final[Mapping[str, str]] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "focus": "text/csv; charset=utf-8",
    "table": "text/plain; charset=utf-8",
}
"""What each format of `coe costs` is on the wire."""

PARAMETERS: Final = ("by", "since", "until", "format", "savings")


@router.get("/admin/costs", summary="What was spent and saved: `coe costs` over HTTP")
async def costs(request: Request) -> Response:
    """The same report as the command's, in the same formats; `x-coe-degraded: index` when its newest rows may lack."""
    house, request_id = house_of(request), request_id_of(request)
    try:
        admit_operator(read_head(request.scope["headers"]), house)
        asked = _question(request, house)
        report, complete = await house.asking.ask(lambda: house.costs(asked))
    except CoeError as problem:
        return render(problem, request_id)
    except asyncio.CancelledError:
        return render(Stopping(), request_id)
    headers = {"x-request-id": request_id, "cache-control": "no-store"}
    if not complete:
        headers["x-coe-degraded"] = telemetry.PART_INDEX
    shapes = SAVINGS_FORMATS if asked.savings else FORMATS
    return Response(shapes[asked.shape](report), 200, headers, MEDIA[asked.shape])


def _question(request: Request, house: House) -> Question:
    """What the query asks; raises InvalidRequest with the parameter that makes no sense."""
    given = read_query(request.query_params.multi_items(), PARAMETERS)
    savings = given.get("savings", "false")
    if savings not in ("true", "false"):
        raise InvalidRequest("`savings` must be true or false", param="savings")
    try:
        asked = read_question(
            given.get("by"), given.get("since"), given.get("until"), given.get("format", "json"), house.clock.utc()
        )
    except Unclear as problem:
        raise InvalidRequest(f"`{problem.param}`: {problem}", param=problem.param) from problem
    if savings == "true" and asked.shape not in SAVINGS_FORMATS:
        raise InvalidRequest("`format` of savings must be table, csv or json", param="format")
    return replace(asked, savings=savings == "true")
