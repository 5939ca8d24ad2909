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
from stage import clean_environment, registry

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
        crew = workers.Workers([], 2, listener, 1.0)
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


def test_a_worker_that_does_not_answer_yet_is_not_killed_by_a_reload(crew):
    """SIGUSR2, then SIGHUP all the while: the new ones come up, and read the registry again once they can."""
    before = set(workers_of(crew.process.pid))
    eventually(lambda: crew.log.read_text().count('"started"') >= 2)
    os.kill(crew.process.pid, signal.SIGUSR2)
    while '"workers_renewed"' not in crew.log.read_text():
        os.kill(crew.process.pid, signal.SIGHUP)
        time.sleep(0.05)
        assert '"renewal_failed"' not in crew.log.read_text()
    eventually(lambda: not before & set(workers_of(crew.process.pid)))
    assert '"worker_died"' not in crew.log.read_text()
    assert ask(crew) == 200
    assert crew.stop() == 0


def test_a_router_that_is_told_to_stop_while_it_starts_stops_at_once(vendors, tmp_path):
    """At whatever moment of it: nobody is forgotten, nobody waits for a grace that nobody needs."""
    file = registry(tmp_path / "providers.yaml", vendors({"alpha": Script()}))
    for number, pause_s in enumerate((0.3, 0.6, 0.9, 1.2)):
        env = clean_environment(COE_DATA_DIR=str(tmp_path / f"d{number}"), COE_PORT="0", COE_PROVIDERS=str(file))
        command = [sys.executable, "-m", "service", "serve", "--workers", "3"]
        process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
        time.sleep(pause_s)
        begun = time.monotonic()
        process.terminate()
        process.wait(SOON_S)
        assert time.monotonic() - begun < SOON_S / 2


def test_a_grace_longer_than_ours_is_a_workers_own():
    """COE_DRAIN_S says how long a stream may go on; the parent waits for that, and a little more."""
    with socket.socket() as listener:
        assert workers.Workers([], 2, listener, 120.0)._stop_s == 120.0 + workers.SETTLE_S


def test_a_worker_that_has_to_be_killed_shows(monkeypatch):
    """In the exit code and the log: what it left open is closed at the next start only."""
    with socket.socket() as listener:
        crew = workers.Workers([], 1, listener, 0.0)
        monkeypatch.setattr(crew, "_stop_s", 0.2)
        deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
        stubborn = subprocess.Popen([sys.executable, "-c", deaf])
        time.sleep(0.5)
        crew._running = [workers._Worker(stubborn, -1, 0.0, answers=True)]
        crew._stop()
        assert crew._wait() is False
        assert stubborn.returncode == -signal.SIGKILL
