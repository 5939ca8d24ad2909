"""Who keeps getting the dear models: per key, the share of requests whose choice was strong, and an alarm on it.

Where on the path: `settling` tells it every decision that was written down. It refuses nobody: ceilings, policies and
budgets do that. A prompt that is dressed up to look hard buys a dearer model, and this is where it shows.

A choice is strong when at least `STRONG_QUANTILE` of the deployments that were able to serve the same request are
expected to cost less. That asks nothing of the registry: no tier has to be kept up by hand, and token counts cancel
out, because everybody is priced for the same request. A request that names its model is not counted: nothing was
chosen for it.

Invariants
1. Bounded: `KEYS_MAX` keys, `SLICES` pairs of counts each. The key that was silent longest is forgotten first.
2. One log line per alarm. It ends when the share falls to `CLEAR_SHARE` of the limit, or when a window passes without
   a request; only then can the next one begin.
3. `StrongShares` is pure: time is an argument. Only the key's id is told, never anything of a request.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from service import telemetry
from service.domain.decision import Decision, ReasonCode
from service.domain.ports import Clock

STRONG_QUANTILE: Final = 0.5
"""Half of those able: with two models it is the dearer one, with a hundred it is whatever stands above the middle."""

SLICES: Final = 12
"""A window moves in steps of a twelfth of its length: exact enough for an alarm, and small."""

KEYS_MAX: Final = 4_096

CLEAR_SHARE: Final = 0.8
"""An alarm at 0.8 ends at 0.64: a share that trembles around the limit is one alarm, not fifty."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A key whose share of strong choices is over the limit. `key_id` is `None` for anonymous callers."""

    key_id: str | None
    share: float
    requests: int


@dataclass(slots=True)
class _Account:
    """One key: [slice number, strong choices, all choices], oldest first; whether its alarm is on."""

    slices: list[list[int]] = field(default_factory=list)
    alarmed: bool = False


class StrongShares:
    """The share of strong choices per key over a sliding window.

    `limit` is the share above which a key is alarming (1 is never), `window_s` seconds, `requests_min` how many
    requests a window must hold before its share means anything.
    """

    def __init__(self, *, limit: float, window_s: float, requests_min: int, keys_max: int = KEYS_MAX) -> None:
        self._limit = limit
        self._slice_s = window_s / SLICES
        self._requests_min = requests_min
        self._keys_max = keys_max
        self._accounts: OrderedDict[str | None, _Account] = OrderedDict()
        self._raised = 0

    def observe(self, key_id: str | None, *, strong: bool, now: float) -> Alarm | None:
        """Count one choice at `now` (monotonic seconds); the alarm if it begins with this one."""
        account = self._account(key_id)
        current = int(now // self._slice_s)
        slices = account.slices
        while slices and slices[0][0] <= current - SLICES:
            del slices[0]
        if not slices:
            account.alarmed = False
        if not slices or slices[-1][0] < current:
            slices.append([current, 0, 0])
        slices[-1][1] += strong
        slices[-1][2] += 1
        requests = sum(one[2] for one in slices)
        if requests < self._requests_min:
            return None
        share = sum(one[1] for one in slices) / requests
        if account.alarmed:
            account.alarmed = share > self._limit * CLEAR_SHARE
            return None
        if share <= self._limit:
            return None
        account.alarmed = True
        self._raised += 1
        return Alarm(key_id, share, requests)

    def figures(self) -> Mapping[str, int]:
        """The values of this room's metrics by name."""
        return {
            telemetry.STRONG_SHARE_ALARMS: self._raised,
            telemetry.STRONG_SHARE_KEYS: sum(account.alarmed for account in self._accounts.values()),
        }

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._accounts)

    def _account(self, key_id: str | None) -> _Account:
        account = self._accounts.get(key_id)
        if account is None:
            account = self._accounts[key_id] = _Account()
            if len(self._accounts) > self._keys_max:
                self._accounts.popitem(last=False)
        else:
            self._accounts.move_to_end(key_id)
        return account


class StrongShareWatch:
    """`StrongShares` fed with decisions, and its alarms written to the log."""

    def __init__(self, shares: StrongShares, clock: Clock) -> None:
        self.shares = shares
        self._clock = clock
        self._log = telemetry.logger()

    def decided(self, decision: Decision) -> None:
        """Count a decision for the key that asked."""
        if decision.reason_code is ReasonCode.PINNED:
            return
        ranked = decision.ranked
        strong = is_strong(ranked.costs[ranked.order[0]], ranked.costs)
        alarm = self.shares.observe(decision.caller.key_id, strong=strong, now=self._clock.monotonic())
        if alarm is not None:
            self._log.warning(
                telemetry.STRONG_SHARE_HIGH,
                key_id=alarm.key_id,
                share=round(alarm.share, 3),
                requests=alarm.requests,
            )


def is_strong(cost: int | None, costs: Sequence[int | None]) -> bool:
    """Whether a choice of this expected cost (pico-USD) is strong among those able; an unknown cost is over any known.

    `costs` are those of everybody able, the choice included, so there is at least one.
    """
    if cost is None:
        cheaper = len(costs) - costs.count(None)
    else:
        cheaper = len([None for one in costs if one is not None and one < cost])
    return cheaper >= STRONG_QUANTILE * len(costs)
