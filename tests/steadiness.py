"""Does it grow? Samples of a process over a long run, and the judgement on them. Pure but for `looked_at`.

Memory is judged twice: what the kernel counts, at every look, and what was handed out inside and not got back, at idle
spells. The first alone would let a leak hide in what a peak left free; the second alone would not see what is free and
never used again. Both are judged by a robust regression (Theil-Sen), the first over the medians of each minute, with the
confidence interval that Sen gives for it. Minutes are used, and not samples, because neighbouring samples know of one
another, which would make the interval look better than it is. What is counted exactly (descriptors, tasks, threads) has
to be the same at every idle spell.
"""

from __future__ import annotations

import math
import os
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Final

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
MIB: Final = 1 << 20
HOUR_S: Final = 3_600.0
Z_95: Final = 1.959964
EXACT: Final = ("descriptors", "tasks", "threads")
"""What has to be the same whenever nobody asks."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the router: seconds since the beginning, memory in bytes, counts.

    `idle`: nobody had asked for a while. `used` is memory in use, where the process was asked for it.
    """

    at_s: float
    rss: int
    descriptors: int
    threads: int
    tasks: int
    in_flight: int
    idle: bool = False
    sockets: int = 0
    used: int | None = None


def looked_at(pid: int) -> dict[str, int]:
    """Memory, descriptors, sockets among them, and threads of a process, as the kernel says."""
    place = Path(f"/proc/{pid}")
    rss = int((place / "statm").read_text().split()[1]) * PAGE_BYTES
    names = []
    for one in (place / "fd").iterdir():
        try:
            names.append(str(one.readlink()))
        except FileNotFoundError:  # closed while we looked
            continue
    threads = len(list((place / "task").iterdir()))
    sockets = sum(name.startswith("socket:") for name in names)
    return {"rss": rss, "descriptors": len(names), "sockets": sockets, "threads": threads}


@dataclass(frozen=True, slots=True)
class Slope:
    """MiB an hour: the estimate, and its 95 % interval."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:+.2f} MiB/h (95 %: {self.low:+.2f} to {self.high:+.2f})"


def slope_of(samples: Sequence[Sample]) -> Slope:
    """Theil-Sen over the medians of minutes; raises ValueError below four of them."""
    minutes: dict[int, list[Sample]] = defaultdict(list)
    for one in samples:
        minutes[int(one.at_s // 60)].append(one)
    points = [
        (statistics.fmean(s.at_s for s in found), statistics.median(s.rss for s in found))
        for _, found in sorted(minutes.items())
    ]
    return _theil_sen(points, "minutes")


def slope_in_use(samples: Sequence[Sample]) -> Slope:
    """Theil-Sen over the memory in use at idle spells; raises ValueError below four of them."""
    return _theil_sen([(one.at_s, one.used) for one in samples if one.idle and one.used is not None], "idle spells")


def _theil_sen(points: Sequence[tuple[float, float]], of: str) -> Slope:
    count = len(points)
    if count < 4:
        raise ValueError(f"{count} {of} are no trend; run for longer")
    slopes = sorted((y2 - y1) / (x2 - x1) * HOUR_S / MIB for (x1, y1), (x2, y2) in combinations(points, 2))
    # Sen: the interval is between two ranks of the slopes, by the variance of Kendall's statistic.
    spread = Z_95 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, round((len(slopes) - spread) / 2))
    high = min(len(slopes) - 1, round((len(slopes) + spread) / 2))
    return Slope(statistics.median(slopes), slopes[low], slopes[high])


@dataclass(slots=True)
class Steadiness:
    """The judgement: the slopes of memory, what each idle spell counted, and what is wrong."""

    slope: Slope | None = None
    slope_in_use: Slope | None = None
    idle: Mapping[str, Sequence[int]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def judged(samples: Sequence[Sample], warm_s: float, most_mib_per_hour: float) -> Steadiness:
    """Judge a run. What was before `warm_s` is not looked at, if there is enough behind it."""
    found = Steadiness()
    warm = [one for one in samples if one.at_s >= warm_s]
    slopes: dict[str, Slope] = {}
    for name, measured in (("memory", slope_of), ("memory in use", slope_in_use)):
        try:
            slopes[name] = slope = measured(warm)
        except ValueError as problem:
            found.wrong.append(f"{name}: {problem}")
        else:
            if slope.low > most_mib_per_hour:
                found.wrong.append(f"{name} grows: {slope}, and at most {most_mib_per_hour:g} MiB/h is allowed")
    found.slope, found.slope_in_use = slopes.get("memory"), slopes.get("memory in use")
    spells = [one for one in samples if one.idle]
    found.idle = {name: [getattr(one, name) for one in spells] for name in EXACT}
    if len(spells) < 2:
        found.wrong.append(f"{len(spells)} idle spells: nothing to compare")
    for name, counts in found.idle.items():
        if len(set(counts)) > 1:
            found.wrong.append(f"{name} at idle spells are not constant: {counts}")
    busy = [one.at_s for one in spells if one.in_flight]
    if busy:
        found.wrong.append(f"requests in flight at idle spells, at {busy} s")
    return found
