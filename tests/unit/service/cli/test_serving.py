"""One serving process: SIGHUP takes a new registry or keeps the old one, SIGTERM ends with 0."""

from __future__ import annotations

import os
import signal
import time

import httpx
from stage import registry

from service.simulator import Script


def listed(router) -> list[str]:
    """The model ids that the router offers."""
    return [one["id"] for one in httpx.get(f"{router.url}/v1/models", trust_env=False).json()["data"]]


def test_hup_swaps_the_registry_whole_or_not_at_all(routers, vendors, tmp_path):
    """A good file serves within moments; a bad one is reported and the old one serves on; then a clean end."""
    file = registry(tmp_path / "providers.yaml", vendors({"alpha": Script()}))
    router = routers(file)
    assert "alpha-model" in listed(router)
    file.write_text(file.read_text().replace("alpha-model", "renamed-model"))
    os.kill(router.process.pid, signal.SIGHUP)
    due = time.monotonic() + 20
    while "renamed-model" not in listed(router):
        assert time.monotonic() < due
        time.sleep(0.05)
    file.write_text("version: 1\nproviders: [\n")
    os.kill(router.process.pid, signal.SIGHUP)
    due = time.monotonic() + 20
    while "registry_refused" not in router.log.read_text():
        assert time.monotonic() < due
        time.sleep(0.05)
    assert "renamed-model" in listed(router)
    assert router.stop() == 0
