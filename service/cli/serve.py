"""`coe serve`: check everything that can be checked before the first request, say what is served, then serve.

Exit codes: 64 wrong flags, 73 the data directory can't be written, 75 the port or the data directory is taken,
78 the configuration is wrong (registry, exposure without keys, nobody to call).
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from service import __version__, telemetry
from service.app import build
from service.catalog.check import check
from service.cli.exits import EX_CONFIG, EX_TEMPFAIL
from service.cli.serving import run
from service.cli.settings import PROVIDERS, exits, fail, read_settings
from service.cli.workers import Workers
from service.config import CostLog, Settings
from service.domain.catalog import Catalog
from service.guard.exposure import refuse_exposure
from service.simulator import simulated
from service.spending import refuse_apart
from service.startup import (
    Served,
    check_cache,
    choose,
    find_local,
    open_keys,
    own_instance,
    read_registry,
    refuse_unusable,
    registry_path,
)

PORTS = click.IntRange(0, 65_535)
WORKERS = click.IntRange(1, 64)
"""As `Settings` bounds them: a wrong flag is wrong use (64), a wrong variable a wrong configuration (78)."""

PROVIDERS_SHOWN = 8
"""Names in the banner; `coe check` has them all."""


@click.command()
@PROVIDERS
@click.option("--host", default=None, help="Address to listen on (COE_HOST, default 127.0.0.1).")
@click.option(
    "--port", type=PORTS, default=None, help="Port to listen on (COE_PORT, default 8000); 0 takes a free one."
)
@click.option("--workers", type=WORKERS, default=None, help="Processes that share the port (COE_WORKERS, default 1).")
@click.option("--simulate", is_flag=True, help="Serve simulated vendors on loopback: no key needed, nothing is paid.")
@click.option("--simulate-if-empty", is_flag=True, help="As --simulate, but only when nobody else can be called.")
@click.option("--worker-socket", type=int, default=None, hidden=True, help="Set by the parent: the bound socket.")
@click.option("--worker-life", type=int, default=None, hidden=True, help="Set by the parent: closes when it is gone.")
@click.option("--worker-ready", type=int, default=None, hidden=True, help="Set by the parent: told when it answers.")
@click.option("--worker-vendors", default=None, hidden=True, help="Set by the parent: where its simulator listens.")
def serve(  # noqa: PLR0913, PLR0917 # click passes every option by name
    providers: Path | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    simulate: bool,  # noqa: FBT001 # click passes flags this way
    simulate_if_empty: bool,  # noqa: FBT001 # click passes flags this way
    worker_socket: int | None,
    worker_life: int | None,
    worker_ready: int | None,
    worker_vendors: str | None,
) -> None:
    """Start the router."""
    settings = read_settings(providers=providers, host=host, port=port, workers=workers)
    telemetry.configure(settings.log_level, costs=settings.cost_log is CostLog.STDOUT)
    now = datetime.now(UTC)
    with exits():
        catalog = read_registry(settings, now)
        if worker_socket is not None:
            pipes = (worker_socket, worker_life, worker_ready)
            _work(settings, catalog, pipes, worker_vendors, now)
            return
        instance = own_instance(settings.data_dir)
        keys = open_keys(settings)
        refusal = refuse_exposure(settings.host, keys.keys_exist())
        if refusal is not None:
            fail(refusal, EX_CONFIG)
        check_cache(settings)
        refuse_apart(settings, limited=bool(catalog.budgets) or keys.limited())
        listener = _listen(settings)
        bound: int = listener.getsockname()[1]
        settings = settings.model_copy(update={"port": bound})
        if not simulate:
            catalog = asyncio.run(find_local(catalog, settings, bound))
        served = choose(catalog, simulate=simulate, simulate_if_empty=simulate_if_empty, now=now)
        try:
            click.echo(_banner(served.catalog, settings, simulated=served.simulator is not None), err=True)
            if settings.workers > 1:
                arguments = _worker_arguments(settings, served)
                sys.exit(Workers(arguments, settings.workers, listener, settings.drain_s).run())
            run(build(settings, served.catalog, keys, simulated=served.simulator is not None), listener)
        finally:
            if served.simulator is not None:
                served.simulator.stop()
            os.close(instance)


def _work(
    settings: Settings,
    catalog: Catalog,
    pipes: tuple[int, int | None, int | None],
    vendors: str | None,
    now: datetime,
) -> None:
    """Serve as one of several workers: everything was checked by the parent, which owns data directory and socket.

    `pipes` are the bound socket, the parent's sign of life, and where to say that we answer.
    """
    descriptor, life, ready = pipes
    if vendors is not None:
        urls: dict[str, str] = json.loads(vendors)
        catalog = simulated(catalog, lambda name: urls[name])
    else:
        catalog = asyncio.run(find_local(catalog, settings, settings.port))
        refuse_unusable(catalog, now)
    app = build(settings, catalog, open_keys(settings), simulated=vendors is not None)
    run(app, socket.socket(fileno=descriptor), life, ready)


def _worker_arguments(settings: Settings, served: Served) -> list[str]:
    """What follows `coe serve` in a worker; the rest of the settings it finds in the environment, as the parent did."""
    # How many they are matters to each: budgets that only one process counts would be spent by all of them.
    arguments = ["--providers", str(registry_path(settings).resolve()), "--workers", str(settings.workers)]
    arguments += ["--host", settings.host, "--port", str(settings.port)]
    if served.simulator is not None:
        urls = {name: served.simulator.base_url(name) for name in served.simulator.vendors}
        arguments += ["--worker-vendors", json.dumps(urls)]
    return arguments


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
    shown = ", ".join(report.serving[:PROVIDERS_SHOWN])
    if len(report.serving) > PROVIDERS_SHOWN:
        shown += f" and {len(report.serving) - PROVIDERS_SHOWN} more"
    lines = [
        f'coe-router {__version__} on http://{host}:{settings.port}/v1   (base_url for your SDK; model "auto")',
        f"  {_number(counts.models_active, 'model')} at {_number(counts.providers_active, 'provider')}: {shown}",
        (
            f"  registry {catalog.version} · policy {catalog.default_policy} · baseline {catalog.baseline or 'none'}"
            f" · ledger in {settings.data_dir}"
        ),
    ]
    if simulated:
        lines.append("  SIMULATED: every answer is made up by simulated vendors on this machine; nothing is paid")
    if report.unpriced:
        have = "has" if len(report.unpriced) == 1 else "have"
        unpriced = _number(len(report.unpriced), "deployment")
        lines.append(f"  {unpriced} {have} no known price; `coe check` lists them")
    return "\n".join(lines)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
