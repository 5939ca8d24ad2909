"""What is counted, how it is told, and what it must never hold."""

from __future__ import annotations

import asyncio
import json
import re
import time

import httpx
import pytest

from service import metrics, telemetry
from service.domain.decision import EntryState, OpenEntry, TerminalEntry
from service.metrics import Counters, Histogram, Labelled, LoopWatch
from service.simulator import Script

GAUGES = dict.fromkeys(
    (
        telemetry.STRONG_SHARE_ALARMS,
        telemetry.STRONG_SHARE_KEYS,
        telemetry.TASKS,
        telemetry.OPEN_ATTEMPTS,
        telemetry.JOURNAL_WRITABLE,
        telemetry.JOURNAL_SPILLED,
        telemetry.RESTS,
        telemetry.IN_FLIGHT,
        telemetry.WAITING,
        telemetry.SHED,
        telemetry.JOURNAL_SYNCS_FAILED,
        telemetry.READINGS_FAILED,
        telemetry.LOG_DROPPED,
        telemetry.COSTS_DROPPED,
        telemetry.CLOCK_JUMPS,
        telemetry.CACHE_HITS,
        telemetry.CACHE_MISSES,
        telemetry.CACHE_STORED,
        telemetry.CACHE_EVICTED,
        telemetry.CACHE_BYTES,
        telemetry.CACHE_ERRORS,
        telemetry.CACHE_SAVED,
    ),
    0,
) | {
    telemetry.RESTING: {},
    telemetry.PART_DEGRADED: {},
    telemetry.CACHE_NOT_KEPT: {},
    telemetry.BUDGET_LIMIT: {},
    telemetry.BUDGET_USED: {},
}
LABEL = r'[a-z_]+="(?:[^"\\\n]|\\.)*"'
LINE = re.compile(rf"[a-z_]+(\{{{LABEL}(,{LABEL})*\}})? -?[0-9.e+-]+")


def told(text):
    """{series: value} of a page; every line is one that Prometheus reads."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("# "):
            assert LINE.fullmatch(line), line
            series, _, value = line.rpartition(" ")
            found[series] = value
    return found


def test_a_clock_that_is_set_is_noticed(capsys):
    """Forwards and backwards, once each; one that is only kept right is not."""
    telemetry.configure("INFO")
    ahead = [0.0]
    counters = Counters()
    watch = LoopWatch(counters, lambda: time.monotonic() + ahead[0])

    async def some_time():
        watch.start()
        for by in (0.0, 3_600.0, 3_600.2, -86_400.0):
            ahead[0] = by
            await asyncio.sleep(3 * metrics.TICK_S)
        watch.stop()

    asyncio.run(some_time())
    assert counters.clock_jumps == 2
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(one["event"], round(one["by_s"])) for one in told] == [("clock_jumped", 3_600), ("clock_jumped", -90_000)]


def test_everything_is_told_with_its_meaning():
    """Each metric once, with help and type, also before anything happened."""
    text = Counters().text(GAUGES)
    for name, meaning in telemetry.METRICS.items():
        assert text.count(f"# TYPE {name} {meaning.partition(':')[0]}\n") == 1
        assert text.count(f"# HELP {name} ") == 1


def test_numbers_that_others_keep():
    """Money in full, counts to the last one, each kind with its own label."""
    more = {telemetry.CACHE_SAVED: 1_000_000_000_001, telemetry.CACHE_NOT_KEPT: {"unfinished": 12_345_678}}
    found = told(Counters().text({**GAUGES, **more, telemetry.RESTING: {"p/m": 0.5}}))
    assert found["coe_cache_saved_usd_total"] == "1.000000000001"
    assert found['coe_cache_not_kept_total{reason="unfinished"}'] == "12345678"
    assert found['coe_deployment_resting{deployment="p/m"}'] == "0.5"


def test_requests_attempts_tokens_and_money():
    """Added up; money to the last pico-dollar."""
    counters = Counters()
    for _ in range(3):
        counters.request(200, 1.5)
        counters.attempt("p/m", "complete", {"input": 10, "output": 5, "requests": 1}, 100_000_000_001, 250.0)
    counters.attempt("p/m", "http_500", {}, None, None)
    found = told(counters.text(GAUGES))
    assert found['coe_requests_total{status="200"}'] == "3"
    assert found['coe_attempts_total{deployment="p/m",ended="complete"}'] == "3"
    assert found['coe_attempts_total{deployment="p/m",ended="http_500"}'] == "1"
    assert found['coe_tokens_total{deployment="p/m",kind="input"}'] == "30"
    assert 'coe_tokens_total{deployment="p/m",kind="requests"}' not in found
    assert found['coe_cost_usd_total{deployment="p/m"}'] == "0.300000000003"
    assert found['coe_overhead_seconds_bucket{le="0.001"}'] == "0"
    assert found['coe_overhead_seconds_bucket{le="0.0025"}'] == "3"
    assert found["coe_overhead_seconds_count"] == "3"
    assert found['coe_first_content_seconds_bucket{le="+Inf"}'] == "3"


def opening(key_id="key_1", tags=()):
    """The beginning of an attempt."""
    ids = ("att_1", "req_1", "dec_1", 1, 0, key_id, "auto", "m", "p", "w", "coding", "en", "balanced", "v", 9)
    return OpenEntry(*ids, tags=tags)


def ending(cost_pusd, **usage):
    """Its end."""
    return TerminalEntry("att_1", EntryState.SETTLED, 1, "complete", usage, "provider", (), cost_pusd)


def test_spend_by_what_rows_say():
    """Whole pico-dollars and decimals of the same; unknown costs add nothing, tokens count all the same."""
    counters = Counters()
    million = 10**18 + 1  # a million USD and a pico-dollar: no float holds it
    for cost in (million, 1, None):
        counters.booked(opening(), ending(cost, input=3, reasoning=2, requests=1), {"red", "blue"})
    found = told(counters.text(GAUGES))
    labels = 'model="m",provider="p",intent="coding"'
    assert found[f'coe_spend_pusd_total{{{labels},usage_source="provider"}}'] == str(10**18 + 2)
    assert found[f'coe_spend_usd_total{{{labels},usage_source="provider"}}'] == "1000000.000000000002"
    assert found[f'coe_spend_tokens_total{{{labels},kind="input"}}'] == "9"
    assert not [series for series in found if series.startswith(("coe_key_spend", "coe_tag_spend"))]


def test_spend_by_key_and_tag_where_it_is_wanted():
    """A series for each, and no more than there may be; the rest is counted together."""
    counters = Counters()
    counters.by_key = counters.by_tag = True
    for number in range(metrics.SERIES_MAX + 10):
        counters.booked(opening(f"key_{number}", ("said",)), ending(10**12), {"red"})
    counters.booked(opening(None), ending(10**12), ())
    found = told(counters.text(GAUGES))
    assert found['coe_key_spend_usd_total{key_id="key_0"}'] == "1"
    assert found['coe_key_spend_usd_total{key_id="other"}'] == "10"
    assert found['coe_tag_spend_usd_total{tag="red"}'] == str(metrics.SERIES_MAX + 10)
    assert 'coe_tag_spend_usd_total{tag="said"}' not in found, "a caller would choose the labels"


def test_what_others_keep_by_labels():
    """A value as it is given, for each set of labels."""
    limits = Labelled(("budget", "window"), {('a"b', "day"): "5", ("c", "month"): "0.000000000001"})
    found = told(Counters().text({**GAUGES, telemetry.BUDGET_LIMIT: limits}))
    assert found['coe_budget_limit_usd{budget="a\\"b",window="day"}'] == "5"
    assert found['coe_budget_limit_usd{budget="c",window="month"}'] == "0.000000000001"


def test_what_budgets_refused_and_what_went_over():
    """By the code of the error; what went over and passed is one number, also while it is 0."""
    counters = Counters()
    assert told(counters.text(GAUGES))["coe_budget_soft_exceeded_total"] == "0"
    for code in ("insufficient_quota", "rate_limit_exceeded", "insufficient_quota"):
        counters.budget_refused(code)
    counters.soft_exceeded += 2
    found = told(counters.text(GAUGES))
    assert found['coe_budget_refusals_total{code="insufficient_quota"}'] == "2"
    assert found['coe_budget_refusals_total{code="rate_limit_exceeded"}'] == "1"
    assert found["coe_budget_soft_exceeded_total"] == "2"


def test_a_histogram_is_cumulative():
    """A bound counts what equals it."""
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert list(histogram.lines("h")) == [
        'h_bucket{le="1.0"} 2',
        'h_bucket{le="2.0"} 3',
        'h_bucket{le="+Inf"} 4',
        "h_sum 12",
        "h_count 4",
    ]


def test_series_do_not_grow_without_end(monkeypatch):
    """What comes after the limit is counted, under a name of its own."""
    monkeypatch.setattr(metrics, "SERIES_MAX", 3)
    counters = Counters()
    for number in range(10):
        counters.attempt(f"p/m{number}", "complete", {}, 1, None)
    found = told(counters.text(GAUGES))
    attempts = {name: value for name, value in found.items() if name.startswith("coe_attempts_total")}
    assert len(attempts) == 4
    assert attempts['coe_attempts_total{deployment="other",ended="other"}'] == "7"


def test_odd_statuses_are_one_word():
    """A vendor chooses its status, not our series."""
    counters = Counters()
    for status in range(430, 500):
        counters.attempt("p/m", f"http_{status}", {}, None, None)
    counters.attempt("p/m", "http_429", {}, None, None)
    found = told(counters.text(GAUGES))
    assert found['coe_attempts_total{deployment="p/m",ended="http_4xx"}'] == "70"
    assert found['coe_attempts_total{deployment="p/m",ended="http_429"}'] == "1"


def test_odd_names_stay_one_label():
    """A model server may name a model anything."""
    counters = Counters()
    counters.attempt('p/a"} 1\nevil{x="\\', "complete", {}, 1, None)
    assert any("evil" in name for name in told(counters.text(GAUGES)))


async def test_a_loop_that_is_held_is_noticed(monkeypatch):
    """As late as it was held; the largest is told once."""
    monkeypatch.setattr(metrics, "TICK_S", 0.01)
    counters = Counters()
    watch = LoopWatch(counters)
    watch.start()
    await asyncio.sleep(0.05)
    time.sleep(0.2)  # to hold the loop is the point
    await asyncio.sleep(0.05)
    watch.stop()
    found = told(counters.text(GAUGES))
    assert float(found["coe_loop_lag_max_seconds"]) > 0.15
    assert int(found["coe_loop_lag_seconds_count"]) > 3
    assert float(told(counters.text(GAUGES))["coe_loop_lag_max_seconds"]) == 0.0


def page(app, **headers):
    """GET /metrics."""
    return httpx.get(f"{app.url}/metrics", headers=headers, trust_env=False)


def test_a_router_counts(serving):
    """By real requests: what was answered, what failed, what it cost."""
    app, _ = serving({"alpha": Script()})
    assert app.chat().status_code == 200
    assert app.chat(model="nobody").status_code == 404
    assert app.chat(stream=True).status_code == 200
    found = told(page(app).text)
    assert found['coe_requests_total{status="200"}'] == "2"
    attempts = [value for name, value in found.items() if name.startswith("coe_attempts_total")]
    assert attempts == ["2"]
    (cost,) = [value for name, value in found.items() if name.startswith("coe_cost_usd_total")]
    assert float(cost) > 0
    assert found["coe_journal_writable"] == "1"
    assert found["coe_open_attempts"] == "0"
    assert 1 <= int(found["coe_tasks"]) < 20
    assert page(app).headers["content-type"].startswith("text/plain; version=0.0.4")


def test_the_page_is_the_operators(serving):
    """On loopback for this machine's programs and no web page, even when callers need keys."""
    app, _ = serving({"alpha": Script()})
    app.house.keys.create("k")
    assert page(app).status_code == 200
    assert page(app, host="evil.example").status_code == 403
    assert page(app, origin="https://evil.example").status_code == 403


ADMIN = "f0Ym2Vt8Kx5Lr9Nw3Bq7Hd1Jc6Zp4Sg8"


@pytest.mark.parametrize(
    ("sent", "status"), [(None, 401), ("Bearer wrong", 401), (f"Bearer {ADMIN}", 200), (f"Basic {ADMIN}", 401)]
)
def test_off_loopback_it_asks_for_the_admin_key(serving, monkeypatch, sent, status):
    """And for nothing else: a caller's key opens other doors."""
    app, _ = serving({"alpha": Script()}, admin_key=ADMIN)
    monkeypatch.setattr("service.api.incoming.is_loopback", lambda _host: False)
    reply = page(app, **({} if sent is None else {"authorization": sent}))
    assert reply.status_code == status
    assert ADMIN not in reply.text


def test_a_callers_key_does_not_open_it(serving):
    """It says who calls, and that is not the operator: 403; once it is revoked it says nothing any more."""
    app, _ = serving({"alpha": Script()}, admin_key=ADMIN)
    key = app.house.keys.create("k")
    caller = {"authorization": f"Bearer {key.secret}"}
    assert (page(app, **caller).status_code, page(app, **caller).json()["error"]["code"]) == (403, "forbidden")
    app.house.keys.revoke(key.id)
    assert page(app, **caller).status_code == 401
