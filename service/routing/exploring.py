"""A small share of requests left to a draw, so that the log can say of other choices how good they are.

Where on the path: last step of `router.decide`, for a policy with `explore`. Without one every choice is certain, and a
log of certain choices says nothing of any other: `routing.off_policy` refuses to guess from it.

Who may be drawn: of each model the best-placed deployment that meets the floor, the first `AMONG_MOST` in the policy's
own order. The first of them is the policy's choice and comes with 1 - share; the others share the rest evenly.

Invariants
1. Nobody is drawn whom the policy could not choose: every filter, floor and ceiling has been applied.
2. The number decides, in whole numbers: the same number over the same candidates draws the same one.
3. Nothing is drawn for a conversation that goes on, a tool loop, or a request whose floor nobody reaches; a named model
   leaves nobody else to draw. For a named session no number is given in the first place.
"""

from __future__ import annotations

from typing import Final

from service.domain.decision import Draw
from service.routing.weighing import Weighed

AMONG_MOST: Final = 8
"""With 2 % and seven others each is drawn once in 350 requests: with more, nothing is learned of anybody."""

DRAWS: Final = 2**53
"""Numbers that may be drawn: whole ones that every reader of JSON keeps."""

MESSAGES_MOST: Final = 2
"""A system message and a question: with more, a conversation goes on, and stays where it is."""


def drawn(weighed: Weighed) -> tuple[Draw | None, int]:
    """(the draw, `None` without one; the rank in the policy's order of whom it puts first, 0 for the policy's own)."""
    number, share, asked = weighed.around.draw, weighed.rules.spec.explore, weighed.asked
    if number is None or not share or not weighed.ranking.kept:
        return None, 0
    if asked.in_tool_loop or asked.sizes.messages > MESSAGES_MOST:
        return None, 0
    ranks = _among(weighed)
    if len(ranks) < 2:
        return None, 0
    bound = round(share * DRAWS)
    place = 1 + number * (len(ranks) - 1) // bound if number < bound else 0
    order, able = weighed.ranking.order, weighed.entrants.able
    return Draw(number, share, tuple([able[order[rank]][0].id for rank in ranks]), place), ranks[place]


def _among(weighed: Weighed) -> list[int]:
    """The ranks of those that may be drawn."""
    order, able, found = weighed.ranking.order, weighed.entrants.able, list[int]()
    seen: set[str] = set()
    for rank in range(weighed.ranking.eligible):
        model = able[order[rank]][1].name
        if model not in seen:
            seen.add(model)
            found.append(rank)
            if len(found) == AMONG_MOST:
                break
    return found


def moved(rank: int, first: int) -> int:
    """The old rank of who stands at `rank` once the one of rank `first` was put in front."""
    if rank > first:
        return rank
    return rank - 1 if rank else first
