"""Weights and calibration: the better view gets more, labels have to outweigh the pull."""

import numpy as np

from classifiers.quality import blend as b
from classifiers.quality.signals import logit, sigmoid


def _world(count, seed=0):
    """True deviations of two models, and scores drawn from them."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(count, 2))
    scores = (rng.random((count, 2)) < sigmoid(true)).astype(float)
    return rng, true, scores


def test_the_view_that_knows_gets_the_weight():
    """Truth against noise: the noise is next to nothing, the truth near one."""
    rng, true, scores = _world(2_000)
    weights = b.fit_weights([true, rng.normal(size=true.shape)], scores)
    assert weights[0] > 0.7
    assert weights[1] < 0.15


def test_weights_are_never_negative():
    """A view that is wrong throughout is left out, not turned around."""
    _, true, scores = _world(2_000)
    assert b.fit_weights([true, -true], scores)[1] < 0.15
    assert (b.fit_weights([-true], scores) >= 0.0).all()


def test_what_all_models_share_is_weighed_by_itself():
    """By hand: (1, 3) is 2 for both and -1 against +1; halving the first and doubling the second gives (-1, 3)."""
    assert b.Weight(0.5, 2.0).of(np.array([[1.0, 3.0]])).tolist() == [[-1.0, 3.0]]
    assert b.Weight(1.0, 1.0).of(np.array([1.0, 3.0])).tolist() == [1.0, 3.0]


def test_a_view_can_know_hard_from_easy_and_nothing_of_models():
    """One view knows the mean over models, the other their difference: each gets weight for what it knows alone."""
    rng, true, scores = _world(6_000)
    common = true.mean(axis=1, keepdims=True)
    noise = rng.normal(size=true.shape)
    noise -= noise.mean(axis=1, keepdims=True)
    views = {"hard": common + noise, "models": true - common + rng.normal(size=(len(true), 1))}
    found = b.weigh(views, scores)
    assert min(found["hard"].common, found["models"].apart) > 0.6
    assert max(found["hard"].apart, found["models"].common) < 0.15

    def likeness(given):
        return np.corrcoef(given.ravel(), true.ravel())[0, 1]

    assert likeness(b.blended(views, found)) > 0.97
    assert max(likeness(view) for view in views.values()) < 0.8


def test_a_blend_of_tables_is_the_blend_of_what_they_give():
    """Signals times a weighted table is the weighted deviation: the run-time form needs no step more."""
    rng = np.random.default_rng(2)
    signals, table, weight = rng.normal(size=(5, 3)), rng.normal(size=(3, 4)), b.Weight(0.3, 0.8)
    assert np.allclose(signals @ weight.of(table), weight.of(signals @ table))


def test_unknown_cells_have_no_say():
    """Turning known cells into gaps and back changes nothing but what was known."""
    _, true, scores = _world(500)
    holes = scores.copy()
    holes[::2, 1] = np.nan
    doubled = np.concatenate([holes, np.full_like(holes, np.nan)])
    same = b.fit_weights([np.concatenate([true, 99.0 * np.ones_like(true)])], doubled)
    assert np.allclose(b.fit_weights([true], holes), same, atol=1e-4)


def test_calibration_mends_what_is_too_sure():
    """Deviations three times too large: the slope goes near a third with many labels, stays near one with few."""
    _, true, scores = _world(4_000)
    slopes, _ = b.fit_slopes(3.0 * true, scores)
    assert np.allclose(slopes, 1 / 3, atol=0.06)
    few, _ = b.fit_slopes(3.0 * true[:8], scores[:8])
    assert (few > 0.7).all()


def test_calibration_keeps_the_level():
    """What is predicted on average is what happens on average."""
    rng = np.random.default_rng(1)
    deviations = rng.normal(size=(3_000, 1))
    scores = (rng.random((3_000, 1)) < sigmoid(deviations + 1.5)).astype(float)
    slopes, bases = b.fit_slopes(deviations, scores)
    assert abs(float(sigmoid(bases + slopes * deviations).mean()) - float(scores.mean())) < 0.01


def test_a_model_without_labels_is_left_alone():
    """Its base is whatever it was, and nothing fails."""
    scores = np.array([[1.0, np.nan], [0.0, np.nan]])
    slopes, bases = b.fit_slopes(np.zeros((2, 2)), scores)
    assert slopes[1] == 1.0
    assert bases[0] == logit(np.array(0.5))
