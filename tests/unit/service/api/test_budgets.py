"""What limits would say to a request that is only tried, and how they are told."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest

from service.api.budgets import VERDICTS, instant
from service.domain.limits import Limits
from service.guard.counters import StoreLost
from service.guard.counting import MONEY, SLOTS
from service.simulator import Script

USD = 10**12
EXTRA = """budgets:
- {name: rich, tag: rich, usd_per_month: 1000, requests_per_minute: 60}
- {name: dime, tag: dime, usd_per_day: 0.01}
- {name: nothing, tag: nothing, usd_per_day: 0.0000001}
- {name: mild, tag: mild, usd_per_day: 0.0000001, soft: true}"""


@pytest.fixture
def made(serving):
    """The app under these budgets, and its vendor."""
    return serving({"alpha": Script()}, extra=EXTRA)


def tried(app, *tags, headers=None, **body):
    """What a dry run says of budgets."""
    body = {"model": "alpha-model", "messages": [{"role": "user", "content": "hello"}], **body}
    reply = httpx.post(
        f"{app.url}/v1/route", json={**body, "coe": {"tags": list(tags)}}, headers=headers, trust_env=False
    )
    assert reply.status_code == 200, reply.text
    return reply.json()["budgets"]


def held(app):
    """Everything that is held or settled."""
    found = app.house.pipeline.limiter.counters.holdings._own
    return {
        name: own for name, own in found.items() if own.counter.kind in {MONEY, SLOTS} and (own.held or own.settled)
    }


@pytest.mark.parametrize(
    ("tags", "verdict", "fits"),
    [
        (["rich"], "room", [("rich", "month", True), ("rich", "requests", True)]),
        (["dime"], "capped", [("dime", "day", True)]),
        (["nothing"], "refused", [("nothing", "day", False)]),
        (["mild"], "room", [("mild", "day", True)]),
        (
            ["rich", "nothing"],
            "refused",
            [("rich", "month", True), ("rich", "requests", True), ("nothing", "day", False)],
        ),
    ],
)
def test_a_dry_run_says_what_the_request_would_be_told(made, tags, verdict, fits):
    """As it then is; nothing is held, and nothing was sent."""
    app, simulator = made
    told = tried(app, *tags)
    assert told["verdict"] == verdict in VERDICTS
    assert [(one["budget"], one["measure"], one["fits"]) for one in told["limits"]] == fits
    assert (held(app), simulator.log) == ({}, [])
    reply = app.chat(model="alpha-model", coe={"tags": tags})
    assert (reply.status_code == 429) == (verdict == "refused")
    assert ("budget_cap" in reply.headers.get("x-coe-degraded", "")) == (verdict == "capped")
    if verdict != "refused":
        ((row, _),) = app.books.attempts()
        assert int(float(told["may_cost_usd"]) * USD + 0.5) == pytest.approx(row["reserved_pusd"], abs=1)


def test_who_is_under_nothing_is_told_so(made):
    """`null`."""
    assert tried(made[0]) is None


def test_a_key_is_told_of_its_own_limits_too(made):
    """What is left of them, and whether there is room; a rate that is used up has none."""
    app, _ = made
    key = app.house.keys.create("k", limits=Limits(requests_per_minute=1, day_pusd=5 * USD))
    bearer = {"authorization": f"Bearer {key.secret}"}
    assert tried(app, headers=bearer)["verdict"] == "room"
    assert app.chat(model="alpha-model", headers=bearer).status_code == 200
    told = tried(app, headers=bearer)
    assert told["verdict"] == "refused"
    day, rate = told["limits"]
    assert (day["budget"], day["measure"], day["fits"], day["left_usd"].startswith("4.99")) == (None, "day", True, True)
    assert (rate["measure"], rate["left"], rate["fits"], rate["soft"]) == ("requests", 0, False, False)


def test_what_nobody_can_tell_is_unknown(made, monkeypatch):
    """The decision is told all the same."""
    app, _ = made

    async def lost(_ask):
        raise StoreLost("gone")

    monkeypatch.setattr(app.house.pipeline.limiter.counters, "ask", lost)
    assert tried(app, "rich") == {"verdict": "unknown", "may_cost_usd": None, "limits": []}


def test_an_instant_is_told_in_utc():
    """To the second."""
    assert instant(datetime.fromisoformat("2026-11-23T01:30:00.5+02:00")) == "2026-11-22T23:30:00Z"
    assert instant(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00Z"
