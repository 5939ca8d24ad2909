"""The shared formulas: a row alone is what it is among others, and nothing overflows."""

import numpy as np
import pytest

from classifiers.quality import signals as s


def test_shares_sum_to_one_and_sharpen():
    """Topics and clusters; large scores overflow nothing."""
    scores = np.array([[0.9, 0.1, 0.0], [0.3, 0.3, 0.3]])
    prior = np.log(np.array([0.5, 0.25, 0.25]))
    found = s.topic_shares(scores, prior, 10.0)
    assert np.allclose(found.sum(axis=1), 1.0)
    assert found[0, 0] > 0.99
    assert np.allclose(found[1], [0.5, 0.25, 0.25])
    assert np.allclose(s.topic_shares(scores[0], prior, 10.0), found[0])
    assert np.isfinite(s.softmax(np.array([1e4, 0.0]))).all()
    near = s.cluster_shares(np.array([2.0, 0.0]), np.eye(2), 10.0)
    assert near[0] > 0.99
    assert np.allclose(s.cluster_shares(np.zeros(2), np.eye(2), 10.0), 0.5)


def test_logits_stay_finite_and_turn_back():
    """0 and 1 are kept off; what lies between comes back."""
    assert np.allclose(s.sigmoid(s.logit(np.array([0.0, 0.3, 1.0]))), [s.QUALITY_MIN, 0.3, s.QUALITY_MAX])
    assert np.allclose(s.sigmoid(np.array([-1e5, 1e5])), [s.QUALITY_MIN, s.QUALITY_MAX])


def test_an_advantage_needs_a_margin():
    """What is behind stays; what is ahead by less falls just behind; the rest is lowered."""
    logits = np.array([1.0, 0.5, 1.2, 3.0])
    found = s.less_margin(logits, logits[:1], 0.5)
    assert found[:2].tolist() == [1.0, 0.5]
    assert 0.999 < found[2] < 1.0
    assert found[3] == pytest.approx(2.5)
    assert s.full_margin(0.5, 1.0) == 0.5
    assert s.full_margin(0.5, 0.0) == 0.5 + s.STRANGER_MARGIN


def test_the_gate_grows_evenly():
    """Nothing up to low, half between, all from high on."""
    assert s.gate(np.array([0.0, 1.0, 1.5, 2.0, 9.0]), 1.0, 2.0).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_a_stranger_shows_few_signs():
    """A member of a topic has a higher score, ratio and margin than a row that fits nothing; one topic is enough."""
    typical, prior, dense = np.array([0.8, 0.6]), np.log(np.array([0.5, 0.5])), np.ones((2, 3))
    found = s.familiar_signs(np.array([[0.8, 0.0], [0.1, 0.1]]), prior, typical, 10.0, dense)
    assert found.shape == (2, s.FAMILIAR)
    assert (found[0, [0, 1, 2, 3, 4, 5, 6, 7]] > found[1, [0, 1, 2, 3, 4, 5, 6, 7]]).all()
    assert np.isfinite(s.familiar_signs(np.array([0.5]), np.zeros(1), np.ones(1), 5.0, np.zeros(2))).all()


def test_a_prior_is_weighed_by_the_posterior():
    """Two equally likely intents: the mean of their logits."""
    found = s.from_prior(np.array([0.5, 0.5]), np.array([[0.8, 0.2], [0.9, 0.9]]))
    assert found == pytest.approx([0.0, np.log(9.0)])
