"""The OpenAI routes beside the chat: models, and our own dry run and decision records. The chat itself is `chat`.

Where on the path: beside it, but for the dry run, which decides and spends nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.budgets import foreseen
from service.api.catalogue import model_list, model_object
from service.api.chat import CHAT_PATH, ChatResponse, parsed
from service.api.errors import render
from service.api.incoming import CallerLeft, admit, read_body, read_head
from service.domain.access import Caller
from service.domain.chat import ChatRequest
from service.errors import CoeError, NotFound, Stopping
from service.house import House
from service.routing.explain import record

router = APIRouter()


@router.post(CHAT_PATH, summary="Answer a chat, from the cheapest capable model when `model` is `auto`")
async def chat_completions(request: Request) -> Response:
    """OpenAI chat completions, streaming and not."""
    return ChatResponse(house_of(request))


@router.post("/v1/route", summary="Dry run: the decision for a chat request, spending nothing")
async def route(request: Request) -> Response:
    """The full decision for the same body as chat completions."""
    house, request_id = house_of(request), request_id_of(request)
    try:
        caller = caller_of(request, house)
        chat, catalog, now = await _chat(request, house), house.pipeline.catalog, house.clock.utc()
        decision = house.pipeline.decide(chat, caller, catalog, explained=True)
        budgets = await foreseen(house.pipeline.limiter, decision, catalog, caller, chat, now)
        return _json({**record(decision, full=True), "dry_run": True, "budgets": budgets}, request_id)
    except CallerLeft:
        return Response(status_code=499)
    except CoeError as problem:
        return render(problem, request_id)
    except asyncio.CancelledError:
        return _stopping(request_id)


@router.get("/v1/decisions/{decision_id}", summary="A decision with its attempts and costs")
async def decision(request: Request, decision_id: str) -> Response:
    """The stored record, only to the key that owns it."""
    house, request_id = house_of(request), request_id_of(request)
    try:
        caller = caller_of(request, house)
        found: Mapping[str, object] | None = house.pipeline.decision_record(decision_id)
        if found is None:
            found = await asyncio.to_thread(house.stored_decision, decision_id)
        if found is None or found.get("key_id") != caller.key_id:
            raise NotFound("there is no such decision for this key", code="decision_not_found")
        return _json(house.reasoned(found), request_id)
    except CoeError as problem:
        return render(problem, request_id)
    except asyncio.CancelledError:
        return _stopping(request_id)


@router.get("/v1/models", summary="What may be named as `model`")
async def models(request: Request) -> Response:
    """Registry models that can be called now, then `auto`, `auto:<policy>` and `plan:<name>`."""
    house, request_id = house_of(request), request_id_of(request)
    try:
        caller = caller_of(request, house)
        return _json(model_list(house.pipeline.catalog, caller, house.clock.utc()), request_id)
    except CoeError as problem:
        return render(problem, request_id)


@router.get("/v1/models/{model_id:path}", summary="One model")
async def model(request: Request, model_id: str) -> Response:
    """One entry of the list; 404 `model_not_found` otherwise."""
    house, request_id = house_of(request), request_id_of(request)
    try:
        caller = caller_of(request, house)
        return _json(model_object(model_id, house.pipeline.catalog, caller, house.clock.utc()), request_id)
    except CoeError as problem:
        return render(problem, request_id)


def caller_of(request: Request, house: House) -> Caller:
    """Who is calling; raises Unauthenticated or Forbidden."""
    return admit(read_head(request.scope["headers"]), house)


async def _chat(request: Request, house: House) -> ChatRequest:
    head = read_head(request.scope["headers"])
    data = await read_body(head, request.receive, house.settings.body_bytes_max)
    return await parsed(data, head, house)


def _stopping(request_id: str) -> Response:
    """The answer to a request that the server cancelled before any of its own was sent."""
    return render(Stopping(), request_id)


def _json(value: object, request_id: str) -> Response:
    return Response(orjson.dumps(value), 200, {"x-request-id": request_id}, "application/json")


def house_of(request: Request) -> House:
    """The composition root's product."""
    house: House = request.app.state.house
    return house


def request_id_of(request: Request) -> str:
    """Set by `middleware.RequestId`."""
    return str(request.scope["state"]["request_id"])
