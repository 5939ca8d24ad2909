"""From start to stop: recovery, reload that keeps the old registry on a bad file, the drain, stored decisions."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time

import httpx
import pytest
from redis_server import RedisServer
from scenery import PATIENCE_S, eventually, start_app
from stage import registry

from service import telemetry
from service.domain.money import usd_text
from service.house import SystemClock
from service.learned import LENGTHS_FILE, write_lengths
from service.ledger.sinks.port import SinkDamaged, SinkFault
from service.routing.lengths import Length, Lengths
from service.simulator import Fault, Script


@pytest.fixture
def at_home(tmp_path, vendors):
    """(the running app, its registry file)."""
    file = registry(tmp_path / "providers.yaml", vendors({"alpha": Script(), "beta": Script()}))
    app = start_app(tmp_path / "data", file)
    yield app, file
    if app.thread.is_alive():
        app.stop()


@pytest.fixture
def redis(tmp_path, monkeypatch):
    """A store of their own, which gathers for a moment only."""
    monkeypatch.setattr("service.guard.counters.GRACE_MS", 200)
    server = RedisServer(tmp_path / "redis")
    yield server
    server.kill()


def reload(app):
    """Reload as SIGHUP does, in the server's own loop."""
    loop = app.server.servers[0].get_loop()
    asyncio.run_coroutine_threadsafe(app.house.reload(), loop).result(PATIENCE_S)


def test_the_clocks_of_this_machine():
    """Aware UTC for records, a clock that never jumps for durations."""
    clock = SystemClock()
    assert clock.utc().utcoffset().total_seconds() == 0
    assert clock.monotonic() <= clock.monotonic()


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "over Redis"])
def test_a_reload_counts_what_was_spent_with_a_tag_that_it_names_first(tmp_path, vendors, redis, shared):
    """By requests that said it: in a life before this one, in this one, and while it reloads; all that the ledger has."""
    file = registry(tmp_path / "providers.yaml", vendors({"alpha": Script()}))
    settings = {"redis_url": redis.url} if shared else {}
    said = {"model": "alpha-model", "coe": {"tags": ["late"]}}
    first = start_app(tmp_path / "data", file, **settings)
    assert [first.chat(**said).status_code for _ in range(2)] == [200, 200]
    first.stop()
    app = start_app(tmp_path / "data", file, **settings)
    eventually(lambda: not app.house.pipeline.limiter.uncounted)
    eventually(lambda: not app.house.pipeline.limiter.counters.problem)
    assert [app.chat(**said).status_code for _ in range(3)] == [200, 200, 200]
    with file.open("a", encoding="utf-8") as more:
        more.write("budgets: [{name: late, tag: late, usd_per_month: 5}]\n")
    reload(app)
    eventually(lambda: not app.house.pipeline.limiter.recounting)
    booked = sum(end["cost_pusd"] for _, ends in app.books.attempts() for end in ends)
    assert len(app.books.attempts()) == 5

    def counted():
        body = {**said, "messages": [{"role": "user", "content": "hello"}]}
        told = httpx.post(f"{app.url}/v1/route", json=body, trust_env=False).json()["budgets"]["limits"]
        return {one["budget"]: one["left_usd"] for one in told}

    eventually(lambda: counted() == {"late": usd_text(5 * 10**12 - booked)})
    app.stop()


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
    assert told["offer"] == app.house.pipeline.catalog.offer != before.offer


def test_what_would_have_to_change_is_worked_out_while_the_versions_hold(at_home):
    """From the record alone; after a reload with other prices nothing can be said, and nothing is."""
    app, file = at_home
    decision_id = app.chat().headers["x-coe-decision-id"]
    path = f"/v1/decisions/{decision_id}"
    told, stored = app.get(path).json(), app.house.pipeline.decision_record(decision_id)
    assert told["what_if"]["alternatives"][0]["deployment"] == told["runner_up"]
    assert "reason" not in stored["candidates"][1]
    assert all(one["reason"] for one in told["candidates"])
    assert app.house.reasoned(stored) == told
    lying = {**stored, "chosen": "beta/beta-model"}
    assert app.house.reasoned(lying) == {**lying, "what_if": None}
    file.write_text(file.read_text(encoding="utf-8").replace("output: 1.20", "output: 1.30"), encoding="utf-8")
    reload(app)
    assert app.get(path).json() == {**stored, "what_if": None}
    assert app.house.reasoned({"id": "dec_of_an_older_router"})["what_if"] is None


def test_a_reload_takes_what_was_learned_since(at_home, capfd):
    """The next decision names the table; one that is damaged leaves the old one serving."""
    telemetry.configure("INFO")
    app, _ = at_home
    path = app.house.settings.data_dir / LENGTHS_FILE
    table = Lengths({("alpha-model", None, None): Length(9_000, 9_000, None, None, 99)})
    before = app.chat().headers
    write_lengths(path, table, {})
    reload(app)
    assert app.house.pipeline.learned.lengths.version == table.version
    after = app.chat().headers
    assert (before["x-coe-provider"], after["x-coe-provider"]) == ("alpha", "beta")
    told = app.get(f"/v1/decisions/{after['x-coe-decision-id']}").json()
    assert told["versions"]["lengths"] == table.version
    path.write_text("{}")
    reload(app)
    assert app.house.pipeline.learned.lengths.version == table.version
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    reloads = [one for one in events if one["event"] in (telemetry.REGISTRY_RELOADED, telemetry.REGISTRY_REFUSED)]
    assert reloads[0]["lengths"] == table.version
    assert LENGTHS_FILE in reloads[1]["problems"][0]


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
        eventually(app.books.attempts)
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


@pytest.mark.parametrize("stream", [True, False])
def test_stopping_settles_what_runs(tmp_path, vendors, stream):
    """A server that stops cancels its requests: 503 in our shape, and their rows before the journal closes."""
    file = registry(
        tmp_path / "p.yaml",
        vendors({"alpha": Script(fault=Fault.SILENCE)}),
        timeouts="{connect_s: 2, first_token_s: 60, idle_s: 60, total_s: 60}",
    )
    app = start_app(tmp_path / "data", file)
    app.server.config.timeout_graceful_shutdown = 0.2
    replies = []
    asking = threading.Thread(target=lambda: replies.append(app.chat(stream=stream)))
    asking.start()
    eventually(app.books.attempts)
    app.stop()
    asking.join(PATIENCE_S)
    (reply,) = replies
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "router_stopping")
    assert reply.headers["retry-after"]
    assert "x-should-retry" not in reply.headers
    assert reply.headers["x-coe-attempts"] == "1"
    ((_, ends),) = app.books.attempts()
    assert [(end["ended"], end["state"]) for end in ends] == [("router_stopping", "estimated")]


def test_stopping_answers_a_request_whose_body_is_not_there_yet(at_home):
    """503 in our shape too: nothing was decided, nothing is booked."""
    app, _ = at_home
    app.server.config.timeout_graceful_shutdown = 0.2
    with socket.create_connection(("127.0.0.1", app.books.port)) as wire:
        wire.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            b"content-length: 100\r\n\r\n{"
        )
        eventually(lambda: app.server.server_state.tasks)
        app.stop()
        wire.settimeout(PATIENCE_S)
        answer = b"".join(iter(lambda: wire.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 503")
    assert b'"router_stopping"' in answer
    assert app.books.attempts() == []


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


def parts(app):
    """What /metrics says of each part: those that are not in order."""
    lines = [line for line in app.get("/metrics").text.splitlines() if line.startswith("coe_part_degraded{")]
    assert len(lines) == len(telemetry.PARTS)
    return {line.split('"')[1] for line in lines if line.endswith(" 1")}


def test_every_part_that_is_not_in_order_is_told(at_home, monkeypatch):
    """By name, in readiness and metrics, without a place or a text of ours that a stranger could read there."""
    app, _ = at_home
    assert (app.house.troubles(), parts(app)) == ({}, set())
    app.house._stop.set()
    app.house._indexing.join(10)
    monkeypatch.setattr(app.house.indexer, "problem", "the ledger index /somewhere/x can't be opened")
    (app.house.settings.data_dir / "keys.jsonl").write_bytes(b"{{{\n")
    app.house.keys._checked_s = None
    app.house.pipeline.settler.counters.not_read(app.house.clock.monotonic())
    telemetry.LOG._drop(1)
    app.house._registry_refused = "1 problem"
    try:
        told = app.house.troubles()
        assert set(told) == parts(app) == {"index", "keys", "classifier", "log", "registry"}
        assert "somewhere" not in str(told)
        assert str(app.house.settings.data_dir) not in str(told)
        assert app.get("/readyz").json()["degraded"].keys() >= set(told)
    finally:
        telemetry.LOG._dropped_at = None
        telemetry.LOG._untold = 0
    app.stop()
    assert app.house.troubles()["ledger"]


def test_a_registry_that_is_refused_is_told_until_a_good_one_serves(at_home, monkeypatch):
    """Whatever is wrong with it, a fault of ours too: the one before answers, and every answer says so."""
    app, file = at_home
    good = file.read_text(encoding="utf-8")
    file.write_text(good.replace("output: 1.20", "output: -1.20"), encoding="utf-8")
    reload(app)
    answer = app.chat()
    assert (answer.status_code, answer.headers["x-coe-degraded"]) == (200, "registry")
    assert "has 1 problem; the log names them" in app.house.troubles()["registry"]
    file.write_text(good, encoding="utf-8")
    with monkeypatch.context() as broken:
        broken.setattr("service.house.read_registry", lambda *_: {}["a mistake of ours"])
        reload(app)
        assert "x-coe-degraded" in app.chat().headers
    reload(app)
    assert "x-coe-degraded" not in app.chat().headers
    assert app.house.troubles() == {}


def test_an_index_that_can_not_tell_says_so(at_home, monkeypatch):
    """Neither "there is no such decision" nor a fault: 503, come back. Damage is told to whoever fills it."""
    app, _ = at_home
    app.chat()
    path = "/v1/decisions/dec_6b03268c0b2f12f44927e5e3"
    assert app.get(path).status_code == 404
    with monkeypatch.context() as behind:
        behind.setattr("service.house.wait_until_indexed", lambda *_: False)
        refused = app.get(path)
    for fault in (SinkFault("locked"), SinkDamaged("a read failed"), SinkDamaged("torn")):
        with monkeypatch.context() as broken:
            broken.setattr("service.house.decision", raising(fault))
            refused = app.get(path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "index_unavailable")
        assert (refused.headers["x-coe-degraded"], refused.headers["retry-after"]) == ("index", "1")
        eventually(lambda: app.house.indexer._suspect is None)  # looked through and kept; the second time it goes
        assert not list(app.house.settings.data_dir.glob("*.damaged")) or fault.args == ("torn",)
    eventually(lambda: list(app.house.settings.data_dir.glob("*.damaged")))
    assert app.get(path).status_code == 404


def raising(problem):
    """A function that raises it."""

    def call(*_):
        raise problem

    return call


def test_a_decision_that_is_half_indexed_is_waited_for(at_home, monkeypatch):
    """Another worker's row may be indexed up to its open attempt: the end is waited for, once, and then told as it is."""
    app, _ = at_home
    seen = [{"attempts": [{"state": "open"}]}, {"attempts": [{"state": "settled"}]}]
    waits = []
    monkeypatch.setattr("service.house.decision", lambda _sink, _id: seen[min(len(waits), 1)])
    monkeypatch.setattr("service.house.wait_until_indexed", lambda *_: waits.append(1))
    assert app.house.stored_decision("dec_1") == seen[1]
    assert waits == [1]
    assert app.house.stored_decision("dec_1") == seen[1]
    assert waits == [1], "what is whole is not waited for"


# budgets


def budgeted(file, *budgets):
    """A registry file with these budgets and no others."""
    text = file.read_text(encoding="utf-8").partition("budgets:")[0]
    file.write_text(
        text + "".join(["budgets:\n", *[f"- {{{one}}}\n" for one in budgets]] if budgets else []), encoding="utf-8"
    )


def spent(app):
    """What the store of this process has for everybody, of today, in pico-USD."""
    pot = app.house.pipeline.limiter.counters._tallies._pots.get(f"m:a:{time.strftime('%Y-%m-%d', time.gmtime())}")
    return 0 if pot is None else pot.used


def booked(app):
    """What the ledger has."""
    return sum(end["cost_pusd"] for _, ends in app.books.attempts() for end in ends)


def test_a_reload_swaps_budgets_and_new_ones_know_what_was_spent(at_home):
    """By whoever asked before; one that is gone limits nobody."""
    app, file = at_home
    assert app.chat().status_code == 200
    cost = booked(app)
    assert cost > 0
    budgeted(file, f"name: all, usd_per_day: {cost / 10**12:.12f}")
    reload(app)
    refused = app.chat(max_tokens=1)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    assert " 0 are spent" not in refused.json()["error"]["message"]
    budgeted(file)
    reload(app)
    assert app.chat().status_code == 200


def test_a_refused_registry_leaves_the_budgets_that_serve(at_home):
    """Else a typo would lift them."""
    app, file = at_home
    budgeted(file, "name: all, usd_per_day: 0")
    reload(app)
    budgeted(file, "name: all, usd_per_day: lots")
    reload(app)
    assert app.chat().status_code == 429


def test_a_restart_begins_with_what_the_ledger_has(at_home, tmp_path):
    """Before the first request: the start waits for it where there are budgets."""
    app, file = at_home
    budgeted(file, "name: all, usd_per_day: 1")
    reload(app)
    for _ in range(3):
        assert app.chat().status_code == 200
    before = booked(app)
    app.stop()
    again = start_app(tmp_path / "data", file)
    try:
        assert again.house.pipeline.limiter.uncounted == ""
        assert spent(again) == before
        assert again.chat().status_code == 200
        assert again.house.troubles() == {}
    finally:
        again.stop()


def test_what_is_not_counted_yet_is_told_where_there_are_limits(at_home):
    """In readiness, in metrics, and to whoever is under a hard budget."""
    app, file = at_home
    eventually(lambda: app.house.pipeline.limiter.uncounted == "")
    app.house.pipeline.limiter.uncounted = "the ledger's index is behind"
    assert (app.house.troubles(), app.chat().status_code) == ({}, 200)
    budgeted(file, "name: lab, tag: lab, usd_per_day: 1")
    reload(app)
    eventually(lambda: not app.house.pipeline.limiter.recounting)
    app.house.pipeline.limiter.uncounted = "the ledger's index is behind"
    assert app.house.troubles() == {"budgets": "the ledger's index is behind"}
    assert parts(app) == {"budgets"}
    refused = app.chat(coe={"tags": ["lab"]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "budget_store_unavailable")
    assert (refused.headers["x-coe-degraded"], refused.headers["retry-after"]) == ("budgets", "2")
    assert app.chat().status_code == 200


def test_tags_of_keys_and_of_budgets_are_counted(at_home):
    """Of keys whatever they are, of requests only those that a budget names."""
    app, file = at_home
    assert app.house._counted_tags() == set()
    assert not app.house._limited()
    budgeted(file, "name: lab, tag: lab, usd_per_day: 1", "name: all, usd_per_day: 1")
    reload(app)
    assert app.house._counted_tags() == {"lab"}
    assert app.house._limited()
    app.house.keys.create("hr", tags=("hr", "team"))
    assert app.house._counted_tags() == {"lab", "hr", "team"}


def test_the_store_is_told_the_rest_before_the_journal_says_that_all_has_ended(at_home, monkeypatch):
    """Whoever reads that mark tells the store that this process is no more; what came after would be lost."""
    app, _ = at_home
    order = []

    def noted(part, name):
        close = getattr(part, name)

        async def closing():
            order.append(type(part).__name__)
            await close()

        monkeypatch.setattr(part, name, closing)

    noted(app.house.pipeline.settler, "settled")
    noted(app.house.spending, "close")
    noted(app.house.journal, "close")
    app.stop()
    assert order == ["Settler", "Spending", "Journal"]


def test_two_routers_over_one_redis_share_a_budget_and_leave_their_totals(tmp_path, vendors, redis):
    """What one spent the other has not; at rest the store has what both ledgers have, and nothing is held."""
    file = registry(tmp_path / "p.yaml", vendors({"alpha": Script()}))
    budgeted(file, "name: all, usd_per_day: 0.002, concurrency: 9")
    apps = [start_app(tmp_path / name, file, redis_url=redis.url) for name in ("one", "two")]
    try:
        assert all(not app.house.troubles() for app in apps)
        assert [app.chat(model="alpha-model", max_tokens=50).status_code for app in apps * 3] == [200] * 6
        for app in apps:
            refused = app.chat(model="alpha-model", max_tokens=8_300)
            assert refused.status_code == 429
            assert f"{usd_text(sum(map(booked, apps)))} are spent" in refused.json()["error"]["message"]
    finally:
        for app in apps:
            app.stop()
    pot = redis.command("HGETALL", f"{{coe}}:m:a:{time.strftime('%Y-%m-%d', time.gmtime())}").split(b"\r\n")
    kept = dict(zip(pot[2::4], pot[4::4], strict=False))
    assert int(kept[b"u"]) == sum(map(booked, apps))
    assert {value for name, value in kept.items() if name.startswith(b"h:")} == {b"0"}


def test_a_store_that_is_lost_is_told_and_found(tmp_path, vendors, redis):
    """Hard budgets wait, others are served and marked; without a restart of ours."""
    file = registry(tmp_path / "p.yaml", vendors({"alpha": Script()}))
    budgeted(file, "name: hard, tag: hard, usd_per_day: 1", "name: soft, tag: soft, usd_per_day: 1, soft: true")
    app = start_app(tmp_path / "data", file, redis_url=redis.url)
    try:
        redis.kill()
        eventually(lambda: app.house.troubles().get("budgets"))
        begun = time.monotonic()
        refused, passed = app.chat(coe={"tags": ["hard"]}), app.chat(coe={"tags": ["soft"]})
        assert time.monotonic() - begun < 2
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "budget_store_unavailable")
        assert (passed.status_code, passed.headers["x-coe-degraded"]) == (200, "budgets")
        assert "x-coe-degraded" not in app.chat().headers
        redis.start()
        begun = time.monotonic()
        eventually(lambda: not app.house.troubles())
        assert time.monotonic() - begun < 5
        assert app.chat(coe={"tags": ["hard"]}).status_code == 200
        eventually(lambda: app.house.pipeline.limiter.counters.holdings.pending == 0)
    finally:
        app.stop()
    day = time.strftime("%Y-%m-%d", time.gmtime())
    assert int(redis.command("HGET", f"{{coe}}:m:a:{day}", "u").split(b"\r\n")[1]) == booked(app)
