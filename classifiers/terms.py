"""Which pieces of a text spoke for an intent: what an explanation shows.

Where on the path: `scorer` asks when terms are wanted. They quote the prompt, so they don't belong in a log.

Invariant: at most `TERMS_MAX` terms of at most `TERM_CHARS_MAX` characters (a flag has its brackets besides), heaviest
first, none of them a part of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from classifiers.anchors import BUCKETS
from classifiers.features import Features
from classifiers.structure import FLAGS

TERMS_MAX: Final = 6
TERM_CHARS_MAX: Final = 32
TERM_PIECES: Final = 60
"""Terms are gathered from so many of the heaviest features."""

HAN_FIRST: Final = "\u2e80"
"""From here on: Han, kana and other scripts that are read by characters."""


def strongest(features: Features, shares: npt.NDArray[np.float32]) -> tuple[tuple[str, float], ...]:
    """The pieces with the largest shares: `shares` (n,) are what the features add to the logit of a label."""
    heaviest = np.argsort(-shares, kind="stable")[:TERM_PIECES]
    gathered: dict[str, float] = {}
    hashed = len(features.starts)
    for place in heaviest.tolist():
        share = float(shares[place])
        if share <= 0.0:
            break
        if place < hashed:
            term = whole_words(features.text, int(features.starts[place]), int(features.ends[place]))
        else:
            term = f"[{FLAGS[int(features.buckets[place]) - BUCKETS]}]"
        if term:
            gathered[term] = gathered.get(term, 0.0) + share
    chosen: list[tuple[str, float]] = []
    for term, share in sorted(joined(gathered).items(), key=lambda item: (-item[1], item[0])):
        if len(chosen) == TERMS_MAX:
            break
        if not any(term in other or other in term for other, _ in chosen):
            chosen.append((term, round(share, 4)))
    return tuple(chosen)


def joined(gathered: Mapping[str, float]) -> dict[str, float]:
    """Han terms inside a longer one that speaks for the label, too, are told as that: 翻 and 译 as 翻译."""
    result = dict(gathered)
    for term in sorted(gathered, key=lambda one: (len(one), one)):
        if term < HAN_FIRST:
            continue
        longer = [one for one in result if len(one) > len(term) and term in one and one >= HAN_FIRST]
        if longer:
            best = max(longer, key=lambda one: (result[one], one))
            result[best] += result.pop(term)
    return result


def whole_words(text: str, start: int, end: int) -> str:
    """The span of a feature in lower case, widened to whole words unless it is Han or kana, cut to a readable size."""
    start = max(start, 0)
    while start > 0 and end - start < TERM_CHARS_MAX and _joins(text[start - 1], text[start]):
        start -= 1
    while end < len(text) and end - start < TERM_CHARS_MAX and _joins(text[end], text[end - 1]):
        end += 1
    return " ".join(text[start:end].lower().split())[:TERM_CHARS_MAX]


def _joins(outside: str, inside: str) -> bool:
    """Whether two neighbours belong to one word of an alphabet."""
    return outside.isalnum() and inside.isalnum() and outside < HAN_FIRST and inside < HAN_FIRST
