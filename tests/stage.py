"""The stage for tests: a router as a real process on a real port, a small registry over simulated vendors.

The tests' own environment never reaches the router: no provider key, no COE_* setting of the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx

from service.simulator import SimulatorThread

ROOT = Path(__file__).resolve().parent.parent
PORTS = (12_000, 32_000)
START_S = 30.0
STOP_S = 45.0


def clean_environment(**more: str) -> dict[str, str]:
    """What a child process gets: enough to run Python, nothing that configures the router."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), "COE_LOCAL_ENGINES": "false", **more}


def free_port() -> int:
    """A port that was free a moment ago, below those that the kernel gives to whoever connects: they come and go."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            port = random.SystemRandom().randrange(*PORTS)
            probe.bind(("127.0.0.1", port))
            return port


class Process(Protocol):
    """What is asked of a process: a `Popen`, or one that the zygote forked."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...


@dataclass
class RunningRouter:
    """A router process."""

    process: Process
    port: int
    data_dir: Path
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Its root URL."""
        return f"http://127.0.0.1:{self.port}"

    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """Every line of the journal as (kind, body), in order of writing."""
        found = []
        for path in sorted((self.data_dir / "journal").glob("*.jsonl")):
            for line in path.read_bytes().splitlines():
                parsed = json.loads(line)
                found.append((parsed["t"], parsed["e"]))
        return found

    def attempts(self, decision_id: str | None = None) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """(open row, its terminal rows) of every attempt, or of those of one decision."""
        rows = self.rows()
        ends: dict[str, list[dict[str, Any]]] = {}
        for kind, body in rows:
            if kind == "terminal":
                ends.setdefault(body["attempt_id"], []).append(body)
        return [
            (body, ends.get(body["attempt_id"], []))
            for kind, body in rows
            if kind == "open" and decision_id in (None, body["decision_id"])
        ]

    def costs(self, *arguments: str) -> list[dict[str, Any]]:
        """`coe costs --format json` on its ledger."""
        done = coe("costs", "--format", "json", *arguments, COE_DATA_DIR=str(self.data_dir))
        assert done.returncode == 0, done.stderr
        answer: list[dict[str, Any]] = json.loads(done.stdout)
        return answer

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def reload(self) -> None:
        """SIGHUP, and wait until a registry serves anew: nobody rests any more."""
        before = self.log.read_text().count('"registry_reloaded"')
        self.process.send_signal(signal.SIGHUP)
        due = time.monotonic() + START_S
        while self.log.read_text().count('"registry_reloaded"') == before:
            assert time.monotonic() < due, self.log.read_text()
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.process.kill()
        self.process.wait(STOP_S)


def coe(*arguments: str | bytes, stdin: bytes | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `coe` to its end. What it is given may be any bytes; what it says is UTF-8."""
    done = subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        input=stdin,
        capture_output=True,
        env=clean_environment(**env),
        timeout=180,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def start_router(
    data_dir: Path,
    providers: Path | None = None,
    *arguments: str,
    port: int | None = None,
    under: Sequence[str] = (),
    **env: str,
) -> RunningRouter:
    """Start `coe serve` and return when it is ready. `under` is what runs it and leaves it our child, if anything."""
    port = port or free_port()
    environment = clean_environment(COE_DATA_DIR=str(data_dir), COE_PORT=str(port), **env)
    if providers is not None:
        environment["COE_PROVIDERS"] = str(providers)
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "router.log"
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [*under, sys.executable, "-m", "service", "serve", *arguments], stdout=sink, stderr=sink, env=environment
        )
    return until_ready(RunningRouter(process, port, data_dir, log, environment))


def until_ready(router: RunningRouter) -> RunningRouter:
    """Return when a router answers; raises AssertionError, with its log, when it ended or does not in time."""
    due = time.monotonic() + START_S
    while time.monotonic() < due:
        code = router.process.poll()
        if code is not None:
            raise AssertionError(f"the router ended with {code}:\n{router.log.read_text()}")
        try:
            if httpx.get(f"{router.url}/healthz", timeout=1, trust_env=False).status_code == 200:
                return router
        except httpx.HTTPError:
            time.sleep(0.05)
    router.kill()
    raise AssertionError(f"the router did not start:\n{router.log.read_text()}")


SOURCE = "source: made up for a test, checked: 2026-11-21"


def registry(path: Path, simulator: SimulatorThread, **changes: Any) -> Path:
    """A small registry over simulated vendors: one model each, the first the cheapest. Prices are easy to multiply.

    `changes` are extra lines for the file (`models=`, `extra=`) and settings per provider (`timeouts=`, `quirks=` by name).
    """
    timeouts = changes.get("timeouts", "{connect_s: 2, first_token_s: 2, idle_s: 2, total_s: 20}")
    quirks: Mapping[str, str] = changes.get("quirks", {})
    lines = [
        "version: 1",
        "currency: {base: USD, rates: {CNY: 0.1406}, as_of: 2026-11-21}",
        f"baseline: {changes.get('baseline', 'baseline-model')}",
        "default_policy: balanced",
        "providers:",
    ]
    for name in simulator.vendors:
        lines += [
            f"  {name}:",
            f"    base_url: {simulator.base_url(name)}",
            "    protocol: openai_chat",
            "    region: eu",
            "    tags: [test]",
            f"    timeouts: {timeouts}",
        ]
        if name in quirks:
            lines.append(f"    quirks: {quirks[name]}")
    lines.append("models:")
    for number, name in enumerate(simulator.vendors, 1):
        yuan = name.endswith("cny")
        rates = (
            f"input: {number}.5, cache_read: 0.{number}5, output: {number}2.0"
            if yuan
            else (f"input: 0.{number}5, cache_read: 0.0{number}5, output: {number}.20")
        )
        lines += [
            f"  {name}-model:",
            "    context_tokens: 128000",
            "    output_tokens_max: 16384",
            "    modalities: [text, image]",
            "    capabilities: [tools, json_object, json_schema, logprobs, n]",
            "    languages: [zh, en]",
            "    quality: {default: 0.9}",
            "    quality_source: made up for a test",
            "    deployments:",
            f"      - provider: {name}",
            f"        name: {name}-wire",
            "        prices:",
            f"          - {{from: 2026-01-01, currency: {'CNY' if yuan else 'USD'}, {rates}, {SOURCE}}}",
        ]
    if "baseline" not in changes:
        lines += [
            "  baseline-model:",
            "    context_tokens: 128000",
            "    output_tokens_max: 16384",
            "    quality: {default: 0.95}",
            "    quality_source: made up for a test",
            "    deployments:",
            f"      - provider: {simulator.vendors[0]}",
            "        name: baseline-wire",
            "        prices: [{from: 2026-01-01, currency: USD, input: 10, output: 50, source: made up, checked: 2026-11-21}]",
        ]
    lines += [
        changes.get("models", "").strip("\n"),
        "policies:",
        "  balanced: {objective: min_cost, min_quality: 0.80, relative_to_best: 0.90}",
        "  cheap: {objective: min_cost, min_quality: 0.60}",
        "  best: {objective: max_quality, max_cost_usd: 0.50}",
        changes.get("extra", ""),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
