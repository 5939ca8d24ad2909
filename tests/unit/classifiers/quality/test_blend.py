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
