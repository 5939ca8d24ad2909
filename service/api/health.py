"""/healthz: alive, nothing else. /readyz: can a request be answered, and what is degraded. /metrics: what was counted.

Readiness fails (503) only for what makes every request fail: no callable model, or a journal that can't be written.
"""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from service import telemetry
from service.api.errors import render
from service.api.incoming import admit_operator, read_head
from service.api.openai import house_of, request_id_of
from service.catalog.check import check
from service.errors import CoeError

router = APIRouter()


@router.get("/healthz", summary="Alive")
async def healthz() -> Response:
    """Always ok while the process can answer at all."""
    return Response(b'{"status":"ok"}', 200, media_type="application/json")


@router.get("/readyz", summary="Ready, and what is degraded")
async def readyz(request: Request) -> Response:
    """Names what is degraded; 503 when nothing could be answered."""
    house = house_of(request)
    report = check(house.pipeline.catalog, now=house.clock.utc())
    degraded: dict[str, object] = {}
    if report.unpriced:
        degraded["unpriced"] = [{"deployment": one.subject, "reason": one.detail} for one in report.unpriced]
    troubles = house.troubles()
    degraded |= troubles
    resting = house.pipeline.attempting.health.told(house.clock.monotonic())
    if resting:
        degraded["breakers"] = [
            {"deployment": one, "state": rest.state, "cause": rest.cause, "for_s": round(rest.for_s, 1)}
            | ({} if rest.callers is None else {"callers": rest.callers})
            for one, rest in resting.items()
        ]
    if not report.usable:
        degraded["providers"] = "none is active"
    ready = report.usable and telemetry.PART_LEDGER not in troubles
    body = {
        "status": "ready" if ready else "unavailable",
        "simulated": house.simulated,
        "registry": house.pipeline.catalog.version,
        "degraded": degraded,
    }
    return Response(orjson.dumps(body), 200 if ready else 503, media_type="application/json")


@router.get("/metrics", summary="Counters for Prometheus")
async def metrics(request: Request) -> Response:
    """In its text format; the operator's only."""
    house = house_of(request)
    try:
        admit_operator(read_head(request.scope["headers"]), house)
    except CoeError as problem:
        return render(problem, request_id_of(request))
    return Response(await house.metrics(), 200, media_type="text/plain; version=0.0.4")
