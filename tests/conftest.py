"""Fixtures for every test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from clickhouse_server import ClickHouseServer
from hypothesis import settings
from postgres_server import PostgresServer
from stage import RunningRouter, start_router

from service.simulator import Script, SimulatorThread, VendorScript

# The same cases on every run, so that a red build is about the change that made it; COE_EXPLORE=1 looks for new ones.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("explore" if os.environ.get("COE_EXPLORE") else "steady")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One private PostgreSQL for a whole run; each test has its own database in it."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def clickhouse() -> Iterator[ClickHouseServer]:
    """One private ClickHouse for a whole run; each test has its own database in it."""
    server = ClickHouseServer()
    yield server
    server.close()


@pytest.fixture
def routers(tmp_path: Path) -> Iterator[Callable[..., RunningRouter]]:
    """Start routers that end with the test."""
    running: list[RunningRouter] = []

    def start(
        providers: Path | None = None, *arguments: str, data_dir: Path | None = None, **env: str
    ) -> RunningRouter:
        router = start_router(data_dir or tmp_path / f"data{len(running)}", providers, *arguments, **env)
        running.append(router)
        return router

    yield start
    for router in running:
        if router.process.poll() is None:
            router.kill()


@pytest.fixture
def vendors() -> Iterator[Callable[..., SimulatorThread]]:
    """Start simulated vendors that end with the test."""
    running: list[SimulatorThread] = []

    def start(scripts: Mapping[str, VendorScript | Script]) -> SimulatorThread:
        simulator = SimulatorThread(scripts)
        simulator.start()
        running.append(simulator)
        return simulator

    yield start
    for simulator in running:
        simulator.stop()
