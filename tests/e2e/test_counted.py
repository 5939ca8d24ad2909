"""At rest journal, index, counters and budgets say the same, difference 0: after faults, fallbacks and callers that left."""

from __future__ import annotations

import asyncio
import re
import time
from decimal import Decimal

import httpx
import pytest
from books import Books, counter_faults
from stage import registry, start_router

from service.simulator import Fault, Script, VendorScript

ADMIN = "f0Ym2Vt8Kx5Lr9Nw3Bq7Hd1Jc6Zp4Sg8"
RIGHT = {"authorization": f"Bearer {ADMIN}"}
BUDGETS = "budgets:\n- {name: all, usd_per_day: 900, usd_per_month: 9000}"


def get(router, path):
    """A page of the operator's."""
    return httpx.get(router.url + path, headers=RIGHT, timeout=20, trust_env=False)


async def crowd(router, count):
    """So many requests at once, some streams, some of which are left early."""

    async def one(client, number):
        body = {"model": "auto", "messages": [{"role": "user", "content": f"Question {number}"}]}
        if number % 3:
            assert (await client.post(f"{router.url}/v1/chat/completions", json=body)).status_code in {200, 502}
            return
        async with client.stream("POST", f"{router.url}/v1/chat/completions", json={**body, "stream": True}) as page:
            async for _ in page.aiter_bytes():
                if number % 2:
                    return  # gone in the middle

    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        await asyncio.gather(*(one(client, number) for number in range(count)))


@pytest.fixture
def router(tmp_path, vendors):
    """One that has had a crowd over a vendor that cuts half of its answers, a good one and one that refuses; at rest."""
    scripts = {
        "alpha": VendorScript(cycle=(Script(chunk_delay_s=0.005), Script(fault=Fault.CUT))),
        "beta": Script(),
        "deltacny": Script(fault=Fault.HTTP_ERROR, status=500),
    }
    file = registry(tmp_path / "p.yaml", vendors(scripts), extra=BUDGETS)
    one = start_router(tmp_path / "data", file, COE_ADMIN_KEY=ADMIN, COE_METRICS_SPEND_BY="both")
    try:
        asyncio.run(crowd(one, 48))
        due = time.monotonic() + 20
        while not re.search(r"^coe_open_attempts 0$", get(one, "/metrics").text, re.MULTILINE):
            assert time.monotonic() < due
            time.sleep(0.05)
        yield one
    finally:
        if one.process.poll() is None:
            one.stop()


def test_everybody_has_the_same_sum(router):
    """The counters by label, `coe costs`, /admin/costs and the budget of everybody."""
    page, books = get(router, "/metrics").text, Books.read(router.data_dir)
    assert books.total_pusd > 0
    assert len(books.states()) > 1, "not all attempts ended alike"
    assert any(end["cost_pusd"] for end in books.ends.values() if not end["final"]), "some failed and were billed"
    assert counter_faults(books, page) == []
    admin = get(router, "/admin/costs?by=model,provider,intent").json()
    assert sum(Decimal(row["cost_usd"]) for row in admin) * 10**12 == books.total_pusd
    assert admin == router.costs("--by", "model,provider,intent")
    used = [one["used_usd"] for one in get(router, "/admin/spend").json()["data"]]
    assert [Decimal(one) * 10**12 for one in used] == [books.total_pusd] * 2
    gauges = dict(re.findall(r'^coe_budget_used_usd\{budget="all",window="(\w+)"\} (\S+)$', page, re.MULTILINE))
    assert {name: Decimal(value) * 10**12 for name, value in gauges.items()} == dict.fromkeys(
        ("day", "month"), books.total_pusd
    )
    assert 'coe_budget_limit_usd{budget="all",window="day"} 900\n' in page
    assert "coe_tag_spend_usd_total{" not in page, "no key has a tag"


def test_a_pico_dollar_is_noticed(router):
    """Positive control: one attempt that costs one more, one that nobody counted."""
    page, books = get(router, "/metrics").text, Books.read(router.data_dir)
    paid = next(end for end in books.ends.values() if end["cost_pusd"])
    paid["cost_pusd"] += 1
    (fault,) = counter_faults(books, page)
    assert fault.startswith("pusd ")
    paid["cost_pusd"] -= 1
    series = next(line for line in page.splitlines() if line.startswith("coe_spend_tokens_total{"))
    assert len(counter_faults(books, page.replace(series, ""))) == 1
