"""Simulated vendors as a process: `python -m service.simulator --vendors a,b` prints their base URLs as one JSON line.

Where on the path: benches and chaos tests, whose vendors must outlive the router they test. Ends on SIGTERM or SIGINT.

Exit codes follow sysexits: 64 usage, 75 port in use, 78 bad script file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from service.errors import ConfigurationError
from service.simulator.script import Script, VendorScript
from service.simulator.script_file import load_scripts
from service.simulator.server import SimulatedVendors

EXIT_USAGE = 64
EXIT_PORT_IN_USE = 75
EXIT_CONFIGURATION = 78


class _Parser(argparse.ArgumentParser):
    """argparse with the house's exit code for wrong usage."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal comes; returns the exit code."""
    parser = _Parser(prog="python -m service.simulator", description="Simulated vendors on loopback sockets.")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default %(default)s)")
    parser.add_argument(
        "--port", type=int, help="one port for all, 0 for any free one; without it each vendor has its own"
    )
    parser.add_argument("--vendors", default="", help="names of healthy vendors, with commas between")
    parser.add_argument("--script", type=Path, help="a JSON file of scripts; its vendors are added to --vendors")
    options = parser.parse_args(arguments)
    if options.port is not None and not 0 <= options.port <= 65535:
        parser.error("--port must be between 0 and 65535")
    try:
        scripts: dict[str, VendorScript | Script] = {
            name.strip(): Script() for name in options.vendors.split(",") if name.strip()
        }
        if options.script is not None:
            scripts.update(load_scripts(options.script))
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_CONFIGURATION
    if not scripts:
        parser.error("name at least one vendor with --vendors or --script")
    try:
        return asyncio.run(_serve(scripts, options.host, options.port))
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        sys.stderr.write(f"cannot listen on {options.host}: {error.strerror}; choose another --port\n")
        return EXIT_PORT_IN_USE


async def _serve(scripts: Mapping[str, VendorScript | Script], host: str, port: int | None) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    # Bodies are not kept: a bench may run for hours, and nobody can read the log of another process.
    async with SimulatedVendors(scripts, host=host, port=port, keep_bodies=False) as simulator:
        urls = {name: simulator.base_url(name) for name in simulator.vendors}
        sys.stdout.write(json.dumps({"base_urls": urls}) + "\n")
        sys.stdout.flush()
        await stopping.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
