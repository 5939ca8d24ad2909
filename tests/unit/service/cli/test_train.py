"""`coe train`: rows in, an artefact out that loads and predicts; and what it says to bad input."""

from __future__ import annotations

import gzip
import json

import pytest
from stage import ROOT, coe

from classifiers import IntentClassifier


def test_an_artefact_comes_out(tmp_path):
    """The probe's rows, dealt out as three sources, give an artefact with card and manifest that answers."""
    rows = tmp_path / "rows.jsonl"
    probe = (ROOT / "tests" / "fixtures" / "intent_probe.jsonl").read_text(encoding="utf-8")
    with rows.open("w", encoding="utf-8") as sink:
        for number, line in enumerate(probe.splitlines()):
            row = json.loads(line)
            sink.write(json.dumps({**row, "source": f"s{number % 3}/part", "map_conf": "high"}) + "\n")
    out = tmp_path / "artefact"
    done = coe("train", "--data", str(rows), "--out", str(out))
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
