"""The card is made of figures: it changes with them and hides none."""

import re
from pathlib import Path

import classifiers
from classifiers import IntentClassifier
from classifiers.card import render
from classifiers.timing import Timing
from classifiers.train import _counts

SHIPPED = Path(classifiers.__file__).parent / "artefacts" / "intent-v2" / "CARD.md"


def _part(n, accuracy):
    return {"n": n, "accuracy": accuracy, "macro_f1": 0.5, "ece": 0.25, "coverage": None, "accuracy_covered": None}


def _report(accuracy):
    return {"overall": _part(10, accuracy), "en": _part(10, accuracy), "zh": _part(0, None)}


def _figures(accuracy):
    names = ("left_out", "left_out_plain", "left_out_public", "left_out_own", "majority", "keywords")
    return {
        **{name: _report(accuracy) for name in names},
        "left_out_cost": {"strong_to_cheap": 0.125, "cheap_to_strong": None},
        "groups": [
            {"group": "MMLU", "n": 10, "accuracy": accuracy, "macro_f1": 0.5, "known_n": 0, "known_accuracy": None}
        ],
        "across": [{"name": "public rows alone", **_report(0.99)}, {"name": "nothing", "overall": {"n": 0}}],
        "own_accepted": 0.875,
        "unfit": {"n": 12, "abstained": 0.75},
        "heads": {"difficulty_correlation": 0.625, "code": {"n": 8, "recall": 0.5, "precision": 1.0}},
        "timings": (Timing("en", 2_000, 123.4, 456.7, 98.6, 210.1),),
    }


MANIFEST = {
    "seed": 9,
    "temperatures": {"en": 1.5},
    "thresholds": {"en": 0.625},
    "versions": {"numpy": "1", "scipy": "2", "scikit-learn": "3"},
    "solver": {"rows": 1234, "rows_per_cell": 40, "corpus_mass": 10.0, "members": 3, "copies": 2},
    "data": {"sha256": "a" * 64, "corpus_sha256": "b" * 64, "counts": _counts([]), "corpus_counts": _counts([])},
}


def test_figures_appear_as_they_are():
    """Three digits, a dash for what could not be computed, no line for a language without rows."""
    card = render("intent-x@123", MANIFEST, _figures(0.4567))
    assert card.startswith("# intent-x@123\n")
    assert "| source left out, overall | 10 | 0.457 | 0.500 | 0.250 | – | – |" in card
    assert "| source left out, zh" not in card
    assert "| MMLU | 10 | 0.457 | 0.500 | 0 | – |" in card
    assert "0.125 of the strong-tier" in card
    assert "| en, 2,000 characters | 123 | 457 | 99 | 210 |" in card
    assert "1,234 rows" in card


def test_every_kind_of_figure_has_its_line():
    """What one kind of rows teaches about the other, accepted intents, abstentions, heads; nothing over no rows."""
    card = render("i", MANIFEST, _figures(0.4))
    assert "| public rows alone, overall | 10 | 0.990 |" in card
    assert "nothing, overall" not in card
    assert "0.875 of the own rows" in card
    assert "Of 12 own prompts" in card
    assert "correlation 0.625" in card
    assert "| code | 8 | 0.500 | 1.000 |" in card


def test_the_shipped_card_is_of_the_shipped_weights():
    """A card of another training run would be a lie."""
    card = SHIPPED.read_text(encoding="utf-8")
    assert card.splitlines()[0] == f"# {IntentClassifier.load().id}"
    for group in ("MMLU", "LawBench", "clinc-oos"):
        assert re.search(rf"^\| {group} \| (MIT|Apache|CC BY)", card, re.MULTILINE)
    assert "own probe, small" in card
