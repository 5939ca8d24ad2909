"""Load on one route: wrk for whole answers and streams, our own client for the time to the first token.

Where on the path: `side_by_side` and `growth` hand it a route; it runs the client on the cores that the gateway does
not have, and says what the client saw and what the gateway's processes took meanwhile.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prompts import prompts
from stand import DIRECT, HERE, NotStarted, Running, Stand, clean_environment

ANSWER_S = 20
"""Longest wait for one answer."""

_FIRST_NUMBERS = itertools.count(1, 10_000_000)
"""Where the numbering of each run begins, so that no prompt comes twice in a whole bench."""


@dataclass(frozen=True, slots=True)
class Route:
    """One way into a gateway: what to call it, where to post, under which model name, with which headers and keys."""

    label: str
    url: str
    model: str
    headers: dict[str, str] = field(default_factory=dict)
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run found; times of answers are milliseconds.

    The gateway's are `busy` (1.0 is one core, while the load ran) and `cpu_us` per answer, which counts what it put off
    until after the load as well.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    busy: float
    rss_mib: float
    failed: int


@dataclass(frozen=True, slots=True)
class Bodies:
    """Prompts in a file, as wrk.lua reads them."""

    path: Path

    @classmethod
    def written(cls, stand: Stand, size_bytes: int, count: int = 509) -> Bodies:
        """`count` prompts of a size; a prime number of them, so that no other period fits."""
        path = stand.home / f"prompts-{size_bytes}.txt"
        with path.open("w", encoding="utf-8") as sink:
            for text in prompts(count, size_bytes):
                sink.write(json.dumps(text)[1:-1] + "\n")
        return cls(path)


def wrk(
    stand: Stand,
    route: Route,
    bodies: Bodies,
    gateway: Running | None,
    *,
    connections: int,
    seconds: float,
    stream: bool,
) -> Sample:
    """One run of wrk. A request counts when its whole answer is there; `failed` are refusals and broken connections."""
    headers = _listed(stand, "headers", [f"{name}: {value}" for name, value in route.headers.items()])
    environment = clean_environment(
        stand.home,
        BENCH_PROMPTS=str(bodies.path),
        BENCH_HEADERS=str(headers),
        BENCH_KEYS=str(_listed(stand, "keys", route.keys)),
        BENCH_MODEL=route.model,
        BENCH_STREAM="1" if stream else "0",
        BENCH_FROM=str(next(_FIRST_NUMBERS)),
    )
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={ANSWER_S}s"]
    script = ["-s", str(HERE / "wrk.lua"), route.url]
    found, in_time, taken = _run(stand, [*command, *script], environment, gateway, seconds)
    good = max(0, found["requests"] - found["refused"])
    return Sample(
        rate=good / found["seconds"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        cpu_us=taken / good * 1e6 if good else float("nan"),
        busy=in_time / found["seconds"],
        rss_mib=gateway.rss_mib() if gateway else 0.0,
        failed=found["refused"] + found["broken"],
    )


def first_token(stand: Stand, route: Route, gateway: Running | None, *, connections: int, seconds: float) -> Sample:
    """Time from sending a request to the first content of its stream; `rate` is streams per second."""
    plan = client_plan(route, connections, seconds)
    command = [sys.executable, str(HERE / "streams.py"), "first", plan]
    found, in_time, taken = _run(stand, command, clean_environment(stand.home), gateway, seconds)
    streams = found["streams"]
    return Sample(
        rate=streams / found["seconds"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        cpu_us=taken / streams * 1e6 if streams else float("nan"),
        busy=in_time / found["seconds"],
        rss_mib=gateway.rss_mib() if gateway else 0.0,
        failed=found["broken"],
    )


def _run(
    stand: Stand, command: Sequence[str], environment: dict[str, str], gateway: Running | None, seconds: float
) -> tuple[dict[str, Any], float, float]:
    """What a client said in its last line; the gateway's processor seconds while it ran, and with what it put off."""
    before = gateway.cpu_s() if gateway else 0.0
    done = subprocess.run(  # noqa: S603 # a command of our own
        ["taskset", "-c", stand.cores.rest, *command],  # noqa: S607 # found on PATH
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 3 * ANSWER_S,
    )
    in_time = gateway.cpu_s() - before if gateway else 0.0
    taken = gateway.quiet_cpu_s() - before if gateway else 0.0
    if done.returncode != 0:
        raise NotStarted(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-1000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found, in_time, taken


def client_plan(route: Route, connections: int, seconds: float) -> str:
    """What streams.py is told, as JSON."""
    return json.dumps(
        {
            "url": route.url,
            "model": route.model,
            "headers": route.headers,
            "keys": route.keys,
            "connections": connections,
            "seconds": seconds,
            "from": next(_FIRST_NUMBERS),
        }
    )


def verify(route: Route) -> None:
    """One whole answer and one stream: raises NotStarted unless both are what the scripted vendor says."""
    for stream, wanted in ((False, ("word word", '"prompt_tokens":')), (True, ("first ", "word9 ", "[DONE]"))):
        body = {"model": route.model, "messages": [{"role": "user", "content": "Is this the way?"}], "stream": stream}
        headers = {"content-type": "application/json", **route.headers}
        if route.keys:
            headers["authorization"] = f"Bearer {route.keys[0]}"
        request = urllib.request.Request(route.url, json.dumps(body).encode(), headers)  # noqa: S310 # loopback
        try:
            with DIRECT.open(request, timeout=ANSWER_S) as answer:
                text = answer.read().decode()
        except OSError as problem:
            read = getattr(problem, "read", None)
            told = read().decode(errors="replace")[:500] if read else ""
            raise NotStarted(f"{route.label} answers {problem} {told}") from problem
        missing = [piece for piece in wanted if piece not in text]
        if missing:
            raise NotStarted(f"{route.label} left out {missing} of the vendor's answer: {text[:500]}")


def _listed(stand: Stand, name: str, lines: Sequence[str]) -> Path:
    path = stand.home / f"wrk-{name}.txt"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    path.chmod(0o600)
    return path
