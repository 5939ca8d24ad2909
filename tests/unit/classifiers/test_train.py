"""Training end to end on a tiny file: deterministic bytes, a loadable artefact, an honest card."""

import json

import numpy as np
import pytest

from classifiers import IntentClassifier, artefact
from classifiers.rows import Row, RowError, file_sha256
from classifiers.taxonomy import INDEX, INTENTS
from classifiers.train import corpus_folds, train

TOPICS = ("cat", "river", "moon", "garden", "engine", "市场", "天气", "花园")
ASKED = {
    ("translation", "en"): "translate {} into french",
    ("translation", "zh"): "把{}翻译成英文",
    ("math", "en"): "solve the equation with {} apples",
    ("math", "zh"): "计算{}的和等于多少",
    ("writing", "en"): "write a poem about {}",
    ("writing", "zh"): "写一首关于{}的诗",
}


def _write(path, sources, *, low=False):
    with path.open("w", encoding="utf-8") as stream:
        for source in sources:
            for (intent, language), template in ASKED.items():
                for topic in TOPICS:
                    row = {
                        "id": "x",
                        "source": source,
                        "language": language,
                        "prompt": f"{template.format(topic)} ({source})",
                        "intent": intent,
                    }
                    stream.write(json.dumps(row | ({"map_conf": "low"} if low else {}), ensure_ascii=False) + "\n")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs on the same input, with the calls to progress of the first."""
    base = tmp_path_factory.mktemp("train")
    data, corpus, probe = base / "rows.jsonl", base / "corpus.jsonl", base / "probe.jsonl"
    _write(data, ["Alpha/one", "Alpha/two", "Beta"])
    _write(corpus, ["coe-seed"])
    _write(probe, ["probe"])
    calls = []
    first = train(data, base / "first", seed=5, corpus=corpus, probe=probe, progress=lambda *call: calls.append(call))
    second = train(data, base / "second", seed=5, corpus=corpus, probe=probe)
    return base, first, second, calls


def test_same_input_same_bytes(made):
    """weights.npz and the manifest of two runs are equal to the byte; the id is the hash."""
    base, first, second, _ = made
    for name in (artefact.WEIGHTS_FILE, artefact.MANIFEST_FILE):
        assert (base / "first" / name).read_bytes() == (base / "second" / name).read_bytes()
    assert first.id == second.id == f"intent-v1@{file_sha256(base / 'first' / artefact.WEIGHTS_FILE)[:12]}"


def test_other_rows_other_bytes(made):
    """Positive control: the bytes do depend on the rows."""
    base, first, *_ = made
    other = train(
        _write(base / "other.jsonl", ["Alpha", "Gamma"]), base / "third", seed=5, corpus=base / "corpus.jsonl"
    )
    assert other.id != first.id
    assert "probe" not in other.figures


def test_the_artefact_works(made):
    """What was trained loads and has learned."""
    classifier = IntentClassifier.load(made[0] / "first")
    assert classifier.predict([("user", "translate the harbour into french")]).label == "translation"
    assert classifier.predict([("user", "计算台阶的和等于多少")]).label == "math"


def test_the_manifest_says_what_went_in(made):
    """Hash of the data, counts, seed, versions, labels, calibration."""
    base = made[0]
    manifest = json.loads((base / "first" / artefact.MANIFEST_FILE).read_text())
    assert manifest["data"]["sha256"] == file_sha256(base / "rows.jsonl")
    assert manifest["data"]["corpus_sha256"] == file_sha256(base / "corpus.jsonl")
    assert manifest["data"]["counts"]["source_language"] == {
        "Alpha en": 48,
        "Alpha zh": 48,
        "Beta en": 24,
        "Beta zh": 24,
    }
    assert manifest["seed"] == 5
    assert manifest["labels"] == list(INTENTS)
    assert manifest["versions"]["numpy"] == np.__version__


def test_the_card_tells_figures_and_holes(made):
    """Left-out figures, the flattering one named as such, sources, holes; no prompt of the rows."""
    card = (made[0] / "first" / artefact.CARD_FILE).read_text(encoding="utf-8")
    for words in (
        "source left out",
        "This number flatters",
        "Known holes",
        "own probe, small",
        "Alpha | not recorded",
        "keywords",
    ):
        assert words in card
    assert "harbour" not in card
    assert "solve the equation" not in card


def test_progress_reaches_its_ends(made):
    """Every phase says that it is done."""
    calls = made[3]
    finished = [label for done, total, label in calls if done == total]
    assert finished == ["sources left out", "corpus folds", "final fit"]
    assert ("without Alpha" in label for _, _, label in calls)


def test_uncertain_rows_are_dropped(tmp_path):
    """Rows with an uncertain label don't train; with nothing else left, that is said."""
    data = _write(tmp_path / "low.jsonl", ["Alpha", "Beta"], low=True)
    with pytest.raises(ValueError, match="two source groups"):
        train(data, tmp_path / "out", seed=1, corpus=_write(tmp_path / "corpus.jsonl", ["coe-seed"]))


def test_a_bad_file_is_said_before_any_work(tmp_path):
    """With its line."""
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n")
    with pytest.raises(RowError, match=r"rows\.jsonl:1"):
        train(path, tmp_path / "out", seed=1)


def test_a_corpus_row_is_never_judged_by_a_model_that_saw_it():
    """Folds are disjoint, cover everything, and each model saw all other sources."""
    corpus = [Row(str(n), "coe-seed", "en", f"prompt {n}", INTENTS[n % 3]) for n in range(31)]
    others = [Row("o", "A", "en", "other", "math")]
    fits = []

    class Model:
        def logits(self, prompts):
            seen = {row.prompt for row in fits[-1]}
            assert not seen & set(prompts)
            assert "other" in seen
            return np.ones((len(prompts), len(INTENTS)))

    def fit(rows):
        fits.append(rows)
        return Model()

    judged = corpus_folds(corpus, fit, others, 1, None)
    assert judged.logits.all()
    assert len(fits) == 5
    corpus_folds(corpus, fit, others, 1, None)
    corpus_folds(corpus, fit, others, 2, None)
    assert fits[:5] == fits[5:10], "the same seed gave other folds"
    assert fits[:5] != fits[10:], "another seed gave the same folds"
    assert judged.true.tolist() == [INDEX[row.intent] for row in corpus]
