"""Budgets as an operator sets them while the router runs: of a key by the command line, of tags by the registry."""

from __future__ import annotations

import re
import signal
import time

import httpx
from scenery import eventually
from stage import coe, registry

from service.cli.exits import EX_CONFIG
from service.simulator import Script

PATIENCE_S = 20.0
BUDGET = "budgets:\n- {name: all, usd_per_day: 5}"
NAMED = {"model": "alpha-model", "messages": [{"role": "user", "content": "hi"}]}


def test_what_has_no_price_is_asked_by_those_alone_who_have_no_hard_budget(routers, vendors, tmp_path):
    """A limit that is set, softened or lifted, and a budget that is loaded, count within a second; every decision replays."""
    data, file = tmp_path / "data", tmp_path / "providers.yaml"
    registry(file, vendors({"alpha": Script(), "beta": Script()}))
    unpriced = re.sub(r"(name: alpha-wire\n +prices:)\n.*\n", r"\1 null\n", file.read_text(encoding="utf-8"))
    file.write_text(unpriced, encoding="utf-8")
    secret = coe("keys", "create", "--name", "hr", "--tag", "hr", COE_DATA_DIR=str(data)).stdout.strip()
    router = routers(file, data_dir=data)

    def ask(**headers):
        headers["authorization"] = f"Bearer {secret}"
        return httpx.post(f"{router.url}/v1/chat/completions", json=NAMED, headers=headers, trust_env=False)

    def limit(*options):
        done = coe("keys", "limit", "hr", *options, COE_DATA_DIR=str(data))
        assert done.returncode == 0, done.stderr
        time.sleep(1)

    assert ask().status_code == 200
    limit("--usd-per-day", "5", "--soft")
    assert ask().status_code == 200
    limit("--hard")
    refused = ask()
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "no_capable_model")
    assert "price: unknown, and there is a budget (1 of 1)" in refused.json()["error"]["message"]
    served = httpx.post(
        f"{router.url}/v1/chat/completions",
        json={**NAMED, "model": "auto"},
        headers={"authorization": f"Bearer {secret}"},
        trust_env=False,
    )
    assert (served.status_code, served.headers["x-coe-model"]) == (200, "beta-model")
    limit("--usd-per-day", "none")
    assert ask().status_code == 200
    verified = coe("replay", "--verify", COE_DATA_DIR=str(data), COE_PROVIDERS=str(file))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "4" in verified.stdout

    file.write_text(f"{unpriced}budgets: [{{name: lab, tag: lab, usd_per_month: 7}}]\n", encoding="utf-8")
    router.process.send_signal(signal.SIGHUP)
    eventually(lambda: ask(**{"x-coe-tags": "lab"}).status_code == 422)
    assert ask().status_code == 200


def test_workers_that_can_not_count_together_do_not_start_under_limits(vendors, tmp_path):
    """Each would let pass as much as all of them may."""
    file = registry(tmp_path / "providers.yaml", vendors({"alpha": Script()}), extra=BUDGET)
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
    reply = httpx.post(f"{router.url}/v1/chat/completions", json=NAMED, timeout=PATIENCE_S, trust_env=False)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "budget_store_unavailable")
    assert router.attempts() == []
    told = httpx.get(f"{router.url}/readyz", timeout=PATIENCE_S, trust_env=False).json()
    assert "COE_REDIS_URL" in told["degraded"]["budgets"]
