"""Temperatures and thresholds, on data whose right answer is known."""

import numpy as np
import pytest

from classifiers import calibration as c
from classifiers.calibration import softmax


def _sample(temperature, n=6_000, seed=1):
    """Logits whose labels are drawn from softmax(logits / temperature): the temperature to find."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, 15)) * 3.0
    cumulative = softmax(logits / temperature).cumsum(axis=1)
    true = (generator.random((n, 1)) > cumulative).sum(axis=1).clip(0, 14)
    return logits, true


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_true_temperature_is_found(temperature):
    """Within sampling error."""
    logits, true = _sample(temperature)
    assert c.fit_temperature(logits, true, np.ones(len(true))) == pytest.approx(temperature, rel=0.08)


def test_weights_decide_between_two_populations():
    """Rows without mass don't count."""
    sharp, sharp_true = _sample(0.5)
    flat, flat_true = _sample(3.0, seed=2)
    logits, true = np.concatenate([sharp, flat]), np.concatenate([sharp_true, flat_true])
    weights = np.concatenate([np.zeros(len(sharp)), np.ones(len(flat))])
    assert c.fit_temperature(logits, true, weights) == pytest.approx(3.0, rel=0.08)


def test_the_threshold_is_the_lowest_that_reaches_the_wanted_accuracy():
    """Covered rows reach it; one step lower they don't."""
    logits, true = _sample(1.5)
    posterior, weights = softmax(logits / 1.5), np.ones(len(true))
    threshold = c.fit_threshold(posterior, true, weights)
    correct = posterior.argmax(axis=1) == true

    def accuracy(at):
        return correct[posterior.max(axis=1) >= at].mean()

    assert accuracy(threshold) >= c.ACCURACY_WANTED
    assert accuracy(threshold - 0.01) < c.ACCURACY_WANTED


def test_a_hopeless_model_covers_next_to_nothing():
    """When no threshold reaches the accuracy, the highest one applies."""
    logits, true = _sample(1.0)
    wrong = (true + 1) % 15
    assert c.fit_threshold(softmax(logits), wrong, np.ones(len(true))) == pytest.approx(c.THRESHOLDS[-1])


def test_languages_have_their_own_numbers_and_strangers_the_careful_ones():
    """English sharp, Chinese flat: other languages take the flatter temperature and at least the named threshold."""
    en, en_true = _sample(0.6)
    zh, zh_true = _sample(2.0, seed=5)
    languages = np.array(["en"] * len(en) + ["zh"] * len(zh))
    both = c.calibrate(
        np.concatenate([en, zh]), np.concatenate([en_true, zh_true]), languages, np.ones(len(en) + len(zh))
    )
    assert both.temperatures["en"] < 0.8
    assert both.temperatures["zh"] > 1.5
    assert both.temperatures["other"] == both.temperatures["und"] == both.temperatures["zh"]
    assert both.thresholds["other"] >= max(c.OTHER_THRESHOLD_MIN, both.thresholds["en"], both.thresholds["zh"])


def test_a_language_with_too_few_rows_takes_the_numbers_of_all():
    """Twenty rows can't carry a temperature of their own."""
    en, en_true = _sample(1.0)
    languages = np.array(["en"] * len(en))
    languages[:5] = "zh"
    fitted = c.calibrate(en, en_true, languages, np.ones(len(en)))
    assert fitted.temperatures["zh"] == pytest.approx(fitted.temperatures["en"], rel=0.05)


def test_apply_gives_posteriors_and_coverage():
    """Rows of one go through their language's numbers."""
    fitted = c.Calibration({"en": 1.0, "zh": 4.0}, {"en": 0.5, "zh": 0.5})
    logits = np.zeros((2, 15))
    logits[:, 3] = 4.0
    posterior, covered = fitted.apply(logits, np.array(["en", "zh"]))
    assert posterior.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert covered.tolist() == [True, False]


def test_softmax_is_stable():
    """Large logits don't overflow, rows sum to one."""
    posterior = softmax(np.array([[1e4, 0.0], [-1e4, -1e4]]))
    assert posterior.tolist() == [[1.0, 0.0], [0.5, 0.5]]
