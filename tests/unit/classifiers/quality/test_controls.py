"""Controls do what their names say, and learn from TRAIN only."""

import dataclasses

import numpy as np
import pytest

from classifiers.quality import controls as c
from classifiers.quality import judge


def test_every_control_has_all_measures(learned):
    """The names and keys of the report."""
    found = learned.report["controls"]
    assert tuple(found) == c.CONTROLS
    for measures in found.values():
        assert set(measures) == set(judge.MEASURES)


def test_single_models_by_hand(learned):
    """Always the cheapest, always the best: one point each; the mix reaches the zero router on the same rows."""
    where, found = learned.stage.test_ground, learned.report["controls"]
    assert found["always_cheapest"]["accuracy_max"] == where.cheapest().score
    assert found["always_cheapest"]["aiq"] == pytest.approx(where.cheapest().score)
    assert found["always_strongest"]["accuracy_max"] == where.best_single().score
    assert found["always_strongest"]["validated"]["saved"] == pytest.approx(0.0)
    assert found["best_fixed_mix"]["aiq"] == pytest.approx(learned.report["zero_router_aiq"], abs=0.02)


def test_the_true_category_helps_and_length_does_not(learned):
    """In a world where subjects matter, and length does only because one has longer words."""
    found = learned.report["controls"]
    mix = found["best_fixed_mix"]["aiq"]
    assert found["category_table"]["aiq"] > mix + 0.05
    assert found["length"]["aiq"] < found["category_table"]["aiq"] - 0.03
    assert found["tfidf_lr"]["aiq"] > mix + 0.05
    assert found["kmeans"]["aiq"] > mix


def test_a_category_that_train_lacks_gets_the_means(learned):
    """No group, no number out of the air."""
    train = learned.stage.train
    strange = dataclasses.replace(learned.stage.test, categories=("nowhere",) * len(learned.stage.test))
    assert np.allclose(c.by_category(train, strange), train.scores.mean(axis=0))


@pytest.mark.parametrize("learner", [c.by_regression, c.by_clusters])
def test_texts_without_words_give_the_means(learned, learner):
    """No word twice: nothing to learn from, no crash."""
    train = dataclasses.replace(learned.stage.train, prompts=tuple(f"w{n}" for n in range(len(learned.stage.train))))
    assert np.allclose(learner(train, learned.stage.test), train.scores.mean(axis=0))


def test_a_model_that_is_always_right_is_no_problem(learned):
    """One class only: its mean."""
    scores = learned.stage.train.scores.copy()
    scores[:, 0] = 1.0
    train = dataclasses.replace(learned.stage.train, scores=scores)
    assert np.allclose(c.by_regression(train, learned.stage.test)[:, 0], 1.0)


def test_controls_do_not_see_test_outcomes(learned):
    """Turning TEST's outcomes around leaves every prediction as it was."""
    train, test = learned.stage.train, learned.stage.test
    turned = dataclasses.replace(test, scores=1.0 - test.scores)
    for learner in c.LEARNERS.values():
        assert np.array_equal(learner(train, test), learner(train, turned))
