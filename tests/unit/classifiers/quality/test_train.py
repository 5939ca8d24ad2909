"""Training from end to end on the planted world: an artefact that loads and answers, a card with figures, no prompt."""

import json

import numpy as np
import pytest

from classifiers.quality import artefact, fit, outcomes, reading, train


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """Planted rows, trained once."""
    directory = tmp_path_factory.mktemp("train")
    rows = world.planted(300, seed=6)
    for row in rows:
        # Four models, so that one can be taken out and placed again.
        row["outcomes"]["twin"] = {"score": row["outcomes"]["cook"]["score"], "cost_usd": 0.002}
    data = world.write(directory / "rows.jsonl", rows)
    made = train.train_quality(data, directory / "out", intents=None)
    return directory / "out", made, data


def test_the_artefact_answers(trained, world):
    """It loads, knows the models, and prefers the cheap specialist on its own subject."""
    out, made, _ = trained
    model = artefact.load(out)
    assert model.id == made.id
    assert set(model.models) == {"big", "bike", "cook", "twin"}
    rows = world.planted(60, seed=9, hard=False)
    found = fit.qualities(model, reading.read_prompts([row["prompt"] for row in rows]))
    lead = found[:, model.models.index("cook")] - found[:, model.models.index("bike")]
    subjects = np.array([row["category"] for row in rows])
    assert lead[subjects == "cooking"].mean() > 0.2
    assert lead[subjects == "bicycles"].mean() < -0.2


def test_the_card_has_figures_and_no_prompt(trained):
    """Router and every control, sources, counts, anchors, speed; not one row of the data."""
    out, made, data = trained
    card = (out / "CARD.md").read_text(encoding="utf-8")
    for words in (made.id, "tfidf_lr", "category_table", "planted", "cooking", "twin", "µs", "AUC, anchors"):
        assert words in card
    text = card + (out / "manifest.json").read_text(encoding="utf-8")
    for row in outcomes.read_outcomes(data).prompts:
        assert row not in text


def test_the_manifest_says_what_it_was_made_of(trained):
    """Hash, counts, weights of views, anchor ids of the file."""
    out, made, data = trained
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["data"]["rows"] == 300
    assert manifest["data"]["outcomes"]["big"] == 300
    assert set(manifest["fitted"]["weights"]) == {"topics", "linear", "clusters", "intents"}
    assert set(manifest["anchors"]) <= set(outcomes.read_outcomes(data).ids)
    assert len(manifest["anchors"]) == 150
    assert manifest["sha256"] == made.manifest["sha256"]


def test_the_same_rows_give_the_same_bytes(trained, tmp_path):
    """Timings are in the card, never in the weights or the manifest."""
    out, _, data = trained
    train.train_quality(data, tmp_path / "again", intents=None)
    for name in ("weights.npz", "manifest.json"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


def test_figures_are_of_rows_that_were_left_out(trained):
    """The report judges on a part of the file; what ships is fitted on all of it."""
    out, made, _ = trained
    assert made.report["n_train"] + made.report["n_test"] == 300
    assert made.report["n_test"] > 50
    assert artefact.load(out).arrays.labels.tolist() == [300.0] * 4


def test_timing_is_of_real_calls(learned):
    """Positive, and the tail is not below the middle."""
    p50, p99 = train.timing(learned.router.fitted.model, learned.asked)
    assert 0.0 < p50 <= p99


def test_a_separate_test_file_is_never_trained_on(world, tmp_path):
    """Its rows are judged; the weights are those of the data alone."""
    data = world.write(tmp_path / "a.jsonl", world.planted(120, seed=1))
    test = world.write(tmp_path / "b.jsonl", world.planted(60, seed=2))
    made = train.train_quality(data, tmp_path / "out", test=test, intents=None)
    assert (made.report["n_train"], made.report["n_test"]) == (120, 60)
    rows = outcomes.read_outcomes(data)
    alone = fit.fit(rows, reading.read_prompts(rows.prompts)).model
    assert np.array_equal(artefact.load(tmp_path / "out").arrays.table, alone.arrays.table)
