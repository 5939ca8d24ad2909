"""How many tokens an answer used, in the router's own disjoint buckets, and how each vendor would spell that.

Where on the path: `completion` meters what it sends; the log keeps the truth as `Usage`; the wire gets `usage_object`.

Invariants
1. The log's `Usage` is what the vendor bills. A script that lies (`NEGATIVE`, `ABSURD`, ...) lies on the wire only.
2. Metering a text piece by piece gives the same total as counting it whole.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from service.domain.money import Usage, UsageSource, pusd_from_usd
from service.simulator.answers import count_characters, text_tokens, tokens_of
from service.simulator.script import Script, UsageShape

ABSURD_TOKENS = 10**12
"""What a broken vendor counts for a few words."""

NEGATIVE_TOKENS = -5
"""A count no vendor can mean."""


class Meter:
    """Counts what has been generated so far, so that a cut stream is billed for what was sent and no more.

    Texts are counted per part (a choice's content, a call's arguments), because each part rounds up by itself.
    """

    def __init__(self, script: Script, prompt: int) -> None:
        """`prompt` is the size of the whole prompt in tokens; the script says how much of it was cached."""
        self._script = script
        self._cache_read = min(script.cached_tokens, prompt)
        self._cache_write = min(script.cache_write_tokens, prompt - self._cache_read)
        self._input = prompt - self._cache_read - self._cache_write
        self._parts: dict[str, tuple[int, int]] = {}
        self._visible = 0
        self._reasoning = 0

    def add_text(self, part: str, text: str) -> None:
        """Count visible text that continues `part`."""
        ascii_before, others_before = self._parts.get(part, (0, 0))
        ascii_now, others_now = count_characters(text)
        after = (ascii_before + ascii_now, others_before + others_now)
        self._parts[part] = after
        self._visible += tokens_of(*after) - tokens_of(ascii_before, others_before)

    def add_reasoning(self, tokens: int) -> None:
        """Count hidden or shown thinking, in tokens."""
        self._reasoning += tokens

    @property
    def started(self) -> bool:
        """Whether anything was generated: from here on a vendor bills, before it doesn't."""
        return bool(self._visible or self._reasoning)

    def usage(self) -> Usage:
        """The bill so far, in disjoint buckets."""
        cost = self._script.vendor_cost_usd if self._script.usage is UsageShape.OPENROUTER else None
        return Usage(
            input=self._input,
            cache_read=self._cache_read,
            cache_write_5m=self._cache_write,
            output=self._visible,
            reasoning=self._reasoning,
            source=UsageSource.PROVIDER,
            service_tier=self._script.service_tier,
            vendor_cost_pusd=None if cost is None else pusd_from_usd(Decimal(cost)),
        )


def reasoning_tokens_of(script: Script, cap: int | None) -> int:
    """Tokens of thinking in one choice, shown and hidden, within the output cap."""
    shown = text_tokens(script.reasoning) if script.reasoning else 0
    total = shown + script.hidden_reasoning_tokens
    return total if cap is None else min(total, cap)


def usage_object(usage: Usage, script: Script) -> dict[str, Any] | None:
    """The vendor's `usage` member for what was really used, spelt (or mis-spelt) as the script says; `None`: absent."""
    shape = script.usage
    if shape is UsageShape.MISSING:
        return None
    prompt = usage.input_total
    completion = usage.output + (0 if shape is UsageShape.XAI else usage.reasoning)
    if shape is UsageShape.NEGATIVE:
        completion = NEGATIVE_TOKENS
    if shape is UsageShape.ABSURD:
        completion = ABSURD_TOKENS
    counts: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + usage.output_total if shape is UsageShape.XAI else prompt + completion,
    }
    if shape is UsageShape.NOT_INTEGER:
        return {name: f"{count}.5" for name, count in counts.items()}
    if shape is UsageShape.PLAIN:
        return counts
    if shape is UsageShape.TOP_LEVEL_CACHED:
        return {**counts, "cached_tokens": usage.cache_read}
    counts["prompt_tokens_details"] = {"cached_tokens": usage.cache_read, "audio_tokens": 0}
    if usage.cache_write_5m:
        counts["prompt_tokens_details"]["cache_write_tokens"] = usage.cache_write_5m
    counts["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning, "audio_tokens": 0}
    if shape is UsageShape.DEEPSEEK:
        counts["prompt_cache_hit_tokens"] = usage.cache_read
        counts["prompt_cache_miss_tokens"] = prompt - usage.cache_read
    if shape is UsageShape.OPENROUTER and script.vendor_cost_usd is not None:
        counts["cost"] = float(script.vendor_cost_usd)
    return counts
