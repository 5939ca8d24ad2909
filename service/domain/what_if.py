"""What would have to change for another deployment to win: levers, and who would win by them. Frozen values only.

Where on the path: beside it; `routing.what_if` works them out, `routing.explain` tells them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that would have to change for a deployment to win: a lever, its value now, what it would have to be.

    Qualities and shares are numbers from 0 to 1, money is pico-USD. `now` is `None` where nothing was set or known.
    """

    lever: str
    now: float | int | None
    at_most: float | int | None = None
    at_least: float | int | None = None


@dataclass(frozen=True, slots=True)
class Alternative:
    """A deployment that did not win: what it is looked at as, and each change that alone would let it win.

    `told_as`: `runner_up`, `baseline`, `cheaper`. `obstacle` is why it can't serve, where it can't. No change and no
    obstacle: nothing that is looked at helps alone.
    """

    deployment: str
    told_as: tuple[str, ...]
    changes: tuple[Change, ...]
    obstacle: str | None = None


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What would have to change. `policies` maps each other policy that could apply to whom it would choose."""

    alternatives: tuple[Alternative, ...] = ()
    policies: Mapping[str, str] = field(default_factory=dict)
