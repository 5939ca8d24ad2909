"""The tap: splits a byte stream into server-sent events without changing a byte. Sans-I/O: bytes in, events out.

Where on the path: `upstream.client` feeds what arrives; each event's `raw` bytes go to the caller, its `data` is looked
at. Syntax per the HTML standard's event stream: lines end in LF, CRLF or CR; a blank line ends an event.

Invariants
1. The concatenation of all `raw` (plus `finish()`) equals the bytes fed, whatever the chunking.
2. The `data` of the events is the same for every way of cutting the stream into chunks. (Of a CRLF that is cut in two
   after an event the line feed goes with the next event's `raw`: waiting for it would hold the event back.)
3. Nothing longer than `EVENT_BYTES_MAX` is kept: a longer event raises `EventTooLong`, however it arrived.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

EVENT_BYTES_MAX = 8 * 1024 * 1024
"""A real event is a few hundred bytes; a tool call or an image may be megabytes; past this it is an attack."""

# Atomic groups: a CRLF is one line end and is never re-read as two.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class EventTooLong(Exception):
    """An event outgrew `EVENT_BYTES_MAX`."""


class Event(NamedTuple):
    """`raw` is forwarded. `data` is the joined data lines, or `None` for comments and for events without data."""

    raw: bytes
    data: bytes | None


class SseTap:
    """Feed chunks, get events. `held` is the start of an event that is not whole yet."""

    def __init__(self) -> None:
        self.held = bytearray()
        self._looked_at = 0
        self._at_start = True

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events completed by this chunk, in order."""
        whole = chunk.endswith(b"\n\n") and not chunk.endswith(b"\n\n\n") and b"\r" not in chunk
        if whole and not self.held and len(chunk) <= EVENT_BYTES_MAX:
            # Whole events with plain line ends, as most chunks are: the same without a buffer and a search.
            for raw in chunk.split(b"\n\n")[:-1]:
                yield self._event(raw + b"\n\n")
            return
        self.held += chunk
        while self.held:
            match = _BLANK_LINE.search(self.held, self._looked_at)
            if match is None:
                break
            end = match.end()
            if end > EVENT_BYTES_MAX:
                raise EventTooLong
            raw = bytes(self.held[:end])
            del self.held[:end]
            self._looked_at = 0
            yield self._event(raw)
        # After an event that ended in CR a line feed may stand first: the second half of that line end. At most it
        # makes an event without data, which means nothing.
        # A line end may be cut in two: look again at the last three bytes next time.
        self._looked_at = max(0, len(self.held) - 3)
        if len(self.held) > EVENT_BYTES_MAX:
            raise EventTooLong

    def finish(self) -> bytes:
        """The bytes after the last event: an unterminated tail, which the standard says to drop."""
        tail = bytes(self.held)
        self.held.clear()
        self._looked_at = 0
        return tail

    def _event(self, raw: bytes) -> Event:
        text = raw
        if self._at_start:
            self._at_start = False
            text = raw.removeprefix(_BOM)
        if text.startswith(b"data: ") and text.endswith(b"\n\n") and text.count(b"\n") == 2 and b"\r" not in text:
            return Event(raw, text[6:-2])
        return Event(raw, data_of(text))


def data_of(text: bytes) -> bytes | None:
    """The joined `data` lines of an event's text, or `None` when it has none."""
    found: list[bytes] = []
    for line in _LINE_END.split(text):
        if line == b"data":
            found.append(b"")
        elif line.startswith(b"data:"):
            value = line[5:]
            found.append(value[1:] if value.startswith(b" ") else value)
    return b"\n".join(found) if found else None
