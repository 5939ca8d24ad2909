"""What is read of a request before anything is decided: what it is about, and how well models would do on its text.

Where on the path: step 2 of `pipeline`; the command line reads requests with the same.

Invariants
1. Evidence is read only when somebody is to see it, and a quality artefact only where the classifier is sure.
2. A classifier that fails does not fail the request: what could not be read may be anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from service.domain.chat import ChatRequest
from service.domain.decision import COMPOUND, INTENTS, UNCLASSIFIED, Intent
from service.domain.experience import NOTHING, Experience
from service.domain.ports import Classifier, IntentReading, QualityJudge
from service.routing.lengths import Lengths
from service.routing.rules import NOT_READ


@dataclass(frozen=True, slots=True)
class Learned:
    """Everything that a router has learned; `None` where there is nothing. `learned.py` reads it from files."""

    lengths: Lengths | None = None
    judge: QualityJudge | None = None

    def versions(self) -> dict[str, str | None]:
        """The table and the artefact by name, as logs tell them."""
        return {
            "lengths": None if self.lengths is None else self.lengths.version,
            "quality": None if self.judge is None else self.judge.artefact,
        }


NOTHING_LEARNED: Final = Learned()

UNREAD: Final = Intent(
    UNCLASSIFIED,
    confidence=0.0,
    posterior=dict.fromkeys(INTENTS, 1 / len(INTENTS)),
    language="und",
    abstained=True,
    doubt=NOT_READ,
)
"""What is known of a request that the classifier failed at: it may be about anything, so a model must be good at it."""


def read_intent(classifier: Classifier, chat: ChatRequest, *, explained: bool) -> Intent:
    """What a request is about; with the evidence only when somebody is to see it: terms are fragments of the prompt."""
    turns = chat.turns()
    return _intent(classifier, classifier.predict(turns), turns, explained=explained)


def read_request(
    classifier: Classifier, judge: QualityJudge | None, chat: ChatRequest, *, explained: bool
) -> tuple[Intent, Experience]:
    """What a request is about, and how well models would do on this very text where an artefact can tell."""
    if judge is None:
        return read_intent(classifier, chat, explained=explained), NOTHING
    turns = chat.turns()
    read, features = classifier.read(turns)
    intent = _intent(classifier, read, turns, explained=explained)
    # Nobody asks an artefact about a text of which not even the kind is known: the worst plausible kind counts.
    if features is None or intent.abstained:
        return intent, NOTHING
    return intent, judge.judge(features, read.posterior, read.language)


def _intent(
    classifier: Classifier, read: IntentReading, turns: Sequence[tuple[str, str]], *, explained: bool
) -> Intent:
    terms = classifier.explain(turns, read.label) if explained else ()
    parts = classifier.parts(turns) if read.label == COMPOUND else ()
    return Intent(
        label=read.label,
        confidence=read.confidence,
        posterior=read.posterior,
        language=read.language,
        abstained=read.abstained,
        terms=tuple(terms),
        artefact=read.artefact,
        difficulty=read.difficulty,
        flags=read.flags,
        parts=tuple(part.intent for part in parts),
        doubt=read.doubt,
    )
