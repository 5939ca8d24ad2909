"""What is said of feedback is what is taken and answered."""

from __future__ import annotations

import httpx
import pytest
from jsonschema import Draft202012Validator

from service.api.document_feedback import feedback
from service.simulator import Script


@pytest.mark.parametrize(
    ("said", "good"),
    [
        ({"score": 0.5}, True),
        ({"verdict": "bad", "label": "too_long", "comment": None}, True),
        ({"score": 1, "comment": "x" * 2_000}, True),
        ({}, False),
        ({"score": 1, "verdict": "good"}, False),
        ({"score": 2}, False),
        ({"verdict": "fine"}, False),
        ({"score": 1, "label": "two words"}, False),
        ({"score": 1, "comment": "x" * 2_001}, False),
        ({"score": 1, "more": 1}, False),
    ],
)
def test_a_body_is_taken_as_it_is_said(serving, said, good):
    """What fits the schema is taken, with the answer that is promised; what breaks it is refused."""
    app, schemas = serving({"alpha": Script()})[0], feedback()
    body = {"decision_id": app.chat().headers["x-coe-decision-id"], **said}
    assert Draft202012Validator(schemas["Feedback"]).is_valid(body) is good
    reply = httpx.post(f"{app.url}/v1/feedback", json=body, timeout=10, trust_env=False)
    assert reply.status_code == (200 if good else 400)
    if good:
        Draft202012Validator(schemas["FeedbackTaken"]).validate(reply.json())
