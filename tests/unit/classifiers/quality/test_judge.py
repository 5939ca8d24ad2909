"""Judging: the sweep, the choice of a setting, and what is undefined without costs."""

import math

import numpy as np
import pytest

from classifiers.quality import judge as j

NAN = np.nan


def _ground(scores, costs, train=None):
    scores, costs = np.asarray(scores, dtype=float), np.asarray(costs, dtype=float)
    typical = costs.mean(axis=0) if train is None else np.asarray(train, dtype=float)
    known = not np.isnan(typical).any()
    return j.Ground(
        models=tuple("abcdef"[: scores.shape[1]]),
        scores=scores,
        costs=costs,
        scale=float(typical.max() - typical.min()) if known else 1.0,
        order=np.argsort(typical if known else -np.nanmean(scores, axis=0), kind="stable"),
    )


PAIR = _ground([[1, 0], [1, 1], [0, 0], [1, 0]], [[4, 1]] * 4)
SURE = j.Predicted(np.array([[0.9, 0.1], [0.9, 0.9], [0.2, 0.2], [0.9, 0.2]]), np.tile([4.0, 1.0], (4, 1)))


def test_the_reference_points():
    """Best, cheapest, by lot, in hindsight: the oracle takes the cheapest of equals."""
    assert PAIR.best_single() == j.Single("a", 0.75, 4.0)
    assert PAIR.cheapest() == j.Single("b", 0.25, 1.0)
    assert j.random_choice(PAIR) == (0.5, 2.5)
    assert j.oracle(PAIR) == (0.75, (4 + 1 + 1 + 4) / 4)
    assert j.zero_router_aiq(PAIR) == pytest.approx(0.5)


def test_the_sweep_runs_from_quality_to_cost():
    """Mu = 0 chooses by quality, equals go to the cheaper; a huge mu chooses the cheapest always."""
    assert j.choices(PAIR, SURE, 0.0).tolist() == [0, 1, 1, 0]
    assert j.choices(PAIR, SURE, 1e4).tolist() == [1, 1, 1, 1]
    points = j.curve(PAIR, SURE)
    assert points[0].tolist() == [2.5, 0.75]
    assert points[-1].tolist() == [1.0, 0.25]


def test_a_router_that_knows_beats_the_mix():
    """By hand: (1, .25) to (2.5, .75) to (4, .75): AIQ (.5 * 1.5 + .75 * 1.5) / 3."""
    found = j.measures(PAIR, SURE, j.Setting(0, 0, 0.0))
    assert found["aiq"] == pytest.approx(0.625)
    assert found["accuracy_at_best_single_cost"] == 0.75
    assert found["saved_at"]["1.0"] == pytest.approx(1 - 2.5 / 4)
    assert found["validated"] == {"target": 0.98, "quality_kept": 1.0, "saved": 1 - 2.5 / 4}
    assert found["cpt50"] == pytest.approx(0.25)
    assert set(found) == set(j.MEASURES)


def test_unknown_outcomes_are_never_chosen():
    """However good they look."""
    holes = _ground([[NAN, 0.0], [1.0, 1.0]], [[4, 1]] * 2)
    assert j.choices(holes, j.Predicted(np.array([[0.9, 0.1]] * 2), np.tile([4.0, 1.0], (2, 1))), 0.0).tolist() == [
        1,
        0,
    ]
    assert j.random_choice(holes) == (0.5, (1 + 2.5) / 2)


def test_only_a_pair_has_a_gap():
    """APGR and CPT are null for three models, and where the strong one isn't stronger."""
    three = _ground([[1, 0, 1]] * 2, [[3, 1, 2]] * 2)
    even = j.Predicted(np.full((2, 3), 0.5), np.tile([3.0, 1.0, 2.0], (2, 1)))
    assert j.measures(three, even, None)["apgr"] is None
    level = _ground([[1, 1]] * 2, [[3, 1]] * 2)
    assert j.measures(level, j.Predicted(np.full((2, 2), 0.5), np.tile([3.0, 1.0], (2, 1))), None)["apgr"] is None


def test_without_costs_only_quality_is_judged():
    """Null where cost would be needed; equals stay with the model that is best on TRAIN."""
    free = _ground([[0.2, 0.9], [0.4, 0.8]], [[NAN, NAN]] * 2)
    found = j.measures(free, j.Predicted(np.full((2, 2), 0.5), np.full((2, 2), NAN)), j.Setting(0, 0, 0.0))
    assert found["aiq"] is None
    assert set(found["saved_at"].values()) == {None}
    assert found["accuracy_max"] == found["accuracy_at_best_single_cost"] == pytest.approx(0.85)
    assert found["validated"]["quality_kept"] == pytest.approx(1.0)
    assert math.isnan(j.oracle(free)[1])
    assert j.zero_router_aiq(free) is None


def test_a_setting_lies_between_two():
    """Halfway between the corners around the target; beyond the curve it is its best point."""
    points = np.array([[4.0, 1.0], [2.0, 0.9], [3.0, 0.1], [1.0, 0.5]])
    found = j.pick(points, 0.7)
    assert (found.first, found.second) == (3, 1)
    assert found.share == pytest.approx(0.5)
    assert found.of(points) == pytest.approx((1.5, 0.7))
    assert j.pick(points, 1.8).of(points) == (4.0, 1.0)
    assert j.pick(points, 0.2).of(points) == (1.0, 0.5)


def test_a_validated_setting_has_something_to_spare():
    """Few rows ask for a higher quality than the target, many for hardly more."""
    rng = np.random.default_rng(0)
    spare = []
    for count in (50, 5_000):
        chance = np.stack([np.full(count, 0.9), rng.random(count)], axis=1)
        where = _ground(rng.random((count, 2)) < chance, np.tile([4.0, 1.0], (count, 1)))
        predicted = j.Predicted(chance, np.tile([4.0, 1.0], (count, 1)))
        quality = j.validate(where, predicted).of(j.curve(where, predicted))[1]
        spare.append(quality - j.VALIDATED_TARGET * where.best_single().score)
    assert spare[0] > 0.01
    assert 0.0 < spare[1] < spare[0]


def test_most_validated_settings_keep_their_promise(monkeypatch):
    """Picked on 200 rows, judged by what is true: three of four keep the target; without caution one does."""
    rng = np.random.default_rng(4)

    def drawn(count):
        cheap = rng.random(count)
        chance = np.stack([np.full(count, 0.9), cheap], axis=1)
        guess = 0.5 + 0.5 * (cheap - 0.5 + rng.normal(size=count) * 0.3)
        believed = np.stack([np.full(count, 0.9), np.clip(guess, 0.0, 0.9)], axis=1)
        return chance, j.Predicted(believed, np.tile([4.0, 1.0], (count, 1)))

    truth, asked = drawn(4_000)
    true_curve = j.curve(_ground(truth, asked.cost), asked)
    draws = [drawn(200) for _ in range(30)]
    grounds = [_ground(rng.random(chance.shape) < chance, believed.cost) for chance, believed in draws]

    def kept():
        settings = [j.validate(where, believed) for where, (_, believed) in zip(grounds, draws, strict=True)]
        return np.mean([one.of(true_curve)[1] >= j.VALIDATED_TARGET * 0.9 for one in settings])

    assert kept() >= 0.7
    monkeypatch.setattr(j, "CAUTION", 0.0)
    assert kept() <= 0.4
