"""When a text is read again without its dressing, and which of the readings counts."""

from __future__ import annotations

import pytest

from classifiers import IntentClassifier, scorer
from classifiers.judging import FITS_NOTHING, Judgement
from classifiers.judging import SURE as SURE_OF_IT
from classifiers.scorer import READINGS_MORE, SURE_WITHOUT_AN_END
from classifiers.taxonomy import INDEX

CLASSIFIER = IntentClassifier.load()
WHOLE, FIRM, LOOSE = "You are an expert. whole", "firm", "loose"
TURNS = [("user", "an earlier wish"), ("user", WHOLE)]
DEAR, EVERYDAY, UNSURE = ("math", 0.9, False), ("writing", 0.5, False), ("writing", 0.3, True)
SURE = ("writing", SURE_WITHOUT_AN_END + 0.05, False)
REST, CUT, REST_2, CUT_2 = "rest", "cut", "rest of the other", "cut of the other"


@pytest.fixture
def script(monkeypatch):
    """`script({text: (label, confidence, abstained)})` replaces what is read; returns the texts in order of reading."""

    def begin(readings, *, bare=(), blocks=()):
        seen = []

        def judge(_self, text, around):
            seen.append((text, len(around.earlier)))
            label, confidence, abstained = readings[text]
            best = INDEX[label]
            posterior = [confidence if place == best else 0.0 for place in range(len(INDEX))]
            return Judgement(best, FITS_NOTHING if abstained else SURE_OF_IT, "en", 0, 1.0, 0, posterior)

        monkeypatch.setattr(IntentClassifier, "_judge", judge)
        monkeypatch.setattr(scorer, "undressed", lambda _text: iter(bare))
        monkeypatch.setattr(scorer, "ends", lambda _text: iter(blocks))
        return seen

    return begin


@pytest.mark.parametrize(
    ("whole", "firm", "loose", "chosen"),
    [
        (EVERYDAY, None, None, WHOLE),  # nothing to win by reading again
        (DEAR, EVERYDAY, None, FIRM),
        (UNSURE, EVERYDAY, None, FIRM),
        (DEAR, ("logic", 0.9, False), DEAR, FIRM),  # without talk it says what it says
        (DEAR, ("logic", 0.2, True), DEAR, FIRM),
        (DEAR, DEAR, EVERYDAY, LOOSE),
        (DEAR, DEAR, UNSURE, FIRM),
        (DEAR, DEAR, ("coding", 0.9, False), FIRM),
    ],
)
def test_which_reading_counts(script, whole, firm, loose, chosen):
    """Talk and lists off: what is left counts. Code and jargon off: only an everyday reading does."""
    readings = {WHOLE: whole, FIRM: firm, LOOSE: loose}
    seen = script(readings, bare=((FIRM, True), (LOOSE, False)))
    read, features = CLASSIFIER.read(TURNS)
    assert (read.label, read.confidence, read.abstained) == readings[chosen]
    assert features.text == chosen
    assert {text for text, _ in seen} == {text for text, reading in readings.items() if reading is not None}
    assert all(earlier == 1 for _, earlier in seen)


@pytest.mark.parametrize(
    ("rest", "about_answers", "cut", "counts"),
    [
        (SURE, False, UNSURE, True),
        (EVERYDAY, False, UNSURE, False),  # not sure enough, with nothing that tells of talk
        (EVERYDAY, True, UNSURE, True),
        (EVERYDAY, True, EVERYDAY, True),
        (SURE, False, EVERYDAY, False),  # what was cut off is a wish of its own
        (SURE, True, DEAR, False),
        (DEAR, True, UNSURE, False),
        (UNSURE, True, UNSURE, False),
    ],
)
def test_an_unsure_text_is_read_without_one_end(script, rest, about_answers, cut, counts):
    """The rest counts when it is everyday and what was cut off, alone, says nothing dear."""
    readings = {WHOLE: UNSURE, REST: rest, CUT: cut}
    script(readings, blocks=((REST, CUT, about_answers),))
    _, features = CLASSIFIER.read(TURNS)
    assert features.text == (REST if counts else WHOLE)


def test_a_dear_text_is_not_taken_apart(script):
    """Only a text that says nothing clear is read without an end: a dear one without dressing is read once."""
    seen = script({WHOLE: DEAR}, blocks=((REST, CUT, True),))
    CLASSIFIER.predict(TURNS)
    assert len(seen) == 1


def test_readings_are_counted(script):
    """However much there is to try, no more than a fixed number of readings."""
    readings = dict.fromkeys((WHOLE, FIRM, LOOSE, REST, CUT, REST_2, CUT_2), UNSURE)
    seen = script(readings, bare=((FIRM, True), (LOOSE, False)), blocks=((REST, CUT, True), (REST_2, CUT_2, True)))
    CLASSIFIER.predict(TURNS)
    assert len(seen) <= 1 + READINGS_MORE
    readings[REST_2] = SURE
    seen = script(readings, blocks=((REST, CUT, True), (REST_2, CUT_2, True)))
    assert CLASSIFIER.read(TURNS)[1].text == REST_2
    assert [text for text, _ in seen] == [WHOLE, REST, REST_2, CUT_2]
    assert len(seen) == 1 + READINGS_MORE


def test_an_instruction_is_not_cut_off():
    """A dear wish at the edge of a story is a wish, not talk."""
    story = "Once there was a farmer who had two sons and a very old horse, and every morning they went to the market."
    for wish in ("Prove by induction that the sum of the odd numbers is n squared.", "Write a Python script for it."):
        read = CLASSIFIER.predict([("user", f"{wish}\n\n{story}")])
        assert read.abstained or read.label not in scorer.EVERYDAY


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
    monkeypatch.setattr(scorer, "undressed", lambda _text: iter(()))
    assert CLASSIFIER.predict(turns).label == "math"
