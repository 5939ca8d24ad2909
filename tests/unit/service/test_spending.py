"""What was spent before this start, from real journals to the counters; and who may count at all."""

from __future__ import annotations

import signal
import time

import httpx
import pytest
from stage import coe, registry

from service.cli.exits import EX_CONFIG
from service.simulator import Script

PATIENCE_S = 20.0
BUDGET = "budgets:\n- {name: all, usd_per_day: 5}"


@pytest.fixture
def file(vendors, tmp_path):
    """A registry of one vendor with a hard budget over everybody."""
    return registry(tmp_path / "providers.yaml", vendors({"alpha": Script()}), extra=BUDGET)


def test_workers_that_can_not_count_together_do_not_start_under_limits(file, tmp_path):
    """Each would let pass as much as all of them may."""
    env = {"COE_PROVIDERS": str(file), "COE_DATA_DIR": str(tmp_path / "data"), "COE_PORT": "0", "COE_WORKERS": "2"}
    done = coe("serve", **env)
    assert done.returncode == EX_CONFIG
    assert "2 workers would each count them for itself. Set COE_REDIS_URL" in done.stderr


def test_a_budget_that_comes_later_lets_such_workers_spend_nothing_under_it(routers, vendors, tmp_path):
    """They were started without one; readiness says why."""
    plain = registry(tmp_path / "providers.yaml", vendors({"alpha": Script()}))
    router = routers(plain, COE_WORKERS="2")
    with plain.open("a", encoding="utf-8") as more:
        more.write(f"{BUDGET}\n")
    before = router.log.read_text().count('"registry_reloaded"')
    router.process.send_signal(signal.SIGHUP)
    due = time.monotonic() + PATIENCE_S
    while router.log.read_text().count('"registry_reloaded"') < before + 2 and time.monotonic() < due:
        time.sleep(0.05)
    reply = ask(router)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "budget_store_unavailable")
    assert router.attempts() == []
    told = httpx.get(f"{router.url}/readyz", timeout=PATIENCE_S, trust_env=False).json()
    assert "COE_REDIS_URL" in told["degraded"]["budgets"]


def ask(router, **body):
    """One chat."""
    whole = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], **body}
    return httpx.post(f"{router.url}/v1/chat/completions", json=whole, timeout=PATIENCE_S, trust_env=False)
