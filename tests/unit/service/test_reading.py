"""What is read of a request: the evidence, the parts, and a quality artefact where the classifier is sure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from scenery import WordClassifier, a_chat, an_intent

from service.domain.experience import NOTHING, Experience
from service.reading import NOTHING_LEARNED, Learned, read_intent, read_request
from service.routing.lengths import Lengths

PROMPT = "explain confidential umbrella merger"
KNOWN = Experience({"m": 7_000}, artefact="quality-t@1")


@dataclass
class Piece:
    """A step of a compound request."""

    intent: str


class Reader(WordClassifier):
    """A classifier that hands out what it saw."""

    def __init__(self, intent=None, features="features"):
        super().__init__()
        self.intent, self.features = intent, features

    def predict(self, turns):
        return self.intent or super().predict(turns)

    def read(self, turns):
        return self.predict(turns), self.features

    def parts(self, _turns):
        return (Piece("coding"), Piece("translation"))


class Judge:
    """A quality artefact that notes what it is asked."""

    artefact = "quality-t@1"

    def __init__(self):
        self.asked = []

    def judge(self, features, _posterior, language):
        self.asked.append((features, language))
        return KNOWN


def test_evidence_is_read_only_when_somebody_is_to_see_it():
    """Terms are dear, and fragments of the prompt."""
    classifier = Reader()
    assert read_intent(classifier, a_chat(PROMPT), explained=False).terms == ()
    assert classifier.explained == 0
    assert read_intent(classifier, a_chat(PROMPT), explained=True).terms[0] == ("explain", 1.5)


def test_parts_are_read_of_a_compound_request_only():
    """They cost some predictions more."""
    assert read_intent(Reader(an_intent("compound")), a_chat(), explained=False).parts == ("coding", "translation")
    assert read_intent(Reader(an_intent("coding")), a_chat(), explained=False).parts == ()


def test_why_the_classifier_abstained_is_kept():
    """The caller who wonders at `unsure` is told."""
    unsure = replace(an_intent("coding", abstained=True), doubt="follow_up")
    assert read_intent(Reader(unsure), a_chat(), explained=False).doubt == "follow_up"


def test_the_judge_reads_what_the_classifier_saw():
    """One reading of the text serves both."""
    judge = Judge()
    intent, known = read_request(Reader(), judge, a_chat(PROMPT), explained=False)
    assert (known, judge.asked) == (KNOWN, [("features", "en")])
    assert intent == read_intent(Reader(), a_chat(PROMPT), explained=False)


@pytest.mark.parametrize(
    "reader",
    [Reader(an_intent("coding", abstained=True)), Reader(features=None)],
    ids=["unsure", "nothing to read"],
)
def test_nobody_is_asked_about_a_text_of_unknown_kind(reader):
    """The safe default counts then, whatever an artefact would make of it."""
    judge = Judge()
    assert read_request(reader, judge, a_chat(PROMPT), explained=False)[1] is NOTHING
    assert judge.asked == []


def test_without_an_artefact_nothing_is_known():
    """And the classifier is asked as ever."""
    assert read_request(WordClassifier(), None, a_chat(PROMPT), explained=False)[1] is NOTHING


def test_versions_name_what_there_is():
    """For the log."""
    assert NOTHING_LEARNED.versions() == {"lengths": None, "quality": None}
    lengths = Lengths({})
    assert Learned(lengths, Judge()).versions() == {"lengths": lengths.version, "quality": "quality-t@1"}
