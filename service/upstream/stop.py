"""Where a streamed answer is to end because what was reserved for it is used up.

Where on the path: `settling` says how many tokens are paid for, `stream` asks before it hands a piece on. Only for
requests that are to be stopped at all: any other stream is not measured while it runs.

Invariant: what was handed on is, counted as it is booked when no vendor's number comes, not more than is paid for.
"""

from __future__ import annotations

from service.domain.chat import estimate_tokens
from service.upstream.yardstick import Yardstick


class Stop:
    """The end of an answer after `tokens`, counted by a deployment's yardstick. `reached`: it was ended there."""

    __slots__ = ("_tokens", "_yardstick", "reached")

    def __init__(self, tokens: int, yardstick: Yardstick) -> None:
        self._tokens = tokens
        self._yardstick = yardstick
        self.reached = False

    def is_passed(self, characters: int, cjk_characters: int, counted: int) -> bool:
        """Whether so much text, or so many tokens by the vendor's own count so far, are more than is paid for."""
        estimated = estimate_tokens(characters, cjk_characters)
        tokens = self._yardstick.output_tokens(estimated, cjk=2 * cjk_characters > characters)
        return max(tokens, counted) > self._tokens
