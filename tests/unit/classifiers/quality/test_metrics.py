"""Every figure against a number worked out by hand."""

import numpy as np
import pytest

from classifiers.quality import metrics as m

NAN = np.nan


def test_the_hull_bends_one_way():
    """Points under a line between others, and points that cost more for less, are not on it."""
    points = np.array([[1.0, 0.2], [2.0, 0.3], [3.0, 0.8], [4.0, 0.7], [5.0, 0.9], [3.0, 0.1]])
    assert m.hull(points).tolist() == [[1.0, 0.2], [3.0, 0.8], [5.0, 0.9]]
    assert m.hull(np.array([[2.0, 0.5]])).tolist() == [[2.0, 0.5]]
    assert m.hull(np.array([[2.0, 0.5], [2.0, 0.6]])).tolist() == [[2.0, 0.6]]


def test_aiq_by_hand():
    """Hull (0, .5) to (1, .9), range 0 to 2: (.7 + .9) / 2 = .8."""
    points = np.array([[0.0, 0.5], [1.0, 0.9], [2.0, 0.6]])
    assert m.aiq(points, (0.0, 0.5), 2.0) == pytest.approx(0.8)


def test_aiq_of_a_curve_that_starts_late():
    """The cheapest single model joins: (0, .2) to (2, 1) is a line of mean .6; a late start earns nothing by itself."""
    assert m.aiq(np.array([[2.0, 1.0]]), (0.0, 0.2), 2.0) == pytest.approx(0.6)
    assert m.aiq(np.array([[2.0, 1.0]]), (2.0, 0.2), 2.0) is None


def test_quality_at_a_cost():
    """Between two points by mixing them; left of the first there is nothing."""
    points = np.array([[1.0, 0.2], [3.0, 0.8]])
    assert m.quality_at(points, 2.0) == pytest.approx(0.5)
    assert m.quality_at(points, 9.0) == pytest.approx(0.8)
    assert m.quality_at(points, 0.5) is None


def test_saved_by_hand():
    """.8 of quality 1 is reached at cost 3 of 4: a quarter saved; never reached saves nothing, free costs undefined."""
    points = np.array([[1.0, 0.2], [3.0, 0.8], [5.0, 0.9]])
    assert m.saved_at(points, (4.0, 1.0), 0.8) == pytest.approx(0.25)
    assert m.saved_at(points, (4.0, 1.0), 0.5) == pytest.approx(0.5)
    assert m.saved_at(points, (4.0, 1.0), 0.95) == 0.0
    assert m.saved_at(points, (2.0, 1.0), 0.8) == 0.0
    assert m.saved_at(points, (0.0, 1.0), 0.8) is None


def test_the_gap_recovered_by_hand():
    """Gaps 1, 0, 1, 0 in this order: half recovered after one of four calls."""
    strong, weak = np.array([1.0, 1.0, 1.0, 0.0]), np.array([0.0, 1.0, 0.0, 0.0])
    found = m.recovery(np.array([0.9, 0.8, 0.7, 0.1]), strong, weak)
    assert found.tolist() == [0.0, 0.5, 0.5, 1.0, 1.0]
    assert m.apgr(found) == pytest.approx((0.25 + 0.5 + 0.75 + 1.0) / 4)
    assert m.cpt(found, 0.5) == pytest.approx(0.25)
    assert m.cpt(found, 0.8) == pytest.approx((2 + 0.6) / 4)


def test_ties_earn_chance():
    """Rows that all look the same recover the gap evenly, in whatever order they stand."""
    strong, weak = np.array([1.0, 0.0, 1.0, 1.0]), np.zeros(4)
    found = m.recovery(np.zeros(4), strong, weak)
    assert np.allclose(found, [0.0, 0.25, 0.5, 0.75, 1.0])
    assert m.apgr(found) == pytest.approx(0.5)
    assert m.recovery(np.zeros(4), weak, strong) is None


def test_auc_by_hand():
    """Pairs: (.9 > .3), (.9 > .5), (.4 > .3), (.4 < .5): three of four; a tie counts half; unknown cells not at all."""
    assert m.auc(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.9, 0.3], [0.4, 0.5]])) == pytest.approx(0.75)
    assert m.auc(np.array([[1.0, 0.0, NAN]]), np.array([[0.5, 0.5, 0.9]])) == pytest.approx(0.5)
    assert m.auc(np.array([[1.0, 1.0]]), np.array([[0.5, 0.4]])) is None


def test_auc_of_fractions():
    """A score of .75 is three quarters of a success: .75 * .75 good-over-bad of .75 + .0625 ways."""
    found = m.auc(np.array([[0.75, 0.25]]), np.array([[0.9, 0.1]]))
    # good .75 and .25, bad .25 and .75: pairs over .75*.75, ties .75*.25 and .25*.75 half, under .25*.25.
    assert found == pytest.approx(0.75 * 0.75 + 0.5 * (0.75 * 0.25 * 2))


def test_brier_and_ece_by_hand():
    """Two cells at .8 of which one is right: off by .3; a cell at .1 that is wrong: off by .1."""
    scores, given = np.array([[1.0, 0.0, 0.0, NAN]]), np.array([[0.8, 0.8, 0.1, 0.5]])
    assert m.brier(scores, given) == pytest.approx((0.04 + 0.64 + 0.01) / 3)
    assert m.ece(scores, given) == pytest.approx((abs(1 - 1.6) + 0.1) / 3)
    empty = np.full((1, 2), NAN)
    assert m.brier(empty, given[:, :2]) is None
    assert m.ece(empty, given[:, :2]) is None


def test_log_loss_and_means_by_hand():
    """Known cells only."""
    assert m.log_loss(np.array([[1.0, NAN]]), np.array([[0.5, 0.1]])) == pytest.approx(np.log(2))
    assert np.array_equal(m.mean_known(np.array([[1.0, NAN, NAN], [0.0, 0.5, NAN]])), [0.5, 0.5, NAN], equal_nan=True)
