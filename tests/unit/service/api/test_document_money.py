"""What is said of pages about money is what they answer."""

from __future__ import annotations

import httpx
import pytest
from jsonschema import Draft202012Validator

from service.api.document_money import money
from service.domain.limits import Limits
from service.simulator import Script

ASKED = {"model": "auto", "messages": [{"role": "user", "content": "what is a merger"}]}


@pytest.fixture
def app(serving):
    """A router with a budget, keyless on loopback, that has answered."""
    made, _ = serving({"alpha": Script()}, extra="budgets:\n- {name: all, usd_per_day: 9, requests_per_minute: 60}")
    assert made.chat().status_code == 200
    return made


def test_each_page_is_as_it_is_said_to_be(app):
    """Of a key with limits and without, of nobody, of everybody."""
    schemas, pages = money(), [("Costs", app.get("/admin/costs"), None), ("Key", app.get("/v1/key"), None)]
    keys = app.house.keys
    for limits in (Limits(), Limits(day_pusd=1, concurrency=2)):
        made = keys.create(f"k{limits.concurrency}", limits=limits)
        pages.append(("Key", app.get("/v1/key", authorization=f"Bearer {made.secret}"), made.id))
    pages.append(("Spend", app.get("/admin/spend"), None))
    for name, page, key_id in pages:
        assert page.status_code == 200, page.text
        Draft202012Validator(schemas[name]).validate(page.json())
        assert key_id is None or page.json()["id"] == key_id
    dry = httpx.post(
        f"{app.url}/v1/route", json=ASKED, headers={"authorization": f"Bearer {made.secret}"}, trust_env=False
    )
    Draft202012Validator(schemas["Foreseen"]).validate(dry.json()["budgets"])
    assert {name for name, _, _ in pages} | {"Foreseen"} == set(schemas)


def test_another_page_is_noticed(app):
    """Positive control: one field too many, one of another kind."""
    told = app.get("/v1/key").json()
    check = Draft202012Validator(money()["Key"]).is_valid
    assert check(told)
    assert not check({**told, "secret": "x"})
    assert not check({**told, "used_day_usd": 1.5})
