"""From a compound request to its parts: where one wish may end and the next begin. Pure, standard library only.

Where on the path: `scorer.parts` asks for the pieces of a request that was read as compound, then judges each one. A
cut too many does little harm there: neighbours of one intent are one step, and a piece that says little is left out.

Invariants:
1. Bounded: at most `PIECES_MAX` pieces of a bounded selection.
2. Pieces are verbatim spans of the text, in order, and don't overlap.
"""

from __future__ import annotations

import re
from typing import Any, Final

from classifiers import kernel

PIECES_MAX: Final = 16
PIECE_CHARS_MIN: Final = 3
PIECE_CHARS_MIN_LATIN: Final = 6
"""A shorter piece is no wish; a script that says a word in one or two characters needs fewer."""

_SPLIT: Final = re.compile(
    r"(?:[\n;；。！？，、：]|[,:](?!\d))+|[.!?](?=\s|$)|\s+(?:and|then|plus|&|\+)\s+|\s[-—–]\s|\s*(?:->|→|=>)\s*|\(\d\)|[①②③④⑤⑥⑦⑧⑨]"
    r"|(?<=[一-鿿])(?:然后|接着|之后|随后|再(?![生见婚次现度])|并且|(?<!合)并(?![发行列购且入])|顺便|最后|同时|另外|還有|然後|接著|最後|順便)(?=[一-鿿])",
    re.IGNORECASE,
)
_LINKS: Final = re.compile(
    r"(?:(?:and|then|next|first|finally|lastly|also|afterwards|after that)(?:,\s*|\s+(?=[a-z])|$))+"
    r"|(?:首先|先(?![生进例锋前后天辈])|再(?![生见婚次现度])|然后|接着|之后|随后|最后|顺便|同时|另外|并且|還有|然後|接著|最後|順便)+",
)
"""What links a wish to the one before it says nothing of the wish. Words that only begin like one are none."""

_MARK: Final = re.compile(r"(?:\d{1,2}[.)、]|[-*•])\s*")
_EDGES: Final = " \t\r,，、:：)）(（\"'“”"
_LAST: Final = 4
"""So many pieces of the end are kept when there are too many: what is wanted of a long list often stands behind it."""


_MARK_FIRST: Final = frozenset("-*•")
_LINK_FIRST: Final = frozenset("antfl首先再然接之随最顺同另并還順")
"""How marks (that are no figures) and links begin: few pieces have either."""

splits: Final[Any] = kernel.compiled("split") or _SPLIT.split
"""The text between all that may join wishes, from C where it can be: `_kernel_words.h` has the twin of the pattern."""


def pieces(text: str) -> tuple[str, ...]:
    """The pieces of a text between the marks and words that may join wishes, too short ones left out."""
    found = []
    for piece in splits(text):
        bare = piece.strip(_EDGES)
        first = bare[:1]
        if first.isdecimal() or first in _MARK_FIRST:
            bare = _without(_MARK, bare)
        if bare[:1].lower() in _LINK_FIRST:
            bare = _without(_LINKS, bare)
        least = PIECE_CHARS_MIN_LATIN if bare.isascii() else PIECE_CHARS_MIN
        if len(bare) >= least:
            found.append(bare)
    if len(found) > PIECES_MAX:
        found = [*found[: PIECES_MAX - _LAST], *found[-_LAST:]]
    return tuple(found)


def _without(lead: re.Pattern[str], bare: str) -> str:
    """A piece without what leads it."""
    start = lead.match(bare[:1].lower() + bare[1:])
    return bare if start is None else bare[start.end() :].lstrip(_EDGES)
