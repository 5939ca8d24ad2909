"""Training end to end on a tiny file: deterministic bytes, a loadable artefact, an honest card."""

import json

import numpy as np
import pytest

from classifiers import IntentClassifier, artefact
from classifiers.corpus import folder_sha256
from classifiers.rows import RowError, file_sha256
from classifiers.taxonomy import HEADS, INTENTS
from classifiers.train import train

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


def _corpus(folder, worlds=("town", "farm")):
    """A small corpus of our own: a file per world and language, with difficulty, flags and a row that fits nothing."""
    folder.mkdir(exist_ok=True)
    for world in worlds:
        for spoken in ("en", "zh"):
            rows = [
                {
                    "id": f"{world}-{spoken}-{intent}-{topic}",
                    "source": f"{world}-{spoken}",
                    "language": spoken,
                    "turns": [f"{template.format(topic)} {world}"],
                    "intent": intent,
                    "difficulty": 4 if intent == "math" else 1,
                    "flags": ["math"] if intent == "math" else [],
                }
                for (intent, language), template in ASKED.items()
                if language == spoken
                for topic in TOPICS
            ]
            nothing = {"turns": ["??"], "intent": None, "difficulty": 1, "flags": []}
            rows.append({"id": f"{world}-{spoken}-none", "source": f"{world}-{spoken}", "language": spoken} | nothing)
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{world}-{spoken}.jsonl").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs on the same input, with the calls to progress of the first."""
    base = tmp_path_factory.mktemp("train")
    data, corpus, probe = base / "rows.jsonl", _corpus(base / "corpus"), base / "probe.jsonl"
    _write(data, ["Alpha/one", "Alpha/two", "Beta"])
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
    assert first.id == second.id == f"intent-v2@{file_sha256(base / 'first' / artefact.WEIGHTS_FILE)[:12]}"


def test_other_rows_other_bytes(made):
    """Positive control: the bytes do depend on the rows."""
    base, first, *_ = made
    other = train(_write(base / "other.jsonl", ["Alpha", "Gamma"]), base / "third", seed=5, corpus=base / "corpus")
    assert other.id != first.id
    assert "probe" not in other.figures


def test_the_corpus_alone_is_enough(made):
    """Whoever has no public rows can make the artefact from what the project ships."""
    base = made[0]
    alone = train(None, base / "alone", seed=5, corpus=base / "corpus")
    classifier = IntentClassifier.load(base / "alone")
    assert classifier.predict([("user", "translate the harbour into french")]).label == "translation"
    assert alone.manifest["data"]["sha256"] is None
    assert "| Alpha" not in (base / "alone" / artefact.CARD_FILE).read_text(encoding="utf-8")


def test_the_artefact_works(made):
    """What was trained loads and has learned: intents, how hard, flags."""
    classifier = IntentClassifier.load(made[0] / "first")
    assert classifier.predict([("user", "translate the harbour into french")]).label == "translation"
    sums = classifier.predict([("user", "计算台阶的和等于多少")])
    poem = classifier.predict([("user", "写一首关于台阶的诗")])
    assert sums.label == "math"
    assert sums.difficulty > poem.difficulty + 1
    assert "math" in sums.flags
    assert "math" not in poem.flags


def test_the_manifest_says_what_went_in(made):
    """Hash of the data, counts, seed, versions, labels, heads, calibration."""
    base = made[0]
    manifest = json.loads((base / "first" / artefact.MANIFEST_FILE).read_text())
    assert manifest["data"]["sha256"] == file_sha256(base / "rows.jsonl")
    assert manifest["data"]["corpus_sha256"] == folder_sha256(base / "corpus")
    assert manifest["data"]["counts"]["source_language"] == {
        "Alpha en": 48,
        "Alpha zh": 48,
        "Beta en": 24,
        "Beta zh": 24,
    }
    assert manifest["data"]["corpus_counts"]["source_language"]["coe-town zh"] == 24
    assert manifest["seed"] == 5
    assert manifest["labels"] == list(INTENTS)
    assert manifest["heads"] == list(HEADS)
    assert manifest["versions"]["numpy"] == np.__version__


def test_the_card_tells_figures_and_holes(made):
    """Left-out figures, what was tried, sources, holes; no prompt of the rows."""
    card = (made[0] / "first" / artefact.CARD_FILE).read_text(encoding="utf-8")
    for words in (
        "source left out",
        "public sources, each left out",
        "own worlds, each left out",
        "public rows alone, judged on the own corpus",
        "own corpus alone, judged on the public rows",
        "did not help",
        "Known holes",
        "own probe, small",
        "Alpha | not recorded",
        "coe-town",
        "keywords",
        "Difficulty in worlds left out",
    ):
        assert words in card
    assert "harbour" not in card
    assert "solve the equation" not in card


def test_progress_reaches_its_ends(made):
    """Every phase says that it is done."""
    calls = made[3]
    finished = [label for done, total, label in calls if done == total]
    assert finished == ["sources left out", "final fit"]
    assert any("without Alpha" in label for _, _, label in calls)


def test_uncertain_rows_are_dropped(tmp_path):
    """Rows with an uncertain label don't train; with nothing else left, that is said."""
    data = _write(tmp_path / "low.jsonl", ["Alpha", "Beta"], low=True)
    with pytest.raises(ValueError, match="two source groups"):
        train(data, tmp_path / "out", seed=1, corpus=_corpus(tmp_path / "corpus", worlds=("town",)))


def test_a_bad_file_is_said_before_any_work(tmp_path):
    """With its line."""
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n")
    with pytest.raises(RowError, match=r"rows\.jsonl:1"):
        train(path, tmp_path / "out", seed=1)
