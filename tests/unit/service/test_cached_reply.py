"""Answers from the cache, on the real app over real sockets: what callers, the ledger and the limits see of them."""

from __future__ import annotations

import json
import socket
from contextlib import closing

import openai
import pytest
from scenery import a_catalog, a_chat, a_model, decided, eventually

from service.cache.answer_cache import NOTED_BYTES_MAX
from service.cache.sealing import Kept
from service.cached_reply import author_of
from service.domain.access import Caller
from service.simulator import Fault, Script, VendorScript

CACHE = "cache: {ttl_s: 600, answer_bytes_max: 20000}"
COLD = {"temperature": 0}


def told(reply):
    """(status, what is said of the cache, attempts, cost)."""
    fields = [reply.headers.get(f"x-coe-{name}") for name in ("cache", "attempts", "cost-usd")]
    return (reply.status_code, *fields)


def hit(reply):
    return told(reply)[:2] == (200, "hit")


def rows(app, reply):
    """The one attempt of a reply: its open and its terminal row."""
    ((opened, (ended,)),) = app.books.attempts(reply.headers["x-coe-decision-id"])
    return opened, ended


@pytest.fixture
def alpha(serving):
    """The app over one vendor, with a cache."""
    return serving({"alpha": Script()}, extra=CACHE)


def test_a_whole_answer_comes_back_byte_for_byte_and_costs_nothing(alpha):
    app, simulator = alpha
    first, second = app.chat(**COLD), app.chat(**COLD)
    assert told(first)[:3] == (200, "miss", "1")
    assert told(second) == (200, "hit", "0", "0")
    assert second.content == first.content
    assert second.headers["content-type"] == first.headers["content-type"]
    assert second.headers["x-coe-model"] == first.headers["x-coe-model"]
    assert len(simulator.log) == 1


def test_the_ledger_has_a_row_at_nothing_with_what_it_saved(alpha):
    """Tokens belong to the call that was made; the row names it."""
    app, _ = alpha
    first, second = app.chat(**COLD), app.chat(**COLD)
    (called, bill), (opened, ended) = rows(app, first), rows(app, second)
    assert (called["kind"], opened["kind"]) == ("answer", "cache")
    assert opened["reserved_pusd"] == 0
    assert (ended["state"], ended["ended"], ended["cost_pusd"], ended.get("usage")) == ("settled", "cache_hit", 0, None)
    assert ended["price"]["answer_of"] == called["attempt_id"]
    assert (ended["baseline_pusd"], ended["baseline_model"]) == (bill["cost_pusd"], "alpha-model")
    assert ended["baseline_assumed_pusd"] == 0, "or no report with a hit in it could tell an interval"
    shown = app.get(f"/v1/decisions/{second.headers['x-coe-decision-id']}").json()
    assert shown["cost_usd"] == "0"
    assert [(one["kind"], one["ended"]) for one in shown["attempts"]] == [("cache", "cache_hit")]
    page = app.get("/metrics").text
    assert "\ncoe_cache_hits_total 1\n" in page
    assert f"\ncoe_cache_saved_usd_total {first.headers['x-coe-cost-usd']}\n" in page
    assert 'ended="cache_hit"' not in page, "nobody was called"


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_comes_back_as_a_stream(serving, usage):
    """The same events, with usage where it was asked for, and the end; an official SDK reads it."""
    app, _ = serving({"alpha": Script(chunks=40)}, extra=CACHE)
    more = {"stream": True, **COLD, **({"stream_options": {"include_usage": True}} if usage else {})}
    first, second = app.chat(**more), app.chat(**more)
    assert (told(first)[1], told(second)) == ("miss", (200, "hit", "0", "0"))
    assert second.content == first.content
    assert second.content.endswith(b"data: [DONE]\n\n")
    assert (b'"prompt_tokens"' in second.content) == usage
    with closing(openai.OpenAI(base_url=f"{app.url}/v1", api_key="x", max_retries=0)) as client:
        asked = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], "stream": True, "temperature": 0}
        texts = [
            "".join(
                one.choices[0].delta.content or "" for one in client.chat.completions.create(**asked) if one.choices
            )
            for _ in range(2)
        ]
    assert texts[0] == texts[1] != ""


def test_a_stream_larger_than_a_connections_buffer_comes_whole(serving):
    """In pieces, as the caller reads."""
    app, _ = serving(
        {"alpha": Script(answer="many words " * 30_000, chunks=3_000)},
        extra="cache: {ttl_s: 60, answer_bytes_max: 4000000}",
    )
    more = {"stream": True, **COLD}
    first, second = app.chat(**more), app.chat(**more)
    assert hit(second)
    assert app.house.pipeline.cache._room.left == NOTED_BYTES_MAX, "what was noted on the way is let go of"
    assert len(first.content) > 500_000
    assert second.content == first.content


def test_a_stream_and_a_whole_answer_are_two(alpha):
    app, _ = alpha
    app.chat(**COLD)
    assert told(app.chat(stream=True, **COLD))[1] == "miss"


def test_who_leaves_a_stream_from_the_cache_is_logged_and_nothing_is_charged(serving):
    app, simulator = serving(
        {"alpha": Script(answer="many words " * 30_000, chunks=14_000)},
        extra="cache: {ttl_s: 60, answer_bytes_max: 4194304}",
    )
    more = {"stream": True, **COLD}
    app.chat(**more)
    whole = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], **more}
    body = json.dumps(whole, separators=(",", ":")).encode()  # as the client above spells it
    with socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)  # or all of it would be on its way at once
        wire.connect(("127.0.0.1", app.books.port))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{app.books.port}\r\ncontent-length: {len(body)}"
        wire.sendall(f"{head}\r\ncontent-type: application/json\r\n\r\n".encode() + body)
        assert b"x-coe-cache: hit" in wire.recv(1_000)
    eventually(lambda: 'coe_requests_total{status="499"} 1' in app.get("/metrics").text)
    ((_, (first,)), (opened, (second,))) = app.books.attempts()
    assert (opened["kind"], second["cost_pusd"], second["price"]["answer_of"]) == ("cache", 0, first["attempt_id"])
    assert len(simulator.log) == 1


def test_an_explanation_is_of_this_request(alpha):
    """And is no part of what is kept."""
    app, _ = alpha
    first, second = app.chat(**COLD, coe={"explain": True}), app.chat(**COLD)
    assert hit(second)
    assert "coe" in first.json()
    assert "coe" not in second.json()
    third = app.chat(**COLD, coe={"explain": True})
    assert hit(third)
    assert third.json()["coe"]["id"] == third.headers["x-coe-decision-id"] != first.headers["x-coe-decision-id"]
    for _ in range(2):
        streamed = app.chat(**COLD, stream=True, coe={"explain": True})
    events = [line[6:] for line in streamed.text.splitlines() if line.startswith("data: ")]
    assert hit(streamed)
    assert (events[-1], json.loads(events[-2])["coe"]["id"]) == ("[DONE]", streamed.headers["x-coe-decision-id"])


@pytest.mark.parametrize(
    "script",
    [
        Script(finish_reason="length"),
        Script(finish_reason="content_filter"),
        Script(fault=Fault.CUT),
        Script(fault=Fault.END_EARLY),
        Script(fault=Fault.ERROR_EVENT),
        Script(fault=Fault.BROKEN_JSON),
        Script(fault=Fault.HTTP_ERROR, status=500),
        Script(fault=Fault.HTTP_ERROR, status=400),
        Script(fault=Fault.NO_CHOICES),
        Script(answer="x" * 30_000),
    ],
    ids=lambda one: one.fault or one.finish_reason or "too large",
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_is_not_whole_is_never_given_again(serving, script, stream):
    """The vendor is asked again, and what is whole then is kept."""
    app, simulator = serving({"alpha": VendorScript(queue=(script,), default=Script())}, extra=CACHE)
    more = {"stream": stream, "coe": {"no_fallback": True}, **COLD}
    app.chat(**more)
    asked = len(simulator.log)
    second, third = app.chat(**more), app.chat(**more)
    assert told(second)[1] == "miss"
    assert hit(third)
    assert len(simulator.log) == asked + 1


def test_tool_calls_are_not_given_again(alpha):
    app, simulator = alpha
    tools = [{"type": "function", "function": {"name": "pay", "parameters": {"type": "object", "properties": {}}}}]
    for _ in range(2):
        assert told(app.chat(**COLD, tools=tools))[1] == "miss"
    assert len(simulator.log) == 2


def test_by_itself_only_the_likeliest_answer_takes_part(alpha):
    """Who draws is given another draw, unless he asks for the same."""
    app, simulator = alpha
    for more in ({}, {"temperature": 1}, {"coe": {"cache": False}, **COLD}):
        assert [told(app.chat(**more))[1] for _ in range(2)] == ["bypass"] * 2
    assert len(simulator.log) == 6
    assert [told(app.chat(coe={"cache": True}))[1] for _ in range(2)] == ["miss", "hit"]
    assert hit(app.chat(headers={"x-coe-cache": "true"}))
    assert told(app.chat(headers={"x-coe-cache": '{"read": false}'}))[1] == "bypass"


def test_where_it_is_off_nothing_is_said_of_it(serving):
    app, simulator = serving({"alpha": Script()})
    for _ in range(2):
        assert told(app.chat(**COLD, coe={"cache": True}))[:3] == (200, None, "1")
    assert len(simulator.log) == 2


def test_tenants_get_their_own_also_under_one_name_one_after_the_other(alpha):
    """A key that was revoked, and one that was made again under its name."""
    app, simulator = alpha
    one, two = (app.house.keys.create(name) for name in ("same", "other"))

    def ask(key):
        return app.chat(**COLD, headers={"authorization": f"Bearer {key.secret}"})

    eventually(lambda: ask(one).status_code == 200)
    eventually(lambda: hit(ask(one)))
    assert told(ask(two))[1] == "miss"
    app.house.keys.revoke(one.id)
    again = app.house.keys.create("same")
    eventually(lambda: ask(one).status_code == 401)
    assert told(ask(again))[1] == "miss"
    assert len(simulator.log) == 3
    assert hit(ask(again))
    record = app.get(f"/v1/decisions/{ask(again).headers['x-coe-decision-id']}", authorization=f"Bearer {two.secret}")
    assert record.status_code == 404


def test_an_answer_is_of_somebody_who_could_be_chosen_now():
    """Within the rights of the caller, the floor of the policy, the registry: whatever changed since."""
    kept = Kept(b"", "", False, 0, "p/weak", "att_1", 0)
    catalog = a_catalog(a_model("weak", quality=0.6), a_model("good"))
    cheap, fine = a_chat(coe={"policy": "cheap"}), a_chat()
    assert author_of(kept, decided(cheap, catalog)).deployment.id == "p/weak"
    assert author_of(kept, decided(a_chat(model="weak"), catalog)).deployment.id == "p/weak"
    assert author_of(kept, decided(fine, catalog)) is None, "it is under the floor"
    bound = Caller("key_1", "bound", models=frozenset({"good"}))
    assert author_of(kept, decided(cheap, catalog, caller=bound)) is None
    assert author_of(kept, decided(a_chat(coe={"policy": "cheap", "deny": ["weak"]}), catalog)) is None
    assert author_of(kept, decided(cheap, a_catalog(a_model("good")))) is None


def test_a_model_that_was_taken_from_the_registry_is_not_heard_again(serving):
    """Nobody is given what it said."""
    app, _ = serving({"alpha": Script(), "beta": Script()}, extra=CACHE)
    assert app.chat(**COLD).headers["x-coe-provider"] == "alpha"
    assert hit(app.chat(**COLD))
    file = app.house.settings.providers
    file.write_text(
        file.read_text().replace(
            "  alpha-model:\n", "  alpha-model:\n    enabled: false\n    disabled_reason: a test\n"
        )
    )
    reloaded(app)
    second = app.chat(**COLD)
    assert (told(second)[1], second.headers["x-coe-provider"]) == ("miss", "beta")


def reloaded(app):
    """Have the registry read anew."""
    import asyncio

    loop = app.server.servers[0].get_loop()
    asyncio.run_coroutine_threadsafe(app.house.reload(), loop).result(20)


def test_a_reload_without_a_cache_switches_it_off_and_forgets(serving):
    app, _ = serving({"alpha": Script()}, extra=CACHE)
    app.chat(**COLD)
    file = app.house.settings.providers
    text = file.read_text()
    file.write_text(text.replace(CACHE, ""))
    reloaded(app)
    assert told(app.chat(**COLD))[1] is None
    assert app.house.pipeline.cache.figures()["coe_cache_bytes"] == 0
    file.write_text(text)
    reloaded(app)
    assert [told(app.chat(**COLD))[1] for _ in range(2)] == ["miss", "hit"]


def test_a_hit_counts_against_requests_and_not_against_money(serving):
    """Who has spent a budget still gets what was paid for; who has used up a rate does not."""
    app, simulator = serving(
        {"alpha": Script(answer="short")}, extra=f"{CACHE}\nbudgets: [{{name: all, usd_per_day: 0.00004}}]"
    )
    capped = {"max_tokens": 30, **COLD}
    assert told(app.chat(**capped))[:2] == (200, "miss")
    refused = app.chat("another one", **capped)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    assert [told(app.chat(**capped)) for _ in range(3)] == [(200, "hit", "0", "0")] * 3
    assert len(simulator.log) == 1
    rate = f"{CACHE}\nbudgets: [{{name: all, requests_per_minute: 3}}]"
    app, simulator = serving({"alpha": Script()}, extra=rate)
    assert [told(app.chat(**COLD))[:2] for _ in range(3)] == [(200, "miss"), (200, "hit"), (200, "hit")]
    refused = app.chat(**COLD)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert len(simulator.log) == 1


@pytest.mark.parametrize("limit", ["usd_per_day: 0", "usd_per_month: 0", "tokens_per_minute: 0"])
def test_a_budget_that_is_overspent_still_gives_what_was_paid_for(serving, limit):
    """As one is that was lowered, or set, when more than that was spent."""
    app, simulator = serving({"alpha": Script()}, extra=f"{CACHE}\nbudgets: [{{name: all, usd_per_day: 1}}]")
    assert told(app.chat(**COLD))[:2] == (200, "miss")
    file = app.house.settings.providers
    file.write_text(file.read_text().replace("usd_per_day: 1", limit))
    reloaded(app)
    assert told(app.chat(**COLD)) == (200, "hit", "0", "0")
    assert told(app.chat("another one", **COLD))[0] == 429
    assert len(simulator.log) == 1


def test_what_was_given_up_for_is_not_kept(serving):
    """A fallback while somebody rests is an answer, and not the one that would be chosen."""
    app, _ = serving({"alpha": Script(fault=Fault.HTTP_ERROR, status=500), "beta": Script()}, extra=CACHE)
    rested = 0
    for number in range(60):
        first = app.chat(f"number {number}", **COLD)
        second = app.chat(f"number {number}", **COLD)
        if first.headers.get("x-coe-degraded") == "resting":
            rested += 1
            assert told(second)[1] == "miss"
    assert rested


def test_a_budget_that_is_tight_keeps_answers_all_the_same(serving):
    """Over a soft budget, and capped where a hard one ends: an answer that ended by itself is as good as any."""
    budgets = "budgets:\n- {name: soft, usd_per_day: 0, soft: true}"
    app, simulator = serving({"alpha": Script()}, extra=f"{CACHE}\n{budgets}")
    first, second = app.chat(**COLD), app.chat(**COLD)
    assert first.headers["x-coe-degraded"] == "budget"
    assert told(second)[1] == "hit"
    tight = serving({"alpha": Script()}, extra=f"{CACHE}\nbudgets:\n- {{name: all, usd_per_day: 0.005}}")[0]
    first, second = tight.chat(**COLD), tight.chat(**COLD)
    assert first.headers["x-coe-degraded"] == "budget_cap"
    assert told(second)[1] == "hit"
    assert len(simulator.log) == 1


def test_the_books_hold(alpha):
    """Every row computes itself, the index has what the journal has, and reports add up what was saved."""
    app, _ = alpha
    replies = [app.chat(**COLD) for _ in range(4)]
    app.stop()
    from stage import coe

    held = coe("ledger", "verify", COE_DATA_DIR=str(app.books.data_dir))
    assert held.returncode == 0, held.stdout
    (costs,) = app.books.costs("--by", "model")
    cost = replies[0].headers["x-coe-cost-usd"]
    assert (costs["requests"], costs["cost_usd"]) == (4, cost)
    baseline = next(row for row in app.books.costs("--savings", "--by", "model") if row["against"] == "baseline")
    assert (baseline["compared_requests"], baseline["saved_usd"]) == (4, costs["saved_usd"])
    assert float(baseline["saved_low_usd"]) <= float(baseline["saved_usd"]) <= float(baseline["saved_high_usd"])
    assert float(costs["saved_usd"]) == pytest.approx(
        3 * float(cost) + float(rows(app, replies[0])[1]["baseline_pusd"]) / 1e12 - float(cost)
    )


def test_what_went_on_elsewhere_is_not_kept(serving):
    """A stream that broke and was gone on with is of two models' making."""
    text = "one two three four five six seven eight nine ten"
    broken = Script(answer=text, fault=Fault.CUT, fault_after=3, chunks=10)
    scripts = {"alpha": VendorScript(queue=(broken,), default=Script()), "beta": Script(answer=" and so on")}
    app, _ = serving(scripts, quirks={"beta": "[prefill:prefix]"}, extra=CACHE)
    more = {"stream": True, "max_tokens": 200, "coe": {"resume": True}, **COLD}
    first, second = app.chat(**more), app.chat(**more)
    assert '"resumed"' in first.text
    assert first.text.endswith("data: [DONE]\n\n")
    assert told(second)[1] == "miss"
    assert '"resumed"' not in second.text
