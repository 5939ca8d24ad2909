"""What is read of a conversation: whose turns, which part of them, with which weight. Pure, standard library only.

Where on the path: `scorer.read` begins here; `features.extract` gets what `select` left.

Invariants:
1. Bounded: at most `TURNS_READ` turns are looked at, of at most three of them a fixed number of characters is kept, and
   no operation but slicing ever sees a whole text.
2. Only turns of the role `user` are read, without what an agent or app wrapped around them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from classifiers import structure
from classifiers.harness import Unwrapped, unwrap

HEAD_CHARS: Final = 500
TAIL_CHARS: Final = 200
"""Characters read of the last user turn: instructions stand at the start or at the end of a pasted text."""

DENSE_PART: Final = 2
DENSE_BYTES: Final = 1.8
"""A text with more bytes of UTF-8 per character than this is of a dense script."""

EARLIER_HEAD_CHARS: Final = 200
EARLIER_TAIL_CHARS: Final = 100
"""Characters read of each earlier user turn: only enough to know what `make it shorter` is about."""

EARLIER_TURNS: Final = 2
EARLIER_WEIGHT: Final = 0.5
"""How many user turns before the last one count, and how much."""

_BLANKS: Final = re.compile(r"[ \t](?<=\S[ \t])[ \t]+")
"""Blanks behind something in a line. Looking behind only where a blank was found is what makes the search fast."""

FOLLOW_UP_CHARS_MAX: Final = 24
FOLLOW_UPS: Final = frozenset(
    (
        *(
            "continue",
            "go on",
            "go ahead",
            "keep going",
            "proceed",
            "next",
            "more",
            "again",
            "carry on",
            "and",
            "and then",
        ),
        *("continue please", "please continue", "more please", "do it", "try again", "retry", "same", "as above"),
        *(
            "继续",
            "请继续",
            "接着",
            "接着说",
            "继续说",
            "然后呢",
            "还有呢",
            "再来",
            "再来一次",
            "下一个",
            "同上",
            "如上",
            "继续吧",
        ),
        *("繼續", "請繼續", "然後呢", "還有呢", "再來"),
    )
)

TURNS_READ: Final = 64
"""Turns searched from the end for words of a person: an agent's loop may put many results of tools between them."""


def select(text: str, head: int = HEAD_CHARS, tail: int = TAIL_CHARS) -> str:
    """The part of a text that is read: all of it, or its first `head` and last `tail` characters on separate lines.

    A script that says a word in one or two characters (Han, kana, Hangul) is read for half as many.
    """
    if len(text) <= (head + tail) // DENSE_PART:
        return _closed_up(text)
    first = text[:head]
    if not first.isascii() and len(first.encode("utf-8", "surrogatepass")) > DENSE_BYTES * len(first):
        head, tail = head // DENSE_PART, tail // DENSE_PART
        first = first[:head]
    if len(text) <= head + tail:
        return _closed_up(text)
    return _closed_up(first + "\n" + text[-tail:])


def _closed_up(selection: str) -> str:
    """Runs of blanks inside a line as one blank; the indentation of code stays."""
    return _BLANKS.sub(" ", selection) if "  " in selection else selection


class Said(NamedTuple):
    """One user turn as it is read: its weight, its selection without wrapping, and flags that the text can't show.

    `noisy` when an agent's or app's wrapping was taken off, or an app asks for itself.
    """

    weight: float
    text: str
    context: tuple[int, ...] = ()
    noisy: bool = False


def user_texts(turns: Sequence[tuple[str, str]]) -> list[Said]:
    """The last user turn with words of a person and up to two before it, newest first. Other roles are never read."""
    found: list[Unwrapped] = []
    for role, text in reversed(turns[-TURNS_READ:]):
        if role != "user":
            continue
        said = unwrap(text)
        if said.text:
            found.append(said)
            if len(found) > EARLIER_TURNS:
                break
    if not found:
        return []
    last = found[0]
    context = [_BY_APP] if last.by_app else []
    if len(found) > 1:
        context.append(_EARLIER)
    noisy = last.noisy or last.by_app
    earlier = [Said(EARLIER_WEIGHT, select(one.text, EARLIER_HEAD_CHARS, EARLIER_TAIL_CHARS)) for one in found[1:]]
    return [Said(1.0, select(last.text), tuple(sorted(context)), noisy), *earlier]


_EARLIER: Final = structure.ROW["earlier turns"]
_BY_APP: Final = structure.ROW["asked by an app"]


def is_follow_up(text: str) -> bool:
    """Whether a text only asks to go on: alone, nobody can tell with what."""
    return len(text) <= FOLLOW_UP_CHARS_MAX and text.strip(" \t\n.!?。！？…~").lower() in FOLLOW_UPS
