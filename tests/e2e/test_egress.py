"""Whom the router calls (I18): the hosts of its registry, and nobody a vendor, a caller or the environment names.

Seen from outside, by `strace`: every `connect` of the process and its threads, whatever library makes it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from hostile import _made_in
from stage import ROOT, clean_environment, registry, start_router

from service.simulator import Fault, Script, SimulatorThread

CONNECTED = re.compile(
    r"connect\(\d+, \{sa_family=AF_INET6?, sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )\"([^\"]+)\""
)
ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
}
CERTIFICATES = ("good", "expired", "other_name", "self_signed")


def can_trace() -> bool:
    """Whether this machine lets a process be watched."""
    if shutil.which("strace") is None:
        assert not os.environ.get("CI"), "install strace"
        return False
    done = subprocess.run(["strace", "-qq", "-e", "trace=connect", "true"], capture_output=True, check=False)
    return done.returncode == 0


watched = pytest.mark.skipif(not can_trace(), reason="strace is not installed, or may not trace here")


class Listener:
    """Accepts connections and remembers what came; speaks TLS with `context`. Answers anything with a chat completion."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.accepted, self.heard = 0, b""
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        body = json.dumps(ANSWER).encode()
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                with connection:
                    connection.settimeout(5)
                    if self._context is not None:
                        connection = self._context.wrap_socket(connection, server_side=True)  # as `with` has it
                    self.heard += connection.recv(65536)
                    connection.sendall(
                        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
                        + body
                    )
            except OSError:
                continue  # they did not like our certificate, which is what is asked of them

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def dialled(trace: Path) -> set[tuple[str, int]]:
    """(address, port) of every connection in a trace."""
    return {(host, int(port)) for port, host in CONNECTED.findall(trace.read_text())}


def tracing(trace: Path) -> list[str]:
    """What runs a command and writes down whom it calls; `-D` leaves the command our own child."""
    return ["strace", "-D", "-f", "-qq", "-e", "trace=connect", "-o", str(trace)]


class Stand:
    """A traced router in an environment full of proxies, and a place nobody should call."""

    def __init__(self, home: Path, simulator: SimulatorThread) -> None:
        self.simulator, self.trace, self.keylog = simulator, home / "trace", home / "keys.log"
        self.decoy = Listener()
        certificates = _made_in(home)
        self.tls = {name: Listener(getattr(certificates, name)) for name in CERTIFICATES}
        file = registry(home / "providers.yaml", simulator)
        text = file.read_text(encoding="utf-8")
        for name, listener in self.tls.items():
            url = f"https://localhost:{listener.port}/v1"
            text = text.replace(
                "providers:\n",
                f"providers:\n  {name}: {{base_url: '{url}', protocol: openai_chat, api_key: '${{env:TLS_KEY}}'}}\n",
                1,
            )
            price = "{from: 2026-01-01, currency: USD, input: 9, output: 9, source: made up, checked: 2026-11-21}"
            text = text.replace(
                "models:\n",
                f"models:\n  {name}-model:\n    context_tokens: 1000\n    quality: {{default: 0.9}}\n"
                f"    quality_source: made up\n    deployments: [{{provider: {name}, name: w, prices: [{price}]}}]\n",
                1,
            )
        file.write_text(text, encoding="utf-8")
        nowhere = f"http://127.0.0.1:{self.decoy.port}"
        proxies = {
            name: nowhere
            for one in ("http", "https", "all", "ftp")
            for name in (f"{one}_proxy", f"{one}_PROXY".upper())
        }
        self.router = start_router(
            home / "data",
            file,
            under=tracing(self.trace),
            TLS_KEY="sk-egress-key-0123456789",
            SSLKEYLOGFILE=str(self.keylog),
            SSL_CERT_FILE=str(home / "ca.pem"),
            SSL_CERT_DIR=str(home),
            REQUESTS_CA_BUNDLE=str(home / "ca.pem"),
            NO_PROXY="",
            OPENAI_BASE_URL=nowhere,
            OPENAI_API_BASE=nowhere,
            **proxies,
        )

    def allowed(self) -> set[tuple[str, int]]:
        """The hosts of the registry, as addresses."""
        ports = {urlsplit(self.simulator.base_url(name)).port for name in self.simulator.vendors}
        ports |= {one.port for one in self.tls.values()}
        return {(host, int(port or 0)) for host in ("127.0.0.1", "::1") for port in ports}

    def chat(
        self, headers: dict[str, str] | None = None, path: str = "/v1/chat/completions", **more: object
    ) -> httpx.Response:
        """A request of a caller's."""
        body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], **more}
        return httpx.post(self.router.url + path, json=body, headers=headers, timeout=20, trust_env=False)

    def close(self) -> None:
        for one in (self.decoy, *self.tls.values()):
            one.close()


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    """One for the module."""
    home = tmp_path_factory.mktemp("egress")
    with SimulatorThread({"alpha": Script(), "beta": Script()}) as simulator:
        one = Stand(home, simulator)
        yield one
        assert one.router.stop() == 0
        one.close()


@watched
def test_a_vendor_sends_nobody_anywhere(stand):
    """Redirects of every kind, whole and streamed, and headers that name another place."""
    nowhere = f"http://127.0.0.1:{stand.decoy.port}/v1/chat/completions"
    named = tuple(
        f"{name}: {nowhere}" for name in ("refresh", "content-location", "link", "x-accel-redirect", "alt-svc")
    )
    for status in (301, 302, 303, 307, 308):
        for stream in (False, True):
            script = Script(fault=Fault.REDIRECT, status=status, location=nowhere, header_lines=named)
            stand.simulator.push("alpha", script)
            assert stand.chat(stream=stream).headers["x-coe-provider"] == "beta"
    stand.simulator.set_script("alpha", Script(header_lines=named))
    stand.router.reload()
    assert stand.chat().headers["x-coe-provider"] == "alpha"
    assert stand.decoy.accepted == 0


@watched
def test_a_caller_names_nobody_to_call(stand):
    """Not by a field of the body, a header, a model, or a link to anything."""
    nowhere = f"http://127.0.0.1:{stand.decoy.port}"
    names = ("base_url", "api_base", "api_url", "endpoint", "url", "proxy", "host", "callback", "webhook", "extra_body")
    assert stand.chat(**dict.fromkeys(names, nowhere)).status_code == 200
    assert stand.chat(coe={"base_url": nowhere}).status_code == 400
    for model in (f"{nowhere}/v1", f"alpha/{nowhere}", "alpha/../beta", f"//127.0.0.1:{stand.decoy.port}"):
        assert stand.chat(model=model).status_code in (400, 404)
    for name in ("x-base-url", "x-api-base", "x-forwarded-host", "x-target", "x-upstream", "x-original-url", "x-proxy"):
        assert stand.chat({name: nowhere}).status_code == 200
    assert stand.chat({"x-coe-base-url": nowhere}).status_code == 200
    assert stand.chat({"host": f"127.0.0.1:{stand.decoy.port}"}).status_code == 200
    link = "https://images.example/x.png"
    for url, status in ((link, 200), (f"{nowhere}/x.png", 400), (f"http://localhost:{stand.decoy.port}/x", 400)):
        part = {"type": "image_url", "image_url": {"url": url}}
        assert stand.chat(messages=[{"role": "user", "content": [part]}]).status_code == status
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"$ref": f"{nowhere}/s.json"}}}
    assert stand.chat(response_format=schema).status_code in (200, 400)  # the vendor may not like it
    assert stand.chat(messages=[{"role": "user", "content": f"read {nowhere}/ and {link}"}]).status_code == 200
    assert stand.chat(path="/v1/route").status_code == 200
    with socket.create_connection(("127.0.0.1", stand.router.port), timeout=10) as raw:
        raw.sendall(f"GET {nowhere}/healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        assert b" 400 " in raw.recv(4096)
    assert stand.decoy.accepted == 0


@watched
@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_vendor_whose_certificate_nobody_vouches_for_is_told_nothing(stand, name):
    """Self-signed, for another host, expired, or of an authority that only the environment names: not a byte, nor a key.

    Nor are the secrets of the connection written to where `SSLKEYLOGFILE` points.
    """
    reply = stand.chat(model=f"{name}-model")
    assert reply.status_code == 502
    assert ": tls" in reply.json()["error"]["message"]
    assert stand.tls[name].accepted >= 1
    assert stand.tls[name].heard == b""
    assert not stand.keylog.exists() or "_SECRET" not in stand.keylog.read_text()


@watched
def test_nobody_else_was_called(stand):
    """Every connection of the process since its start, by the kernel's own account."""
    for path in ("/healthz", "/readyz", "/metrics", "/v1/models", "/docs"):
        assert httpx.get(stand.router.url + path, trust_env=False).status_code == 200
    found = dialled(stand.trace)
    assert found <= stand.allowed(), found - stand.allowed()
    called = {urlsplit(stand.simulator.base_url(name)).port for name in stand.simulator.vendors}
    assert called <= {port for _, port in found}
    assert stand.decoy.accepted == 0


FOLLOWING = """
import asyncio, sys
from service.domain.ports import UpstreamRequest
from service.upstream.transport_native import NativeTransport

async def main(url):
    transport = NativeTransport()
    while True:
        answer = await transport.send(UpstreamRequest("POST", url, (), b"", connect_s=5))
        if "location" not in answer.headers:
            return
        url = answer.headers["location"]

asyncio.run(main(sys.argv[1]))
"""


@watched
def test_one_that_follows_redirects_is_caught(stand, tmp_path):
    """Positive control: the same transport, with a caller that goes where it is told to."""
    redirecting = socket.create_server(("127.0.0.1", 0))
    decoy = Listener()

    def redirect() -> None:
        connection, _ = redirecting.accept()
        with connection:
            connection.recv(65536)
            where = b"http://127.0.0.1:%d/" % decoy.port
            connection.sendall(b"HTTP/1.1 302 Found\r\nlocation: " + where + b"\r\ncontent-length: 0\r\n\r\n")

    thread = threading.Thread(target=redirect, daemon=True)
    thread.start()
    trace = tmp_path / "trace"
    command = [*tracing(trace), sys.executable, "-c", FOLLOWING, f"http://127.0.0.1:{redirecting.getsockname()[1]}/"]
    subprocess.run(command, env=clean_environment(), check=True, timeout=30, cwd=ROOT)
    thread.join(5)
    redirecting.close()
    due = time.monotonic() + 5
    while ("127.0.0.1", decoy.port) not in dialled(trace):
        assert time.monotonic() < due, "the trace does not show it"
        time.sleep(0.05)
    assert not dialled(trace) <= stand.allowed()
    decoy.close()
