"""`coe serve`: check everything that can be checked before the first request, say what is served, then serve.

Exit codes: 64 wrong flags, 73 the data directory can't be written, 75 the port or the data directory is taken,
78 the configuration is wrong (registry, exposure without keys, nobody to call).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from datetime import UTC, datetime
from pathlib import Path

import click
import uvicorn
from fastapi import FastAPI

from service import __version__, telemetry
from service.app import build
from service.catalog.check import check
from service.cli.exits import EX_CONFIG, EX_TEMPFAIL, EX_USAGE
from service.cli.settings import PROVIDERS, exits, fail, read_settings
from service.config import Settings
from service.domain.catalog import Catalog
from service.errors import ConfigurationError
from service.guard.exposure import refuse_exposure
from service.house import House
from service.startup import choose, find_local, open_keys, own_instance, read_registry

GRACEFUL_S = 30
"""How long running answers may go on after SIGTERM before they are cut and settled."""

BACKLOG = 2_048


@click.command()
@PROVIDERS
@click.option("--host", default=None, help="Address to listen on (COE_HOST, default 127.0.0.1).")
@click.option("--port", type=int, default=None, help="Port to listen on (COE_PORT, default 8000); 0 takes a free one.")
@click.option("--workers", type=int, default=None, help="Processes (COE_WORKERS, default 1).")
@click.option("--simulate", is_flag=True, help="Serve simulated vendors on loopback: no key needed, nothing is paid.")
@click.option("--simulate-if-empty", is_flag=True, help="As --simulate, but only when nobody else can be called.")
def serve(
    providers: Path | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    simulate: bool,  # noqa: FBT001 # click passes flags this way
    simulate_if_empty: bool,  # noqa: FBT001 # click passes flags this way
) -> None:
    """Start the router."""
    settings = read_settings(providers=providers, host=host, port=port, workers=workers)
    telemetry.configure(settings.log_level)
    if settings.workers > 1:
        fail("this version serves with one worker; start one router per core behind a balancer instead", EX_USAGE)
    now = datetime.now(UTC)
    with exits():
        catalog = read_registry(settings, now)
        instance = own_instance(settings.data_dir)
        keys = open_keys(settings)
        refusal = refuse_exposure(settings.host, keys.keys_exist())
        if refusal is not None:
            fail(refusal, EX_CONFIG)
        listener = _listen(settings)
        bound: int = listener.getsockname()[1]
        settings = settings.model_copy(update={"port": bound})
        if not simulate:
            catalog = asyncio.run(find_local(catalog, settings, bound))
        served = choose(catalog, simulate=simulate, simulate_if_empty=simulate_if_empty, now=now)
        try:
            app = build(settings, served.catalog, keys, simulated=served.simulator is not None)
            click.echo(_banner(served.catalog, settings, simulated=served.simulator is not None), err=True)
            _run(app, listener)
        finally:
            if served.simulator is not None:
                served.simulator.stop()
            os.close(instance)


def _run(app: FastAPI, listener: socket.socket) -> None:
    """Serve until told to stop; SIGHUP reads the registry again. Raises what kept the router from starting."""
    house: House = app.state.house
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_S,
        backlog=BACKLOG,
    )
    server = uvicorn.Server(config)
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.get_running_loop().create_task(house.reload())
        reloads.add(task)  # the loop itself keeps tasks only weakly
        task.add_done_callback(reloads.discard)

    async def serving() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
        await server.serve(sockets=[listener])

    # The server raises the signal that stopped it once more when it is done; by then there is nothing left to stop.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _done_already)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner, contextlib.suppress(SystemExit):
        runner.run(serving())  # a start-up that failed ends in SystemExit with a code of the server's own
    if not server.started:
        raise house.start_problem or ConfigurationError("the router could not start; the lines above say why")


def _done_already(_signal: int, _frame: object) -> None:
    """Nothing: see `_run`."""


def _listen(settings: Settings) -> socket.socket:
    """The bound socket; a port in use is known before anything is started."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host.strip("[]"), settings.port))
    except OSError as problem:
        listener.close()
        where = f"{settings.host}:{settings.port}"
        if problem.errno == errno.EADDRINUSE:
            fail(f"{where} is in use: stop what listens there, or choose another --port", EX_TEMPFAIL)
        fail(f"can't listen on {where}: {problem.strerror}", EX_CONFIG)
    return listener


def _banner(catalog: Catalog, settings: Settings, *, simulated: bool) -> str:
    """What is served, in a few lines."""
    report = check(catalog, now=datetime.now(UTC))
    counts = report.counts
    host = f"[{settings.host.strip('[]')}]" if ":" in settings.host else settings.host
    active = [name for name, one in catalog.providers.items() if one.active]
    shown = ", ".join(active[:8]) + (f" and {len(active) - 8} more" if len(active) > 8 else "")
    lines = [
        f'coe-router {__version__} on http://{host}:{settings.port}/v1   (base_url for your SDK; model "auto")',
        f"  {counts.models_active} models at {counts.providers_active} providers: {shown}",
        (
            f"  registry {catalog.version} · policy {catalog.default_policy} · baseline {catalog.baseline or 'none'}"
            f" · ledger in {settings.data_dir}"
        ),
    ]
    if simulated:
        lines.append("  SIMULATED: every answer is made up by simulated vendors on this machine; nothing is paid")
    if report.unpriced:
        lines.append(f"  {len(report.unpriced)} deployments have no known price; `coe check` lists them")
    return "\n".join(lines)
