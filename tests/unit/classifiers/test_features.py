"""The sparse vector: bounded, stable, and tied to its cues."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers import features as f

HEAD, TAIL = f.HEAD_CHARS, f.TAIL_CHARS


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
    encode = lower = upper = casefold = strip = rstrip = lstrip = split = splitlines = _refuse
    find = rfind = index = count = startswith = endswith = replace = translate = partition = _refuse


def test_ten_megabytes_cost_two_thousand_characters():
    """Work is bounded: of a huge text only the head and the tail are touched, and nothing else is done with it."""
    huge = CountingText("word " * 2_000_000)
    (weight, selection), *rest = f.user_texts([("user", huge)])
    assert weight == 1.0
    assert not rest
    assert huge.touched == HEAD + TAIL
    assert len(selection) == HEAD + TAIL + 1
    assert type(selection) is str
    f.extract(selection)


def test_the_counting_text_sees_a_full_read():
    """Positive control: the instrument of the test above does catch work on the whole text."""
    with pytest.raises(AssertionError, match="whole text"):
        CountingText("abc").lower()
    text = CountingText("x" * 5_000)
    assert f.select(text, 5_000, 0)
    assert text.touched == 5_000


def test_extract_refuses_what_was_not_selected():
    """The bound can't be forgotten by a caller."""
    with pytest.raises(ValueError, match="select"):
        f.extract("x" * (HEAD + TAIL + 2))


def test_selection_keeps_both_ends():
    """The head, a line break, the tail; short texts whole."""
    text = "a" * HEAD + "b" * 100 + "c" * TAIL
    assert f.select(text) == "a" * HEAD + "\n" + "c" * TAIL
    assert f.select("short") == "short"
    assert f.select("x" * (HEAD + TAIL)) == "x" * (HEAD + TAIL)


def test_only_user_turns_are_read():
    """System and assistant texts are not the person's wish; at most two earlier user turns count, by half."""
    turns = [
        ("user", "one"),
        ("user", "two"),
        ("assistant", "x"),
        ("user", "three"),
        ("system", "y"),
        ("user", "four"),
        ("tool", "z"),
    ]
    assert f.user_texts(turns) == [(1.0, "four"), (0.5, "three"), (0.5, "two")]
    assert f.user_texts([("system", "You are a title generator")]) == []


def test_earlier_turns_are_read_more_shortly():
    """The cap of an earlier turn is its own."""
    texts = f.user_texts([("user", "e" * 9_000), ("user", "l" * 9_000)])
    assert [len(text) for _, text in texts] == [HEAD + TAIL + 1, f.EARLIER_HEAD_CHARS + f.EARLIER_TAIL_CHARS + 1]


@given(st.text(max_size=400))
def test_any_text_has_a_vector(text):
    """Rows exist, values are finite and positive, no text is refused."""
    found = f.extract(text, spans=True)
    assert len(found.buckets) == len(found.values)
    assert (found.buckets >= 0).all()
    assert (found.buckets < f.ROWS).all()
    assert np.isfinite(found.values).all()
    assert len(found.starts) == len(found.ends) == len(found.buckets) - len(found.flags)
    assert (found.ends <= len(text) + 1).all()


@given(st.text(alphabet="abc xyz,.中文字", min_size=1, max_size=1_500))
def test_blocks_have_their_length(text):
    """A long text is not louder than a short one: the hashed part is bounded by the block scales."""
    found = f.extract(text)
    hashed = found.values[: len(found.values) - len(found.flags)]
    limit = f.SCALE_WORDS**2 + f.SCALE_CHARS**2 + f.SCALE_ANCHORS**2
    assert float(hashed @ hashed) <= limit + 1e-3


def test_vectors_are_the_same_in_another_process():
    """No hash seed, no interning, no import order gets in."""
    code = (
        "from classifiers.features import extract;"
        "x = extract('Translate 你好世界 please: naïve café 12 😀');"
        "print(x.buckets.tolist(), [round(float(v), 4) for v in x.values])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert len(outputs) == 1


def test_case_width_and_blanks_do_not_matter():
    """The same request typed differently has the same hashed features."""
    one, other = f.extract("Translate  THIS text"), f.extract("translate this TEXT")
    hashed = len(one.buckets) - len(one.flags)
    assert one.buckets[:hashed].tolist() == other.buckets[: len(other.buckets) - len(other.flags)].tolist()


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
    assert set(f.cue_buckets(cue)) <= set(f.extract(text).buckets.tolist())


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
    row = f.opening_buckets(cue)[0]
    assert row in f.extract(text).buckets
    assert row not in f.extract("well, " + text.replace("\n", " ")).buckets


@pytest.mark.parametrize("cue", ["", "...", "one two three", "脑筋急转弯", "用Python"])
def test_a_cue_that_could_never_fire_is_refused(cue):
    """With what to write instead."""
    with pytest.raises(ValueError, match="write"):
        f.cue_buckets(cue)


def test_the_fingerprint_moves_with_the_tuning(monkeypatch):
    """An artefact of other features can't be loaded by mistake."""
    before = f.fingerprint()
    assert before == f.fingerprint()
    monkeypatch.setattr(f, "SCALE_WORDS", 0.9)
    assert f.fingerprint() != before


def test_spans_point_into_the_text():
    """Explanations quote what was read."""
    text = "Translate  this, 你好吗"
    found = f.extract(text, spans=True)
    quoted = {text[max(a, 0) : b] for a, b in zip(found.starts.tolist(), found.ends.tolist(), strict=True)}
    assert {"Translate", "this", "Translate  this", "你好", "好吗", "你好吗"} <= quoted
