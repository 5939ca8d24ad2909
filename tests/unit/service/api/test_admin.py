"""/admin/costs: the command's report over HTTP, for the operator alone, and never at the expense of requests."""

from __future__ import annotations

import csv
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from stage import coe

from service.house import House
from service.ledger.sinks.port import SinkFault, SinkMissing
from service.simulator import Script

ADMIN = "f0Ym2Vt8Kx5Lr9Nw3Bq7Hd1Jc6Zp4Sg8"
RIGHT = {"authorization": f"Bearer {ADMIN}"}
STEERED = {"tags": ["red", "blue"]}


@pytest.fixture
def app(serving):
    """A router with an admin key that has answered twice."""
    made, _ = serving({"alpha": Script()}, admin_key=ADMIN)
    for _ in range(2):
        assert made.chat(coe=STEERED).status_code == 200
    return made


def ask(app, query=""):
    """GET /admin/costs as the operator."""
    return app.get(f"/admin/costs{query}", **RIGHT)


def test_it_tells_what_the_command_tells(app):
    """Byte for byte, in every format; the rows of a moment ago are there."""
    for shape, kind in {
        "json": "application/json",
        "csv": "text/csv",
        "focus": "text/csv",
        "table": "text/plain",
    }.items():
        page = ask(app, f"?by=model,key&format={shape}&since=1d")
        assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (200, kind)
        told = coe("costs", "--by", "model,key", "--format", shape, COE_DATA_DIR=str(app.books.data_dir))
        if shape == "focus":  # its period begins when it was asked
            assert [one["BilledCost"] for one in rows(page.text)] == [one["BilledCost"] for one in rows(told.stdout)]
        else:
            assert page.text == told.stdout
    assert ask(app).json()[0]["requests"] == 2
    assert "x-coe-degraded" not in ask(app).headers


def rows(text):
    """The rows of a CSV."""
    return list(csv.DictReader(io.StringIO(text)))


def test_the_sum_is_the_ledger_s(app):
    """Exactly: the rows of the journal, added up by hand."""
    booked = sum(end["cost_pusd"] for _, ends in app.books.attempts() for end in ends)
    assert booked > 0
    assert sum(round(float(one["cost_usd"]) * 10**12) for one in ask(app).json()) == booked


def test_only_the_operator_may(app):
    """A wrong key, none, and a caller's good one."""
    secret = app.house.keys.create("k").secret
    for headers, status in (({}, 401), ({"authorization": f"Bearer {secret}"}, 403), (RIGHT, 200)):
        assert app.get("/admin/costs", **headers).status_code == status


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?by=colour", "by"),
        ("?by=", "by"),
        ("?by=tag&format=focus", "by"),
        ("?since=yesterday", "since"),
        ("?since=1d&until=2d", "since"),
        ("?until=2026-02-30", "until"),
        ("?format=xml", "format"),
        ("?format=csv&format=json", "format"),
        ("?group=model", "query"),
    ],
)
def test_what_makes_no_sense_is_a_400_that_names_it(app, query, param):
    """In the protocol's shape."""
    page = ask(app, query)
    assert page.status_code == 400
    assert page.json()["error"]["param"] == param
    assert page.json()["error"]["type"] == "invalid_request_error"


def test_no_ledger_yet_is_an_empty_report(app, monkeypatch):
    """Valid in its format."""

    def missing(*_, **__):
        raise SinkMissing

    monkeypatch.setattr("service.house.cost_report", missing)
    assert ask(app).json() == []


def test_an_index_that_can_not_be_asked_is_a_503(app, monkeypatch):
    """It may be locked for a moment; requests don't notice."""

    def locked(*_, **__):
        raise SinkFault("locked")

    monkeypatch.setattr("service.house.cost_report", locked)
    page = ask(app)
    assert (page.status_code, page.json()["error"]["code"]) == (503, "index_unavailable")
    assert page.headers["x-coe-degraded"] == "index"
    assert app.chat().status_code == 200


def test_rows_that_may_lack_are_told(app, monkeypatch):
    """An index that is behind after a second."""
    monkeypatch.setattr("service.house.wait_until_indexed", lambda *_: False)
    page = ask(app)
    assert (page.status_code, page.headers["x-coe-degraded"]) == (200, "index")


def test_slow_reports_hold_up_nobody(app, monkeypatch):
    """Two wait in threads, the third is told so, and requests and health are answered meanwhile."""
    free, asked = threading.Event(), House.costs

    def slow(house, question):
        assert free.wait(20)
        return asked(house, question)

    monkeypatch.setattr(House, "costs", slow)
    with ThreadPoolExecutor(2) as pool:
        held = [pool.submit(ask, app) for _ in range(2)]
        due = time.monotonic() + 10
        while (third := ask(app) if len(app.house.asking._running) == 2 else None) is None:
            assert time.monotonic() < due
            time.sleep(0.01)
        assert (third.status_code, third.json()["error"]["code"]) == (503, "overloaded")
        assert app.chat().status_code == 200
        assert app.get("/healthz").status_code == 200
        free.set()
        assert [one.result().status_code for one in held] == [200, 200]


def test_json_is_what_programs_read(app):
    """Money as exact strings."""
    (row,) = json.loads(ask(app, "?by=day").text)
    assert isinstance(row["cost_usd"], str)
    assert row["simulated_attempts"] == 0
