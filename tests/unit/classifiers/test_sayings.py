"""The words that are looked for are found where they stand."""

from __future__ import annotations

from classifiers.dressing import TALK, kind_of, tells_how
from classifiers.sayings import GRAMMAR, HOW_SAID, HOW_SAID_ZH


def test_every_saying_holds_a_word_that_is_looked_for_first():
    """Else it would never be found."""
    for said in (*HOW_SAID, *HOW_SAID_ZH):
        sentence = f"so {said} ok"
        assert kind_of(sentence) & TALK, said
        assert tells_how(sentence), said


def test_words_are_as_they_are_compared():
    """Lower case, without stops: another form would never be met."""
    for word in (*GRAMMAR, *HOW_SAID):
        assert word == word.lower()
    assert not any(set(word) & set(" .,;:!?") for word in GRAMMAR)
