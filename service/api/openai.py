"""The OpenAI routes: chat completions, models, and our own dry run and decision records beside them.

Where on the path: bytes in, `ChatRequest` out to the pipeline, its reply back as bytes. No decisions here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import orjson
from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from service.api import rendering
from service.api.catalogue import model_list, model_object
from service.api.chat_body import read_chat
from service.api.errors import render
from service.domain.access import Caller
from service.domain.chat import ChatRequest
from service.domain.hosts import is_loopback
from service.errors import (
    BodyTooLarge,
    CoeError,
    InvalidRequest,
    NotFound,
    Stopping,
    Unauthenticated,
    UnsupportedMedia,
)
from service.guard.exposure import check_host_header, check_origin
from service.house import House
from service.ledger.recorder import CLIENT_LEFT, ROUTER_STOPPING
from service.pipeline import StreamReply, WholeReply
from service.routing.explain import record
from service.settling import Arrival

PARSE_IN_LOOP_BYTES_MAX = 32 * 1024
"""Larger bodies are read in a thread: many of them at once would hold the event loop for tens of milliseconds."""

BODY_S = 30.0
"""How long a body may take to arrive: a caller that sends a byte a minute would hold its place for ever."""

router = APIRouter()


@router.post("/v1/chat/completions", summary="Answer a chat, from the cheapest capable model when `model` is `auto`")
async def chat_completions(request: Request) -> Response:
    """OpenAI chat completions, streaming and not."""
    house, request_id = house_of(request), request_id_of(request)
    arrived = house.clock.monotonic()
    try:
        caller = admit(request, house)
        chat = await _chat(request, house)
        arrival = Arrival(request_id, caller, arrived)
        reply = await _while_listening(request, arrival, house, chat)
    except ClientDisconnect:
        return Response(status_code=499)
    except CoeError as problem:
        return render(problem, request_id)
    except asyncio.CancelledError:
        return _stopping(request_id)
    if isinstance(reply, WholeReply):
        return rendering.whole(reply, request_id)
    return rendering.StreamResponse(reply, request_id, house.settings.on_disconnect)


@router.post("/v1/route", summary="Dry run: the decision for a chat request, spending nothing")
async def route(request: Request) -> Response:
    """The full decision for the same body as chat completions."""
    house, request_id = house_of(request), request_id_of(request)
    try:
        caller = admit(request, house)
        decision = house.pipeline.decide(await _chat(request, house), caller, explained=True)
        return _json({**record(decision, full=True), "dry_run": True}, request_id)
    except ClientDisconnect:
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
        caller = admit(request, house)
        found: Mapping[str, object] | None = house.pipeline.decision_record(decision_id)
        if found is None:
            found = await asyncio.to_thread(house.stored_decision, decision_id)
        if found is None or found.get("key_id") != caller.key_id:
            raise NotFound("there is no such decision for this key", code="decision_not_found")
        return _json({**found, "what_if": house.what_if(found)}, request_id)
    except CoeError as problem:
        return render(problem, request_id)
    except asyncio.CancelledError:
        return _stopping(request_id)


@router.get("/v1/models", summary="What may be named as `model`")
async def models(request: Request) -> Response:
    """Registry models that can be called now, then `auto`, `auto:<policy>` and `plan:<name>`."""
    house, request_id = house_of(request), request_id_of(request)
    try:
        caller = admit(request, house)
        return _json(model_list(house.pipeline.catalog, caller, house.clock.utc()), request_id)
    except CoeError as problem:
        return render(problem, request_id)


@router.get("/v1/models/{model_id:path}", summary="One model")
async def model(request: Request, model_id: str) -> Response:
    """One entry of the list; 404 `model_not_found` otherwise."""
    house, request_id = house_of(request), request_id_of(request)
    try:
        caller = admit(request, house)
        return _json(model_object(model_id, house.pipeline.catalog, caller, house.clock.utc()), request_id)
    except CoeError as problem:
        return render(problem, request_id)


def admit(request: Request, house: House) -> Caller:
    """Who is calling; raises Unauthenticated or Forbidden.

    Without keys, which only a loopback listener may be, this machine's own programs get in and web pages don't: a page
    in a browser can reach loopback too, so a foreign Host or Origin is refused.
    """
    caller = house.keys.authenticate(
        _bearer(request),
        now_ms=int(house.clock.utc().timestamp() * 1000),
        allow_anonymous=is_loopback(house.settings.host),
    )
    if caller.anonymous:
        hosts = request.headers.getlist("host")
        check_host_header(hosts[0] if len(hosts) == 1 else None, house.settings.port)
        check_origin(request.headers.get("origin"))
    return caller


def _bearer(request: Request) -> str | None:
    """The secret of `Authorization: Bearer …`; `None` when there is none."""
    values = request.headers.getlist("authorization")
    if not values:
        return None
    scheme, _, secret = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not secret.strip():
        raise Unauthenticated("send one header `Authorization: Bearer <key>`", code="invalid_api_key")
    return secret.strip()


async def _chat(request: Request, house: House) -> ChatRequest:
    data = await _body(request, house.settings.body_bytes_max)
    headers = {name.lower(): value for name, value in request.headers.items() if name.lower().startswith("x-coe-")}
    if len(data) <= PARSE_IN_LOOP_BYTES_MAX:
        return read_chat(data, headers)
    return await asyncio.to_thread(read_chat, data, headers)


async def _body(request: Request, limit: int) -> bytes:
    """The request body; refused before it is read when it is too large or no plain JSON."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("compressed bodies are not accepted; send plain JSON")
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind not in ("application/json", "text/json") and not kind.endswith("+json"):
        raise UnsupportedMedia("the body must be JSON; send `content-type: application/json`")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        late = InvalidRequest(f"the body did not arrive within {BODY_S:g} s", code="body_timeout")
        late.status, late.headers = 408, {"connection": "close"}
        raise late from None
    if length.isdigit() and len(body) != int(length):
        raise InvalidRequest("the body is shorter than its content-length", code="incomplete_body")
    return bytes(body)


def _too_large(limit: int) -> BodyTooLarge:
    # The rest of the body is not read: the connection can't be used again.
    return BodyTooLarge(f"the body is over the limit of {limit} bytes", headers={"connection": "close"})


async def _while_listening(
    request: Request, arrival: Arrival, house: House, chat: ChatRequest
) -> WholeReply | StreamReply:
    """Run the pipeline and watch whether the caller is still there.

    A caller that leaves a unary request stops fallback, but the running attempt goes on to its end: the vendor bills it
    anyway, and only its answer says how much. A caller that leaves a stream before its first content cancels it. Raises
    `Stopping` when the server cancels us: that is how it ends the requests that outlast its patience.
    """
    answering = asyncio.create_task(house.pipeline.answer(chat, arrival))
    listening = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait({answering, listening}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            arrival.gone = True
            if chat.stream and house.settings.on_disconnect == "close":
                arrival.cut_by = CLIENT_LEFT
                answering.cancel()
        return await answering
    except asyncio.CancelledError:
        if arrival.cut_by == CLIENT_LEFT:
            raise ClientDisconnect from None
        return await cut_short(answering)
    finally:
        listening.cancel()


async def cut_short(answering: asyncio.Task[WholeReply | StreamReply]) -> WholeReply:
    """End the pipeline because the router stops: a whole answer that is there by now, else `Stopping`, settled."""
    answering.cancel()
    reply = await answering
    if isinstance(reply, StreamReply):
        # Committed in this very moment: nobody else knows of it, so nobody else would settle it.
        await reply.abandon(ROUTER_STOPPING)
        raise Stopping(headers=reply.headers)
    return reply


def _stopping(request_id: str) -> Response:
    """The answer to a request that the server cancelled before any of its own was sent."""
    return render(Stopping(), request_id)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(value: object, request_id: str) -> Response:
    return Response(orjson.dumps(value), 200, {"x-request-id": request_id}, "application/json")


def house_of(request: Request) -> House:
    """The composition root's product."""
    house: House = request.app.state.house
    return house


def request_id_of(request: Request) -> str:
    """Set by `middleware.RequestId`."""
    return str(request.scope["state"]["request_id"])
