"""What an explanation shows of a text."""

import numpy as np

from classifiers.features import extract
from classifiers.terms import TERM_CHARS_MAX, TERMS_MAX, joined, strongest, whole_words


def test_han_pieces_are_told_as_words():
    """A longer term takes over what its pieces said; other scripts are left alone."""
    assert joined({"翻": 2.0, "译": 1.5, "翻译": 1.0, "into": 1.0, "in": 0.5}) == {"翻译": 4.5, "into": 1.0, "in": 0.5}
    assert joined({"翻": 2.0}) == {"翻": 2.0}


def test_words_are_quoted_whole():
    """An n-gram is shown as the word it is from; Han stays as it is; nothing grows beyond the limit."""
    assert whole_words("Please Translate this", 8, 12) == "translate"
    assert whole_words("请翻译这封信", 1, 3) == "翻译"
    assert len(whole_words("x" * 500, 200, 204)) <= TERM_CHARS_MAX


def test_the_heaviest_come_first_and_flags_have_their_names():
    """Few of them, none a part of another, nothing that speaks against the label."""
    features = extract("Translate the long letter about harbours and lighthouses into French, please", spans=True)
    shares = np.linspace(1.0, 0.1, len(features.buckets), dtype=np.float32)
    shares[-1] = 5.0
    terms = strongest(features, shares)
    assert len(terms) == TERMS_MAX
    assert terms[0] == ("[language en]", 5.0)
    assert [share for _, share in terms] == sorted((share for _, share in terms), reverse=True)
    assert strongest(features, -shares) == ()
