"""What a request that was answered would have cost elsewhere: an estimate, and between which bounds.

Where on the path: beside it; `coe replay --policy` asks it for every decision that would come out otherwise.

The prompt is as long as the vendor that answered counted it: another vendor's tokenizer may count otherwise. The answer
is as long as it is expected to be from the other model. The bounds are an answer of no length, and one at the length
that nine of ten stay under, of a prompt that is not in the vendor's cache.
"""

from __future__ import annotations

from typing import NamedTuple

from service.domain.decision import Candidate
from service.domain.imagined import imagined


class Estimate(NamedTuple):
    """Pico-USD: what is expected, and its bounds."""

    pusd: int
    low_pusd: int
    high_pusd: int


def expected_bill(chosen: Candidate, choices: int, input_tokens: int | None) -> Estimate | None:
    """What the request would have cost at `chosen`, `None` when its price is unknown.

    `input_tokens` is the prompt as it was counted; where nobody did, the candidate's own figure stands.
    """
    quote = chosen.quote
    if quote is None or not quote.known:
        return None
    tokens = chosen.input_tokens if input_tokens is None else input_tokens
    read = min(chosen.cached_tokens, tokens)
    written = min(chosen.cache_write_tokens, tokens - read)
    most = chosen.wanted_tokens * choices
    figures = (
        imagined(quote, tokens, chosen.output_tokens, chosen.reasoning_tokens * choices, read, written),
        imagined(quote, tokens, 0, 0, read, written),
        imagined(quote, tokens, most, 0, 0, written),
        imagined(quote, tokens, 0, most, 0, written),
    )
    known = [one for one in figures if one is not None]
    if len(known) < len(figures):
        return None
    return Estimate(known[0], min(known), max(known))
