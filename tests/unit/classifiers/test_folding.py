"""Folded text: span hashes, kinds of blanks, weights of positions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.alphabet import FOLD_TABLE, KINDS
from classifiers.folding import FOLDED_CHARS_MAX, PAYLOAD_WEIGHT, QUOTED_WEIGHT, Folded


def _folds(text):
    return FOLD_TABLE.take([ord(one) for one in f" {text} "], mode="clip").tolist()


def _word_hashes(text):
    folded = Folded(text)
    return folded.spans(folded.starts, folded.ends).tolist()


@given(st.text(max_size=300))
def test_any_text_folds(text):
    """Surrogates, controls and emoji included: positions, classes and weights have one length, spans are ordered."""
    folded = Folded(text)
    assert len(folded.kinds) == len(folded.running) == len(text) + 2
    assert len(folded.edge) == folded.length == len(text)
    assert (folded.starts < folded.ends).all()
    assert (folded.edge > 0).all()
    assert (folded.edge <= 1).all()
    assert sum(folded.counts) == len(text) + 2


def test_edges_are_shared_and_stay_as_they_are():
    """The table of a length is one for all texts: a text that changes its weights has its own copy."""
    before = Folded("x" * 50).edge.copy()
    Folded('say "' + "x" * 40 + '" yes')
    Folded("fix this: " + "x" * 40)
    assert (Folded("x" * 50).edge == before).all()
    with pytest.raises(ValueError, match="read-only"):
        Folded("x" * 50).edge[0] = 0.0


def test_a_span_hash_does_not_depend_on_its_place():
    """The same word has the same hash wherever it stands, and another word another one."""
    hashes = _word_hashes("apple pear, Apple!   APPLE pears")
    assert hashes[0] == hashes[2] == hashes[3]
    assert len({hashes[0], hashes[1], hashes[4]}) == 3


@pytest.mark.parametrize("text", ["fold me, 请", "Fold ME, 9"])
def test_span_hashes_equal_the_polynomial(text):
    """The prefix-sum trick gives what the definition gives, by the tables for ASCII, too."""
    folded = Folded(text)
    base = 0x9E3779B97F4A7C15
    for start, end in ((0, 4), (2, 8), (5, 9)):
        ids = _folds(text)[start + 1 : end + 1]
        wanted = sum(int(c) * pow(base, i, 1 << 64) for i, c in enumerate(ids)) % (1 << 64)
        got = folded.spans(np.array([start]), np.array([end]))
        assert int(got[0]) == wanted


@given(st.text(st.characters(codec="ascii"), max_size=80))
def test_ascii_is_read_by_its_own_tables_alike(text):
    """Tables of 128 characters and those of all give the same kinds, counts, words and hashes."""
    short, long = Folded(text), Folded(text + "é")
    assert short.kinds[:-1] == long.kinds[: len(short.kinds) - 1]
    assert (short.running[:-1] == long.running[: len(short.running) - 1]).all()
    assert short.counts == [short.kinds.count(kind) for kind in range(KINDS)]


def test_blanks_of_all_kinds_are_one_kind():
    """Tabs, wide blanks and line breaks fold to a blank; a line break is still known as one."""
    assert _folds("a\tb\u3000c") == _folds("a b c")
    assert Folded("first line \n   second").last_line > 0
    assert Folded("first line second").last_line == 0
    assert Folded("one\ntwo\nthree\n").line_breaks == 2


def test_the_middle_of_a_long_text_counts_less():
    """Wishes stand at the ends."""
    edge = Folded("x" * 700).edge
    assert edge[0] == edge[-1] == 1.0
    assert edge[350] < 0.45


@pytest.mark.parametrize("text", ["Translate this: {}", "请翻译：{}", "Fix the text\n{}"])
def test_material_counts_less_than_the_wish(text):
    """After the first colon or line break stands what is to be worked on."""
    folded = Folded(text.format("some words that are the material of this request"))
    assert folded.edge[2] == 1.0
    assert folded.edge[-4] == pytest.approx(PAYLOAD_WEIGHT)


def test_a_short_last_line_is_a_wish():
    """The instruction may follow the text."""
    folded = Folded("A long story about a dog that ran away from home.\nIt came back.\nSummarise please")
    assert folded.edge[-4] == 1.0
    assert folded.edge[55] == pytest.approx(PAYLOAD_WEIGHT)


def test_quoted_words_count_less():
    """What stands in quotation marks is mentioned, not wished."""
    folded = Folded('what does "delete everything" mean')
    assert folded.edge[15] == pytest.approx(QUOTED_WEIGHT)
    assert folded.edge[-3] == 1.0


def test_a_mark_that_never_closes_quotes_nothing():
    """An inch mark or a slip of the hand must not make the rest of a wish count half."""
    assert (Folded('which 27" monitor is best for the eyes').edge == 1.0).all()
    folded = Folded('say "hi" on a 27" one')
    assert folded.edge[5] == pytest.approx(QUOTED_WEIGHT)
    assert folded.edge[-1] == 1.0


def test_a_time_of_day_is_no_instruction_mark():
    """A colon inside a number or a link doesn't split the text."""
    assert (Folded("wake me at 6:30 tomorrow").edge == 1.0).all()
    assert (Folded("look at https://example.org now").edge == 1.0).all()


def test_the_longest_selection_fits():
    """Tables end exactly where the longest selection ends."""
    assert Folded("é" * (FOLDED_CHARS_MAX - 2)).length == FOLDED_CHARS_MAX - 2
