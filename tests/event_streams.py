"""Event streams cut anywhere: a parser that is too plain to be wrong, streams as vendors might send them, and cuts: I22.

The parser is written line by line from the HTML standard, "9.2.6 Interpreting an event stream"; it knows no chunks, and
so can't depend on them. What of a stream the tap, the official SDK and the parser read is compared for every cutting.

Where others differ from the standard, and what is therefore not compared:
- the SDK knows no byte order mark: it is fed streams without theirs;
- the SDK gives an event for lines without any data: events whose data is empty are left out on both sides;
- the SDK and the standard have no limit: the tap refuses an event over `EVENT_BYTES_MAX` (8 MiB); nothing here is longer.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from service.upstream.sse import SseTap

BOM = b"\xef\xbb\xbf"
ENDS = (b"\n", b"\r\n", b"\r")
MEBIBYTE = 2**20
LONG_ONE_IN = 400
"""One stream of so many holds a line of a mebibyte."""


def reference(stream: bytes) -> list[str]:
    """The data of each event of a whole stream, by the standard's own steps."""
    text = stream.decode("utf-8-sig", "replace")  # "UTF-8 decode": one byte order mark is stripped
    events, data = [], ""
    line, at = "", 0
    while at < len(text):
        character = text[at]
        at += 1
        if character not in "\r\n":
            line += character
            continue
        if character == "\r" and text[at : at + 1] == "\n":
            at += 1
        if line == "":  # dispatch the event
            if data != "":
                events.append(data.removesuffix("\n"))
            data = ""
        elif not line.startswith(":"):
            name, colon, value = line.partition(":")
            if colon and value.startswith(" "):
                value = value[1:]
            if name == "data":
                data += value + "\n"
        line = ""
    return events  # what follows the last blank line is dropped


Taken = tuple[list[str], bytes]
"""The data of the events of a stream that have any, and every byte that was given back."""


def tapped(pieces: Sequence[bytes], make: Callable[[], SseTap] = SseTap) -> Taken:
    """What the tap takes from a stream that arrives in these pieces."""
    tap = make()
    events = [event for piece in pieces for event in tap.feed(piece)]
    raw = b"".join(event.raw for event in events) + tap.finish()
    return [event.data.decode("utf-8", "replace") for event in events if event.data is not None], raw


def heard_by_sdk(pieces: Sequence[bytes]) -> list[str]:
    """What the official SDK takes from it."""
    from openai._streaming import SSEDecoder

    return [event.data for event in SSEDecoder().iter_bytes(iter(pieces))]


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    """The stream in pieces."""
    return [stream[start:end] for start, end in pairwise((0, *sorted(places), len(stream)))]


@dataclass(frozen=True, slots=True)
class Split:
    """One stream and one way to cut it: the same for the same seed and number."""

    number: int
    kind: str
    stream: bytes
    places: tuple[int, ...]

    @classmethod
    def drawn(cls, seed: int, number: int) -> Split:
        """The case of a number."""
        chance = random.Random(f"{seed}:{number}")
        kind = "a line of 1 MiB" if number % LONG_ONE_IN == 0 else chance.choice(sorted(KINDS))
        stream = _long(chance) if number % LONG_ONE_IN == 0 else KINDS[kind](chance)
        return cls(number, kind, stream, _places(stream, chance))

    def wrong(self, make: Callable[[], SseTap] = SseTap) -> list[str]:
        """What does not hold of it."""
        pieces = cut(self.stream, self.places)
        wanted = reference(self.stream)
        events, raw = tapped(pieces, make)
        found = []
        if events != wanted:
            found.append(f"{len(events)} events, not those {len(wanted)} of the standard")
        if raw != self.stream:
            found.append("other bytes than were fed")
        unmarked = self.stream.removeprefix(BOM)
        told = heard_by_sdk(cut(unmarked, [at for at in self.places if at <= len(unmarked)]))
        if [one for one in told if one] != [one for one in wanted if one]:
            found.append("the SDK reads something else")
        return found


def _places(stream: bytes, chance: random.Random) -> tuple[int, ...]:
    """Where to cut: nowhere, everywhere, at random, or around the ends of lines, where it matters most."""
    size = len(stream)
    if size > MEBIBYTE:
        return tuple(sorted(chance.randrange(size) for _ in range(chance.choice((0, 1, 7, 300)))))
    how = chance.randrange(6)
    if how == 0:
        return tuple(range(1, size))
    if how == 1:
        return tuple(range(chance.randrange(1, 4), size, chance.randrange(1, 9)))
    if how == 2:
        ends = [at for at, byte in enumerate(stream) if byte in b"\r\n"]
        return tuple(sorted({at + chance.randrange(2) for at in ends if chance.random() < 0.7}))
    return tuple(sorted(chance.randrange(size + 1) for _ in range(chance.randrange(12))))


WORDS = (
    "Paris",
    "巴黎",
    "a\u2028b",
    "c\u2029d",
    "e\u0085f",
    "g\x0bh\x0ci\x1cj",
    "é🙂",
    '"}\\',
    "\u0000",
    "\ufeff",
    " ",
    "",
)


def _chunk(chance: random.Random) -> str:
    """A chunk of an answer, as JSON that escapes nothing it need not escape."""
    text = "".join(chance.choice(WORDS) for _ in range(chance.randrange(4)))
    body = {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return json.dumps(body, ensure_ascii=chance.random() < 0.2)


def _answer(chance: random.Random, end: Callable[[], bytes]) -> bytes:
    """A whole answer with these line ends."""
    lines: list[bytes] = []
    for _ in range(chance.randrange(1, 8)):
        if chance.random() < 0.2:
            lines += [b": keep-alive", *([b""] if chance.random() < 0.7 else [])]
        if chance.random() < 0.2:
            lines.append(chance.choice((b"event: message", b"id: 7", b"retry: 5", b"odd", b"data-set: 1")))
        lines += [chance.choice((b"data: ", b"data:")) + _chunk(chance).encode(), b""]
    return b"".join(line + end() for line in [*lines, b"data: [DONE]", b""])


def _plain(chance: random.Random) -> bytes:
    return _answer(chance, lambda: b"\n")


def _crlf(chance: random.Random) -> bytes:
    return _answer(chance, lambda: b"\r\n")


def _cr(chance: random.Random) -> bytes:
    return _answer(chance, lambda: b"\r")


def _mixed(chance: random.Random) -> bytes:
    return _answer(chance, lambda: chance.choice(ENDS))


def _marked(chance: random.Random) -> bytes:
    return BOM * chance.choice((1, 1, 2)) + _mixed(chance)


def _multi_line(chance: random.Random) -> bytes:
    """One JSON text over several data lines."""
    end = chance.choice(ENDS)
    lines = [b"data: " + line.encode() for _ in range(3) for line in (*_indented(chance), "")]
    return b"".join((b"" if line == b"data: " else line) + end for line in lines)


def _indented(chance: random.Random) -> list[str]:
    return json.dumps(json.loads(_chunk(chance)), indent=chance.randrange(3), ensure_ascii=False).split("\n")


def _unfinished(chance: random.Random) -> bytes:
    """An answer that ends anywhere but in the middle of a character."""
    stream = _mixed(chance)
    return stream[: chance.randrange(len(stream))].decode("utf-8", "ignore").encode()


LINES = (
    b"data", b"data:", b"data: ", b"data:  two", b"data\t: x", b" data: x", b"datax: y", b":", b": c", b"::", b"",
    b"", b"", b"event: e", b"event", b"id: 1", b"id: \x00", b"retry: x", b"\xef\xbb\xbfdata: x", b"\x00", b"data: \x00",
    "data: \u2028".encode(), "\u0085".encode(), b"data: [DONE]",
)  # fmt: skip


def _odd(chance: random.Random) -> bytes:
    """Any lines in any order."""
    return b"".join(chance.choice(LINES) + chance.choice(ENDS) for _ in range(chance.randrange(20)))


KINDS: dict[str, Callable[[random.Random], bytes]] = {
    "LF": _plain,
    "CRLF": _crlf,
    "CR": _cr,
    "all line ends mixed": _mixed,
    "byte order mark": _marked,
    "data over several lines": _multi_line,
    "unterminated tail": _unfinished,
    "any lines in any order": _odd,
}


def _long(chance: random.Random) -> bytes:
    """A line of a mebibyte between others. Its line ends are plain: the reference takes a character at a time."""
    end = chance.choice(ENDS)
    return _plain(chance).replace(b"\n", end) + b"data: " + b"x" * MEBIBYTE + end + end + _plain(chance)


def splits(seed: int, numbers: Sequence[int]) -> Iterator[Split]:
    """The cases of these numbers."""
    for number in numbers:
        yield Split.drawn(seed, number)
