"""A model server on this machine is found and used: nothing configured, no key, no simulator flag."""

from __future__ import annotations

import contextlib
import re
import socket
import threading

import httpx
import pytest
from stage import ROOT, coe

from service.simulator import Script, SimulatorThread, VendorScript
from service.upstream.local_engines import PORTS


@contextlib.contextmanager
def usual_port(target: int):
    """Forward one of the ports at which engines usually listen to `target`; skips when all are taken."""
    listener = None
    for port in PORTS:
        candidate = socket.socket()
        try:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind(("127.0.0.1", port))
        except OSError:
            candidate.close()
            continue
        listener = candidate
        break
    if listener is None:
        pytest.skip("every usual engine port is taken on this machine")
    listener.listen()
    open_sockets: list[socket.socket] = [listener]

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                inward, _ = listener.accept()
                outward = socket.create_connection(("127.0.0.1", target))
                open_sockets.extend((inward, outward))
                for pair in ((inward, outward), (outward, inward)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        for one in open_sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def ollama():
    """An engine on one of the usual ports."""
    engine = VendorScript(default=Script(), models=("qwen3:32b",), owned_by="library")
    with SimulatorThread({"engine": engine}) as simulator:
        port = int(simulator.base_url("engine").partition("127.0.0.1:")[2].partition("/")[0])
        with usual_port(port):
            yield simulator


def test_check_and_route_see_what_serve_would_serve(ollama):
    """No key in the environment: the engine is what is active and what is chosen, unless it is switched off."""
    arguments = ("--providers", str(ROOT / "providers.yaml"))
    told = coe("check", *arguments, COE_LOCAL_ENGINES="true").stdout
    assert "local engine Ollama" in told
    assert re.search(r"active now: 1 of \d+ providers, 1 of \d+ models", told)
    chosen = coe("route", "hello there", *arguments, COE_LOCAL_ENGINES="true").stdout
    assert chosen.startswith("→ ollama/qwen3-32b ")
    assert "as if every provider had its key" not in chosen
    assert "local engine Ollama" not in coe("check", *arguments, COE_LOCAL_ENGINES="false").stdout
    assert "ollama/" not in coe("route", "hello there", *arguments, COE_LOCAL_ENGINES="false").stdout


def test_an_engine_on_loopback_is_found_and_used(routers, ollama):
    """The shipped registry, no key in the environment: plain `coe serve` serves the engine's model, privately, for free."""
    router = routers(ROOT / "providers.yaml", COE_LOCAL_ENGINES="true")
    listed = httpx.get(f"{router.url}/v1/models").json()["data"]
    assert any("qwen3" in one["id"] for one in listed)
    answer = httpx.post(
        f"{router.url}/v1/chat/completions",
        json={"model": "auto", "messages": [{"role": "user", "content": "你好，今天过得怎么样？"}]},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    assert "qwen3" in answer.headers["x-coe-model"]
    assert "x-coe-simulated" not in answer.headers
    ((opened, (end,)),) = router.attempts(answer.headers["x-coe-decision-id"])
    assert end["cost_pusd"] == 0
    assert opened["reserved_pusd"] == 0
    assert router.stop() in (0, -15)
    assert ollama.log[-1].path.endswith("/chat/completions")
