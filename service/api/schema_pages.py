"""/openapi.json and /docs: the schema, and a page that shows it.

Where on the path: beside it. On loopback they are open to this machine; elsewhere they are the operator's, as /metrics
is: they would tell strangers what there is to try.
"""

from __future__ import annotations

import orjson
from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import Response

from service.api.errors import render
from service.api.incoming import admit_reader, read_head
from service.api.openai import house_of, request_id_of
from service.errors import CoeError

router = APIRouter(include_in_schema=False)

SCHEMA_PATH = "/openapi.json"


@router.get(SCHEMA_PATH)
async def schema(request: Request) -> Response:
    """The OpenAPI document."""
    app: FastAPI = request.app
    return _refusal(request) or Response(orjson.dumps(app.openapi()), 200, media_type="application/json")


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Swagger UI over it."""
    return _refusal(request) or get_swagger_ui_html(openapi_url=SCHEMA_PATH, title="coe-router")


def _refusal(request: Request) -> Response | None:
    """What somebody is told whom these pages are not for."""
    house = house_of(request)
    try:
        admit_reader(read_head(request.scope["headers"]), house)
    except CoeError as problem:
        return render(problem, request_id_of(request))
    return None
