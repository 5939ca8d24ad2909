"""Known and unknown ground: strangers are recognised, harm closes the gate, no harm leaves it open."""

import numpy as np

from classifiers.quality import ground as g
from classifiers.quality.signals import FAMILIAR

FULL = g.OPEN


def _rows(count, harm, sign, seed=0, groups=2):
    """Two models: the second looks better by a logit; it is right to choose it only where `harm` is false.

    `sign` moves every sign of known ground.
    """
    rng = np.random.default_rng(seed)
    scores = np.tile([[0.7, 0.2 if harm else 0.9]], (count, 1))
    return g.Rows(
        deviations=np.tile([[0.0, 2.0]], (count, 1)),
        bases=np.tile([[1.0, 0.0]], (count, 1)),
        scores=scores,
        signs=rng.normal(size=(count, FAMILIAR)) * 0.3 + sign,
        known=np.full(count, 0.9),
        groups=np.arange(count) % groups,
    )


def test_strangers_are_told_from_members():
    """The detector's log odds have the right side of zero."""
    detector = g.fit_detector(_rows(300, False, 1.0).signs, _rows(300, True, 0.0, 1).signs)
    assert (detector.of(_rows(200, False, 1.0, 2).signs) > 0).mean() > 0.95
    assert (detector.of(_rows(200, True, 0.0, 3).signs) < 0).mean() > 0.95


def test_harm_closes_the_gate():
    """Left-out topics lose half a point each when everything counts: the chosen gate keeps them at the default."""
    known, left_out = _rows(400, False, 1.0), _rows(400, True, 0.0, 1)
    assert g.harm(left_out, np.ones(400), np.ones(400)) > 0.4
    detector, gate = g.choose_gate(known, left_out, FULL)
    assert g.harm(left_out, np.ones(400), gate.of(detector.of(left_out.signs))) == 0.0
    assert (gate.of(detector.of(known.signs)) == 1.0).mean() > 0.5


def test_no_harm_leaves_it_open():
    """Where strangers profit, too, nothing is shut; without topics to leave out, either."""
    known = _rows(400, False, 1.0)
    assert g.choose_gate(known, _rows(400, False, 0.0, 1), FULL)[1] == g.OPEN
    assert g.choose_gate(known, None, FULL)[1] == g.OPEN


def test_what_cannot_be_told_apart_is_shut_most():
    """Strangers that look just like members, and harm: the widest gate is taken."""
    known = _rows(400, False, 0.0)
    detector, gate = g.choose_gate(known, _rows(400, True, 0.0, 1), FULL)
    assert gate.of(detector.of(known.signs)).mean() < 0.5


def test_a_little_harm_does_not_close_known_ground():
    """Strangers that look just like members lose two points: not worth the twenty that members gain."""
    known, left_out = _rows(400, False, 0.0), _rows(400, True, 0.0, 1)
    left_out.scores[:, 1] = 0.68
    assert g.harm(left_out, np.ones(400), np.ones(400)) > 0.0
    detector, gate = g.choose_gate(known, left_out, FULL)
    weakest = float(np.quantile(detector.of(known.signs), g.OPEN_AT[0]))
    assert gate.high == weakest


def test_harm_by_hand():
    """Two topics of 100 rows, one loses .05 throughout: .04 beyond its limit, where the mean of .025 is .02 beyond."""
    rows = _rows(200, False, 0.0)
    rows.scores[:] = [0.7, 0.7]
    assert g.harm(rows, np.ones(200), np.ones(200)) == 0.0
    rows.scores[rows.groups == 1] = [0.7, 0.65]
    assert round(g.harm(rows, np.ones(200), np.ones(200)), 9) == 0.04
    few = _rows(98, False, 0.0)
    few.scores[:] = [0.7, 0.7]
    few.scores[few.groups == 1] = [0.7, 0.65]
    assert round(g.harm(few, np.ones(98), np.ones(98)), 9) == 0.02, "too few rows to tell: the mean alone"


def test_one_topic_alone_can_do_harm():
    """Nineteen harmless topics don't buy the right to harm the twentieth."""
    rows = _rows(2_000, False, 0.0, groups=20)
    assert g.harm(rows, np.ones(2_000), np.ones(2_000)) == 0.0
    rows.scores[rows.groups == 3] = [0.7, 0.5]
    assert g.harm(rows, np.ones(2_000), np.ones(2_000)) > 0.1


def test_less_trust_needs_a_clearer_advantage():
    """An advantage of a logit is enough with full trust, not with nine tenths of it; what counts stays as it is."""
    rows = _rows(10, False, 0.0)
    picked, default = g.chosen_scores(rows, np.ones(10), np.ones(10))
    assert (picked.mean().round(6), default.mean().round(6)) == (0.9, 0.7)
    picked, _ = g.chosen_scores(rows, np.ones(10), np.full(10, 0.97))
    assert picked.mean().round(6) == 0.9
    picked, _ = g.chosen_scores(rows, np.ones(10), np.full(10, 0.9))
    assert picked.mean().round(6) == 0.7


def test_unknown_outcomes_are_never_chosen():
    """The default is the best model that has an outcome."""
    rows = _rows(4, False, 0.0)
    rows.scores[:, 0] = np.nan
    picked, default = g.chosen_scores(rows, np.ones(4), np.ones(4))
    assert np.allclose(picked, 0.9)
    assert np.allclose(default, 0.9)


def test_the_known_share_gate_follows_train():
    """The strangest of a hundred in TRAIN is damped, half as known counts nothing; rows that are alike make no gate."""
    shares = np.linspace(0.5, 1.0, 301)
    gate = g.choose_known_gate(shares)
    assert 0.005 <= (gate.of(shares) < 1.0).mean() <= 0.015
    assert gate.of(np.array([0.25])) == 0.0
    assert 0.0 < gate.of(np.array([0.4])) < 1.0
    assert g.choose_known_gate(np.ones(20)) == g.OPEN
