"""The container image, as far as it can be judged without building it: what its health check asks, what it leaves out."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from stage import ROOT, clean_environment, free_port, registry

from service.simulator import Script

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture
def check():
    """Runs the health check's own command, in the environment that the image sets plus what it is given."""
    command = json.loads(re.search(r"HEALTHCHECK .*?CMD (\[.*?\])\n", DOCKERFILE, re.DOTALL)[1])
    image = dict(re.findall(r"\b(COE_[A-Z_]+)=(\S+)", re.search(r"^ENV (.*)$", DOCKERFILE, re.MULTILINE)[1]))

    def run(**env):
        done = subprocess.run(
            [sys.executable, *command[1:]], env=clean_environment(**{**image, **env}), capture_output=True, check=False
        )
        return done.returncode

    assert command[0] == "python"
    return run


def test_the_health_check_asks_the_port_that_is_set(check, routers, vendors, tmp_path):
    """COE_PORT, whatever it is, and no proxy in between; a port where nobody answers is ill."""
    router = routers(registry(tmp_path / "providers.yaml", vendors({"alpha": Script()})))
    proxy = {"http_proxy": f"http://127.0.0.1:{free_port()}"}
    assert check(COE_PORT=str(router.port), **proxy) == 0
    assert check(COE_PORT=str(free_port())) != 0


def test_the_last_stage_has_no_pip():
    """Neither the environment's own, nor the base image's, nor the copy inside the standard library."""
    build, _, final = DOCKERFILE.rpartition("\nFROM ")
    assert "/opt/coe/bin/pip uninstall --yes pip" in build
    assert "python -m pip uninstall --yes pip" in final
    version = re.match(r"python:(\d+\.\d+)-slim", final)[1]
    assert f"rm -rf /usr/local/lib/python{version}/ensurepip" in final
