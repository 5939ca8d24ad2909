"""Which turns are read, which part of them, with which weight."""

import pytest

from classifiers.harness import SCAN_CHARS
from classifiers.turns import (
    EARLIER_HEAD_CHARS,
    EARLIER_TAIL_CHARS,
    EARLIER_WEIGHT,
    HEAD_CHARS,
    TAIL_CHARS,
    TURNS_READ,
    is_follow_up,
    select,
    user_texts,
)


class CountingText(str):
    """A text that counts the characters sliced out of it and refuses every other look inside."""

    __slots__ = ("touched",)

    def __new__(cls, text):
        made = super().__new__(cls, text)
        made.touched = 0
        return made

    def __getitem__(self, key):
        part = str.__getitem__(self, key)
        self.touched += len(part)
        return part

    def _refuse(self, *_args, **_kwargs):
        raise AssertionError("the whole text was read")

    __iter__ = __contains__ = __add__ = __mod__ = __eq__ = __hash__ = _refuse
    encode = lower = upper = casefold = strip = rstrip = lstrip = split = splitlines = isascii = _refuse
    find = rfind = index = count = startswith = endswith = replace = translate = partition = _refuse


@pytest.mark.parametrize("unit", ["word ", "读", "<system-reminder>", '{"content": ', "\n"])
def test_ten_megabytes_cost_a_few_slices(unit):
    """Work is bounded: of a huge text only both ends are touched, and nothing else is done with it."""
    huge = CountingText(unit * (10_000_000 // len(unit)))
    said = user_texts([("user", huge)])
    assert huge.touched <= 4 * SCAN_CHARS + 8
    assert all(len(one.text) <= HEAD_CHARS + TAIL_CHARS + 1 and type(one.text) is str for one in said)


def test_the_counting_text_sees_a_full_read():
    """Positive control: the instrument of the test above does catch work on the whole text."""
    with pytest.raises(AssertionError, match="whole text"):
        CountingText("abc").lower()
    text = CountingText("x" * 5_000)
    assert select(text, 4_000, 500)
    assert text.touched == 4_500


def test_runs_of_blanks_count_as_one():
    """Inside a line; indentation is the shape of code and stays."""
    assert select("Translate  this \t text") == "Translate this text"
    assert select("def f():\n    return 1") == "def f():\n    return 1"


@pytest.mark.parametrize("text", ["continue", "Go on!", "继续", "继续。", " please continue ", "然后呢？"])
def test_a_follow_up_is_known(text):
    """Words that only ask to go on."""
    assert is_follow_up(text)


@pytest.mark.parametrize(
    "text", ["continue the story about the fox", "写诗", "translate", "thanks", "", "继续写第三章"]
)
def test_a_wish_is_no_follow_up(text):
    """Positive control for the test above."""
    assert not is_follow_up(text)


def test_short_texts_are_read_whole():
    """Up to what is kept anyway."""
    assert select("hello") == "hello"
    text = "x" * (HEAD_CHARS + TAIL_CHARS)
    assert select(text) == text


def test_long_texts_lose_their_middle():
    """Head and tail stay, on lines of their own."""
    text = "a" * HEAD_CHARS + "m" * 5_000 + "z" * TAIL_CHARS
    assert select(text) == "a" * HEAD_CHARS + "\n" + "z" * TAIL_CHARS


@pytest.mark.parametrize("letter", ["读", "か", "한"])
def test_dense_scripts_are_read_for_half_as_many(letter):
    """A word takes one or two characters there."""
    assert len(select(letter * 5_000)) == HEAD_CHARS // 2 + TAIL_CHARS // 2 + 1


def test_a_few_accents_are_not_dense():
    """Positive control for the test above."""
    assert len(select("déjà vu encore " * 1_000)) == HEAD_CHARS + TAIL_CHARS + 1


def test_only_user_turns_are_read_newest_first():
    """Other roles say nothing; at most two earlier turns count, and less."""
    turns = [("user", f"turn {n}") for n in range(5)] + [("assistant", "no"), ("tool", "no")]
    said = user_texts(turns)
    assert [one.text for one in said] == ["turn 4", "turn 3", "turn 2"]
    assert [one.weight for one in said] == [1.0, EARLIER_WEIGHT, EARLIER_WEIGHT]


def test_earlier_turns_are_read_for_less():
    """Only enough to know what they were about."""
    said = user_texts([("user", "e" * 9_000), ("user", "now")])
    assert len(said[1].text) == EARLIER_HEAD_CHARS + EARLIER_TAIL_CHARS + 1


def test_results_of_tools_are_passed_over():
    """In an agent's loop the person's wish stands before the results."""
    turns = [("user", "fix the failing test"), *[("user", "<tool_result>1 failed</tool_result>")] * 5]
    assert [one.text for one in user_texts(turns)] == ["fix the failing test"]


def test_the_search_for_words_ends():
    """A thousand results of tools are not searched to their beginning."""
    turns = [("user", "hidden"), *[("user", "<tool_result>x</tool_result>")] * TURNS_READ]
    assert user_texts(turns) == []


def test_context_is_told():
    """Earlier turns and an asking app are flags that the last text can't show."""
    alone = user_texts([("user", "again")])[0]
    after = user_texts([("user", "sort a list"), ("assistant", "ok"), ("user", "again")])[0]
    by_app = user_texts([("user", "Write a title for this conversation: tyres")])[0]
    assert alone.context == ()
    assert len(after.context) == 1
    assert len(by_app.context) == 1
    assert by_app.noisy
    assert after.context != by_app.context
