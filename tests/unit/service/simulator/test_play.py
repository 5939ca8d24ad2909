"""Screenplays, without any socket."""

import itertools
import json

import pytest

from service.simulator.composing import compose, read_chat
from service.simulator.play import INSTEAD, MID_STREAM, End, Ending, Pause, Send, chat_steps, json_steps
from service.simulator.script import AfterAnswer, Fault, Script


def steps(body, script):
    """The steps of a chat request."""
    asked = read_chat(json.dumps(body).encode())
    choices = () if script.fault in INSTEAD else compose(asked, script, 1)
    return chat_steps(asked, script, choices, 1, 1_000)


FINITE = [fault for fault in Fault if fault not in (Fault.ENDLESS, Fault.ONLY_COMMENTS, Fault.REFUSE)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", [None, *FINITE])
def test_every_screenplay_ends_once(ask, fault, stream):
    """One `End`, at the end, marked as failed exactly when there was a fault."""
    played = list(steps(ask(stream=stream), Script(fault=fault)))
    assert [isinstance(step, End) for step in played] == [False] * (len(played) - 1) + [True]
    assert played[-1].failed is (fault is not None)


@pytest.mark.parametrize("fault", [Fault.ENDLESS, Fault.ONLY_COMMENTS])
def test_endless_ones_are_lazy(ask, fault):
    """Taking a few steps takes a few steps; there are always more."""
    assert len(list(itertools.islice(steps(ask(stream=True), Script(fault=fault)), 500))) == 500


@pytest.mark.parametrize("fault", sorted(MID_STREAM))
@pytest.mark.parametrize("after", [0, 1, 5, 10_000])
def test_mid_stream_faults_come_before_the_finish_reason(ask, fault, after):
    """However late they are asked for: no finish reason, no [DONE]."""
    sent = b"".join(
        step.data for step in steps(ask(stream=True), Script(fault=fault, fault_after=after)) if isinstance(step, Send)
    )
    assert b'"finish_reason":"' not in sent
    assert b"[DONE]" not in sent


def test_nothing_is_billed_before_content(ask):
    """A cut after the role costs nothing; one chunk later it costs the prompt and that chunk."""
    for after, billed in ((0, 0), (1, 1), (2, 2)):
        script = Script(fault=Fault.CUT, fault_after=after)
        bills = [step.usage for step in steps(ask(stream=True), script) if isinstance(step, Send) and step.usage]
        assert len(bills) == billed


@pytest.mark.parametrize("fault", sorted(INSTEAD))
def test_faults_instead_of_an_answer_cost_nothing(ask, fault):
    """No vendor bills an answer it did not give."""
    first = list(itertools.islice(steps(ask(), Script(fault=fault)), 50))
    assert all(step.usage is None for step in first if isinstance(step, Send))


def test_pauses_are_where_the_script_wants_them(ask):
    """Before the head, before the first content, between contents."""
    script = Script(header_delay_s=1, first_content_delay_s=2, chunk_delay_s=3, chunks=3)
    kinds = [
        step.seconds if isinstance(step, Pause) else "head" if isinstance(step, Send) and step.status else "data"
        for step in steps(ask(stream=True), script)
        if not isinstance(step, End)
    ]
    assert kinds == [1, "head", "data", 2, "data", 3, "data", 3, "data", "data", "data"]


@pytest.mark.parametrize(
    ("after", "ending"),
    [
        (AfterAnswer.KEEP, Ending.KEEP),
        (AfterAnswer.CLOSE, Ending.CLOSE),
        (AfterAnswer.CLOSE_SILENTLY, Ending.CLOSE),
        (AfterAnswer.CLOSE_ON_REUSE, Ending.STALE),
    ],
)
def test_after_the_answer(ask, after, ending):
    """Only the announced close is announced."""
    played = list(steps(ask(), Script(after=after)))
    assert played[-1] == End(ending)
    assert (b"Connection: close" in played[1].data) is (after is AfterAnswer.CLOSE)


def test_json_answers_can_fail_too():
    """Model lists: a status, a giant line, silence."""
    assert b"HTTP/1.1 200" in next(s for s in json_steps({"a": 1}, Script(), 1) if isinstance(s, Send)).data
    giant = [s for s in json_steps({}, Script(fault=Fault.GIANT_LINE, giant_bytes=9000), 1) if isinstance(s, Send)]
    assert len(giant[0].data) > 9000
    assert list(json_steps({}, Script(fault=Fault.SILENCE), 1))[-1] == End(Ending.HOLD, failed=True)
