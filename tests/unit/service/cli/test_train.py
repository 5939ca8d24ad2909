"""`coe train`: rows in, an artefact out that loads and predicts; and what it says to bad input."""

from __future__ import annotations

import gzip
import json

import pytest
from stage import ROOT, coe

from classifiers import IntentClassifier
from classifiers.quality import load


def _small_corpus(folder):
    """Two worlds of the probe's prompts: enough to fit and judge something, quick to do so."""
    folder.mkdir()
    probe = (ROOT / "tests" / "fixtures" / "intent_probe.jsonl").read_text(encoding="utf-8")
    worlds = {}
    for number, line in enumerate(probe.splitlines()):
        row = json.loads(line)
        if row["intent"] == "compound":
            continue
        world = f"{('town', 'farm')[number // 2 % 2]}-{row['language']}"
        worlds.setdefault(world, []).append(
            {
                "id": f"{world}-{number}",
                "source": world,
                "language": row["language"],
                "turns": [row["prompt"]],
                "intent": row["intent"],
                "difficulty": 1 + number % 5,
                "flags": ["code"] if row["intent"] == "coding" else [],
            }
        )
    for world, rows in worlds.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{world}.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_an_artefact_comes_out(tmp_path):
    """The probe's rows, dealt out as three sources, give an artefact with card and manifest that answers."""
    rows = tmp_path / "rows.jsonl"
    probe = (ROOT / "tests" / "fixtures" / "intent_probe.jsonl").read_text(encoding="utf-8")
    with rows.open("w", encoding="utf-8") as sink:
        for number, line in enumerate(probe.splitlines()):
            row = json.loads(line)
            sink.write(json.dumps({**row, "source": f"s{number % 3}/part", "map_conf": "high"}) + "\n")
    out = tmp_path / "artefact"
    done = coe("train", "--data", str(rows), "--corpus", str(_small_corpus(tmp_path / "own")), "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {"weights.npz", "manifest.json", "CARD.md"}
    assert IntentClassifier.load(out).predict([("user", "hello!")]).label


def test_bad_rows_are_named(tmp_path):
    """Exit 64 with the line; no traceback."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n")
    done = coe("train", "--data", str(rows), "--out", str(tmp_path / "out"))
    assert (done.returncode, "rows.jsonl:1" in done.stderr, "Traceback" in done.stderr) == (64, True, False), (
        done.stderr
    )


@pytest.mark.parametrize("damage", ["plain", "cut"])
def test_a_damaged_archive_is_64(damage, tmp_path):
    """Not gzip at all, or cut off: the file is named, nothing is traced back."""
    rows = tmp_path / "bad.jsonl.gz"
    whole = gzip.compress((ROOT / "tests" / "fixtures" / "intent_probe.jsonl").read_bytes())
    rows.write_bytes(b"plain text\n" if damage == "plain" else whole[: len(whole) // 2])
    done = coe("train", "--data", str(rows), "--out", str(tmp_path / "out"))
    assert done.returncode == 64, done.stderr
    assert done.stderr.startswith("coe: bad.jsonl.gz: damaged")
    assert "Traceback" not in done.stderr


def _outcomes(path, count=120):
    """Three models on two subjects."""
    words = ("onion garlic butter oven dough", "wheel chain pedal brake saddle")
    with path.open("w", encoding="utf-8") as sink:
        for number in range(count):
            subject = number % 2
            scores = {"cook": 1.0 - subject, "bike": float(subject), "big": float(number % 7 > 0)}
            outcomes = {
                name: {"score": score, "cost_usd": 0.1 if name == "big" else 0.01} for name, score in scores.items()
            }
            sink.write(
                json.dumps({"id": f"r{number}", "prompt": f"{words[subject]} {number}", "outcomes": outcomes}) + "\n"
            )
    return path


def test_a_quality_model_comes_out(tmp_path):
    """Outcomes give an artefact with card and manifest that answers."""
    done = coe("train", "--outcomes", str(_outcomes(tmp_path / "rows.jsonl")), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"weights.npz", "manifest.json", "CARD.md"}
    assert load(tmp_path / "out").models == ("big", "bike", "cook")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "either --data"),
        (("--data", "{rows}", "--outcomes", "{rows}"), "either --data"),
        (("--data", "{rows}", "--prices", "{rows}"), "--test and --prices"),
        (("--outcomes", "{rows}", "--probe", "{rows}"), "--corpus and --probe"),
        (("--outcomes", "{few}"), "few.jsonl"),
    ],
)
def test_wrong_use_is_64(arguments, words, tmp_path):
    """Options that don't go together, rows that don't suffice."""
    few = tmp_path / "few.jsonl"
    few.write_text('{"prompt": "x", "outcomes": {"a": {"score": 2}}}\n')
    names = {"rows": str(_outcomes(tmp_path / "rows.jsonl")), "few": str(few)}
    done = coe("train", "--out", str(tmp_path / "o"), *(argument.format(**names) for argument in arguments))
    assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (64, True, False), done.stderr
