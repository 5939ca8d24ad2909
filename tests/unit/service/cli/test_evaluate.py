"""`coe evaluate`: the report's shape, the table, and what it says to bad input."""

from __future__ import annotations

import gzip
import json

import pytest
from stage import ROOT, coe

PROBE = ROOT / "tests" / "fixtures" / "intent_probe.jsonl"


def test_the_report_has_the_agreed_shape():
    """overall, en, zh with their measures; a confusion matrix whose sum is n."""
    done = coe("evaluate", "--intents", str(PROBE), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report) == {"overall", "en", "zh", "confusion"}
    for part in ("overall", "en", "zh"):
        assert set(report[part]) == {"n", "accuracy", "macro_f1", "ece", "coverage", "accuracy_covered"}
    assert sum(map(sum, report["confusion"]["matrix"])) == report["overall"]["n"] == len(PROBE.read_text().splitlines())
    assert len(report["confusion"]["labels"]) == 15


def test_the_table_is_for_people():
    """A table with both languages and the commonest confusions."""
    done = coe("evaluate", "--intents", str(PROBE))
    assert "accuracy_covered" in done.stdout
    assert "→" in done.stdout


@pytest.mark.parametrize(
    ("content", "words"), [("", "no rows"), ("not json\n", "not JSON"), ('{"prompt": 1}\n', "prompt")]
)
def test_bad_rows_are_named(content, words, tmp_path):
    """Exit 64 with the line; no traceback."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(content)
    done = coe("evaluate", "--intents", str(rows))
    assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (64, True, False), done.stderr


@pytest.mark.parametrize("damage", ["plain", "cut"])
def test_a_damaged_archive_is_64(damage, tmp_path):
    """Not gzip at all, or cut off: the file is named, nothing is traced back."""
    rows = tmp_path / "bad.jsonl.gz"
    whole = gzip.compress((ROOT / "tests" / "fixtures" / "intent_probe.jsonl").read_bytes())
    rows.write_bytes(b"plain text\n" if damage == "plain" else whole[: len(whole) // 2])
    done = coe("evaluate", "--intents", str(rows))
    assert done.returncode == 64, done.stderr
    assert done.stderr.startswith("coe: bad.jsonl.gz: damaged")
    assert "Traceback" not in done.stderr
