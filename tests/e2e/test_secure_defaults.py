"""What a router does that nobody configured, against a real one: limits at their edges, modes of files, what goes out."""

from __future__ import annotations

import json
import socket
import stat

import httpx
import pytest
from stage import coe, registry, start_router

from service.api import chat_body, door, incoming, refusals
from service.simulator import Script, SimulatorThread

BODY_BYTES_MAX = 4 * 1024 * 1024
NO_UMASK = ("sh", "-c", 'umask 0; exec "$@"', "sh")
"""What a careless service manager runs a router with: whatever it does not say itself is open to all."""


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    """(router, simulator), with nothing configured but its registry and its place, and one key."""
    home = tmp_path_factory.mktemp("defaults")
    with SimulatorThread({"alpha": Script()}) as simulator:
        file = registry(home / "providers.yaml", simulator)
        router = start_router(home / "data", file, under=NO_UMASK)
        yield router, simulator
        assert router.stop() == 0


def post(router, content, **headers):
    """A body as it is."""
    given = {"content-type": "application/json", **headers}
    url = f"{router.url}/v1/chat/completions"
    return httpx.post(url, content=content, headers=given, timeout=20, trust_env=False)


def chat(messages=1, depth=0, size=0):
    """A body with so many messages, so deep, so large."""
    said = [{"role": "user", "content": "hi"}] * messages
    text = json.dumps({"model": "auto", "messages": said, "metadata": {}})
    # The body, `metadata` and what is nested in it.
    text = text.replace(
        '"metadata": {}', '"metadata": ' + '{"a":' * (depth - 1) + "{}" + "}" * (depth - 1) if depth else '"x": 1'
    )
    return text.encode() + b" " * (size - len(text) if size else 0)


def test_the_limits_are_those_that_are_promised():
    """In numbers. The deadlines themselves are played with small ones in test_transport_input.py."""
    assert (door.HEADER_S, incoming.BODY_S) == (10.0, 30.0)
    assert (refusals.HEADER_BYTES_MAX, door.HEADERS_MAX) == (16 * 1024, 64)
    assert chat_body.MESSAGES_MAX == 2_048


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (chat(size=BODY_BYTES_MAX), 200),
        (chat(size=BODY_BYTES_MAX + 1), 413),
        (chat(messages=2_048), 200),
        (chat(messages=2_049), 400),
        (chat(depth=63), 200),
        (chat(depth=64), 400),
    ],
    ids=["4 MiB", "a byte more", "2,048 messages", "one more", "64 deep", "65 deep"],
)
def test_a_limit_lets_pass_what_it_says_and_no_more(stand, content, status):
    """At the edge: answered; over it: refused without a row."""
    router, _ = stand
    rows = len(router.rows())
    assert post(router, content).status_code == status
    assert (len(router.rows()) > rows) == (status == 200)


def test_vendors_are_asked_for_plain_bytes_and_told_nothing_of_the_caller(stand):
    """`accept-encoding: identity`, whatever the caller takes; no cookie, no key, no address of it goes along."""
    router, simulator = stand
    private = {"accept-encoding": "gzip, br", "cookie": "a=canary", "x-forwarded-for": "canary", "user-agent": "canary"}
    private |= {"authorization": "Bearer canary", "openai-organization": "canary", "x-coe-tags": "canary"}
    assert post(router, chat(), **private).status_code == 200
    seen = simulator.log[-1]
    assert seen.headers["accept-encoding"] == "identity"
    assert "canary" not in json.dumps(dict(seen.headers))


def test_what_strangers_send_stays_one_line_of_text(stand):
    """Escapes, line breaks and forged events in paths, headers and bodies: the log has none of them as they are."""
    router, _ = stand
    evil = "\x1b[2J\r\n" + '{"event":"forged"}'
    quoted = "".join(f"%{one:02x}" for one in evil.encode())
    for path in (f"/v1/models/{quoted}", f"/{quoted}", f"/v1/decisions/{quoted}"):
        assert httpx.get(router.url + path, trust_env=False).status_code in (401, 404)
    for name in ("x-request-id", "x-coe-policy", "user-agent"):
        with socket.create_connection(("127.0.0.1", router.port), timeout=10) as raw:
            raw.sendall(
                f"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n{name}: \x1b[2J\x07\r\n\r\n".encode()
            )
            assert raw.recv(4096)
    for field in ("model", "user"):
        body = {"model": "auto", "messages": [{"role": "user", "content": evil}], field: evil}
        assert post(router, json.dumps(body).encode()).status_code in (200, 400)
    log = router.log.read_text(encoding="utf-8")
    assert "forged" not in log
    lines = [line for line in log.splitlines() if line.startswith("{")]
    assert lines
    assert all(line.isprintable() and json.loads(line)["event"] for line in lines)


def test_files_are_for_their_owner_alone(stand):
    """Everything in the data directory, and the directory, under a umask that would open all."""
    router, _ = stand
    made = coe("keys", "create", "--name", "k", COE_DATA_DIR=str(router.data_dir))
    assert made.returncode == 0
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in router.data_dir.rglob("*") if path != router.log}
    names = {path.name for path in found}
    assert {"journal", "keys.jsonl", "pepper", "instance.lock", "ledger.sqlite"} <= names
    assert {str(path): oct(mode) for path, mode in found.items() if mode & 0o077} == {}
