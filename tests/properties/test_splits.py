"""A stream means the same however it is cut: the tap, the standard and the official SDK, on random cuts. I22.

`tests/event_streams.py` has the parser, the streams and the cuts; `tests/garble.py` plays fifty thousand of them.
"""

from __future__ import annotations

import pytest
from event_streams import KINDS, Split, reference, splits

from service.upstream.sse import Event, SseTap

SEED = 20261122
CASES = 1_200
"""Three of them hold a line of a mebibyte, which take longest."""


def test_no_cut_changes_an_event():
    """Every kind of stream, every kind of cut."""
    played = list(splits(SEED, range(1, CASES)))
    assert {one.kind for one in played} == {*KINDS, "a line of 1 MiB"}
    assert [(one.number, one.kind, one.wrong()) for one in played if one.wrong()] == []


class Forgetful(SseTap):
    """Looks for the end of an event in what is new, never across the seam."""

    def feed(self, chunk):
        self._looked_at = len(self.held)
        yield from super().feed(chunk)


class OwnLines(SseTap):
    """Takes for line ends what Python takes for line ends."""

    def _event(self, raw):
        text = raw.decode("utf-8", "replace").removeprefix("\ufeff")
        data = [line[5:].removeprefix(" ") for line in text.splitlines() if line.startswith("data:")]
        return Event(raw, "\n".join(data).encode() if data else None)


class Unmarked(SseTap):
    """Knows no byte order mark."""

    def __init__(self):
        super().__init__()
        self._at_start = False


class Careless(SseTap):
    """Takes two line feeds for the only end there is."""

    def feed(self, chunk):
        self.held += chunk
        while (end := self.held.find(b"\n\n")) >= 0:
            raw = bytes(self.held[: end + 2])
            del self.held[: end + 2]
            yield self._event(raw)


@pytest.mark.parametrize("broken", [Forgetful, OwnLines, Unmarked, Careless])
def test_a_broken_tap_is_found_out(broken):
    """The positive control: each of these passes with whole, plain streams."""
    assert any(one.wrong(broken) for one in splits(SEED, range(1, 150)))


def test_the_parser_reads_the_standards_own_examples():
    """Those of the HTML standard, 9.2.6."""
    assert reference(b"data: YHOO\ndata: +2\ndata: 10\n\n") == ["YHOO\n+2\n10"]
    first = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
    assert reference(first) == ["first event", "second event", " third event"]
    assert reference(b"data\n\ndata\ndata\n\ndata:") == ["", "\n"]
    assert reference(b"data:test\n\ndata: test\n\n") == ["test", "test"]


def test_a_case_is_the_same_each_time():
    """It can be played again from its number."""
    assert Split.drawn(SEED, 7) == Split.drawn(SEED, 7)
    assert Split.drawn(SEED, 7) != Split.drawn(SEED + 1, 7)
