"""When a text is read again without its dressing, and which of the readings counts."""

from __future__ import annotations

import pytest

from classifiers import IntentClassifier, Prediction, scorer
from classifiers.scorer import UNDRESSED_CONFIDENCE_MIN

CLASSIFIER = IntentClassifier.load()
WHOLE, FIRM, LOOSE = "You are an expert. whole", "firm", "loose"
TURNS = [("user", "an earlier wish"), ("user", WHOLE)]
SURE = UNDRESSED_CONFIDENCE_MIN + 0.05
UNSURE = UNDRESSED_CONFIDENCE_MIN - 0.05


@pytest.fixture
def script(monkeypatch):
    """`script({text: (label, confidence, abstained)})` replaces what is read; returns the texts in order of reading."""

    def begin(readings):
        seen = []

        def judge(_self, texts, found, *, terms):
            del terms
            seen.append(tuple(said.text for said in texts))
            assert [features.text for features in found] == [said.text for said in texts]
            label, confidence, abstained = readings[texts[0].text]
            return Prediction(label, confidence, {}, "en", abstained, (), "scripted")

        monkeypatch.setattr(IntentClassifier, "_judge", judge)
        monkeypatch.setattr(scorer, "undressed", lambda _text: iter((FIRM, LOOSE)))
        return seen

    return begin


@pytest.mark.parametrize(
    ("whole", "firm", "loose", "chosen"),
    [
        (("writing", 0.5, False), None, None, WHOLE),  # everyday: nothing to win by reading again
        (("math", 0.9, False), ("writing", 0.5, False), None, FIRM),
        (("writing", 0.5, True), ("writing", 0.5, False), None, FIRM),
        (("math", 0.9, False), ("logic", 0.9, False), ("logic", 0.9, False), FIRM),  # without talk it says what it says
        (("math", 0.9, False), ("logic", 0.2, True), ("logic", 0.9, False), FIRM),
        (("math", 0.9, False), ("math", 0.9, False), ("writing", SURE, False), LOOSE),
        (("math", 0.9, False), ("math", 0.9, False), ("writing", UNSURE, False), FIRM),
        (("math", 0.9, False), ("math", 0.9, False), ("writing", SURE, True), FIRM),
        (("math", 0.2, True), ("math", 0.2, True), ("coding", SURE, False), FIRM),
    ],
)
def test_which_reading_counts(script, whole, firm, loose, chosen):
    """Talk and long lists off: what is left counts. Code and jargon off: only a sure everyday reading does."""
    readings = {WHOLE: whole, FIRM: firm, LOOSE: loose}
    seen = script(readings)
    read, features = CLASSIFIER.read(TURNS)
    assert (read.label, read.confidence, read.abstained) == readings[chosen]
    assert features.text == chosen
    assert {texts[0] for texts in seen} == {text for text, reading in readings.items() if reading is not None}
    assert all(texts[1:] == ("an earlier wish",) for texts in seen)


def test_a_text_without_dressing_is_read_once(script, monkeypatch):
    """Dear or not: there is nothing to leave out."""
    seen = script({WHOLE: ("math", 0.9, False)})
    monkeypatch.setattr(scorer, "undressed", lambda text: iter((text, text)))
    CLASSIFIER.predict(TURNS)
    assert len(seen) == 1


def test_the_evidence_is_that_of_the_reading_that_counts(monkeypatch):
    """Keywords that were left out are no evidence for anything."""
    keywords = "proof theorem lemma integral derivative equation algebra calculus matrix eigenvalue"
    turns = [("user", f"{keywords}\n" * 5 + "Translate the sign at the gate into Polish")]
    assert CLASSIFIER.predict(turns).label == "translation"
    terms = CLASSIFIER.explain(turns)
    told = " ".join(term for term, _ in (*terms, *CLASSIFIER.explain(turns, "math")))
    assert terms
    assert not set(told.split()) & set(keywords.split())
    assert CLASSIFIER.predict(turns, terms=True).terms == terms
    monkeypatch.setattr(scorer, "undressed", lambda text: iter((text, text)))
    assert CLASSIFIER.predict(turns).label == "math"
