"""Who rests, and for whom: for everybody after a deployment's own failures, for one caller after its own requests'.

Pure: time and chance are arguments. Where on the path: `attempting` asks here before every attempt and tells how each
ended. Two tables of breakers (`health`) stand behind it: one for everybody, one for each caller by itself.

A request can make every vendor fail: a prompt on which they all answer 500. Nobody can tell that from vendors that are
down by looking at this request; its neighbours can. So a failure that a request may have brought about
(`blame.may_be_the_requests`) counts against the deployment at once, and is judged anew when more is known:

| what is known of the request | counts for everybody | counts for its caller |
|---|---|---|
| it is on its way, or somebody else answered it | as a failure | - |
| it failed so at another provider too, or nobody answered it | once for each caller, until an answer | as a failure |

Invariants
1. Requests of one caller that nobody answers put a deployment to rest for that caller alone, however many they are.
2. A caller who meets dead vendors stops calling them after as many requests as ever: `FAILURES_IN_A_ROW`.
3. Bounded: callers' own breakers are at most `OWN_MAX`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from service.errors import UpstreamError
from service.routing.blame import may_be_the_requests
from service.routing.health import Health, Pass, Rest

OWN_MAX: Final = 1_024
"""Breakers of single callers. The oldest is forgotten: its caller then finds out anew, in five requests."""


class Leave(NamedTuple):
    """Leave to make an attempt: of the breaker of everybody, and of the caller's own."""

    everybody: Pass
    own: Pass


@dataclass(slots=True)
class Met:
    """A failure that a request may have brought about. `doubted`: it counts for the caller, not for everybody."""

    provider: str
    leave: Leave
    cause: str
    doubted: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, of one caller: `met` has, by deployment, what it may have brought about."""

    request: str
    caller: str
    met: dict[str, Met] = field(default_factory=dict)


class Turn(NamedTuple):
    """A breaker that opened, with its `rest`, or closed; `caller` alone when it is one's own."""

    deployment: str
    rest: Rest | None
    caller: str | None = None


class Verdicts:
    """All breakers of one process. `draw` gives a number from 0 to 1, by chance."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self._everybody = Health(draw)
        self._own = Health(draw, most=OWN_MAX, rows_only=True)

    @property
    def rests(self) -> int:
        """How many rests have begun."""
        return self._everybody.rests + self._own.rests

    def admit(self, deployment: str, caller: str, now: float) -> Leave | None:
        """Leave to call a deployment for a caller at `now` (monotonic seconds), or `None` while it rests."""
        key = _key(deployment, caller)
        own = self._own.resting(key, now)
        if own is not None and not own.is_open:
            return None  # before a probe of everybody's is given away
        everybody = self._everybody.admit(deployment, now)
        if everybody is None:
            return None
        mine = self._own.admit(key, now)
        return None if mine is None else Leave(everybody, mine)

    def unused(self, asked: Asked, deployment: str, leave: Leave, now: float) -> None:
        """Leave was given and nobody was called: it is somebody else's."""
        self._everybody.unused(deployment, leave.everybody, now)
        self._own.unused(_key(deployment, asked.caller), leave.own, now)

    def resting(self, deployment: str, caller: str, now: float) -> Rest | None:
        """Why a deployment is not called as usual for a caller now, or `None`."""
        rest = self._everybody.resting(deployment, now)
        if rest is not None and not rest.is_open:
            return rest
        own = self._own.resting(_key(deployment, caller), now)
        return rest if own is None else replace(own, callers=1)

    def is_sound(self, deployment: str, caller: str) -> bool:
        """Whether nothing speaks against it, for this caller: it never failed, or it answered last."""
        return self._everybody.is_sound(deployment) and self._own.is_sound(_key(deployment, caller))

    def begun(self, asked: Asked, deployment: str, leave: Leave, now: float) -> list[Turn]:
        """The first content of a stream is there; the breakers that turned by it."""
        turns = self._cleared(asked, now)
        if self._own.begun(_key(deployment, asked.caller), leave.own):
            turns.append(Turn(deployment, None, asked.caller))
        if self._everybody.begun(deployment, leave.everybody):
            turns.append(Turn(deployment, None))
        return turns

    def answered(self, asked: Asked, deployment: str, leave: Leave, now: float) -> list[Turn]:
        """A whole answer came; the breakers that turned by it."""
        turns = self._cleared(asked, now)
        if self._own.answered(_key(deployment, asked.caller), leave.own, now):
            turns.append(Turn(deployment, None, asked.caller))
        if self._everybody.answered(deployment, leave.everybody, now):
            turns.append(Turn(deployment, None))
        return turns

    def failed(
        self,
        asked: Asked,
        deployment: str,
        provider: str,
        leave: Leave,
        problem: UpstreamError,
        now: float,
        *,
        again: bool,
    ) -> list[Turn]:
        """An attempt failed before its first content; the breakers that turned by it.

        `again`: the deployment has failed for the same request before.
        """
        if not may_be_the_requests(problem):
            return self.broke(deployment, leave, problem, now, again=again)
        elsewhere = {name: one for name, one in asked.met.items() if one.provider != provider}
        here = asked.met.setdefault(deployment, Met(provider, leave, problem.cause))
        if not elsewhere or leave.everybody.probe:
            rest = self._everybody.failed(deployment, leave.everybody, problem, now, again=again, request=asked.request)
            turns = [] if rest is None else [Turn(deployment, rest)]
            return turns if not elsewhere else turns + self._doubt_all(asked, elsewhere, now)
        fresh = not again and not here.doubted
        turns = self._doubt_all(asked, elsewhere | ({deployment: here} if again else {}), now)
        return turns + (self._doubt(asked, deployment, here, now) if fresh else [])

    def broke(self, deployment: str, leave: Leave, problem: UpstreamError, now: float, *, again: bool) -> list[Turn]:
        """As `failed`, whatever else the request met: a stream that had begun, a deadline."""
        rest = self._everybody.failed(deployment, leave.everybody, problem, now, again=again)
        return [] if rest is None else [Turn(deployment, rest)]

    def unanswered(self, asked: Asked, now: float) -> list[Turn]:
        """It is over with a request: what nobody has answered yet, nobody will. The breakers that turned by it."""
        turns = self._doubt_all(asked, asked.met, now)
        asked.met.clear()
        return turns

    def told(self, now: float) -> Mapping[str, Rest]:
        """Every deployment that rests or waits for a probe, for everybody or else for some callers."""
        found: dict[str, Rest] = {}
        for key, rest in self._own.told(now).items():
            deployment = key.partition(_BETWEEN)[0]
            known = found.get(deployment)
            longest = rest if known is None or rest.for_s > known.for_s else known
            found[deployment] = replace(longest, callers=1 + (known.callers or 0 if known else 0))
        found |= self._everybody.told(now)
        return dict(sorted(found.items()))

    def forget(self) -> None:
        """Begin anew: another registry serves."""
        self._everybody.forget()
        self._own.forget()

    def _doubt_all(self, asked: Asked, met: Mapping[str, Met], now: float) -> list[Turn]:
        """Judge failures of before anew: the request met them elsewhere too."""
        turns: list[Turn] = []
        for name, one in met.items():
            if one.doubted:
                continue
            counted, ended = self._everybody.take_back(name, one.leave.everybody, asked.request)
            if counted:
                turns += ([Turn(name, None)] if ended else []) + self._doubt(asked, name, one, now)
        return turns

    def _doubt(self, asked: Asked, name: str, one: Met, now: float) -> list[Turn]:
        one.doubted = True
        turns = []
        rest = self._everybody.doubted(name, one.leave.everybody, asked.caller, one.cause, now)
        if rest is not None:
            turns.append(Turn(name, rest))
        own = self._own.fell(_key(name, asked.caller), one.leave.own, one.cause, now, request=asked.request)
        if own is not None:
            turns.append(Turn(name, own, asked.caller))
        return turns

    def _cleared(self, asked: Asked, now: float) -> list[Turn]:
        """Somebody answers the request: what it met before were the deployments' own failures."""
        turns: list[Turn] = []
        for name, one in asked.met.items():
            if not one.doubted:
                continue
            _, ended = self._own.take_back(_key(name, asked.caller), one.leave.own, asked.request)
            if ended:
                turns.append(Turn(name, None, asked.caller))
            rest = self._everybody.fell(name, one.leave.everybody, one.cause, now)
            if rest is not None:
                turns.append(Turn(name, rest))
        asked.met.clear()
        return turns


_BETWEEN: Final = "\n"


def _key(deployment: str, caller: str) -> str:
    return f"{deployment}{_BETWEEN}{caller}"
