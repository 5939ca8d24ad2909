"""Usage objects as vendors send them, and what they cost by arithmetic done another way."""

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.money import Multiplier, PriceQuote, Rates, price
from service.upstream.usage import TOKENS_MAX, chat_usage

# USD per 1M tokens: input, cache read, cache write, output, reasoning, audio in, audio out. No two alike.
LIST = {"input": "0.15", "cache_read": "0.015", "cache_write_5m": "0.1875", "output": "0.60", "reasoning": "0.70",
        "audio_in": "40", "audio_out": "80"}  # fmt: skip
QUOTE = PriceQuote(
    "v1",
    Rates(**{name: int(Fraction(value) * 10**6) for name, value in LIST.items()}),
    service_tiers={"batch": Multiplier(1, 2), "priority": Multiplier(2)},
)


def usd(**tokens):
    """The bill in USD, as a fraction."""
    return sum((Fraction(LIST[name]) * count / 10**6 for name, count in tokens.items()), Fraction(0))


# name, usage as sent, quirks, buckets by hand.
GOLDEN = [
    ("OpenAI, all details", {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 128, "audio_tokens": 0, "accepted_prediction_tokens": 0,
                                      "rejected_prediction_tokens": 0}}, "",
     {"input": 86, "cache_read": 1920, "output": 172, "reasoning": 128}),
    ("OpenAI, cache write", {"prompt_tokens": 5000, "completion_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 3000}}, "",
     {"input": 1000, "cache_read": 1000, "cache_write_5m": 3000, "output": 10}),
    ("OpenAI, audio both ways", {"prompt_tokens": 100, "completion_tokens": 90,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 60},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 70}}, "",
     {"input": 40, "audio_in": 60, "output": 20, "audio_out": 70}),
    ("OpenAI, null details", {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21,
        "prompt_tokens_details": None, "completion_tokens_details": None}, "", {"input": 9, "output": 12}),
    ("OpenAI, refused before a word", {"prompt_tokens": 9, "completion_tokens": 0}, "", {"input": 9}),
    ("OpenAI, everything hidden", {"prompt_tokens": 9, "completion_tokens": 64,
        "completion_tokens_details": {"reasoning_tokens": 64}}, "", {"input": 9, "reasoning": 64}),
    ("Azure", {"completion_tokens": 15, "completion_tokens_details": {"accepted_prediction_tokens": 0, "audio_tokens": 0,
        "reasoning_tokens": 5, "rejected_prediction_tokens": 0}, "prompt_tokens": 1400,
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 1280}, "total_tokens": 1415}, "",
     {"input": 120, "cache_read": 1280, "output": 10, "reasoning": 5}),
    ("DeepSeek, own fields", {"prompt_tokens": 700, "completion_tokens": 50, "total_tokens": 750,
        "prompt_cache_hit_tokens": 640, "prompt_cache_miss_tokens": 60}, "cached_tokens:prompt_cache_hit_tokens",
     {"input": 60, "cache_read": 640, "output": 50}),
    ("DeepSeek, both spellings are one count", {"prompt_tokens": 700, "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 640}, "prompt_cache_hit_tokens": 640, "prompt_cache_miss_tokens": 60,
        "completion_tokens_details": {"reasoning_tokens": 20}}, "cached_tokens:prompt_cache_hit_tokens",
     {"input": 60, "cache_read": 640, "output": 30, "reasoning": 20}),
    ("DeepSeek without its quirk", {"prompt_tokens": 700, "completion_tokens": 50, "prompt_cache_hit_tokens": 640}, "",
     {"input": 60, "cache_read": 640, "output": 50}),
    ("Moonshot, top level", {"prompt_tokens": 300, "completion_tokens": 40, "total_tokens": 340, "cached_tokens": 256},
     "cached_tokens:cached_tokens", {"input": 44, "cache_read": 256, "output": 40}),
    ("Moonshot, details only", {"prompt_tokens": 300, "completion_tokens": 40, "cached_tokens": None,
        "prompt_tokens_details": {"cached_tokens": 256}}, "cached_tokens:cached_tokens",
     {"input": 44, "cache_read": 256, "output": 40}),
    ("Anthropic's OpenAI layer", {"prompt_tokens": 2100, "completion_tokens": 33, "total_tokens": 2133,
        "cached_tokens": 2048}, "cached_tokens:cached_tokens", {"input": 52, "cache_read": 2048, "output": 33}),
    ("Baidu Qianfan", {"prompt_tokens": 11, "completion_tokens": 21, "total_tokens": 32,
        "prompt_tokens_details": {"search_tokens": 0, "cached_tokens": 0}}, "cached_tokens:cached_tokens",
     {"input": 11, "output": 21}),
    ("xAI, reasoning beside", {"prompt_tokens": 37, "completion_tokens": 9, "total_tokens": 142,
        "prompt_tokens_details": {"text_tokens": 37, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 96, "audio_tokens": 0}, "num_sources_used": 0},
     "reasoning_beside", {"input": 29, "cache_read": 8, "output": 9, "reasoning": 96}),
    ("Cerebras", {"prompt_tokens": 25, "completion_tokens": 99, "total_tokens": 124}, "", {"input": 25, "output": 99}),
    ("Ollama", {"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38}, "no_api_key_ok",
     {"input": 31, "output": 7}),
    ("vLLM with prompt details", {"prompt_tokens": 64, "total_tokens": 71, "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 48}}, "", {"input": 16, "cache_read": 48, "output": 7}),
    ("Groq with times", {"queue_time": 0.03, "prompt_tokens": 44, "prompt_time": 0.001, "completion_tokens": 6,
        "completion_time": 0.02, "total_tokens": 50, "total_time": 0.021}, "", {"input": 44, "output": 6}),
    ("Qwen", {"prompt_tokens": 3019, "completion_tokens": 104, "total_tokens": 3123,
        "prompt_tokens_details": {"cached_tokens": 2048}, "completion_tokens_details": {"reasoning_tokens": 100}}, "",
     {"input": 971, "cache_read": 2048, "output": 4, "reasoning": 100}),
    ("GLM", {"prompt_tokens": 16, "completion_tokens": 105, "total_tokens": 121,
        "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 103}}, "",
     {"input": 16, "output": 2, "reasoning": 103}),
    ("MiniMax", {"total_tokens": 249, "total_characters": 0, "prompt_tokens": 26, "completion_tokens": 223,
        "completion_tokens_details": {"reasoning_tokens": 214}}, "", {"input": 26, "output": 9, "reasoning": 214}),
    ("iFlytek", {"prompt_tokens": 6, "completion_tokens": 42, "total_tokens": 48}, "error_in_200",
     {"input": 6, "output": 42}),
    ("Mistral", {"prompt_tokens": 10, "total_tokens": 44, "completion_tokens": 34, "prompt_audio_seconds": None}, "",
     {"input": 10, "output": 34}),
    ("Whole numbers as floats", {"prompt_tokens": 10.0, "completion_tokens": 34.0}, "", {"input": 10, "output": 34}),
]  # fmt: skip


def quirks_of(text):
    return {name: value for name, _, value in (quirk.partition(":") for quirk in text.split())}


@pytest.mark.parametrize(("sent", "quirks", "buckets"), [row[1:] for row in GOLDEN], ids=[row[0] for row in GOLDEN])
def test_golden_vectors(sent, quirks, buckets):
    """The buckets, and their cost to the pico-dollar, whole and at half price."""
    read = chat_usage(sent, quirks_of(quirks))
    assert read.flags == ()
    assert {name: count for name, count in read.usage.as_dict().items() if name != "requests"} == buckets
    assert Fraction(price(read.usage, QUOTE).pusd, 10**12) == usd(**buckets)
    batch = chat_usage(sent, quirks_of(quirks), service_tier="batch")
    assert Fraction(price(batch.usage, QUOTE).pusd, 10**12) == usd(**buckets) / 2
    assert read.usage.input_total == sent["prompt_tokens"]


@pytest.mark.parametrize(
    ("cost", "pusd"), [(0.00014805, 148_050_000), ("0.5", 5 * 10**11), (0, 0), (1.5e-9, 1500), (3, 3 * 10**12)]
)
def test_the_vendors_own_figure_is_booked(cost, pusd):
    """OpenRouter's `usage.cost`, in USD; without the quirk it is only a number."""
    sent = {
        "prompt_tokens": 194,
        "completion_tokens": 2,
        "cost": cost,
        "cost_details": {"upstream_inference_cost": None},
    }
    read = chat_usage(json.loads(json.dumps(sent)), {"usage_cost": ""})
    cost_of = price(read.usage, QUOTE)
    assert (cost_of.pusd, cost_of.from_vendor) == (pusd, True)
    assert Fraction(price(chat_usage(sent, {}).usage, QUOTE).pusd, 10**12) == usd(input=194, output=2)
    del sent["cost"]
    assert not price(chat_usage(sent, {"usage_cost": ""}).usage, QUOTE).from_vendor


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"prompt_tokens": -1}, "prompt_tokens_negative"),
        ({"completion_tokens": -5}, "completion_tokens_negative"),
        ({"completion_tokens": 10**12}, "completion_tokens_absurd"),
        ({"prompt_tokens": TOKENS_MAX + 1}, "prompt_tokens_absurd"),
        ({"prompt_tokens": None}, "prompt_tokens_missing"),
        ({"completion_tokens": None}, "completion_tokens_missing"),
        ({"prompt_tokens": "12"}, "prompt_tokens_not_an_integer"),
        ({"prompt_tokens": 1.5}, "prompt_tokens_not_an_integer"),
        ({"prompt_tokens": True}, "prompt_tokens_not_an_integer"),
        ({"prompt_tokens": 0, "completion_tokens": 0}, "all_zero"),
        ({"prompt_tokens_details": {"cached_tokens": 101}}, "input_parts_exceed_total"),
        ({"prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 60}}, "input_parts_exceed_total"),
        ({"prompt_tokens_details": {"cached_tokens": -1}}, "cached_tokens_negative"),
        ({"prompt_cache_hit_tokens": 101}, "input_parts_exceed_total"),
        ({"completion_tokens_details": {"reasoning_tokens": 51}}, "output_parts_exceed_total"),
        ({"cost": -0.01}, "cost_negative"),
        ({"cost": "NaN"}, "cost_negative"),
        ({"cost": "a lot"}, "cost_not_a_number"),
        ({"cost": "1e999999"}, "cost_absurd"),
        ({"cost": "1e-999999999"}, "cost_absurd"),
    ],
)
def test_implausible_numbers_are_flagged_not_booked(changes, flag):
    """No usage comes back, only why; so it is estimated and marked."""
    sent = {"prompt_tokens": 100, "completion_tokens": 50, **changes}
    read = chat_usage(sent, {"usage_cost": ""})
    assert read.usage is None
    assert read.flags == (flag,)


COUNTS = st.integers(-3, 200) | st.sampled_from([None, "7", 1.5, 10**12, True, [], {}])
DETAILS = (
    st.none()
    | st.just([])
    | st.dictionaries(
        st.sampled_from(["cached_tokens", "cache_write_tokens", "audio_tokens", "reasoning_tokens"]), COUNTS
    )
)


@given(
    st.fixed_dictionaries(
        {"prompt_tokens": COUNTS, "completion_tokens": COUNTS},
        optional={"prompt_tokens_details": DETAILS, "completion_tokens_details": DETAILS, "cached_tokens": COUNTS,
                  "reasoning_tokens": COUNTS, "cost": COUNTS},
    ),
    st.sampled_from(["", "reasoning_beside", "usage_cost", "cached_tokens:cached_tokens"]),
    st.none() | st.text() | st.integers(),
)  # fmt: skip
def test_what_comes_back_adds_up_or_is_nothing(sent, quirks, tier):
    """Never an exception; the buckets sum to the vendor's totals, or there is a flag and no usage."""
    read = chat_usage(sent, quirks_of(quirks), service_tier=tier)
    if read.usage is None:
        assert len(read.flags) == 1
        return
    assert read.usage.input_total == sent["prompt_tokens"]
    beside = read.usage.reasoning if quirks == "reasoning_beside" else 0
    assert read.usage.output_total == sent["completion_tokens"] + beside
    assert read.usage.service_tier is None or len(read.usage.service_tier) <= 40
