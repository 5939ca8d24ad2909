"""How much feedback a key may send, and whether it said the same before: it costs nothing, and every line takes room.

Where on the path: beside it; `POST /v1/feedback` asks before it looks anything up.

Invariants
1. A key sends at most `PER_MINUTE` in a minute of this process's clock.
2. What was said last of a decision, word for word, is not written twice while it is remembered.
3. Memory is bounded: `REMEMBERED` decisions, and one count for each key of the last minute.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from service.errors import RateLimited

PER_MINUTE: Final = 600
"""Ten a second: more than people say of answers, and 36 MB an hour of journal at most."""

REMEMBERED: Final = 16_384

MINUTE_S: Final = 60.0


class Hearing:
    """The counts of one process. `now_s` is monotonic seconds."""

    def __init__(self) -> None:
        self._minute = -1
        self._counts: dict[str | None, int] = {}
        self._said: OrderedDict[str, object] = OrderedDict()

    def admit(self, key_id: str | None, now_s: float) -> None:
        """Count one; raises RateLimited when the key has had its minute's worth."""
        minute = int(now_s // MINUTE_S)
        if minute != self._minute:
            self._minute, self._counts = minute, {}
        count = self._counts.get(key_id, 0)
        if count >= PER_MINUTE:
            wait_s = int((minute + 1) * MINUTE_S - now_s) + 1
            raise RateLimited(
                f"this key has sent {PER_MINUTE} feedbacks in a minute; go on in {wait_s} s",
                code="rate_limit_exceeded",
                headers={"retry-after": str(wait_s)},
            )
        self._counts[key_id] = count + 1

    def said_before(self, decision_id: str, said: object) -> bool:
        """Whether this is what was said last of a decision, as far as is remembered."""
        return self._said.get(decision_id) == said

    def remember(self, decision_id: str, said: object) -> None:
        """Note what was written."""
        self._said[decision_id] = said
        self._said.move_to_end(decision_id)
        while len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
