"""From start to stop: recovery, reload that keeps the old registry on a bad file, the drain, stored decisions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time

import httpx
import pytest
from scenery import PATIENCE_S, start_app
from stage import registry

from service import telemetry
from service.house import SystemClock
from service.simulator import Fault, Script


@pytest.fixture
def at_home(tmp_path, vendors):
    """(the running app, its registry file)."""
    file = registry(tmp_path / "providers.yaml", vendors({"alpha": Script(), "beta": Script()}))
    app = start_app(tmp_path / "data", file)
    yield app, file
    if app.thread.is_alive():
        app.stop()


def reload(app):
    """Reload as SIGHUP does, in the server's own loop."""
    loop = app.server.servers[0].get_loop()
    asyncio.run_coroutine_threadsafe(app.house.reload(), loop).result(PATIENCE_S)


def test_the_clocks_of_this_machine():
    """Aware UTC for records, a clock that never jumps for durations."""
    clock = SystemClock()
    assert clock.utc().utcoffset().total_seconds() == 0
    assert clock.monotonic() <= clock.monotonic()


def test_a_reload_swaps_the_registry_whole(at_home, capfd):
    """The next request goes by the new prices; the event names the version."""
    telemetry.configure("INFO")
    app, file = at_home
    assert app.chat().headers["x-coe-provider"] == "alpha"
    before = app.house.pipeline.catalog
    file.write_text(file.read_text(encoding="utf-8").replace("output: 1.20", "output: 9.20"), encoding="utf-8")
    reload(app)
    assert app.house.pipeline.catalog.version != before.version
    assert app.chat().headers["x-coe-provider"] == "beta"
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    (told,) = [one for one in events if one["event"] == telemetry.REGISTRY_RELOADED]
    assert told["version"] == app.house.pipeline.catalog.version


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("context_tokens", "contxt_tokens"),
        lambda text: text.replace("version: 1", "version: ["),
        lambda _: "",
        lambda text: text.replace("protocol: openai_chat", "protocol: gemini"),
        None,
    ],
    ids=["unknown_field", "not_yaml", "empty", "nobody_to_call", "missing"],
)
def test_a_bad_file_leaves_the_old_one_serving(at_home, spoil, capfd):
    """Refused as a whole, with its problems in the log; requests notice nothing."""
    telemetry.configure("INFO")
    app, file = at_home
    before = app.house.pipeline.catalog
    if spoil is None:
        file.unlink()
    else:
        file.write_text(spoil(file.read_text(encoding="utf-8")), encoding="utf-8")
    reload(app)
    assert app.house.pipeline.catalog is before
    assert app.chat().status_code == 200
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    (told,) = [one for one in events if one["event"] == telemetry.REGISTRY_REFUSED]
    assert told["problems"]


def test_a_simulating_router_is_not_reloaded(at_home):
    """Its vendors were made for the registry it began with."""
    app, file = at_home
    before = app.house.pipeline.catalog
    app.house.simulated = True
    file.write_text(file.read_text(encoding="utf-8").replace("input: 0.15", "input: 9.15"), encoding="utf-8")
    reload(app)
    assert app.house.pipeline.catalog is before


def test_a_request_keeps_the_registry_it_began_with(tmp_path, vendors):
    """A reload in the middle changes neither its price nor its candidates."""
    file = registry(tmp_path / "p.yaml", vendors({"alpha": Script(header_delay_s=0.6)}))
    app = start_app(tmp_path / "data", file)
    try:
        replies = []
        asking = threading.Thread(target=lambda: replies.append(app.chat(model="alpha-model")))
        asking.start()
        time.sleep(0.2)
        file.write_text(file.read_text(encoding="utf-8").replace("output: 1.20", "output: 99.20"), encoding="utf-8")
        reload(app)
        asking.join(PATIENCE_S)
        ((_, (end,)),) = app.books.attempts()
        assert end["price"]["rates"]["output"] == 1_200_000
        assert replies[0].status_code == 200
        app.chat(model="alpha-model")
        assert app.books.attempts()[1][1][0]["price"]["rates"]["output"] == 99_200_000
    finally:
        app.stop()


def test_stopping_settles_what_runs(tmp_path, vendors):
    """A server that stops cancels its requests; their rows are in the journal before it closes."""
    file = registry(
        tmp_path / "p.yaml",
        vendors({"alpha": Script(fault=Fault.SILENCE)}),
        timeouts="{connect_s: 2, first_token_s: 60, idle_s: 60, total_s: 60}",
    )
    app = start_app(tmp_path / "data", file)
    app.server.config.timeout_graceful_shutdown = 0.2

    def ask():
        with contextlib.suppress(httpx.HTTPError):  # how the connection ends is the server's business
            app.chat(stream=True)

    asking = threading.Thread(target=ask)
    asking.start()
    due = time.monotonic() + PATIENCE_S
    while not app.books.attempts() and time.monotonic() < due:
        time.sleep(0.02)
    app.stop()
    asking.join(PATIENCE_S)
    ((_, ends),) = app.books.attempts()
    assert [end["ended"] for end in ends] == ["client_left"]


def test_a_decision_outlives_the_process(at_home, tmp_path):
    """From the index, by the next router on the same data."""
    app, file = at_home
    decision = app.chat().headers["x-coe-decision-id"]
    app.stop()
    again = start_app(tmp_path / "data", file)
    try:
        due = time.monotonic() + PATIENCE_S
        while again.get(f"/v1/decisions/{decision}").status_code != 200:
            assert time.monotonic() < due
            time.sleep(0.05)
        assert again.get(f"/v1/decisions/{decision}").json()["cost_usd"]
        assert again.house.stored_decision("dec_nobody") is None
    finally:
        again.stop()


def test_a_ledger_problem_is_told(at_home):
    """Writable: none. Closed: a reason."""
    app, _ = at_home
    assert app.house.ledger_problem() is None
    app.stop()
    assert app.house.ledger_problem()
