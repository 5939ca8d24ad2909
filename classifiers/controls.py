"""Two classifiers that know next to nothing: what a trained one has to beat to be worth its weights.

Where on the path: beside it, in evaluation only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from classifiers.rows import Row
from classifiers.scorer import Prediction
from classifiers.taxonomy import INTENTS
from classifiers.turns import user_texts

GROUP_INTENT: Final[Mapping[str, str]] = {
    "greeting": "chitchat",
    "thanks": "chitchat",
    "about_the_assistant": "chitchat",
    "laughter_and_mood": "chitchat",
    "advise": "advice_ideas",
    "everyday_life": "advice_ideas",
    "rewrite": "rewriting",
    "translate": "translation",
    "language_names": "translation",
    "summarize": "summarization",
    "extract": "extraction",
    "given_text": "extraction",
    "ask_fact": "factual_qa",
    "general_knowledge": "factual_qa",
    "write_new": "writing",
    "persona": "roleplay",
    "programming": "coding",
    "programming_languages": "coding",
    "mathematics": "math",
    "word_problem": "math",
    "puzzle": "logic",
    "law": "domain_expert",
    "medicine": "domain_expert",
    "finance_and_tax": "domain_expert",
    "engineering": "domain_expert",
    "live_data": "tool_use",
    "act_for_me": "tool_use",
    "several_steps": "compound",
}
"""Which intent each group of cues votes for in the keyword control."""


def _prediction(label: str, artefact: str) -> Prediction:
    posterior = {name: 1.0 if name == label else 0.0 for name in INTENTS}
    return Prediction(label, 1.0, posterior, "und", abstained=False, terms=(), artefact=artefact)


class MajorityControl:
    """Always the most frequent intent of some rows (the first in the order of `INTENTS` on a tie)."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """Count once."""
        counts = Counter(row.intent for row in rows)
        self.label = max(INTENTS, key=lambda name: (counts[name], -INTENTS.index(name)))

    def predict(self, turns: Sequence[tuple[str, str]]) -> Prediction:  # noqa: ARG002 # the point of this control
        """The same answer to everything."""
        return _prediction(self.label, "control-majority")


class KeywordControl:
    """The intent whose cues occur most often in the text; factual_qa when none does."""

    def __init__(self, cues: Mapping[str, Sequence[str]]) -> None:
        """`cues` maps groups to cue words, as `cues.yaml` does; groups that vote for no intent are left out."""
        self._votes = [
            (cue.lower(), GROUP_INTENT[group]) for group in GROUP_INTENT if group in cues for cue in cues[group]
        ]

    def predict(self, turns: Sequence[tuple[str, str]]) -> Prediction:
        """Count cues: whole words for alphabets, substrings for Han."""
        texts = user_texts(turns)
        text = texts[0].text.lower() if texts else ""
        padded = " " + "".join(char if char.isalnum() else " " for char in text) + " "
        votes: Counter[str] = Counter()
        for cue, intent in self._votes:
            if (cue in text) if not cue.isascii() else (f" {cue} " in padded):
                votes[intent] += 1
        label = max(INTENTS, key=lambda name: (votes[name], -INTENTS.index(name))) if votes else "factual_qa"
        return _prediction(label, "control-keywords")
