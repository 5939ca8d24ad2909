"""What was found, as tables: medians over rounds, ratios within a round, aims and whether they are met.

Pure: no process, no clock. Where on the path: `side_by_side` fills `Found` and prints what this makes of it.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from load import Sample

STRAIGHT = "straight"
AUTO, NAMED = "coe auto", "coe named"
CASES = ("whole, 32", "whole, 1", "streams, 16", "first token, 1", "first token, 16")
NONE = "–"


@dataclass(slots=True)
class Found:
    """Everything measured: samples by who and case, in order of rounds; starts; who is missing and why."""

    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=lambda: defaultdict(list))
    ready_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    idle_mib: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    missing: dict[str, str] = field(default_factory=dict)
    rounds: int = 0

    def add(self, label: str, case: str, sample: Sample) -> None:
        """One run."""
        self.samples[label, case].append(sample)

    def started(self, name: str, ready_s: float, idle_mib: float) -> None:
        """One start: seconds to its first answer, MiB then."""
        self.ready_s[name].append(ready_s)
        self.idle_mib[name].append(idle_mib)

    def labels(self) -> list[str]:
        """Who was measured, in the order of the table."""
        return list(dict.fromkeys(label for label, _ in self.samples))

    def each(self, label: str, case: str, of: Callable[[Sample], float]) -> list[float]:
        """One figure of every round."""
        return [of(sample) for sample in self.samples.get((label, case), [])]

    def added(self, label: str, case: str, of: Callable[[Sample], float]) -> list[float]:
        """The same less what going straight to the vendor took in that round."""
        both = zip(self.each(label, case, of), self.each(STRAIGHT, case, of), strict=False)
        return [through - base for through, base in both]


def rate(sample: Sample) -> float:
    """Answers per second."""
    return sample.rate


def p50(sample: Sample) -> float:
    """Milliseconds."""
    return sample.p50_ms


def p99(sample: Sample) -> float:
    """Milliseconds."""
    return sample.p99_ms


@dataclass(frozen=True, slots=True)
class Aim:
    """One figure of ours that should be at least, or at most, a bound. `figures` gives it for each round."""

    text: str
    bound: float
    figures: Callable[[Found], list[float]]
    at_least: bool = True
    unit: str = "x"


def times_as_many(ours: str, peer: str, case: str, bound: float) -> Aim:
    """Answers per second against a peer's, in the same round."""

    def figures(found: Found) -> list[float]:
        return _divided(found.each(ours, case, rate), found.each(peer, case, rate))

    return Aim(f"{case}: {ours}, answers/s of {peer}", bound, figures)


def added_against(peer: str, of: Callable[[Sample], float], bound: float) -> Aim:
    """Added latency at one connection against a peer's."""

    def figures(found: Found) -> list[float]:
        return _divided(found.added(AUTO, "whole, 1", of), found.added(peer, "whole, 1", of))

    return Aim(f"whole, 1: {AUTO}, added {of.__name__} of {peer}", bound, figures, at_least=False)


def added_token(case: str, bound_ms: float) -> Aim:
    """Added time to the first token."""
    return Aim(
        f"{case}: {AUTO}, added p50", bound_ms, lambda found: found.added(AUTO, case, p50), at_least=False, unit="ms"
    )


AIMS: Sequence[Aim] = (
    times_as_many(AUTO, "TensorZero", "whole, 32", 1.5),
    times_as_many(AUTO, "Portkey", "whole, 32", 8),
    times_as_many(AUTO, "LiteLLM", "whole, 32", 80),
    times_as_many(AUTO, "nginx", "whole, 32", 0.25),
    times_as_many(NAMED, "TensorZero", "whole, 32", 2),
    added_against("TensorZero", p50, 1),
    added_against("TensorZero", p99, 1),
    added_against("nginx", p50, 2.5),
    added_against("nginx", p99, 2.5),
    times_as_many(AUTO, "TensorZero", "streams, 16", 3),
    times_as_many(AUTO, "nginx", "streams, 16", 0.5),
    added_token("first token, 1", 0.5),
    added_token("first token, 16", 0.5),
    Aim("start to ready", 1.5, lambda found: found.ready_s["coe"], at_least=False, unit="s"),
    Aim("resident when idle", 150, lambda found: found.idle_mib["coe"], at_least=False, unit="MiB"),
)


def main_table(found: Found) -> str:
    """Every gateway in every case, and the missing ones with their reasons."""
    rows = []
    for case in CASES:
        for label in found.labels():
            samples = found.samples.get((label, case), [])
            if samples:
                rows.append(_row(found, label, case, samples))
    table = _table(
        (
            "case",
            "gateway",
            "per s",
            "spread",
            "core busy",
            "CPU µs each",
            "added p50 ms",
            "added p99 ms",
            "MiB",
            "failed",
        ),
        rows,
    )
    return table + "".join(f"\n\n{name} was not measured: {why}." for name, why in found.missing.items())


def _row(found: Found, label: str, case: str, samples: Sequence[Sample]) -> tuple[str, ...]:
    rates = [sample.rate for sample in samples]
    middle = statistics.median(rates)
    through = label != STRAIGHT
    late = [found.added(label, case, of) if through else found.each(label, case, of) for of in (p50, p99)]
    mark = "" if through else "(all) "
    return (
        case,
        label,
        _figure(middle),
        f"{(max(rates) - min(rates)) / middle:.0%}" if middle else NONE,
        f"{statistics.median(sample.busy for sample in samples):.0%}" if through else NONE,
        _figure(statistics.median(sample.cpu_us for sample in samples)) if through else NONE,
        *(f"{mark}{statistics.median(values):.3f}" for values in late),
        f"{max(sample.rss_mib for sample in samples):.0f}" if through else NONE,
        str(sum(sample.failed for sample in samples)),
    )


def aims_table(found: Found, aims: Sequence[Aim]) -> str:
    """Each aim with what was found, the range over the rounds, and by how much it is missed."""
    rows = []
    for aim in aims:
        figures = [figure for figure in aim.figures(found) if math.isfinite(figure)]
        wanted = f"{'≥' if aim.at_least else '≤'} {aim.bound:g} {aim.unit}"
        if not figures:
            rows.append((aim.text, wanted, NONE, NONE, "not measured"))
            continue
        middle = statistics.median(figures)
        between = f"{min(figures):.2f} to {max(figures):.2f}"
        rows.append((aim.text, wanted, f"{middle:.2f} {aim.unit}", between, verdict(aim, middle)))
    return _table(("aim", "wanted", "found", "rounds", ""), rows)


def verdict(aim: Aim, middle: float) -> str:
    """Met, or missed by how much of the bound."""
    if middle >= aim.bound if aim.at_least else middle <= aim.bound:
        return "met"
    return f"missed by {abs(aim.bound - middle) / aim.bound:.0%}"


def noise(found: Found) -> str:
    """How far the rounds differ, over all cases: without any gateway, and over everything."""
    own = [_spread(samples) for (label, _), samples in found.samples.items() if label == STRAIGHT]
    every = [_spread(samples) for samples in found.samples.values()]
    if found.rounds < 2 or not own:
        return "One round: nothing is known of the noise."
    return (
        f"Noise: the same load straight to the vendor differed between rounds by {statistics.median(own):.0%} "
        f"(at most {max(own):.0%}), all cases by {statistics.median(every):.0%} (at most {max(every):.0%})."
    )


def _spread(samples: Sequence[Sample]) -> float:
    rates = [sample.rate for sample in samples]
    middle = statistics.median(rates)
    return (max(rates) - min(rates)) / middle if middle else 0.0


def _divided(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [own / other if other > 0 else math.nan for own, other in zip(ours, theirs, strict=False)]


def _figure(value: float) -> str:
    """Three digits that count."""
    if not math.isfinite(value):
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that reads well as Markdown and on a terminal: words to the left, figures to the right."""
    wide = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    words = 2 if len(head) > 5 else 1
    lines = [
        head,
        ["-" * wide[place] if place < words else "-" * (wide[place] - 1) + ":" for place in range(len(head))],
        *rows,
    ]
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(wide[place]) if place < words else cell.rjust(wide[place]) for place, cell in enumerate(line)
        )
        + " |"
        for line in lines
    )
