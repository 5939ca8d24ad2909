"""The gateways that are measured side by side: how each is installed, started and called.

Where on the path: `side_by_side` opens one at a time, on the core that gateways get, in front of the scripted vendor.

Invariants
1. One worker each, on loopback, without a database, with its log at errors only; the router under measurement has
   everything on and its log as it ships.
2. Peers that are not locked with the project are installed into a cache directory outside the tree, at the versions
   pinned here, wheels and archives only: no script of theirs runs at installation.
3. A peer that can't be installed or started raises `Missing` with the reason; it is named, never passed over.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from load import Route
from registry import one_key, write_registry
from stand import HERE, LOOPBACK, ROOT, Running, Stand, clean_environment, free_port, line_of, wait_until_ready

TENSORZERO = "tensorzero==2026.6.0"
PORTKEY = "@portkey-ai/gateway@1.15.2"
LITELLM = ROOT / ".venv-peer" / "bin" / "litellm"
LITELLM_WHOLE = ROOT / ".venv-peer" / ".done"
"""Written when everything of that environment is installed."""

INSTALL_S = 240
START_S = 60
LITELLM_START_S = 150

COE, NGINX, TENSOR, PORT, LITE = "coe", "nginx", "TensorZero", "Portkey", "LiteLLM"


class Missing(RuntimeError):
    """A peer that can't be measured here, and why."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that is up, and the ways into it that are measured."""

    running: Running
    routes: tuple[Route, ...]


def cache() -> Path:
    """Where peers are installed."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "coe-router-bench"


def straight(upstream_url: str) -> Route:
    """No gateway at all."""
    return Route("straight", f"{upstream_url}/v1/chat/completions", "scripted")


def open_coe(
    stand: Stand,
    upstream_url: str,
    *,
    data_dir: Path | None = None,
    registry: Path | None = None,
    keys: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
) -> Gateway:
    """The router of this tree by its command line: ten priced models, a key, everything on."""
    data_dir = data_dir or stand.home / f"coe-data-{secrets.token_hex(4)}"
    registry = registry or write_registry(stand.home / "providers.yaml", upstream_url)
    port = free_port()
    env = {
        "COE_DATA_DIR": str(data_dir),
        "COE_PROVIDERS": str(registry),
        "COE_PORT": str(port),
        "COE_LOCAL_ENGINES": "false",
        "PYTHONPATH": str(ROOT),
        **(settings or {}),
    }
    known = tuple(keys) or (one_key(data_dir, clean_environment(stand.home, **env)),)
    running = stand.start(COE, [sys.executable, "-m", "service", "serve"], cores=stand.cores.gateway, env=env)
    wait_until_ready(running, f"http://{LOOPBACK}:{port}/healthz", START_S)
    url = f"http://{LOOPBACK}:{port}/v1/chat/completions"
    return Gateway(running, (Route("coe auto", url, "auto", keys=known), Route("coe named", url, "m0", keys=known)))


def _open_nginx(stand: Stand, upstream_url: str) -> Gateway:
    binary = _nginx()
    if binary is None:
        raise Missing("not installed (apt-get install nginx-light)")
    home, port = stand.home / "nginx", free_port()
    home.mkdir(exist_ok=True)
    paths = "".join(f"  {kind}_temp_path {home}/{kind};\n" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    (home / "nginx.conf").write_text(
        ("user root;\n" if os.getuid() == 0 else "")
        + f"daemon off;\nworker_processes 1;\npid {home}/pid;\nerror_log stderr error;\n"
        + "events { worker_connections 8192; }\n"
        + f"http {{\n  access_log off;\n  tcp_nodelay on;\n  keepalive_requests 100000000;\n{paths}"
        + f"  client_body_temp_path {home}/body;\n  client_body_buffer_size 64k;\n  client_max_body_size 8m;\n"
        + f"  upstream vendor {{ server {upstream_url.removeprefix('http://')}; keepalive 128;"
        + " keepalive_requests 100000000; }\n"
        + f"  server {{\n    listen {LOOPBACK}:{port} backlog=4096;\n"
        + "    location = /healthz { return 200; }\n"
        + "    location / { proxy_pass http://vendor; proxy_http_version 1.1; proxy_set_header Connection '';"
        + " proxy_buffering off; }\n  }\n}\n",
        encoding="utf-8",
    )
    running = stand.start(NGINX, [binary, "-p", str(home), "-c", str(home / "nginx.conf")], cores=stand.cores.gateway)
    wait_until_ready(running, f"http://{LOOPBACK}:{port}/healthz", START_S)
    return Gateway(running, (Route(NGINX, f"http://{LOOPBACK}:{port}/v1/chat/completions", "scripted"),))


def _open_tensorzero(stand: Stand, upstream_url: str) -> Gateway:
    home = cache() / TENSORZERO
    python = home / "bin" / "python"
    if not (home / ".done").exists():
        _run(["python -m venv", sys.executable, "-m", "venv", "--clear", str(home)])
        _run(["pip", str(python), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", TENSORZERO])
        (home / ".done").touch()
    config = stand.home / "tensorzero.toml"
    config.write_text(
        '[gateway]\nobservability.enabled = false\n[models.bench]\nrouting = ["vendor"]\n'
        '[models.bench.providers.vendor]\ntype = "openai"\nmodel_name = "scripted"\n'
        f'api_base = "{upstream_url}/v1/"\napi_key_location = "none"\n',
        encoding="utf-8",
    )
    running = stand.start(
        TENSOR,
        [str(python), str(HERE / "tensorzero_http.py"), str(config)],
        cores=stand.cores.gateway,
        env={"RUST_LOG": "error"},
    )
    base = line_of(running, "listening ", START_S)
    return Gateway(running, (Route(TENSOR, f"{base}/chat/completions", "tensorzero::model_name::bench"),))


def _open_portkey(stand: Stand, upstream_url: str) -> Gateway:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Missing("node or npm is not installed (apt-get install nodejs npm)")
    home = cache() / PORTKEY.replace("/", "-").lstrip("@")
    if not (home / ".done").exists():
        home.mkdir(parents=True, exist_ok=True)
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--omit=dev"]
        _run(["npm", npm, "install", "--prefix", str(home), *quiet, PORTKEY])
        (home / ".done").touch()
    port = free_port()
    server = home / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    running = stand.start(
        PORT,
        [node, "--require", str(HERE / "portkey_preload.cjs"), str(server), "--headless", f"--port={port}"],
        cores=stand.cores.gateway,
        env={"NODE_ENV": "production"},
    )
    wait_until_ready(running, f"http://{LOOPBACK}:{port}/", START_S)
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{upstream_url}/v1"}
    url = f"http://{LOOPBACK}:{port}/v1/chat/completions"
    return Gateway(running, (Route(PORT, url, "scripted", {**headers, "authorization": "Bearer none"}),))


def _open_litellm(stand: Stand, upstream_url: str) -> Gateway:
    if not LITELLM_WHOLE.exists():
        raise Missing("its environment .venv-peer is not there or not whole (make test installs it)")
    key, port = f"sk-{secrets.token_hex(24)}", free_port()
    config = stand.home / "litellm.yaml"
    config.write_text(
        "model_list:\n  - model_name: bench\n    litellm_params: {model: openai/scripted, api_key: none, "
        f"api_base: '{upstream_url}/v1'}}\nlitellm_settings: {{telemetry: false, set_verbose: false}}\n",
        encoding="utf-8",
    )
    running = stand.start(
        LITE,
        [str(LITELLM), "--config", str(config), "--host", LOOPBACK, "--port", str(port), "--num_workers", "1"],
        cores=stand.cores.gateway,
        env={
            "LITELLM_MASTER_KEY": key,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
        },
    )
    wait_until_ready(running, f"http://{LOOPBACK}:{port}/health/liveliness", LITELLM_START_S)
    return Gateway(running, (Route(LITE, f"http://{LOOPBACK}:{port}/v1/chat/completions", "bench", keys=(key,)),))


def versions() -> str:
    """Of the peers that are here or would be installed."""
    found = [TENSORZERO.replace("tensorzero==", f"{TENSOR} "), PORTKEY.replace("@portkey-ai/gateway@", f"{PORT} ")]
    if node := shutil.which("node"):
        found[-1] += f" on Node {said([node, '--version'])}"
    if nginx := _nginx():
        found.append(f"{NGINX} {said([nginx, '-v']).rpartition('/')[2]}")
    lock = (ROOT / "requirements-peer.lock").read_text(encoding="utf-8")
    found += [
        f"{LITE} {line.split()[0].partition('==')[2]}" for line in lock.splitlines() if line.startswith("litellm==")
    ]
    return ", ".join(found)


def said(command: Sequence[str]) -> str:
    """What a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603 # ours
    return (done.stdout or done.stderr).strip() or "unknown"


def _nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _run(step: Sequence[str]) -> None:
    """One step of an installation: what to call it, then the command. Raises Missing."""
    called, *command = step
    try:
        done = subprocess.run(  # noqa: S603 # commands of our own
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=INSTALL_S
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise Missing(f"{called} failed: {problem.__class__.__name__}") from problem
    if done.returncode != 0:
        told = [line for line in done.stderr.splitlines() if line.strip()]
        raise Missing(f"{called} failed: {told[-1][:160] if told else done.returncode}")


GATEWAYS: Mapping[str, Callable[[Stand, str], Gateway]] = {
    COE: open_coe,
    NGINX: _open_nginx,
    TENSOR: _open_tensorzero,
    PORT: _open_portkey,
    LITE: _open_litellm,
}
"""In the order of the first round."""
