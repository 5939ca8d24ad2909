"""Fixtures for tests that run the real application in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scenery import Serving, start_app
from stage import registry

from service.simulator import SimulatorThread

QUICK = "{connect_s: 1, first_token_s: 1, idle_s: 1, total_s: 3}"


@pytest.fixture
def serving(tmp_path: Path, vendors: Callable[..., SimulatorThread]) -> Iterator[Callable[..., Any]]:
    """`serving({vendor: script}, extra=..., **settings)` gives the app over these vendors and their simulator."""
    running: list[Serving] = []

    def start(
        scripts: Any, *, extra: str = "", quirks: Any = None, models: str = "", **settings: Any
    ) -> tuple[Serving, SimulatorThread]:
        simulator = vendors(scripts)
        number = len(running)
        file = registry(
            tmp_path / f"r{number}.yaml", simulator, timeouts=QUICK, extra=extra, quirks=quirks or {}, models=models
        )
        running.append(start_app(tmp_path / f"d{number}", file, **settings))
        return running[-1], simulator

    yield start
    for one in running:
        if one.thread.is_alive():
            one.stop()
