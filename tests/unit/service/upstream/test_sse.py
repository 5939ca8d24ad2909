"""The tap against a parser that is too simple to be wrong, and against the official SDK: I22."""

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from service.upstream import sse
from service.upstream.sse import EVENT_BYTES_MAX, EventTooLong, SseTap, data_of

BOM = b"\xef\xbb\xbf"


def reference(stream):
    """The data of each event of a whole stream, step by step as the HTML standard words it."""
    text = stream[3:] if stream.startswith(BOM) else stream
    lines = re.split(b"\r\n|\n|\r", text)
    lines.pop()  # what follows the last line end is no line yet
    events, data = [], None
    for line in lines:
        if line == b"":
            if data is not None:
                events.append(data[:-1])
            data = None
            continue
        if line.startswith(b":"):
            continue
        name, _, value = line.partition(b":")
        if name == b"data":
            data = (data or b"") + (value[1:] if value.startswith(b" ") else value) + b"\n"
    return events


def sdk(stream):
    """What the official SDK reads."""
    return [event.data for event in SSEDecoder().iter_bytes(iter([stream]))]


def tapped(stream, cuts=()):
    """(data of the events that have any, all raw bytes and the tail joined)."""
    tap, events, start = SseTap(), [], 0
    for end in [*sorted(cuts), len(stream)]:
        events += tap.feed(stream[start:end])
        start = end
    joined = b"".join(event.raw for event in events) + tap.finish()
    return [event.data for event in events if event.data is not None], joined


EOL = st.sampled_from(["\n", "\r\n", "\r"])
WORD = st.text(alphabet=st.sampled_from(list('ab :{}",中é\u2028\u2029\u0085\x0b\x0c\x00')), max_size=6)
LINE = st.one_of(
    WORD.map(lambda text: "data: " + text),
    WORD.map(lambda text: "data:" + text),
    WORD.map(lambda text: ": " + text),
    WORD.map(lambda text: "event: " + text),
    WORD,
    st.sampled_from(
        ["data", "data:", "data: ", "data:  ", "id: 1", "retry: 5", "", "", "", "data: [DONE]", "\ufeffdata: x"]
    ),
)
STREAMS = st.tuples(
    st.booleans(), st.lists(st.tuples(LINE, EOL), max_size=14), st.sampled_from(["", "data: tail", "\r"])
).map(
    lambda parts: (
        (BOM if parts[0] else b"") + "".join(line + end for line, end in parts[1]).encode() + parts[2].encode()
    )
)


@given(STREAMS, st.data())
@example(b"data: a\r\r\ndata: b\r\r", None)
@example(b"\n\ndata: a\n\n\n\ndata: b\n\n", None)
def test_events_do_not_depend_on_chunks(stream, data):
    """Whole, in random pieces and byte by byte: the data of the reference parser, and every byte in its place."""
    expected = reference(stream)
    cuts = [] if data is None else data.draw(st.lists(st.integers(0, len(stream))))
    for cut in ([], cuts, range(len(stream))):
        found, joined = tapped(stream, cut)
        assert found == expected
        assert joined == stream


@given(STREAMS, st.data())
def test_the_official_sdk_reads_the_same(stream, data):
    """For streams as vendors send them: the SDK knows no byte order mark and drops events whose data is empty."""
    stream = stream.removeprefix(BOM)
    found, _ = tapped(stream, data.draw(st.lists(st.integers(0, len(stream)))))
    assert [one.decode() for one in found if one] == [one for one in sdk(stream) if one]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_json_with_odd_line_separators_is_one_line(end):
    """U+2028, U+2029 and U+0085 end lines in other standards, not in this one."""
    payload = json.dumps({"content": "a\u2028b\u2029c\u0085d\x0be"}, ensure_ascii=False)
    stream = f"data: {payload}{end}{end}".encode()
    for cuts in ((), range(len(stream))):
        found, joined = tapped(stream, cuts)
        assert [json.loads(one)["content"] for one in found] == ["a\u2028b\u2029c\u0085d\x0be"]
        assert joined == stream


def test_an_event_is_given_out_with_its_last_byte():
    """Not one byte later: a CR that ends the blank line must not wait for a line feed that may never come."""
    for stream in (b"data: x\n\n", b"data: x\r\n\r\n", b"data: x\r\r", b"data: x\r\n\r"):
        tap = SseTap()
        early = [event for byte in stream[:-1] for event in tap.feed(bytes([byte]))]
        if not stream.endswith(b"\r\n"):
            assert early == []
            assert [event.data for event in tap.feed(stream[-1:])] == [b"x"]
        else:
            assert [event.data for event in early] == [b"x"]


def test_lines_of_data_are_joined():
    """Several data lines are one datum; comments and other fields between them are not in it."""
    assert tapped(b"data: {\n: hm\nevent: e\ndata:1}\ndata\n\n")[0] == [b"{\n1}\n"]
    assert data_of(b"data") == b""
    assert data_of(b"datax: 1\n data: 2\n: data: 3\n") is None


def test_an_unterminated_tail_is_no_event():
    """It is handed back by `finish`, for whoever wants the bytes."""
    assert tapped(b"data: a\n\ndata: b") == ([b"a"], b"data: a\n\ndata: b")
    assert tapped(b"data: a\n\ndata: b\n") == ([b"a"], b"data: a\n\ndata: b\n")


def test_a_line_of_one_mebibyte():
    """Passes whole, in 1 KiB pieces, and the search does not begin again at its start each time."""
    stream = b"data: " + b"x" * 2**20 + b"\n\n"
    looked_at = 0

    class Counting:
        def search(self, buffer, start):
            nonlocal looked_at
            looked_at += len(buffer) - start
            return pattern.search(buffer, start)

    pattern, sse._BLANK_LINE = sse._BLANK_LINE, Counting()
    try:
        found, joined = tapped(stream, range(0, len(stream), 1024))
    finally:
        sse._BLANK_LINE = pattern
    assert found == [b"x" * 2**20]
    assert joined == stream
    assert looked_at < 2 * len(stream)


@pytest.mark.parametrize("piece", [65_536, 2**30])
def test_an_event_over_the_limit_is_refused(piece):
    """However it arrives, with its end or without; one of exactly the limit passes."""
    body = b"data: " + b"x" * (EVENT_BYTES_MAX - 8) + b"\n\n"
    assert len(tapped(body, range(0, len(body), piece))[0]) == 1
    for hostile in (b"x" + body, b"x" * (EVENT_BYTES_MAX + 1)):
        with pytest.raises(EventTooLong):
            tapped(hostile, range(0, len(hostile), piece))
