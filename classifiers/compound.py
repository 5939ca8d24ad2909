"""From a compound request to its parts: where one wish ends and the next begins. Pure, standard library only.

Where on the path: `scorer.parts` asks for the pieces of a request that was read as compound, then judges each one.

Invariants:
1. Bounded: at most `PIECES_MAX` pieces of a bounded selection.
2. Pieces are verbatim spans of the text, in order, and don't overlap.
"""

from __future__ import annotations

import re
from typing import Final

PIECES_MAX: Final = 8
PIECE_CHARS_MIN: Final = 4
PIECE_CHARS_MIN_LATIN: Final = 8

_SPLIT: Final = re.compile(
    r"[\n;；。！？]+"
    r"|[.!?](?=\s|$)"
    r"|(?:,|\s-|—)?\s+(?:and\s+)?(?:then|afterwards|after that|next|finally|lastly|also)[,\s]\s*"
    r"|,\s*(?:and\s+)?(?=(?:please\s+)?(?:translate|summari[sz]e|write|draft|send|e?mail|book|post|add|set|create|make|"
    r"explain|list|extract|find|search|calculate|compute|convert|compare|turn|give|tell|suggest|fix|rewrite|check|save|"
    r"upload|remind|schedule|generate|classify|tag|rank|plot|transcribe|read|put|show|propose|recommend|estimate|work)\b)"
    r"|\s+and\s+(?=(?:translate|summari[sz]e|write|draft|send|e?mail|book|post|add|set|create|"
    r"explain|list|extract|find|search|calculate|convert|compare|suggest|fix|rewrite|check|save|upload|remind|schedule|"
    r"generate|classify|transcribe|recommend|estimate)\b)"
    r"|[,，、]?\s*(?:然后|接着|之后|随后|最后|其次|同时|顺便|另外|并且|并|再帮我|再|還有|然後|接著|最後|順便|還要|还要)"
    r"(?=[^，。,]{2})"
    r"|，(?=(?:请|帮我|给我|把|将|翻|译|写|总结|概括|列|提取|找|查|算|发|订|做|生成|解释|分析|推荐|改|润色|设|提醒|存|"
    r"播|画|编|起草|对比|比较|整理|检查|幫我|寫|總結|訂|發|設))",
    re.IGNORECASE,
)


def pieces(text: str) -> tuple[str, ...]:
    """The pieces of a text between the marks and words that join wishes, too short ones left out."""
    found = []
    for piece in _SPLIT.split(text):
        bare = piece.strip(" \t\r,，、:：-*•0123456789.)）(（")
        least = PIECE_CHARS_MIN_LATIN if bare.isascii() else PIECE_CHARS_MIN
        if len(bare) >= least:
            found.append(bare)
            if len(found) == PIECES_MAX:
                break
    return tuple(found)
