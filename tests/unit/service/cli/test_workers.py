"""Several workers behind one port: all serve, the dead are replaced, nobody outlives the parent, the books are whole."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from stage import registry

from service.cli import workers
from service.simulator import Script

ASK = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
SOON_S = 20.0


@pytest.fixture
def crew(routers, vendors, tmp_path):
    """A router with two workers over a healthy vendor."""
    providers = registry(tmp_path / "providers.yaml", vendors({"alpha": Script()}))
    router = routers(providers, "--workers", "2")
    eventually(lambda: len(workers_of(router.process.pid)) == 2)
    eventually(lambda: len(list((router.data_dir / "journal").glob("*.jsonl"))) >= 2)
    return router


def workers_of(parent: int) -> list[int]:
    """The living children of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[1]) == parent:
            found.append(int(path.parent.name))
    return found


def eventually(holds) -> None:
    """Wait until something holds."""
    due = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < due, "it never came about"
        time.sleep(0.05)


def ask(router) -> int:
    """One request on a connection of its own."""
    with httpx.Client(trust_env=False, timeout=20) as client:
        return client.post(f"{router.url}/v1/chat/completions", json=ASK).status_code


def test_a_worker_that_dies_is_replaced_and_its_attempts_are_closed(crew):
    """SIGKILL to one: requests go on, a new one takes its place, every attempt has one terminal row."""
    assert {ask(crew) for _ in range(8)} == {200}
    before = workers_of(crew.process.pid)
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: len(set(workers_of(crew.process.pid)) - set(before)) == 1)
    eventually(lambda: ask(crew) == 200)
    assert {ask(crew) for _ in range(8)} == {200}
    assert crew.stop() == 0
    assert {len(ends) for _, ends in crew.attempts()} == {1}
    assert sum(row["requests"] for row in crew.costs()) == len(crew.attempts())


def test_any_worker_knows_any_decision(crew):
    """A decision made by one worker is told by all of them."""
    with httpx.Client(trust_env=False) as client:
        decision = client.post(f"{crew.url}/v1/chat/completions", json=ASK).headers["x-coe-decision-id"]
    for _ in range(8):
        with httpx.Client(trust_env=False) as client:
            told = client.get(f"{crew.url}/v1/decisions/{decision}")
        assert told.status_code == 200
        assert told.json()["attempts"][0]["state"] == "settled"


def test_nobody_outlives_the_parent(crew):
    """SIGKILL to the parent: the workers notice and end."""
    workers = workers_of(crew.process.pid)
    crew.kill()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_workers_that_can_not_start_end_the_router(routers, vendors, tmp_path):
    """A registry that turns bad under the parent's feet: after a few tries it ends, with the worker's own code."""
    file = registry(tmp_path / "providers.yaml", vendors({"alpha": Script()}))
    router = routers(file, "--workers", "2")
    eventually(lambda: len(workers_of(router.process.pid)) == 2)
    file.write_text("nonsense: true\n")
    for pid in workers_of(router.process.pid):
        os.kill(pid, signal.SIGKILL)
    assert router.process.wait(SOON_S * 2) == 78


@pytest.mark.parametrize("somebody", [True, False])
def test_those_who_die_end_the_router_only_when_nobody_answers(monkeypatch, somebody):
    """A worker that can't come up is tried again and again beside one that answers; alone it ends everything."""
    monkeypatch.setattr(workers, "PAUSE_S", 0.0)
    with socket.socket() as listener:
        crew = workers.Workers([], 2, listener)
        started = []

        def start():
            started.append(subprocess.Popen([sys.executable, "-c", "raise SystemExit(78)"]))
            return workers._Worker(started[-1], -1, time.monotonic() + 60)

        monkeypatch.setattr(crew, "_start", start)
        living = workers._Worker(subprocess.Popen(["sleep", "60"]), -1, 0.0, answers=somebody)
        crew._running = [living]
        try:
            codes = []
            while len(started) < workers.RESTARTS_MAX + 4 and not any(codes):
                codes.append(crew._replace_the_dead())
                for one in started:
                    one.wait()
            assert codes[-1] == (0 if somebody else 78)
            assert len(started) == (workers.RESTARTS_MAX + 4 if somebody else workers.RESTARTS_MAX + 1)
        finally:
            living.process.kill()
            living.process.wait()
