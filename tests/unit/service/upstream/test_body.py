"""How bodies are read: to the same effect from an answer that pours and from one that has chunks only."""

from __future__ import annotations

import pytest

from service.errors import Broken
from service.upstream.body import pour_of, read_up_to


class Chunked:
    """An answer with chunks only; breaks in the end, if it is told to."""

    def __init__(self, *pieces, breaks=False):
        self.pieces, self.breaks = pieces, breaks

    async def chunks(self):
        for piece in self.pieces:
            yield piece
        if self.breaks:
            raise Broken("cut", cause="cut")


class Pouring(Chunked):
    """One that pours."""

    async def pour(self, take):
        self.pieces = iter(self.pieces)
        for piece in self.pieces:
            if not take(piece):
                return False
        if self.breaks:
            raise Broken("cut", cause="cut")
        return True


class Arrived(Chunked):
    """One whose body came with its head."""

    def arrived(self):
        return b"".join(self.pieces)


class NotYet(Pouring):
    """One whose body may come with its head, and did not."""

    def arrived(self):
        return None


EVERY = pytest.mark.parametrize("kind", [Chunked, Pouring, Arrived, NotYet])
AS_IT_COMES = pytest.mark.parametrize("kind", [Chunked, Pouring])


@EVERY
@pytest.mark.parametrize(("limit", "whole"), [(5, True), (4, False), (0, False)])
async def test_a_body_up_to_a_limit(kind, limit, whole):
    """All of it, or the word that it is more; what goes far beyond the limit is not read."""
    body, all_of_it = await read_up_to(kind(b"abc", b"de"), limit)
    assert all_of_it is whole
    assert b"abcde".startswith(body)
    assert not whole or body == b"abcde"
    assert await read_up_to(kind(), limit) == (b"", True)


async def test_reading_stops_at_the_limit():
    """A body without end is not waited for."""
    assert await read_up_to(Chunked(b"abc", b"de", breaks=True), 2) == (b"abc", False)


@AS_IT_COMES
async def test_one_piece_after_another(kind):
    """Each once, in order; who wants no more is asked again for the rest; then it is said that this was all."""
    pour, seen = pour_of(kind(b"a", b"b", b"c")), []

    def take(piece):
        seen.append(piece)
        return len(seen) != 2

    assert await pour(take) is False
    assert seen == [b"a", b"b"]
    assert await pour(take) is True
    assert seen == [b"a", b"b", b"c"]


@AS_IT_COMES
async def test_what_breaks_is_said_after_what_came(kind):
    """The pieces first."""
    seen = []
    with pytest.raises(Broken):
        await pour_of(kind(b"a", breaks=True))(lambda piece: seen.append(piece) or True)
    assert seen == [b"a"]
