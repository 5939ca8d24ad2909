"""What the compiled kernel finds in a line, and how it takes wishes apart: the same as Python's own search does."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import settings as limits
from hypothesis import strategies as st
from references import assert_let_go

from classifiers import compound, dressing, kernel, sayings
from classifiers.compound import pieces
from classifiers.sayings import ANSWER_WORDS, GRAMMAR, HOW_SAID, HOW_SAID_ZH, HOW_STEMS, PERSONS, PERSONS_ZH

compiled = pytest.mark.skipif(kernel.STATE != kernel.COMPILED, reason="no compiled kernel here: Python searches, alone")
PARTS = st.lists(
    st.sampled_from(
        [
            *(
                " ",
                "  ",
                "\n",
                "\t",
                "\u3000",
                "\x1c",
                "\x85",
                ",",
                ":",
                "，",
                "：",
                ";",
                ".",
                "!",
                "?",
                "(",
                ")",
                "_",
                "-",
            ),
            *(
                "—",
                "–",
                "->",
                "=>",
                "→",
                "=",
                "&",
                "+",
                "1",
                "２",
                "٣",
                "①",
                "⑨",
                "(1)",
                "1,5",
                "a:b",
                "$",
                "…",
                "😀",
                "\0",
            ),
            *(
                "and",
                "AND",
                "then",
                "plus",
                "plu\u017f",
                "Plus",
                "andy",
                "first",
                "next,",
                "after that",
                "Also ",
                "* ",
                "2) ",
            ),
            *(
                "然后",
                "接着",
                "随后",
                "再",
                "再见",
                "再次",
                "并",
                "并且",
                "合并",
                "并发",
                "最後",
                "首先",
                "先生",
                "顺便",
                "中",
                "文字",
            ),
            *(
                "answer",
                "tier",
                "frontier",
                "rigour",
                "模型",
                "step by step",
                "think",
                "the",
                "of",
                "word",
                "İ",
                "ß",
                "K",
            ),
        ]
    ),
    max_size=40,
).map("".join)
LINES = st.one_of(PARTS, st.text(max_size=120))


@compiled
@limits(max_examples=1_500, deadline=None)
@given(LINES)
@example("a  and b - c -d- e")
@example("a \n and b \n- c")
@example("1,000 and 2:30, 3 (4) (x)")
@example("改并且x 合并中 并中 再x 再中")
@example("ſ pluſ s")
@example("")
def test_a_text_is_split_where_the_pattern_splits_it(text):
    """Marks, words, arrows, numbers, between Han and elsewhere."""
    assert kernel.compiled("split")(text) == compound._SPLIT.split(text)


@compiled
@limits(max_examples=600, deadline=None)
@given(LINES)
@pytest.mark.parametrize(
    ("said", "begin_words"),
    [
        ((*HOW_SAID, *HOW_SAID_ZH), False),
        ((*HOW_STEMS, *HOW_SAID_ZH, *PERSONS_ZH), False),
        ((*PERSONS, *PERSONS_ZH), False),
        (ANSWER_WORDS, True),
        (("aa", "ab", "1a", "中文", "文字"), True),
    ],
)
def test_sayings_are_found_where_python_finds_them(said, begin_words, text):
    """In lower case and as they come, at the start, in the middle, at the end."""
    by_c = kernel.finder_by(kernel._built, said, begin_words=begin_words)
    by_python = kernel.finder_by(None, said, begin_words=begin_words)
    for one in (text, text.lower(), text + said[0], f"x{said[0]}", f"{text} {said[-1]}", said[0][:-1]):
        assert by_c(one) is by_python(one)


@compiled
@limits(max_examples=600, deadline=None)
@given(LINES, st.lists(st.sampled_from(["the", "of", "word", "the", "ß", "中", ""]), max_size=12))
def test_signs_and_words_are_counted_alike(text, words):
    """Signs by what they are not, words with their neighbours."""
    assert kernel.compiled("signs")(text) == sayings.signs_counted(text)
    for one in (words, text.lower().split()):
        assert kernel.compiled("wording")(one, GRAMMAR) == sayings.words_counted(one, GRAMMAR)


@limits(max_examples=600, deadline=None)
@given(LINES)
@example("- first, then")
@example("2) and read it")
@example("İ then")
def test_what_leads_a_piece_is_looked_for_only_where_it_may_stand(text):
    """The same pieces as with a search in each of them."""
    found = []
    for piece in compound._SPLIT.split(text):
        bare = piece.strip(compound._EDGES)
        for lead in (compound._MARK, compound._LINKS):
            start = lead.match(bare[:1].lower() + bare[1:])
            if start is not None:
                bare = bare[start.end() :].lstrip(compound._EDGES)
        if len(bare) >= (compound.PIECE_CHARS_MIN_LATIN if bare.isascii() else compound.PIECE_CHARS_MIN):
            found.append(bare)
    if len(found) <= compound.PIECES_MAX:
        assert pieces(text) == tuple(found)


@limits(max_examples=600, deadline=None)
@given(
    LINES,
    st.sampled_from(["", "[a] b", "[a. b]", "【a. b】", "【a】 b. c 【/a】", "[x. y", "think hard. ", "... ", "!"]),
)
def test_the_last_sentence_is_that_of_the_pattern(text, more):
    """Found from behind, without looking for those before it."""
    for line in (text + more).split("\n"):
        starts = [found.start() for found in dressing._SENTENCE.finditer(line)]
        assert dressing._last_sentence(line) == (starts[-1] if starts else 0)


@compiled
@pytest.mark.parametrize(
    "wrong",
    [
        lambda built: built.split(b"bytes"),
        lambda built: built.signs(None),
        lambda built: built.wording(("a",), GRAMMAR),
        lambda built: built.wording(["a"], set(GRAMMAR)),
        lambda built: built.wording(["a", 1], GRAMMAR),
        lambda built: built.wording(["a"]),
        lambda built: built.Sayings(["a list"]),
        lambda built: built.Sayings(("one", b"two")),
        lambda built: built.Sayings(("x",)),
        lambda built: built.Sayings(("",)),
        lambda built: built.Sayings(("too many",) * 2_000),
        lambda built: built.Sayings(("one",)).within(1),
    ],
)
def test_what_it_can_not_search_is_refused(wrong):
    """Not a text, not a list of words, sayings that are none."""
    with pytest.raises((TypeError, ValueError)):
        wrong(kernel._built)


@compiled
def test_nothing_is_held_longer_than_it_is_used():
    """Texts, words and sayings have as many owners after many calls, good and bad, as before."""
    built, text, words, said = kernel._built, "one and two; three", ["the", "word", "word"], ("one", "two")
    held = (text, words, *words, said, *said, GRAMMAR)

    def go():
        built.split(text)
        built.signs(text)
        built.wording(words, GRAMMAR)
        built.Sayings(said).within(text)
        for wrong in (lambda: built.wording([*words, 1], GRAMMAR), lambda: built.Sayings((*said, b"x"))):
            with pytest.raises(TypeError):
                wrong()

    assert_let_go(go, held)


def test_words_that_have_to_begin_one_are_letters_alone():
    """Else one could begin inside of another that Python's search has gone past."""
    assert all(word.isalnum() and re.escape(word) == word for word in ANSWER_WORDS)
