"""The fit on the planted world: what is there is found, what is not is left alone, and gaps of every kind are survived."""

import dataclasses

import numpy as np
import pytest

from classifiers.quality import fit as f
from classifiers.quality import ground, metrics, outcomes, reading
from classifiers.quality.signals import FAMILIAR


@pytest.fixture(scope="module")
def rows(world, tmp_path_factory):
    """TRAIN of 240 planted rows."""
    path = tmp_path_factory.mktemp("fit") / "rows.jsonl"
    return outcomes.read_outcomes(world.write(path, world.planted(240, seed=3)))


@pytest.fixture(scope="module")
def read(rows):
    """Its prompts."""
    return reading.read_prompts(rows.prompts)


def test_unseen_and_served_agree_on_what_is_there(learned):
    """Served on fresh rows it separates as well as the unseen predictions did on TRAIN, and is calibrated."""
    fitted, stage = learned.router.fitted, learned.stage
    unseen = metrics.auc(stage.train.scores, fitted.unseen)
    served = metrics.auc(stage.test.scores, learned.predicted.quality)
    assert unseen > 0.8
    assert abs(unseen - served) < 0.04
    assert metrics.ece(stage.test.scores, learned.predicted.quality) < 0.12


def test_unseen_predictions_know_nothing_of_noise(world, tmp_path):
    """Outcomes by lot: within a model, unseen predictions separate no better than chance."""
    rows = outcomes.read_outcomes(world.write(tmp_path / "r.jsonl", world.planted(300, seed=4, learnable=False)))
    fitted = f.fit(rows, reading.read_prompts(rows.prompts))
    for model in range(3):
        assert 0.38 < metrics.auc(rows.scores[:, [model]], fitted.unseen[:, [model]]) < 0.62
    assert fitted.margin > 0.0


def test_the_same_rows_give_the_same_bits(rows, read):
    """Every array, twice."""
    first, second = f.fit(rows, read).model, f.fit(rows, read).model
    assert first.shape == second.shape
    for field in dataclasses.fields(first.arrays):
        assert getattr(first.arrays, field.name).tobytes() == getattr(second.arrays, field.name).tobytes()


def test_without_categories_clusters_stand_in(rows, read):
    """Topics by text alone, and nearly as good."""
    bare = dataclasses.replace(rows, categories=("",) * len(rows))
    named, fitted = f.fit(rows, read), f.fit(bare, read)
    assert named.named
    assert not fitted.named
    assert fitted.model.shape.topics > 1
    assert metrics.auc(rows.scores, fitted.unseen) > metrics.auc(rows.scores, named.unseen) - 0.1


@pytest.mark.parametrize("categories", ["one", "each its own"])
def test_categories_that_tell_nothing(rows, read, categories):
    """One for all, or one per row."""
    names = ("same",) * len(rows) if categories == "one" else tuple(str(n) for n in range(len(rows)))
    assert not f.fit(dataclasses.replace(rows, categories=names), read).named


def test_missing_outcomes_are_survived(rows, read):
    """A third of the cells unknown, one model with three labels: finite, and still well above chance."""
    rng = np.random.default_rng(0)
    scores = np.where(rng.random(rows.scores.shape) < 0.33, np.nan, rows.scores)
    scores[3:, 0] = np.nan
    holes = dataclasses.replace(rows, scores=scores)
    fitted = f.fit(holes, read)
    served = f.qualities(fitted.model, read)
    assert np.isfinite(served).all()
    assert metrics.auc(rows.scores[:, 1:], served[:, 1:]) > 0.7


def test_fractions_are_scores(rows, read):
    """Scores between 0 and 1 are fitted as they are: means are kept."""
    soft = dataclasses.replace(rows, scores=0.2 + 0.5 * rows.scores)
    served = f.qualities(f.fit(soft, read).model, read)
    assert np.allclose(served.mean(axis=0), soft.scores.mean(axis=0), atol=0.06)


def test_many_models_and_other_languages(rows, read, world):
    """Sixty models, prompts in four languages, twenty rows."""
    texts = ["请把这段话翻译成英文", "почему небо синее", "???", "write a poem about rain"] * 6
    rng = np.random.default_rng(1)
    small = outcomes.Outcomes(
        ids=tuple(str(n) for n in range(24)),
        prompts=tuple(f"{text} {n}" for n, text in enumerate(texts)),
        languages=("xx",) * 24,
        categories=("",) * 24,
        sources=("",) * 24,
        models=tuple(f"m{n}" for n in range(60)),
        scores=rng.random((24, 60)),
        costs=np.full((24, 60), np.nan),
        input_tokens=np.full((24, 60), np.nan),
        output_tokens=np.full((24, 60), np.nan),
    )
    fitted = f.fit(small, reading.read_prompts(small.prompts))
    assert np.isfinite(f.qualities(fitted.model, read)).all()


def test_rows_beyond_the_gram_limit(rows, read, monkeypatch):
    """More rows than are decomposed: still learned, still finite."""
    monkeypatch.setattr("classifiers.quality.ridge.GRAM_ROWS_MAX", 120)
    fitted = f.fit(rows, read)
    assert metrics.auc(rows.scores, fitted.unseen) > 0.75


def test_a_narrow_space_costs_little(rows, read, monkeypatch):
    """More outputs than dimensions: compressed to 16, qualities move by a few points at most."""
    wide = f.qualities(f.fit(rows, read).model, read)
    monkeypatch.setattr(f, "DIMENSIONS", 16)
    fitted = f.fit(rows, read)
    assert fitted.model.arrays.codes.shape[1] == 16
    assert np.abs(f.qualities(fitted.model, read) - wide).mean() < 0.05


def test_an_unseen_subject_is_left_to_the_safe_default(world, tmp_path):
    """Fitted without taxes, asked about taxes: the best single model's quality is kept to a point, at its own cost."""
    every = world.planted(600, seed=8, hard=False)
    train = outcomes.read_outcomes(
        world.write(tmp_path / "a.jsonl", [row for row in every if row["category"] != "taxes"])
    )
    test = outcomes.read_outcomes(
        world.write(tmp_path / "b.jsonl", [row for row in every if row["category"] == "taxes"])
    )
    fitted = f.fit(train, reading.read_prompts(train.prompts))
    served = f.qualities(fitted.model, reading.read_prompts(test.prompts))
    chosen = test.scores[np.arange(len(test)), served.argmax(axis=1)].mean()
    best = int(train.scores.mean(axis=0).argmax())
    assert chosen >= test.scores[:, best].mean() - 0.01


@pytest.mark.parametrize(("luck", "leaves"), [(0.0, False), (2.0, False), (3.5, False), (5.0, True)])
def test_the_best_single_model_is_left_for_a_sure_gain_only(luck, leaves):
    """A gain of less than `SURE` standard errors is luck: never leave; a clear one is taken."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=400)
    gain = 0.2 * (noise - noise.mean()) / noise.std() + luck * 0.2 / 400**0.5
    rows = ground.Rows(
        deviations=np.tile([[0.0, 3.0]], (400, 1)),
        bases=np.tile([[1.0, 0.0]], (400, 1)),
        scores=np.stack([np.full(400, 0.5), 0.5 + gain], axis=1),
        signs=np.zeros((400, FAMILIAR)),
        known=np.ones(400),
        groups=np.zeros(400, dtype=np.int64),
    )
    assert (f._margin(rows, np.ones(400), np.ones(400)) < 2.0) is leaves


def test_without_trust_the_best_single_model_is_kept_unseen_and_served(rows, read, world, monkeypatch):
    """A gate that shuts half of TRAIN: there the big model stays on top, elsewhere it is left for clear gains."""
    scores = np.array(
        [
            [0.65 if name == "big" else 1.0 if world.good_at[name] == subject else 0.2 for name in rows.models]
            for subject in rows.categories
        ]
    )
    flat = dataclasses.replace(rows, scores=scores)
    trust = []

    def half(known, left_out, shares):
        detector = ground.Detector(np.eye(FAMILIAR + 1)[0])
        middle = float(np.median(detector.of(known.signs)))
        gate = ground.Gate(middle, middle + 1e-6)
        trust.append(gate.of(detector.of(known.signs)))
        return detector, gate

    monkeypatch.setattr(ground, "choose_gate", half)
    fitted = f.fit(flat, read)
    incumbent = int(fitted.model.arrays.base.argmax())
    assert fitted.margin < 2.0, "leaving pays"
    assert (fitted.unseen[trust[0] == 0.0].argmax(axis=1) == incumbent).all()
    assert (fitted.unseen[trust[0] == 1.0].argmax(axis=1) != incumbent).mean() > 0.2
    fresh = reading.read_prompts([row["prompt"] for row in world.planted(240, seed=9)])
    served = f.qualities(fitted.model, fresh).argmax(axis=1)
    found = np.array([fitted.model.appraise(x, np.full(15, 1 / 15), x.language)[1] for x in fresh.features])
    assert (served[found == 0.0] == incumbent).all()
    assert (found == 0.0).sum() > 20
    assert (served[found == 1.0] != incumbent).mean() > 0.2


def test_progress_is_told(rows, read):
    """It ends with all done."""
    told = []
    f.fit(rows, read, progress=lambda *said: told.append(said[:2]))
    assert told[0] == (0, 4)
    assert told[-1] == (4, 4)


def test_topic_shares_are_those_of_the_run_time_form(learned):
    """One row per prompt, of unit sum, near the unseen ones."""
    shares = f.topic_shares_of(learned.router.fitted.model, learned.read)
    assert np.allclose(shares.sum(axis=1), 1.0)
    same = shares.argmax(axis=1) == learned.router.fitted.topic_shares.argmax(axis=1)
    assert same.mean() > 0.95
