"""Cues of people and rows of texts meet; hints of words."""

import pytest

from classifiers import structure
from classifiers.cues import HINTS, cue_buckets, opening_buckets
from classifiers.features import extract
from classifiers.language import ACTION_MASK, ENGLISH_MARK, FOREIGN_MARK


@pytest.mark.parametrize(
    ("cue", "text"),
    [
        ("translate", "Please translate this"),
        ("act as", "I want you to act as a pirate"),
        ("翻译", "帮我翻译一下"),
        ("角色扮演", "来玩角色扮演吧"),
    ],
)
def test_a_cue_is_found_in_a_text(cue, text):
    """The row that training ties is the row that a text lights up."""
    assert set(cue_buckets(cue)) <= set(extract(text).buckets.tolist())


@pytest.mark.parametrize(
    ("cue", "text"),
    [
        ("translate", "Translate this to French"),
        ("翻译", "翻译这句话"),
        ("act as", "Act as a pirate"),
        ("总结", "一段很长的话，讲了很多事情。\n总结一下"),
    ],
)
def test_an_opening_cue_is_found_at_the_opening(cue, text):
    """At the start of the text, or of its last line; and nowhere else."""
    row = opening_buckets(cue)[0]
    assert row in extract(text).buckets
    assert row not in extract("well, " + text.replace("\n", " ")).buckets


@pytest.mark.parametrize("cue", ["", "...", "one two three", "脑筋急转弯", "用Python"])
def test_a_cue_that_could_never_fire_is_refused(cue):
    """With what to write instead."""
    with pytest.raises(ValueError, match="write"):
        cue_buckets(cue)


def test_every_action_word_hints_at_its_line():
    """The kinds of action are told apart, and fit below the marks of languages."""
    assert len(structure.ACTIONS) <= ACTION_MASK
    for kind, words in enumerate(structure.ACTIONS, start=1):
        for word in words.split():
            assert HINTS[cue_buckets(word)[0]] & ACTION_MASK == kind, word


@pytest.mark.parametrize(("word", "mark"), [("the", ENGLISH_MARK), ("und", FOREIGN_MARK), ("was", 0), ("umbrella", 0)])
def test_function_words_tell_a_language(word, mark):
    """A word of both lists counts for neither."""
    assert HINTS[cue_buckets(word)[0]] & (ENGLISH_MARK | FOREIGN_MARK) == mark
