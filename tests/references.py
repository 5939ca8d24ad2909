"""What C code must not do: hold on to what it was given."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

ROUNDS = 200


def assert_let_go(go: Callable[[], None], held: Sequence[object]) -> None:
    """After the first call of `go` the next ones leave as many references to each of `held` as there were."""
    go()
    before = [sys.getrefcount(one) for one in held]
    for _ in range(ROUNDS):
        go()
    assert [sys.getrefcount(one) for one in held] == before
