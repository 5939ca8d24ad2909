"""The words that are looked for are found where they stand."""

from __future__ import annotations

import pytest

from classifiers import IntentClassifier
from classifiers.dressing import TALK, kind_of
from classifiers.sayings import GRAMMAR, HOW_SAID, HOW_SAID_ZH, asks_about_material, is_about_answers, tells_how


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


@pytest.mark.parametrize(
    "rest", ["Any idea?", "what is wrong?", "How to fix", "为什么没有结果", "哪里错了", "Simplify"]
)
def test_short_questions_are_about_what_stands_beside_them(rest):
    """Alone they would be advice, or a fact."""
    assert asks_about_material(rest)


@pytest.mark.parametrize(
    "rest",
    ["Write a birthday card for my aunt who loves cats and long walks", "把这封邮件翻译成英文发给客户，语气客气一点"],
)
def test_a_wish_with_an_object_of_its_own_is_not(rest):
    """It says what it is about."""
    assert not asks_about_material(rest)


def test_words_about_answers_begin_a_word():
    """In a sentence of another matter their letters stand inside words; Han has no blanks to go by."""
    assert is_about_answers("give me a careful answer")
    assert is_about_answers("请给出最好的回答")
    assert not is_about_answers("a superpower of mine, remodelling the frontier, in a stubborn ecosystem")


@pytest.mark.parametrize("ask", ["Any idea?", "What is wrong?", "How to fix", "为什么没有结果", "哪里错了"])
@pytest.mark.parametrize(
    "material",
    [
        "Traceback (most recent call last):\n  File \"a.py\", line 3, in <module>\nKeyError: 'k'",
        "SELECT id, name FROM users WHERE created_at > now() - interval '1 day';",
        "```python\ndef f(x):\n    for i in range(x):\n        print(i\n```",
    ],
)
def test_code_with_a_short_question_stays_code(ask, material):
    """What is asked about must not be taken for dressing."""
    for text in (f"{material}\n\n{ask}", f"{ask}\n\n{material}"):
        assert IntentClassifier.load().predict([("user", text)]).label == "coding"
