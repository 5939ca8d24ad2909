"""POST /v1/feedback on real sockets: whose decision, what a body may say, what is written, and what becomes of comments."""

from __future__ import annotations

import httpx
import pytest

from service.api.feedback import FEEDBACK_BYTES_MAX, read_feedback
from service.errors import InvalidRequest
from service.guard import hearing
from service.ledger.feedback import scores
from service.ledger.lines import decode
from service.ledger.segments import journal_dir, list_segments
from service.simulator import Script


@pytest.fixture
def app(serving):
    """The app over one healthy vendor."""
    return serving({"alpha": Script()})[0]


def say(app, key=None, **body):
    """Send a feedback."""
    headers = {} if key is None else {"authorization": f"Bearer {key.secret}"}
    return httpx.post(f"{app.url}/v1/feedback", json=body, headers=headers, timeout=10, trust_env=False)


def written(app):
    """The bodies of the journal's feedback lines."""
    found = []
    for segment in list_segments(journal_dir(app.house.settings.data_dir)):
        lines = [decode(raw) for raw in segment.path.read_bytes().splitlines()]
        found += [line.body for line in lines if line.kind == "feedback"]
    return found


def asked(app, key=None):
    """A decision of a caller's."""
    headers = {} if key is None else {"authorization": f"Bearer {key.secret}"}
    return app.chat(headers=headers).headers["x-coe-decision-id"]


def test_a_word_is_written(app):
    """A score or a verdict, with a label; replay finds it."""
    first, second = asked(app), asked(app)
    reply = say(app, decision_id=first, score=0.25, label="too_long")
    assert (reply.status_code, reply.json()) == (
        200,
        {
            "object": "feedback",
            "decision_id": first,
            "score": 0.25,
            "label": "too_long",
            "comment": None,
            "written": True,
        },
    )
    assert reply.headers["x-request-id"]
    assert say(app, decision_id=second, verdict="good").json()["score"] == 1.0
    assert scores(app.house.settings.data_dir) == {first: 0.25, second: 1.0}


def test_said_again(app):
    """The same word writes nothing; another one counts from then on, and the first again, too."""
    name = asked(app)
    told = [say(app, decision_id=name, score=score).json()["written"] for score in (1, 1.0, 0, 1)]
    assert told == [True, False, True, True]
    assert len(written(app)) == 3
    assert scores(app.house.settings.data_dir) == {name: 1.0}
    assert say(app, decision_id=name, verdict="good").json()["written"] is False


def test_only_its_owner(app):
    """For every other key there is no such decision, and nothing is written; an unknown one looks the same."""
    mine, other = app.house.keys.create("mine"), app.house.keys.create("other")
    name = asked(app, mine)
    refused = say(app, other, decision_id=name, score=0)
    unknown = say(app, mine, decision_id="dec_0000000000000000000000", score=0)
    for reply in (refused, unknown):
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "decision_not_found")
    assert refused.json() == unknown.json()
    assert say(app, decision_id=name, score=0).status_code == 401
    assert written(app) == []
    assert say(app, mine, decision_id=name, score=0).status_code == 200
    assert written(app)[0]["key_id"] == mine.id


def test_a_decision_of_long_ago(app):
    """What memory no longer has is looked up in the index."""
    name = asked(app)
    app.house.pipeline._decisions.clear()
    assert say(app, decision_id=name, score=1).status_code == 200


def test_comments_are_dropped_unless_asked_for(app, serving):
    """They may say anything about anybody."""
    name = asked(app)
    assert say(app, decision_id=name, score=1, comment="call me at 555").json()["comment"] == "dropped"
    assert "555" not in str(written(app))
    keeps = serving({"alpha": Script()}, feedback_comments=True)[0]
    name = asked(keeps)
    assert say(keeps, decision_id=name, score=1, comment="too long 太长").json()["comment"] == "stored"
    assert written(keeps)[0]["comment"] == "too long 太长"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"score": 1}, "decision_id"),
        ({"decision_id": 7, "score": 1}, "decision_id"),
        ({"decision_id": "d" * 65, "score": 1}, "decision_id"),
        ({"decision_id": "d"}, "score"),
        ({"decision_id": "d", "score": 1, "verdict": "good"}, "score"),
        ({"decision_id": "d", "score": 1.01}, "score"),
        ({"decision_id": "d", "score": -1}, "score"),
        ({"decision_id": "d", "score": True}, "score"),
        ({"decision_id": "d", "score": "1"}, "score"),
        ({"decision_id": "d", "verdict": "fine"}, "verdict"),
        ({"decision_id": "d", "score": 1, "label": "two words"}, "label"),
        ({"decision_id": "d", "score": 1, "label": "x" * 65}, "label"),
        ({"decision_id": "d", "score": 1, "comment": "x" * 2_001}, "comment"),
        ({"decision_id": "d", "score": 1, "comment": ["x"]}, "comment"),
        ({"decision_id": "d", "score": 1, "canary": 1}, None),
    ],
)
def test_what_a_body_may_not_say(app, body, param):
    """400 with the field, and nothing repeated."""
    reply = say(app, **body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    assert "canary" not in reply.text
    assert written(app) == []


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"score": NaN}', b"\xff", b"1"])
def test_what_is_no_body(data):
    """No object, no JSON."""
    with pytest.raises(InvalidRequest, match="JSON object"):
        read_feedback(data)


def test_limits_of_size_and_number(app, monkeypatch):
    """A long body is refused unread; so is more in a minute than anybody says."""
    name = asked(app)
    longest = say(app, decision_id=name, score=1, comment="\x01" * 2_000)
    assert longest.status_code == 200
    too_long = say(app, decision_id=name, score=1, comment="x" * FEEDBACK_BYTES_MAX)
    assert (too_long.status_code, too_long.json()["error"]["code"]) == (413, "request_too_large")
    monkeypatch.setattr(hearing, "PER_MINUTE", 0)
    over = say(app, decision_id=name, score=1)
    assert (over.status_code, over.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(over.headers["retry-after"]) <= 61
