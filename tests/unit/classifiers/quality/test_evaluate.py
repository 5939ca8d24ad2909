"""The whole evaluation: beats the controls where something can be learned, does no harm where nothing can."""

import dataclasses
import json

import numpy as np
import pytest
from stage import ROOT

from classifiers.quality import evaluate as e
from classifiers.quality import outcomes, prices
from classifiers.rows import RowError

KEYS = {
    "n_train",
    "n_test",
    "models",
    "best_single",
    "cheapest",
    "random",
    "oracle",
    "zero_router_aiq",
    "router",
    "controls",
}


def _file(world, tmp_path, name, *args, **kwargs):
    return outcomes.read_outcomes(world.write(tmp_path / name, world.planted(*args, **kwargs)))


def test_the_report_has_the_agreed_shape(learned):
    """Exactly these keys, and all of it JSON without NaN."""
    assert set(learned.report) == KEYS
    assert set(learned.report["best_single"]) == {"model", "score", "cost"}
    assert set(learned.report["router"]["saved_at"]) == {"0.95", "0.98", "1.0"}
    assert set(learned.report["router"]["validated"]) == {"target", "quality_kept", "saved"}
    json.dumps(learned.report, allow_nan=False)


def test_what_is_planted_is_found(learned):
    """Subject and difficulty are in the text: better than every control, the true subject included."""
    router, controls = learned.report["router"], learned.report["controls"]
    for name, found in controls.items():
        assert router["aiq"] > found["aiq"] + 0.005, name
    assert router["aiq"] > learned.report["zero_router_aiq"] + 0.1
    assert router["validated"]["quality_kept"] > 0.95
    assert router["validated"]["saved"] > max(
        found["validated"]["saved"] for name, found in controls.items() if name != "always_cheapest"
    )


def test_where_nothing_can_be_learned_no_harm_is_done(world, tmp_path):
    """Outcomes by lot: within a point of the best single model at its cost, and of mixing models by lot."""
    report = e.evaluate_outcomes(
        _file(world, tmp_path, "a.jsonl", 420, seed=1, learnable=False),
        _file(world, tmp_path, "b.jsonl", 400, seed=2, learnable=False),
    )
    assert report["router"]["accuracy_at_best_single_cost"] >= report["best_single"]["score"] - 0.01
    assert report["router"]["aiq"] >= report["zero_router_aiq"] - 0.01


def test_test_outcomes_do_not_leak(learned, world):
    """Other outcomes on TEST: the same predictions, the same validated setting."""
    stage = learned.stage
    turned = dataclasses.replace(stage.test, scores=1.0 - stage.test.scores)
    again = e.stage_of(e.Prepared(stage.train, turned, ()))
    router = e.fit_router(again, learned.read)
    assert router.setting == learned.router.setting
    assert np.array_equal(router.predict(learned.asked, turned.prompts).quality, learned.predicted.quality)


def test_one_file_is_split_by_id(world, tmp_path):
    """Without TEST, 7-9 of ten digits are it."""
    rows = _file(world, tmp_path, "a.jsonl", 200, seed=1)
    prepared = e.prepare(rows, None, None)
    assert len(prepared.train) + len(prepared.test) == 200
    assert 40 < len(prepared.test) < 80


def test_rows_in_both_files_are_told(world, tmp_path):
    """They are judged, not learned."""
    rows = _file(world, tmp_path, "a.jsonl", 120, seed=1)
    prepared = e.prepare(rows, rows.take(np.arange(10)), None)
    assert len(prepared.train) == 110
    assert "10 rows of TRAIN left out" in prepared.notes[0]


def test_a_model_without_a_price_is_left_out_and_told(world, tmp_path):
    """Unknown is not free; a price list brings it back."""
    rows = world.planted(200, seed=1)
    for row in rows:
        row["outcomes"]["cook"]["cost_usd"] = None
    read = outcomes.read_outcomes(world.write(tmp_path / "a.jsonl", rows))
    prepared = e.prepare(read, None, None)
    assert prepared.train.models == ("big", "bike")
    assert "cook" in prepared.notes[0]
    priced = e.prepare(read, None, prices.Prices({"cook": (1.0, 1.0)}))
    assert priced.train.models == ("big", "bike", "cook")
    assert not priced.notes


def test_a_pair_has_a_gap_to_recover(world, tmp_path):
    """Two models: APGR above chance where the text tells, and CPT below it; the mix by lot has .5.

    About a fifth of the rows need no strong model, so even an oracle stays near .6.
    """
    rows = [
        {**row, "outcomes": {name: row["outcomes"][name] for name in ("big", "cook")}}
        for row in world.planted(450, seed=1)
    ]
    report = e.evaluate_outcomes(outcomes.read_outcomes(world.write(tmp_path / "a.jsonl", rows)))
    assert report["router"]["apgr"] > 0.54
    assert report["router"]["cpt50"] < 0.48
    assert report["router"]["cpt80"] >= report["router"]["cpt50"]
    assert report["controls"]["best_fixed_mix"]["apgr"] == 0.5


def test_without_any_cost_quality_is_judged(world, tmp_path):
    """Null where cost is needed, no harm to quality, and a note."""
    rows = world.planted(250, seed=1)
    for row in rows:
        for outcome in row["outcomes"].values():
            outcome["cost_usd"] = None
    prepared = e.prepare(outcomes.read_outcomes(world.write(tmp_path / "a.jsonl", rows)), None, None)
    assert "no costs" in prepared.notes[0]
    report, _ = e.evaluate_prepared(prepared)
    assert report["router"]["aiq"] is None
    assert report["best_single"]["cost"] is None
    assert report["router"]["accuracy_max"] >= report["best_single"]["score"] - 0.01
    json.dumps(report, allow_nan=False)


def test_missing_cells_of_every_kind(world, tmp_path):
    """Outcomes, costs, categories, languages missing here and there: a report without NaN."""
    rng = np.random.default_rng(0)
    rows = world.planted(250, seed=1)
    for row in rows:
        if rng.random() < 0.3:
            row["outcomes"][str(rng.choice(sorted(world.costs)))] = None
        if rng.random() < 0.3:
            row["outcomes"]["big"] = {"score": 1.0}
        if rng.random() < 0.3:
            del row["category"]
        row["language"] = None
        row["split"] = None
    report = e.evaluate_outcomes(outcomes.read_outcomes(world.write(tmp_path / "a.jsonl", rows)))
    json.dumps(report, allow_nan=False)
    assert report["router"]["aiq"] > report["zero_router_aiq"]


def test_the_same_files_give_the_same_report(world, tmp_path):
    """To the last digit."""
    rows = _file(world, tmp_path, "a.jsonl", 150, seed=1)
    assert json.dumps(e.evaluate_outcomes(rows)) == json.dumps(e.evaluate_outcomes(rows))


def test_too_little_is_said(world, tmp_path):
    """Twelve rows are not enough."""
    with pytest.raises(RowError, match="rows"):
        e.evaluate_outcomes(_file(world, tmp_path, "a.jsonl", 12, seed=1))


def test_on_a_real_set_it_beats_mixing_by_lot():
    """Where the development data is at hand: the smallest set with prices."""
    path = ROOT.parent / "shared" / "data" / "outcomes" / "gaokao.jsonl.gz"
    if not path.exists():
        pytest.skip("the development data is not on this machine")
    listed = prices.Prices(
        {"gpt-4-0314": (30, 60), "gpt-3.5-turbo": (2, 2), "text-davinci-003": (20, 20), "moss": (1, 1)}
    )
    prepared = e.prepare(outcomes.read_outcomes(path), None, listed)
    stage = e.stage_of(prepared)
    reading = e.read_prompts(stage.train.prompts)
    router = e.fit_router(stage, reading)
    predicted = router.predict(e.read_prompts(stage.test.prompts), stage.test.prompts)
    found = e.judge.measures(stage.test_ground, predicted, router.setting)
    assert found["aiq"] > e.judge.zero_router_aiq(stage.test_ground) + 0.01
    assert found["accuracy_at_best_single_cost"] >= stage.test_ground.best_single().score - 0.01
