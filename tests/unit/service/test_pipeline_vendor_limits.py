"""What a vendor's account allows, on the real app: whoever is full is passed over, and everything comes back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from redis_server import RedisServer
from scenery import eventually

from service.guard.counting import SLOTS
from service.simulator import Script, http_error

SLOW = Script(header_delay_s=0.6)


@pytest.fixture
def allowed(serving):
    """`allowed(scripts, "concurrency: 1")` gives the app where the account at `alpha` allows so much."""

    def start(scripts, limits, **settings):
        return serving(scripts, quirks={"alpha": "[]\n    limits: {" + limits + "}"}, **settings)

    return start


def held(app):
    """What is held of slots."""
    found = app.house.pipeline.limiter.counters.holdings._own
    return {name: own.held for name, own in dict(found).items() if own.held and own.counter.kind == SLOTS}


@pytest.mark.parametrize("stream", [False, True])
def test_who_runs_as_many_as_it_may_is_passed_over(allowed, stream):
    """The next one is asked, and the answer says that somebody rested; then there is room again."""
    app, simulator = allowed({"alpha": SLOW, "beta": Script()}, "concurrency: 1")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(app.chat, stream=stream)
        eventually(lambda: len(simulator.log) == 1)
        second = app.chat(stream=stream)
        assert (second.headers["x-coe-provider"], second.headers["x-coe-degraded"]) == ("beta", "resting")
        assert second.headers["x-coe-attempts"] == "1"
        assert first.result().headers["x-coe-provider"] == "alpha"
    eventually(lambda: held(app) == {})
    third = app.chat()
    assert third.headers["x-coe-provider"] == "alpha"
    assert "x-coe-degraded" not in third.headers


def test_where_nobody_else_is_there_it_is_waited_for(allowed):
    """As for a vendor that says when to come back."""
    app, _ = allowed({"alpha": SLOW}, "concurrency: 1")
    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(lambda _: app.chat(model="alpha-model"), range(2)))
    assert [one.status_code for one in replies] == [200, 200]
    assert held(app) == {}


def test_a_wait_that_is_too_long_is_told(allowed):
    """429 with the time, and nothing was sent."""
    app, simulator = allowed({"alpha": Script()}, "requests_per_minute: 2")
    assert [app.chat(model="alpha-model").status_code for _ in range(2)] == [200, 200]
    reply = app.chat(model="alpha-model")
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "upstream_rate_limited")
    assert 25 <= int(reply.headers["retry-after"]) <= 30
    assert len(simulator.log) == 2
    assert [name for name in reply.headers if name.startswith("x-ratelimit")] == [], "it is no limit of the caller"


def test_tokens_are_corrected_by_what_was_used(allowed):
    """A few hundred are expected of each answer; a dozen came."""
    app, _ = allowed({"alpha": Script(), "beta": Script()}, "tokens_per_minute: 2000")
    providers = [app.chat(max_tokens=900).headers["x-coe-provider"] for _ in range(12)]
    assert providers.count("alpha") >= 10


def test_an_attempt_that_failed_gives_its_place_back(allowed):
    """However it ended."""
    app, _ = allowed({"alpha": http_error(400, error_type="invalid_request_error", error_code="bad")}, "concurrency: 1")
    for _ in range(3):
        assert app.chat(model="alpha-model").status_code == 400
        assert held(app) == {}


def test_all_processes_share_what_an_account_allows(allowed, tmp_path):
    """Over Redis; there no request asks it twice."""
    store = RedisServer(tmp_path / "redis")
    first, simulator = allowed({"alpha": SLOW}, "requests_per_minute: 3", redis_url=store.url)
    asked = []
    counters = first.house.pipeline.limiter.counters
    plain = counters.ask

    async def ask(what):
        asked.append(what)
        return await plain(what)

    counters.ask = ask
    other, _ = allowed({"alpha": Script()}, "requests_per_minute: 3", redis_url=store.url)
    for app in (first, other):  # a fresh store gathers what the routers know
        eventually(lambda app=app: app.house.pipeline.limiter.counters.problem == "")
    assert [app.chat(model="alpha-model").status_code for app in (first, first, other)] == [200, 200, 200]
    assert {app.chat(model="alpha-model").status_code for app in (first, other)} == {429}
    assert len(asked) == 3
    assert len(simulator.log) == 2
    for app in (first, other):
        app.stop()
    store.kill()
