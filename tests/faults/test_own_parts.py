"""What of the router itself fails, as a real process that a real kernel fails: each part with its mode, metric and header.

Redis comes with the budgets that use it. A registry that is wrong is in `test_reloads.py`, a clock in `test_clock.py`.
"""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from scenery import eventually
from stage import ROOT, clean_environment, free_port, registry, start_router

import classifiers
from service import telemetry
from service.simulator import Script, SimulatorThread

PATIENCE_S = 20.0
NO_LIMIT = resource.RLIM_INFINITY


@pytest.fixture
def vendors_here():
    """Two vendors; the streams of the second take a second."""
    with SimulatorThread({"alpha": Script(), "beta": Script(chunks=10, chunk_delay_s=0.1)}) as simulator:
        yield simulator


@pytest.fixture
def router(tmp_path, vendors_here):
    """A router over them."""
    running = start_router(tmp_path / "data", registry(tmp_path / "p.yaml", vendors_here))
    yield running
    if running.process.poll() is None:
        running.kill()


def ask(router, model="auto", **body):
    """One chat."""
    whole = {"model": model, "messages": [{"role": "user", "content": "hello"}], **body}
    return httpx.post(f"{router.url}/v1/chat/completions", json=whole, timeout=PATIENCE_S, trust_env=False)


def get(router, path):
    """One page."""
    return httpx.get(router.url + path, timeout=PATIENCE_S, trust_env=False)


def degraded(router):
    """(the parts that readiness names, those that metrics name, the status of readiness)."""
    ready = get(router, "/readyz")
    named = set(ready.json()["degraded"]) & set(telemetry.PARTS)
    lines = get(router, "/metrics").text.splitlines()
    return (
        named,
        {part for part in telemetry.PARTS if f'coe_part_degraded{{part="{part}"}} 1' in lines},
        ready.status_code,
    )


def may_grow_to(router, size):
    """No file of the router may grow beyond so many bytes: to it the disk is full there."""
    resource.prlimit(router.process.pid, resource.RLIMIT_FSIZE, (size, NO_LIMIT))


def test_a_full_disk(router, vendors_here):
    """Nothing is sent that can't be written down; what runs is booked; with room again it goes on by itself."""
    running = threading.Thread(target=ask, args=(router, "beta-model"), kwargs={"stream": True})
    running.start()
    eventually(lambda: vendors_here.log)
    (journal,) = (router.data_dir / "journal").glob("*.jsonl")
    may_grow_to(router, journal.stat().st_size + 100)
    before = len(vendors_here.log)
    refused = ask(router)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert (refused.headers["x-coe-degraded"], refused.headers["retry-after"]) == ("ledger", "1")
    assert len(vendors_here.log) == before
    named, measured, status = degraded(router)
    assert "ledger" in named
    assert (named - {"index"}, measured - {"index"}, status) == ({"ledger"}, {"ledger"}, 503)
    assert get(router, "/healthz").status_code == 200
    running.join(PATIENCE_S)
    assert "coe_journal_spilled_rows 1" in get(router, "/metrics").text
    assert router.attempts()[0][1] == []
    may_grow_to(router, NO_LIMIT)
    eventually(lambda: degraded(router) == (set(), set(), 200), PATIENCE_S)  # nobody sent a request meanwhile
    ((_, (end,)),) = router.attempts()
    assert (end["ended"], end["state"]) == ("complete", "settled")
    assert ask(router).status_code == 200
    assert router.stop() == 0
    assert [len(ends) for _, ends in router.attempts()] == [1, 1]


def test_a_file_system_without_room(tmp_path, vendors_here):
    """The same when the whole of it is full, index and log too: it goes on as soon as somebody has made room."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting takes rights that this user has not")
    try:
        router = start_router(place / "data", registry(tmp_path / "p.yaml", vendors_here))
        try:
            assert ask(router).status_code == 200
            filler = place / "filler"
            with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
                fill(file)
            refused = ask(router)
            while refused.status_code == 200:  # until what the file system had laid out is used up
                refused = ask(router)
            assert refused.json()["error"]["code"] == "ledger_unavailable"
            filler.unlink()
            eventually(lambda: get(router, "/readyz").status_code == 200, PATIENCE_S)
            assert ask(router).status_code == 200
            assert router.stop() == 0
            assert all(len(ends) == 1 for _, ends in router.attempts())
        finally:
            if router.process.poll() is None:
                router.kill()
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(file):
    """Write until there is no room."""
    while True:
        file.write(b"\0" * 1_048_576)


def test_a_locked_index(router):
    """Requests go on, decisions in memory are told, others get no lie; when the lock is gone it catches up."""
    eventually((router.data_dir / "ledger.sqlite").exists)
    with sqlite3.connect(router.data_dir / "ledger.sqlite", isolation_level=None, timeout=PATIENCE_S) as other:
        other.execute("BEGIN EXCLUSIVE")
        answer = ask(router)
        assert answer.status_code == 200
        assert get(router, f"/v1/decisions/{answer.headers['x-coe-decision-id']}").status_code == 200
        unknown = get(router, "/v1/decisions/dec_000000000000000000000000")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (503, "index_unavailable")
        assert unknown.headers["x-coe-degraded"] == "index"
        eventually(lambda: degraded(router) == ({"index"}, {"index"}, 200), PATIENCE_S)
        other.execute("ROLLBACK")
    other.close()
    eventually(lambda: degraded(router) == (set(), set(), 200), PATIENCE_S)
    (row,) = router.costs()
    assert row["requests"] == 1


def test_a_damaged_index(router):
    """It is put aside and built again while requests go on, and nothing of it is missing."""
    assert ask(router).status_code == 200
    index = router.data_dir / "ledger.sqlite"
    eventually(lambda: get(router, "/v1/decisions/dec_000000000000000000000000").status_code == 404)
    for file in router.data_dir.glob("ledger.sqlite*"):
        file.write_bytes(b"no database" * 1_000)
    assert ask(router).status_code == 200
    eventually((router.data_dir / "ledger.sqlite.damaged").exists, PATIENCE_S)
    eventually(lambda: get(router, "/v1/decisions/dec_000000000000000000000000").status_code == 404, PATIENCE_S)
    (row,) = router.costs()
    assert row["requests"] == 2
    assert index.read_bytes().startswith(b"SQLite format 3")
    assert '"index_discarded"' in router.log.read_text()


def test_keys_that_can_not_be_trusted(router):
    """Nobody is let in, and the operator's pages say why."""
    assert ask(router).status_code == 200
    (router.data_dir / "keys.jsonl").write_bytes(b"{{{\n")
    eventually(lambda: ask(router).status_code == 503)
    refused = ask(router)
    assert (refused.json()["error"]["code"], refused.headers["x-coe-degraded"]) == ("keys_unavailable", "keys")
    assert get(router, "/readyz").json()["degraded"]["keys"]
    (router.data_dir / "keys.jsonl").unlink()
    eventually(lambda: ask(router).status_code == 200)


def test_a_broken_classifier_stops_the_start(tmp_path, vendors_here):
    """78 and what is wrong, before a port is open for callers; one byte is enough."""
    copied = tmp_path / "program"
    for name in ("service", "classifiers"):
        shutil.copytree(ROOT / name, copied / name, ignore=shutil.ignore_patterns("__pycache__"))
    (weights,) = (copied / "classifiers" / "artefacts" / "intent-v2").glob("*.npz")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    env = clean_environment(COE_DATA_DIR=str(tmp_path / "data"), COE_PORT="0")
    env |= {"PYTHONPATH": str(copied), "COE_PROVIDERS": str(registry(tmp_path / "p.yaml", vendors_here))}
    done = subprocess.run(
        [sys.executable, "-m", "service", "serve"], env=env, cwd=copied, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 78, done.stderr.decode()
    assert b"the intent classifier can't be loaded" in done.stderr
    assert b"Traceback" not in done.stderr
    assert Path(classifiers.__file__).is_relative_to(ROOT)  # this test's own is another


def test_a_log_that_nobody_reads(tmp_path, vendors_here):
    """Its pipe is full from the first line on: requests are answered as ever, lines are dropped and counted."""
    reading, writing = os.pipe()
    env = clean_environment(
        COE_DATA_DIR=str(tmp_path / "data"),
        COE_PROVIDERS=str(registry(tmp_path / "p.yaml", vendors_here)),
        COE_PORT=str(port := free_port()),
    )
    process = subprocess.Popen([sys.executable, "-m", "service", "serve"], env=env, stderr=writing)
    os.close(writing)
    try:
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE_S) as client:
            eventually(lambda: alive(client), PATIENCE_S)
            begun = time.monotonic()
            # Each is told with its id, which may be 128 characters: 64 KiB are soon full. What is kept is 4 MiB.
            body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
            for number in range(300):
                answer = client.post("/v1/chat/completions", json=body, headers={"x-request-id": f"{number:0128d}"})
                assert answer.status_code == 200
            assert time.monotonic() - begun < 5 * PATIENCE_S
            assert "coe_log_lines_dropped_total 0" in client.get("/metrics").text
        process.terminate()
        with os.fdopen(reading, "rb") as told:
            lines = told.read().splitlines()
        assert process.wait(PATIENCE_S) == 0
        assert sum(b'"event":"request"' in line for line in lines) == 300
        assert b'"stopped"' in lines[-1]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def alive(client):
    """Whether it answers at all."""
    try:
        return client.get("/healthz").status_code == 200
    except httpx.HTTPError:
        return False
