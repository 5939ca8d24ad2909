"""Nothing of a request is left behind in a ring, whatever became of it: only the collector frees those.

It comes late, and for what is old once in many thousand requests; by then they are tens of MiB, at a moment of its
choosing. So what ends has to let go of what holds it, and an error must not be held by a frame that it passed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal

import pytest
from crowd import NONSENSE, Crowd, Errand
from stage import ROOT, registry, start_router
from weather import ill, well

from service.simulator import Fault, Script, SimulatorThread, VendorScript

QUICK = "{connect_s: 1, first_token_s: 0.5, idle_s: 0.5, total_s: 2}"
ROUNDS = 12
PATIENCE_S = 30.0
OURS = ("service.", "classifiers.", "uvloop.", "httptools.", "builtins.frame", "builtins.coroutine")


def scripts():
    """Every way to fail, and to answer, that a vendor has in the soak."""
    chance = random.Random("rings")
    drawn = [one for one in (ill(chance) for _ in range(400)) if one.fault_after in (0, Script().fault_after)]
    drawn += [well(chance) for _ in range(4)]
    found = list({repr(one): one for one in drawn}.values())
    assert {one.fault for one in found} > {Fault.RESET, Fault.CUT, Fault.ERROR_EVENT, Fault.SILENCE, Fault.GIANT_LINE}
    return found


def errands():
    """Streams and whole answers, from those who stay, those who leave at once and later, and those who ask nonsense."""
    found = [Errand(f"nonsense {name}", body, nonsense=name) for name, body in NONSENSE.items()]
    for stream in (True, False):
        for alone in (True, False):
            for leaves_after in (None, None, 0, 301):
                body = {
                    "model": "alpha-model",
                    "messages": [{"role": "user", "content": "What is the capital of France?"}],
                    "stream": stream,
                    "coe": {"no_fallback": alone},
                }
                found.append(Errand("asked", json.dumps(body).encode(), stream, leaves_after))
    return found


async def everything(simulator, router, file, rounds=ROUNDS):
    """All scripts for all kinds of callers; now and then another registry, good or bad, after which nobody rests."""
    crowd, asked, good = Crowd(router.port), errands(), file.read_bytes()
    simulator.set_script("alpha", VendorScript(cycle=tuple(scripts())))
    for number in range(rounds):
        file.write_bytes(b"version: 1\n- bad" if number % 4 == 3 else good)
        router.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(0.1)
        for errand in asked:
            crowd.send(errand)
            await asyncio.sleep(0.005)
    await crowd.back()
    await asyncio.sleep(1.0)  # whoever was slower than its caller
    return crowd.verdicts


@pytest.mark.parametrize("broken", [False, True], ids=["as it is", "control"])
def test_no_request_is_left_behind_in_a_ring(tmp_path, broken):
    """Positive control: a connection to a vendor that holds itself when it is lost."""
    inside = tmp_path / "inside.jsonl"
    path = os.pathsep.join((str(ROOT / "tests" / "inside"), str(ROOT)))
    env = {"PYTHONPATH": path, "INSIDE": str(inside), "INSIDE_RINGS": "control" if broken else "yes"}
    with SimulatorThread(["alpha", "beta"]) as simulator:
        file = registry(tmp_path / "providers.yaml", simulator, timeouts=QUICK)
        router = start_router(tmp_path / "data", file, **env)
        verdicts = asyncio.run(everything(simulator, router, file, 4 if broken else ROUNDS))
        router.process.send_signal(signal.SIGUSR1)
        for _ in range(round(PATIENCE_S / 0.1)):
            if inside.exists() and inside.read_bytes().endswith(b"\n"):
                break
            asyncio.run(asyncio.sleep(0.1))
        assert router.stop() == 0
    assert verdicts.wrong == []
    assert {"whole stream", "whole answer", "caller left", "refused nonsense", "error 502"} <= set(verdicts.kinds)
    rings = json.loads(inside.read_text())["rings"]
    ours = {name: count for name, count in rings.items() if name.startswith(OURS)}
    if broken:
        assert "service.upstream.native_connection.Connection" in ours
    else:
        assert ours == {}
