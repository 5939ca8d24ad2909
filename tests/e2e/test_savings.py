"""Savings of a real router, worked out again from its journal with a price list of the test's own."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from fractions import Fraction

import httpx
import pytest
from books import PRICES, Books
from stage import coe, registry, start_router

from service.simulator import Fault, Script, VendorScript

ADMIN = "f0Ym2Vt8Kx5Lr9Nw3Bq7Hd1Jc6Zp4Sg8"
OF = {name.partition("@")[0].partition("/")[2]: price for name, price in PRICES.items()}
"""Model -> its price. The baseline model is the strongest, alpha's is the cheapest."""

FACTORS = (Fraction(1, 2), Fraction(2))


def ask(router, **more):
    """One chat, and its explained body."""
    body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], "coe": {"explain": True}, **more}
    page = httpx.post(f"{router.url}/v1/chat/completions", json=body, timeout=20, trust_env=False)
    assert page.status_code == 200, page.text
    return page.json()


@pytest.fixture
def router(tmp_path, vendors):
    """One whose cheapest vendor breaks half of its answers, after some requests of several kinds."""
    scripts = {"alpha": VendorScript(cycle=(Script(), Script(fault=Fault.CUT))), "beta": Script(), "deltacny": Script()}
    file = registry(tmp_path / "p.yaml", vendors(scripts))
    one = start_router(tmp_path / "data", file, COE_ADMIN_KEY=ADMIN)
    yield one
    if one.process.poll() is None:
        one.kill()


def worked_out(books):
    """Name of a baseline -> (requests, cost, would have cost, assumed), from rows alone.

    No lengths are learned here, so that every model is taken to say as much as the one that answered.
    """
    costs, found = {}, {}
    for attempt, end in books.ends.items():
        request = books.opens[attempt]["request_id"]
        costs[request] = costs.get(request, 0) + end["cost_pusd"]
    for attempt, end in books.ends.items():
        opened, usage = books.opens[attempt], dict(end.get("usage", {}))
        if not end["final"] or end["state"] == "refused":
            continue
        usage.pop("requests", None)
        pinned = opened["policy"] == "pinned"
        rivals = {"baseline": "baseline-model"}
        rivals |= dict.fromkeys(("strongest", "cheapest", "random"), opened["model"]) if pinned else {}
        rivals = {"strongest": "baseline-model", "cheapest": "alpha-model"} | rivals
        for name, model in rivals.items():
            same = model == opened["model"]
            pusd = end["cost_pusd"] if same else OF[model].pusd(usage)
            asked = OF[model].pusd({bucket: n for bucket, n in usage.items() if bucket not in ("output", "reasoning")})
            assumed = 0 if same else pusd - asked
            before = found.get(name, (0, 0, 0, 0))
            request = costs[opened["request_id"]]
            found[name] = tuple(map(sum, zip(before, (1, request, pusd, assumed), strict=True)))
    return found


def test_a_second_reckoning_agrees(router):
    """Of `coe costs --savings` and /admin/costs, to the pico-dollar, with failed attempts and named models."""
    for number in range(12):
        ask(router, **({"model": "beta-model"} if number % 4 == 3 else {}))
    told = coe("costs", "--savings", "--by", "simulated", "--format", "json", COE_DATA_DIR=str(router.data_dir))
    assert told.returncode == 0, told.stderr
    rows = {row["against"]: row for row in json.loads(told.stdout)}
    books = Books.read(router.data_dir)
    assert len({opened["model"] for opened in books.opens.values()}) > 1
    expected = worked_out(books)
    for name, (requests, cost, would, assumed) in expected.items():
        if name == "random":
            continue  # of named models alone; drawn for the others
        row = rows[name]
        figures = [Decimal(row[field]) * 10**12 for field in ("cost_usd", "would_have_cost_usd", "saved_usd")]
        assert (row["compared_requests"], *figures) == (requests, cost, would, would - cost), name
        low, high = (would - cost + (factor - 1) * assumed for factor in FACTORS)
        assert abs(Fraction(row["saved_low_usd"]) * 10**12 - low) <= 1
        assert Fraction(row["saved_high_usd"]) * 10**12 == high
    for end in books.ends.values():
        if end["final"]:
            usage = {bucket: count for bucket, count in end["usage"].items() if bucket != "requests"}
            assert end["random_pusd"] in {price.pusd(usage) for price in OF.values()}
    assert Decimal(rows["baseline"]["saved_usd"]) > 0 > Decimal(rows["cheapest"]["saved_usd"]), (
        "failed attempts are paid"
    )
    headers = {"authorization": f"Bearer {ADMIN}"}
    page = httpx.get(
        f"{router.url}/admin/costs?savings=true&by=simulated", headers=headers, trust_env=False, timeout=20
    )
    assert page.json() == json.loads(told.stdout)


def test_a_row_that_lies_is_noticed(router):
    """Positive control of the reckoning: one pico-dollar in one row."""
    ask(router)
    books = Books.read(router.data_dir)
    (before,) = {json.dumps(worked_out(books))}
    next(end for end in books.ends.values() if end["final"])["cost_pusd"] += 1
    assert json.dumps(worked_out(books)) != before


def test_a_request_is_told_on_demand(router):
    """Under `coe` of its answer, and in its record: what each would have cost."""
    told = ask(router)["coe"]
    final = next(one for one in told["attempts"] if one["final"])
    end = next(end for end in Books.read(router.data_dir).ends.values() if end["final"])
    for name in ("baseline", "strongest", "cheapest", "random"):
        assert Decimal(final[f"{name}_cost_usd"]) * 10**12 == end[f"{name}_pusd"]
    assert end["compared_by"] == 1
    due = time.monotonic() + 10
    while True:
        stored = httpx.get(f"{router.url}/v1/decisions/{told['id']}", trust_env=False, timeout=20).json()
        attempt = next((one for one in stored["attempts"] if one["final"]), None)
        if attempt is not None:
            break
        assert time.monotonic() < due
    assert attempt["strongest_cost_usd"] == final["strongest_cost_usd"]


def test_savings_have_formats_of_their_own(router):
    """No FOCUS, and no invoice."""
    for arguments in (("--savings", "--format", "focus"), ("--savings", "--reconcile", str(router.log))):
        assert coe("costs", *arguments, COE_DATA_DIR=str(router.data_dir)).returncode == 64
    headers = {"authorization": f"Bearer {ADMIN}"}
    for query, param in (("savings=yes", "savings"), ("savings=true&format=focus", "format")):
        page = httpx.get(f"{router.url}/admin/costs?{query}", headers=headers, trust_env=False, timeout=20)
        assert (page.status_code, page.json()["error"]["param"]) == (400, param)
