"""Two routers with one PostgreSQL behind their ledgers, and what becomes of both when it is killed and comes back."""

from __future__ import annotations

import json

import httpx
import pytest
from postgres_server import PostgresServer
from scenery import eventually
from stage import coe, registry, start_router

from service.simulator import Script, SimulatorThread

PATIENCE_S = 20.0
INDEXED_S = 30.0
ASKED = 6


@pytest.fixture
def server():
    """One of its own: it is killed."""
    made = PostgresServer()
    yield made
    made.close()


@pytest.fixture
def pair(tmp_path, server):
    """Two routers, each with its own data directory."""
    url = server.database()
    with SimulatorThread({"alpha": Script(), "beta": Script()}) as vendors:
        file = registry(tmp_path / "p.yaml", vendors)
        running = [start_router(tmp_path / name, file, COE_LEDGER_URL=url) for name in ("one", "two")]
        yield url, running
        for router in running:
            if router.process.poll() is None:
                router.kill()


def ask(router):
    body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
    answer = httpx.post(f"{router.url}/v1/chat/completions", json=body, timeout=PATIENCE_S, trust_env=False)
    assert answer.status_code == 200


def degraded(router):
    return httpx.get(f"{router.url}/readyz", timeout=PATIENCE_S, trust_env=False).json()["degraded"]


def command(router, url, *arguments):
    return coe(*arguments, "--data-dir", str(router.data_dir), COE_LEDGER_URL=url)


def requests(router, url):
    done = command(router, url, "costs", "--by", "model", "--format", "json")
    assert done.returncode == 0, done.stderr
    return sum(row["requests"] for row in json.loads(done.stdout))


def test_a_database_that_dies_loses_and_doubles_nothing(pair, server):
    """Requests go on, the part `index` is degraded, and afterwards every request of both is there once."""
    url, routers = pair
    for router in routers:
        for _ in range(ASKED):
            ask(router)
    eventually(lambda: requests(routers[0], url) == 2 * ASKED, INDEXED_S)
    server.kill()
    for router in routers:
        for _ in range(ASKED):
            ask(router)
        eventually(lambda router=router: "index" in degraded(router), INDEXED_S)
    told = command(routers[0], url, "costs")
    assert told.returncode != 0
    assert "geheim" not in told.stderr
    server.start()
    for router in routers:
        eventually(lambda router=router: "index" not in degraded(router), INDEXED_S)
    eventually(lambda: requests(routers[1], url) == 4 * ASKED, INDEXED_S)
    for router in routers:
        held = command(router, url, "ledger", "verify")
        assert held.returncode == 0, held.stderr
        assert f"{2 * ASKED} attempts" in held.stdout
        assert "geheim" not in router.log.read_text()


def test_one_rebuilds_its_own_rows_while_the_other_runs(pair):
    """What the other has is there throughout; afterwards all is as it was."""
    url, routers = pair
    for router in routers:
        for _ in range(ASKED):
            ask(router)
    eventually(lambda: requests(routers[0], url) == 2 * ASKED, INDEXED_S)
    routers[0].stop()
    built = command(routers[0], url, "ledger", "rebuild")
    assert built.returncode == 0, built.stderr
    assert requests(routers[1], url) == 2 * ASKED
    for router in routers:
        assert command(router, url, "ledger", "verify").returncode == 0
