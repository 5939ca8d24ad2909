"""What grows with what: the router's cost of a request against the size of everything it holds.

    .venv/bin/python bench/growth.py [--only registry,prompt,keys,ledger,streams] [--rows 1000000] [--write]

Each point is a router of its own, started afresh, alone on one core, under a load of whole answers with `model: auto`;
points are taken in turn, over several rounds, and the median counts. `streams` holds many slow streams open instead.
`--write` draws docs/plots/*.svg and puts the figures into docs/performance.md. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from load import Bodies, Route, client_plan, wrk
from peers import Gateway, open_coe, straight
from plots import Chart, Series, short
from registry import write_keys, write_ledger, write_registry
from stand import HERE, ROOT, NotStarted, Stand, line_of, set_pace

PLOTS = ROOT / "docs" / "plots"
PAGE = ROOT / "docs" / "performance.md"

MODELS = (10, 30, 100, 300, 1_000)
PROMPT_KB = (0.1, 1, 10, 100, 1_000)
KEYS = (1, 100, 10_000, 100_000)
STREAMS = (1, 10, 100, 500, 1_000, 2_000)
PROMPT_BYTES = 1_100
BIG_PROMPTS_BYTES = 8_000_000
"""All prompts of one size together, at most: the client that sends them keeps them in memory."""

CONNECTIONS = 8
WARM_S = 1
CHUNK_EVERY_MS = 1_000
"""Pace of a slow stream, as a person reads."""

HOLD_S = 8
HELD_START_S = 60


@dataclass(frozen=True, slots=True)
class Result:
    """One question answered: its pictures by name of file, and the lines of its table."""

    name: str
    charts: Mapping[str, Chart]
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What one run is to do."""

    stand: Stand
    upstream_url: str
    seconds: float
    rounds: int
    rows: int


@dataclass(frozen=True, slots=True)
class Point:
    """The medians of one size."""

    cpu_us: float
    ready_s: float
    idle_mib: float
    rss_mib: float


def _measured(asked: Asked, sizes: Sequence[float], opened: Callable[[float], Gateway]) -> Mapping[float, Point]:
    """The same load on a router of each size, in turn."""
    bodies = Bodies.written(asked.stand, PROMPT_BYTES)
    found: dict[float, list[tuple[float, ...]]] = defaultdict(list)
    for number in range(asked.rounds):
        for size in sizes:
            print(f"round {number + 1} of {asked.rounds}: {short(size)}", file=sys.stderr, flush=True)
            gateway = opened(size)
            idle = gateway.running.rss_mib()
            for seconds in (WARM_S, asked.seconds):
                sample = wrk(
                    asked.stand,
                    gateway.routes[0],
                    bodies,
                    gateway.running,
                    connections=CONNECTIONS,
                    seconds=seconds,
                    stream=False,
                )
            if sample.failed:
                raise NotStarted(f"{sample.failed} requests failed at {short(size)}: {gateway.running.said()}")
            found[size].append((sample.cpu_us, gateway.running.ready_s, idle, sample.rss_mib))
            asked.stand.stop(gateway.running)
    return {
        size: Point(*(statistics.median(column) for column in zip(*runs, strict=True))) for size, runs in found.items()
    }


def _result(name: str, title: str, what: str, points: Mapping[float, Point]) -> Result:
    series = Series("processor time per request, auto", [(size, point.cpu_us) for size, point in points.items()])
    rows = [
        (
            short(size),
            f"{point.cpu_us:,.0f}",
            f"{point.ready_s:.2f}",
            f"{point.idle_mib:.0f}",
            f"{point.rss_mib:.0f}",
        )
        for size, point in points.items()
    ]
    head = (what, "CPU µs per request", "start to ready, s", "MiB idle", "MiB after load")
    return Result(name, {name: Chart(title, what, "CPU µs per request", [series])}, head, rows)


def registry(asked: Asked) -> Result:
    """Models of the registry."""
    paths = {
        size: write_registry(asked.stand.home / f"models-{size}.yaml", asked.upstream_url, size) for size in MODELS
    }
    points = _measured(asked, MODELS, lambda size: open_coe(asked.stand, asked.upstream_url, registry=paths[int(size)]))
    return _result("registry", "Cost of a request by size of the registry", "models", points)


def keys(asked: Asked) -> Result:
    """Keys in the key file; requests come with 64 of them in turn."""
    homes = {size: asked.stand.home / f"keys-{size}" for size in KEYS}
    secrets = {size: write_keys(home, size) for size, home in homes.items()}

    def opened(size: float) -> Gateway:
        count = int(size)
        return open_coe(asked.stand, asked.upstream_url, data_dir=homes[count], keys=secrets[count])

    return _result("keys", "Cost of a request by number of keys", "keys", _measured(asked, KEYS, opened))


def ledger(asked: Asked) -> Result:
    """Attempts in the journal and its index, of a month that has passed."""
    sizes = [0, *(size for size in (10_000, 100_000, 1_000_000, 10_000_000) if size <= asked.rows)]
    homes = {size: asked.stand.home / f"ledger-{size}" for size in sizes}
    for size, home in homes.items():
        begun = time.monotonic()
        write_ledger(home, size)
        print(f"{short(size)} rows written and indexed in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    secrets = {size: write_keys(home, 1) for size, home in homes.items()}

    def opened(size: float) -> Gateway:
        count = int(size)
        return open_coe(asked.stand, asked.upstream_url, data_dir=homes[count], keys=secrets[count])

    return _result(
        "ledger", "Cost of a request by size of the ledger", "attempts in the ledger", _measured(asked, sizes, opened)
    )


def prompt(asked: Asked) -> Result:
    """Bytes of the prompt, one message. One router serves all sizes."""
    found: dict[tuple[float, str], list[float]] = defaultdict(list)
    gateway = open_coe(asked.stand, asked.upstream_url)
    for number in range(asked.rounds):
        for size in PROMPT_KB:
            print(f"round {number + 1} of {asked.rounds}: {size:g} kB", file=sys.stderr, flush=True)
            size_bytes = int(size * 1_000)
            bodies = Bodies.written(asked.stand, size_bytes, max(5, min(509, BIG_PROMPTS_BYTES // size_bytes)))
            for route in gateway.routes:
                sample = wrk(
                    asked.stand,
                    route,
                    bodies,
                    gateway.running,
                    connections=CONNECTIONS,
                    seconds=asked.seconds,
                    stream=False,
                )
                if sample.failed:
                    raise NotStarted(f"{sample.failed} requests failed at {size:g} kB: {gateway.running.said()}")
                found[size, route.label].append(sample.cpu_us)
    asked.stand.stop(gateway.running)
    labels = [route.label for route in gateway.routes]
    middles = {place: statistics.median(values) for place, values in found.items()}
    series = [Series(label, [(size, middles[size, label]) for size in PROMPT_KB]) for label in labels]
    rows = [(f"{size:g}", *(f"{middles[size, label]:,.0f}" for label in labels)) for size in PROMPT_KB]
    chart = Chart("Cost of a request by size of the prompt", "kB of prompt", "CPU µs per request", series)
    return Result(
        "prompt", {"prompt": chart}, ("kB of prompt", *(f"CPU µs per request, {label}" for label in labels)), rows
    )


def streams(asked: Asked) -> Result:
    """Slow streams open at once: memory, and how late a chunk comes, with the router and without it."""
    set_pace(asked.upstream_url, chunks=100_000, delay_ms=CHUNK_EVERY_MS)
    rows: list[tuple[float, float, float, float, float, float, float]] = []
    for count in STREAMS:
        print(f"{count} streams", file=sys.stderr, flush=True)
        alone, _ = _held(asked, straight(asked.upstream_url), count, None)
        gateway = open_coe(asked.stand, asked.upstream_url)
        through, mib = _held(asked, gateway.routes[0], count, gateway)
        asked.stand.stop(gateway.running)
        lost = alone["lost"] + through["lost"]
        rows.append((count, mib, through["p50_ms"], through["p99_ms"], through["worst_ms"], alone["worst_ms"], lost))
    set_pace(asked.upstream_url)
    open_now = "streams open, a chunk each second"
    late = Chart(
        "How late a chunk of a slow stream comes",
        open_now,
        "ms from vendor to caller",
        [
            Series("worst, through the router", [(row[0], row[4]) for row in rows]),
            Series("worst, straight", [(row[0], row[5]) for row in rows]),
            Series("p99, through the router", [(row[0], row[3]) for row in rows]),
        ],
    )
    memory = Chart(
        "Memory by open streams", open_now, "MiB resident", [Series("router", [(row[0], row[1]) for row in rows])]
    )
    told = [(short(row[0]), f"{row[1]:.0f}", *(f"{late:.2f}" for late in row[2:6]), f"{row[6]:.0f}") for row in rows]
    head = ("streams", "MiB", "p50 ms", "p99 ms", "worst ms", "worst ms, straight", "lost")
    return Result("streams", {"streams": late, "streams-memory": memory}, head, told)


def _held(asked: Asked, route: Route, count: int, gateway: Gateway | None) -> tuple[dict[str, float], float]:
    """Hold streams open; how late their chunks were, and the router's memory meanwhile."""
    command = [sys.executable, str(HERE / "streams.py"), "hold", client_plan(route, count, HOLD_S)]
    client = asked.stand.start("holder", command, cores=asked.stand.cores.rest)
    line_of(client, "open", HELD_START_S)
    time.sleep(HOLD_S / 2)
    mib = gateway.running.rss_mib() if gateway else 0.0
    found: dict[str, float] = json.loads("{" + line_of(client, "{", HOLD_S * 4))
    asked.stand.stop(client)
    return found, mib


QUESTIONS: Mapping[str, Callable[[Asked], Result]] = {
    "registry": registry,
    "prompt": prompt,
    "keys": keys,
    "ledger": ledger,
    "streams": streams,
}


def table(result: Result) -> str:
    """The figures as a Markdown table."""
    lines = ["| " + " | ".join(result.head) + " |", "|" + "--:|" * len(result.head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in result.rows)])


def write(result: Result) -> None:
    """Draw the pictures, and put the table between its marks in the page."""
    PLOTS.mkdir(exist_ok=True)
    for name, chart in result.charts.items():
        (PLOTS / f"{name}.svg").write_text(chart.svg(), encoding="utf-8")
    begin, end = f"<!-- {result.name}: begin -->", f"<!-- {result.name}: end -->"
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    PAGE.write_text(f"{head}{begin}\n{table(result)}\n{end}{tail}", encoding="utf-8")


def _answers(asked: Asked, names: Sequence[str]) -> Iterator[Result]:
    for name in names:
        print(f"== {name}", file=sys.stderr, flush=True)
        yield QUESTIONS[name](asked)


def main() -> None:
    """Measure, print, and write when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(QUESTIONS), help="questions, with commas")
    parser.add_argument("--seconds", type=float, default=2, help="of load per point and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1_000_000, help="largest ledger, in attempts")
    parser.add_argument("--write", action="store_true", help="draw docs/plots and fill docs/performance.md")
    chosen = parser.parse_args()
    names = [name for name in QUESTIONS if name in chosen.only.split(",")]
    if not names:
        parser.error(f"--only takes some of {', '.join(QUESTIONS)}")
    try:
        with Stand() as stand:
            _, upstream_url = stand.upstream()
            asked = Asked(stand, upstream_url, chosen.seconds, chosen.rounds, chosen.rows)
            for result in _answers(asked, names):
                print(f"\n{table(result)}", flush=True)
                if chosen.write:
                    write(result)
    except KeyboardInterrupt:
        parser.exit(130, "interrupted; everything that was started has ended\n")


if __name__ == "__main__":
    main()
