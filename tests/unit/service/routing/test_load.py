"""Engines of one's own ranked by their load: the curve, that only the order changes, and that a real router does it."""

from __future__ import annotations

import concurrent.futures
from dataclasses import replace

import pytest
from scenery import NOW, a_catalog, a_chat, a_model, an_intent, eventually

from service.domain.access import ANONYMOUS
from service.domain.experience import NOTHING, Experience, from_plain
from service.domain.features import features_of
from service.domain.prices import PriceBook, SelfHosted
from service.routing import load
from service.routing.load import IDLE_PARTS, Load, room_of, scarce
from service.routing.router import decide
from service.routing.weighing import Circumstances
from service.simulator import Script

ENGINE = SelfHosted(1, 2_000_000_000_000, 1_000, 100, concurrency=8)


def test_the_price_rises_with_the_load_and_is_the_amortised_one_at_half():
    """Nearly nothing when idle, a multiple towards the end, and never less than with one request fewer."""
    cost = 1_000_000
    curve = [scarce(cost, busy, 8) for busy in range(20)]
    assert curve[0] == cost // IDLE_PARTS
    assert curve[4] == cost
    assert curve[7] == 7 * cost
    assert curve[8] == 8 * cost
    assert curve == sorted(curve)
    assert len(set(curve)) == len(curve)
    for busy in range(20):
        prices = [scarce(cost, busy, 8) for cost in range(0, 5_000, 7)]
        assert prices == sorted(prices)
    assert [scarce(cost, busy, 1) for busy in range(4)] == [cost // IDLE_PARTS, cost, 2 * cost, 3 * cost]


def own(concurrency=8):
    """A registry of an own engine, dearer by its amortised price than the API beside it."""
    engine = replace(ENGINE, concurrency=concurrency)
    mine = a_model("mine", at=("here",))
    book = PriceBook("here/mine", self_hosted=engine)
    mine = replace(mine, deployments=tuple(replace(one, prices=book) for one in mine.deployments))
    return a_catalog(a_model("api", ("0.3", "0.3"), at=("vendor",)), mine, baseline="api")


def chosen(catalog, known):
    """The decision for a plain request with this much known."""
    around = Circumstances("dec_1", NOW, ANONYMOUS, known)
    return decide(features_of(a_chat()), an_intent(), catalog, around)


@pytest.mark.parametrize(
    ("busy", "first"),
    [(None, "vendor/api"), ({}, "here/mine"), ({"here/mine": 2}, "here/mine"), ({"here/mine": 7}, "vendor/api")],
)
def test_an_idle_engine_is_chosen_and_a_full_one_is_not(busy, first):
    """And without knowing, as in a dry run, its amortised price counts."""
    assert chosen(own(), Experience(busy=busy)).chosen.deployment.id == first


def test_only_the_order_changes():
    """Expected cost, reservation and quote are the amortised ones; the reason says by what it was ranked."""
    plain, idle = chosen(own(), NOTHING), chosen(own(), Experience(busy={}))
    before = next(one for one in plain.ranked if one.deployment.model == "mine")
    assert replace(idle.chosen, reason="", below=None) == replace(before, reason="", below=None)
    assert "; 0 of 8 at work there, so ranked at 0.0" in idle.chosen.reason
    assert idle.baseline_pusd == plain.baseline_pusd
    told = idle.chosen.expected_cost_pusd
    assert told == before.expected_cost_pusd
    assert told > idle.ranked[1].expected_cost_pusd, "dearer by its amortised price than whom it beat"


def test_no_price_is_told_that_would_make_a_full_engine_win():
    """What it was ranked by is its load; its price is another figure, and no lever here."""
    decision = chosen(own(), Experience(busy={"here/mine": 7}))
    told = {one.deployment: [change.lever for change in one.changes] for one in decision.what_if().alternatives}
    assert "expected_cost_usd" not in told["here/mine"]
    plain = chosen(own(), NOTHING).what_if().alternatives
    assert "expected_cost_usd" in {
        change.lever for one in plain if one.deployment == "here/mine" for change in one.changes
    }


def test_who_does_not_say_its_room_is_ranked_as_ever():
    """And so is everybody who is no engine of one's own."""
    known = chosen(own(concurrency=None), Experience(busy={"here/mine": 100}))
    assert list(known.ranked.costs) == list(chosen(own(concurrency=None), NOTHING).ranked.costs)
    assert known.chosen.deployment.id == "vendor/api"


def test_the_room_changes_no_price():
    """Rows that were priced before an operator said it are reproduced after."""
    digests = {PriceBook("b", self_hosted=replace(ENGINE, concurrency=room)).quote(NOW).digest for room in (None, 1, 8)}
    assert len(digests) == 1
    assert own().offer != own(concurrency=9).offer, "but whom it makes one choose is another offer"


def test_many_are_ranked_in_columns_as_they_are_one_by_one(monkeypatch):
    """A hundred APIs beside two engines: the same order, whatever the load."""
    apis = [a_model(f"api{number}", (f"0.{number + 10}", "0.3"), at=("vendor",)) for number in range(60)]
    mine = own().models["mine"]
    catalog = a_catalog(*apis, mine)
    for busy in ({}, {"here/mine": 3}, {"here/mine": 7}, {"here/mine": 10**30}):
        in_columns = chosen(catalog, Experience(busy=busy))
        with monkeypatch.context() as patch:
            patch.setattr("service.routing.entrants.COLUMNS_FROM", 10**6)
            row_by_row = chosen(a_catalog(*apis, mine), Experience(busy=busy))
        assert list(in_columns.ranked) == list(row_by_row.ranked)


def test_what_was_known_goes_through_a_record():
    """An idle house and an unknown one are told apart."""
    for known in (NOTHING, Experience(busy={}), Experience(busy={"here/mine": 3})):
        assert from_plain(known.plain()) == known


def test_who_is_at_work_is_counted_until_it_ends():
    """Once for each attempt; an API is not counted, and an end that comes twice changes nothing."""
    catalog, at = own(), Load()
    mine, api = catalog.by_id["here/mine"], catalog.by_id["vendor/api"]
    assert (room_of(mine), room_of(api)) == (8, None)
    for name in ("a", "b"):
        at.begun(name, mine)
    at.begun("c", api)
    assert at.busy() == {"here/mine": 2}
    at.ended("a")
    at.ended("a")
    assert at.busy() == {"here/mine": 1}
    at.ended("b")
    assert at.busy() == {}


OWN = """
  own-model:
    context_tokens: 128000
    output_tokens_max: 16384
    quality: {default: 0.9}
    quality_source: made up for a test
    deployments:
      - provider: alpha
        name: own-wire
        self_hosted: {gpus: 1, usd_per_gpu_hour: 20, input_tokens_per_s: 1000, output_tokens_per_s: 100, concurrency: 16}
"""


def test_a_router_fills_its_own_engine_and_then_asks_others(serving, monkeypatch):
    """Several at once: some stay at home, the rest go out; when all have left, the next one stays at home again."""
    slow = Script(header_delay_s=0.8)
    app, simulator = serving({"alpha": slow, "beta": Script()}, models=OWN)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = []
        for number in range(6):
            asked.append(pool.submit(app.chat))
            eventually(lambda least=number + 1: len(simulator.log) >= least)
        models = [one.result().headers["x-coe-model"] for one in asked]
    assert models[0] == models[1] == "own-model"
    assert set(models[3:]) != {"own-model"}
    decision = app.house.pipeline.decision_record(asked[2].result().headers["x-coe-decision-id"])
    assert decision["experience"]["busy"] == {"alpha/own-model": 2}
    assert app.house.pipeline.settler.load.busy() == {}
    assert app.chat().headers["x-coe-model"] == "own-model"
    monkeypatch.setattr(load, "scarce", lambda cost, _busy, _room: cost)
    assert app.chat().headers["x-coe-model"] != "own-model", "it is dearer by its amortised price"
