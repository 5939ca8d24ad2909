"""A model placed by anchors: the mix is found, and 150 answers come close to all of them."""

import numpy as np
import pytest

from classifiers.quality import anchors as a
from classifiers.quality import fit, metrics, outcomes, reading
from classifiers.quality.signals import sigmoid


def test_a_mix_of_known_models_is_found():
    """A new model that is the first known one, a logit worse: with many answers the mix says so."""
    rng = np.random.default_rng(0)
    known = rng.normal(size=(4_000, 3)) * 1.5
    scores = (rng.random(4_000) < sigmoid(known[:, 0] - 1.0)).astype(float)
    shares, offset = a.mix(known, scores)
    given = sigmoid(known @ shares + offset)
    assert np.abs(given - sigmoid(known[:, 0] - 1.0)).mean() < 0.05


def test_without_evidence_it_is_the_mean_of_the_known():
    """Answers that fit the mean leave the shares near even."""
    rng = np.random.default_rng(1)
    known = rng.normal(size=(40, 4))
    shares, offset = a.mix(known, sigmoid(known.mean(axis=1)))
    assert np.allclose(shares, 0.25, atol=0.15)
    assert abs(offset) < 0.3


@pytest.mark.parametrize("scores", [[], [0.5], [0.5, 2.0], [0.5, float("nan")]])
def test_scores_that_do_not_fit_are_refused(scores):
    """Wrong count, out of bounds, none."""
    with pytest.raises(ValueError, match="anchors"):
        a.mix(np.zeros((2, 2)), np.array(scores))


def test_two_known_models_suffice():
    """One direction, no crash; all answers right is finite."""
    shares, offset = a.mix(np.random.default_rng(2).normal(size=(30, 2)), np.ones(30))
    assert np.isfinite(shares).all()
    assert offset > 1.0


def test_anchors_are_spread_and_repeatable():
    """Every group is asked; the same rows, the same anchors; few rows are all taken."""
    rng = np.random.default_rng(3)
    signals = np.concatenate(
        [rng.normal(size=(300, 4)), rng.normal(size=(20, 4)) + 30.0, rng.normal(size=(20, 4)) - 30.0]
    )
    chosen = a.choose(signals, 60)
    assert len(chosen) == len(set(chosen.tolist())) == 60
    assert (chosen >= 300).sum() >= 10
    assert (chosen < 300).sum() >= 20
    assert np.array_equal(chosen, a.choose(signals, 60))
    assert a.choose(signals[:10], 60).tolist() == list(range(10))


def _specialists(count, seed):
    """Outcomes of eight models on two subjects: how good each is at either, and a word that is hard for all."""
    rng = np.random.default_rng(seed)
    skills = [(0.9, 0.3), (0.3, 0.9), (0.8, 0.8), (0.5, 0.5), (0.85, 0.4), (0.4, 0.8), (0.7, 0.65), (0.88, 0.35)]
    words = (
        ["onion", "garlic", "butter", "simmer", "roast", "oven", "dough"],
        ["wheel", "chain", "pedal", "brake", "saddle", "spoke", "tyre"],
    )
    prompts, scores, subjects = [], [], []
    for number in range(count):
        subject, knotty = number % 2, rng.random() < 0.3
        subjects.append(subject)
        prompts.append(
            " ".join(rng.choice(words[subject], 5).tolist()) + (" knotty" if knotty else " plain") + f" {number}"
        )
        scores.append([float(rng.random() < skill[subject] - 0.25 * knotty) for skill in skills])
    empty = np.full((count, 8), np.nan)
    return outcomes.Outcomes(
        ids=tuple(f"{seed}/{n}" for n in range(count)),
        prompts=tuple(prompts),
        languages=("en",) * count,
        categories=tuple(("cooking", "bicycles")[subject] for subject in subjects),
        sources=("",) * count,
        models=tuple("abcdefgh"),
        scores=np.array(scores),
        costs=empty,
        input_tokens=empty,
        output_tokens=empty,
    )


def test_150_anchors_come_close_to_the_full_fit():
    """The eighth model, placed by 150 answers among 600 rows, is predicted nearly as well as when fitted on all."""
    train, test = _specialists(600, 1), _specialists(600, 2)
    read, asked = reading.read_prompts(train.prompts), reading.read_prompts(test.prompts)
    full = fit.qualities(fit.fit(train, read).model, asked)[:, 7:]
    known = fit.fit(train.with_models("abcdefg"), read).model
    chosen = a.choose(
        np.array([known.signals(x, p, x.language)[0] for x, p in zip(read.features, read.posteriors, strict=True)])
    )
    placed = a.place(known, "h", read.take(chosen), train.scores[chosen, 7])
    given = fit.qualities(placed, asked)[:, 7:]
    assert len(chosen) == a.ANCHORS
    assert metrics.auc(test.scores[:, 7:], full) > 0.75
    assert metrics.auc(test.scores[:, 7:], given) > metrics.auc(test.scores[:, 7:], full) - 0.03
    assert metrics.log_loss(test.scores[:, 7:], given) < metrics.log_loss(test.scores[:, 7:], full) + 0.05
    before = np.full_like(given, train.scores[chosen, 7].mean())
    assert metrics.log_loss(test.scores[:, 7:], given) < metrics.log_loss(test.scores[:, 7:], before) - 0.05
