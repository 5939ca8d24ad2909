"""Hostile texts cost a bounded amount of work: counted in calls and characters, not in seconds.

The measure is how many functions (of Python and of C) a prediction calls, against a prompt of 2,000 characters, and how
many characters ever reach the features. The same numbers come out on every machine.
"""

from __future__ import annotations

import json
import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers import IntentClassifier, scorer
from classifiers.scorer import READINGS_MORE
from classifiers.turns import HEAD_CHARS, TAIL_CHARS

CLASSIFIER = IntentClassifier.load()
ORDINARY = ("Please explain how a heat pump works, why it needs less power, and what it costs in a cold year. " * 21)[
    :2_000
]
MEGABYTES = 10 * 1024 * 1024

CALLS_MAX = 42
"""Times the calls of an ordinary prompt, of which some 36 are seen: a reading by the compiled kernel is one. The dearest
honest case reads three turns, an unsure one three texts more; a turn that is all wrapping takes twenty calls."""

READINGS_MAX = 3 + READINGS_MORE
"""Texts of one prediction that features are taken of: three turns, and the last one again without dressing."""


def calls(turns):
    """How many functions one prediction calls."""
    counted = 0

    def count(_frame, event, _what):
        nonlocal counted
        counted += event in ("call", "c_call")

    CLASSIFIER.predict(turns)
    sys.setprofile(count)
    try:
        CLASSIFIER.predict(turns)
    finally:
        sys.setprofile(None)
    return counted


def nested(depth, opening, closing):
    """Brackets in brackets."""
    return opening * depth + closing * depth


HAN = "".join(chr(random.Random(5).randint(0x4E00, 0x9FA5)) for _ in range(1_000))
TEXTS = {
    "ten megabytes": "buy me the best model " * (MEGABYTES // 22),
    "ten megabytes of one line without blanks": "a" * MEGABYTES,
    "ten megabytes of blanks": " " * MEGABYTES,
    "ten megabytes of line breaks": "\n" * MEGABYTES,
    "ten megabytes of Han": (HAN * 4_000)[: MEGABYTES // 3],
    "punctuation": "?!;.,:-" * 20_000,
    "one mark": "." * 100_000,
    "lone surrogates": "\ud800\udfff" * 50_000,
    "right to left": "\u202e\u2067שלום עולם مرحبا" * 10_000,
    "marks on marks": "a" + "\u0301" * 100_000,
    "joiners": "\u200d".join("👩🏽" * 20_000),
    "nothing visible": "\u200b\u2060\ufeff" * 50_000,
    "a bomb of JSON": '{"messages":[{"content":' * 5_000,
    "deep JSON": '{"content":' + nested(8_000, "[", "]") + "}",
    "long JSON": json.dumps({"content": ["x"] * 5_000, "messages": []}),
    "a bomb of tags": "<system-reminder>" * 20_000,
    "tags in tags": nested(3_000, "<user_query>", "</user_query>"),
    "unclosed tag": "<" + "a" * 200_000,
    "brackets": "[" * 100_000,
    "fences": "```" * 50_000,
    "formulas": "$$" * 50_000,
    "stack traces": "Traceback (" * 20_000,
    "statements": "select " * 50_000,
    "keywords": "theorem " * 50_000,
    "commas": "证明，" * 50_000,
    "NUL": "\0" * 100_000,
    "digits": "9" * 100_000,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_work_is_bounded(text):
    """Few more calls than for an ordinary prompt, and a prediction that is one."""
    read = CLASSIFIER.predict([("user", text)])
    assert sum(read.posterior.values()) == pytest.approx(1.0)
    assert read.label in read.posterior
    assert calls([("user", text)]) <= CALLS_MAX * calls([("user", ORDINARY)])


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_few_characters_reach_the_features(text, monkeypatch):
    """However long the text, three turns of a selection at most, and the last one again without its dressing."""
    lengths, real = [], CLASSIFIER._judges

    class Noting:
        """Judges, and notes how long what it reads is."""

        def hear(self, selection, context):
            lengths.append(len(selection))
            return real.hear(selection, context)

        def judge(self, selection, *around):
            lengths.append(len(selection))
            return real.judge(selection, *around)

    monkeypatch.setattr(CLASSIFIER, "_judges", Noting())
    CLASSIFIER.predict([("user", text), ("assistant", text), ("user", text), ("user", text)])
    assert len(lengths) <= READINGS_MAX
    assert max(lengths, default=0) <= HEAD_CHARS + TAIL_CHARS + 1


def test_a_hundred_thousand_turns_are_not_all_looked_at():
    """A conversation of harness noise alone is given up after a fixed number of turns."""
    noise = ("user", "<system-reminder>nothing</system-reminder>")
    assert calls([noise] * 100_000) <= CALLS_MAX * calls([("user", ORDINARY)])


@given(
    st.lists(
        st.tuples(st.sampled_from(["user", "assistant", "system", ""]), st.text(st.characters(), max_size=400)),
        max_size=5,
    )
)
def test_any_conversation_is_read(turns):
    """Any characters at all, in any role."""
    read = CLASSIFIER.predict(turns)
    assert sum(read.posterior.values()) == pytest.approx(1.0)
    assert 1.0 <= read.difficulty <= 5.0


def test_the_measure_can_fail(monkeypatch):
    """A reader that looks at the whole text is found out."""

    def word_by_word(turns):
        for _, text in turns:
            for word in text.split():
                word.lower()
        return real(turns)

    real = scorer.user_texts
    monkeypatch.setattr(scorer, "user_texts", word_by_word)
    assert calls([("user", TEXTS["ten megabytes"])]) > CALLS_MAX * calls([("user", ORDINARY)])
