"""A stream on its way: told by frames as by the parser, and passed on only while there is room. More: test_client."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.catalog import Deployment, Provider, Timeouts
from service.domain.decision import Candidate
from service.domain.ports import TextFrame
from service.domain.prices import PriceBook
from service.errors import Broken, UpstreamError
from service.upstream import sse, stream
from service.upstream.patience import Patience
from service.upstream.protocols import PROTOCOLS
from service.upstream.stream import AnswerStream, Reading
from service.upstream.tally import Tally

WIRE = PROTOCOLS["openai_chat"]
DONE = b"data: [DONE]\n\n"


class Clock:
    """One that stands."""

    def monotonic(self):
        return 100.0


class Counting:
    """The wire, and how often it is asked what."""

    def __init__(self):
        self.signals = self.frames = 0

    def signal(self, *told, **named):
        self.signals += 1
        return WIRE.signal(*told, **named)

    def text_frame(self, *told):
        self.frames += 1
        return WIRE.text_frame(*told)


def event(text="x", *, finish=None, index=0, name="content", spaced=True, ascii_only=False, **more):
    """One event as vendors write them."""
    body = {"id": "c1", "model": "m", "choices": [{"index": index, "delta": {name: text}, "finish_reason": finish}]}
    separators = None if spaced else (",", ":")
    said = json.dumps({**body, **more}, ensure_ascii=ascii_only, separators=separators)
    return b"data: " + said.encode("utf-8", "surrogatepass") + b"\n\n"


@pytest.fixture
def reading(candidate, chat):
    """A reading of a stream, and the wire it asks."""

    def make(**members):
        wire = Counting()
        return Reading(wire, chat(stream=True, **members), candidate(), Tally(99.0), Clock()), wire

    return make


def known(one, given_out):
    """All that can be told of a reading."""
    tally = one.tally
    problem = None if one.problem is None else (type(one.problem), one.problem.cause, one.problem.message)
    noted = (tally.output_characters, tally.cjk_characters, tally.seen, tally.finished, tally.usage, tally.usage_flags)
    return given_out, problem, one.done, one.nothing_missing, tally.first_content, tally.model, tally.upstream_id, noted


TEXT = st.text(max_size=5) | st.text(alphabet='"\\ \n{}:,ab中', max_size=8) | st.just("x" * 40)
EVENTS = st.one_of(
    st.builds(event, TEXT),
    st.builds(event, TEXT),
    st.builds(event, TEXT, spaced=st.booleans(), ascii_only=st.booleans(), obfuscation=st.text('aB3"é', max_size=3)),
    st.builds(event, TEXT, name=st.sampled_from(["reasoning_content", "reasoning", "refusal", "role", "content"])),
    st.builds(event, TEXT, index=st.sampled_from([0, 1, True, 1.0, "0", None])),
    st.builds(event, TEXT, finish=st.sampled_from([None, "stop", "", "null", "error"])),
    st.builds(event, TEXT, usage=st.sampled_from([None, {}, {"prompt_tokens": 5, "completion_tokens": 2}])),
    st.builds(event, TEXT, error=st.sampled_from([None, "", {"message": "no"}])),
    st.builds(event, TEXT, content=TEXT, created=st.integers(0, 2)),
    st.sampled_from(
        [
            DONE,
            b": ping\n\n",
            b"\n",
            b"\r\n",
            b"data: {}\n\n",
            b"data: x\n\n",
            b'data: {"choices":[{"index":0,"delta":{"content":"a","content":"b"}}]}\n\n',
            b'data: {"choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n',
            b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\n',
            b'data: {"id":"\\"content\\":\\"","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
            b'data: {"content":"q","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
            b'event: x\ndata: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
            b'data:{"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
            b'data: {"choices":\ndata: [{"index":0,"delta":{"content":"a"}}]}\n\n',
        ]
    ),
)
STREAMS = st.lists(st.tuples(EVENTS, st.integers(1, 3)), max_size=12).map(
    lambda all_: [e for e, n in all_ for _ in range(n)]
)
CANDIDATE = Candidate(
    Deployment(Provider("acme", "https://acme.example/"), "model-1", "wire-1", PriceBook("acme/model-1")),
    0.9, None, None, 12, 100, 0, None, output_tokens_cap=0,
)  # fmt: skip


@pytest.mark.parametrize("asked", [True, False])
def test_a_line_end_that_is_cut_in_two_is_handed_on_whole(reading, asked):
    """Its second half comes with the next event, also when that one is not the caller's to see."""
    said = [event("a"), event("", finish="stop"), event(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 2})]
    first, last, usage = (one.replace(b"\n", b"\r\n") for one in said)
    pieces = [first[:-1], b"\n" + last[:-1], b"\n" + usage[:-1], b"\n" + DONE.replace(b"\n", b"\r\n")]
    one, _ = reading(stream_options={"include_usage": asked})
    handed = b"".join(one.take(piece) for piece in pieces)
    assert handed == first + last + (usage if asked else b"")
    assert one.done


@settings(max_examples=400, deadline=None)
@given(STREAMS, st.data())
def test_a_frame_changes_nothing_but_the_time_it_takes(events, data):
    """The same bytes for the caller, the same tally, the same error at the same place, however the stream is cut."""
    from service.api.chat_body import read_chat

    chat = read_chat(b'{"model":"auto","stream":true,"messages":[{"role":"user","content":"hi"}]}', {})
    whole = b"".join(events)
    cuts = data.draw(st.lists(st.integers(0, len(whole)))) if data.draw(st.booleans()) else _ends(events)
    seen = []
    for frames_max in (stream.FRAMES_MAX, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stream, "FRAMES_MAX", frames_max)
            one, states, start = Reading(WIRE, chat, CANDIDATE, Tally(99.0), Clock()), [], 0
            for end in [*sorted(cuts), len(whole)]:
                if one.over:
                    break
                states.append(known(one, one.take(whole[start:end])))
                states[-1] = json.dumps(states[-1], default=repr)
                start = end
            seen.append(states)
    assert seen[0] == seen[1]


def _ends(events):
    """Where each event ends: how vendors cut."""
    ends, at = [], 0
    for one in events:
        at += len(one)
        ends.append(at)
    return ends


@pytest.mark.parametrize("more", [{}, {"obfuscation": "a"}, {"name": "reasoning_content"}, {"spaced": False}])
def test_most_events_are_not_parsed(reading, more):
    """Once one was, those like it are told by their frame: one by one, several in a read, with escapes in the text."""
    one, wire = reading()
    chunks = [event(text, **more) for text in ("a", "b", 'say "no"\n', "巴黎", "\\")]
    for chunk in [*chunks, b"".join(chunks)]:
        assert one.take(chunk) == chunk
    assert (wire.signals, wire.frames) == (1, 1)
    assert (one.tally.output_characters, one.tally.cjk_characters) == (28, 4)
    assert one.take(event("", finish="stop")) == event("", finish="stop")
    assert one.nothing_missing
    assert wire.signals == 2


def test_a_new_frame_is_learned_when_the_old_one_no_longer_fits(reading):
    """Thinking comes before the answer, and some vendors write the time into each event."""
    one, wire = reading()
    for created in range(2 * stream.FRAMES_MAX):
        for text in "abc":
            one.take(event(text, created=created))
    assert wire.signals == 2 * stream.FRAMES_MAX
    assert one.tally.output_characters == 6 * stream.FRAMES_MAX


def test_looking_in_vain_has_an_end(reading):
    """No two events alike: after a few tries only the parser is asked."""
    one, wire = reading()
    for number in range(50):
        one.take(event("a", id=f"c{number}"))
    assert (wire.signals, wire.frames) == (50, stream.FRAMES_MAX)
    assert one.tally.output_characters == 50


def test_a_long_event_has_no_frame(reading):
    """It is no piece like the others, and what looks for frames reads it three times."""
    one, wire = reading()
    one.take(event("a" * stream.FRAME_BYTES_MAX))
    assert (wire.signals, wire.frames) == (1, 0)


def test_a_chunk_over_the_limit_of_an_event_is_the_taps(reading, monkeypatch):
    """Told by its frame or not, too long is too long."""
    one, _ = reading()
    one.take(event("a"))
    monkeypatch.setattr(sse, "EVENT_BYTES_MAX", 300)
    one.take(event("a" * 300))
    assert one.problem.cause == "event_too_large"


def test_half_an_event_before_is_not_forgotten(reading):
    """What looks like a whole event is the rest of another while the tap holds something."""
    one, wire = reading()
    one.take(event("a"))
    assert one.take(b'data: {"x":1,\n') == b""
    assert one.take(event("b")) == b""
    assert isinstance(one.problem, UpstreamError)
    assert wire.signals == 2


def test_an_event_of_several_lines_has_no_frame(reading):
    """Its data is joined from lines; the same bytes in one field mean something else."""
    one, wire = reading()
    lines = b'data: {"choices":\ndata: [{"index":0,"delta":{"content":"a"}}]}\n\n'
    assert one.take(lines) == lines
    assert wire.frames == 0
    assert one.take(lines.replace(b"\ndata: ", b"\n")) == b""
    assert one.problem.cause == "malformed_answer"


def test_a_frame_is_of_one_stream(reading):
    """The next stream begins without."""
    first, _ = reading()
    first.take(event("a"))
    second, wire = reading()
    second.take(event("a"))
    assert wire.signals == 1
    assert second.tally.seen == {0}


class Answer:
    """A vendor's answer: pieces that come one after the other as they are asked for, and what was asked."""

    def __init__(self, *pieces):
        self.pieces, self.poured, self.closed = [*pieces], 0, False

    async def pour(self, take):
        while self.pieces:
            piece = self.pieces.pop(0)
            if piece is None:
                await asyncio.sleep(60)
            self.poured += 1
            if not take(piece):
                break
        return not self.pieces

    async def aclose(self):
        self.closed = True


@pytest.fixture
def opened(reading):
    """A stream whose head was read."""

    async def start(*pieces, timeouts=None):
        answer, (one, _) = Answer(*pieces), reading()
        opened = AnswerStream(answer, one, timeouts or Timeouts(1, 1, 1, 60), Patience(), Clock())
        await opened.read_head()
        return opened, answer

    return start


async def test_nothing_more_is_taken_while_a_piece_waits_for_room(opened):
    """A refused piece is given back once, and what comes after it only when it is asked for again."""
    one, answer = await opened(event("a"), event("b"), event("c"), event("d", finish="stop"), DONE)
    assert answer.poured == 1
    taken = []

    def put(piece):
        taken.append(piece)
        return len(taken) != 3

    assert await one.forward(put) == event("c")
    assert answer.poured == 3
    assert taken == [event("a"), event("b"), event("c")]
    assert await one.forward(put) is None
    assert taken[3:] == [event("d", finish="stop")]
    assert await one.forward(put) is None
    await one.aclose()
    assert answer.closed


async def test_it_may_be_closed_twice(opened):
    """Behind the end event nothing came yet: that is waited for a moment, once."""
    one, answer = await opened(event("a", finish="stop"), DONE, None)
    assert await one.forward(lambda _: True) is None

    real = one._pour

    def pour(take):
        assert not answer.closed, "what is closed is not read"
        return real(take)

    one._pour = pour
    await one.aclose()
    await one.aclose()
    assert answer.closed


async def test_an_error_comes_after_the_piece_that_waited(opened):
    """What came before it in the same read is the caller's first; it is raised once, and kept by nobody."""
    one, _ = await opened(event("a"), event("b") + b'data: {"error":{"message":"m"}}\n\n')
    assert await one.forward(lambda _: False) == event("a")
    assert await one.forward(lambda _: False) == event("b")
    with pytest.raises(Broken):
        await one.forward(lambda _: False)
    assert one._reading.problem is None


async def test_what_puts_may_fail(opened):
    """A fault of ours in there reaches whoever forwards."""
    one, _ = await opened(event("a"), event("b"))

    def put(_piece):
        raise KeyError("x")

    with pytest.raises(KeyError):
        await one.forward(put)
    await one.aclose()


async def test_silence_is_counted_from_the_last_piece(opened):
    """Not from the first: three times the idle deadline pass in all."""

    class Slow(Answer):
        async def pour(self, take):
            for text in "bcdef":
                await asyncio.sleep(0.06)
                take(event(text))
            await asyncio.sleep(60)

    one, _ = await opened(event("a"), timeouts=Timeouts(1, 1, 0.1, 60))
    one._pour = Slow().pour
    one._ended = False
    taken = []
    with pytest.raises(Broken) as failure:
        await one.forward(lambda piece: taken.append(piece) or True)
    assert failure.value.cause == "timeout_idle"
    assert len(taken) == 6


def test_a_frame_of_another_protocol_is_enough(candidate, chat):
    """Nothing here knows what a vendor's events look like."""

    class Other:
        def signal(self, data, deployment, *, asked_for_usage):
            return WIRE.signal(event(data.decode())[6:-2], deployment, asked_for_usage=asked_for_usage)

        def text_frame(self, data, _deployment):
            return TextFrame(data[:2], data[-2:])

    one = Reading(Other(), chat(stream=True), candidate(), Tally(0.0), Clock())
    one.take(b"data: <<a>>\n\n")
    one.take(b"data: <<bcd>>\n\n")
    assert one.tally.output_characters == 5 + 3
