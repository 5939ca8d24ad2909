"""What is booked for an attempt: the vendor's numbers when they can be true and the answer is whole, else an estimate."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenery import NOW, a_model, an_intent

from service.api.chat_body import read_chat
from service.domain.features import features_of
from service.domain.money import Usage, UsageSource
from service.domain.ports import Answer
from service.routing.estimate import candidate, forecast
from service.upstream.tally import Tally, bounds_of
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
    assert told(near, bounds=Bounds(200, 10), characters=40).usage_or_estimate(200) == near
    huge = Usage(input=10**7, output=10**7)
    booked = told(huge).usage_or_estimate(7)
    assert replace(booked, flags=()) == huge


def test_what_is_far_over_our_own_count_is_booked_and_marked():
    """One and a half times, and some slack: beyond that somebody should look. What is no text is not counted."""
    at_most = Usage(input=1_500 + INPUT_SLACK_TOKENS, output=150 + OUTPUT_SLACK_TOKENS)
    assert told(at_most, characters=400).usage_or_estimate(1_000) == at_most
    over = replace(at_most, input=at_most.input + 1, output=at_most.output + 1)
    booked = told(over, characters=400).usage_or_estimate(1_000)
    assert (booked.source, booked.flags) == (UsageSource.PROVIDER, ("input_above_count", "output_above_count"))
    assert told(over, characters=400).usage_or_estimate(1_000, attached=True).flags == ("output_above_count",)
    heard = replace(over, audio_in=1, audio_out=1)
    assert told(heard, characters=400).usage_or_estimate(1_000).flags == ()


def test_a_later_count_of_a_stream_replaces_an_earlier_one():
    """Cumulative counts: the last one is the bill, and nothing is added up."""
    tally = told(Usage(input=100, output=3))
    for output in (5, 9, 9):
        tally.note_usage(Usage(input=100, output=output), (), OPEN)
    assert tally.usage_or_estimate(100) == Usage(input=100, output=9)
    cheaper = Usage(input=20, cache_read=80, output=9)
    tally.note_usage(cheaper, (), OPEN)  # the same tokens, split at last
    assert tally.usage_or_estimate(100) == cheaper


def test_a_count_that_goes_down_is_no_bill():
    """A placeholder, or the last piece alone: the higher one is booked, as an estimate, and says so once."""
    tally = told(Usage(input=100, output=50))
    for output in (0, 3):
        tally.note_usage(Usage(input=100, output=output), (), OPEN)
    booked = tally.usage_or_estimate(100)
    assert (booked.input, booked.output, booked.source) == (100, 50, UsageSource.ESTIMATED)
    assert booked.flags == ("usage_went_down",)


def test_what_no_vendor_counted_says_so():
    """An estimate is never silent about why."""
    assert told(None, characters=8).usage_or_estimate(7).flags == ("usage_missing",)


@pytest.mark.parametrize(
    ("body", "lasting"),
    [
        ('"cache_control": {"type": "ephemeral", "ttl": "1h"}', True),
        ('"cache_control": {"ttl" : "5m"}', False),
        ('"prompt_cache_options": {"ttl": "12h"}', True),
        ('"prompt_cache_options": {"ttl": "30m"}', False),
        ('"user": "says \\"ttl\\": \\"1h\\""', False),
        ('"n": 1', False),
    ],
)
def test_what_is_to_last_longer_is_priced_so(body, lasting):
    """A vendor that does not split what it wrote is taken at the dearer price, and the row says so."""
    raw = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], %b}' % body.encode()
    chat = read_chat(raw, {})
    model = a_model("m")
    bounds = bounds_of(chat, candidate(model.deployments[0], model, forecast(features_of(chat), an_intent()), NOW))
    assert bounds.lasting is lasting
    tally = Tally(started=0.0, whole=True)
    tally.note_usage(Usage(input=10, cache_write_5m=90), (), bounds)
    booked = tally.usage_or_estimate(100)
    assert (booked.cache_write_5m, booked.cache_write_1h) == ((0, 90) if lasting else (90, 0))
    assert booked.flags == (("cache_ttl_assumed",) if lasting else ())
    split = Usage(input=10, cache_write_5m=80, cache_write_1h=10)
    tally.note_usage(split, (), bounds)
    assert tally.usage_or_estimate(100) == split


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
    assert booked.flags == (("no_finish_reason",) if usage else ("usage_missing", "no_finish_reason"))
    assert booked.source is (UsageSource.PROVIDER if usage else UsageSource.ESTIMATED)
