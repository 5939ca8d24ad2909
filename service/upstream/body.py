"""How the body of a vendor's answer is read: as it comes, or whole up to a limit.

Where on the path: `upstream.client` and `upstream.stream` read every body with it. A transport whose answers can `pour`
calls what reads from the event loop's own callback; any other is asked for its `chunks`, to the same effect. A body
that has `arrived` with its head, as short ones do, is not waited for at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from service.domain.ports import UpstreamResponse

Take = Callable[[bytes], bool]
"""Is given each piece of a body; false when it wants no more for now. It never waits."""

Pour = Callable[[Take], Awaitable[bool]]
"""Gives the body to a `Take` until that wants no more; whether the body has ended. Raises `Broken`."""


def pour_of(response: UpstreamResponse) -> Pour:
    """The way to read a body piece by piece. Ask once for each answer, and call what you get for the rest, too."""
    pour: Pour | None = getattr(response, "pour", None)
    return partial(_by_chunks, response.chunks()) if pour is None else pour


async def _by_chunks(chunks: AsyncIterator[bytes], take: Take) -> bool:
    async for chunk in chunks:
        if not take(chunk):
            return False
    return True


async def read_up_to(response: UpstreamResponse, limit: int) -> tuple[bytes, bool]:
    """(the body, whether that is all of it): reading stops with the piece that goes over `limit` bytes."""
    arrived: Callable[[], bytes | None] | None = getattr(response, "arrived", None)
    body = None if arrived is None else arrived()
    if body is not None:
        return body, len(body) <= limit
    pieces: list[bytes] = []
    left = limit

    def take(piece: bytes) -> bool:
        nonlocal left
        pieces.append(piece)
        left -= len(piece)
        return left >= 0

    await pour_of(response)(take)
    return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), left >= 0
