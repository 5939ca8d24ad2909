"""The controls know next to nothing, but that correctly."""

from pathlib import Path

import pytest

from classifiers import model
from classifiers.controls import GROUP_INTENT, KeywordControl, MajorityControl
from classifiers.model import load_cues
from classifiers.rows import Row
from classifiers.taxonomy import INTENTS


def _row(intent):
    return Row(id="", source="s", language="en", prompt="", intent=intent)


def test_majority_says_the_most_frequent():
    """The same answer to everything; the first in order on a tie."""
    control = MajorityControl([_row("math"), _row("coding"), _row("math")])
    assert control.predict([("user", "hi")]).label == "math"
    assert MajorityControl([_row("math"), _row("coding")]).label == "coding"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("please TRANSLATE this, translator", "translation"),
        ("帮我翻译", "translation"),
        ("prove the theorem", "math"),
        ("zzz", "factual_qa"),
    ],
)
def test_keywords_vote(text, label):
    """Whole words for alphabets, substrings for Han, a default for silence."""
    said = KeywordControl(load_cues()).predict([("user", text)])
    assert said.label == label
    assert sum(said.posterior.values()) == 1.0


def test_a_word_inside_a_word_is_no_vote():
    """`will` is not in `willow`."""
    control = KeywordControl({"law": ["will"], "greeting": ["hi"]})
    assert control.predict([("user", "this willow")]).label == "factual_qa"


def test_every_group_of_cues_votes_for_an_intent():
    """cues.yaml and the table name the same groups (topics of lexicon.yaml don't vote); the intents exist."""
    assert set(load_cues(Path(model.__file__).with_name("cues.yaml"))) == set(GROUP_INTENT)
    assert set(GROUP_INTENT.values()) <= set(INTENTS)
