"""What the router adds to a request: the same requests straight to a simulated vendor and through the router.

Prints one table of medians and ratios over alternating rounds; asserts nothing. Loopback only, ends by itself.

    make bench
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from stage import registry, start_router  # the stage lives with the tests

from service.simulator import Script, SimulatorThread  # after the path is set

ROUNDS = 5
REQUESTS = 150
CONCURRENT = 8
PROMPT = "Explain how a heat pump works, for a curious ten-year-old. " * 18


async def _round(url: str, body: dict[str, object]) -> list[float]:
    """Milliseconds of each of `REQUESTS` requests, `CONCURRENT` at a time."""
    took: list[float] = []
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:

        async def worker(count: int) -> None:
            for _ in range(count):
                before = time.perf_counter()
                response = await client.post(f"{url}/chat/completions", json=body)
                response.raise_for_status()
                took.append((time.perf_counter() - before) * 1000)

        await asyncio.gather(*(worker(REQUESTS // CONCURRENT) for _ in range(CONCURRENT)))
    return took


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as home, SimulatorThread({"alpha": Script(chunks=16)}) as simulator:
        router = start_router(Path(home) / "data", registry(Path(home) / "providers.yaml", simulator))
        straight, through = simulator.base_url("alpha"), f"{router.url}/v1"
        messages = [{"role": "user", "content": PROMPT}]
        cases = {
            "straight, whole": (straight, {"model": "alpha-wire", "messages": messages}),
            "named model, whole": (through, {"model": "alpha-model", "messages": messages}),
            "auto, whole": (through, {"model": "auto", "messages": messages}),
            "straight, stream": (straight, {"model": "alpha-wire", "messages": messages, "stream": True}),
            "auto, stream": (through, {"model": "auto", "messages": messages, "stream": True}),
        }
        found: dict[str, list[float]] = {name: [] for name in cases}
        for number in range(ROUNDS):
            for name, (url, body) in cases.items():
                found[name].append(statistics.median(asyncio.run(_round(url, body))))
            print(f"round {number + 1} of {ROUNDS} done", file=sys.stderr)
        router.stop()
    print(f"{'case':<22}{'median ms':>11}{'times straight':>16}")
    for name, medians in found.items():
        base = statistics.median(found["straight, " + name.split(", ")[1]])
        middle = statistics.median(medians)
        print(f"{name:<22}{middle:>11.2f}{middle / base:>16.2f}")


if __name__ == "__main__":
    main()
