"""How a text opens and how it ends, as rows of the features: that is where an instruction stands.

Where on the path: `scanning.scan` asks once per text; `_kernel_text.h` has the twin. Few numbers, so plain integers
beat arrays here.

Invariants:
1. The row of an opening is that of the words or Han characters themselves under another seed, wherever they stand: a
   cue of the lexicon and the opening of a text meet in one row.
2. `anchor_rows` and `anchor_spans` tell of the same places in the same order.
"""

from __future__ import annotations

import re
from typing import Final

from classifiers.alphabet import FOLD_TABLE, HAN, KANA
from classifiers.folding import BASE, MIX, WRAP, Folded, Hashes

BUCKET_BITS: Final = 20
BUCKETS: Final = 1 << BUCKET_BITS
"""Rows of hashed features; the rows of `structure.FLAGS` follow them."""

ANCHOR_WORDS: Final = 3
ANCHOR_CJK: Final = 4
"""An opening is up to three words, or up to four Han characters; an ending likewise."""

ANCHORS_MAX: Final = 3 * max(ANCHOR_WORDS, ANCHOR_CJK)

START_SEED: Final = 0x6A09E667F3BCC908
END_SEED: Final = 0x3C6EF372FE94F82B

_SHIFT: Final = 64 - BUCKET_BITS
_HAN: Final = re.compile(b"[%c%c]{1,%d}" % (HAN, KANA, ANCHOR_CJK))


def bucket_of(hashed: int) -> int:
    """The row of one hash."""
    return (hashed * MIX & WRAP) >> _SHIFT


def _word_openings(hashes: Hashes) -> list[int]:
    """Rows of the first of a few words, of the first two, and so on."""
    found, joined = [], 0
    for hashed in hashes.tolist():
        joined = (joined * MIX + hashed) & WRAP
        found.append(((joined ^ START_SEED) * MIX & WRAP) >> _SHIFT)
    return found


def _han_anchors(text: str, *, closing: bool) -> list[int]:
    """Rows of the first, or last, one to four characters of a few Han characters."""
    folds = [int(FOLD_TABLE[min(ord(one), 0xFFFF)]) for one in text]
    found, hashed, power = [], 0, 1
    for fold in reversed(folds) if closing else folds:
        hashed = (hashed * BASE + fold) & WRAP if closing else (hashed + fold * power) & WRAP
        power = power * BASE & WRAP
        found.append(bucket_of(hashed ^ (END_SEED if closing else START_SEED)))
    return found


def _first_han(folded: Folded, begin: int, word: int) -> tuple[int, int] | None:
    """Where the first few Han characters at or after a position stand, unless a word stands before them."""
    if not folded.has_cjk:
        return None
    found = _HAN.search(folded.kinds, begin + 1)
    if found is None or (word < len(folded.starts) and int(folded.starts[word]) < found.start()):
        return None
    return found.start() - 1, found.end() - 1


def _last_han(folded: Folded) -> tuple[int, int] | None:
    """Where the last few Han characters stand, unless a word stands behind them."""
    backwards = _HAN.search(folded.kinds[::-1]) if folded.has_cjk else None
    if backwards is None:
        return None
    end = len(folded.kinds) - 1 - backwards.start()
    if len(folded.ends) and end <= int(folded.ends[-1]):
        return None
    return end - len(backwards[0]), end


def _openings(folded: Folded) -> list[tuple[int, int]]:
    """Where the text opens and where its last line does: a position, and the first word at or after it."""
    if not folded.last_line:
        return [(0, 0)]
    return [(0, 0), (folded.last_line, int(folded.starts.searchsorted(folded.last_line)))]


def anchor_rows(folded: Folded, hashes: Hashes) -> list[int]:
    """Rows of how the text opens, how its last line opens, how it ends: that is where an instruction stands.

    An opening is the first one, two and three words, or the first one to four Han characters; an ending likewise.
    """
    words = len(folded.starts)
    found: list[int] = []
    for begin, word in _openings(folded):
        han = _first_han(folded, begin, word)
        if han is None:
            found += _word_openings(hashes[word : min(word + ANCHOR_WORDS, words)])
        else:
            found += _han_anchors(folded.text[han[0] : han[1]], closing=False)
    han = _last_han(folded)
    if han is not None:
        return found + _han_anchors(folded.text[han[0] : han[1]], closing=True)
    last = hashes[max(words - 2, 0) : words].tolist()
    if last:
        found.append(bucket_of(last[-1] ^ END_SEED))
    if len(last) > 1:
        found.append(bucket_of(((last[0] * MIX + last[1]) & WRAP) ^ END_SEED))
    return found


def anchor_spans(folded: Folded) -> list[tuple[int, int]]:
    """Where in the text the rows of `anchor_rows` stand, in the same order: only explanations ask."""
    found: list[tuple[int, int]] = []
    for begin, word in _openings(folded):
        han = _first_han(folded, begin, word)
        if han is None:
            ends = folded.ends[word : word + ANCHOR_WORDS].tolist()
            found += [(int(folded.starts[word]), end) for end in ends]
        else:
            found += [(han[0], end) for end in range(han[0] + 1, han[1] + 1)]
    han = _last_han(folded)
    if han is not None:
        return found + [(start, han[1]) for start in range(han[1] - 1, han[0] - 1, -1)]
    return found + [(start, int(folded.ends[-1])) for start in folded.starts[-2:].tolist()[::-1]]
