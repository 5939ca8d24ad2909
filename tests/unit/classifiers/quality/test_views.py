"""Tables, topics, factors and clusters: by hand where that goes, on the planted world where it doesn't."""

import numpy as np
import pytest
import scipy.sparse as sp

from classifiers.features import ROWS
from classifiers.quality import views as v
from classifiers.quality.reading import read_prompts
from classifiers.quality.ridge import Ridge
from classifiers.quality.signals import logit, sigmoid

NAN = np.nan


@pytest.fixture(scope="module")
def planted(world):
    """Matrix, scores and subjects of the planted world."""
    rows = world.planted(240, seed=5)
    matrix, _ = v.weighted(read_prompts([row["prompt"] for row in rows]).matrix())
    scores = np.array([[row["outcomes"][m]["score"] for m in world.costs] for row in rows])
    return Ridge(matrix), scores, [row["category"] for row in rows]


def test_gaps_are_filled_by_model_and_row():
    """Model means .5 and .75; the row did .5 better than usual on the known model, so .75 + .5, cut at 1."""
    found = v.fill(np.array([[1.0, NAN], [0.0, 0.75]]))
    assert found.means.tolist() == [0.5, 0.75]
    assert found.scores.tolist() == [[1.0, 1.0], [0.0, 0.75]]


def test_rare_buckets_are_out_and_common_ones_damped():
    """A bucket of one row weighs nothing, one of all rows 1, one of two in between above 1."""
    matrix = sp.csr_matrix((np.ones(7), ([0, 0, 1, 2, 0, 1, 2], [0, 1, 1, 1, 2, 2, 3])), shape=(3, ROWS))
    _, factors = v.weighted(matrix)
    assert factors[[0, 3]].tolist() == [0.0, 0.0]
    assert factors[1] == pytest.approx(1.0)
    assert factors[2] == pytest.approx(1.0 + np.log(4 / 3))


def test_a_table_cell_by_hand():
    """Two successes of two among 8 labels' worth of a mean of .5: (2 + 4) / 10 = .6, as a deviation in logits."""
    scores = np.array([[1.0], [1.0], [0.0], [0.0], [NAN]])
    members = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [1, 0]], dtype=float)
    found = v.shrunk_table(members, scores, labels=8.0)
    assert np.allclose(sigmoid(found[:, 0] + logit(np.array(0.5))), [0.6, 0.4])


def test_a_language_without_rows_takes_its_intent():
    """Cells shrink to the intent over all languages, and that to the model."""
    posteriors = np.eye(2)[[0, 0, 1, 1]]
    cells = np.eye(2)[[0, 0, 0, 0]]
    found = v.shrunk_cells(cells, posteriors, np.array([[1.0], [1.0], [0.0], [0.0]]))
    assert found.shape == (2, 2, 1)
    assert found[1, 0, 0] > 0.2 > -0.2 > found[1, 1, 0]
    assert found[0, 0, 0] > found[1, 0, 0], "the language with rows is surer"


def test_known_shares_by_hand():
    """Bucket 0 is in three rows, bucket 1 in one: a row doesn't vouch for itself, so two rows are one too few."""
    pair = sp.csr_matrix(np.array([[1.0], [1.0]]))
    assert v.known_shares(pair, np.arange(2), np.arange(2)).tolist() == [0.0, 0.0]
    matrix = sp.csr_matrix(np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 2.0], [0.0, 0.0]]))
    every = np.arange(4)
    assert v.known_shares(matrix, every, every).tolist() == [1.0, 1.0, 0.2, 0.0]
    assert v.known_shares(matrix, np.array([2]), np.array([0, 1])).tolist() == [0.2]
    assert v.known_shares(matrix, np.array([2]), np.array([0])).tolist() == [0.0]


def test_small_categories_are_one_topic():
    """Fewer than five rows, and no category at all, go together; one category tells nothing apart."""
    names, labels = v.topic_labels(["a"] * 6 + ["b"] * 5 + ["c"] * 2 + [""] * 3)
    assert names == ("a", "b", v.REST)
    assert np.bincount(labels).tolist() == [6, 5, 5]
    assert v.topic_labels(["a"] * 50) is None
    assert v.topic_labels([""] * 50) is None
    many, _ = v.topic_labels([f"c{n % 100:03d}" for n in range(600)])
    assert len(many) == v.TOPICS_MAX


def test_topics_are_recognised_without_the_row_itself(planted):
    """Unseen shares find the planted subject."""
    ridge, _, subjects = planted
    topics = v.fit_topics(ridge, *v.topic_labels(subjects))
    assert (topics.unseen_shares().argmax(axis=1) == topics.labels).mean() > 0.95
    assert np.allclose(topics.unseen_shares().sum(axis=1), 1.0)


def test_topics_of_noise_are_not_recognised(planted):
    """Labels by lot give shares near the prior: unseen means unseen."""
    ridge, _, subjects = planted
    mixed = np.random.default_rng(0).permutation(subjects).tolist()
    topics = v.fit_topics(ridge, *v.topic_labels(mixed))
    assert (topics.unseen_shares().argmax(axis=1) == topics.labels).mean() < 0.5


def test_factors_tell_the_models_apart(planted):
    """Deviations of the cheap models go up on their own subject, unseen."""
    ridge, scores, subjects = planted
    linear = v.fit_linear(ridge, v.fill(scores))
    found = linear.unseen @ linear.loadings
    cooking = np.array([name == "cooking" for name in subjects])
    assert found[cooking, 0].mean() > found[~cooking, 0].mean() + 0.3
    assert v.fit_linear(ridge, v.fill(scores[:20])) is None


def test_clusters_follow_the_texts(planted):
    """Most clusters hold one subject; shares are of unit sum; without categories they make the topics."""
    ridge, _, subjects = planted
    clusters = v.fit_clusters(ridge, 7)
    assert np.allclose(clusters.shares.sum(axis=1), 1.0)
    assert np.allclose((clusters.centroids**2).sum(axis=1), 1.0)
    assert np.allclose(ridge.outputs(clusters.weights), clusters.dense)
    names, labels = v.pseudo_topics(clusters, 7)
    purity = sum(
        max(np.bincount([sorted(set(subjects)).index(s) for s, x in zip(subjects, labels, strict=True) if x == n]))
        for n in range(len(names))
    )
    assert purity / len(subjects) > 0.6


def test_clusters_of_equal_texts():
    """Nothing to tell apart: one cluster, no warning, no topics."""
    matrix, _ = v.weighted(read_prompts(["the same words"] * 30).matrix())
    clusters = v.fit_clusters(Ridge(matrix), 7)
    assert len(clusters.centroids) == 1
    assert v.pseudo_topics(clusters, 7) is None
