"""`coe serve`: what it refuses and with which code, what it says, how it stops, SIGHUP."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from dataclasses import replace

import httpx
import pytest
from scenery import a_catalog, a_model
from stage import coe, registry

from classifiers import kernel
from service.cli.exits import EX_CANTCREAT, EX_CONFIG, EX_TEMPFAIL, EX_USAGE
from service.cli.serve import PORTS, PROVIDERS_SHOWN, WORKERS, _banner
from service.config import Settings
from service.domain.catalog import Provider
from service.simulator import Script


@pytest.fixture
def file(vendors, tmp_path):
    """A registry of one vendor."""
    return registry(tmp_path / "providers.yaml", vendors({"alpha": Script()}))


def serve(tmp_path, *arguments, **env):
    """Run `coe serve` that is expected to refuse."""
    return coe("serve", "--port", "0", *arguments, COE_DATA_DIR=str(tmp_path / "data"), **env)


def test_nobody_to_call_is_78_with_what_to_set(tmp_path):
    """Plain `coe serve` never simulates."""
    done = serve(tmp_path)
    assert done.returncode == EX_CONFIG
    assert "no usable provider" in done.stderr
    assert "OPENAI_API_KEY" in done.stderr or "_API_KEY" in done.stderr
    assert "coe serve --simulate" in done.stderr


def test_a_wrong_registry_is_78_before_anything_is_opened(tmp_path):
    """No data directory is made for a start that can't be."""
    done = serve(tmp_path, "--providers", "/none.yaml")
    assert done.returncode == EX_CONFIG
    assert not (tmp_path / "data").exists()


def test_exposure_without_keys_is_78(tmp_path, file):
    """Every address that is not loopback."""
    for host in ("192.0.2.1", "::", ""):
        done = serve(tmp_path, "--providers", str(file), "--host", host)
        assert done.returncode == EX_CONFIG, done.stderr
        assert "without API keys" in done.stderr


def test_a_port_in_use_is_75(tmp_path, file):
    """Known before the simulator or the journal start."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = coe("serve", "--providers", str(file), "--port", port, COE_DATA_DIR=str(tmp_path / "data"))
    assert done.returncode == EX_TEMPFAIL
    assert "in use" in done.stderr


def test_an_address_of_nobody_is_78(tmp_path, file):
    """Rather than a traceback of the resolver."""
    done = serve(tmp_path, "--providers", str(file), "--host", "localhost.invalid")
    assert done.returncode == EX_CONFIG


@pytest.mark.parametrize("blocked", ["data", "journal"])
def test_a_data_directory_that_can_not_be_used_is_73(tmp_path, file, blocked):
    """One clear line: a file stands where a directory must be."""
    target = tmp_path / "data"
    if blocked == "data":
        target.write_text("in the way", encoding="utf-8")
    else:
        target.mkdir()
        (target / "journal").write_text("in the way", encoding="utf-8")
    done = serve(tmp_path, "--providers", str(file))
    assert done.returncode == EX_CANTCREAT, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("coe: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--workers", "x"),
        ("--workers", "0"),
        ("--workers", "65"),
        ("--port", "x"),
        ("--port", "99999"),
        ("--port", "-1"),
        ("--frobnicate",),
    ],
    ids=" ".join,
)
def test_wrong_use_is_64(tmp_path, arguments):
    """Flags that make no sense, or not in this version; the message names the flag."""
    done = coe("serve", *arguments, COE_DATA_DIR=str(tmp_path / "d"))
    assert done.returncode == EX_USAGE
    assert arguments[0] in done.stderr
    assert not (tmp_path / "d").exists()


def test_flags_and_variables_have_the_same_bounds():
    """What a variable may say, a flag may say too."""
    for name, flag in (("port", PORTS), ("workers", WORKERS)):
        least, most = Settings.model_fields[name].metadata
        assert (flag.min, flag.max) == (least.ge, most.le)


def test_a_second_instance_is_75(tmp_path, file, routers):
    """On the same data directory; the first serves on."""
    router = routers(file, data_dir=tmp_path / "data")
    done = serve(tmp_path, "--providers", str(file))
    assert done.returncode == EX_TEMPFAIL
    assert "another router uses" in done.stderr
    assert httpx.get(f"{router.url}/healthz", trust_env=False).status_code == 200


def test_it_says_what_it_serves_and_ends_with_0(file, routers):
    """The banner before the first request, `started` and `stopped` as events."""
    router = routers(file)
    assert router.stop() == 0
    lines = router.log.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("coe-router 0.")
    assert f"http://127.0.0.1:{router.port}/v1" in lines[0]
    assert lines[1] == "  2 models at 1 provider: alpha"
    assert "SIMULATED" not in "\n".join(lines)
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert [one["event"] for one in events] == ["started", "stopped"]
    assert events[0]["kernel"] == kernel.STATE


def test_the_banner_counts_who_can_be_called():
    """A provider without a model in use is none; one is told in the singular, many are cut short."""
    one = a_catalog(a_model("m", at=("acme",)))
    idle = Provider("idle", "https://idle.example/v1")
    told = _banner(replace(one, providers={"idle": idle, **one.providers}), Settings(port=1), simulated=False)
    assert "  1 model at 1 provider: acme\n" in told
    assert "1 deployment has no known price" in _banner(a_catalog(a_model("m", None)), Settings(), simulated=False)
    names = [f"v{number}" for number in range(PROVIDERS_SHOWN + 2)]
    many = a_catalog(*(a_model(f"m-{name}", at=(name,)) for name in names))
    assert "10 models at 10 providers: v0, v1, v2, v3, v4, v5, v6, v7 and 2 more\n" in _banner(
        many, Settings(), simulated=True
    )


def test_simulated_is_marked_everywhere(routers):
    """Banner, readiness, header, ledger."""
    router = routers(None, "--simulate")
    assert "SIMULATED" in router.log.read_text(encoding="utf-8")
    assert httpx.get(f"{router.url}/readyz", trust_env=False).json()["simulated"] is True
    reply = httpx.post(
        f"{router.url}/v1/chat/completions",
        json={"model": "auto", "messages": [{"role": "user", "content": "hello"}]},
        trust_env=False,
        timeout=20,
    )
    assert reply.headers["x-coe-simulated"] == "true"
    ((opened, _),) = router.attempts()
    assert opened["simulated"] is True


def wait_for(router, event):
    """The first log line of an event."""
    due = time.monotonic() + 10
    while True:
        for line in router.log.read_text(encoding="utf-8").splitlines():
            if line.startswith("{") and json.loads(line)["event"] == event:
                return json.loads(line)
        assert time.monotonic() < due, router.log.read_text(encoding="utf-8")
        time.sleep(0.05)


def test_sighup_reads_the_registry_again(file, routers):
    """A bad file is refused and the old one serves on; a good one is taken."""
    router = routers(file)
    good = file.read_text(encoding="utf-8")
    registry_before = httpx.get(f"{router.url}/readyz", trust_env=False).json()["registry"]
    file.write_text(good.replace("version: 1", "version: 99"), encoding="utf-8")
    os.kill(router.process.pid, signal.SIGHUP)
    assert wait_for(router, "registry_refused")["problems"]
    assert httpx.get(f"{router.url}/readyz", trust_env=False).json()["registry"] == registry_before
    file.write_text(good.replace("input: 0.15", "input: 0.16"), encoding="utf-8")
    os.kill(router.process.pid, signal.SIGHUP)
    version = wait_for(router, "registry_reloaded")["version"]
    assert version != registry_before
    assert httpx.get(f"{router.url}/readyz", trust_env=False).json()["registry"] == version
    assert router.stop() == 0
