"""The character tables: literal, complete, and folding what must be folded."""

import numpy as np
import pytest

from classifiers import alphabet as a


@pytest.mark.parametrize(
    ("char", "kind"),
    [
        ("a", a.LATIN),
        ("Z", a.LATIN),
        ("é", a.LATIN_ACCENTED),
        ("7", a.DIGIT),
        ("\uff17", a.DIGIT),
        ("中", a.HAN),
        ("の", a.KANA),
        ("ー", a.KANA),
        ("한", a.HANGUL),
        ("д", a.OTHER_LETTER),
        ("ع", a.OTHER_LETTER),
        ("。", a.PUNCT),
        ("×", a.MATHS),
        (" ", a.SPACE),
        ("\u3000", a.SPACE),
        ("\n", a.SPACE),
        ("\ud800", a.ASTRAL),
    ],
)
def test_characters_have_their_class(char, kind):
    """One example of each range, and the exceptions inside ranges."""
    assert a.KIND_TABLE[ord(char)] == kind


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A", "a"),
        ("É", "é"),
        ("Ж", "ж"),
        ("\uff21", "a"),
        ("\uff1f", "?"),
        ("\uff18", "3"),
        ("。", "."),
        ("3", "8"),
        ("\t", " "),
    ],
)
def test_variants_fold_together(one, other):
    """Case, width, Chinese punctuation, digits and blanks don't make two features of one."""
    assert a.FOLD_TABLE[ord(one)] == a.FOLD_TABLE[ord(other)]


def test_no_character_folds_to_nothing():
    """A fold of 0 would make spans of different length hash alike."""
    assert int(a.FOLD_TABLE.min()) > 0


def test_letters_and_digits_never_fold_together():
    """Folding merges within a class of letters, never a letter with a digit or a blank."""
    for kind in (a.LATIN, a.HAN, a.KANA, a.HANGUL):
        folds = set(a.FOLD_TABLE[np.equal(a.KIND_TABLE, kind)].tolist())
        assert ord("0") not in folds
        assert ord(" ") not in folds


def test_words_are_made_of_alphabets_and_digits():
    """Han and kana are read as n-grams, so they must not join words."""
    assert max(a.LATIN, a.LATIN_ACCENTED, a.DIGIT, a.HANGUL, a.OTHER_LETTER) < a.WORD_KINDS
    assert min(a.HAN, a.KANA, a.PUNCT, a.SPACE, a.ASTRAL, a.MATHS) >= a.WORD_KINDS


@pytest.mark.parametrize(("char", "kind"), [("?", a.QUESTION), ("？", a.QUESTION), ("×", a.MATHS), ("「", a.QUOTATION)])
def test_marks_are_told_from_other_punctuation(char, kind):
    """Half and full width, and the signs that stand among letters."""
    assert a.KIND_TABLE[ord(char)] == kind


def test_every_kind_has_a_character():
    """A kind without one could never be counted."""
    assert set(np.unique(a.KIND_TABLE).tolist()) == set(range(a.KINDS))
