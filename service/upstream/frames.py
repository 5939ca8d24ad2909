"""Events of a stream told by their frame: the bytes around their text, which are the same in nearly all of them.

Where on the path: `upstream.stream` asks here before it parses anything. A protocol says once what stands around the
text of an event (`WireProtocol.text_frame`); events that differ from that one in the text alone need no parser.

Invariants
1. What is alike is whole events, each the frame with the inside of a JSON string in its gap: it closes no quote, so all
   else is read as in the event that the frame was taken from.
2. When in doubt it is not alike: an empty text, a broken escape, bytes that are no UTF-8.
3. Work is linear in the chunk.
"""

from __future__ import annotations

import re

import orjson

from service.domain.chat import count_characters
from service.domain.ports import TextFrame

_PLAIN = re.compile(rb"[ !#-\[\]-~]+")  # the inside of a JSON string that says just what it spells


def text_of(chunk: bytes, frame: TextFrame) -> tuple[int, int] | None:
    """(characters, CJK characters) in the texts of whole events that are all alike; `None` when one may be not."""
    before, after, end = frame
    start, size = len(before), len(after)
    events = chunk.split(b"\n\n")
    if events.pop():
        return None
    characters = cjk = 0
    for event in events:
        if not event.startswith(before):
            return None
        if not end:
            stop = len(event) - size
            if not event.endswith(after):
                return None
        else:
            stop = event.find(after, start)
            if stop < 0 or not event.endswith(end) or not _PLAIN.fullmatch(event, stop + size, len(event) - len(end)):
                return None
        if _PLAIN.fullmatch(event, start, stop):
            characters += stop - start
        else:
            text = _spelt(event[start:stop])
            if not text:
                return None
            more, more_cjk = count_characters(text)
            characters += more
            cjk += more_cjk
    return characters, cjk


def _spelt(inside: bytes) -> str:
    """The text that the inside of a JSON string spells; nothing when it is no such thing."""
    try:
        text = orjson.loads(b'"%b"' % inside)
    except orjson.JSONDecodeError:
        return ""
    return text if type(text) is str else ""
