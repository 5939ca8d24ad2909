"""The bill, and each vendor's way to spell it."""

import pytest

from service.domain.money import Usage
from service.simulator.answers import text_tokens
from service.simulator.script import Script, UsageShape
from service.simulator.usage import Meter, reasoning_tokens_of, usage_object

TRUTH = Usage(input=60, cache_read=30, cache_write_5m=10, output=20, reasoning=5)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        (UsageShape.PLAIN, {"prompt_tokens": 100, "completion_tokens": 25, "total_tokens": 125}),
        (
            UsageShape.OPENAI,
            {
                "prompt_tokens": 100,
                "completion_tokens": 25,
                "total_tokens": 125,
                "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": 0, "cache_write_tokens": 10},
                "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 0},
            },
        ),
        (
            UsageShape.TOP_LEVEL_CACHED,
            {"prompt_tokens": 100, "completion_tokens": 25, "total_tokens": 125, "cached_tokens": 30},
        ),
        (UsageShape.MISSING, None),
        (UsageShape.NOT_INTEGER, {"prompt_tokens": "100.5", "completion_tokens": "25.5", "total_tokens": "125.5"}),
    ],
)
def test_whole_shapes(shape, wanted):
    """Hand-written objects, from 60 fresh + 30 cached + 10 written in, 20 visible + 5 hidden out."""
    assert usage_object(TRUTH, Script(usage=shape)) == wanted


def test_shapes_that_add_to_openais():
    """The member that makes each vendor different."""
    deepseek = usage_object(TRUTH, Script(usage=UsageShape.DEEPSEEK))
    assert (deepseek["prompt_cache_hit_tokens"], deepseek["prompt_cache_miss_tokens"]) == (30, 70)
    xai = usage_object(TRUTH, Script(usage=UsageShape.XAI))
    assert (xai["completion_tokens"], xai["total_tokens"]) == (20, 125)
    assert xai["completion_tokens_details"]["reasoning_tokens"] == 5
    router = usage_object(TRUTH, Script(usage=UsageShape.OPENROUTER, vendor_cost_usd="0.00125"))
    assert router["cost"] == 0.00125
    assert usage_object(TRUTH, Script(usage=UsageShape.NEGATIVE))["completion_tokens"] < 0
    assert usage_object(TRUTH, Script(usage=UsageShape.ABSURD))["completion_tokens"] == 10**12


def test_meter_by_pieces_is_the_meter_of_the_whole():
    """Rounding up once per part, not once per piece: five single letters are 2 tokens, not 5."""
    meter = Meter(Script(), 10)
    for letter in "abcde":
        meter.add_text("0.content", letter)
    assert meter.usage().output == 2
    meter.add_text("1.content", "好")
    assert meter.usage().output == 2 + text_tokens("好")


def test_meter_splits_the_prompt_and_clips_the_cache():
    """Buckets are disjoint and add up to the prompt, whatever the script says."""
    usage = Meter(Script(cached_tokens=70, cache_write_tokens=70), 100).usage()
    assert (usage.input, usage.cache_read, usage.cache_write_5m) == (0, 70, 30)
    assert usage.input_total == 100


def test_meter_starts_with_the_first_token():
    """Before it nothing is billed."""
    meter = Meter(Script(), 10)
    meter.add_text("0.content", "")
    assert not meter.started
    meter.add_reasoning(1)
    assert meter.started


def test_vendor_cost_is_billed_only_where_the_vendor_sends_it():
    """0.00125 USD is 1,250,000,000 pico-USD."""
    assert (
        Meter(Script(usage=UsageShape.OPENROUTER, vendor_cost_usd="0.00125"), 1).usage().vendor_cost_pusd
        == 1_250_000_000
    )
    assert Meter(Script(vendor_cost_usd="0.00125"), 1).usage().vendor_cost_pusd is None


def test_reasoning_obeys_the_cap():
    """Shown (2 tokens) and hidden (7) together, cut at 5."""
    script = Script(reasoning="abcdefg", hidden_reasoning_tokens=7)
    assert reasoning_tokens_of(script, None) == 9
    assert reasoning_tokens_of(script, 5) == 5
