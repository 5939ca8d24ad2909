"""Expected costs: what topic and size tell is learned, nothing is promised for free."""

import numpy as np
import pytest

from classifiers.quality.costs import LEAST_SHARE, fit_costs


def test_topic_and_size_are_learned():
    """One model is three times as dear on the second topic, the other costs by size; both are found."""
    rng = np.random.default_rng(0)
    topics = np.eye(2)[rng.integers(0, 2, 400)]
    sizes = rng.integers(10, 2_000, 400)
    prompts = ["word " * int(size) for size in sizes]
    costs = np.stack([np.where(topics[:, 1] > 0, 3.0, 1.0), sizes / 1_000.0], axis=1)
    found = fit_costs(costs, topics, prompts).expected(
        np.eye(2)[[0, 1, 0]], ["word " * 100, "word " * 100, "word " * 1_000]
    )
    assert found[0, 0] == pytest.approx(1.0, abs=0.1)
    assert found[1, 0] == pytest.approx(3.0, abs=0.1)
    assert found[2, 1] == pytest.approx(1.0, abs=0.1)


def test_nothing_is_promised_for_free():
    """A line drawn beyond the data stops at a share of the mean; a free model stays free."""
    sizes = np.arange(1_000, 1_100)
    prompts = ["word " * int(size) for size in sizes]
    costs = np.stack([(sizes - 999) / 100.0, np.zeros(100)], axis=1)
    model = fit_costs(costs, np.ones((100, 1)), prompts)
    found = model.expected(np.ones((1, 1)), [""])
    assert found[0, 0] == pytest.approx(LEAST_SHARE * costs[:, 0].mean())
    assert found[0, 1] == 0.0


def test_one_price_stays_one_price():
    """Where nothing tells costs apart the mean is expected."""
    model = fit_costs(np.tile([2.0, 0.5], (50, 1)), np.ones((50, 1)), ["same"] * 50)
    assert np.allclose(model.expected(np.ones((3, 1)), ["same", "other words here", ""]), [[2.0, 0.5]] * 3)
