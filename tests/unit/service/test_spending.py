"""What was spent before this start, from real journals to the counters; and who may count at all."""

from __future__ import annotations

import pytest
from stage import registry

from service.simulator import Script

BUDGET = "budgets:\n- {name: all, usd_per_day: 5}"


@pytest.fixture
def file(vendors, tmp_path):
    """A registry of one vendor with a hard budget over everybody."""
    return registry(tmp_path / "providers.yaml", vendors({"alpha": Script()}), extra=BUDGET)


def ask(router, **body):
    """One chat."""
    import httpx

    whole = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], **body}
    return httpx.post(f"{router.url}/v1/chat/completions", json=whole, timeout=20, trust_env=False)


def test_workers_that_can_not_count_together_spend_nothing_of_a_hard_budget(routers, file):
    """Each would let pass as much as all of them may."""
    router = routers(file, COE_WORKERS="2")
    reply = ask(router)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "budget_store_unavailable")
    assert router.attempts() == []
