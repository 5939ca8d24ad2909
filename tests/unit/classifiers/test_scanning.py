"""What a selection holds, by NumPy: counts, hints, exact weights."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers import scanning
from classifiers.alphabet import HAN, LATIN, SPACE
from classifiers.folding import GRAIN, Folded


def test_a_text_is_counted():
    """Characters by kind, with the two blanks around a text; function words; line breaks inside."""
    found = scanning.scan("Please translate this\n你好\n")
    assert (found.counts[LATIN], found.counts[HAN], found.counts[SPACE]) == (19, 2, 2 + 4)
    assert (found.english, found.foreign, found.line_breaks) == (3, 0, 1)


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ("translate this", 1),
        ("translate and translate it again", 1),
        ("translate it, then send it to Ann", 2),
        ("翻译这段话，然后发给小王", 2),
        ("a plain remark", 0),
        ("send it " + "word " * 60 + "now", 1),
        ("note " + "word " * 40 + "send " + "word " * 40, 0),
        ("注" + "意事项" * 40 + "发给" + "意事项" * 40, 0),
        ("发给" + "意事项" * 40, 1),
    ],
)
def test_kinds_of_action_count_where_a_wish_may_stand(text, actions):
    """Each kind once, and only near either end."""
    assert scanning.scan(text).actions == actions


@pytest.mark.parametrize(
    ("text", "opens"),
    [
        ("Please translate this: 今天天气很好", True),
        ("the 今天天气很好", False),
        ("Python pandas 怎么去重", False),
        ("今天天气 is how I would say it", False),
        ("all of this is English", False),
    ],
)
def test_an_english_opening_stands_before_han(text, opens):
    """Enough letters and a function word; without any Han there is nothing that it could open."""
    assert scanning.scan(text).opens_in_english is opens


@given(st.text(alphabet='abc xyz,."\n: 中文字', min_size=1, max_size=700))
def test_the_squares_of_weights_are_exact(text):
    """So their sum has the same bits in any order, which lets C add them one by one."""
    weights = Folded(text).edge.astype(np.float64)
    assert (weights * GRAIN == np.rint(weights * GRAIN)).all()
    squares = np.square(weights)
    assert float(weights.dot(weights)) == math.fsum(squares.tolist()) == float(squares[::-1].cumsum()[-1])


def test_without_grain_the_order_would_matter():
    """Positive control for the test above."""
    weights = np.float32(0.1) + np.arange(700, dtype=np.float32) / np.float32(7e3)
    squares = np.square(weights.astype(np.float64) * math.pi)
    assert float(squares.cumsum()[-1]) != float(squares[::-1].cumsum()[-1])
