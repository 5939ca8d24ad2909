"""What may be said of an answer, and what became of it, as schemas of the OpenAPI document.

Where on the path: beside it, below `document`.
"""

from __future__ import annotations

from service.api.shapes import BOOLEAN, NUMBER, STRING, Schema, object_of, or_null
from service.ledger.feedback import COMMENT_CHARACTERS_MAX, DECISION_ID_CHARACTERS_MAX, LABEL_CHARACTERS_MAX


def feedback() -> dict[str, Schema]:
    """A body, and its answer."""
    return {
        "Feedback": {
            "oneOf": [
                _judged("score", {"type": "number", "minimum": 0, "maximum": 1}),
                _judged("verdict", {"enum": ["good", "bad"]}),
            ]
        },
        "FeedbackTaken": object_of(
            "object decision_id score label comment written",
            closed=True,
            object={"const": "feedback"},
            decision_id=STRING,
            score=NUMBER,
            label=or_null(STRING),
            comment=or_null({"enum": ["stored", "dropped"]}),
            written=BOOLEAN,
        ),
    }


def _judged(by: str, schema: Schema) -> Schema:
    """What a body may say, judging by one of the two fields."""
    label = f"^[A-Za-z0-9][A-Za-z0-9_.:-]{{0,{LABEL_CHARACTERS_MAX - 1}}}$"
    return object_of(
        f"decision_id {by}",
        closed=True,
        decision_id={"type": "string", "minLength": 1, "maxLength": DECISION_ID_CHARACTERS_MAX},
        label=or_null({"type": "string", "pattern": label}),
        comment=or_null({"type": "string", "maxLength": COMMENT_CHARACTERS_MAX}),
        **{by: schema},
    )
