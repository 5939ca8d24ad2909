"""kill -9 in the middle of many requests: after a restart every dispatched attempt has exactly one terminal row (I1)."""

from __future__ import annotations

import concurrent.futures
import json
import os
import time
from collections import Counter
from fractions import Fraction

import httpx
import pytest
from stage import registry, start_router

from service.simulator import Script

CONCURRENT = 200
ROUNDS = int(os.environ.get("COE_KILL_ROUNDS", "2"))


def _ask(url, round_number, number):
    """One request. The vendor reads its name in the prompt, the ledger in a tag: nothing else joins the two."""
    name = f"q{round_number}.{number}"
    body = {
        "model": "auto",
        "stream": bool(number % 2),
        "messages": [{"role": "user", "content": f"Question {name}"}],
        "coe": {"tags": [name]},
    }
    try:
        with httpx.Client(timeout=30, trust_env=False) as client:
            return client.post(f"{url}/v1/chat/completions", json=body).status_code
    except httpx.HTTPError:
        return None


def _seen(simulator):
    """How often each vendor saw each request."""
    asked = [one for one in simulator.log if one.path.endswith("/chat/completions")]
    return Counter((one.vendor, json.loads(one.body)["messages"][0]["content"].split()[1]) for one in asked)


@pytest.mark.parametrize("sync", ["group", "always"])
def test_no_attempt_is_lost_or_counted_twice(sync, vendors, tmp_path):
    """200 requests under way, half of them streams, killed at different moments; the vendors' own log is the oracle."""
    simulator = vendors({"alpha": Script(header_delay_s=0.05, chunk_delay_s=0.05, chunks=8), "beta": Script()})
    providers = registry(
        tmp_path / "providers.yaml", simulator, timeouts="{connect_s: 10, first_token_s: 20, idle_s: 20, total_s: 60}"
    )
    data = tmp_path / "data"
    for round_number in range(ROUNDS):
        router = start_router(data, providers, COE_JOURNAL_SYNC=sync)
        with concurrent.futures.ThreadPoolExecutor(CONCURRENT) as pool:
            asked = [pool.submit(_ask, router.url, round_number, number) for number in range(CONCURRENT)]
            seen_before = len(simulator.log)
            due = time.monotonic() + 20
            while len(simulator.log) - seen_before < 20 + 60 * round_number and time.monotonic() < due:
                time.sleep(0.01)
            router.kill()
            concurrent.futures.wait(asked)
    router = start_router(data, providers, COE_JOURNAL_SYNC=sync)
    try:
        rows = router.attempts()
        endings = Counter(len(ends) for _, ends in rows)
        assert set(endings) == {1}, endings
        crashed = [ends[0] for _, ends in rows if ends[0]["state"] == "unknown"]
        assert crashed, "the kill came too late to interrupt anything: the test shows nothing"
        assert all(end["cost_pusd"] for end in crashed)
        announced = Counter((row["provider"], row["tags"][0]) for row, _ in rows)
        unannounced = _seen(simulator) - announced
        assert not unannounced, f"the vendors saw requests that no open row announced: {unannounced}"
        total = sum(end["cost_pusd"] for _, (end,) in rows)
        assert sum(Fraction(row["cost_usd"]) for row in router.costs()) * 10**12 == total
    finally:
        assert router.stop() == 0
