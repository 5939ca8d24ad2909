"""Usage objects as vendors send them, and what they cost by arithmetic done another way."""

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.money import Multiplier, PriceQuote, Rates, UsageSource, price
from service.upstream.usage import TOKENS_MAX, chat_usage
from service.upstream.usage_fields import FLAGS

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
        ({"prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 101}}, "input_parts_exceed_total"),
        ({"prompt_tokens_details": {"cache_write_tokens": 60, "audio_tokens": 60}}, "input_parts_exceed_total"),
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


DOUBTS = [
    # what it shows, changes to 100 in and 50 out, quirks, buckets, flags, whether it is still the vendor's own word
    ("xAI counts inside after all", {"completion_tokens_details": {"reasoning_tokens": 20}, "total_tokens": 150},
     "reasoning_beside", {"input": 100, "output": 30, "reasoning": 20}, ("reasoning_by_total",), True),
    ("beside where nobody said so", {"completion_tokens_details": {"reasoning_tokens": 60}, "total_tokens": 210},
     "", {"input": 100, "output": 50, "reasoning": 60}, ("reasoning_by_total",), True),
    ("Anthropic's own names, beside", {"cache_read_input_tokens": 400, "cache_creation_input_tokens": 30,
     "total_tokens": 580}, "", {"input": 100, "cache_read": 400, "cache_write_5m": 30, "output": 50},
     ("cache_by_total",), True),
    ("Anthropic's own names, inside", {"cache_read_input_tokens": 40, "cache_creation_input_tokens": 30,
     "total_tokens": 150}, "", {"input": 30, "cache_read": 40, "cache_write_5m": 30, "output": 50}, (), True),
    ("both beside", {"cache_read_input_tokens": 400, "completion_tokens_details": {"reasoning_tokens": 60},
     "total_tokens": 610}, "", {"input": 100, "cache_read": 400, "output": 50, "reasoning": 60},
     ("reasoning_by_total", "cache_by_total"), True),
    ("more in the total than in its parts", {"total_tokens": 175}, "",
     {"input": 100, "output": 50, "reasoning": 25}, ("total_above_parts",), False),
    ("the same beside known thinking", {"total_tokens": 175, "completion_tokens_details": {"reasoning_tokens": 10}}, "",
     {"input": 100, "output": 40, "reasoning": 35}, ("total_above_parts",), False),
    ("less in the total than in its parts", {"total_tokens": 120}, "", {"input": 100, "output": 50},
     ("total_below_parts",), False),
    ("Gemini says thinking after all", {"completion_tokens_details": {"reasoning_tokens": 20}, "total_tokens": 150},
     "reasoning_in_total", {"input": 100, "output": 30, "reasoning": 20}, (), True),
    ("audio that was cached", {"prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 60}}, "",
     {"cache_read": 40, "audio_in": 60, "output": 50}, ("parts_overlap",), False),
    ("a picture that was cached", {"prompt_tokens_details": {"cached_tokens": 60, "image_tokens": 90}}, "",
     {"cache_read": 60, "image": 40, "output": 50}, (), True),
    ("two counts of hits", {"prompt_tokens_details": {"cached_tokens": 64}, "prompt_cache_hit_tokens": 32}, "",
     {"input": 68, "cache_read": 32, "output": 50}, ("cache_counts_disagree",), False),
    ("a placeholder beside the named count", {"prompt_tokens_details": {"cached_tokens": 0}, "cached_tokens": 32},
     "cached_tokens:cached_tokens", {"input": 68, "cache_read": 32, "output": 50}, (), True),
    ("hits and misses that are not the prompt", {"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 60}, "",
     {"input": 60, "cache_read": 40, "output": 50}, ("cache_misses_disagree",), False),
    ("writes that do not add up", {"prompt_tokens_details": {"cache_creation_input_tokens": 50, "cache_creation":
     {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}}}, "",
     {"input": 50, "cache_write_5m": 30, "cache_write_1h": 20, "output": 50}, ("cache_writes_disagree",), False),
    ("numbers nobody knows", {"citation_tokens": 7, "num_search_queries": 1, "latency": 0.0,
     "prompt_tokens_details": {"search_tokens": 3, "text_tokens": 100}}, "", {"input": 100, "output": 50},
     ("unread:citation_tokens", "unread:num_search_queries", "unread:prompt_tokens_details.search_tokens"), True),
    ("a great many of them", {f"n{number}": number for number in range(1, 9)}, "", {"input": 100, "output": 50},
     ("unread:n1", "unread:n2", "unread:n3", "unread:n4", "unread:more"), True),
    ("a name that is no word", {"{\n" + "x" * 90: 1}, "", {"input": 100, "output": 50},
     ("unread:__" + "x" * 58,), True),
    ("numbers in lists", {"by_kind": [{"tokens": 0}, {"tokens": 4}]}, "", {"input": 100, "output": 50},
     ("unread:by_kind.tokens",), True),
    ("a key of one's own without its cost", {"cost": 0, "is_byok": True}, "usage_cost", {"input": 100, "output": 50},
     ("byok_cost_missing",), True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "quirks", "buckets", "flags", "own"), [row[1:] for row in DOUBTS], ids=[row[0] for row in DOUBTS]
)
def test_what_does_not_fit_is_said(changes, quirks, buckets, flags, own):
    """The reading that the vendor's total shows, else the dearer one; and a flag each time."""
    read = chat_usage({"prompt_tokens": 100, "completion_tokens": 50, **changes}, quirks_of(quirks))
    assert {name: count for name, count in read.usage.as_dict().items() if name != "requests"} == buckets
    assert read.usage.flags == flags
    assert read.usage.source is (UsageSource.PROVIDER if own else UsageSource.ESTIMATED)


def test_every_flag_is_in_the_table():
    """What the tests above provoke, and the table that the page shows."""
    shown = set(FLAGS)
    for row in DOUBTS:
        assert {"unread:<name>" if flag.startswith("unread:") else flag for flag in row[4]} <= shown


def test_deep_nesting_is_not_followed():
    """However deep a vendor nests, it is read in bounded time and space."""
    deep = value = []
    for _ in range(900):
        value.append([])
        value = value[0]
    assert chat_usage({"prompt_tokens": 1, "completion_tokens": 1, "deep": deep}, {}).usage.flags == ()


COUNTS = st.integers(-3, 200) | st.sampled_from([None, "7", 1.5, 10**12, True, [], {}])
DETAILS = (
    st.none()
    | st.just([])
    | st.dictionaries(
        st.sampled_from(
            [
                "cached_tokens",
                "cache_write_tokens",
                "cache_creation_input_tokens",
                "audio_tokens",
                "image_tokens",
                "reasoning_tokens",
                "other",
            ]
        ),
        COUNTS,
    )
)


@given(
    st.fixed_dictionaries(
        {"prompt_tokens": COUNTS, "completion_tokens": COUNTS},
        optional={"prompt_tokens_details": DETAILS, "completion_tokens_details": DETAILS, "cached_tokens": COUNTS,
                  "reasoning_tokens": COUNTS, "cost": COUNTS, "total_tokens": COUNTS, "is_byok": st.booleans(),
                  "prompt_cache_miss_tokens": COUNTS},
    ),
    st.sampled_from(["", "reasoning_beside", "reasoning_in_total", "usage_cost", "cached_tokens:cached_tokens",
                     "usage_cost:cost_in_usd_ticks"]),
    st.none() | st.text() | st.integers(),
)  # fmt: skip
def test_what_comes_back_adds_up_or_is_nothing(sent, quirks, tier):
    """Never an exception; the buckets sum to the vendor's totals, or a flag says what they do not fit."""
    read = chat_usage(sent, quirks_of(quirks), service_tier=tier)
    if read.usage is None:
        assert len(read.flags) == 1
        return
    usage, total = read.usage, sent.get("total_tokens")
    parts = {*usage.flags}
    if "cache_by_total" not in parts:
        assert usage.input_total == sent["prompt_tokens"]
    assert usage.output_total >= sent["completion_tokens"]
    if total and "total_below_parts" not in parts:
        assert usage.input_total + usage.output_total == total
    if not total:
        beside = usage.reasoning if quirks == "reasoning_beside" else 0
        assert usage.output_total == sent["completion_tokens"] + beside
    assert read.usage.service_tier is None or len(read.usage.service_tier) <= 40
