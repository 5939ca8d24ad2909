"""A rolling restart (I12): workers are renewed under load and nobody notices; the great number is in `make chaos`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import httpx
from rolling import WORKERS, Rolling, played
from scenery import eventually
from stage import registry

from service.simulator import Script

PATIENCE_S = 30.0


def test_nobody_loses_a_request_while_workers_are_renewed(tmp_path):
    """Kept connections, new ones, streams: each answer whole, each attempt settled, nothing repeated."""
    seen = played(tmp_path, 100, renewals_min=2)
    assert not seen.wrong, seen
    assert seen.renewals >= 2
    assert min(seen.answers[kind] for kind in ("kept", "new", "stream")) > 0
    assert seen.processes >= WORKERS * (1 + 2)


def test_a_new_worker_that_does_not_come_up_leaves_the_old_ones(tmp_path):
    """A registry that is wrong when the workers are renewed: those that run go on, and the log says why."""
    rolling = Rolling(tmp_path)
    try:
        file = tmp_path / "providers.yaml"
        good = file.read_text(encoding="utf-8")
        file.write_text("nonsense: true\n", encoding="utf-8")
        os.kill(rolling.router.process.pid, signal.SIGUSR2)
        eventually(lambda: '"renewal_failed"' in rolling.router.log.read_text(), PATIENCE_S)
        assert '"a new worker ended with 78"' in rolling.router.log.read_text()
        assert httpx.get(f"{rolling.router.url}/readyz", trust_env=False).status_code == 200
        file.write_text(good, encoding="utf-8")
        assert rolling._renew()
        assert rolling.router.stop() == 0
    finally:
        rolling.close()


def test_one_worker_that_can_not_come_up_again_does_not_end_the_others(tmp_path):
    """It is tried again after growing pauses, for as long as somebody answers."""
    rolling = Rolling(tmp_path)
    try:
        router = rolling.router
        eventually(lambda: router.log.read_text().count('"started"') == WORKERS, PATIENCE_S)
        file = tmp_path / "providers.yaml"
        good = file.read_text(encoding="utf-8")
        file.write_text("nonsense: true\n", encoding="utf-8")
        (first, *_) = children(router.process.pid)
        os.kill(first, signal.SIGKILL)
        eventually(lambda: router.log.read_text().count('"worker_died"') >= 3, PATIENCE_S)
        assert router.process.poll() is None
        assert httpx.get(f"{router.url}/readyz", trust_env=False).status_code == 200
        file.write_text(good, encoding="utf-8")
        eventually(lambda: router.log.read_text().count('"started"') > WORKERS, PATIENCE_S)
        assert router.stop() == 0
    finally:
        rolling.close()


def children(parent):
    """The processes that one has started."""
    return [int(one) for one in Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()]


def test_one_process_alone_is_not_ended_by_it(routers, vendors, tmp_path):
    """The system's habit with SIGUSR2 is to end a process; here the log says what to do instead."""
    router = routers(registry(tmp_path / "p.yaml", vendors({"alpha": Script()})))
    os.kill(router.process.pid, signal.SIGUSR2)
    eventually(lambda: '"renewal_failed"' in router.log.read_text(), PATIENCE_S)
    time.sleep(0.1)
    assert httpx.get(f"{router.url}/healthz", trust_env=False).status_code == 200
    assert router.stop() == 0
