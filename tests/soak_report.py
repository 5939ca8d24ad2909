"""What a soak comes to, as a table and a picture."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos import machine, put
from plots import Chart, Series
from steadiness import MIB, Sample, Steadiness

from service.domain.money import usd_text

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "plots" / "soak.svg"
WRONG_SHOWN = 60
SHOWN_EVENTS = ("registry_reloaded", "registry_refused", "breaker_opened", "breaker_closed", "attempt_failed")


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was counted."""

    seed: int
    command: str
    minutes: float
    samples: Sequence[Sample]
    warm_s: float
    verdicts: Mapping[str, int]
    did: Mapping[str, int]
    states: Mapping[str, int]
    compared: Mapping[str, int]
    events: Mapping[str, int]
    booked_pusd: int
    steady: Steadiness
    wrong: Sequence[str]

    def table(self) -> str:
        """Markdown."""
        warm = [one.rss / MIB for one in self.samples if one.at_s >= self.warm_s]
        used = [one.used for one in self.samples if one.idle and one.used is not None]
        rows = [
            ("requests", f"{sum(self.verdicts.values()):,} in {self.minutes:.0f} minutes"),
            ("after the warm-up", f"{self.minutes - self.warm_s / 60:.0f} minutes"),
            ("what callers got", _listed(self.verdicts)),
            ("attempts by state", _listed(self.states)),
            ("compared with the vendors' own log", _listed(self.compared)),
            ("booked, as computed again", f"{usd_text(self.booked_pusd)} USD"),
            ("what was done to the router", _listed({k: v for k, v in self.did.items() if ": " not in k})),
            ("weather, spells", _listed(_after("spells: ", self.did))),
            ("connections through fault proxies", _listed(_of_connections(self.did))),
            ("its log", _listed({name: self.events.get(name, 0) for name in SHOWN_EVENTS})),
            ("memory after the warm-up", f"{min(warm):.1f} to {max(warm):.1f} MiB" if warm else "none"),
            ("its slope", str(self.steady.slope)),
            ("memory in use at idle spells, MiB", ", ".join(f"{one / MIB:.1f}" for one in used)),
            ("its slope", str(self.steady.slope_in_use)),
            *((f"{name} at idle spells", ", ".join(map(str, counts))) for name, counts in self.steady.idle.items()),
            ("not as promised", str(len(self.wrong))),
        ]
        lines = [f"{machine()} Seed {self.seed}. `{self.command}`", "", "| what | figures |", "|---|---|"]
        lines += [f"| {name} | {figures} |" for name, figures in rows]
        lines += ["", *(f"- {one}" for one in self.wrong[:WRONG_SHOWN])] if self.wrong else []
        return "\n".join(lines)

    def chart(self) -> Chart:
        """Memory, descriptors and tasks over time: the median of each minute."""
        minutes: dict[int, list[Sample]] = {}
        for one in self.samples:
            minutes.setdefault(int(one.at_s // 60), []).append(one)

        def line(name: str, field: str, unit: float = 1) -> Series:
            middle = [
                (at, statistics.median(getattr(one, field) for one in found) / unit) for at, found in minutes.items()
            ]
            return Series(name, [(float(at), value) for at, value in middle])

        series = [line("memory, MiB", "rss", MIB), line("descriptors", "descriptors"), line("tasks", "tasks")]
        ticks = [float(at) for at in minutes if at % 10 == 0]
        return Chart("An hour of faults", "minutes", "MiB, or how many", series, ticks=ticks)

    def write(self) -> None:
        """Into the page, and beside it."""
        put("soak", self.table())
        PICTURE.write_text(self.chart().svg(), encoding="utf-8")


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def _after(prefix: str, counts: Mapping[str, int]) -> dict[str, int]:
    return {name.removeprefix(prefix): count for name, count in counts.items() if name.startswith(prefix)}


def _of_connections(counts: Mapping[str, int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, count in _after("connections of ", counts).items():
        found[name.partition(": ")[2]] += count
    return found
