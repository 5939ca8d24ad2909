"""/v1/key and /admin/spend: what is used and left, as the counters that refuse have it."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from service.domain.limits import Limits
from service.domain.money import usd_text
from service.simulator import Script

ADMIN = "f0Ym2Vt8Kx5Lr9Nw3Bq7Hd1Jc6Zp4Sg8"
RIGHT = {"authorization": f"Bearer {ADMIN}"}
USD = 10**12
EXTRA = "budgets:\n- {name: lab, tag: lab, usd_per_month: 7}\n- {name: all, usd_per_day: 9, soft: true}"


@pytest.fixture
def app(serving):
    """A router with an admin key, a budget of a tag and one of everybody."""
    made, _ = serving({"alpha": Script()}, extra=EXTRA, admin_key=ADMIN)
    return made


def bearer(key):
    """The header of a key."""
    return {"authorization": f"Bearer {key.secret}"}


def booked(app, key_id=None):
    """What the journal says was spent, in pico-USD."""
    return sum(
        end["cost_pusd"] for one, ends in app.books.attempts() for end in ends if key_id in (None, one["key_id"])
    )


def day():
    """Today, where it does not end within the test."""
    now = datetime.now(UTC)
    if now.hour == 23 and now.minute == 59:
        time.sleep(61)
    return f"{datetime.now(UTC):%Y-%m-%d}"


def test_a_key_is_told_what_it_has_used_and_left(app):
    """To the pico-dollar what the journal says; nothing is held any more."""
    today = day()
    key = app.house.keys.create("mine", tags=["lab"], limits=Limits(day_pusd=5 * USD, requests_per_minute=60))
    before = app.get("/v1/key", **bearer(key)).json()
    assert (before["id"], before["name"], before["used_day_usd"], before["tags"]) == (key.id, "mine", "0", ["lab"])
    for _ in range(3):
        assert app.chat(headers=bearer(key)).status_code == 200
    spent = booked(app)
    assert spent > 0
    told = app.get("/v1/key", **bearer(key)).json()
    assert (told["used_day_usd"], told["used_month_usd"]) == (usd_text(spent), usd_text(spent))
    money, rate = told["limits"]
    assert (money["measure"], money["window"], money["limit_usd"]) == ("day", today, "5")
    assert (money["used_usd"], money["left_usd"]) == (usd_text(spent), usd_text(5 * USD - spent))
    assert (rate["measure"], rate["limit"], rate["used"] + rate["left"]) == ("requests", 60, 60)
    assert rate["used"] == 3
    assert told["shared"] == [
        {
            "budget": "lab",
            "measure": "month",
            "soft": False,
            "window": today[:7],
            "resets_at": told["shared"][0]["resets_at"],
            "left_usd": usd_text(7 * USD - spent),
        },
        {**told["shared"][1], "budget": "all", "measure": "day", "soft": True, "left_usd": usd_text(9 * USD - spent)},
    ]


def test_of_shared_budgets_nobody_is_told_what_others_used(app):
    """Neither the limit nor what was used: together with what is left they would say it."""
    key = app.house.keys.create("mine", tags=["lab"])
    for one in app.get("/v1/key", **bearer(key)).json()["shared"]:
        assert not {"used_usd", "limit_usd", "used", "limit"} & set(one)


def test_a_key_without_a_budget_knows_what_it_used(app):
    """It is counted all the same; another key's spend is another's."""
    day()
    mine, other = app.house.keys.create("mine"), app.house.keys.create("other")
    assert app.chat(headers=bearer(mine)).status_code == 200
    told, theirs = (app.get("/v1/key", **bearer(one)).json() for one in (mine, other))
    assert (told["used_day_usd"], told["limits"]) == (usd_text(booked(app, mine.id)), [])
    assert theirs["used_day_usd"] == "0"


def test_without_keys_there_is_none(app):
    """Anybody on this machine, while no key was made: only what is shared."""
    told = app.get("/v1/key").json()
    assert (told["id"], told["name"], told["used_day_usd"], told["limits"]) == (None, "anonymous", None, [])
    assert [one["budget"] for one in told["shared"]] == ["all"]


def test_what_is_reserved_counts_as_used(serving):
    """While an answer runs, its worst case is not left."""
    app, simulator = serving({"alpha": Script(header_delay_s=1.5)}, admin_key=ADMIN)
    key = app.house.keys.create("mine", limits=Limits(day_pusd=5 * USD))
    asking = threading.Thread(target=app.chat, kwargs={"headers": bearer(key), "max_tokens": 500})
    asking.start()
    due = time.monotonic() + 10
    while not simulator.log:
        assert time.monotonic() < due
        time.sleep(0.01)
    held = app.get("/v1/key", **bearer(key)).json()["used_day_usd"]
    asking.join()
    after = app.get("/v1/key", **bearer(key)).json()["used_day_usd"]
    assert float(held) > float(after) > 0


def test_the_operator_sees_every_budget_and_key(app):
    """Of the registry first, then keys with limits; what was revoked has none."""
    day()
    made = [app.house.keys.create(name, limits=Limits(day_pusd=USD, soft=name == "b")) for name in ("a", "b", "c")]
    app.house.keys.create("unlimited")
    app.house.keys.revoke(made[2].id)
    assert app.chat(headers=bearer(made[0])).status_code == 200
    told = app.get("/admin/spend", **RIGHT).json()
    whose = [(one["budget"], one["tag"], one["key_name"], one["measure"], one["soft"]) for one in told["data"]]
    assert whose == [
        ("lab", "lab", None, "month", False),
        ("all", None, None, "day", True),
        (None, None, "a", "day", False),
        (None, None, "b", "day", True),
    ]
    spent = booked(app)
    assert [one["used_usd"] for one in told["data"]] == ["0", usd_text(spent), usd_text(spent), "0"]
    assert all(one["left_usd"] for one in told["data"])
    assert (told["has_more"], told["last_key_id"]) == (False, made[1].id)


def test_many_keys_come_in_pages(app):
    """Each once, in order; budgets stand on the first page alone."""
    made = [app.house.keys.create(f"k{number}", limits=Limits(concurrency=2)).id for number in range(7)]
    seen, after, pages = [], "", 0
    while True:
        page = app.get(f"/admin/spend?limit=3{after}", **RIGHT).json()
        seen += [one["key_id"] for one in page["data"] if one["key_id"]]
        assert any(one["budget"] for one in page["data"]) == (pages == 0)
        pages += 1
        if not page["has_more"]:
            break
        after = f"&after={page['last_key_id']}"
    assert (seen, pages) == (made, 3)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?limit=0", "limit"),
        ("?limit=1001", "limit"),
        ("?limit=x", "limit"),
        ("?after=key_none", "after"),
        ("?x=1", "query"),
    ],
)
def test_what_makes_no_sense_is_named(app, query, param):
    """400, with the parameter."""
    page = app.get(f"/admin/spend{query}", **RIGHT)
    assert (page.status_code, page.json()["error"]["param"]) == (400, param)


def test_what_nobody_knows_is_no_zero(app):
    """503 on both, and who is not the operator learns nothing of it."""
    app.house.pipeline.limiter.uncounted = "it was not counted yet"
    for path, headers in (("/v1/key", {}), ("/admin/spend", RIGHT)):
        page = app.get(path, **headers)
        assert (page.status_code, page.json()["error"]["code"]) == (503, "budget_store_unavailable")
    assert app.get("/admin/spend").status_code == 401


def test_a_change_of_limits_is_seen(app):
    """The newest of the file: a budget that was raised has more left."""
    key = app.house.keys.create("mine", limits=Limits(day_pusd=USD))
    app.house.keys.limit(key.id, lambda limits: replace(limits, day_pusd=2 * USD))
    (one,) = [one for one in app.get("/admin/spend", **RIGHT).json()["data"] if one["key_id"]]
    assert (one["limit_usd"], one["left_usd"]) == ("2", "2")
