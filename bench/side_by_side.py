"""Gateways side by side: the same requests through each of them, alone on one core, in one run on one machine.

A scripted vendor and the clients share the other cores. Several rounds, each with every gateway once, begin with
another one each time; the tables show medians over the rounds, and ratios are taken within a round. Asserts nothing.

    .venv/bin/python bench/side_by_side.py [--seconds 4] [--rounds 3] [--only coe,nginx] [--write]

`--write` also puts the tables into docs/performance.md. What is measured, and what the columns mean, stands there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from load import Bodies, Route, Sample, first_token, verify, wrk
from peers import COE, GATEWAYS, Missing, said, straight, versions
from report import AIMS, Found, aims_table, main_table, noise
from stand import ROOT, NotStarted, Running, Stand, others_share, set_pace, stolen_s

PROMPT_BYTES = 1_100
TOTAL_S = 570
"""No round is begun that would end later than this after the start, by the time that the one before took."""

WARM_S = 2
TOKEN_S = 2
PACED_MS = 2
"""Between two chunks of an unhurried stream: sixteen such streams load no gateway to its limit, so that the time to
the first token is not the length of a queue."""

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- side by side: begin -->", "<!-- side by side: end -->"


@dataclass(slots=True)
class Bench:
    """One whole run. `others` are the shares of the machine that others took before each round."""

    stand: Stand
    upstream_url: str
    seconds: float
    bodies: Bodies
    found: Found = field(default_factory=Found)
    others: list[float] = field(default_factory=list)

    def turn(self, name: str) -> None:
        """One gateway from its start to its end; a peer that can't be measured is noted and left out from then on."""
        if name in self.found.missing:
            return
        try:
            gateway = GATEWAYS[name](self.stand, self.upstream_url)
        except (Missing, NotStarted) as problem:
            if name == COE:
                raise
            self.found.missing[name] = " ".join(str(problem).split())[:200]
            return
        try:
            self.found.started(name, gateway.running.ready_s, gateway.running.rss_mib())
            for route in gateway.routes:
                verify(route)
            self._load(gateway.routes[0], gateway.running, 32, WARM_S)
            self._load(gateway.routes[0], gateway.running, 16, 1, stream=True)
            for route in gateway.routes:
                self.measure(route, gateway.running)
        except NotStarted as problem:
            if name == COE:
                raise
            self.found.missing[name] = " ".join(str(problem).split())[:200]
        finally:
            self.stand.stop(gateway.running)

    def measure(self, route: Route, gateway: Running | None) -> None:
        """Every case on one route."""
        label = route.label
        self.found.add(label, "whole, 32", self._load(route, gateway, 32, self.seconds))
        self.found.add(label, "whole, 1", self._load(route, gateway, 1, self.seconds))
        self.found.add(label, "streams, 16", self._load(route, gateway, 16, self.seconds, stream=True))
        one = first_token(self.stand, route, gateway, connections=1, seconds=TOKEN_S)
        self.found.add(label, "first token, 1", one)
        set_pace(self.upstream_url, delay_ms=PACED_MS)
        many = first_token(self.stand, route, gateway, connections=16, seconds=TOKEN_S)
        set_pace(self.upstream_url)
        self.found.add(label, "first token, 16", many)

    def _load(
        self, route: Route, gateway: Running | None, connections: int, seconds: float, *, stream: bool = False
    ) -> Sample:
        return wrk(self.stand, route, self.bodies, gateway, connections=connections, seconds=seconds, stream=stream)


def rounds(bench: Bench, names: Sequence[str], count: int, begun: float) -> None:
    """All rounds, as far as the time goes."""
    for number in range(count):
        before = time.monotonic()
        bench.others.append(others_share())
        bench.measure(straight(bench.upstream_url), None)
        # Another one first each time, so that none always follows the same neighbour.
        shift = number % len(names)
        for name in (*names[shift:], *names[:shift]):
            print(f"round {number + 1} of {count}: {name}", file=sys.stderr, flush=True)
            bench.turn(name)
        bench.found.rounds = number + 1
        now = time.monotonic()
        if number + 1 < count and now - begun + (now - before) > TOTAL_S:
            print(f"stopped after {number + 1} rounds: the next would end after {TOTAL_S} s", file=sys.stderr)
            return


def described(bench: Bench, took_s: float, stolen: float) -> str:
    """What was measured on what: commit, machine, noise."""
    found = bench.found
    commit = said(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10"])
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = cpu[0].partition(": ")[2] if cpu else "unknown processor"
    cores = f"{len(os.sched_getaffinity(0))} cores of {name}"
    before = ", ".join(f"{share:.0%}" for share in bench.others)
    return (
        f"Commit {commit}; {found.rounds} rounds, {bench.seconds:g} s a case, {took_s:.0f} s in all; {cores}.\n"
        f"{versions()}.\n{noise(found)}\n"
        f"Before each round others took {before} of the machine; the hypervisor took {stolen / took_s:.1%} of a core."
    )


def write(text: str) -> None:
    """Put the tables between their marks in the page."""
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")


def main() -> None:
    """Measure, print, and write when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4, help="of load per case and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(GATEWAYS), help="gateways, with commas")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    asked = parser.parse_args()
    names = [name for name in GATEWAYS if name.lower() in asked.only.lower().split(",")]
    if not names:
        parser.error(f"--only takes some of {', '.join(GATEWAYS)}")
    for tool, package in (("wrk", "wrk"), ("taskset", "util-linux")):
        if shutil.which(tool) is None:
            parser.exit(69, f"{tool} is not installed: apt-get install {package}\n")
    begun, stolen = time.monotonic(), stolen_s()
    try:
        with Stand() as stand:
            _, upstream_url = stand.upstream()
            bench = Bench(stand, upstream_url, asked.seconds, Bodies.written(stand, PROMPT_BYTES))
            rounds(bench, names, asked.rounds, begun)
    except KeyboardInterrupt:
        parser.exit(130, "interrupted; everything that was started has ended\n")
    about = described(bench, time.monotonic() - begun, stolen_s() - stolen)
    text = f"{about}\n\n{main_table(bench.found)}\n\n{aims_table(bench.found, AIMS)}"
    print(text)
    if asked.write:
        write(text)


if __name__ == "__main__":
    main()
