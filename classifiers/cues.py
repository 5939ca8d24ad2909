"""Which row of the features a cue stands for: a word, two words or a few Han characters written down by people.

Where on the path: `model` ties the rows of a cue group together in training, `scanning` and `kernel` look up which
words ask for an action or tell a language.

Invariant: a cue that could never fire in a text is refused.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from classifiers import structure
from classifiers.alphabet import HAN, KANA
from classifiers.anchors import BUCKETS, START_SEED, bucket_of
from classifiers.folding import MIX, WRAP, Folded
from classifiers.language import ENGLISH_MARK, ENGLISH_WORDS, FOREIGN_MARK, FOREIGN_WORDS

CJK_SIZES: Final = (1, 2, 3, 4)
"""n-gram sizes of Han and kana runs."""


def _hash_of(cue: str) -> int:
    """The hash of a cue: one word, two words, or one to four Han characters. Raises `ValueError` for any other."""
    folded = Folded(cue)
    words = len(folded.starts)
    if folded.has_cjk:
        size = folded.counts[HAN] + folded.counts[KANA]
        if words or size != len(cue) or size not in CJK_SIZES:
            raise ValueError(f"cue {cue!r}: write one to {CJK_SIZES[-1]} Han characters, or one or two words")
        return int(folded.spans(np.array([0]), np.array([size]))[0])
    if words not in (1, 2):
        raise ValueError(
            f"cue {cue!r} has {words} words: write one or two words, or one to {CJK_SIZES[-1]} Han characters"
        )
    hashes = folded.spans(folded.starts, folded.ends).tolist()
    return int(hashes[0] if words == 1 else (hashes[0] * MIX + hashes[1]) & WRAP)


def cue_buckets(cue: str) -> list[int]:
    """The row that a cue of the lexicon stands for: one word, two words, or one to four Han characters.

    Raises `ValueError` for any other cue: it could never fire.
    """
    return [bucket_of(_hash_of(cue))]


def opening_buckets(cue: str) -> list[int]:
    """The row of a cue that opens a text or its last line; `cue_buckets` says what a cue may be."""
    return [bucket_of(_hash_of(cue) ^ START_SEED)]


def _hint_table() -> npt.NDArray[np.uint8]:
    """(BUCKETS,) uint8: which kind of action the word or Han gram of a bucket asks for (0 for none), in the low bits.

    Above them: whether it is a function word of English or of another language; a word of both is neither.
    """
    table = np.zeros(BUCKETS, dtype=np.uint8)
    for kind, words in enumerate(structure.ACTIONS, start=1):
        for word in words.split():
            table[cue_buckets(word)] = kind
    english, foreign = set(ENGLISH_WORDS.split()), set(FOREIGN_WORDS.split())
    for function_words, mark in ((english - foreign, ENGLISH_MARK), (foreign - english, FOREIGN_MARK)):
        for word in sorted(function_words):
            table[cue_buckets(word)] |= np.uint8(mark)
    table.flags.writeable = False
    return table


HINTS: Final = _hint_table()
