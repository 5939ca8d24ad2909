"""An engine of one's own behind a real router: booked at the amortised price, and reckoned up from its own ledger."""

from __future__ import annotations

import json
import re
from fractions import Fraction

import httpx
from stage import coe, registry

from service.simulator import Script

ENGINE = "self_hosted: {gpus: 2, usd_per_gpu_hour: 3.49, input_tokens_per_s: 1500, output_tokens_per_s: 150, utilization: 0.25}"


def test_its_tokens_are_booked_at_what_they_cost(routers, vendors, tmp_path):
    """Every answer costs tokens times the break-even price at the declared load; the ledger's traffic gives the real one."""
    file, data = tmp_path / "providers.yaml", tmp_path / "data"
    registry(file, vendors({"own": Script(), "beta": Script()}))
    text = re.sub(r"(name: own-wire\n +)prices:\n.*\n", rf"\1{ENGINE}\n", file.read_text(encoding="utf-8"))
    file.write_text(text, encoding="utf-8")
    router = routers(file, data_dir=data)
    body = {"model": "own-model", "messages": [{"role": "user", "content": "How far is it to the moon?"}]}
    for _ in range(3):
        answer = httpx.post(f"{router.url}/v1/chat/completions", json=body, trust_env=False)
        assert answer.status_code == 200
    usage = answer.json()["usage"]

    def economics(*options):
        done = coe("economics", *options, "--format", "json", COE_DATA_DIR=str(data), COE_PROVIDERS=str(file))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    # 2 x 3.49 USD an hour over 1,650 tokens/s x 3,600 s x 0.25
    declared = economics("--deployment", "own/own-model")
    assert declared["own"]["usd_per_million"] == "4.700337"
    cost = Fraction(answer.headers["x-coe-cost-usd"])
    assert cost * 10**6 == Fraction("4.700337") * usage["total_tokens"]

    reported = json.loads(coe("costs", "--format", "json", COE_DATA_DIR=str(data)).stdout)
    assert [Fraction(one["cost_usd"]) for one in reported] == [3 * cost]
    seen = economics("--deployment", "own/own-model", "--since", "1d")
    assert seen["traffic"]["input_tokens_per_day"] == str(3 * usage["prompt_tokens"])
    assert seen["traffic"]["output_tokens_per_day"] == str(3 * usage["completion_tokens"])
    assert "own/own-model in the ledger" in seen["traffic"]["from"]
    # A day of three questions: any API is cheaper than two GPUs.
    assert {one["cheaper"] for one in seen["apis"]} == {"api"}
    assert seen["apis"][0]["deployment"] == "beta/beta-model"
    assert not any("own/" in one["deployment"] for one in seen["apis"] if one["model"] == "own-model")
