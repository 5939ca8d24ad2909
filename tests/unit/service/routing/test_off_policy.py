"""Quality of a policy that was not there, held against a simulation whose truth is known; and what is refused."""

from __future__ import annotations

import random
from statistics import fmean, stdev

import pytest

from service.routing import off_policy
from service.routing.off_policy import Judged, Quality, Refused, Sums, quality

EASY, HARD = 0, 1
TRUTH = {("a", EASY): 0.9, ("a", HARD): 0.4, ("b", EASY): 0.95, ("b", HARD): 0.7}
"""How often an answer is good, by model and kind of request."""

OWN = {EASY: "a", HARD: "b"}
"""What the old policy chooses by itself: the cheap one where that will do. It draws the other with `SHARE`."""

SHARE = {EASY: 0.1, HARD: 0.2}
HARD_SHARE = 0.3
VALUE_OF_B = (1 - HARD_SHARE) * TRUTH["b", EASY] + HARD_SHARE * TRUTH["b", HARD]
"""What the new policy is worth, which sends everything to b: 0.875."""


def a_log(draw, size, expected):
    """A log of the old policy: [(kind, who answered, chance, score)], and the sums under the new one.

    `expected` is what the registry expects of b, by kind: right or wrong.
    """
    log, sums = [], Sums()
    for _ in range(size):
        kind = HARD if draw.random() < HARD_SHARE else EASY
        other = "b" if OWN[kind] == "a" else "a"
        drawn = draw.random() < SHARE[kind]
        who, chance = (other, SHARE[kind]) if drawn else (OWN[kind], 1 - SHARE[kind])
        score = float(draw.random() < TRUTH[who, kind])
        log.append((kind, who, chance, score))
        sums.add(Judged(score, chance, who == "b", expected[kind], covered=True, changed=OWN[kind] != "b"))
    return log, sums


def naive(log):
    """The mean of what b answered, and its interval: what filtering the log to matching choices gives."""
    scores = [score for _, who, _, score in log if who == "b"]
    half = off_policy.Z * stdev(scores) / len(scores) ** 0.5
    return fmean(scores), fmean(scores) - half, fmean(scores) + half


def runs(expected, times=250, size=2_500):
    """(estimates, how many of their intervals hold the truth, naive means, how many of theirs)."""
    draw = random.Random(20261122)
    found, hit, plain, plain_hit = [], 0, [], 0
    for _ in range(times):
        log, sums = a_log(draw, size, expected)
        one = quality(sums)
        assert isinstance(one, Quality)
        found.append(one)
        hit += one.low <= VALUE_OF_B <= one.high
        mean, low, high = naive(log)
        plain.append(mean)
        plain_hit += low <= VALUE_OF_B <= high
    return found, hit / times, plain, plain_hit / times


@pytest.mark.parametrize(
    "expected",
    [{EASY: 0.95, HARD: 0.7}, {EASY: 0.5, HARD: 0.5}, {EASY: 0.2, HARD: 0.99}],
    ids=["right", "flat", "upside down"],
)
def test_the_truth_is_found_and_the_interval_holds_it(expected):
    """Whatever the registry expects: no bias, and 19 of 20 intervals hold the truth. The naive mean's hardly any do."""
    found, covers, plain, plain_covers = runs(expected)
    assert fmean(one.mean for one in found) == pytest.approx(VALUE_OF_B, abs=0.004)
    assert 0.92 <= covers <= 0.98
    assert fmean(plain) < VALUE_OF_B - 0.08
    assert plain_covers < 0.05


def test_more_data_does_not_help_the_naive_mean():
    """Its interval shrinks around the wrong value; ours around the right one."""
    draw = random.Random(1)
    log, sums = a_log(draw, 60_000, {EASY: 0.6, HARD: 0.6})
    one = quality(sums)
    assert isinstance(one, Quality)
    assert one.low <= VALUE_OF_B <= one.high
    assert one.high - one.low < 0.03
    assert naive(log)[2] < VALUE_OF_B - 0.05


def test_a_good_expectation_makes_it_narrow():
    """That is what it is for."""
    draw = random.Random(2)
    right = quality(a_log(draw, 5_000, {EASY: 0.95, HARD: 0.7})[1])
    wrong = quality(a_log(draw, 5_000, {EASY: 0.2, HARD: 0.99})[1])
    assert isinstance(right, Quality)
    assert isinstance(wrong, Quality)
    assert right.high - right.low < 0.7 * (wrong.high - wrong.low)


def test_what_is_told_beside():
    """Effective sample size, the largest weight, how much it is about; the mean as it was answered."""
    draw = random.Random(3)
    log, sums = a_log(draw, 4_000, {EASY: 0.9, HARD: 0.8})
    one = quality(sums)
    assert isinstance(one, Quality)
    assert (one.judged, one.covered, one.weight_most) == (4_000, 1.0, 10.0)
    assert one.changed == sum(1 for kind, who, *_ in log if kind == EASY and who == "b")
    assert 200 < one.effective < 4_000
    assert one.logged == pytest.approx(fmean(score for *_, score in log))


def test_the_same_policy_is_the_mean_of_what_was_judged():
    """Certain choices that stay: nothing has to be drawn, and every interval is the plain one."""
    sums = Sums()
    for place in range(400):
        sums.add(Judged(float(place % 4 > 0), 1.0, True, 0.9, covered=True, changed=False))
    one = quality(sums)
    assert isinstance(one, Quality)
    assert one.logged == 0.75
    assert one.mean == pytest.approx(0.75)
    assert one.high - one.mean == pytest.approx(off_policy.Z * (0.75 * 0.25 / 400) ** 0.5)
    assert one.effective == 400


def refusal(*judged):
    """The reason of a refusal."""
    sums = Sums()
    for one in judged:
        sums.add(one)
    found = quality(sums)
    assert isinstance(found, Refused)
    assert found.judged == len(judged)
    return found.reason


def test_what_is_refused():
    """Nothing judged, certain choices, thin overlap, few answers; each with its reason."""
    same = Judged(1.0, 1.0, True, 0.9, covered=True, changed=False)
    other = Judged(1.0, 1.0, False, 0.9, covered=False, changed=True)
    drawn = Judged(1.0, 0.02, True, 0.9, covered=True, changed=True)
    kept = Judged(1.0, 0.98, False, 0.9, covered=True, changed=True)
    assert refusal().startswith("no answer was judged")
    assert refusal(*[same] * 500, other).startswith("every choice in the log was certain (propensity 1)")
    assert refusal(*[other] * 100, *[drawn] * 300).startswith("in 25% of the judged requests the new choice could not")
    assert refusal(*[kept] * 500, *[drawn] * 49).startswith("49 judged answers are of choices that are new; 50 are")
    assert refusal(*[same] * 199) == "the effective sample size is 199; 200 are needed"
    assert refusal(*[kept] * 10_000, *[drawn] * 199) == "the effective sample size is 199; 200 are needed"


def test_the_edges():
    """A mean never leaves 0 to 1."""
    sums = Sums()
    for _ in range(300):
        sums.add(Judged(1.0, 0.5, True, 1.0, covered=True, changed=True))
    one = quality(sums)
    assert isinstance(one, Quality)
    assert (one.mean, one.low, one.high) == (1.0, 1.0, 1.0)
