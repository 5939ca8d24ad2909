"""Virtual keys on the wire: made by the command line, checked by the router, never seen again."""

from __future__ import annotations

import json
import time

import httpx
import openai
import pytest
from stage import coe, registry, start_router

from service.simulator import Script

EVERYWHERE = "0.0.0.0"  # noqa: S104 # what is tested is that it is refused
ASK = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}


def test_a_key_from_birth_to_revocation(routers, vendors, tmp_path):
    """Create, use, see only one's own decisions, be limited, be revoked within a second."""
    data = tmp_path / "data"
    simulator = vendors({"alpha": Script(), "beta": Script()})
    made = coe("keys", "create", "--name", "hr", "--tag", "hr", COE_DATA_DIR=str(data))
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip()
    limited = coe("keys", "create", "--name", "small", "--model", "beta-model", COE_DATA_DIR=str(data)).stdout.strip()
    router = routers(registry(tmp_path / "providers.yaml", simulator), data_dir=data)
    url = f"{router.url}/v1/chat/completions"

    assert httpx.post(url, json=ASK).json()["error"]["code"] == "missing_api_key"
    wrong = httpx.post(url, json=ASK, headers={"authorization": "Bearer coe-wrong-canary"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
    assert "canary" not in wrong.text

    client = openai.OpenAI(base_url=f"{router.url}/v1", api_key=secret, max_retries=0)
    answer = client.chat.completions.with_raw_response.create(**ASK)
    decision = answer.headers["x-coe-decision-id"]
    mine = {"authorization": f"Bearer {secret}"}
    other = {"authorization": f"Bearer {limited}"}
    assert httpx.get(f"{router.url}/v1/decisions/{decision}", headers=mine).status_code == 200
    assert httpx.get(f"{router.url}/v1/decisions/{decision}", headers=other).status_code == 404
    assert answer.headers["x-coe-model"] == "alpha-model"
    kept = httpx.post(url, json=ASK, headers=other)
    assert kept.headers["x-coe-model"] == "beta-model"
    assert httpx.post(url, json={**ASK, "model": "alpha-model"}, headers=other).status_code == 403

    ((opened, _),) = router.attempts(decision)
    (row,) = [one for one in router.costs("--by", "tag") if one["tag"] == "hr"]
    assert row["requests"] == 1
    assert coe("keys", "revoke", "hr", COE_DATA_DIR=str(data)).returncode == 0
    time.sleep(1)
    assert httpx.post(url, json=ASK, headers=mine).status_code == 401
    everything = router.log.read_text() + json.dumps(router.rows()) + (data / "keys.jsonl").read_text()
    assert secret not in everything
    assert limited not in everything
    assert opened["key_id"].startswith("key_")


def test_other_addresses_need_keys(tmp_path, vendors):
    """`--host 0.0.0.0` without keys is refused with 78; with a key it serves."""
    simulator = vendors({"alpha": Script()})
    providers = registry(tmp_path / "providers.yaml", simulator)
    env = {"COE_DATA_DIR": str(tmp_path / "data"), "COE_PROVIDERS": str(providers)}
    refused = coe("serve", "--host", EVERYWHERE, "--port", "0", **env)
    assert refused.returncode == 78
    assert "coe keys create" in refused.stderr
    assert coe("keys", "create", "--name", "first", COE_DATA_DIR=env["COE_DATA_DIR"]).returncode == 0
    router = start_router(tmp_path / "data", providers, "--host", EVERYWHERE)
    try:
        assert httpx.post(f"{router.url}/v1/chat/completions", json=ASK).status_code == 401
    finally:
        assert router.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["serve", "--colour"], 64, "--colour"),
        (["costs", "--since", "2026-02-30"], 64, "2026-02-30"),
        (["nonsense"], 64, "nonsense"),
        (["check", "--providers", "/nonexistent.yaml"], 78, "nonexistent"),
        (["route"], 64, "prompt"),
        (["serve"], 78, "no usable provider"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_command_line_says_what_was_wrong(arguments, code, words, tmp_path):
    """A sysexits code and one clear line; never a traceback."""
    done = coe(*arguments, COE_DATA_DIR=str(tmp_path / "data"), COE_PORT="0")
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_ports_and_directories_that_are_taken(routers, vendors, tmp_path):
    """A port in use: 75. A data directory in use: 75. One that can't be written: 73."""
    simulator = vendors({"alpha": Script()})
    providers = registry(tmp_path / "providers.yaml", simulator)
    router = routers(providers)
    env = {"COE_PROVIDERS": str(providers)}
    port = coe("serve", "--port", str(router.port), COE_DATA_DIR=str(tmp_path / "other"), **env)
    assert (port.returncode, "in use" in port.stderr) == (75, True)
    same = coe("serve", "--port", "0", COE_DATA_DIR=str(router.data_dir), **env)
    assert (same.returncode, "another router" in same.stderr) == (75, True)
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    unwritable = coe("serve", "--port", "0", COE_DATA_DIR=str(blocked / "data"), **env)
    assert unwritable.returncode == 73, unwritable.stderr
    assert "Traceback" not in unwritable.stderr
