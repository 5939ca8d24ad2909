"""What vendors call the numbers of a usage object, and whether each lies inside another one. Data, and no code.

Where on the path: `usage` reads by these tables; docs/usage.md shows them by vendor, and a test holds the two together.

A usage object of the OpenAI wire has three totals: `prompt_tokens`, `completion_tokens`, and `total_tokens` over both.
Every other number is a part of one of them (inside), or is counted on top (beside). Inside is the rule. Where a quirk
of providers.yaml says beside, or the vendor's own total shows it, the part is added instead of taken out.

Sources, read 2026-11. OpenAI and Azure: developers.openai.com/api/docs/guides/prompt-caching. xAI: docs.x.ai, pages
on cost tracking and caching. Alibaba: alibabacloud.com/help/en/model-studio/context-cache. OpenRouter: its page on
usage accounting. Gemini's OpenAI layer: discuss.ai.google.dev/t/98760. DeepSeek, Moonshot, MiniMax, Groq, Volcengine,
Anthropic's OpenAI layer: their API pages. Of others providers.yaml says how sure it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Path = tuple[str, ...]
"""Where a number stands below `usage`."""

IN: Final = "prompt_tokens_details"
OUT: Final = "completion_tokens_details"

PARTS: Final[Mapping[str, tuple[Path, ...]]] = {
    "cache_read": (
        (IN, "cached_tokens"),  # OpenAI and most others
        ("prompt_cache_hit_tokens",),  # DeepSeek
        ("cached_tokens",),  # Moonshot, Anthropic's OpenAI layer, older Qianfan
        ("cache_read_input_tokens",),  # Anthropic's own name, which resellers pass on
    ),
    "cache_write": (
        (IN, "cache_write_tokens"),  # OpenAI since 5.6, Moonshot K3, OpenRouter
        (IN, "cache_creation_input_tokens"),  # Alibaba's explicit cache
        (IN, "cache_creation_tokens"),  # LiteLLM
        ("cache_creation_input_tokens",),  # Anthropic's own name
    ),
    "cache_write_5m": (
        (IN, "cache_creation", "ephemeral_5m_input_tokens"),  # Alibaba
        ("cache_creation", "ephemeral_5m_input_tokens"),  # Anthropic
    ),
    "cache_write_1h": (
        (IN, "cache_creation", "ephemeral_1h_input_tokens"),  # Alibaba, Qwen4
        ("cache_creation", "ephemeral_1h_input_tokens"),  # Anthropic
    ),
    "audio_in": ((IN, "audio_tokens"),),
    "image": ((IN, "image_tokens"),),  # xAI, Alibaba
    "audio_out": ((OUT, "audio_tokens"),),
    "reasoning": (
        (OUT, "reasoning_tokens"),
        ("reasoning_tokens",),  # MiniMax on other hosts, Vertex
    ),
}
"""Bucket -> the names of its count, the usual one first. `cache_write` is what both times to live add up to."""

MISSES: Final[Path] = ("prompt_cache_miss_tokens",)
"""DeepSeek's count of what was not cached: with the hits it makes the prompt, which is checked."""

CACHE_KIND: Final[Path] = (IN, "cache_type")
"""Alibaba says `ephemeral` here when its explicit cache was used, whose reads cost half of what the list says."""

COST_UNITS_PER_USD: Final[Mapping[str, int]] = {"cost": 1, "cost_in_usd_ticks": 10**10}
"""Fields with the vendor's own figure: OpenRouter's in USD, xAI's in ten-billionths of one."""

OWN_KEY: Final[Path] = ("is_byok",)
UPSTREAM_COST: Final[Path] = ("cost_details", "upstream_inference_cost")
"""OpenRouter with the account's own key at another vendor: that vendor bills this on top of `cost`."""

PASSED: Final[Mapping[Path, str]] = {
    MISSES: "checked against the hits",
    (IN, "text_tokens"): "inside: what the other parts of the prompt leave",
    (IN, "video_tokens"): "inside, at the price of input",
    (OUT, "text_tokens"): "inside: what the other parts of the answer leave",
    (OUT, "image_tokens"): "inside, at the price of output",
    (OUT, "accepted_prediction_tokens"): "inside: said, and billed as output",
    (OUT, "rejected_prediction_tokens"): "inside: not said, and billed as output all the same",
    ("total_characters",): "MiniMax, no unit of its bills",
    ("queue_time",): "Groq, seconds",
    ("prompt_time",): "Groq, seconds",
    ("completion_time",): "Groq, seconds",
    ("total_time",): "Groq, seconds",
    UPSTREAM_COST: "inside `cost`, but with a key of one's own",
    ("cost_details", "upstream_inference_prompt_cost"): "a part of the above",
    ("cost_details", "upstream_inference_completions_cost"): "a part of the above",
}
"""Numbers that need no bucket, and why. Any other that is not zero is told in a flag: what it costs is not known."""

ROLES: Final[Mapping[Path, str]] = {MISSES: "missed", **{path: name for name, paths in PARTS.items() for path in paths}}
"""Path -> what it tells: the tables above, the other way round."""

TOTALS: Final[tuple[Path, ...]] = (("prompt_tokens",), ("completion_tokens",), ("total_tokens",))

KNOWN: Final = frozenset({*TOTALS, *PASSED, *(path for paths in PARTS.values() for path in paths)})
"""Every number that is read or passed over on purpose."""

PLAIN: Final = frozenset({path[0] for path in TOTALS})
"""What most usage objects of a short chat have, and nothing else."""

FLAGS: Final[Mapping[str, str]] = {
    "usage_missing": "the vendor sent no usage: prompt and answer are counted by their characters",
    "all_zero": "a usage object full of zeros: as if it were missing",
    "<number>_missing": "no prompt or completion count in it: as if it were missing",
    "<number>_not_an_integer": "a count that is no whole number: as if it were missing",
    "<number>_negative": "a count below zero: as if it were missing",
    "<number>_absurd": "a count that nobody can have: as if it were missing",
    "input_parts_exceed_total": "more cached or audio tokens than prompt: as if it were missing",
    "output_parts_exceed_total": "more reasoning or audio tokens than answer: as if it were missing",
    "input_exceeds_request": "more prompt tokens than the request has bytes: as if it were missing",
    "output_exceeds_cap": "more answer than the cap allowed: as if it were missing",
    "cost_negative": "a figure of the vendor's below zero, or none at all: as if it were missing",
    "cost_not_a_number": "a figure of the vendor's that is no number: as if it were missing",
    "cost_absurd": "a figure of the vendor's that nobody can owe: as if it were missing",
    "reasoning_by_total": "inside or beside is not as expected, but the vendor's total shows which: read by that",
    "cache_by_total": "the cache counts lie beside the prompt, as the vendor's total shows: read by that",
    "total_above_parts": "the total is more than its parts: the rest is booked as hidden output, as an estimate",
    "total_below_parts": "the total is less than its parts: the parts are booked, as an estimate",
    "parts_overlap": "audio tokens were cached too: the dearer reading is booked, as an estimate",
    "cache_counts_disagree": "two names for cache hits, two counts: the lower one is booked, as an estimate",
    "cache_misses_disagree": "hits and misses do not make the prompt: the dearer reading is booked, as an estimate",
    "cache_writes_disagree": "the two times to live do not make the sum: the larger is booked, as an estimate",
    "cache_ttl_assumed": "the request asks for a longer time to live, and the vendor does not split: all at that price",
    "cache_read_explicit": "read from an explicit cache, which may cost less than the list price that is booked",
    "byok_cost_missing": "the account's own key was used and its cost is not told: priced by the list",
    "unread:<name>": "a number that no table knows, not zero: what it may cost is not in the row",
    "input_above_count": "more than half over our own count of the prompt, with some slack: booked all the same",
    "output_above_count": "more than half over our own count of the answer, with some slack: booked all the same",
    "usage_went_down": "a later count of a stream was lower than an earlier one: the earlier is booked, as an estimate",
    "stream_unfinished": "the stream broke off: the larger of its last count and ours, as an estimate",
    "no_finish_reason": "a whole answer that does not say how it ended",
    "service_tier_unpriced": "the answer names a service tier without a price: list price, which it may not be",
    "service_tier_unconfirmed": "a service tier was asked for and the answer names none: the dearer reading is booked",
    "vendor_cost_zero": "the vendor's own figure is 0 where its list is not: booked as it stands",
    "<number>_out_of_range": "a count or an amount that no ledger can keep: left out of the row",
}
"""What may stand in `usage_flags` of a row, and what was done about it. `<number>` and `<name>` are the vendor's."""
