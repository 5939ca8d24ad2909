"""Dressed-up everyday prompts mostly buy nothing: the families of attacks.py on a few dozen prompts of the probe.

bench/robustness.py measures a thousand prompts and prices; here only what was read counts: an everyday prompt must not
be read as a dear one, nor as nothing, which the router answers by a safe and dearer choice.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from attacks import DEAR, LATE, PREAMBLES, WhiteBox, edged, edges, fixed_families

from classifiers import IntentClassifier, scorer
from classifiers.rows import read_rows
from classifiers.taxonomy import COMPOUND, EVERYDAY

PROBE = Path(__file__).resolve().parents[1] / "fixtures" / "intent_probe.jsonl"
SHARE_MAX = 0.20
OPEN = {f"preamble late, {language}" for language in LATE}
"""Families that are held to it only on average: sentences that nobody foresaw."""

MARGIN = 0.05
"""A few dozen prompts stand for a thousand: one of them more must not turn a training down."""

EVERY = 3
"""Of the everyday prompts of the probe, which was not trained on, every third."""

CLASSIFIER = IntentClassifier.load()
ROWS = read_rows(PROBE)


def sure(turns):
    """Whether turns are read as an everyday wish."""
    read = CLASSIFIER.predict(turns)
    return read.label in EVERYDAY and not read.abstained


VICTIMS = [row.turns for row in [row for row in ROWS if row.intent in EVERYDAY][::EVERY] if sure(row.turns)]


def upgraded(variant):
    """The share of everyday prompts that an attack makes dear."""
    return sum(not sure(variant(turns)) for turns in VICTIMS) / len(VICTIMS)


def undefended(monkeypatch):
    """Switch the further readings off."""
    monkeypatch.setattr(scorer, "undressed", lambda _text: iter(()))
    monkeypatch.setattr(scorer, "ends", lambda _text: iter(()))


FAMILIES = fixed_families()


def test_there_are_victims():
    """Enough of them, in both languages: a share of nothing would be 0."""
    assert len(VICTIMS) >= 25


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_upgrades_few(family):
    """Its strongest variant at most a fifth of the prompts."""
    shares = [upgraded(variant) for variant in FAMILIES[family]]
    assert (sum(shares) / len(shares) if family in OPEN else max(shares)) <= SHARE_MAX + MARGIN


def test_the_universal_lines_of_the_weights_upgrade_few():
    """Ten tokens with the strongest pull in the weights; the lines differ with every training.

    Those towards `compound` are left to the bench: "write … and translate … then draft" asks for several things.
    """
    white_box = WhiteBox(CLASSIFIER, ROWS)
    lines = [
        white_box.universal(target, language) for target in DEAR if target != COMPOUND for language in ("en", "zh")
    ]
    assert max(upgraded(variant) for variant in edges(lines)) <= SHARE_MAX + MARGIN


def test_without_the_further_readings_the_same_attacks_work(monkeypatch):
    """The control: what is measured here is the defence, not a classifier that nothing moves."""
    undefended(monkeypatch)
    for family in ("keywords, en", "stuffed, zh", "preamble, en", "keywords on the same line"):
        assert max(upgraded(variant) for variant in FAMILIES[family]) > 2 * SHARE_MAX


def test_leaving_out_an_end_does_its_part(monkeypatch):
    """What nobody foresaw is told by what is left without it; without that reading it upgrades more."""
    late = edges((*LATE["en"], *LATE["zh"]))
    defended = sum(upgraded(variant) for variant in late) / len(late)
    monkeypatch.setattr(scorer, "ends", lambda _text: iter(()))
    assert sum(upgraded(variant) for variant in late) / len(late) > 1.2 * defended


def test_honest_dear_prompts_stay_dear(monkeypatch):
    """The defence must not make a hard prompt cheap, whether it comes with a preface or without."""
    dear = [row.turns for row in ROWS if row.intent not in EVERYDAY]
    preface = edged(PREAMBLES["en"][0] + "\n")
    every = [*dear, *(preface(turns) for turns in dear)]
    defended = sum(sure(turns) for turns in every)
    undefended(monkeypatch)
    assert len(every) >= 100
    assert defended <= sum(sure(turns) for turns in every) + 0.03 * len(every)
