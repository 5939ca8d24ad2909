"""What is booked for an attempt: the vendor's numbers when they can be true and the answer is whole, else an estimate."""

from __future__ import annotations

import pytest

from service.domain.money import Usage, UsageSource
from service.domain.ports import Answer
from service.upstream.tally import Tally
from service.upstream.usage import INPUT_SLACK_TOKENS, OUTPUT_SLACK_TOKENS, Bounds

OPEN = Bounds()
SAID = Usage(input=100, output=20)


def told(usage, *, bounds=OPEN, characters=0, finished=True):
    """A tally that was told a usage by a stream."""
    tally = Tally(started=0.0)
    tally.seen.add(0)
    if finished:
        tally.finished.add(0)
    tally.output_characters = characters
    tally.note_usage(usage, (), bounds)
    return tally


def test_a_complete_answer_is_booked_as_the_vendor_says():
    """Its own numbers, untouched."""
    assert told(SAID).usage_or_estimate(7) == SAID


def test_numbers_from_the_middle_are_an_estimate():
    """A stream that was cut: the larger of what the vendor said so far and what arrived, marked."""
    booked = told(Usage(input=100, output=0), characters=400, finished=False).usage_or_estimate(7)
    assert (booked.input, booked.output, booked.source) == (100, 100, UsageSource.ESTIMATED)
    assert booked.flags == ("stream_unfinished",)
    more = told(Usage(input=100, output=500), characters=4, finished=False).usage_or_estimate(7)
    assert (more.output, more.source) == (500, UsageSource.ESTIMATED)


@pytest.mark.parametrize(
    ("usage", "bounds", "flag"),
    [
        (Usage(input=100, output=19_000_000), Bounds(output_tokens=10), "output_exceeds_cap"),
        (Usage(input=50_000, output=1), Bounds(input_tokens=200), "input_exceeds_request"),
    ],
)
def test_what_can_not_be_true_is_not_booked(usage, bounds, flag):
    """A bill beyond the caps or beyond the size of the request is flagged, and an estimate takes its place."""
    booked = told(usage, bounds=bounds, characters=8).usage_or_estimate(7)
    assert (booked.input, booked.output, booked.source, booked.flags) == (7, 2, UsageSource.ESTIMATED, (flag,))


def test_bounds_have_room():
    """A vendor's own prompt and a small overshoot are believed; an unknown bound believes everything."""
    near = Usage(input=200 + INPUT_SLACK_TOKENS, output=10 + OUTPUT_SLACK_TOKENS)
    assert told(near, bounds=Bounds(200, 10)).usage_or_estimate(7) == near
    huge = Usage(input=10**7, output=10**7)
    assert told(huge).usage_or_estimate(7) == huge


def test_hidden_reasoning_is_no_visible_output():
    """Reasoning may exceed a cap that holds for the visible part; it is the vendor's to count."""
    thinking = Usage(input=1, output=5, reasoning=60_000)
    assert told(thinking, bounds=Bounds(output_tokens=10)).usage_or_estimate(7) == thinking


def test_a_whole_answer_counts_as_complete():
    """Without any stream event."""
    tally = Tally(started=0.0)
    tally.note_answer(Answer(usage=SAID, model="m", id="i", finished=True, output_characters=3, cjk_characters=0), OPEN)
    assert tally.complete
    assert tally.usage_or_estimate(7) == SAID


@pytest.mark.parametrize("usage", [SAID, None], ids=["counted", "not counted"])
def test_a_whole_answer_that_does_not_say_how_it_ended_is_marked(usage):
    """It is booked as it is, and whoever reads the ledger finds it."""
    tally = Tally(started=0.0)
    tally.note_answer(
        Answer(usage=usage, model="m", id="i", finished=False, output_characters=8, cjk_characters=0), OPEN
    )
    booked = tally.usage_or_estimate(7)
    assert booked.flags == ("no_finish_reason",)
    assert booked.source is (UsageSource.PROVIDER if usage else UsageSource.ESTIMATED)
