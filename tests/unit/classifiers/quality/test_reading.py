"""A prompt is read as the service would read it."""

import numpy as np

from classifiers import IntentClassifier
from classifiers.features import ROWS, extract
from classifiers.quality.reading import read_prompts
from classifiers.taxonomy import INTENTS
from classifiers.turns import select

PROMPTS = ("Translate this into French: good morning", "写一首关于秋天的诗", "x " * 5_000)


def test_features_are_those_of_the_service():
    """The same selection, the same buckets; the size is of the whole prompt."""
    found = read_prompts(PROMPTS)
    for features, prompt in zip(found.features, PROMPTS, strict=True):
        wanted = extract(select(prompt))
        assert np.array_equal(features.buckets, wanted.buckets)
        assert features.language == wanted.language
    assert found.sizes.tolist() == [len(prompt) for prompt in PROMPTS]
    assert np.allclose(found.posteriors, 1.0 / len(INTENTS))


def test_the_posterior_is_the_classifiers():
    """In the order of `INTENTS`."""
    classifier = IntentClassifier.load()
    found = read_prompts(PROMPTS[:1], classifier)
    wanted, features = classifier.read([("user", PROMPTS[0])])
    assert np.array_equal(found.features[0].buckets, features.buckets)
    assert found.posteriors[0].tolist() == list(wanted.posterior.values())
    assert INTENTS[int(found.posteriors[0].argmax())] == wanted.label


def test_the_matrix_adds_up_what_occurs_twice():
    """One row per prompt; a bucket's value is the sum of its values."""
    found = read_prompts(PROMPTS)
    matrix = found.matrix()
    assert matrix.shape == (3, ROWS)
    wanted = np.zeros(ROWS)
    np.add.at(wanted, found.features[2].buckets, found.features[2].values)
    assert np.allclose(matrix[2].toarray()[0], wanted)
    assert np.allclose(found.take(np.array([2])).matrix().toarray(), matrix[2].toarray())


def test_progress_is_told():
    """The last call says all is done."""
    told = []
    read_prompts(PROMPTS, progress=lambda done, total, label: told.append((done, total, label)), label="reading X")
    assert told == [(3, 3, "reading X")]
