"""Structural flags: each fires on its shape and stays silent on a plain sentence."""

import pytest

from classifiers.features import extract
from classifiers.structure import FLAGS


def _flags(text):
    return {FLAGS[place] for place in extract(text).flags}


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("code fence", "look:\n```\nx\n```"),
        ("backtick", "what is `map`"),
        ("code punctuation", "if (a) { b"),
        ("much code punctuation", "a{b};c{d};e{f};"),
        ("indented lines", "code\n    return 1\nend"),
        ("latex", r"compute \frac{1}{2}"),
        ("maths symbols", "1 + 1"),
        ("many maths symbols", "a+b=c, c+d=e"),
        ("a digit", "room 5"),
        ("many digits", "call 0049 30 123456"),
        ("question mark", "really?"),
        ("question mark", "真的吗？"),
        ("several question marks", "what? why?"),
        ("ends with a question mark", "is it far?"),
        ("ends with a colon", "fix the text:"),
        ("exclamation mark", "great!"),
        ("quotation marks", "说“你好”"),
        ("answer choices", "Which?\nA. one\nB. two\nC. three"),
        ("bullet list", "buy\n- milk\n- eggs"),
        ("numbered list", "do\n1. this\n2. that"),
        ("link", "see https://example.org/x"),
        ("one line", "hello"),
        ("2-4 lines", "a\nb"),
        ("5+ lines", "a\nb\nc\nd\ne"),
        ("blank line inside", "a\n\nb"),
        ("short first line, long rest", "Summarise:\n" + "word " * 60),
        ("at most 20 characters", "hi"),
        ("over 600 characters", "word " * 130),
        ("Han and Latin mixed", "用Python写"),
        ("no capital at the start", "hey you"),
        ("two kinds of action", "translate it and write a reply"),
        ("three or more kinds of action", "先翻译，再写总结，最后发给客户"),
        ("language zh", "你好"),
        ("language other", "привет"),
        ("language und", "?!"),
    ],
)
def test_a_flag_fires(flag, text):
    """Every shape is seen."""
    assert flag in _flags(text)


def test_a_plain_sentence_has_few_flags():
    """Nothing but its length, its single line and its language."""
    assert _flags("The train to Porto leaves in the evening") == {"one line", "21-60 characters", "language en"}


def test_the_beginning_of_a_word_is_no_action():
    """Who writes and who checks asks for neither; whole words count in short texts as in long ones."""
    assert "two kinds of action" not in _flags("writers and checkers")
    assert "two kinds of action" in _flags("write and check")


@pytest.mark.parametrize(
    "text",
    [
        "她写得快，他译得慢",
        "Translate " + "the letter of the old man " * 6 + "and e-mail it",
        "翻译" + "春天的花开了又谢了" * 8 + "发给",
        "译" + "春天的花开了又谢了" * 8 + "写",
    ],
)
def test_actions_are_seen_at_both_ends(text):
    """Single Han characters, pairs and words; in the middle of a long text they may stand for anything."""
    assert "two kinds of action" in _flags(text)


def test_action_words_deep_in_pasted_text_are_no_steps():
    """A text that mentions translating, writing and sending is still one wish."""
    story = (
        "They meet every day. " * 12 + "He will translate, write, send and calculate. " + "They meet every day. " * 12
    )
    assert "three or more kinds of action" not in _flags("Shorten this: " + story)
