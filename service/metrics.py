"""What happened since start, as plain numbers, and how late the event loop runs. GET /metrics tells it to Prometheus.

Where on the path: `settling` counts every request and attempt as it is written down; `house` starts the watch on the
loop. The names and their meanings are in `telemetry`.

Invariants
1. Counting is adding to a number: no lock, no label object, nothing that a request could wait for. One event loop uses
   it.
2. Labels are deployments of the registry, short words of ours and, where the operator asked for them, his keys and
   their tags; never anything that a caller or a vendor chose. At most `SERIES_MAX` of a kind; what comes later counts
   as `other`.
3. Money is added up in pico-USD, as whole numbers, and told as an exact decimal.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from service import telemetry
from service.domain.decision import OpenEntry, TerminalEntry
from service.domain.money import usd_text

SERIES_MAX: Final = 4_096
OTHER: Final = "other"

OVERHEAD_BOUNDS_S: Final = (0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
FIRST_CONTENT_BOUNDS_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LAG_BOUNDS_S: Final = (0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

_LABELS: Final = {telemetry.PART_DEGRADED: "part", telemetry.CACHE_NOT_KEPT: "reason"}

_STATUSES: Final = frozenset(
    {"400", "401", "403", "404", "408", "409", "413", "422", "429", "500", "502", "503", "504", "529"}
)
"""Statuses of vendors that are told as they are."""

_SPENT_ON: Final = ("model", "provider", "intent", "usage_source")
_IN_USD: Final = frozenset({telemetry.COST, telemetry.SPEND, telemetry.KEY_SPEND, telemetry.TAG_SPEND})

TICK_S: Final = 0.05
"""How often the watch on the loop looks: as often as the longest time that it may be held."""


CLOCK_JUMP_S: Final = 1.0
"""By how much a clock must be set between two looks to be told: what keeps it right moves it by milliseconds."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """What others keep, by labels: their names, and a value as text for each set of theirs."""

    names: tuple[str, ...]
    values: Mapping[tuple[str, ...], str]


Gauge = int | Mapping[str, float] | Labelled


class Histogram:
    """How many observations were at most so large; cumulative only when it is told."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> Iterator[str]:
        """In Prometheus' text format."""
        total = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._sum:.9g}"
        yield f"{name}_count {total}"


class Counters:
    """Everything that is counted. One per process."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, ...], int] = {}
        self._attempts: dict[tuple[str, ...], int] = {}
        self._tokens: dict[tuple[str, ...], int] = {}
        self._cost_pusd: dict[tuple[str, ...], int] = {}
        self._refusals: dict[tuple[str, ...], int] = {}
        self._spend_pusd: dict[tuple[str, ...], int] = {}
        self._spend_tokens: dict[tuple[str, ...], int] = {}
        self._key_pusd: dict[tuple[str, ...], int] = {}
        self._tag_pusd: dict[tuple[str, ...], int] = {}
        self.by_key = self.by_tag = False
        self._overhead = Histogram(OVERHEAD_BOUNDS_S)
        self._first_content = Histogram(FIRST_CONTENT_BOUNDS_S)
        self.lag = Histogram(LAG_BOUNDS_S)
        self.lag_max_s = 0.0
        self.clock_jumps = 0
        self.soft_exceeded = 0
        self.readings_failed = 0
        self.reading_failed_at = -math.inf

    def request(self, status: int, overhead_ms: float) -> None:
        """A request ended: what it was given, and our own part of its time."""
        _add(self._requests, (str(status),), 1)
        self._overhead.observe(overhead_ms / 1000)

    def attempt(
        self, deployment: str, ended: str, usage: Mapping[str, int], cost_pusd: int | None, ttft_ms: float | None
    ) -> None:
        """An attempt was settled; an unknown cost adds nothing."""
        _add(self._attempts, (deployment, _word(ended)), 1)
        for bucket, count in usage.items():
            if count and bucket != "requests":
                _add(self._tokens, (deployment, bucket), count)
        if cost_pusd:
            _add(self._cost_pusd, (deployment,), cost_pusd)
        if ttft_ms is not None:
            self._first_content.observe(ttft_ms / 1000)

    def booked(self, entry: OpenEntry, row: TerminalEntry, key_tags: Collection[str]) -> None:
        """What an attempt came to, by what its rows say; `key_tags` are those that its key has."""
        whose = (entry.model, entry.provider, entry.intent)
        for bucket, count in row.usage.items():
            if count and bucket != "requests":
                _add(self._spend_tokens, (*whose, bucket), count)
        if not row.cost_pusd:
            return
        _add(self._spend_pusd, (*whose, str(row.usage_source)), row.cost_pusd)
        if self.by_key and entry.key_id is not None:
            _add(self._key_pusd, (entry.key_id,), row.cost_pusd)
        if self.by_tag:
            for tag in key_tags:
                _add(self._tag_pusd, (tag,), row.cost_pusd)

    def budget_refused(self, code: str) -> None:
        """A budget or a limit refused an attempt, with this error code."""
        _add(self._refusals, (code,), 1)

    def not_read(self, now: float) -> None:
        """The classifier failed at a request, at `now` in monotonic seconds."""
        self.readings_failed += 1
        self.reading_failed_at = now

    def lagged(self, seconds: float) -> None:
        """The loop came so much later than it was asked to."""
        self.lag.observe(seconds)
        self.lag_max_s = max(self.lag_max_s, seconds)

    def text(self, gauges: Mapping[str, Gauge]) -> str:
        """All of it in Prometheus' text format, with numbers that others keep; the largest lag begins anew.

        A gauge is a number, or one for each deployment, part or reason.
        """
        told: list[str] = []
        for name, meaning in telemetry.METRICS.items():
            kind, _, words = meaning.partition(": ")
            told += (f"# HELP {name} {words}", f"# TYPE {name} {kind}", *self._series(name, gauges))
        self.lag_max_s = 0.0
        return "\n".join(told) + "\n"

    def _series(self, name: str, gauges: Mapping[str, Gauge]) -> Iterable[str]:
        if name in gauges:
            found = gauges[name]
            if isinstance(found, int):
                return (f"{name} {usd_text(found) if name == telemetry.CACHE_SAVED else found}",)
            if isinstance(found, Labelled):
                return (f"{name}{_labels(found.names, one)} {value}" for one, value in found.values.items())
            label = (_LABELS.get(name, "deployment"),)
            return (f"{name}{_labels(label, (one,))} {_plain(value)}" for one, value in found.items())
        if name == telemetry.LOOP_LAG_MAX:
            return (f"{name} {self.lag_max_s:.6f}",)
        if name == telemetry.BUDGET_SOFT_EXCEEDED:
            return (f"{name} {self.soft_exceeded}",)
        histograms = {
            telemetry.OVERHEAD: self._overhead,
            telemetry.FIRST_CONTENT: self._first_content,
            telemetry.LOOP_LAG: self.lag,
        }
        if name in histograms:
            return histograms[name].lines(name)
        counts, labels = {
            telemetry.REQUESTS: (self._requests, ("status",)),
            telemetry.ATTEMPTS: (self._attempts, ("deployment", "ended")),
            telemetry.TOKENS: (self._tokens, ("deployment", "kind")),
            telemetry.COST: (self._cost_pusd, ("deployment",)),
            telemetry.SPEND: (self._spend_pusd, _SPENT_ON),
            telemetry.SPEND_PUSD: (self._spend_pusd, _SPENT_ON),
            telemetry.SPEND_TOKENS: (self._spend_tokens, (*_SPENT_ON[:3], "kind")),
            telemetry.KEY_SPEND: (self._key_pusd, ("key_id",)),
            telemetry.TAG_SPEND: (self._tag_pusd, ("tag",)),
            telemetry.BUDGET_REFUSALS: (self._refusals, ("code",)),
        }[name]
        shown = usd_text if name in _IN_USD else str
        return (f"{name}{_labels(labels, values)} {shown(count)}" for values, count in counts.items())


class LoopWatch:
    """Asks the event loop to come back every `TICK_S` seconds, and counts how late it does.

    Then it looks at the clock on the wall, which durations don't use: prices and keys begin and end by it. And lines of
    the log that could not be written at once get another chance.
    """

    def __init__(self, counters: Counters, wall_s: Callable[[], float] = time.time) -> None:
        """`wall_s` is Unix seconds."""
        self._counters = counters
        self._wall_s = wall_s
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._wall_ahead_s = 0.0

    def start(self) -> None:
        """Begin, on the running loop."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + TICK_S
        self._wall_ahead_s = self._wall_s() - loop.time()
        self._timer = loop.call_at(self._due, self._tick, loop)

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._counters.lagged(max(0.0, now - self._due))
        ahead_s = self._wall_s() - now
        if abs(ahead_s - self._wall_ahead_s) > CLOCK_JUMP_S:
            self._counters.clock_jumps += 1
            by_s = round(ahead_s - self._wall_ahead_s, 3)
            telemetry.logger().warning(telemetry.CLOCK_JUMPED, by_s=by_s)
        self._wall_ahead_s = ahead_s
        telemetry.LOG.flush()
        telemetry.COSTS.flush()
        self._due = loop.time() + TICK_S
        self._timer = loop.call_at(self._due, self._tick, loop)


def _add(counts: dict[tuple[str, ...], int], labels: tuple[str, ...], amount: int) -> None:
    if labels not in counts and len(counts) >= SERIES_MAX:
        labels = (OTHER,) * len(labels)
    counts[labels] = counts.get(labels, 0) + amount


def _plain(value: float) -> str:
    """A count to the last one, anything else shortly."""
    return str(value) if isinstance(value, int) else f"{value:g}"


def _word(ended: str) -> str:
    """How an attempt ended, in one of few words: a vendor may answer with any of 400 statuses."""
    status = ended.removeprefix("http_")
    return ended if status == ended or status in _STATUSES else f"http_{status[:1]}xx"


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Deployments are named by whoever wrote the registry or a model server, so quotes and line ends are escaped."""
    told = (value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for value in values)
    return "{" + ",".join(f'{name}="{value}"' for name, value in zip(names, told, strict=True)) + "}"
