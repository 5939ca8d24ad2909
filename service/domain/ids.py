"""Ids: a prefix, the second they were made in, and 64 random bits, as `dec_`, `att_` and `req_` have them.

Where on the path: a request needs three of them. The ledger's index is ordered by them, so what is new goes to its end,
however long it has grown; and a person sees at a glance which of two is older.

Invariants
1. The bits come from the system's generator, and none are given twice, also not by a process that was forked.
2. The system is asked once for many: each time it is asked, the thread lets go of the interpreter and waits for it.
"""

from __future__ import annotations

import os
import time
from typing import Final

RANDOM_BYTES: Final = 8
"""Of a hundred thousand ids a second, for a year, two are equal with a chance of 1 %."""

AT_ONCE: Final = 256
"""Ids that one look at the system's generator is good for."""

_waiting: list[str] = []


def new_id(prefix: str) -> str:
    """A new id, such as `dec_6921a3c70123456789abcdef`. Safe to call from any thread."""
    return f"{prefix}{int(time.time()):08x}{_random()}"


def new_draw() -> int:
    """A number that nobody can foresee, from 0 to 2**53: what a policy that explores draws by. As safe to call."""
    return int(_random(), 16) >> 11


def _random() -> str:
    try:
        return _waiting.pop()
    except IndexError:
        drawn = os.urandom(RANDOM_BYTES * AT_ONCE).hex()
        step = 2 * RANDOM_BYTES
        fresh = [drawn[at : at + step] for at in range(0, len(drawn), step)]
        mine = fresh.pop()  # before another thread can take them all
        _waiting.extend(fresh)
        return mine


os.register_at_fork(after_in_child=_waiting.clear)
