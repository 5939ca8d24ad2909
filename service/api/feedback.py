"""POST /v1/feedback: what a caller says of an answer, written into the journal beside its decision.

Where on the path: beside it. `coe replay --policy` estimates from it how good another policy would be.

Invariants
1. Only the key that owns a decision may judge it: for any other there is no such decision.
2. Nothing is written for what is refused, nor for what was said before, word for word.
3. A comment is kept only where `COE_FEEDBACK_COMMENTS` says so; what became of it is told.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from service.api.errors import render
from service.api.incoming import CallerLeft, admit, read_body, read_head
from service.api.openai import house_of, request_id_of
from service.domain.access import Caller
from service.errors import CoeError, InvalidRequest, NotFound, Stopping
from service.house import House
from service.ledger.feedback import (
    COMMENT_CHARACTERS_MAX,
    DECISION_ID_CHARACTERS_MAX,
    LABEL_CHARACTERS_MAX,
    Feedback,
    body_of,
)

FEEDBACK_BYTES_MAX: Final = 16 * 1024
"""Of a body: a comment of the greatest length, every character escaped."""

VERDICTS: Final[Mapping[str, float]] = {"good": 1.0, "bad": 0.0}

FIELDS: Final = ("decision_id", "score", "verdict", "label", "comment")

_LABEL: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.:-]{{0,{LABEL_CHARACTERS_MAX - 1}}}")

router = APIRouter()


class Said(NamedTuple):
    """What a body says."""

    decision_id: str
    score: float
    label: str | None
    comment: str | None


@router.post("/v1/feedback", summary="Say how good an answer was")
async def feedback(request: Request) -> Response:
    """A score or a verdict on the answer of a decision, only from the key that owns it."""
    house, request_id = house_of(request), request_id_of(request)
    try:
        head = read_head(request.scope["headers"])
        caller = admit(head, house)
        house.hearing.admit(caller.key_id, house.clock.monotonic())
        said = read_feedback(await read_body(head, request.receive, FEEDBACK_BYTES_MAX))
        await _check_owner(house, caller, said.decision_id)
        return Response(
            orjson.dumps(await _written(house, caller, said)), 200, {"x-request-id": request_id}, "application/json"
        )
    except CallerLeft:
        return Response(status_code=499)
    except CoeError as problem:
        return render(problem, request_id)
    except asyncio.CancelledError:
        return render(Stopping(), request_id)


def read_feedback(data: bytes) -> Said:
    """What a body says; raises InvalidRequest, which names the field and repeats nothing of it."""
    try:
        told = orjson.loads(data)
    except orjson.JSONDecodeError:
        told = None
    if not isinstance(told, dict):
        raise InvalidRequest("the body must be a JSON object", code="invalid_json")
    for name in told:
        if name not in FIELDS:
            raise InvalidRequest(f"an unknown field; there are {', '.join(FIELDS)}", code="unknown_field")
    decision_id = told.get("decision_id")
    if not isinstance(decision_id, str) or not 0 < len(decision_id) <= DECISION_ID_CHARACTERS_MAX:
        raise InvalidRequest("`decision_id` must be the `x-coe-decision-id` of an answer", param="decision_id")
    label, comment = told.get("label"), told.get("comment")
    if label is not None and (not isinstance(label, str) or not _LABEL.fullmatch(label)):
        raise InvalidRequest(
            f"`label` must be one word of at most {LABEL_CHARACTERS_MAX} letters, digits and _ . : -", param="label"
        )
    if comment is not None and (not isinstance(comment, str) or len(comment) > COMMENT_CHARACTERS_MAX):
        raise InvalidRequest(
            f"`comment` must be a text of at most {COMMENT_CHARACTERS_MAX} characters", param="comment"
        )
    return Said(decision_id, _score(told.get("score"), told.get("verdict")), label, comment)


def _score(score: object, verdict: object) -> float:
    if (score is None) is (verdict is None):
        raise InvalidRequest("give a `score` from 0 to 1, or a `verdict`, `good` or `bad`; one of them", param="score")
    if verdict is not None:
        if not isinstance(verdict, str) or verdict not in VERDICTS:
            raise InvalidRequest("`verdict` must be `good` or `bad`", param="verdict")
        return VERDICTS[verdict]
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise InvalidRequest("`score` must be a number from 0 to 1", param="score")
    return float(score)


async def _check_owner(house: House, caller: Caller, decision_id: str) -> None:
    """Raise NotFound for a decision that there is not, or that is another key's."""
    found: Mapping[str, object] | None = house.pipeline.decision_record(decision_id)
    if found is None:
        found = await asyncio.to_thread(house.stored_decision, decision_id)
    if found is None or found.get("key_id") != caller.key_id:
        raise NotFound("there is no such decision for this key", code="decision_not_found")


async def _written(house: House, caller: Caller, said: Said) -> dict[str, object]:
    """Write it, where it is new; the answer. Raises LedgerUnavailable."""
    kept = said if house.settings.feedback_comments else said._replace(comment=None)
    new = not house.hearing.said_before(said.decision_id, kept)
    if new:
        at_ms = int(house.clock.utc().timestamp() * 1000)
        one = Feedback(said.decision_id, caller.key_id, at_ms, kept.score, kept.label, kept.comment)
        await house.journal.append_feedback(body_of(one))
        house.hearing.remember(said.decision_id, kept)
    comment = None if said.comment is None else "stored" if house.settings.feedback_comments else "dropped"
    return {
        "object": "feedback",
        "decision_id": said.decision_id,
        "score": said.score,
        "label": said.label,
        "comment": comment,
        "written": new,
    }
