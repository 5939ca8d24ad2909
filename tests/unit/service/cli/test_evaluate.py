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


def _outcomes(path, count=90, **changes):
    """Two models, two subjects: the cheap one is good at one of them."""
    words = ("onion garlic butter oven dough", "wheel chain pedal brake saddle")
    rows = []
    for number in range(count):
        subject = number % 2
        chances = {"cheap": 1.0 if subject == 0 or number % 10 == 1 else 0.0, "dear": 0.0 if number % 9 == 0 else 1.0}
        outcomes = {name: {"score": score, "cost_usd": None} for name, score in chances.items()}
        rows.append(
            {
                "id": f"r{number}",
                "category": str(subject),
                "language": "en",
                "prompt": f"{words[subject]} {number}",
                "outcomes": outcomes,
                **changes,
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_outcome_report_has_the_agreed_shape(tmp_path):
    """Exactly the agreed keys, costs from the price list, notes on stderr only."""
    prices = tmp_path / "prices.yaml"
    prices.write_text("models:\n  cheap: 1\n  dear: [10, 30]\n")
    done = coe("evaluate", "--outcomes", str(_outcomes(tmp_path / "rows.jsonl")), "--prices", str(prices), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report) == {
        "n_train",
        "n_test",
        "models",
        "best_single",
        "cheapest",
        "random",
        "oracle",
        "zero_router_aiq",
        "router",
        "controls",
    }
    assert report["models"] == ["cheap", "dear"]
    assert set(report["router"]) == {
        "aiq",
        "accuracy_max",
        "accuracy_at_best_single_cost",
        "saved_at",
        "validated",
        "apgr",
        "cpt50",
        "cpt80",
        "auc",
        "brier",
        "ece",
    }
    assert set(report["controls"]) == {
        "always_cheapest",
        "always_strongest",
        "best_fixed_mix",
        "length",
        "category_table",
        "tfidf_lr",
        "kmeans",
    }
    assert report["router"]["aiq"] > report["zero_router_aiq"]


def test_the_outcome_table_is_for_people(tmp_path):
    """Router and controls in a table; what is missing is said on stderr; TEST may be a file of its own."""
    train, test = (
        _outcomes(tmp_path / "a.jsonl"),
        _outcomes(tmp_path / "b.jsonl.gz".removesuffix(".gz"), 30, language="zh"),
    )
    done = coe("evaluate", "--outcomes", str(train), "--test", str(test))
    assert done.returncode == 0, done.stderr
    assert "always_cheapest" in done.stdout
    assert "no costs" in done.stderr
    assert "rows of TRAIN left out" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "either --intents"),
        (("--intents", "{rows}", "--outcomes", "{rows}"), "either --intents"),
        (("--intents", "{rows}", "--test", "{rows}"), "--test and --prices"),
        (("--outcomes", "{bad}"), "bad.jsonl:1"),
        (("--outcomes", "{rows}", "--prices", "{bad}"), "bad.jsonl"),
    ],
)
def test_wrong_use_is_64(arguments, words, tmp_path):
    """Options that don't go together, rows and prices that can't be read: named, never traced back."""
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"outcomes": "none"}\n')
    names = {"rows": str(_outcomes(tmp_path / "rows.jsonl")), "bad": str(bad)}
    done = coe("evaluate", *(argument.format(**names) for argument in arguments))
    assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (64, True, False), done.stderr
