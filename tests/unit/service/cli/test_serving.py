"""One serving process: SIGHUP takes a new registry or keeps the old one, SIGTERM ends with 0, a dead parent ends it once."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
import uvicorn
from stage import ROOT, clean_environment, registry

from service import telemetry
from service.cli.serving import DESCRIPTORS, crashed, lost, orphaned
from service.simulator import Script


def listed(router) -> list[str]:
    """The model ids that the router offers."""
    return [one["id"] for one in httpx.get(f"{router.url}/v1/models", trust_env=False).json()["data"]]


def test_hup_swaps_the_registry_whole_or_not_at_all(routers, vendors, tmp_path):
    """A good file serves within moments; a bad one is reported and the old one serves on; so does a fault of ours."""
    file = registry(tmp_path / "providers.yaml", vendors({"alpha": Script()}))
    good = file.read_text()
    router = routers(file, COE_FAILPOINT="in_reload:error@2")
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
    file.write_text(good)
    os.kill(router.process.pid, signal.SIGHUP)
    due = time.monotonic() + 20
    while '"internal_error"' not in router.log.read_text():
        assert time.monotonic() < due
        time.sleep(0.05)
    router.reload()
    assert "alpha-model" in listed(router)
    assert router.stop() == 0
    assert "Traceback" not in router.log.read_text()


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvicorn.Config("x:y").get_loop_factory()])
def test_a_parent_that_is_gone_stops_the_server_once(factory):
    """The pipe stays readable after its end; the server is told one time all the same, and the loop may sleep."""
    server = uvicorn.Server(uvicorn.Config("x:y"))
    alive, life = os.pipe()

    async def orphan() -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(alive, orphaned, loop, alive, server)
        await asyncio.sleep(0.05)
        assert server._captured_signals == []
        os.close(life)
        await asyncio.sleep(0.2)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(orphan())
    os.close(alive)
    assert server.should_exit
    assert server._captured_signals == [signal.SIGTERM]


@pytest.mark.parametrize(("soft", "expected"), [(64, 900), (900, 900)])
def test_room_for_connections_is_made_as_far_as_the_system_lets(soft, expected):
    """The soft limit of open files goes up to the hard one, which is below what would be wanted; never down."""
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, 900))\n"
        "from service.cli.serving import make_room\n"
        "make_room(); print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, check=True, cwd=ROOT, env=clean_environment(), timeout=60)
    assert done.stdout.split() == [b"%d" % expected, b"900"]
    assert expected < DESCRIPTORS


def test_the_door_is_in_place(routers, vendors, tmp_path):
    """A serving process refuses at the transport what the server's own protocol would let pass."""
    router = routers(registry(tmp_path / "providers.yaml", vendors({"alpha": Script()})))
    with socket.create_connection(("127.0.0.1", router.port), timeout=10) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 400 ")
    assert router.stop() == 0


def test_what_ends_the_process_or_a_thread_is_told_without_its_text(capsys, monkeypatch):
    """Type and place; a Ctrl-C stays what it is, and a thread that ends on purpose says nothing."""
    telemetry.configure("INFO")
    try:
        raise ValueError("secret prompt")
    except ValueError as problem:
        crashed(type(problem), problem, problem.__traceback__)
        lost(threading.ExceptHookArgs((type(problem), problem, problem.__traceback__, None)))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(one["event"], one["error"]) for one in lines] == [("internal_error", "ValueError")] * 2
    assert all(one["where"].startswith("test_serving.py:") for one in lines)
    passed = []
    monkeypatch.setattr(sys, "__excepthook__", lambda *told: passed.append(told[0]))
    crashed(KeyboardInterrupt, KeyboardInterrupt(), None)
    lost(threading.ExceptHookArgs((SystemExit, SystemExit(), None, None)))
    assert passed == [KeyboardInterrupt]
    assert capsys.readouterr().err == ""


PEAK = """
import gc, sys
from pathlib import Path
from service.cli.serving import give_back

def mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

if sys.argv[1] == "given":
    give_back()
large = bytearray(31 * 2**20)
del large
before = mib()
peak = [b"x" * 100_000 for _ in range(400)]
at_peak = mib()
peak.clear()
print(at_peak - before, mib() - before)
"""


@pytest.mark.skipif(not platform.libc_ver()[0], reason="another C library keeps no such slack, and has no `mallopt`")
@pytest.mark.parametrize("given", [True, False], ids=["as it is", "control"])
def test_what_a_peak_took_is_given_back(given):
    """A body of 31 MiB, then a peak of 40 MB in smaller pieces. Positive control: left alone the library keeps it."""
    command = [sys.executable, "-c", PEAK, "given" if given else "left"]
    told = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=True, timeout=60)
    peak, after = map(float, told.stdout.split())
    assert peak > 35
    assert after < 4 if given else after > 20
