"""What is told by its frame: only whole events whose text alone may differ, and their text is counted as it reads."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.domain.chat import count_characters
from service.domain.ports import TextFrame
from service.upstream.frames import text_of

ONE = TextFrame(b'data: {"a":"', b'","z":1}')
TWO = TextFrame(b'data: {"a":"', b'","p":"', b'"}')


def event(text, frame=ONE, padding="x", **spelling):
    """An event of a frame."""
    inside = json.dumps(text, **spelling)[1:-1].encode("utf-8", "surrogatepass")
    return frame.before + inside + frame.after + (padding.encode() + frame.end if frame.end else b"") + b"\n\n"


TEXTS = st.lists(st.text(min_size=1, max_size=6) | st.text(alphabet='"\\{}:,a\n', min_size=1, max_size=6), max_size=4)


@given(TEXTS, st.booleans(), st.sampled_from([ONE, TWO]))
@example(['"', "\\", '\\"', "\n\n", "\u2028", "中é😀"], False, TWO)
def test_every_text_is_counted_as_it_reads(texts, ascii_only, frame):
    """However it is spelt, alone and several at once."""
    whole = b"".join(event(text, frame, ensure_ascii=ascii_only) for text in texts)
    counted = [count_characters(text) for text in texts]
    assert text_of(whole, frame) == (sum(n for n, _ in counted), sum(cjk for _, cjk in counted))


@pytest.mark.parametrize("frame", [ONE, TWO])
@pytest.mark.parametrize(
    "inside",
    [
        b"",
        b'"',
        b'a"b',
        b"\\",
        b"a\nb",
        b"a\x00b",
        b"\xff",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"\\x",
        b'","z":2,"y":"',
    ],
)
def test_what_is_no_text_is_not_alike(frame, inside):
    """An empty one, one that closes its quote, a broken escape, what is no UTF-8: the parser has to see it."""
    good = event("fine", frame)
    bad = good.replace(b"fine", inside, 1)
    for chunk in (bad, good + bad, bad + good):
        assert text_of(chunk, frame) is None


@pytest.mark.parametrize("padding", ["", '"', "\\", "a\tb", "é"])
def test_the_second_gap_holds_plain_text_only(padding):
    """Anything else has to be parsed, though it would mean nothing."""
    assert text_of(event("a", TWO, padding), TWO) is None
    assert text_of(event("a", TWO, "aB3 :,{}"), TWO) == (1, 0)


@pytest.mark.parametrize(
    "chunk",
    [
        event("a")[:-1],
        event("a")[1:],
        b"\n" + event("a"),
        event("a") + b"\n",
        event("a") + b": comment\n\n",
        event("a") + b"data: [DONE]\n\n",
        event("a").replace(b"\n", b"\r\n"),
        ONE.before + b"\n\n",
        ONE.before[:-1] + ONE.after + b"\n\n",
    ],
)
def test_what_is_not_whole_events_of_that_frame(chunk):
    """A cut one, other line ends, other events among them, a gap that closes on itself."""
    assert text_of(chunk, ONE) is None
