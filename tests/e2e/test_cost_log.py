"""The cost log of a real router: each row of the journal once, to the pico-dollar, and nobody held up by who reads it."""

from __future__ import annotations

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import httpx
import pytest
from stage import registry, start_router

from service.simulator import Fault, Script

ASK = {"model": "auto", "messages": [{"role": "user", "content": "a wish that nobody writes down"}]}


def ask(router, **more):
    """One chat; its status."""
    page = httpx.post(f"{router.url}/v1/chat/completions", json={**ASK, **more}, timeout=20, trust_env=False)
    return page.status_code


def lines(text):
    """Those of the cost log, by kind."""
    found = {"attempt": [], "request": [], "dropped": []}
    for line in text.splitlines():
        told = json.loads(line) if line.startswith("{") else {}
        if "kind" in told:
            found[told["kind"]].append(told)
    return found


def differences(told, router):
    """Where lines and journal do not say the same."""
    rows = {opened["attempt_id"]: (opened, ends[0]) for opened, ends in router.attempts()}
    wrong = []
    if sorted(rows) != sorted(line["attempt_id"] for line in told["attempt"]):
        wrong.append("other attempts")
    costs = dict.fromkeys((line["request_id"] for line in told["attempt"]), Decimal(0))
    for line in told["attempt"]:
        opened, end = rows[line["attempt_id"]]
        costs[line["request_id"]] += Decimal(line["cost_usd"])
        if Decimal(line["cost_usd"]) * 10**12 != end["cost_pusd"] or line["state"] != end["state"]:
            wrong.append(f"{line['attempt_id']}: {line['cost_usd']} for {end['cost_pusd']}")
        usage = {bucket: count for bucket, count in end.get("usage", {}).items() if bucket != "requests"}
        if {name: line[f"{name}_tokens"] for name in usage} != usage or line["ended"] != end["ended"]:
            wrong.append(f"{line['attempt_id']}: another end")
        if (line["model"], line["intent"], line["tags"]) != (opened["model"], opened["intent"], opened.get("tags", [])):
            wrong.append(f"{line['attempt_id']}: another beginning")
    wrong += [
        f"{line['request_id']}: {line['cost_usd']}, its attempts {costs.get(line['request_id'])}"
        for line in told["request"]
        if Decimal(line["cost_usd"]) != costs.get(line["request_id"], 0)
    ]
    return wrong


@pytest.fixture
def router(tmp_path, vendors):
    """One whose first vendor fails every time, so that requests take two attempts."""
    simulator = vendors({"alpha": Script(fault=Fault.CUT), "beta": Script()})
    one = start_router(tmp_path / "data", registry(tmp_path / "p.yaml", simulator), COE_COST_LOG="stdout")
    yield one
    if one.process.poll() is None:
        one.kill()


async def leave(router):
    """A caller that goes away in the middle of its stream."""
    async with httpx.AsyncClient(trust_env=False) as client:
        wish = client.stream("POST", f"{router.url}/v1/chat/completions", json={**ASK, "stream": True})
        async with wish as page:
            async for _ in page.aiter_bytes():
                break


def test_every_row_has_its_line(router):
    """Answers, failed attempts, streams that were left, refusals: lines and journal agree, and so do sums."""
    for number in range(6):
        assert ask(router, stream=number % 2 == 0, coe={"tags": [f"t{number}"]}) == 200
    asyncio.run(leave(router))
    assert ask(router, model="beta-model") == 200
    assert router.stop() == 0
    told = lines(router.log.read_text(encoding="utf-8"))
    assert differences(told, router) == []
    assert len(told["request"]) == 8
    assert {line["ended"] for line in told["attempt"]} > {"complete"}
    assert any(line["attempts"] > 1 for line in told["request"])
    assert all(len({line["kind"], line["request_id"]}) == 2 for line in told["request"])
    assert "nobody writes down" not in router.log.read_text(encoding="utf-8")


def test_a_line_that_is_wrong_is_noticed(router):
    """Positive control: one pico-dollar, one line less."""
    assert ask(router) == 200
    assert router.stop() == 0
    told = lines(router.log.read_text(encoding="utf-8"))
    assert differences(told, router) == []
    paid = next(line for line in told["attempt"] if Decimal(line["cost_usd"]))
    paid["cost_usd"] = str(Decimal(paid["cost_usd"]) + Decimal("0.000000000001"))
    assert len(differences(told, router)) == 2
    assert "other attempts" in differences({**told, "attempt": told["attempt"][:-1]}, router)


def test_without_the_setting_there_is_none(tmp_path, vendors):
    """Off by default."""
    router = start_router(tmp_path / "data", registry(tmp_path / "p.yaml", vendors({"alpha": Script()})))
    assert ask(router) == 200
    assert router.stop() == 0
    assert lines(router.log.read_text(encoding="utf-8")) == {"attempt": [], "request": [], "dropped": []}


def test_nobody_reads_and_nobody_waits(tmp_path, vendors):
    """A pipe that is full holds up no request; whoever reads later gets every line."""
    fifo = tmp_path / "costs"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    file = registry(tmp_path / "p.yaml", vendors({"alpha": Script()}))
    under = ("sh", "-c", f'exec "$0" "$@" > {fifo}')
    router = start_router(tmp_path / "data", file, under=under, COE_COST_LOG="stdout")
    try:
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: ask(router), range(150))) == {200}
        with ThreadPoolExecutor(1) as pool:
            ending = pool.submit(router.stop)
            text = b""
            while not ending.done() or text.count(b"\n") < 300:
                try:
                    text += os.read(reading, 1 << 16)
                except BlockingIOError:
                    if ending.done():
                        break
            assert ending.result() == 0
    finally:
        os.close(reading)
        if router.process.poll() is None:
            router.kill()
    told = lines(text.decode())
    assert (len(told["attempt"]), len(told["request"]), told["dropped"]) == (150, 150, [])
    assert len(text) > 1 << 17, "more than any pipe takes"
    assert differences(told, router) == []
