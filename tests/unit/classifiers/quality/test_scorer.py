"""The run-time form: every signal where it belongs, priors by the labels they are worth, nothing imported to serve."""

import subprocess
import sys

import numpy as np
import pytest
from stage import ROOT

from classifiers import kernel
from classifiers.features import extract
from classifiers.language import LANGUAGES
from classifiers.quality import scorer
from classifiers.quality.signals import (
    FAMILIAR,
    QUALITY_MIN,
    cluster_shares,
    familiar_signs,
    from_prior,
    sigmoid,
    topic_shares,
)
from classifiers.taxonomy import INTENTS
from classifiers.turns import select

EVEN = np.full(len(INTENTS), 1.0 / len(INTENTS))


def _shape(**changes):
    base = {"topics": 2, "linear": 1, "dense": 2, "clusters": 2, "temperature": 5.0, "sharpness": 4.0}
    gates = {"gate_low": -1e9, "gate_high": -1e8, "known_low": -1e9, "known_high": -1e8, "margin": 0.0}
    return scorer.Shape(**{**base, **gates, **changes})


def _model(shape=None, seed=0, labels=(100.0, 100.0, 100.0)):
    """Random weights over the buckets of a few words, three models."""
    shape = shape or _shape()
    rng = np.random.default_rng(seed)
    buckets = np.unique(extract("simmer the onion slowly with butter").buckets).astype(np.int32)
    outputs = shape.topics + shape.linear + shape.dense
    arrays = scorer.Arrays(
        buckets=buckets,
        codes=rng.integers(-127, 128, (len(buckets), outputs), dtype=np.int8),
        scales=rng.random(len(buckets), dtype=np.float32) / 50,
        mixing=np.eye(outputs, dtype=np.float32),
        topic_prior=np.log(np.array([0.6, 0.4, 0.3], dtype=np.float32)[: shape.topics]),
        topic_typical=np.array([0.5, 0.4, 0.7], dtype=np.float32)[: shape.topics],
        familiar=rng.normal(size=FAMILIAR + 1).astype(np.float32),
        centroids=np.eye(max(shape.clusters, shape.dense), dtype=np.float32)[: shape.clusters, : shape.dense],
        table=rng.normal(size=(shape.count, 3)).astype(np.float32),
        base=np.array([0.5, 0.0, -0.5], dtype=np.float32),
        labels=np.array(labels, dtype=np.float32),
    )
    return scorer.QualityModel(["a", "b", "c"], shape, arrays)


def _read(text="simmer the onion slowly with butter"):
    return extract(select(text))


def test_it_is_the_formula():
    """The base + known * signals @ table, worked out from the signals by plain NumPy."""
    model, features = _model(), _read()
    found, known, trust = model.signals(features, EVEN, "zh")
    assert (known, trust) == (1.0, 1.0)
    at = 2 + 1 + 2 + LANGUAGES.index("zh") * len(INTENTS)
    assert np.allclose(found[at : at + len(INTENTS)], EVEN)
    assert found[5:].sum() == pytest.approx(1.0), "no other language may speak"
    assert found[:2].sum() == pytest.approx(1.0)
    assert found[3:5].sum() == pytest.approx(1.0)
    expected = model.arrays.base + found @ model.arrays.table
    assert np.allclose(model.qualities(features, EVEN, "zh"), sigmoid(expected), atol=1e-6)


def test_the_point_is_the_weighted_sum_of_rows():
    """Sum of value * scale * code over known buckets; the known share is of squared length."""
    model, features = _model(), _read("simmer the quokka")
    place = {bucket: slot for slot, bucket in enumerate(model.arrays.buckets.tolist())}
    total, mass = np.zeros(5), 0.0
    for bucket, value in zip(features.buckets.tolist(), features.values.tolist(), strict=True):
        if bucket in place:
            slot = place[bucket]
            total += value * model.arrays.scales[slot] * model.arrays.codes[slot]
            mass += value**2
    point, share = model.point(features)
    assert np.allclose(point, total, atol=1e-5)
    assert share == pytest.approx(mass / float((features.values**2).sum()), rel=1e-5)
    assert 0.0 < share < 1.0


def test_the_short_way_to_signals_is_the_long_one():
    """Topic and cluster shares of one prompt equal the bulk formulas; linear scores are as they come."""
    model, features = _model(), _read()
    point = np.array(model.point(features)[0])
    found, _, _ = model.signals(features, EVEN, "en")
    assert np.allclose(found[:2], topic_shares(point[:2], model.arrays.topic_prior.astype(float), 5.0))
    assert found[2] == point[2]
    assert np.allclose(found[3:5], cluster_shares(point[3:], model.arrays.centroids.astype(float), 4.0))


def test_the_short_way_to_familiarity_is_the_long_one():
    """One prompt's gate equals the bulk formula that the gate was fitted with."""
    low, high = -50.0, 50.0
    features, mixed = _read(), 0
    for seed in range(12):
        model = _model(_shape(gate_low=low, gate_high=high), seed=seed)
        point = np.array(model.point(features)[0])
        signs = familiar_signs(
            point[:2], model.arrays.topic_prior.astype(float), model.arrays.topic_typical.astype(float), 5.0, point[3:]
        )
        known = signs @ model.arrays.familiar[:-1] + model.arrays.familiar[-1]
        _, counts, trust = model.signals(features, EVEN, "en")
        assert counts == 1.0, "the gate is about trust only"
        assert trust == pytest.approx(np.clip((known - low) / 100.0, 0, 1), abs=1e-6)
        mixed += min(point[:2]) < 0.0 < max(point[:2])
    assert mixed, "scores of both signs were among them"


@pytest.mark.skipif(
    kernel.STATE != kernel.COMPILED, reason="no compiled kernel here: Python judges, nothing to compare"
)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gate_low": -50.0, "gate_high": 50.0},
        {"gate_low": -2.0, "gate_high": 2.0, "known_low": 0.1, "known_high": 0.9},
        {"known_low": 2.0, "known_high": 3.0},
        {"topics": 3, "dense": 4, "clusters": 5, "gate_low": -50.0, "gate_high": 50.0},
        {"topics": 1, "gate_low": -50.0, "gate_high": 50.0},
        {"topics": 0},
        {"clusters": 0},
        {"linear": 0, "dense": 0, "clusters": 0},
    ],
)
def test_the_kernel_gives_what_python_gives(changes, monkeypatch):
    """Logits and trust of every language, with the gate open, half open and shut, but for the last bits of a sum."""
    texts = ("simmer the onion slowly with butter", "simmer the quokka", "zzyzx", "慢慢炖洋葱 with butter", "?!")
    for seed in range(12):
        model = _model(_shape(**changes), seed=seed)
        told = [(_read(text), EVEN, language) for text in texts for language in (*LANGUAGES, "tlh")]
        assert model._compiled is not None
        compiled = [model.logits(*one) for one in told]
        monkeypatch.setattr(model, "_compiled", None)
        for one, (logits, trust) in zip(told, compiled, strict=True):
            again, same = model.logits(*one)
            assert logits == pytest.approx(again, rel=1e-5, abs=1e-6)
            assert trust == pytest.approx(same, rel=1e-5, abs=1e-6)


def test_unknown_ground_leaves_the_base():
    """Words that nobody knows: every model keeps what it is worth overall."""
    model = _model(_shape(known_low=0.5, known_high=0.9))
    assert np.allclose(model.qualities(_read("quokka zzyzx"), EVEN, "en"), sigmoid(np.array([0.5, 0.0, -0.5])))
    assert not np.allclose(model.qualities(_read(), EVEN, "en"), sigmoid(np.array([0.5, 0.0, -0.5])))


def test_without_trust_the_best_single_model_stays_the_best():
    """The gate shut: logits as learned, but no model above the incumbent; those below it are left alone."""
    features, beaten = _read(), 0
    for seed in range(30):
        trusted, strange = _model(seed=seed), _model(_shape(gate_low=1e8, gate_high=1e9), seed=seed)
        logits, trust = strange.logits(features, EVEN, "en")
        assert np.array_equal(logits, trusted.logits(features, EVEN, "en")[0])
        assert trust == 0.0
        given, free = strange.qualities(features, EVEN, "en"), trusted.qualities(features, EVEN, "en")
        assert given.argmax() == 0
        below = logits <= logits[0]
        assert np.array_equal(given[below], free[below])
        beaten += int(free.argmax() != 0)
    assert beaten > 5, "with trust the incumbent is beaten now and then"


def test_a_prior_counts_as_so_many_labels():
    """Without labels the prior alone; with `PRIOR_LABELS` labels the mean; with many it hardly moves anything."""
    priors = np.full((3, len(INTENTS)), 0.9)
    features = _read()
    plain = _model().logits(features, EVEN, "en")[0]
    told = from_prior(EVEN, priors)
    none = _model(labels=(0.0, 0.0, 0.0)).qualities(features, EVEN, "en", priors)
    assert np.allclose(none, 0.9)
    same = _model(labels=(scorer.PRIOR_LABELS,) * 3).qualities(features, EVEN, "en", priors)
    assert np.allclose(same, sigmoid((plain + told) / 2), atol=1e-6)
    many = _model(labels=(1e9,) * 3).qualities(features, EVEN, "en", priors)
    assert np.allclose(many, _model().qualities(features, EVEN, "en"), atol=1e-5)


def test_any_prompt_is_answered():
    """Empty, Chinese, other languages, unknown language names: finite and within bounds."""
    model = _model()
    for text in ("", " ", "你好", "почему", "x" * 100_000):
        found = model.qualities(_read(text), EVEN, "klingon")
        assert found.shape == (3,)
        assert (found >= QUALITY_MIN - 1e-12).all()
        assert np.isfinite(found).all()


def test_the_margin_protects_the_incumbent():
    """The model with the highest base is left for a clear advantage only."""
    features = _read()
    for seed in range(30):
        logits = _model(seed=seed).logits(features, EVEN, "en")[0]
        kept = _model(_shape(margin=1e6), seed=seed).qualities(features, EVEN, "en")
        assert kept[0] >= kept.max() - 1e-9
        assert _model(seed=seed).qualities(features, EVEN, "en").argmax() == logits.argmax()


def test_one_model_more_is_a_mix_of_the_others():
    """Its logit is the offset plus the mixed logits, on known and on unknown ground; a taken name is refused."""
    model, features = _model(), _read()
    more = model.with_model("d", np.array([0.5, 0.25, 0.25]), 0.3, 150)
    for read in (features, _read("quokka")):
        known, found = model.logits(read, EVEN, "en")[0], more.logits(read, EVEN, "en")[0]
        assert found[3] == pytest.approx(0.3 + known @ [0.5, 0.25, 0.25], abs=1e-5)
        assert np.allclose(found[:3], known)
    assert more.models == ("a", "b", "c", "d")
    assert more.arrays.labels[3] == 150
    with pytest.raises(ValueError, match="'a'"):
        model.with_model("a", np.ones(3), 0.0, 1)


def test_priors_follow_the_registry():
    """A number per intent, or the default; a model that is missing is an error."""
    found = scorer.priors_of(["a"], {"a": {"default": 0.7, "coding": 0.9}})
    assert found.shape == (1, len(INTENTS))
    assert found[0, INTENTS.index("coding")] == 0.9
    assert found[0, 0] == 0.7
    with pytest.raises(KeyError):
        scorer.priors_of(["b"], {})


def test_the_same_prompt_gives_the_same_bits():
    """Another process would, too: no state in between."""
    first, second = _model(), _model()
    features = _read()
    for _ in range(3):
        assert first.qualities(features, EVEN, "en").tobytes() == second.qualities(features, EVEN, "en").tobytes()


def test_serving_needs_numpy_only():
    """Importing the package loads neither scikit-learn nor SciPy."""
    code = "import sys, classifiers.quality; print(sorted(m for m in ('sklearn', 'scipy', 'yaml') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_appraisal_says_how_much_trust_is_due():
    """The qualities of `qualities`, and from 0 to 1 how well the ground is known."""
    model = _model(_shape(known_low=0.1, known_high=0.9))
    qualities, trust = model.appraise(_read(), EVEN, "en")
    assert qualities.tolist() == model.qualities(_read(), EVEN, "en").tolist()
    assert trust == 1.0
    assert model.appraise(_read("zxqv wuppertal 12345"), EVEN, "en")[1] == 0.0


def test_some_of_the_models_are_judged_as_among_all():
    """In the order asked for; without a margin nobody depends on who else is there."""
    whole = _model()
    some = whole.of_models(("c", "a"))
    every = dict(zip(whole.models, whole.qualities(_read(), EVEN, "en").tolist(), strict=True))
    assert some.qualities(_read(), EVEN, "en").tolist() == [every["c"], every["a"]]
    assert (some.models, some.id) == (("c", "a"), whole.id)
    for names in ((), ("a", "gone")):
        with pytest.raises(ValueError, match="the artefact has no"):
            whole.of_models(names)
